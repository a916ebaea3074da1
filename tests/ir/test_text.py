"""The text of graphs: print -> parse -> print is the identity, and errors say where and what was expected."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stratac.ir.builder import GraphBuilder
from stratac.ir.errors import Source
from stratac.ir.graph import Attr, Derived, FileBytes, Graph, Inline, Node, Port, Weight, make_attrs
from stratac.ir.lexer import Lexer, ParseError, parse
from stratac.ir.parse import parse_graph, read_attr, read_source
from stratac.ir.text import RESERVED, attr_text, print_graph, source_text
from stratac.ir.types import DTYPES, TensorType, f32
from stratac.ir.verify import verify_graph
from stratac.tests.random_graphs import Sample, clustered, random_graphs

EXAMPLE = r"""
graph @"mini lm" {            # comments do not survive
  dim batch = 1:8:32
  dim seq = 1:128:512
  input %0 "input_ids" : i64[batch, seq]
  input %mask "attention mask" : f32[batch, 1, 1, seq]
  weight %w "embeddings.\"word\"" : f32[100, 8] = file "model.onnx.data" @ 1024 + 3200
  weight %t : f32[8, 100] = transpose(%w) {perm = (1, 0)}
  weight %scale : f32[8] = [1, 1.5, -0.0, inf, -inf, 1e-45, 3.4028235e+38, 0.1]
  weight %quiet : f32[1] = hex "0000c07f"
  weight %flags : bool[2] = [true, false]
  weight %none : i64[0] = []
  weight %half : bf16[2] = hex "803f0040"
  %1 = gather(%w, %0) {axis = 0} : f32[batch, seq, 8] @ "model.onnx":"/emb/Gather"
  %"odd name/1" = layer_norm(%1, %scale, _) {epsilon = 1e-05, axis = -1} : f32[batch, seq, 8]
  %3 = reshape(%"odd name/1") {shape = (batch*seq, 8)} : f32[batch*seq, 8] @ :"view"
  %4, %5 = cluster(%3, %t) : f32[batch*seq, 100], f32[batch*seq, 8] @ "model.onnx" {
    %5 = relu(%3) : f32[batch*seq, 8]
    %4 = matmul(%5, %t) : f32[batch*seq, 100]
  }
  %6 = slice(%4) {axis = 0, extent = floordiv(batch*seq, 2), start = 0}
       : f32[floordiv(batch*seq, 2), 100]
  output "logits" = %6
  output "hidden" = %5
}
"""


def assert_round_trip(graph: Graph) -> str:
    text = print_graph(graph)
    again = parse_graph(text)
    assert again == graph
    assert print_graph(again) == text
    return text


def test_example_round_trip() -> None:
    graph = parse_graph(EXAMPLE, "somewhere")
    assert graph.folder == "somewhere"
    assert_round_trip(graph)
    assert graph.weights["w"].content == FileBytes("model.onnx.data", 1024, 3200)
    assert graph.weights["w"].label == 'embeddings."word"'
    assert graph.weights["t"].content == Derived("transpose", ("w",), (("perm", (1, 0)),))
    content = graph.weights["scale"].content
    assert isinstance(content, Inline)
    expected = np.array([1, 1.5, -0.0, np.inf, -np.inf, 1e-45, 3.4028235e38, 0.1], np.float32)
    assert content.data == expected.tobytes()
    assert graph.nodes[1].inputs[2] == ""
    assert graph.nodes[1].attrs == (("axis", -1), ("epsilon", 1e-05))
    assert graph.nodes[0].source == Source("model.onnx", "/emb/Gather")
    assert graph.nodes[2].source == Source("", "view")
    assert [node.op for node in graph.nodes[3].body] == ["relu", "matmul"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(random_graphs(), st.sets(st.integers(1, 20), max_size=4))
def test_random_graphs_round_trip(sample: Sample, cuts: set[int]) -> None:
    assert_round_trip(sample.graph)
    assert_round_trip(clustered(sample.graph, cuts))


ATTRS = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(),
        st.sampled_from(sorted(DTYPES.values(), key=str)),
    ),
    lambda children: st.lists(children, max_size=3).map(tuple),
    max_leaves=6,
)


@given(ATTRS)
def test_attributes_read_back(value: Attr) -> None:
    if not (isinstance(value, int) and abs(value) > 1 << 100) and len(attr_text(value)) < 2000:
        again = parse(attr_text(value), read_attr)
        assert again == value
        assert repr(again) == repr(value)  # 1, 1.0 and True are equal but not the same


def test_float_corners() -> None:
    assert math.isnan(float(parse("nan", read_attr)))  # type: ignore[arg-type]
    for number in (0.0, -0.0, 1e300, 5e-324, math.inf, -math.inf):
        again = parse(attr_text(number), read_attr)
        assert isinstance(again, float) and again.hex() == number.hex()


@given(st.text(), st.text())
def test_sources_read_back(file: str, node: str) -> None:
    assert parse(source_text(Source(file, node)), read_source) == Source(file, node)


@given(st.text(min_size=1, max_size=6), st.text(min_size=1, max_size=6), st.text(max_size=6), st.text(max_size=6))
def test_any_names_round_trip(value: str, port: str, label: str, graph_name: str) -> None:
    if value == "out":
        return
    builder = GraphBuilder(name=graph_name)
    builder.input(port, TensorType(f32, (2,)), value)
    weight = builder.weight(Weight(f"w{value}", TensorType(f32, (1,)), FileBytes(f"f{label}", 0, 4), label))
    builder.add(Node("add", (value, weight), ("out",), (), Source(port, label)))
    assert_round_trip(builder.finish([Port(port, "out")]))


@pytest.mark.parametrize("name", ["f32", "f16", "f64", "i8", "u64", "bool", "i64", "bf16"])
def test_small_constants_keep_their_bits(name: str) -> None:
    dtype = DTYPES[name]
    rng = np.random.default_rng(0)
    for _ in range(20):
        data = rng.integers(0, 2 if name == "bool" else 256, 4 * dtype.bytes, dtype=np.uint8).tobytes()
        builder = GraphBuilder(name="g")
        builder.weight(Weight("w", TensorType(dtype, (4,)), Inline(data)))
        assert_round_trip(builder.finish([Port("y", "w")]))


def test_reserved_words_are_no_dims() -> None:
    for word in RESERVED:
        if word.isidentifier():
            graph = GraphBuilder(name="g").finish([])
            bad = Graph(graph.name, {word: parse("a = 1:1:1", _bounds)}, (), (), {}, (), {})
            with pytest.raises(Exception, match="may not be called"):
                verify_graph(bad)


def _bounds(lexer: Lexer):  # type: ignore[no-untyped-def]
    from stratac.ir.parse import read_symbol

    return read_symbol(lexer)[1]


def test_attributes_print_sorted_whatever_the_order_read() -> None:
    assert make_attrs({"b": 1, "a": 2}) == (("a", 2), ("b", 1))
    node = parse_graph('graph @g { input %x "x" : f32[2] %y = elu(%x) {alpha = 1.0,} : f32[2] }').nodes[0]
    assert node.attrs == (("alpha", 1.0),)


ERRORS = [
    ("", 1, 1, "expected 'graph', got the end of the text"),
    ("graph g {}", 1, 7, "expected '@' and a name, got g"),
    ("graph @g {", 1, 11, "expected dim, input, state, weight, output, next, loop, a node"),
    ("graph @g {}\nx", 2, 1, "expected the end of the text, got x"),
    ("graph @g {\n  dim a = 3:2:1\n}", 2, 7, "bounds must hold"),
    ("graph @g {\n  dim a = 1:2:3\n  dim a = 1:2:3\n}", 3, 7, "dim a is declared twice"),
    ("graph @g {\n  dim a = 1 2\n}", 2, 13, "expected ':', got 2"),
    ('graph @g {\n  input %x "x" : float[2]\n}', 2, 18, "expected an element type such as f32, got float"),
    ('graph @g {\n  input %x "x" : f32[2\n}', 3, 1, "expected ',' or ']', got }"),
    ("graph @g {\n  input %x x : f32[2]\n}", 2, 12, "expected the input's name in quotes, got x"),
    ('graph @g {\n  input %x "x : f32[2]\n}', 2, 12, "the string is not closed"),
    ('graph @g {\n  input %x "\\q" : f32[2]\n}', 2, 12, "wrong escape"),
    ("graph @g {\n  %y = relu(x) : f32[2]\n}", 2, 13, "expected a value such as %0, or _"),
    ("graph @g {\n  %y = relu(%x) {a = } : f32[2]\n}", 2, 22, "expected an attribute value, got }"),
    ("graph @g {\n  %y = relu(%x) {a = 1, a = 2} : f32[2]\n}", 2, 25, "attribute 'a' is given twice"),
    ("graph @g {\n  %y = relu(%x)\n}", 3, 1, "expected ':', got }"),
    ("graph @g {\n  %y = relu(%x) : f32[floordiv(a, 0)]\n}", 2, 23, "floordiv by zero"),
    ("graph @g {\n  %y = relu(%x) : f32[2]\n  %y = relu(%x) : f32[3]\n}", 3, 3, "%y is f32[3] here and f32[2]"),
    ("graph @g {\n  %y, %z = f(%x) : f32[2]\n}", 3, 1, "expected ',' and the type of %z"),
    ('graph @g {\n  weight %w : f32[1] = hex "abc"\n}', 2, 28, "expected pairs of hexadecimal digits"),
    ("graph @g {\n  weight %w : i8[1] = [300]\n}", 2, 24, "300 is no i8"),
    ("graph @g {\n  weight %w : bf16[1] = [1.0]\n}", 2, 25, "written in hex"),
    ('graph @g {\n  weight %w : f32[1] = file "a" @ 0\n}', 3, 1, "expected '+', got }"),
    ("graph @g {\n  weight %w : f32[1] = 5\n}", 2, 24, "expected file, hex, [numbers] or an op"),
    ("graph @g {\n  $\n}", 2, 3, "unexpected character: '$'"),
    ("graph @g {\n  %y = f() : f32[" + "(" * 5000 + "\n}", 2, None, "nested too deeply"),
    ("graph @g {\n  dim a = " + "9" * 5000 + ":1:1\n}", 2, 11, "too long"),
]


@pytest.mark.parametrize(("text", "line", "column", "what"), ERRORS, ids=range(len(ERRORS)))
def test_errors_say_where_and_what(text: str, line: int, column: int | None, what: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_graph(text)
    assert what in str(caught.value)
    assert caught.value.line == line
    assert column is None or caught.value.column == column


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_texts_never_crash(data: st.DataObject) -> None:
    """Any cut or changed character gives a graph or a ParseError, nothing else."""
    at = data.draw(st.integers(0, len(EXAMPLE) - 1))
    text = EXAMPLE[:at] + data.draw(st.text(max_size=3)) + EXAMPLE[at + data.draw(st.integers(0, 3)) :]
    with contextlib.suppress(ParseError):
        parse_graph(text)
