"""What a process holds in memory, as Linux counts it page by page."""

from __future__ import annotations

from pathlib import Path

_KIB = 1024


def resident_bytes(process: int | str = "self") -> int:
    """Bytes resident now, from a walk of the page tables: private memory and the touched pages of mapped files.

    The counters in /proc/PID/status lag by a few hundred pages; smaps_rollup does not.
    """
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * _KIB
    raise OSError(f"/proc/{process}/smaps_rollup has no Rss line")


def peak_bytes(process: int | str = "self") -> int:
    """The high-water mark since the process began or `reset_peak`, and at least what is resident now."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return max(int(line.split()[1]) * _KIB, resident_bytes(process))
    raise OSError(f"/proc/{process}/status has no VmHWM line")


def reset_peak() -> None:
    """Let the high-water mark of this process start again from what is resident now (Linux 4.0)."""
    Path("/proc/self/clear_refs").write_text("5")


def resident_by_mapping(process: int | str = "self") -> dict[str, int]:
    """Resident bytes of each mapped file by its name, of `heap`, `stack` and `anonymous` memory."""
    found: dict[str, int] = {}
    mapping = ""
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            mapping = Path(words[5]).name.strip("[]") if len(words) > 5 else "anonymous"
        elif words[0] == "Rss:":
            found[mapping] = found.get(mapping, 0) + int(words[1]) * _KIB
    return found
