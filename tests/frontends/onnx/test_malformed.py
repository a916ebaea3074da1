"""Nodes that are not what their operator's rule is for: each is refused by a check that says so, not by chance.

A row is an operator and its inputs in order: a shape (of floats), a type and a shape, a constant (numbers or lists), or None.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper

from ...fuzz_models import attempt
from .build import BOOL, FLOAT, INT64, N, array, make, save, value

MICROSOFT, ML = "com.microsoft", "ai.onnx.ml"
UINT8, DOUBLE = TensorProto.UINT8, TensorProto.DOUBLE


def odd(
    op: str, *given: Any, domain: str = "", opset: int = 22, outputs: int = 1, **attributes: Any
) -> onnx.ModelProto:
    inputs, constants, names = [], [], []
    for index, one in enumerate(given):
        names.append("" if one is None else f"i{index}")
        if isinstance(one, tuple) and len(one) == 2 and isinstance(one[1], tuple):
            inputs.append(value(names[-1], *one))
        elif isinstance(one, tuple):
            inputs.append(value(names[-1], FLOAT, one))
        elif one is not None:
            data = np.asarray(one)
            constants.append(array(names[-1], data, np.float32 if data.dtype.kind == "f" else np.int64))
    listed = {name: value for name, value in attributes.items() if value == []}
    results = ["y", *(f"y{k}" for k in range(1, outputs))]
    node = N(op, names, results, domain=domain, **{k: v for k, v in attributes.items() if k not in listed})
    for name in listed:
        kind = AttributeProto.FLOATS if name.endswith("floats") else AttributeProto.INTS
        node.attribute.append(helper.make_attribute(name, [], attr_type=kind))
    domains = [helper.make_opsetid(domain, 3)] if domain else []
    return make([node], inputs, constants=constants, opset=opset, domains=domains)


def microsoft(op: str, *given: Any, **attributes: Any) -> onnx.ModelProto:
    return odd(op, *given, domain=MICROSOFT, **attributes)


HUGE = 1 << 40
MALFORMED = {
    # what is read of a shape is there
    "half of a scalar": microsoft("BiasSplitGelu", (), ()),
    "a place that is two": microsoft("ExpandDims", (2, 3), [0, 1]),
    "nothing to add up": microsoft("SkipLayerNormalization"),
    "words of rank 3": microsoft("EmbedLayerNormalization", (INT64, (1, 2, 3)), None, (4, 2), (4, 2), None, (2,), (2,)),
    "a row of groups": microsoft("GroupNorm", (4,), (4,), (4,), groups=2, channels_last=0),
    "a projection of a vector": microsoft("Attention", (4,), (4, 12), num_heads=2),
    "a projection of vectors": microsoft("Attention", (4,), (4,), num_heads=2),
    "two of three sizes": microsoft("Attention", (1, 2, 4), (4, 12), num_heads=2, qkv_hidden_sizes=[4, 8]),
    "no sizes": microsoft("Attention", (1, 2, 4), (4, 13), num_heads=2, qkv_hidden_sizes=[]),
    "a past that is one number": microsoft("Attention", (1, 2, 4), (4, 12), None, None, (), num_heads=2),
    "a query that is a matrix": microsoft("MultiHeadAttention", (2, 3), (2, 3), (2, 3), (9,), num_heads=1),
    "a bias that is one number": microsoft("MultiHeadAttention", (1, 2, 4), (1, 2, 4), (1, 2, 4), (), num_heads=1),
    "a packed key of rank 3": microsoft("MultiHeadAttention", (1, 2, 4), (1, 2, 4), num_heads=2),
    "a cache of rank 2": microsoft(
        "GroupQueryAttention", (1, 2, 4), (1, 2, 4), (1, 2, 4), (1, 2), (1, 2, 3, 4), num_heads=1, kv_num_heads=1
    ),
    "a cache of values of rank 2": microsoft(
        "GroupQueryAttention",
        (1, 2, 4),
        (1, 2, 4),
        (1, 2, 4),
        (1, 1, 3, 4),
        (1, 2),
        (1,),
        5,
        num_heads=1,
        kv_num_heads=1,
    ),
    "a packed query that is a matrix": microsoft("GroupQueryAttention", (2, 4), num_heads=2, kv_num_heads=1),
    "angles in a row": microsoft(
        *("GroupQueryAttention", (1, 2, 4), (1, 2, 4), (1, 2, 4), None, None, None, None, (2,), (2,)),
        num_heads=1,
        kv_num_heads=1,
        do_rotary=1,
    ),
    "scales of another rank": microsoft("GatherBlockQuantized", (UINT8, (4, 8)), (INT64, (2,)), (), block_size=16),
    "zero points of another rank": microsoft(
        "GatherBlockQuantized", (UINT8, (4, 8)), (INT64, ()), (4, 1), (UINT8, (4,)), block_size=16
    ),
    "experts of a scalar": microsoft("MoE", (), (1, 2), (2, 3, 1), None, (2, 1, 3)),
    "fused experts of rank 2": microsoft(
        "MoE", (2, 4), (2, 2), (2, 4), None, (2, 4, 2), activation_type="swiglu", swiglu_fusion=1
    ),
    "whole numbers to attend to": microsoft("MultiHeadAttention", *((TensorProto.INT32, (1, 2, 4)),) * 3, num_heads=1),
    "features of a scalar": odd("LinearClassifier", (), domain=ML, coefficients=[1.0, 2.0], classlabels_ints=[0, 1]),
    "nothing to impute": odd("Imputer", (2, 3), domain=ML, imputed_value_floats=[]),
    "a filter that is a row": odd("Conv", (1, 2, 5), (4,)),
    "a filter of another rank": odd("Conv", (1, 2, 5, 5), (2, 2, 3), auto_pad="SAME_UPPER"),
    "a value for on, none for off": odd("OneHot", (INT64, (2,)), 3, 1.0),
    "rows of scales for scalars": odd(
        *("QLinearMatMul", (UINT8, ()), (3,), (UINT8, (3,)), (UINT8, (3,)), (), (UINT8, ()), (), (UINT8, ())), opset=13
    ),
    "a shape of other rank for what was pooled": odd(
        "MaxUnpool", (1, 1, 2, 2), (INT64, (1, 1, 2, 2)), [1, 4, 4], kernel_shape=[2, 2]
    ),
    "elements beside the axis": odd("GatherElements", [[1, 2, 3]], [[0, 1], [0, 1], [2, 2]], axis=1),
    "places that are no whole numbers": microsoft("GatherND", (UINT8, (6, 2)), [4.0, 2.0]),
    "an activation of whole numbers": microsoft(
        "FusedGemm", (INT64, (2, 2)), (INT64, (2, 2)), activation="Clip", activation_alpha=math.nan, activation_beta=1.0
    ),
    "a product in whole numbers of 4 bits": microsoft(
        "MatMulNBits", (TensorProto.UINT4, (5, 5)), (UINT8, (5, 4, 16)), (20,), K=128, N=5, bits=4, block_size=32
    ),
    # attributes of a length, or a value, that fits
    "two ellipses": odd("Einsum", (2, 3), equation="......->..."),
    "an output of one extent": odd("ConvTranspose", (1, 2, 5, 5), (2, 2, 3, 3), output_shape=[7]),
    "no groups": odd("ConvTranspose", (1, 2, 5), (2, 2, 3), group=0),
    "a kernel of nothing": odd("ConvTranspose", (1, 2, 5), (2, 2, 0)),
    "no blocks": odd("Col2Im", (1, 4, 4), [4, 4], [2, 2], strides=[0, 1]),
    "no hidden units": odd("LSTM", (2, 1, 3), (1, 0, 3), (1, 0, 0), hidden_size=0),
    "pools without lengths": odd(
        *("TfIdfVectorizer", (INT64, (5,))),
        mode="TF",
        min_gram_length=1,
        max_gram_length=1,
        max_skip_count=0,
        pool_int64s=[1, 2],
        ngram_counts=[],
        ngram_indexes=[0, -5],
    ),
    "skips without end": odd(
        *("TfIdfVectorizer", (INT64, (HUGE,))),
        mode="TF",
        min_gram_length=2,
        max_gram_length=2,
        max_skip_count=HUGE,
        pool_int64s=[1, 2],
        ngram_counts=[0, 0],
        ngram_indexes=[0],
    ),
    "a node of which nothing is said": odd(
        *("TreeEnsembleRegressor", (1, 2)),
        domain=ML,
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_values=[1.0, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        nodes_missing_value_tracks_true=[1],
        target_treeids=[0],
        target_nodeids=[1],
        target_ids=[0],
        target_weights=[1.0],
        n_targets=1,
    ),
    "a target beyond 32 bits": odd(
        *("TreeEnsembleRegressor", (1, 2)),
        domain=ML,
        nodes_treeids=[0],
        nodes_nodeids=[0],
        nodes_featureids=[0],
        nodes_modes=["LEAF"],
        nodes_values=[0.0],
        nodes_truenodeids=[0],
        nodes_falsenodeids=[0],
        n_targets=HUGE,
        target_treeids=[0],
        target_nodeids=[0],
        target_ids=[HUGE - 1],
        target_weights=[1.0],
    ),
    "before opset 6, two tiles": odd("Tile", (2, 3), [2, 3], [0], opset=5),
    # numbers that are none, or too large
    "a depth that is no number": odd("OneHot", (INT64, (2,)), math.nan, [0.0, 1.0]),
    "a sum along no axis": odd("CumSum", (2, 3), math.inf),
    "a transform of all there is": odd("DFT", (1, HUGE, 1)),
    "bands without end": odd("MelWeightMatrix", HUGE, 16, 8192, 0.0, 8192.0),
    "a spectrum without end": odd("MelWeightMatrix", 8, 1 << 62, 8192, 0.0, 8192.0),
    "an edge below zero": odd("MelWeightMatrix", 8, 16, 8192, -900.0, 8192.0),
    "reflections without end": odd("Pad", (3,), [HUGE, 0], mode="reflect"),
    "an edge of nothing": odd("Pad", (0,), [1, 1], mode="edge"),
    "repeated less than once": odd("Tile", [[1]], [-1, 1]),
    "a range of more steps than numbers": odd("Range", (DOUBLE, ()), (DOUBLE, ()), (DOUBLE, ())),
    "more axes than there may be": odd("Unsqueeze", (2,), list(range(70))),
    "extents for more axes than there may be": odd("Reshape", (1,), [1] * 70),
    "a constant of more axes than there may be": odd("ConstantOfShape", [1] * 70),
    "nothing, but for much of it": odd("Reshape", [[], []], [0, 1 << 62, 1 << 62], allowzero=1),
    "an input of too much of nothing": odd("Relu", (0, 1 << 62, 1 << 62)),
    "windows as long as numbers": odd("AveragePool", (1, 1, 5), kernel_shape=[1 << 62], pads=[1 << 62, 1 << 62]),
    "resized to more than is written down": odd("Resize", (1, 1, 5), None, None, [1, 1, (1 << 31) - 1], mode="linear"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(name: str, tmp_path: Path) -> None:
    assert attempt(MALFORMED[name].SerializeToString(), tmp_path / "model.onnx") == "refused"


def test_powers_beyond_all_numbers_are_left_to_the_plan(tmp_path: Path) -> None:
    for base, exponent in ((1e38, 30.5), (1e-30, -30.5)):
        model = odd("Pow", [base], [exponent])
        assert attempt(model.SerializeToString(), tmp_path / "model.onnx") == "plan"


def _loop(trips: int, *nodes: onnx.NodeProto) -> onnx.ModelProto:
    ports = [value("i", INT64, ()), value("c", BOOL, ()), value("a", FLOAT, (2,))]
    body = helper.make_graph(list(nodes), "body", ports, [value("c", BOOL, ()), value("a", FLOAT, (2,))])
    return make(
        [N("Loop", ["n", "", "x"], ["y"], body=body)],
        [value("x", FLOAT, (2,))],
        constants=[array("n", trips, np.int64)],
    )


def test_loops_of_nothing_end(tmp_path: Path) -> None:
    assert attempt(_loop(1 << 62).SerializeToString(), tmp_path / "model.onnx") == "refused"


def test_a_dim_that_is_squared_again_and_again(tmp_path: Path) -> None:
    """A shape of one extent n, squared, its square squared, ...: an expression of 2^40 factors is never written down."""
    nodes = [N("Shape", ["x"], ["s0"]), *(N("Mul", [f"s{k}", f"s{k}"], [f"s{k + 1}"]) for k in range(40))]
    model = make([*nodes, N("Identity", ["s40"], ["y"])], [value("x", FLOAT, ("n",))])
    assert attempt(model.SerializeToString(), tmp_path / "model.onnx") == "plan"


def test_a_chain_of_remainders(tmp_path: Path) -> None:
    """Each holds the one before it twice."""
    ports = [value("x", FLOAT, ("n",)), value("z", FLOAT, ("m",))]
    nodes = [N("Shape", ["x"], ["s0"]), N("Shape", ["z"], ["t"])]
    for k in range(40):
        nodes += [
            N("Mul", [f"s{k}", "t"], [f"m{k}"]),
            N("Div", [f"m{k}", "t"], [f"d{k}"]),
            N("Mod", [f"m{k}", "t"], [f"r{k}"]),
        ]
        nodes.append(N("Add", [f"d{k}", f"r{k}"], [f"s{k + 1}"]))
    model = make([*nodes, N("Identity", ["s40"], ["y"])], ports)
    assert attempt(model.SerializeToString(), tmp_path / "model.onnx") in ("plan", "refused")


def _with(change: Any) -> bytes:
    model = odd("Softmax", (2, 3), axis=1)
    change(model.graph)
    return bytes(model.SerializeToString())


def _external(graph: onnx.GraphProto, location: str) -> None:
    tensor = graph.initializer.add(name="w", data_type=FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    graph.node[0].input[0] = "w"


def _optional(graph: onnx.GraphProto) -> None:
    inner = graph.input.add(name="o").type.optional_type.elem_type.tensor_type
    inner.elem_type = FLOAT
    inner.shape.dim.add().dim_param = "????"


WRONG = {
    "an attribute twice": _with(lambda g: g.node[0].attribute.add(name="axis", type=AttributeProto.STRING, s=b"a")),
    "a reference outside of a function": _with(lambda g: setattr(g.node[0].attribute[0], "ref_attr_name", "axis")),
    "an attribute without a type": _with(lambda g: g.node[0].attribute[0].ClearField("type")),
    "a file of a name too long": _with(lambda g: _external(g, "a" * 300)),
    "a dim whose name is no text": _with(_optional).replace(b"????", b"\xff\xfe\xfd\xfc"),
    "a type whose name is no text": odd("Cast", (2,), opset=5, to=b"\xff").SerializeToString(),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name: str, tmp_path: Path) -> None:
    assert attempt(WRONG[name], tmp_path / "model.onnx") == "refused"


def test_what_no_rule_foresaw_says_so_and_keeps_its_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stratac.compiler.frontends.onnx import import_onnx
    from stratac.compiler.frontends.onnx.refusals import DEFECT
    from stratac.compiler.frontends.onnx.registry import RULES
    from stratac.ir.errors import ModelError

    monkeypatch.setitem(RULES, ("", "Relu"), lambda site: site.type().shape[7])  # type: ignore[arg-type, return-value]
    with pytest.raises(ModelError) as caught:
        import_onnx(save(tmp_path, odd("Relu", (2, 3))))
    assert caught.value.exit_code == 2 and isinstance(caught.value.__cause__, IndexError)
    assert DEFECT in str(caught.value) and "ai.onnx::Relu-22" in str(caught.value) and "f32[2, 3]" in str(caught.value)
