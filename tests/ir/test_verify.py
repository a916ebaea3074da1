"""One broken graph for each rule of the verifier."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stratac.ir.dims import symbol
from stratac.ir.errors import VerifyError
from stratac.ir.graph import Derived, FileBytes, Graph, Inline, Node, Port
from stratac.ir.ops import OPS
from stratac.ir.parse import parse_graph
from stratac.ir.types import DType, TensorType, f32
from stratac.ir.verify import LEVELS, verify_graph
from stratac.tests.random_graphs import Sample, clustered, random_graphs

GOOD = """
graph @good {
  dim s = 1:4:8
  input %x "x" : f32[s, 4]
  weight %w : f32[4, 2] = file "data.bin" @ 0 + 32
  weight %t : f32[2, 4] = transpose(%w) {perm = (1, 0)}
  weight %b : f32[2] = [1.0, 2.0]
  %y = matmul(%x, %w) : f32[s, 2] @ "m.onnx":"product"
  %z = add(%y, %b) : f32[s, 2] @ "m.onnx":"sum"
  %u = matmul(%z, %t) : f32[s, 4]
  output "u" = %u
}
"""
CLUSTERS = """
graph @clusters {
  dim s = 1:4:8
  input %x "x" : f32[s, 4]
  %b = cluster(%x) : f32[s, 4] {
    %a = relu(%x) : f32[s, 4]
    %b = neg(%a) : f32[s, 4]
  }
  %d = cluster(%b) : f32[s, 4] @ "m.onnx":"second" {
    %d = exp(%b) : f32[s, 4]
  }
  output "d" = %d
}
"""


def test_good_graphs_pass() -> None:
    verify_graph(parse_graph(GOOD))
    verify_graph(parse_graph(CLUSTERS), level="clusters")


TEXT = [
    (GOOD, "graph", "%y = matmul(%x, %w)", "%y = matmul(%z, %w)", "reads %z, before or outside its definition"),
    (GOOD, "graph", "%y = matmul(%x, %w)", "%y = matmul(%nil, %w)", "reads %nil, but nothing defines it"),
    (GOOD, "graph", "%z = add(%y, %b) : f32[s, 2]", "%y = add(%y, %b) : f32[s, 2]", "%y is defined twice"),
    (GOOD, "graph", "%z = add(%y, %b) : f32[s, 2]", "%z = add(%y, %b) : f32[s, 3]", r"declared f32\[s, 3\], expected"),
    (GOOD, "graph", "%z = add(%y, %b)", "%z = plus(%y, %b)", "unknown op 'plus'"),
    (GOOD, "graph", "%z = add(%y, %b)", "%z = add(%y)", "takes 2 to 2 inputs, got 1"),
    (GOOD, "graph", "%z = add(%y, %b)", "%z = add(%y, %b) {axis = 1}", "has no attribute 'axis'"),
    (GOOD, "graph", "%z = add(%y, %b)", "%z = add(%y, %t)", "%z: shapes .* do not broadcast"),
    (
        GOOD,
        "graph",
        "%z = add(%y, %b) : f32[s, 2]",
        "%z, %v = add(%y, %b) : f32[s, 2], f32[2]",
        "2 outputs, expected 1",
    ),
    (GOOD, "graph", '"sum"', '"sum" { %q = relu(%x) : f32[s, 4] }', "only clusters may"),
    (GOOD, "graph", 'input %x "x" : f32[s, 4]', 'input %x "x" : f32[q, 4]', "symbol 'q', which is not declared"),
    (GOOD, "graph", "f32[s, 4]\n", "f32[s - 9, 4]\n", "extent s - 9, which is negative"),
    (GOOD, "graph", "f32[s, 4]\n", "f32[s, 4, floordiv(s, s - 10)]\n", "which is not positive"),
    (GOOD, "graph", "dim s =", "dim f32 = 1:1:1 dim s =", "may not be called 'f32'"),
    (GOOD, "graph", 'output "u" = %u', 'output "u" = %q', "output 'u' is %q, but nothing defines it"),
    (GOOD, "graph", 'output "u" = %u', 'output "u" = %u output "u" = %z', "two outputs are called 'u'"),
    (GOOD, "graph", 'output "u"', 'output ""', "an output has no name"),
    (GOOD, "graph", "weight %w", 'input %v "x" : f32[1] weight %w', "two inputs are called 'x'"),
    (GOOD, "graph", '"x"', '""', "an input has no name"),
    (GOOD, "graph", "@ 0 + 32", "@ 0 + 31", "refers to 31 bytes at 0, expected 32"),
    (GOOD, "graph", '"data.bin"', '"../data.bin"', "within the model's folder"),
    (GOOD, "graph", '"data.bin"', '"/data.bin"', "within the model's folder"),
    (GOOD, "graph", "[1.0, 2.0]", "[1.0]", "holds 4 bytes, expected 8"),
    (GOOD, "graph", "%b : f32[2]", "%b : f32[s]", "weights have constant shapes"),
    (GOOD, "graph", "transpose(%w)", "transpose(%t)", "%t is derived from itself"),
    (GOOD, "graph", "transpose(%w)", "transpose(%x)", "derived from %x, which is no weight"),
    (GOOD, "graph", "transpose(%w)", "turn(%w)", "derived by the unknown op 'turn'"),
    (GOOD, "graph", "perm = (1, 0)", "perm = (0, 1)", r"declared f32\[2, 4\], expected f32\[4, 2\]"),
    (GOOD, "graph", "perm = (1, 0)", "perm = (0, 0)", "no permutation"),
    (GOOD, "clusters", "", "", "a contraction op may not stand at the top"),
    (CLUSTERS, "graph", "", "", "a cluster op may not stand at the top"),
    (CLUSTERS, "clusters", "cluster(%x)", "cluster()", "reads %x, which its cluster does not list"),
    (CLUSTERS, "clusters", "cluster(%x)", "cluster(%x, %x)", "lists each input once"),
    (
        CLUSTERS,
        "clusters",
        "%b = cluster(%x) : f32[s, 4]",
        "%b, %b = cluster(%x) : f32[s, 4], f32[s, 4]",
        "each output once",
    ),
    (CLUSTERS, "clusters", "%d = exp(%b)", "%d = exp(%a)", "reads %a, which its cluster does not list"),
    (CLUSTERS, "clusters", "cluster(%b)", "cluster(%a)", "reads %a, before or outside its definition"),
    (CLUSTERS, "clusters", "%d = cluster(%b)", "%c = cluster(%b)", "does not define its output %c"),
    (CLUSTERS, "clusters", "%d = exp(%b)", "%d = cluster(%b)", "clusters do not nest"),
    (CLUSTERS, "clusters", "%d = exp(%b) : f32[s, 4]\n", "", "needs a body"),
    (CLUSTERS, "clusters", "%d = exp(%b)", "%a = exp(%b)", "%a is defined twice"),
    (CLUSTERS, "clusters", 'output "d" = %d', 'output "d" = %a', "output 'd' is %a, but it is local to a cluster"),
]


@pytest.mark.parametrize(("text", "level", "old", "new", "match"), TEXT, ids=[case[4] for case in TEXT])
def test_each_rule(text: str, level: str, old: str, new: str, match: str) -> None:
    assert old in text
    with pytest.raises(VerifyError, match=match):
        verify_graph(parse_graph(text.replace(old, new)), level=level, pass_name="p")


def test_rules_the_grammar_cannot_break() -> None:
    graph = parse_graph(GOOD)
    add = graph.nodes[1]

    def refuses(match: str, **changes: object) -> None:
        with pytest.raises(VerifyError, match=match):
            verify_graph(replace(graph, **changes))  # type: ignore[arg-type]

    def with_node(node: Node) -> dict[str, object]:
        return {"nodes": (graph.nodes[0], node, graph.nodes[2])}

    w = graph.weights["w"]
    refuses("nothing defines", types={**graph.types, "ghost": TensorType(f32, ())})
    refuses("has no type", types={k: v for k, v in graph.types.items() if k != "z"})
    refuses("input 'x' .* has no type", types={k: v for k, v in graph.types.items() if k != "x"})
    refuses("called 'w'", weights={**graph.weights, "other": w})
    refuses("not an identifier|may not be called", symbols={**graph.symbols, "a b": graph.symbols["s"]})
    refuses("-1", weights={**graph.weights, "w": replace(w, content=FileBytes("data.bin", -1, 32))})
    refuses("holds 1 bytes", weights={**graph.weights, "w": replace(w, content=Inline(b"0"))})
    fake = TensorType(DType("f33", 32, "float", "float32", "float", 1), (symbol("s"), 4))
    refuses("unknown element type f33", types={**graph.types, "x": fake})
    odd = TensorType(f32, (True, 4))
    refuses("expected an int or a dim", types={**graph.types, "x": odd})
    refuses("without a name", **with_node(replace(add, outputs=("",))))
    refuses("has no text form", **with_node(replace(add, attrs=(("a", [1]),))))  # type: ignore[arg-type]
    refuses("not sorted", **with_node(replace(add, attrs=(("b", 1), ("a", 1)))))
    refuses("not sorted", **with_node(replace(add, attrs=(("a", 1), ("a", 1)))))
    refuses("'q', which is not declared", **with_node(replace(add, attrs=(("a", (symbol("q"),)),))))
    refuses(
        "%nil, which is no weight",
        weights={**graph.weights, "t": replace(w, name="t", type=graph.types["t"], content=Derived("neg", ("nil",)))},
    )
    refuses("is missing", **with_node(replace(add, inputs=("", "b"))))
    with pytest.raises(ValueError, match="level must be one of"):
        verify_graph(graph, level="nowhere")


def test_errors_name_pass_op_level_and_source() -> None:
    broken = parse_graph(GOOD.replace("%z = add(%y, %b) : f32[s, 2]", "%z = add(%y, %b) : f32[s, 3]"))
    with pytest.raises(VerifyError) as caught:
        verify_graph(broken, pass_name="fuse")
    assert (caught.value.pass_name, caught.value.op, caught.value.level) == ("fuse", "add", "graph")
    assert "after pass fuse" in str(caught.value) and "m.onnx:sum" in str(caught.value)
    broken = parse_graph(GOOD.replace("%z = add(%y, %b)", "%z = add(%y, %t)"))
    with pytest.raises(VerifyError) as caught:
        verify_graph(broken, pass_name="fuse")
    assert (caught.value.pass_name, caught.value.op, caught.value.level) == ("fuse", "add", "graph")
    assert "m.onnx:sum" in str(caught.value)


def test_deep_derivations_are_no_cycle() -> None:
    graph = parse_graph(GOOD)
    weights = dict(graph.weights)
    for i in range(300):
        weights[f"n{i}"] = replace(weights["b"], name=f"n{i}", content=Derived("neg", (f"n{i - 1}" if i else "b",)))
    types = dict(graph.types) | {name: weight.type for name, weight in weights.items()}
    backwards = dict(reversed(weights.items()))
    verify_graph(Graph("deep", graph.symbols, graph.inputs, graph.outputs, backwards, graph.nodes, types))


def test_legality_covers_every_category() -> None:
    categories = {row.category for row in OPS.values()}
    assert LEVELS["graph"].top == LEVELS["clusters"].body == categories
    assert Port("a", "b") == Port("a", "b")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(random_graphs(), st.sets(st.integers(1, 20), max_size=4))
def test_random_graphs_pass(sample: Sample, cuts: set[int]) -> None:
    verify_graph(sample.graph)
    verify_graph(clustered(sample.graph, cuts), level="clusters")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(random_graphs(), st.data())
def test_any_wrong_annotation_is_found(sample: Sample, data: st.DataObject) -> None:
    graph = sample.graph
    made = sorted(value for node in graph.nodes for value in node.outputs)
    value = data.draw(st.sampled_from(made))
    kind = graph.types[value]
    wrong = replace(graph, types={**graph.types, value: replace(kind, shape=(*kind.shape, 2))})
    with pytest.raises(VerifyError):
        verify_graph(wrong)
