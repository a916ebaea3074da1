"""The C runtime itself: sanitizers, fuzzing, no allocation after open, cgroup quotas, the C example, the header."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from stratac.codegen.compilers import find_compiler
from stratac.codegen.toolchain import CSRC
from stratac.ir.plan_binary import plan_id
from stratac.runtime.lib import ABI_VERSION, STATUS, declarations, declared
from stratac.tests.runtime import streamed as streaming_plans
from stratac.tests.runtime.streamed import Streamed, Use, make_plan, write_streamed
from stratac.tests.runtime.tiny import KERNELS, tiny_plan

HERE = Path(__file__).parent / "c"
FLAGS = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-pthread")
SANITIZERS = {
    "thread": ("-fsanitize=thread",),
    "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
}


def build(output: Path, sources: list[Path], *flags: str) -> Path:
    command = [find_compiler().path, *FLAGS, *flags, f"-I{CSRC / 'include'}", "-o", str(output), *map(str, sources)]
    found = subprocess.run([*command, "-lm", "-ldl"], capture_output=True, text=True, timeout=120)
    if found.returncode and re.search(r"cannot find .*lib[tau]+san|unsupported option", found.stderr):
        pytest.skip(f"this compiler has no sanitizer: {found.stderr.splitlines()[-1]}")
    assert not found.returncode, found.stderr
    return output


def with_kernels(folder: Path, program: str, text: str = "") -> list[Path]:
    kernels = folder / "kernels.c"
    kernels.write_text(text or KERNELS.replace("PLAN_ID", str(plan_id(tiny_plan()))))
    return [HERE / program, kernels, *sorted(CSRC.glob("*.c"))]


def run(*command: object, **options: object) -> str:
    found = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload]
    assert found.returncode == 0, found.stdout + found.stderr
    return str(found.stdout)


def sanitized(kind: str, *command: object) -> str:
    """What a program built with a sanitizer prints. Address space layouts with much randomness make older TSan runtimes stop at
    start."""
    prefix = ("setarch", platform.machine(), "-R") if kind == "thread" and shutil.which("setarch") else ()
    return run(*prefix, *command).strip()


@pytest.mark.parametrize("kind", SANITIZERS)
def test_two_sessions_under_sanitizers(tiny: Path, tmp_path: Path, kind: str) -> None:
    program = build(tmp_path / "stress", with_kernels(tmp_path, "stress.c"), *SANITIZERS[kind])
    assert sanitized(kind, program, tiny, 200) == "ok"


def test_loader_survives_any_damage(tiny: Path, tmp_path: Path) -> None:
    program = build(tmp_path / "fuzz", with_kernels(tmp_path, "fuzz.c"), *SANITIZERS["address"])
    for seed in (1, 2):
        loaded, opened = map(int, re.findall(r"\d+", run(program, tiny, 100_000, seed)))
        assert loaded > 1000 and opened > 10


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_nothing_is_allocated_after_open(tiny: Path, tmp_path: Path, threads: int) -> None:
    counter = build(tmp_path / "count.so", [HERE / "count.c"], "-shared", "-fPIC")
    program = build(tmp_path / "stress", with_kernels(tmp_path, "stress.c"))
    assert run(program, tiny, 300, threads, env={"LD_PRELOAD": str(counter)}).strip() == "0"


@pytest.mark.parametrize("kind", SANITIZERS)
def test_streaming_under_sanitizers(streamed: tuple[Path, Streamed], tmp_path: Path, kind: str) -> None:
    program = build(tmp_path / "stream", with_kernels(tmp_path, "stream.c", streaming_plans.KERNELS), *SANITIZERS[kind])
    assert sanitized(kind, program, streamed[0], 40) == "ok"


def test_loader_survives_any_damage_of_a_streamed_plan(streaming: Path, tmp_path: Path) -> None:
    made = make_plan([Use(4096), Use(64, streamed=False), Use(8000), Use(0), Use(4096), Use(4096)], 16384, seed=1)
    assert made is not None and len(made.plan.reads) == 4
    folder = write_streamed(tmp_path / "plan", made, streaming)
    program = build(
        tmp_path / "fuzz", with_kernels(tmp_path, "fuzz.c", streaming_plans.KERNELS), *SANITIZERS["address"]
    )
    loaded, opened = map(int, re.findall(r"\d+", run(program, folder, 100_000, 3)))
    assert loaded > 1000 and opened > 10


@pytest.mark.parametrize("threads", [1, 3])
def test_nothing_is_allocated_while_streaming(streamed: tuple[Path, Streamed], tmp_path: Path, threads: int) -> None:
    counter = build(tmp_path / "count.so", [HERE / "count.c"], "-shared", "-fPIC")
    program = build(tmp_path / "stream", with_kernels(tmp_path, "stream.c", streaming_plans.KERNELS))
    assert run(program, streamed[0], 30, threads, env={"LD_PRELOAD": str(counter)}).strip() == "0"


def test_rows_read_by_kernels(tmp_path: Path) -> None:
    sources = [
        HERE / "source.c",
        *(CSRC / f"{n}.c" for n in ("source", "file", "storage", "io", "io_uring", "io_threads")),
    ]
    sources += [CSRC / f"{n}.c" for n in ("error", "arena", "digest")]
    program = build(tmp_path / "source", sources, *SANITIZERS["address"])
    ways = run(program, tmp_path, 2000).split()
    assert ways[0] == "buffered" and ways[1:] in (
        ["direct", "uring"],
        ["direct", "direct"],
        ["buffered"] * 2,
        ["buffered", "uring"],
    )


def test_the_counter_counts(tmp_path: Path) -> None:
    counter = build(tmp_path / "count.so", [HERE / "count.c"], "-shared", "-fPIC")
    source = tmp_path / "probe.c"
    source.write_text(
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <sys/mman.h>\n"
        "int main(void)\n{\n    void (*begin)(void);\n    long (*end)(void);\n"
        '    *(void **)&begin = dlsym(RTLD_DEFAULT, "count_begin");\n'
        '    *(void **)&end = dlsym(RTLD_DEFAULT, "count_end");\n    begin();\n'
        "    void *volatile a = malloc(8), *volatile b = calloc(1, 8);\n"
        "    void *volatile c = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);\n"
        '    const long counted = end();\n    printf("%ld\\n", counted);\n    return !a || !b || !c;\n}\n'
    )
    assert run(build(tmp_path / "probe", [source]), env={"LD_PRELOAD": str(counter)}).strip() == "3"


def test_cgroup_quotas(tmp_path: Path) -> None:
    program = build(tmp_path / "quota", [HERE / "quota.c", CSRC / "cpus.c"])

    def quota(name: str, cgroup: str, **files: str) -> int:
        root = tmp_path / name
        for path, text in {"proc/self/cgroup": cgroup, **files}.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text + "\n")
        return int(run(program, root))

    v2 = "sys/fs/cgroup"
    assert int(run(program, tmp_path / "nothing")) == 0
    assert quota("max", "0::/a/b", **{f"{v2}/a/b/cpu.max": "max 100000"}) == 0
    assert quota("two", "0::/a/b", **{f"{v2}/a/b/cpu.max": "250000 100000"}) == 2
    assert quota("half", "0::/a", **{f"{v2}/a/cpu.max": "50000 100000"}) == 1
    both = {f"{v2}/a/b/cpu.max": "800000 100000", f"{v2}/a/cpu.max": "300000 100000"}
    assert quota("parent", "0::/a/b", **both) == 3
    assert quota("container", "0::/../../kubepods/x", **{f"{v2}/cpu.max": "400000 100000"}) == 4
    assert quota("garbage", "no colons\n0::/a\n::::", **{f"{v2}/a/cpu.max": "what ever"}) == 0
    v1 = {f"{v2}/cpu/docker/x/cpu.cfs_quota_us": "350000", f"{v2}/cpu/docker/x/cpu.cfs_period_us": "100000"}
    assert quota("v1", "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x", **v1) == 3
    assert quota("v1other", "4:cpuset:/docker/x", **v1) == 0
    v1 = {f"{v2}/cpu/cpu.cfs_quota_us": "-1", f"{v2}/cpu/cpu.cfs_period_us": "100000"}
    assert quota("v1free", "4:cpu:/", **v1) == 0
    v1 = {f"{v2}/cpu,cpuacct/cpu.cfs_quota_us": "200000", f"{v2}/cpu,cpuacct/cpu.cfs_period_us": "100000"}
    assert quota("v1pair", "4:cpuacct,cpu:/gone", **v1) == 2


def test_example_runs_a_plan_without_python(tiny: Path, tmp_path: Path) -> None:
    source = CSRC.parent / "examples" / "run_plan.c"
    program = build(tmp_path / "run_plan", [source])
    text = run(program, tiny, 2, 3)
    assert "input x: f32[n, 4] = 16 x 4" in text and "output rows: i64[floordiv(n, 2) + 1] = 9" in text
    assert "rows:  16  17  18  19" in text and "z:  -2  3.5  -0.75  -3.75" in text
    assert "memory: 80 weights + 65600 scratch + 2 x 64 workspace" in text and "us predicted  scale" in text
    missing = subprocess.run([program, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert missing.returncode == 3 and "cannot load" in missing.stderr


HEADER = (CSRC / "include" / "stratac.h").read_text()


def test_declarations_are_those_of_the_header() -> None:
    """`python -m stratac.runtime.lib` writes them again."""
    assert (CSRC.parent / "runtime" / "declarations.py").read_text() == declarations(HEADER)
    assert f"#define ST_ABI_VERSION {ABI_VERSION}\n" in HEADER
    names = re.findall(r"ST_([A-Z]+) = (\d)", HEADER.split("enum")[1])
    assert [(n.lower(), int(v)) for n, v in names] == list(zip(STATUS, range(len(STATUS)), strict=True))


def test_header_is_c_and_cpp(tmp_path: Path) -> None:
    source = tmp_path / "use.c"
    source.write_text('#include "stratac.h"\nint main(void) { return ST_OK; }\n')
    build(tmp_path / "use", [source], "-pedantic")
    if shutil.which("g++"):
        shutil.copy(source, tmp_path / "use.cpp")
        subprocess.run(
            ["g++", "-Wall", "-Wextra", "-Werror", f"-I{CSRC / 'include'}", "-fsyntax-only", tmp_path / "use.cpp"],
            check=True,
        )


def test_only_the_public_names_are_exported(tiny: Path) -> None:
    if not shutil.which("nm"):
        pytest.skip("no nm")
    lines = run("nm", "-D", "--defined-only", tiny / "libplan.so").splitlines()
    exported = {line.split()[-1] for line in lines}
    assert exported == set(re.findall(r"\b(st_\w+)\(", declared(HEADER)))


def test_c_files_are_short() -> None:
    for path in (*CSRC.glob("*.c"), *CSRC.glob("*.h"), *HERE.glob("*.c"), CSRC.parent / "examples" / "run_plan.c"):
        assert len(path.read_text().splitlines()) <= 500, path
