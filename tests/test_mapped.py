"""Large tables of which runs look up few rows are pages of weights.bin; whatever reads more of them keeps them in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper
from stratac.compiler.driver import compile_model
from stratac.compiler.options import CompileOptions, default_cache
from stratac.compiler.resident import resident_by_mapping
from stratac.ir.dims import Bounds
from stratac.passes.place.request import Pin
from stratac.runtime.session import load

ROWS, WIDTH = 16384, 64  # 4 MiB
FEW, MANY = Bounds(1, 16, 512), Bounds(1, 4096, 8192)
PINNED = (Pin("table", "ram"),)


def model(path: Path, more: tuple[NodeProto, ...] = (), outputs: dict[str, list[Any]] | None = None) -> Path:
    """y = tanh(table[ids] @ w), and what `more` nodes make of the table and a number s."""
    rng = np.random.default_rng(0)
    weights = {
        "table": rng.standard_normal((ROWS, WIDTH), np.float32),
        "w": rng.standard_normal((WIDTH, 8), np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w"], ["product"]),
        helper.make_node("Tanh", ["product"], ["y"]),
        *more,
    ]
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])]
    inputs += [helper.make_tensor_value_info("s", TensorProto.FLOAT, [1])] if more else []
    results = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in {"y": ["n", 8], **(outputs or {})}.items()
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "table", inputs, results, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def compiled(source: Path, n: Bounds = FEW, **options: Any) -> Path:
    folder = source.with_name(f"{len(list(source.parent.iterdir()))}.plan")
    return compile_model(source, folder, CompileOptions(dims={"n": n}, cache=default_cache(), **options)).folder


def how(plan: Path) -> dict[str, str]:
    """How the weights of a plan get to its kernels, by label."""
    return {row["label"]: row["how"] for row in json.loads((plan / "report.json").read_text())["weights"]}


def test_a_table_is_mapped_and_gives_the_same_bits(tmp_path: Path) -> None:
    source = model(tmp_path / "m.onnx")
    mapped, kept = compiled(source), compiled(source, pins=PINNED)
    assert how(mapped) == {"table": "mapped", "w": "resident"} and how(kept) == {"table": "resident", "w": "resident"}
    memory = json.loads((mapped / "manifest.json").read_text())["memory"]
    assert memory["mapped"] == ROWS * WIDTH * 4 and memory["weights"] < 1 << 20 and memory["storage"] == 0
    ids = np.random.default_rng(1).integers(0, ROWS, 300)
    with load(mapped) as one, load(kept) as other:
        assert resident_by_mapping().get("weights.bin", 0) == 0
        for given in (ids, ids[:1], np.array([0, ROWS - 1])):
            assert one.run(None, {"ids": given})[0].tobytes() == other.run(None, {"ids": given})[0].tobytes()
        assert 0 < resident_by_mapping()["weights.bin"] <= ROWS * WIDTH * 4
        assert one.memory().total - one.memory().session == other.memory().total - other.memory().session


def test_the_same_memory_is_planned_either_way(tmp_path: Path) -> None:
    """A run may look up every row, so a budget has to have room for all of them, or they stay in storage."""
    source = model(tmp_path / "m.onnx")
    tiers = [
        json.loads((plan / "report.json").read_text())["tiers"][0]
        for plan in (compiled(source), compiled(source, pins=PINNED))
    ]
    assert tiers[0]["used"] == tiers[1]["used"]
    assert tiers[0]["parts"]["mapped"] + tiers[0]["parts"]["weights"] == tiers[1]["parts"]["weights"]
    small = compiled(source, budgets={"ram": tiers[0]["used"] - (1 << 20)})
    assert "mapped" not in how(small).values()


def test_a_table_that_is_read_whole_as_well_is_kept(tmp_path: Path) -> None:
    scaled = (helper.make_node("Mul", ["table", "s"], ["z"]),)
    assert how(compiled(model(tmp_path / "m.onnx", scaled, {"z": [ROWS, WIDTH]})))["table"] == "resident"


def test_a_table_that_is_multiplied_too_has_two_homes(tmp_path: Path) -> None:
    more = (
        helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["rows", "turned"], ["product2"]),
        helper.make_node("Mul", ["product2", "s"], ["z"]),
    )
    plan = compiled(model(tmp_path / "m.onnx", more, {"z": ["n", ROWS]}))
    rows = json.loads((plan / "report.json").read_text())["weights"]
    large = sorted((row["how"], row["format"] == "dense") for row in rows if row["bytes"] >= ROWS * WIDTH * 4)
    assert large == [("mapped", True), ("resident", False)]


def test_many_rows_are_no_few(tmp_path: Path) -> None:
    assert how(compiled(model(tmp_path / "m.onnx"), MANY))["table"] == "resident"
