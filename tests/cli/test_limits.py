"""Memory limits of control groups, read from a made-up /proc and /sys."""

from __future__ import annotations

from pathlib import Path

from stratac.compiler.limits import memory_limit

GIB = 1 << 30


def lay(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_version_2_takes_the_tightest_group_above(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/a/memory.max": f"{3 * GIB}\n",
        "sys/fs/cgroup/a/b/memory.max": "max\n",
        "sys/fs/cgroup/other/memory.max": "4096\n",
    }
    assert memory_limit(lay(tmp_path, "0::/a/b\n", files)) == 3 * GIB


def test_version_1(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{GIB}\n",
        "sys/fs/cgroup/cpu/job/memory.limit_in_bytes": "1\n",
    }
    assert memory_limit(lay(tmp_path, "4:memory:/job\n1:cpu:/job\n", files)) == GIB


def test_no_limit(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None
    assert memory_limit(lay(tmp_path, "0::/\n", {"sys/fs/cgroup/memory.max": "max\n"})) is None
    files = {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}
    assert memory_limit(lay(tmp_path, "4:memory:/\n", files)) is None


def test_a_container_sees_its_own_root(tmp_path: Path) -> None:
    """The path names groups that are not mounted inside; the mounted root is the container's group."""
    files = {"sys/fs/cgroup/memory.max": "1048576\n"}
    assert memory_limit(lay(tmp_path, "0::/docker/0123\n", files)) == 1 << 20
