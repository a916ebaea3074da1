"""Limits that a container or a service manager sets around this process: memory, from control groups (v1 and v2)."""

from __future__ import annotations

from pathlib import Path

_NO_LIMIT = 1 << 60  # cgroup v1 says "no limit" with a number near 2**63


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes the tightest memory control group above this process allows, or None. `root` is `/` but in tests."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    limits = [limit for line in lines for limit in _limits(root / "sys/fs/cgroup", line)]
    return min(limits, default=None)


def _limits(mount: Path, line: str) -> list[int]:
    """Limits along one hierarchy: `id:controllers:/path`, from the process's group up to the root."""
    _, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    if controllers == "":
        bases, name = [mount, mount / "unified"], "memory.max"
    elif "memory" in controllers.split(","):
        bases, name = [mount / "memory", mount / controllers], "memory.limit_in_bytes"
    else:
        return []
    found = []
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for base in bases:
        for depth in range(len(parts), -1, -1):
            try:
                text = (base.joinpath(*parts[:depth]) / name).read_text().strip()
            except OSError:
                continue
            if text.isdigit() and int(text) < _NO_LIMIT:
                found.append(int(text))
    return found
