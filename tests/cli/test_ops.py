"""`stratac ops` and docs/operators.md, held against what the importer does."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from stratac.compiler.frontends.onnx.operators import BODY, NONE, RULE, Operator, operators
from stratac.compiler.frontends.onnx.registry import RULES
from stratac.compiler.operators import operators_page
from stratac.tests.cli.conftest import CommandLine
from stratac.tests.conformance.record import DOCS, read_record


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str], Operator]:
    return {(row.domain, row.name): row for row in operators()}


def test_the_page_is_current(rows: dict[tuple[str, str], Operator]) -> None:
    page = (DOCS / "operators.md").read_text(encoding="utf-8")
    assert page == operators_page(list(rows.values())), "run python -m stratac.compiler.operators docs/operators.md"


def test_rows(rows: dict[tuple[str, str], Operator]) -> None:
    assert {key for key, row in rows.items() if row.how == RULE} == RULES.keys()
    add, swiglu = rows["", "Add"], rows["", "SwiGLU"]
    assert (add.how, add.first, add.last) == (RULE, 1, onnx.defs.onnx_opset_version())
    assert {"f64", "f32", "f16", "bf16", "i64", "u8"} <= set(add.types["T"]) and not add.missing
    assert swiglu.how == BODY and swiglu.first == 28
    assert rows["", "Upsample"].last == 9
    assert "string" in rows["", "Reshape"].types["T"] and "c64" in rows["", "Reshape"].missing
    assert rows["ai.onnx.preview.training", "Gradient"].how == NONE
    assert ("", "Scatter") not in rows or rows["", "Scatter"].last == 10


@pytest.mark.filterwarnings("ignore")
def test_what_passes_is_listed(rows: dict[tuple[str, str], Operator]) -> None:
    """Every operator of a suite case that passes is listed, with the element types of the case."""
    from onnx.backend.test.loader import load_model_tests

    failing, checked = read_record(DOCS / "conformance.json").others, 0
    for case in load_model_tests(kind="node"):
        if f"node/{case.name}" in failing or case.model is None or len(case.model.graph.node) != 1:
            continue
        (node,) = case.model.graph.node
        if not node.attribute or all(not a.HasField("g") for a in node.attribute):
            row = rows[node.domain, node.op_type]
            assert row.how != NONE, case.name
            taken = {name for types in row.types.values() for name in types}
            for port in case.model.graph.input:
                code = port.type.tensor_type.elem_type
                name = onnx.TensorProto.DataType.Name(code) if code else ""
                refused = {_onnx_name(one) for one in row.missing} - {_onnx_name(one) for one in taken}
                assert name not in refused, f"{case.name}: {name}"
            checked += 1
    assert checked > 500


def _onnx_name(dtype: str) -> str:
    from stratac.ir.types import DTYPES

    return onnx.TensorProto.DataType.Name(DTYPES[dtype].onnx) if dtype in DTYPES else dtype


def test_the_command(stratac: CommandLine) -> None:
    text = stratac.good("ops")
    assert "ai.onnx::Softmax" in text and " operators compile, for cpu; not taken:" in text
    listed = json.loads(stratac.good("ops", "--json"))
    (relu,) = [row for row in listed if row["op"] == "Relu" and row["domain"] == ""]
    assert relu["devices"] == ["cpu"] and "f32" in relu["types"]["T"] and relu["opsets"][0] == 1
    assert Path(DOCS / "operators.md").is_file()
