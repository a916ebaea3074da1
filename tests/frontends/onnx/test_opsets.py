"""Rules over the history of their operators: attributes that became inputs, changed defaults, new semantics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from stratac.ir.dims import Bounds
from stratac.tests.frontends.onnx.build import BOOL, FLOAT, INT64, N, array, check, make, ops, rand, value

NEWEST = onnx.defs.onnx_opset_version()
B = {"n": Bounds(1, 2, 8)}


def one(folder: Path, node: onnx.NodeProto, x: np.ndarray, opset: int, constants=(), dynamic: bool = False, **more):
    """A model of one node over one float input."""
    shape = ["n", *x.shape[1:]] if dynamic else x.shape
    outputs = [o for o in node.output if o]
    model = make([node], [value("x", FLOAT, shape)], outputs, constants, opset)
    return check(folder, model, {"x": x}, B if dynamic else None, **more)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 18, 21, NEWEST])
@pytest.mark.parametrize("op", ["Relu", "Exp", "Sqrt", "Tanh", "Abs", "Neg", "Floor", "Sigmoid", "Softplus", "Selu"])
def test_unary(tmp_path: Path, op: str, opset: int) -> None:
    one(tmp_path, N(op, ["x"], ["y"]), np.abs(rand(2, 3)) + 0.1, opset)


@pytest.mark.parametrize("opset", [7, 13, 18, NEWEST])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow"])
def test_binary(tmp_path: Path, op: str, opset: int) -> None:
    one(tmp_path, N(op, ["x", "c"], ["y"]), np.abs(rand(2, 3)) + 1, opset, [array("c", [1.5, 2.0, 0.5], np.float32)])


@pytest.mark.parametrize("opset", [7, 10, 11, 13, 18, NEWEST])
def test_clip(tmp_path: Path, opset: int) -> None:
    if opset < 11:
        graph = one(tmp_path, N("Clip", ["x"], ["y"], min=-0.5, max=0.5), rand(3, 4), opset)
    else:
        limits = [array("lo", -0.5, np.float32), array("hi", 0.5, np.float32)]
        graph = one(tmp_path, N("Clip", ["x", "lo", "hi"], ["y"]), rand(3, 4), opset, limits)
        one(tmp_path, N("Clip", ["x", "", "hi"], ["y"]), rand(3, 4), opset, limits[1:])
    assert ops(graph) == ["clip"]


@pytest.mark.parametrize("opset", [7, 11, 12, 13, 18, NEWEST])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax(tmp_path: Path, op: str, opset: int, axis: int | None) -> None:
    if opset < 11 and axis == -1:
        pytest.skip("negative axes came with opset 11")
    attributes = {} if axis is None else {"axis": axis}
    one(tmp_path, N(op, ["x"], ["y"], **attributes), rand(2, 3, 4), opset, dynamic=axis != 0 or opset >= 13)


@pytest.mark.parametrize("opset", [7, 11, 13, 18, NEWEST])
@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp", "ReduceL1"])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reduce(tmp_path: Path, op: str, opset: int, keepdims: int) -> None:
    if opset >= (13 if op == "ReduceSum" else 18):
        node, constants = N(op, ["x", "a"], ["y"], keepdims=keepdims), [array("a", [1, 2], np.int64)]
    else:
        node, constants = N(op, ["x"], ["y"], axes=[1, 2], keepdims=keepdims), []
    one(tmp_path, node, rand(2, 3, 4), opset, constants, dynamic=True)
    one(tmp_path, N(op, ["x"], ["y"], keepdims=keepdims), rand(2, 3, 4), opset)


@pytest.mark.parametrize("opset", [7, 11, 13, 21, NEWEST])
def test_squeeze_unsqueeze(tmp_path: Path, opset: int) -> None:
    x = rand(2, 1, 3)
    if opset >= 13:
        axes = [array("a", [1], np.int64)]
        one(tmp_path, N("Squeeze", ["x", "a"], ["y"]), x, opset, axes, dynamic=True)
        one(tmp_path, N("Unsqueeze", ["x", "a"], ["y"]), x, opset, axes, dynamic=True)
    else:
        one(tmp_path, N("Squeeze", ["x"], ["y"], axes=[1]), x, opset, dynamic=True)
        one(tmp_path, N("Unsqueeze", ["x"], ["y"], axes=[0, 4]), x, opset, dynamic=True)
    one(tmp_path, N("Squeeze", ["x"], ["y"]), x, opset)


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 13, NEWEST])
def test_slice(tmp_path: Path, opset: int) -> None:
    x = rand(4, 6, 5)
    if opset < 10:
        one(tmp_path, N("Slice", ["x"], ["y"], starts=[1, -3], ends=[5, 1000], axes=[1, 2]), x, opset, dynamic=True)
        return
    parts = {"s": [1, -3], "e": [5, 2**31 - 1], "a": [1, 2], "p": [2, 1]}
    constants = [array(k, v, np.int64) for k, v in parts.items()]
    graph = one(tmp_path, N("Slice", ["x", *parts], ["y"]), x, opset, constants, dynamic=True)
    assert ops(graph) == ["slice", "slice"]
    backwards = {"s": [-1], "e": [-(2**62)], "a": [1], "p": [-2]}
    constants = [array(k, v, np.int64) for k, v in backwards.items()]
    one(tmp_path, N("Slice", ["x", *backwards], ["y"]), x, opset, constants)


@pytest.mark.parametrize("opset", [7, 11, 13, 18, NEWEST])
def test_split(tmp_path: Path, opset: int) -> None:
    x, outs = rand(2, 6), ["y", "z"]
    if opset < 13:
        one(tmp_path, N("Split", ["x"], outs, axis=1, split=[2, 4]), x, opset, dynamic=True)
    else:
        one(tmp_path, N("Split", ["x", "s"], outs, axis=1), x, opset, [array("s", [2, 4], np.int64)], dynamic=True)
    if opset >= 18:
        one(tmp_path, N("Split", ["x"], ["y", "z", "w", "v"], axis=1, num_outputs=4), rand(2, 7), opset)
    else:
        one(tmp_path, N("Split", ["x"], outs, axis=1), x, opset)


@pytest.mark.parametrize("opset", [7, 10, 12, 13, NEWEST])
def test_dropout_is_identity(tmp_path: Path, opset: int) -> None:
    model = make([N("Dropout", ["x"], ["d", "m"]), N("Relu", ["d"], ["y"])], [value("x", FLOAT, (2, 3))], opset=opset)
    assert ops(check(tmp_path, model, {"x": rand(2, 3)})) == ["relu"]


@pytest.mark.parametrize("opset", [7, 9, 14, 15, NEWEST])
def test_batch_normalization(tmp_path: Path, opset: int) -> None:
    constants = [array(n, np.abs(rand(3, seed=i)) + 0.5) for i, n in enumerate("sbmv")]
    node = N("BatchNormalization", ["x", *"sbmv"], ["y"], epsilon=1e-3)
    assert ops(one(tmp_path, node, rand(2, 3, 4, 5), opset, constants, dynamic=True)) == ["batch_norm"]


@pytest.mark.parametrize("opset", [7, 11, 13, 18, 19, NEWEST])
def test_pad(tmp_path: Path, opset: int) -> None:
    x = rand(2, 4, 5)
    if opset < 11:
        one(tmp_path, N("Pad", ["x"], ["y"], pads=[0, 1, -1, 0, 0, 2], value=1.5), x, opset, dynamic=True)
        return
    first = -1 if opset < NEWEST else 0  # the reference of the newest opset cannot cut
    constants = [array("p", [0, 1, first, 0, 0, 2], np.int64), array("v", 1.5, np.float32)]
    one(tmp_path, N("Pad", ["x", "p", "v"], ["y"]), x, opset, constants, dynamic=True)
    for mode in ("reflect", "edge"):
        constants = [array("p", [0, 0, 2, 0, 0, 1], np.int64)]
        one(tmp_path, N("Pad", ["x", "p"], ["y"], mode=mode), x, opset, constants, dynamic=True)
    if opset >= 18:
        constants = [array("p", [2, 1], np.int64), array("a", [-1], np.int64)]
        one(tmp_path, N("Pad", ["x", "p", "", "a"], ["y"]), x, opset, constants, dynamic=True)


@pytest.mark.parametrize("opset", [7, 13, 19, NEWEST])
def test_cast_and_compare(tmp_path: Path, opset: int) -> None:
    nodes = [N("Cast", ["x"], ["i"], to=INT64), N("Less", ["x", "c"], ["l"]), N("Cast", ["l"], ["f"], to=FLOAT)]
    if opset >= 11:
        nodes.append(N("Equal", ["x", "x"], ["e"]))
    else:
        nodes.append(N("Not", ["l"], ["e"]))
    model = make(nodes, [value("x", FLOAT, (2, 3))], ["i", "f", "e"], [array("c", 0.1, np.float32)], opset)
    check(tmp_path, model, {"x": rand(2, 3) * 3})


@pytest.mark.parametrize("opset", [7, 11, 13, NEWEST])
def test_gemm(tmp_path: Path, opset: int) -> None:
    constants = [array("w", rand(4, 3)), array("c", rand(4))]
    node = N("Gemm", ["x", "w", "c"], ["y"], alpha=0.5, beta=2.0, transB=1)
    graph = one(tmp_path, node, rand(2, 3), opset, constants, dynamic=True)
    assert ops(graph) == ["transpose", "matmul", "mul", "mul", "add"]
    one(tmp_path, N("Gemm", ["x", "w", "c"], ["y"], transA=1, transB=1), rand(3, 2), opset, constants)


@pytest.mark.parametrize("opset", [8, 9, 13, NEWEST])
def test_where_and_expand(tmp_path: Path, opset: int) -> None:
    nodes = [N("Expand", ["x", "s"], ["e"])]
    if opset >= 9:
        nodes.append(N("Where", ["b", "e", "c"], ["y"]))
    else:
        nodes.append(N("Add", ["e", "c"], ["y"]))
    inputs = [value("x", FLOAT, (3, 1)), value("b", BOOL, (2, 3, 4))]
    constants = [array("s", [2, 1, 4], np.int64), array("c", -1.0, np.float32)]
    condition = rand(2, 3, 4) > 0
    check(tmp_path, make(nodes, inputs, ["y"], constants, opset), {"x": rand(3, 1), "b": condition})


@pytest.mark.parametrize("opset", [17, 20, 23, NEWEST])
def test_layer_normalization(tmp_path: Path, opset: int) -> None:
    constants = [array("s", rand(4)), array("b", rand(4, seed=1))]
    node = N("LayerNormalization", ["x", "s", "b"], ["y"], epsilon=1e-4)
    assert ops(one(tmp_path, node, rand(2, 3, 4), opset, constants, dynamic=True)) == ["layer_norm"]


@pytest.mark.parametrize("opset", [18, 20, 21, NEWEST])
def test_group_normalization(tmp_path: Path, opset: int) -> None:
    size = 2 if opset < 21 else 4
    constants = [array("s", rand(size)), array("b", rand(size, seed=1))]
    x = rand(2, 4, 3, 3)
    grouped = x.reshape(2, 2, -1)
    normal = (grouped - grouped.mean(-1, keepdims=True)) / np.sqrt(grouped.var(-1, keepdims=True) + 1e-5)
    scale, bias = (np.repeat(rand(size, seed=i), 4 // size)[None, :, None, None] for i in (0, 1))
    expected = normal.reshape(x.shape) * scale + bias
    node = N("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)
    one(tmp_path, node, x, opset, constants, dynamic=True, expected=[expected])


@pytest.mark.parametrize("opset", [7, 8, 10, 12, NEWEST])
def test_max_pool(tmp_path: Path, opset: int) -> None:
    node = N("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 2])
    one(tmp_path, node, rand(2, 3, 8, 9), opset, dynamic=True)
    if opset >= 10:
        node = N("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], dilations=[2, 1], ceil_mode=1)
        one(tmp_path, node, rand(2, 3, 8, 9), opset, dynamic=True)


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("ceil_mode", [0, 1])
@pytest.mark.parametrize("opset", [10, 19, NEWEST])
def test_average_pool(tmp_path: Path, opset: int, ceil_mode: int, include: int) -> None:
    more = {"ceil_mode": ceil_mode, "count_include_pad": include, "pads": [1, 1, 1, 1], "strides": [2, 2]}
    node = N("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], **more)
    one(tmp_path, node, rand(1, 2, 6, 7), opset)


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
@pytest.mark.parametrize("opset", [7, 11, NEWEST])
def test_conv_auto_pad(tmp_path: Path, opset: int, auto: str) -> None:
    node = N("Conv", ["x", "w", "b"], ["y"], auto_pad=auto, strides=[2, 3])
    constants = [array("w", rand(4, 3, 3, 2)), array("b", rand(4))]
    one(tmp_path, node, rand(2, 3, 8, 10), opset, constants, dynamic=True)


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_conv_ranks_and_groups(tmp_path: Path, spatial: int) -> None:
    pads = [1, 0, 2][:spatial] + [0, 2, 1][:spatial]
    node = N("Conv", ["x", "w"], ["y"], group=2, pads=pads, dilations=[2, 1, 1][:spatial])
    weight = array("w", rand(6, 2, *[3, 2, 2][:spatial]))
    one(tmp_path, node, rand(2, 4, *[7, 6, 5][:spatial]), 18, [weight], dynamic=True)


def test_same_with_a_dynamic_extent_is_exact_for_stride_one(tmp_path: Path) -> None:
    model = make(
        [N("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER")],
        [value("x", FLOAT, (1, 2, "h"))],
        constants=[array("w", rand(2, 2, 4))],
    )
    check(tmp_path, model, {"x": rand(1, 2, 9)}, {"h": Bounds(4, 9, 20)})


@pytest.mark.parametrize("opset", [11, 13, NEWEST])
def test_cumsum_argmax(tmp_path: Path, opset: int) -> None:
    axis = [array("a", 1, np.int64)]
    one(tmp_path, N("CumSum", ["x", "a"], ["y"], exclusive=1, reverse=1), rand(2, 5), opset, axis, dynamic=True)
    one(tmp_path, N("ArgMax", ["x"], ["y"], axis=-1, keepdims=0), rand(2, 5), opset, dynamic=True)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("bhqd,bhkd->bhqk", [(2, 2, 3, 4), (2, 2, 5, 4)]),
        ("bqhd,bkhd->bhqk", [(2, 3, 2, 4), (2, 5, 2, 4)]),
        ("...ij,jk", [(2, 2, 3, 4), (4, 5)]),
        ("ij->ji", [(2, 3)]),
        ("bij->b", [(2, 3, 4)]),
        ("i,j->ij", [(2,), (3,)]),
        ("ab,bc,cd->ad", [(2, 3), (3, 4), (4, 5)]),
        ("bij,bij->bij", [(2, 3, 4), (2, 3, 4)]),
    ],
)
def test_einsum(tmp_path: Path, equation: str, shapes: list[tuple[int, ...]]) -> None:
    names = [f"x{i}" for i in range(len(shapes))]
    model = make(
        [N("Einsum", names, ["y"], equation=equation)],
        [value(n, FLOAT, s) for n, s in zip(names, shapes, strict=True)],
    )
    check(tmp_path, model, {n: rand(*s, seed=i) for i, (n, s) in enumerate(zip(names, shapes, strict=True))})


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("masked", ["", "float", "bool"])
def test_attention(tmp_path: Path, causal: int, masked: str) -> None:
    mask = [] if not masked else [array("m", rand(3, 5) if masked == "float" else np.tri(3, 5, 2, dtype=bool))]
    node = N(
        "Attention", ["q", "k", "v", *(["m"] if masked else [])], ["y"], is_causal=causal, q_num_heads=4, kv_num_heads=2
    )
    shapes = {"q": ("n", 3, 32), "k": ("n", 5, 16), "v": ("n", 5, 16)}
    model = make([node], [value(n, FLOAT, s) for n, s in shapes.items()], constants=mask, opset=23)
    feeds = {n: rand(2, *s[1:], seed=i) for i, (n, s) in enumerate(shapes.items())}  # type: ignore[arg-type]
    assert "attention" in ops(check(tmp_path, model, feeds, B))


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding(tmp_path: Path, interleaved: int) -> None:
    node = N("RotaryEmbedding", ["x", "c", "s"], ["y"], interleaved=interleaved, num_heads=2)
    inputs = [value("x", FLOAT, (2, 3, 16)), value("c", FLOAT, (2, 3, 4)), value("s", FLOAT, (2, 3, 4))]
    feeds = {"x": rand(2, 3, 16), "c": rand(2, 3, 4, seed=1), "s": rand(2, 3, 4, seed=2)}
    assert "rotary" in ops(check(tmp_path, make([node], inputs, opset=23), feeds))


def test_functions_are_inlined(tmp_path: Path) -> None:
    from onnx import helper

    local = helper.make_function(
        "my", "Twice", ["a"], ["b"], [N("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 18)]
    )
    nodes = [N("Twice", ["x"], ["t"], domain="my"), N("MeanVarianceNormalization", ["t"], ["y"])]
    more = {"domains": [helper.make_opsetid("my", 1)], "functions": [local]}
    model = make(nodes, [value("x", FLOAT, ("n", 3, 4, 4))], opset=18, **more)
    check(tmp_path, model, {"x": rand(2, 3, 4, 4)}, B)


def test_a_decided_if_takes_its_branch(tmp_path: Path) -> None:
    from onnx import helper

    def branch(op: str) -> onnx.GraphProto:
        return helper.make_graph([N(op, ["x"], [op])], op, [], [helper.make_empty_tensor_value_info(op)])

    nodes = [
        N("Shape", ["x"], ["s"]),
        N("Size", ["s"], ["r"]),
        N("Equal", ["r", "two"], ["c"]),
        N("If", ["c"], ["y"], then_branch=branch("Relu"), else_branch=branch("Neg")),
    ]
    model = make(nodes, [value("x", FLOAT, ("n", 3))], constants=[array("two", 2, np.int64)])
    assert ops(check(tmp_path, model, {"x": rand(2, 3)}, B)) == ["relu"]


@pytest.mark.parametrize("opset", [7, 11, 21])
@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2, 2], "kernel_shape": [2, 2]},
        {"strides": [2, 1], "pads": [1, 0, 0, 2], "output_padding": [1, 0]},
        {"strides": [3, 2], "pads": [3, 3, 3, 3]},
        {"dilations": [2, 1], "group": 2},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"strides": [2, 2], "output_shape": [9, 12]},
    ],
)
def test_conv_transpose(tmp_path: Path, opset: int, attributes: dict[str, object]) -> None:
    size = 2 if "kernel_shape" in attributes else 3
    constants = [array("w", rand(4, 3, size, size)), array("b", rand(3 * int(attributes.get("group", 1))))]
    node = N("ConvTranspose", ["x", "w", "b"], ["y"], **attributes)
    one(tmp_path, node, rand(2, 4, 5, 6), opset, constants, dynamic=True)


@pytest.mark.parametrize("opset", [10, 11, 13, 18, 19, NEWEST])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scale", [2.0, 0.5, 1.5])
def test_resize(tmp_path: Path, opset: int, mode: str, scale: float) -> None:
    scales = array("s", [1, 1, scale, 2.0], np.float32)
    roi = [array("roi", [], np.float32)] if opset == 11 else []  # not optional then
    names = ["x", "s"] if opset == 10 else ["x", "roi" if roi else "", "s"]
    graph = one(tmp_path, N("Resize", names, ["y"], mode=mode), rand(2, 3, 6, 4), opset, [scales, *roi], dynamic=True)
    if mode == "nearest" and scale == 2.0:
        assert set(ops(graph)) == {"reshape", "expand"}


def test_resize_of_dynamic_extents_repeats_elements(tmp_path: Path) -> None:
    """torch's interpolate(scale_factor=2) over a dynamic image, sizes computed from the shape."""
    nodes = [
        N("Shape", ["x"], ["lead"], start=0, end=2),
        N("Shape", ["x"], ["image"], start=2),
        N("Mul", ["image", "two"], ["grown"]),
        N("Concat", ["lead", "grown"], ["sizes"], axis=0),
        N("Resize", ["x", "", "", "sizes"], ["y"], coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    ]
    model = make(nodes, [value("x", FLOAT, (1, 2, "h", "w"))], constants=[array("two", 2, np.int64)])
    check(tmp_path, model, {"x": rand(1, 2, 3, 5)}, {"h": Bounds(1, 3, 9), "w": Bounds(1, 5, 9)})


@pytest.mark.parametrize("opset", [10, 13, 19, NEWEST])
def test_quantize_and_dequantize(tmp_path: Path, opset: int) -> None:
    per_axis = opset >= 13
    scale = array("s", [0.1, 0.2, 0.05] if per_axis else 0.1, np.float32)
    zero = array("z", [3, -4, 0] if per_axis else 5, np.int8)
    nodes = [N("QuantizeLinear", ["x", "s", "z"], ["q"]), N("DequantizeLinear", ["q", "s", "z"], ["y"])]
    model = make(nodes, [value("x", FLOAT, ("n", 3, 4))], ["q", "y"], [scale, zero], opset)
    check(tmp_path, model, {"x": rand(2, 3, 4) * 20}, B)


def test_attention_with_a_cache(tmp_path: Path) -> None:
    node = N("Attention", ["q", "k", "v", "", "pk", "pv"], ["y", "k2", "v2"], is_causal=1)
    shapes = {"q": ("n", 2, 3, 8), "k": ("n", 2, 3, 8), "v": ("n", 2, 3, 8), "pk": ("n", 2, "past", 8)}
    shapes["pv"] = shapes["pk"]
    model = make([node], [value(n, FLOAT, s) for n, s in shapes.items()], ["y", "k2", "v2"], opset=24)
    feeds = {n: rand(2, 2, 4 if n[0] == "p" else 3, 8, seed=i) for i, n in enumerate(shapes)}
    graph = check(tmp_path, model, feeds, {**B, "past": Bounds(0, 4, 64)})
    assert ops(graph) == ["concat", "concat", "attention"]
