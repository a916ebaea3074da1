"""A plan with a flipped byte, a missing part, of a newer format or for another machine: refused before anything runs."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from pathlib import Path

from stratac.ir.plan import FORMAT_VERSION, Plan
from stratac.ir.plan_binary import WeightDigests, decode, encode, read_header
from stratac.runtime.manifest import canonical, manifest_digest, write_manifest
from stratac.tests.cli.conftest import CommandLine
from stratac.tests.cli.models import DIMS, mlp, save

PLAN = Path("mlp.plan")
RUN = ("run", "mlp.plan", "--random", "1")


def parts() -> list[Path]:
    return sorted(p for p in PLAN.rglob("*") if p.is_file())


def fields() -> dict[str, object]:
    found: dict[str, object] = json.loads((PLAN / "manifest.json").read_bytes())
    return found


def forge_manifest(**changes: object) -> None:
    """Change fields, or what the parts hold, and make every digest right again."""
    changed = {k: v for k, v in (fields() | changes).items() if k not in ("parts", "digest")}
    write_manifest(PLAN, changed)


def forge_plan(plan: Plan) -> None:
    """Another plan.bin around the same kernels and weights."""
    header = read_header((PLAN / "plan.bin").read_bytes())
    data = encode(plan, digests=WeightDigests(resident=header["resident_digest"]), plan_id=header["plan_id"])
    (PLAN / "plan.bin").write_bytes(data)


def test_any_flipped_byte_of_any_part_is_refused(stratac: CommandLine) -> None:
    draw = random.Random(0)
    assert {"manifest.json", "plan.bin", "weights.bin", "libplan.so", "graph.txt"} <= {p.name for p in parts()}
    for path in parts():
        data = path.read_bytes()
        for at in {0, len(data) - 1, *(draw.randrange(len(data)) for _ in range(6))}:
            bad = bytearray(data)
            bad[at] ^= draw.randrange(1, 256)
            path.write_bytes(bad)
            stratac.refused(("verify", "mlp.plan", "--static"), 2, path.name, "compile the plan again")
            stratac.refused(RUN, 2, path.name, "compile the plan again")
            if path.name != "weights.bin":  # can be as large as memory, and inspect shows nothing of it
                stratac.refused(("inspect", "mlp.plan"), 2, path.name)
        path.write_bytes(data)
    stratac.good(*RUN)


def test_truncated_grown_and_removed_parts(stratac: CommandLine) -> None:
    for path in parts():
        data = path.read_bytes()
        for content in (b"", data[: len(data) // 2], data[:-1], data + b"\0"):
            path.write_bytes(content)
            for words in (("verify", "mlp.plan"), ("inspect", "mlp.plan"), RUN):
                stratac.refused(words, 2, path.name, "compile the plan again")
        path.unlink()
        said = "give the folder" if path.name == "manifest.json" else "is missing from the plan; compile the plan again"
        for words in (("verify", "mlp.plan"), ("inspect", "mlp.plan"), RUN):
            stratac.refused(words, 2, path.name, said)
        path.write_bytes(data)


def test_newer_format(stratac: CommandLine) -> None:
    whole = fields() | {"format_version": FORMAT_VERSION + 1, "stratac_version": "9.9"}
    whole.pop("digest")
    (PLAN / "manifest.json").write_bytes(canonical({**whole, "digest": manifest_digest(whole)}))
    for words in (("verify", "mlp.plan"), ("inspect", "mlp.plan"), RUN):
        stratac.refused(words, 2, f"format version {FORMAT_VERSION + 1}", "upgrade stratac", "9.9")


def test_missing_cpu_features(stratac: CommandLine) -> None:
    plan = decode((PLAN / "plan.bin").read_bytes())
    forge_plan(dataclasses.replace(plan, features=(*plan.features, "warp9")))
    forge_manifest(features=sorted([*plan.features, "warp9"]))
    stratac.refused(RUN, 3, "this CPU", "lacks warp9", "compile the model with --target native")
    assert "warp9" in stratac.good("inspect", "mlp.plan")  # reading it needs no such CPU
    stratac.good("verify", "mlp.plan", "--static")
    forge_manifest(features=list(plan.features))  # the runtime itself asks the CPU as well
    stratac.refused(RUN, 3, "lacks warp9")


def test_library_of_another_plan(stratac: CommandLine) -> None:
    save(mlp(width=16), Path("other.onnx"))
    stratac.good("compile", "other.onnx", *DIMS)
    shutil.copy("other.plan/libplan.so", PLAN / "libplan.so")
    forge_manifest()
    stratac.refused(RUN, 2, "libplan.so")
    shutil.copy("other.plan/plan.bin", PLAN / "plan.bin")
    forge_manifest()
    stratac.refused(RUN, 2, "weights.bin")
    shutil.copy("other.plan/weights.bin", PLAN / "weights.bin")
    forge_manifest()
    stratac.good(*RUN)


def test_library_that_is_none(stratac: CommandLine) -> None:
    (PLAN / "libplan.so").write_text("int main;")
    forge_manifest()
    stratac.refused(RUN, 3, "cannot load", "libplan.so", "compile the plan on this machine")
