"""A plan that was truncated, tampered with, made for another machine or by a newer stratac is refused clearly."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from stratac.ir.errors import EnvironmentProblem, PlanError
from stratac.ir.plan import FORMAT_VERSION
from stratac.runtime.lib import Library
from stratac.runtime.manifest import (
    canonical,
    check_machine,
    cpu_features,
    manifest_digest,
    read_manifest,
    write_manifest,
)
from stratac.runtime.session import load

PARTS = ("manifest.json", "plan.bin", "weights.bin", "libplan.so")


def rewrite(folder: Path, **changes: object) -> None:
    """Change manifest fields and make the digest right again."""
    fields = json.loads((folder / "manifest.json").read_bytes()) | changes
    fields["digest"] = manifest_digest(fields)
    (folder / "manifest.json").write_bytes(canonical(fields))


def open_native(folder: Path, **options: bool) -> None:
    """Open without the manifest's checks: what the C code alone finds."""
    Library(folder, threads=1, affinity=False, **{"verify": True, "profile": True, **options}).close()


@pytest.mark.parametrize("part", PARTS)
def test_any_flipped_bit_is_refused(copy: Path, part: str) -> None:
    path = copy / part
    data = path.read_bytes()
    draw = random.Random(part)
    bits = range(len(data) * 8) if len(data) < 100 else draw.sample(range(len(data) * 8), 150)
    for bit in bits:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises((PlanError, EnvironmentProblem)):
            load(copy, threads=1)
    path.write_bytes(data)
    load(copy, threads=1).close()


