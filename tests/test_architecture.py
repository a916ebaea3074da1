"""The floors of the house: who may import whom, which third-party package lives in which room, and docs that name real files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ir", "passes", "codegen", "runtime", "compiler")

#: package -> what of ours it may import, beside itself
ALLOWED = {
    "ir": set(),
    "passes": {"ir"},
    "codegen": {"ir"},
    "runtime": {"ir"},
    "compiler": {"ir", "passes", "codegen", "runtime"},
}
#: the modules of ir a running plan may load
RUNTIME_IR = {
    "ir.plan",
    "ir.plan_binary",
    "ir.plan_digest",
    "ir.dims",
    "ir.types",
    "ir.narrow",
    "ir.errors",
    "ir.interface",
}
#: third-party package -> the only files that may import it
ROOMS = {
    "jinja2": {"codegen/render.py"},
    "cffi": {"runtime/lib.py"},
    "_cffi_backend": {"runtime/lib.py"},
    "onnx": ("compiler/frontends/onnx/", "compiler/onnx_backend.py"),
    "torch": ("compiler/frontends/torch/", "compiler/torch_backend.py"),
    "transformers": {"compiler/frontends/torch/huggingface.py", "compiler/frontends/torch/cached.py"},
    "sympy": "compiler/frontends/torch/symbols.py",
    "onnxruntime": {"compiler/checks.py", "compiler/peer_systems.py"},
    "openvino": {"compiler/peer_systems.py"},
    "iree": {"compiler/peer_systems.py"},
    "networkx": {"passes/graph/fuse.py", "passes/graph/store_states.py", "passes/place/cuts.py"},
    "highspy": {"passes/place/milp.py"},
    "platformdirs": {"compiler/options.py"},
}
IR_THIRD_PARTY = {"numpy"}
#: a command loads only what it needs: running a plan works without onnx, jinja2 and a C compiler
LAZY = {
    *("compiler.cli", "compiler.commands", "compiler.commands_report", "compiler.checks", "compiler.machine_report"),
    "compiler.api",  # torch, for a model of torch alone
}


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            if parts[-1] == "__init__":
                parts.pop()
            found[".".join(parts)] = path
    return found


MODULES = modules()


def imports(name: str, path: Path) -> list[tuple[str, bool, int]]:
    """(imported module, of ours or third party, line); ours as dotted names from the root."""
    tree = ast.parse(path.read_text())
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: list[tuple[str, bool, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, False, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                found.append((node.module or "", False, node.lineno))
                continue
            base = package.split(".")
            base = base[: len(base) - node.level + 1]
            target = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                child = f"{target}.{alias.name}".strip(".")
                found.append((child if child in MODULES else target, True, node.lineno))
    return found


@pytest.mark.parametrize("name", MODULES)
def test_imports_follow_the_floors(name: str) -> None:
    package = name.split(".")[0]
    for target, ours, line in imports(name, MODULES[name]):
        where = f"{MODULES[name].relative_to(ROOT)}:{line} imports {target}"
        assert not (not ours and target.split(".")[0] == "stratac"), f"{where}: imports of our own are relative"
        if ours:
            floor = target.split(".")[0]
            assert floor == package or floor in ALLOWED[package], f"{where}: against the order of the floors"
            if package == "runtime" and floor == "ir":
                assert target in RUNTIME_IR, f"{where}: running a plan must not load the compiler's IR"
            continue
        top = target.split(".")[0]
        if top in ROOMS:
            relative = MODULES[name].relative_to(ROOT).as_posix()
            room = ROOMS[top]
            inside = relative in room if isinstance(room, set) else relative.startswith(room)
            assert inside, f"{where}: {top} belongs in {room}"
        if package == "ir":
            known = top in IR_THIRD_PARTY or top in sys.stdlib_module_names
            assert known, f"{where}: ir knows only the standard library and numpy"


def front_end(name: str) -> str:
    """The front end that a module is part of; what serves several of them is part of none."""
    parts = name.split(".")
    inside = parts[:2] == ["compiler", "frontends"] and (ROOT / "/".join(parts[:3])).is_dir()
    return parts[2] if inside and len(parts) > 2 else ""


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("compiler.frontends")])
def test_front_ends_do_not_know_each_other(name: str) -> None:
    for target, ours, line in imports(name, MODULES[name]):
        where = f"{MODULES[name].relative_to(ROOT)}:{line} imports {target}"
        allowed = not ours or front_end(target) in ("", front_end(name))
        assert allowed, f"{where}: what front ends share lies beside them in compiler/frontends"


@pytest.mark.parametrize("name", sorted(MODULES.keys() - LAZY))
def test_our_modules_are_imported_at_the_top(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text())
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom) and node.level > 0:
                    pytest.fail(f"{name}:{node.lineno}: a lazy import of our own hides a cycle")


def test_no_import_cycle() -> None:
    """Modules in dependency order exist: annotations-only imports do not count."""
    edges = {name: set() for name in MODULES}
    for name, path in MODULES.items():
        typing_lines = _type_checking_lines(path)
        for target, ours, line in imports(name, path):
            if ours and target in MODULES and target != name and line not in typing_lines:
                edges[name].add(target)
    # a package's __init__ is loaded before its modules and may name them
    done: set[str] = set()
    visiting: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        assert name not in visiting, " -> ".join([*visiting[visiting.index(name) :], name])
        visiting.append(name)
        for target in sorted(edges[name]):
            if not target.startswith(f"{name}."):
                visit(target)
        visiting.pop()
        done.add(name)

    for name in MODULES:
        visit(name)


def _type_checking_lines(path: Path) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            lines |= {child.lineno for child in ast.walk(node) if isinstance(child, ast.ImportFrom)}
    return lines


def _fresh(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout


def test_importing_stratac_is_light() -> None:
    """`import stratac` loads nothing heavy; loading the runtime loads neither onnx, jinja2 nor torch."""
    heavy = "('numpy', 'onnx', 'torch', 'jinja2', 'cffi', 'onnxruntime')"
    assert _fresh(f"import sys, stratac; print([m for m in {heavy} if m in sys.modules])").strip() == "[]"
    heavy = "('onnx', 'torch', 'jinja2', 'onnxruntime', 'stratac.compiler', 'stratac.codegen', 'stratac.passes', 'stratac.ir.graph')"
    assert _fresh(f"import sys, stratac; stratac.load; print([m for m in {heavy} if m in sys.modules])").strip() == "[]"


PAGE = ROOT / "docs" / "architecture.md"
MARKS = ("<!-- files:begin -->", "<!-- files:end -->")


def summary(path: Path) -> str:
    """The first sentence of what a file says of itself, cut to a line."""
    text = path.read_text()
    if path.suffix == ".py":
        words = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0]
    elif path.suffix == ".toml":
        words = " ".join(line.lstrip("# ") for line in text.split("\n\n")[0].splitlines() if line.startswith("#"))
    else:
        found = re.search(r"/\*+\s*(.*?)(\*/|\n \*\n)", text, re.S)
        words = re.sub(r"\n\s*\*?\s*", " ", found.group(1)) if found else ""
    words = " ".join(words.split())
    first = re.split(r"(?<=[a-z)`\]\d])\. ", words)[0].rstrip(".")
    return first if len(first) <= 112 else first[:112].rsplit(" ", 1)[0] + " ..."


def file_list() -> str:
    """The part of docs/architecture.md between the marks."""
    blocks = []
    for folder in ("ir", "passes", "codegen", "runtime", "csrc", "compiler"):
        paths = [
            path
            for path in (ROOT / folder).rglob("*")
            if path.suffix in (".py", ".c", ".h", ".j2", ".toml") and path.name != "__init__.py"
        ]
        named = sorted((path.relative_to(ROOT).as_posix(), path) for path in paths)
        blocks.append("\n".join(f"{name:<48} {summary(path)}" for name, path in named))
    return "\n```\n" + "\n\n".join(blocks) + "\n```\n"


def test_architecture_page_names_every_file() -> None:
    """docs/architecture.md lists each source file with the first sentence of what it says of itself."""
    found = PAGE.read_text().split(MARKS[0])[1].split(MARKS[1])[0]
    assert found == file_list(), "run python tests/test_architecture.py"


def test_every_package_is_listed_in_pyproject() -> None:
    """The explicit package list is complete, so that an installed stratac has every folder."""
    text = (ROOT / "pyproject.toml").read_text()
    for package in PACKAGES:
        for init in (ROOT / package).rglob("__init__.py"):
            dotted = ".".join(("stratac", *init.parent.relative_to(ROOT).parts))
            assert f'"{dotted}"' in text, f"{dotted} is not in [tool.setuptools] packages"


if __name__ == "__main__":
    before, after = PAGE.read_text().split(MARKS[0])[0], PAGE.read_text().split(MARKS[1])[1]
    PAGE.write_text(before + MARKS[0] + file_list() + MARKS[1] + after)
