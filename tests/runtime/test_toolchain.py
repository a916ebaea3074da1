"""The C compiler driver: reproducible, cached, safe for several processes, and clear when something is missing."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from stratac.codegen import toolchain
from stratac.codegen.compilers import find_compiler
from stratac.codegen.toolchain import ToolchainOptions, Unit, compile_library
from stratac.ir.errors import EnvironmentProblem, StratacError

PLAIN = ToolchainOptions()


def unit(name: str, body: str = "return 1;") -> Unit:
    function = name.replace("/", "_").removesuffix(".c")
    return Unit(name, text=f'__attribute__((visibility("default"))) int {function}(void) {{ {body} }}\n')


def test_same_bytes_from_any_folder_and_any_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for name in ("one", "another/deeper"):
        base = tmp_path / name
        (base / "include").mkdir(parents=True)
        (base / "include" / "where.h").write_text("static inline const char *where(void) { return __FILE__; }\n")
        text = '#include "where.h"\nconst char *f(void); const char *f(void) { return where()[0] ? __FILE__ : 0; }\n'
        units = [Unit("src/a.c", text=text, flags=("-fvisibility=default",), includes=(base / "include",)), unit("b.c")]
        monkeypatch.setenv("TMPDIR", str(base))
        monkeypatch.setattr("tempfile.tempdir", None)
        for jobs in (1, 4):
            output = base / f"lib{jobs}.so"
            compile_library(units, output, options=ToolchainOptions(cache=base / "cache", jobs=jobs))
            results.append(output.read_bytes())
        assert str(tmp_path).encode() not in results[-1]
    assert len(set(results)) == 1


def test_cache_by_content(tmp_path: Path) -> None:
    include = tmp_path / "include"
    include.mkdir()
    header = include / "value.h"
    header.write_text("#define VALUE 1\n")
    options = ToolchainOptions(cache=tmp_path / "cache")
    units = [
        Unit("a.c", text='#include "value.h"\nint a(void);int a(void){return VALUE;}', includes=(include,)),
        unit("b.c"),
    ]

    def build(options: ToolchainOptions = options, units: list[Unit] = units) -> tuple[int, int]:
        report = compile_library(units, tmp_path / "lib.so", options=options)
        assert not report.note
        return report.compiled, report.cached

    assert build() == (2, 0)
    assert build() == (0, 2)
    header.write_text("#define VALUE 2\n")
    assert build() == (1, 1)
    assert build(dataclasses.replace(options, flags=("-O1",))) == (2, 0)
    assert build(units=[units[0], unit("b.c", "return 2;")]) == (1, 1)
    for entry in (tmp_path / "cache").iterdir():  # a damaged entry is compiled again, never linked
        entry.write_bytes(entry.read_bytes()[:-1] + b"?")
    assert build() == (2, 0)
    build(dataclasses.replace(options, cache_bytes=0, flags=("-O0",)))
    assert not list((tmp_path / "cache").iterdir())


def test_unusable_cache_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    report = compile_library([unit("a.c")], tmp_path / "lib.so", options=ToolchainOptions(cache=tmp_path / "file/x"))
    assert report.compiled == 1 and "no object cache" in report.note and "not writable" in report.note
    assert "none was set" in compile_library([unit("a.c")], tmp_path / "lib.so", options=PLAIN).note


def test_progress_and_order(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    units = [unit(f"u{i}.c") for i in range(5)]
    compile_library(units, tmp_path / "sub" / "lib.so", progress=lambda *row: seen.append(row))
    assert [row[:2] for row in seen] == [(i, 6) for i in range(1, 7)]
    assert seen[-1][2] == "lib.so" and {row[2] for row in seen[:-1]} == {u.name for u in units}


def test_many_at_once_share_a_cache(tmp_path: Path) -> None:
    options = ToolchainOptions(cache=tmp_path / "cache", jobs=2)
    units = [unit(f"u{i}.c") for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        outputs = [tmp_path / f"{i % 2}.so" for i in range(8)]
        list(pool.map(lambda output: compile_library(units, output, options=options), outputs))
    assert (tmp_path / "0.so").read_bytes() == (tmp_path / "1.so").read_bytes()
    assert all(p.suffix == ".o1" for p in (tmp_path / "cache").iterdir())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.so", "1.so", "cache"]


def test_refused_code_is_a_defect_with_the_first_lines(tmp_path: Path) -> None:
    with pytest.raises(StratacError, match=r"refused bad\.c.*\n.*error.*nonsense") as caught:
        compile_library([unit("good.c"), Unit("bad.c", text="int f(void) { return nonsense; }")], tmp_path / "lib.so")
    assert not isinstance(caught.value, EnvironmentProblem)
    assert "please report" in str(caught.value) and not (tmp_path / "lib.so").exists()
    with pytest.raises(StratacError, match=r"refused the link of lib\.so.*\n.*missing_function"):
        undefined = Unit("u.c", text="int missing_function(void);int f(void);int f(void){return missing_function();}")
        compile_library([dataclasses.replace(undefined, flags=("-fvisibility=default",))], tmp_path / "lib.so")
    for name in ("../x.c", "/x.c"):
        with pytest.raises(StratacError, match="not a relative path"):
            compile_library([Unit(name, text="")], tmp_path / "lib.so")


def test_no_compiler_or_a_broken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentProblem, match=r"looked for nowhere-cc.*install gcc or clang"):
        find_compiler("nowhere-cc")
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(EnvironmentProblem, match=r"does not run.*working gcc or clang"):
        find_compiler(str(broken))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(EnvironmentProblem, match="no C compiler found") as caught:
        compile_library([unit("a.c")], tmp_path / "lib.so")
    assert caught.value.exit_code == 3


def test_environment_trouble_is_not_called_a_defect(tmp_path: Path) -> None:
    real = find_compiler().path
    for body, match in (
        ("echo 'x.c: fatal error: error writing: No space left on device' >&2; exit 1", "free memory and disk space"),
        ("kill -9 $$", "was killed by signal 9"),
        ("echo \"gcc: error: unrecognized command-line option '-mavx512f'\" >&2; exit 1", "unrecognized"),
    ):
        fake = tmp_path / "cc"
        fake.write_text(f'#!/bin/sh\ncase "$*" in *-c*) {body};; *) exec {real} "$@";; esac\n')
        fake.chmod(0o755)
        with pytest.raises(EnvironmentProblem, match=match):
            compile_library([unit("a.c")], tmp_path / "lib.so", options=ToolchainOptions(cc=str(fake)))


def test_output_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match=r"cannot build lib\.so"):
        compile_library([unit("a.c")], tmp_path / "file" / "lib.so")


def test_interrupt_kills_children_and_leaves_nothing(tmp_path: Path) -> None:
    slow = tmp_path / "cc"
    real = find_compiler().path
    slow.write_text(
        f'#!/bin/sh\ncase "$*" in *-c*) sleep 600 & echo $! $$ >> {tmp_path}/pids; wait;; *) exec {real} "$@";; esac\n'
    )
    slow.chmod(0o755)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    code = (
        "from pathlib import Path\nfrom stratac.codegen.toolchain import *\n"
        f"units = [Unit(f'u{{i}}.c', text='int x;') for i in range(4)]\n"
        f"options = ToolchainOptions(cc={str(slow)!r}, cache=Path({str(tmp_path / 'cache')!r}), jobs=2)\n"
        f"compile_library(units, Path({str(tmp_path / 'lib.so')!r}), options=options)\n"
    )
    environment = {**os.environ, "TMPDIR": str(scratch)}
    child = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    pids = tmp_path / "pids"
    deadline = time.monotonic() + 30
    while not (pids.exists() and len(pids.read_text().split()) == 4) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    assert child.wait(30) != 0
    time.sleep(0.1)
    for pid in map(int, pids.read_text().split()):
        state = Path(f"/proc/{pid}/stat")
        assert not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z"
    assert not list(scratch.iterdir()) and not (tmp_path / "lib.so").exists()
    assert not list((tmp_path / "cache").iterdir())


def test_runtime_units_are_for_the_baseline() -> None:
    units = toolchain.runtime_units()
    assert {u.name for u in units} >= {"csrc/load.c", "csrc/exec.c", "csrc/features.c"}
    assert not any(flag.startswith("-m") for u in units for flag in u.flags)