@pytest.mark.parametrize("part", PARTS)
def test_truncated_grown_or_missing_parts(copy: Path, part: str) -> None:
    path = copy / part
    data = path.read_bytes()
    for size in {0, 1, len(data) // 2, len(data) - 1}:
        path.write_bytes(data[:size])
        with pytest.raises(PlanError, match="damaged" if part == "manifest.json" else f"{part} is truncated"):
            load(copy)
    path.write_bytes(data + b"\n")
    with pytest.raises(PlanError, match=r"damaged|is changed"):
        load(copy)
    path.unlink()
    with pytest.raises(PlanError, match=f"{part} (is missing|does not exist)"):
        load(copy)
    path.mkdir()
    with pytest.raises(PlanError, match=r"not a file|cannot read"):
        load(copy)


def test_not_a_plan(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"nowhere does not exist.*stratac compile"):
        load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(PlanError, match="file is not a folder"):
        load(tmp_path / "file")
    with pytest.raises(PlanError, match=r"manifest.json does not exist"):
        load(tmp_path)


def test_other_format_versions(copy: Path) -> None:
    rewrite(copy, format_version=FORMAT_VERSION + 1, stratac_version="9.1")
    with pytest.raises(PlanError, match=f"format version {FORMAT_VERSION + 1}.*upgrade stratac.*9.1"):
        load(copy)
    rewrite(copy, format_version=0)
    with pytest.raises(PlanError, match=r"format version 0.*compile the plan again"):
        load(copy)
    rewrite(copy, format_version="1")
    with pytest.raises(PlanError, match="format version '1'"):
        load(copy)


def test_plan_bin_of_a_newer_format_is_named_by_the_c_code(copy: Path) -> None:
    data = bytearray((copy / "plan.bin").read_bytes())
    data[8] = FORMAT_VERSION + 1
    (copy / "plan.bin").write_bytes(data)
    with pytest.raises(PlanError, match=f"plan.bin has format {FORMAT_VERSION + 1}.*use a newer stratac"):
        open_native(copy)


def test_malformed_manifests_are_errors(copy: Path) -> None:
    for broken in (b"", b"[]", b"{}", b"null", b"\xff\xfe", b"[" * 100000, b'{"format_version": %d}' % FORMAT_VERSION):
        (copy / "manifest.json").write_bytes(broken)
        with pytest.raises(PlanError, match="damaged"):
            load(copy)


def test_parts_outside_the_folder_are_refused(copy: Path) -> None:
    parts = json.loads((copy / "manifest.json").read_bytes())["parts"]
    for name in ("../secret", "/etc/passwd"):
        rewrite(copy, parts={**parts, name: {"bytes": 1, "sha256": ""}})
        with pytest.raises(PlanError, match="outside the plan"):
            load(copy)
    rewrite(copy, parts={k: v for k, v in parts.items() if k != "libplan.so"})
    with pytest.raises(PlanError, match=r"does not list libplan.so"):
        load(copy)
    malformed: tuple[object, ...] = (None, [], {"plan.bin": 1})
    for wrong in malformed:
        rewrite(copy, parts=wrong)
        with pytest.raises(PlanError, match="malformed"):
            load(copy)


def test_missing_cpu_features_are_named(copy: Path, tmp_path: Path) -> None:
    rewrite(copy, features=["avx2", "warp9", "fma"])
    with pytest.raises(EnvironmentProblem, match=r"lacks .*warp9.*--target native") as caught:
        load(copy)
    assert caught.value.exit_code == 3
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu sse2 avx2\n\nprocessor\t: 1\n")
    assert cpu_features(cpuinfo) == frozenset({"fpu", "sse2", "avx2"})
    assert cpu_features(tmp_path / "none") is None
    check_machine({"features": ["warp9"], "name": "", "target": ""}, None)  # unknown here: the C code asks the CPU


def test_missing_cpu_features_are_found_by_the_c_code(tmp_path: Path) -> None:
    import dataclasses

    from stratac.tests.runtime.tiny import tiny_plan, write_plan

    plan = dataclasses.replace(tiny_plan(), features=("warp9",))
    folder = write_plan(tmp_path / "plan", plan)
    with pytest.raises(EnvironmentProblem, match=r"lacks warp9 \(unknown to this runtime\)"):
        open_native(folder)
    have = cpu_features() or frozenset()
    known = sorted(have & {"avx", "avx2", "fma", "avx512f", "avx512bw", "asimd", "sse4_2"})
    plan = dataclasses.replace(tiny_plan(), features=tuple(known))
    load(write_plan(tmp_path / "here", plan)).close()


def test_weights_digest_is_the_c_codes_own(copy: Path) -> None:
    path = copy / "weights.bin"
    data = bytearray(path.read_bytes())
    data[3] ^= 16
    path.write_bytes(data)
    with pytest.raises(PlanError, match=r"weights.bin is damaged.*digest"):
        load(copy)
    load(copy, verify=False).close()
    with pytest.raises(PlanError, match="sha256"):
        read_manifest(copy, weights=True)


def test_replaced_weights_without_a_manifest(copy: Path) -> None:
    (copy / "weights.bin").write_bytes(bytes(64))
    with pytest.raises(PlanError, match=r"weights.bin has 64 bytes, the plan needs 80"):
        open_native(copy, verify=False)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_digest_of_many_blocks_in_parallel(tmp_path: Path, tiny: Path, threads: int) -> None:
    import dataclasses

    from stratac.tests.runtime.tiny import tiny_plan, write_plan

    size = (1 << 20) + 4099
    held, *others = tiny_plan().arenas
    arenas = (dataclasses.replace(held, bytes=size), *others)
    plan = dataclasses.replace(tiny_plan(), arenas=arenas, weights_bytes=size, resident_bytes=size)
    folder = write_plan(tmp_path / "plan", plan, library=tiny / "libplan.so")
    load(folder, threads=threads).close()
    weights = np.memmap(folder / "weights.bin", np.uint8, "r+")
    for at in (0, 65535, 65536, 1 << 20, weights.size - 1):
        weights[at] ^= 128
        weights.flush()
        with pytest.raises(PlanError, match="digest"):
            load(folder, threads=threads)
        weights[at] ^= 128
        weights.flush()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_part(copy: Path) -> None:
    (copy / "plan.bin").chmod(0)
    with pytest.raises(PlanError, match=r"cannot read .*permissions"):
        load(copy)


def test_manifest_is_deterministic(copy: Path) -> None:
    fields = read_manifest(copy)
    before = (copy / "manifest.json").read_bytes()
    write_manifest(copy, {k: v for k, v in fields.items() if k not in ("parts", "digest")}, fields["parts"])
    assert (copy / "manifest.json").read_bytes() == before
    held = {"weights": 80, "storage": 0, "ring": 0, "scratch": 65600, "workspace_per_thread": 64}
    assert fields["memory"] == {**held, "process_floor": 0}
    assert fields["inputs"][0] == {"name": "x", "dtype": "f32", "shape": "[n, 4]"}
