"""The toolchain: units in, one shared object out, byte-identical wherever it is built.

Object files are cached by content (source, headers, flags, compiler). Children are killed and temporary files removed
whatever happens, KeyboardInterrupt included; the output appears under its name only when it is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..ir.errors import EnvironmentProblem, StratacError
from .compilers import Compiler, find_compiler

#: The C sources shipped with the package.
CSRC = Path(__file__).resolve().parent.parent / "csrc"

#: Flags of every unit, before its own. Contraction is off so that gcc and clang round alike; the two -fno flags change
#: no result, only what the compiler may assume about errno and traps.
COMMON_FLAGS = (
    *("-std=c11", "-O2", "-g0", "-fPIC", "-pthread", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra"),
)
LINK_FLAGS = (
    *("-shared", "-s", "-pthread", "-Wl,--build-id=none", "-Wl,--gc-sections", "-Wl,--hash-style=gnu", "-Wl,-O1"),
    *("-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack", "-Wl,--no-undefined", "-Wl,-Bsymbolic"),
)
_SUFFIX = ".o1"  # the layout of a cache entry: 32 bytes of sha256, then the object file
_POLL_S = 0.002
_OUTPUT_LINES = 12


@dataclass(frozen=True)
class Unit:
    """One C source. `name` is its relative path in messages. A `path` is read, and its folder searched for headers."""

    name: str
    text: str | None = None
    path: Path | None = None
    flags: tuple[str, ...] = ()
    includes: tuple[Path, ...] = ()


@dataclass(frozen=True)
class ToolchainOptions:
    """How to compile. `cc` is a command (None: one from PATH that fits); `cache` a folder or None for no cache.

    `arch` is the architecture to compile for, as `platform.machine()` spells it (empty: the compiler's own). `flags` and
    `link_flags` come after all others (tests pass -Werror and sanitizers).
    """

    cc: str | None = None
    arch: str = ""
    cache: Path | None = None
    cache_bytes: int = 1 << 30
    jobs: int = 0  # 0: one for each available CPU
    flags: tuple[str, ...] = ()
    link_flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class ToolchainReport:
    """What a build did: units compiled, units found in the cache, seconds, the compiler, the architecture it compiles for, and
    why no cache was used."""

    compiled: int
    cached: int
    seconds: float
    compiler: str
    arch: str
    note: str = ""


def runtime_units(csrc: Path = CSRC) -> tuple[Unit, ...]:
    """The runtime's own sources, for the baseline of the architecture: they must run where the kernels may not."""
    return tuple(
        Unit(f"csrc/{path.name}", path=path, includes=(csrc / "include",)) for path in sorted(csrc.glob("*.c"))
    )


def _hash_tree(folder: Path) -> str:
    """A digest of everything a unit may include from a folder, whatever the folder's own path is."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".h", ".c", ".inc") and p.is_file()):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def _host_features() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))


@dataclass
class _Job:
    unit: Unit
    text: str
    flags: tuple[str, ...]
    includes: tuple[Path, ...]
    key: str
    source: Path
    object: Path


class _Cache:
    """Object files by key. Every failure to read or write it only makes a build slower; `note` says why."""

    def __init__(self, folder: Path | None, limit: int) -> None:
        self.folder, self.limit, self.note = folder, limit, ""
        if folder is None:
            self.note = "no object cache: none was set"
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-"):
                pass
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.note = f"no object cache: {self.folder} is not writable ({error.strerror or error})"
        self.folder = None

    def get(self, key: str, target: Path) -> bool:
        if self.folder is None:
            return False
        entry = self.folder / (key + _SUFFIX)
        try:
            data = entry.read_bytes()
            if hashlib.sha256(data[32:]).digest() != data[:32]:
                return False
            target.write_bytes(data[32:])
            os.utime(entry)  # the oldest entries go first when the cache is full
        except OSError:
            return False
        return True

    def put(self, key: str, source: Path) -> None:
        if self.folder is None:
            return
        data = source.read_bytes()
        temporary = None
        try:
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".new-", delete=False) as file:
                temporary = Path(file.name)
                file.write(hashlib.sha256(data).digest() + data)
            os.replace(temporary, self.folder / (key + _SUFFIX))
        except OSError as error:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            self._give_up(error)
        except BaseException:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            raise

    def prune(self) -> None:
        """Remove leftovers of killed builds, and the entries used longest ago until the cache is within its limit."""
        if self.folder is None:
            return
        with contextlib.suppress(OSError):
            entries = []
            for path in self.folder.iterdir():
                with contextlib.suppress(OSError):
                    status = path.stat()
                    if path.name.startswith(".") and time.time() - status.st_mtime > 3600:
                        path.unlink()
                    elif path.suffix == _SUFFIX:
                        entries.append((status.st_mtime, status.st_size, path))
            total = sum(size for _, size, _ in entries)
            for _, size, path in sorted(entries):
                if total <= self.limit:
                    break
                path.unlink(missing_ok=True)
                total -= size


@dataclass
class _Children:
    """Running compilers, each in its own process group so that none outlives an interrupted build."""

    running: dict[subprocess.Popen[bytes], tuple[_Job | None, Path]] = field(default_factory=dict)
    starter: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def start(self, command: Sequence[str], folder: Path, job: _Job | None, log: Path) -> None:
        # only the main thread sees an interrupt: it cannot come between the birth of a child and its entry in `running`
        self.starter.submit(self._start, command, folder, job, log).result()

    def _start(self, command: Sequence[str], folder: Path, job: _Job | None, log: Path) -> None:
        # a compiler that is killed leaves its temporary files: let them go with the folder
        environment = {**os.environ, "LC_ALL": "C", "SOURCE_DATE_EPOCH": "0", "TMPDIR": str(folder)}
        with log.open("wb") as output:
            child = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running[child] = (job, log)

    def wait_any(self) -> Iterator[tuple[_Job | None, int, str]]:
        while True:
            done = [child for child in self.running if child.poll() is not None]
            for child in done:
                job, log = self.running.pop(child)
                yield job, child.returncode, log.read_text(errors="replace")
            if done:
                return
            time.sleep(_POLL_S)

    def kill(self) -> None:
        self.starter.shutdown(cancel_futures=True)
        for child in self.running:
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
        for child in self.running:
            child.wait()
        self.running.clear()


def _failure(compiler: Compiler, what: str, code: int, output: str) -> StratacError:
    lines = output.strip().splitlines()
    start = next((i for i, line in enumerate(lines) if any(w in line for w in ("error", "undefined", "cannot"))), 0)
    shown = "\n".join("  " + line for line in lines[start : start + _OUTPUT_LINES])
    environment = (
        *("No space left on device", "cannot execute", "out of memory", "Killed signal", "Read-only file system"),
        *("Disk quota exceeded", "cannot find -l", "cannot allocate memory"),
        *("File too large", "File size limit exceeded", "signal terminated program"),
    )
    missing = "fatal error" in output and "No such file or directory" in output and "std" in output
    unknown = "unrecognized command" in output or "unknown argument" in output or "unsupported option" in output
    if code < 0 or missing or unknown or any(text in output for text in environment):
        reason = f"was killed by signal {-code}" if code < 0 else "could not work"
        return EnvironmentProblem(
            f"the C compiler {compiler.path} ({compiler.version}) {reason} on {what}",
            hint="free memory and disk space, set CC to another compiler, or install gcc or clang with its C headers; "
            f"it said:\n{shown or '  nothing'}",
        )
    return StratacError(
        f"the C compiler {compiler.path} ({compiler.version}) refused {what}",
        level="C",
        hint=f"this is a defect of stratac, unless CC is no C compiler; please report it with the model; "
        f"it said:\n{shown or '  nothing'}",
    )


def _jobs(units: Sequence[Unit], options: ToolchainOptions, compiler: Compiler, folder: Path) -> list[_Job]:
    trees: dict[Path, str] = {}
    jobs = []
    seen: set[str] = set()
    for number, unit in enumerate(units):
        if unit.name in seen or ".." in Path(unit.name).parts or Path(unit.name).is_absolute():
            raise StratacError(f"unit name {unit.name!r} is used twice or is not a relative path", level="C")
        seen.add(unit.name)
        if (unit.text is None) == (unit.path is None):
            raise StratacError(f"unit {unit.name} needs either a text or a path", level="C")
        text = unit.path.read_text() if unit.path is not None else unit.text or ""
        includes = (*((unit.path.parent,) if unit.path is not None else ()), *unit.includes)
        flags = (*COMMON_FLAGS, *unit.flags, *options.flags)
        for include in includes:
            if include not in trees:
                trees[include] = _hash_tree(include)
        parts = [unit.name, text, compiler.version, compiler.target, *compiler.arguments, *flags]
        parts += [trees[include] for include in includes]
        if any("native" in flag for flag in (*flags, *compiler.arguments)):
            parts.append(_host_features())
        key = hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()
        source = folder / unit.name
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(text)
        jobs.append(_Job(unit, text, flags, includes, key, source, folder / f"{number:05d}.o"))
    return jobs


def _compile_command(compiler: Compiler, job: _Job, folder: Path) -> list[str]:
    # paths reach an object file through __FILE__; map every folder to a fixed name
    maps = [f"-ffile-prefix-map={folder}=."]
    folders = [include.resolve() for include in job.includes]
    maps += [f"-ffile-prefix-map={include}=include" for include in folders]
    includes = [f"-I{include}" for include in folders]
    name = job.source.relative_to(folder).as_posix()
    return [compiler.path, *compiler.arguments, *job.flags, *maps, *includes, "-c", name, "-o", job.object.name]


def compile_library(
    units: Sequence[Unit],
    output: Path,
    *,
    options: ToolchainOptions = ToolchainOptions(),
    progress: Callable[[int, int, str], None] | None = None,
) -> ToolchainReport:
    """Compile `units` in parallel and link them into the shared object `output`.

    `progress(done, total, name)` is called after every unit and after the link. Raises EnvironmentProblem where there
    is no working compiler, no disk space or no memory, and StratacError where the compiler refuses the generated code.
    """
    started = time.monotonic()
    compiler = find_compiler(options.cc, options.arch)
    cache = _Cache(options.cache, options.cache_bytes)
    limit = options.jobs or len(os.sched_getaffinity(0))
    report = progress or (lambda done, total, name: None)
    total = len(units) + 1
    children = _Children()
    output = output.resolve()
    try:
        with tempfile.TemporaryDirectory(prefix="stratac-cc-") as name:
            folder = Path(name).resolve()
            jobs = _jobs(units, options, compiler, folder)
            done = cached = 0
            try:
                waiting = []
                for job in jobs:
                    if cache.get(job.key, job.object):
                        done, cached = done + 1, cached + 1
                        report(done, total, job.unit.name)
                    else:
                        waiting.append(job)
                # the longest first, so that the last to finish is a short one
                waiting.sort(key=lambda job: (len(job.text), job.unit.name))
                while waiting or children.running:
                    while waiting and len(children.running) < limit:
                        job = waiting.pop()
                        command = _compile_command(compiler, job, folder)
                        children.start(command, folder, job, folder / (job.object.name + ".log"))
                    for finished, code, text in children.wait_any():
                        assert finished is not None
                        if code:
                            raise _failure(compiler, finished.unit.name, code, text)
                        cache.put(finished.key, finished.object)
                        done += 1
                        report(done, total, finished.unit.name)
                _link(compiler, jobs, options, folder, output, children)
                report(total, total, output.name)
            finally:
                children.kill()
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot build {output.name}: {error.strerror or error}",
            hint="free disk space, or set TMPDIR to a writable folder",
        ) from error
    if done > cached:
        cache.prune()
    seconds = time.monotonic() - started
    used = f"{compiler.path} ({compiler.version})"
    return ToolchainReport(done - cached, cached, seconds, used, compiler.arch, cache.note)


def _link(
    compiler: Compiler,
    jobs: Sequence[_Job],
    options: ToolchainOptions,
    folder: Path,
    output: Path,
    children: _Children,
) -> None:
    objects = [job.object.name for job in jobs]
    arguments = folder / "link.args"  # a response file: a big plan has more objects than a command line holds
    arguments.write_text("\n".join(objects))
    linked = folder / "linked.so"
    flags = (*LINK_FLAGS, *options.link_flags)
    command = [compiler.path, *compiler.arguments, *flags, "-o", linked.name, f"@{arguments.name}", "-lm"]
    children.start(command, folder, None, folder / "link.log")
    for _, code, text in children.wait_any():
        if code:
            raise _failure(compiler, f"the link of {output.name}", code, text)
    output.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        shutil.copyfile(linked, temporary)
        temporary.chmod(0o755)
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)
