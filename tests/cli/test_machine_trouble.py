"""No compiler, no disk, no permission, no reader, no package: code 3, nothing half-written, the old plan untouched."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stratac.tests.cli.command import STRATAC, child, failed, tree
from stratac.tests.cli.conftest import CommandLine
from stratac.tests.cli.models import DIMS, N, mlp, model, save, value, weight

COMPILE = ("compile", "mlp.onnx", "-o", "out.plan", *DIMS)


@pytest.mark.parametrize(
    ("cc", "said"),
    [
        ("no-such-compiler", "no C compiler found: looked for no-such-compiler"),
        ("/bin/false", "the C compiler /bin/false does not run"),
        ("/etc/passwd", "set CC to a compiler"),
        ('gcc "', "No closing quotation"),
        ("gcc -mno-such-machine", "unrecognized command-line option"),
    ],
)
def test_compilers_that_are_none(stratac: CommandLine, monkeypatch: pytest.MonkeyPatch, cc: str, said: str) -> None:
    monkeypatch.setenv("CC", cc)
    stratac.refused((*COMPILE, "--no-cache"), 3, said)


def test_no_compiler_on_the_path(stratac: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    stratac.refused(COMPILE, 3, "no C compiler found: looked for cc, gcc or clang on PATH", "install gcc or clang")
    doctor = stratac("doctor")
    assert doctor.code == 3 and "FAIL  C compiler" in doctor.out and doctor.err == ""


def test_compilers_that_fail(
    stratac: CommandLine, monkeypatch: pytest.MonkeyPatch, write_cc: Callable[[str], str]
) -> None:
    for body, code, said in (
        ("exit 1", 2, "please report it"),
        ("kill -9 $$", 3, "was killed by signal 9"),
        ("echo 'fatal error: x.o: No space left on device' >&2; exit 1", 3, "free memory and disk space"),
        ("printf 'error: \\377\\n' >&2; exit 1", 2, "refused"),
        ("exit 0", 2, "cannot find"),
    ):
        monkeypatch.setenv("CC", write_cc(body))
        stratac.refused((*COMPILE, "--no-cache"), code, said)


def test_places_that_cannot_be_written(stratac: CommandLine) -> None:
    words = ("compile", "mlp.onnx", *DIMS, "-o")
    stratac.refused((*words, "/proc/none/out.plan"), 3, "cannot write /proc/none/out.plan")
    stratac.refused((*words, "mlp.onnx/out.plan"), 3, "mlp.onnx is not a folder")
    stratac.refused((*words, "mlp.onnx/deep/er/out.plan"), 3, "mlp.onnx is not a folder")
    stratac.refused((*words, "x" * 300), 3, "File name too long")
    stratac.refused((*words, "x" * 250), 3, "File name too long")
    run = ("run", "mlp.plan", "--random", "1", "-o")
    stratac.refused((*run, "/proc/out.npz"), 3, "cannot write /proc/out.npz", "choose another file")
    stratac.refused((*run, "gone/out.npz"), 3, "cannot write gone/out.npz: No such file")
    stratac.refused((*run, "mlp.plan"), 3, "Is a directory")


def test_what_is_no_plan_is_never_replaced(stratac: CommandLine) -> None:
    Path("folder").mkdir()
    Path("folder/precious").write_text("data")
    Path("file").write_text("data")
    for name in ("folder", "file", "mlp.onnx", ".", "/dev/null"):
        stratac.refused(("compile", "mlp.onnx", *DIMS, "-o", name), 2, "exists and is not a plan", "-o")


def test_recompiling_replaces_a_plan_and_failing_leaves_it(
    stratac: CommandLine, monkeypatch: pytest.MonkeyPatch, write_cc: Callable[[str], str]
) -> None:
    old = tree(Path("mlp.plan"))
    save(mlp(width=20), Path("mlp.onnx"))
    with monkeypatch.context() as patch:
        patch.setenv("CC", write_cc("exit 1"))
        stratac.refused(("compile", "mlp.onnx", *DIMS, "--no-cache"), 2, "fake-cc")
    assert tree(Path("mlp.plan")) == old
    stratac.good("compile", "mlp.onnx", *DIMS)
    assert sorted(os.listdir(".")) == ["mlp.onnx", "mlp.plan"]
    assert "float32[2, 5, 20]" in stratac.good("run", "mlp.plan", "--random", "1")


def test_replacing_works_where_folders_cannot_be_exchanged(
    stratac: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Old(ctypes.CDLL):
        """A C library without renameat2."""

        def __getattr__(self, name: str) -> object:
            if name == "renameat2":
                raise AttributeError(name)
            return super().__getattr__(name)

    monkeypatch.setattr("ctypes.CDLL", Old)
    save(mlp(width=20), Path("mlp.onnx"))
    stratac.good("compile", "mlp.onnx", *DIMS)
    assert sorted(os.listdir(".")) == ["mlp.onnx", "mlp.plan"]
    assert "float32[2, 5, 20]" in stratac.good("inspect", "mlp.plan").replace(
        "f32[batch, seq, 20]", "float32[2, 5, 20]"
    )


def test_a_link_to_a_plan_stays_a_link(stratac: CommandLine) -> None:
    Path("link.plan").symlink_to("mlp.plan")
    stratac.good("compile", "mlp.onnx", "-o", "link.plan", "--dim", "seq=3")
    assert sorted(os.listdir(".")) == ["link.plan", "mlp.onnx", "mlp.plan"]
    assert Path("link.plan").is_symlink()
    assert "dim     seq" not in stratac.good("inspect", "mlp.plan")


def heavy() -> object:
    """A model whose weights.bin is larger than any other part of its plan."""
    return model([N("MatMul", ["x", "w"], ["y"])], [value("x", [1, 256])], ["y"], [weight("w", 256, 400)])


@pytest.mark.parametrize("limit", [0, 700, 20_000, 300_000], ids=("nothing", "first object", "library", "weights"))
def test_full_disk(stratac: CommandLine, limit: int) -> None:
    save(heavy(), Path("heavy.onnx"))  # type: ignore[arg-type]
    before = tree(Path("."))

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    words = ("compile", "heavy.onnx", "--no-cache") if limit < 1000 else ("compile", "heavy.onnx")
    result = child(*words, preexec_fn=fill)
    failed(result, 3, ["disk space"])
    assert tree(Path(".")) == before


def test_full_disk_for_outputs(stratac: CommandLine) -> None:
    stratac.refused(
        ("run", "mlp.plan", "--random", "1", "-o", "/dev/full"), 3, "cannot write /dev/full", "No space left"
    )
    assert Path("/dev/full").is_char_device()
    with open("/dev/full", "w") as full:
        for words in (("inspect", "mlp.plan"), ("run", "mlp.plan", "--random", "1"), ("--help",)):
            for unbuffered in ("", "1"):
                streams = {"stdout": full, "stderr": subprocess.PIPE, "capture_output": False}
                result = child(*words, env={"PYTHONUNBUFFERED": unbuffered}, **streams)
                failed(result, 3, ["cannot write the output: No space left on device"])

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    np.savez("out.npz", y=np.ones(3))
    before = tree(Path("."))
    result = child("run", "mlp.plan", "--random", "1", "-o", "out.npz", preexec_fn=fill)
    failed(result, 3, ["cannot write out.npz: File too large"])
    assert tree(Path(".")) == before


def test_outputs_to_a_device(stratac: CommandLine) -> None:
    stratac.good("run", "mlp.plan", "--random", "1", "-o", "/dev/null")
    assert Path("/dev/null").is_char_device()


def test_unusable_cache(stratac: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATAC_CACHE", "mlp.onnx/cache")
    assert "no object cache: mlp.onnx/cache is not writable" in stratac.good(*COMPILE)
    stratac.good("verify", "out.plan")
    doctor = stratac("doctor", "--json")
    assert doctor.code == 0 and "set STRATAC_CACHE" in doctor.out


def test_damaged_cache_entries_are_made_again(
    stratac: CommandLine, monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path
) -> None:
    import shutil

    own = tmp_path / "own-cache"
    shutil.copytree(cache, own)
    entries = sorted(own.iterdir())
    for entry in entries[::8]:
        data = bytearray(entry.read_bytes())
        data[len(data) // 2] ^= 1
        entry.write_bytes(data)
    for entry in entries[4::8]:
        entry.write_bytes(entry.read_bytes()[:50])
    monkeypatch.setenv("STRATAC_CACHE", str(own))
    stratac.good(*COMPILE)
    assert tree(Path("out.plan")) == tree(Path("mlp.plan"))


def test_a_reader_that_goes_away(stratac: CommandLine) -> None:
    command = " ".join(STRATAC)
    for words in ("inspect mlp.plan --level graph", "inspect mlp.plan --json", "--help", "run mlp.plan --random 1"):
        for reader in ("head -1", "true"):
            script = f"{command} {words} | {reader} >/dev/null"
            env = {**os.environ, "PYTHONUNBUFFERED": ""}
            done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=60)
            assert done.stderr == "", done.stderr
    done = subprocess.run(["bash", "-c", f"{command} inspect mlp.plan >&-"], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr


def test_output_that_takes_only_ascii(stratac: CommandLine) -> None:
    save(model([N("Relu", ["größe"], ["y"])], [value("größe", [2])], ["y"]), Path("modèle.onnx"))
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    child("compile", "modèle.onnx", "-o", "out.plan", env=ascii_only).good()
    stratac.good("compile", "modèle.onnx", "-o", "utf8.plan")
    assert tree(Path("out.plan")) == tree(Path("utf8.plan"))
    assert "gr\\xf6\\xdfe" in child("inspect", "out.plan", env=ascii_only).good().out
    assert "größe: f32[2]" in stratac.good("inspect", "out.plan")
    child("inspect", "out.plan", "--level", "graph", env=ascii_only).good()
    child("run", "out.plan", "--random", "1", env=ascii_only).good()


def test_packages_that_are_not_installed(stratac: CommandLine) -> None:
    """Plans run without the compiler's packages; what compiles says what to install."""
    block = "import sys\nfor name in ('onnx', 'jinja2', 'networkx', 'onnxruntime'): sys.modules[name] = None\n"
    code = block + "from stratac.compiler.cli import main\nsys.exit(main())"

    def without(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)

    for words in (
        ("run", "mlp.plan", "--random", "1"),
        ("inspect", "mlp.plan"),
        ("verify", "mlp.plan"),
        ("--version",),
    ):
        done = without(*words)
        assert done.returncode == 0, done.stderr
    done = without(*COMPILE)
    assert done.returncode == 3
    assert "is not installed; pip install 'stratac[compile]'" in done.stderr and "Traceback" not in done.stderr
    done = without("doctor")
    assert done.returncode == 3 and "FAIL  trial" in done.stdout and done.stderr == ""
