"""A memory control group: a hard limit on what a process may take, page cache included, as containers set it (v1 and v2)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from types import TracebackType

MOUNT = Path("/sys/fs/cgroup")


class NoMemoryGroup(OSError):
    """No memory control group can be made here; the message says why."""


class MemoryGroup:
    """A new control group, without a limit until `limit` is called. A context manager; at its end nothing may run in it any more.

    Raises NoMemoryGroup where the system lets this process make none.
    """

    def __init__(self, name: str = "stratac", mount: Path = MOUNT) -> None:
        self.version, base = _base(mount)
        self.path = base / f"{name}-{os.getpid()}-{time.monotonic_ns()}"
        try:
            self.path.mkdir()
        except OSError as error:
            raise NoMemoryGroup(f"cannot make a control group below {base}: {error.strerror}") from error

    def enter(self) -> None:
        """Move the calling process into the group: between fork and exec, so that all it takes is counted."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def limit(self, limit_bytes: int) -> None:
        """What all processes of the group may hold together; beyond it the system reclaims page cache, then kills."""
        name = "memory.limit_in_bytes" if self.version == 1 else "memory.max"
        (self.path / name).write_text(str(limit_bytes))
        if self.version == 2:  # pages that went to swap would be no limit
            with contextlib.suppress(OSError):
                (self.path / "memory.swap.max").write_text("0")

    def used(self) -> int:
        """Bytes charged now: memory of the processes, kernel memory and page cache on their behalf."""
        return self._number("memory.usage_in_bytes" if self.version == 1 else "memory.current")

    def peak(self) -> int | None:
        """The most that was charged at once since `reset_peak` (v1) or ever (v2); None on systems that do not say."""
        try:
            return self._number("memory.max_usage_in_bytes" if self.version == 1 else "memory.peak")
        except OSError:
            return None

    def reset_peak(self) -> None:
        """Let `peak` start again from what is charged now, where the system can."""
        with contextlib.suppress(OSError):
            (self.path / ("memory.max_usage_in_bytes" if self.version == 1 else "memory.peak")).write_text("0")

    def kills(self) -> int:
        """How many processes of the group were killed for lack of memory."""
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        for line in (self.path / name).read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        return 0

    def _number(self, name: str) -> int:
        return int((self.path / name).read_text())

    def close(self) -> None:
        """Remove the group; processes that are still in it are killed."""
        deadline = time.monotonic() + 5
        while True:
            try:
                self.path.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError:
                for line in (self.path / "cgroup.procs").read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(line), signal.SIGKILL)
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def __enter__(self) -> MemoryGroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _base(mount: Path) -> tuple[int, Path]:
    """Version and folder of the memory controller."""
    if (mount / "memory" / "memory.limit_in_bytes").exists() or (mount / "memory" / "cgroup.procs").exists():
        return 1, mount / "memory"
    for folder in (mount, mount / "unified"):
        try:
            if "memory" in (folder / "cgroup.subtree_control").read_text().split():
                return 2, folder
        except OSError:
            continue
    raise NoMemoryGroup(f"no memory controller is mounted and handed down below {mount}")
