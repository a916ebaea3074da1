"""Writing a plan folder: everything is made in a temporary folder beside the target and appears under its name only whole."""

from __future__ import annotations

import ctypes
import errno
import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..codegen.emit_kernels import table_unit
from ..codegen.toolchain import CSRC, ToolchainOptions, ToolchainReport, Unit, compile_library, runtime_units
from ..ir.errors import EnvironmentProblem, StratacError
from ..ir.interface import interface_to_data
from ..ir.plan import Plan
from ..ir.plan_binary import encode, plan_id
from ..ir.text import print_graph
from ..ir.text_placed import print_placed
from ..ir.text_plan import print_plan
from ..runtime.manifest import LIBRARY, MANIFEST, PLAN, WEIGHTS, plan_fields, write_manifest
from .constants import manifest_rows
from .options import CompileOptions, size_text, version
from .profiles import target_arch
from .write_weights import write_weights

if TYPE_CHECKING:
    from .driver import Levels

#: Bytes a process holds beside the plan's own memory (`python -m benchmarks.memory PLAN --mappings` measures it). Measured
#: 2026-11-21, Linux 6.18, glibc 2.36, Python 3.11, six zoo plans, 1 to 16 threads:
#: - a C program, whole: 2.1 to 2.3 MiB = libc 1.4, libm 0.3, ld.so 0.2, libplan.so 0.1 to 0.2, tables and plan.bin 0.04 to
#:   0.07, 0.1 of its own, 0.02 for the stack of each further thread
#: - a Python process with numpy and stratac.runtime imported, growth: 0.8 MiB = libplan.so and cffi's module 0.3 each, tables and
#:   stacks as above (measured 2026-11-22)
#: The rest up to 3 MiB is room for larger tables and libraries. Input and output arrays are the caller's and not in it.
PROCESS_FLOOR = 3 << 20
#: bytes of a plan folder beside its weights, amply: library, plan, texts, sources
_BESIDE_WEIGHTS = 16 << 20


@dataclass(frozen=True)
class BuildReport:
    """What a compilation did: the folder, seconds of each step, the toolchain's report, bytes of weights."""

    folder: Path
    seconds: dict[str, float]
    toolchain: ToolchainReport
    plan: Plan


def check_output(output: Path) -> None:
    """Raise StratacError where `output` is something else than a plan or nothing, before any work is done."""
    try:
        other = output.exists() and not (output / MANIFEST).is_file()
        beneath = next(p for p in (output.absolute().parent, *output.absolute().parents) if p.exists())
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write {output}: {error.strerror}", hint="choose another name for -o"
        ) from error
    if other:
        raise StratacError(f"{output} exists and is not a plan", hint="choose another name for -o")
    if not beneath.is_dir():
        raise EnvironmentProblem(
            f"cannot write {output}: {beneath} is not a folder", hint="choose another folder for -o"
        )


def check_space(folder: Path, weights_bytes: int) -> None:
    """Raise EnvironmentProblem where weights.bin does not fit the disk, before anything is compiled."""
    free = shutil.disk_usage(folder).free
    if weights_bytes + _BESIDE_WEIGHTS > free:
        raise EnvironmentProblem(
            f"the plan needs {size_text(weights_bytes)} for its weights, but {folder.parent} has {size_text(free)} free",
            hint="free disk space or choose another folder for -o",
        )


def write_artifact(
    levels: Levels,
    report: dict[str, Any],
    output: Path,
    options: CompileOptions,
    progress: Callable[[str, float], None] | None,
) -> BuildReport:
    """Compile the kernels, pack the weights and write the folder. Raises EnvironmentProblem for a full or read-only disk."""
    check_output(output)
    output = output.resolve()  # a link to a plan stays a link
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {output}: {error.strerror}", hint="choose a writable folder") from error
    try:
        made = _fill(levels, report, folder, options, progress)
        folder.chmod(0o755)
        _replace(folder, output)
    except OSError as error:
        where = error.filename or output
        hint = "free disk space or choose another folder"
        raise EnvironmentProblem(f"cannot write {where}: {error.strerror}", hint=hint) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return BuildReport(output, {**levels.seconds, **made[1]}, made[0], levels.plan)


def _replace(folder: Path, output: Path) -> None:
    """Put the finished folder in its place; an older plan there ends up under `folder`, and is whole until that moment."""
    for attempt in itertools.count():
        try:
            if output.exists():
                _exchange(folder, output)
            else:
                os.rename(folder, output)
            return
        except OSError as error:  # another compilation of the same plan may have come between
            if attempt == 100 or error.errno not in (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY):
                raise


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders: in one step where kernel and file system can, else in two."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if function is not None and not function(here, os.fsencode(one), here, os.fsencode(other), swap):
        return
    if function is not None and ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
    old = Path(tempfile.mkdtemp(prefix=f".{other.name}.old.", dir=other.parent))
    try:
        os.rename(other, old / "plan")
        try:
            os.rename(one, other)
        except BaseException:
            with suppress(OSError):
                os.rename(old / "plan", other)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _fill(
    levels: Levels,
    report: dict[str, Any],
    folder: Path,
    options: CompileOptions,
    progress: Callable[[str, float], None] | None,
) -> tuple[ToolchainReport, dict[str, float]]:
    plan = levels.plan
    check_space(folder, plan.weights_bytes)
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    number = plan_id(plan)
    units = _units(levels, number)
    arch = target_arch(levels.machine)
    settings = ToolchainOptions(cc=options.cc, arch=arch, cache=options.cache, jobs=options.jobs)
    tell = None if progress is None else lambda done, total, name: progress(f"cc {done}/{total} {name}", -1.0)
    built = compile_library(units, folder / LIBRARY, options=settings, progress=tell)
    seconds["cc"] = time.perf_counter() - started
    started = time.perf_counter()
    weights_sha, digests = write_weights(levels.placed, plan, folder / WEIGHTS, _tell_weights(progress))
    seconds["weights"] = time.perf_counter() - started
    (folder / PLAN).write_bytes(encode(plan, digests=digests, plan_id=number))
    (folder / "graph.txt").write_text(print_graph(levels.graph), encoding="utf-8")
    (folder / "placed.txt").write_text(print_placed(levels.placed), encoding="utf-8")
    (folder / "plan.txt").write_text(print_plan(plan), encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    parts = [PLAN, WEIGHTS, LIBRARY, "graph.txt", "placed.txt", "plan.txt", "report.json"]
    if options.keep_source:
        (folder / "src").mkdir()
        for name, text in (*levels.kernels.units, _table(levels, number)):
            (folder / "src" / name).write_text(text, encoding="utf-8")
            parts.append(f"src/{name}")
    fields = plan_fields(plan, stratac_version=version(), process_floor=PROCESS_FLOOR)
    fields = {**fields, "arch": built.arch}
    if options.constants:
        fields["constants"] = manifest_rows(options.constants)
    interface = levels.graph.interface
    if interface is not None and not interface.plain:
        fields["interface"] = interface_to_data(interface)
    write_manifest(folder, fields, parts, known={WEIGHTS: weights_sha})
    return built, seconds


def _tell_weights(progress: Callable[[str, float], None] | None) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(f"weights {size_text(done)} of {size_text(total)}", -1.0)


def _table(levels: Levels, number: int) -> tuple[str, str]:
    workspace = sum(a.bytes for a in levels.plan.arenas if a.kind == "workspace")
    return table_unit(levels.plan.kernels, levels.kernels.before, number, workspace)


def _units(levels: Levels, number: int) -> list[Unit]:
    """Kernels and families for the target's ISA; the runtime itself for the baseline of the architecture."""
    device = levels.machine.device("cpu")
    modes = {choice.chosen.candidate.mode for choice in levels.placed.choices.values()}
    flags = (*device.compiler_flags(modes), "-O3", "-fwrapv")
    name, text = _table(levels, number)
    units = [Unit(f"src/{n}", text=t, flags=flags, includes=(CSRC,)) for n, t in levels.kernels.units]
    units.append(Unit(f"src/{name}", text=text, includes=(CSRC,)))
    families = sorted(p for p in (CSRC / "kernels").glob("*.c") if p.stem != "reference")
    units += [Unit(f"csrc/kernels/{p.name}", path=p, flags=flags, includes=(CSRC,)) for p in families]
    return [*units, *runtime_units()]
