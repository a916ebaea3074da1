"""Operators on strings, and operators that move them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from stratac.compiler.frontends.onnx import import_onnx
from stratac.compiler.frontends.onnx.casing import case_table
from stratac.compiler.layout import make_layout
from stratac.ir.dims import Bounds
from stratac.ir.errors import ModelError, StratacError
from stratac.ir.interface import slot_strings, string_slots

from .build import BOOL, FLOAT, INT64, N, array, make, save, value
from .structured import check, evaluate

STRING = TensorProto.STRING
ML = [helper.make_opsetid("ai.onnx.ml", 4)]
WORDS = [["a", "", "Straße"], ["日本語", "ÉCOLE", "a b"]]


def texts(*rows: Any) -> np.ndarray:
    return np.array(rows[0] if len(rows) == 1 else list(rows), object)


def constant(name: str, rows: Any) -> onnx.TensorProto:
    found = np.array(rows, object)
    return helper.make_tensor(name, STRING, found.shape, [t.encode() for t in found.reshape(-1)])


# -- movement

MOVES = {
    "Reshape": ([N("Reshape", ["x", "i"], ["y"])], [3, -1]),
    "Transpose": ([N("Transpose", ["x"], ["y"], perm=[1, 0])], None),
    "Slice": ([N("Slice", ["x", "zero", "i", "one"], ["y"])], [2]),
    "Gather": ([N("Gather", ["x", "i"], ["y"], axis=1)], [[2, -1], [0, 0]]),
    "Concat": ([N("Concat", ["x", "k", "x"], ["y"], axis=0)], None),
    "Expand": ([N("Expand", ["x", "i"], ["y"])], [2, 2, 3]),
    "Tile": ([N("Tile", ["x", "i"], ["y"])], [1, 2]),
    "Unsqueeze": ([N("Unsqueeze", ["x", "i"], ["u"]), N("Squeeze", ["u"], ["y"])], [0, 2]),
    "Identity": ([N("Identity", ["x"], ["a"]), N("Flatten", ["a"], ["y"])], None),
    "GatherND": ([N("GatherND", ["x", "i"], ["y"])], [[1, 2], [0, -1]]),
    "GatherElements": ([N("GatherElements", ["x", "i"], ["y"], axis=0)], [[1, 0, 1]]),
    "ScatterElements": ([N("ScatterElements", ["x", "i", "k"], ["y"], axis=0)], [[1, 0, 1]]),
    "Where": ([N("Equal", ["x", "k"], ["c"]), N("Where", ["c", "k", "x"], ["y"])], None),
    "Compress": ([N("Cast", ["i"], ["c"], to=BOOL), N("Compress", ["x", "c"], ["y"], axis=1)], [1, 0, 1]),
    "Split": ([N("Split", ["x"], ["a", "y", "b"], axis=1, num_outputs=3)], None),
}


@pytest.mark.parametrize("name", MOVES)
def test_movement(tmp_path: Path, name: str) -> None:
    """The constant `k` is narrower than the input's slots."""
    nodes, indices = MOVES[name]
    constants = [array("zero", [0], np.int64), array("one", [1], np.int64), constant("k", [["a", "ü", "Straße"]])]
    constants += [array("i", indices, np.int64)] if indices is not None else []
    check(tmp_path, make(nodes, [value("x", STRING, [2, 3])], ["y"], constants, 19), {"x": texts(*WORDS)})


def test_indices_that_depend_on_the_data(tmp_path: Path) -> None:
    nodes = [N("Gather", ["x", "i"], ["g"]), N("Shape", ["g"], ["s"]), N("Size", ["x"], ["n"])]
    model = make(nodes, [value("x", STRING, ["n"]), value("i", INT64, ["m"])], ["g", "s", "n"])
    dims = {"n": Bounds(0, 3, 5), "m": Bounds(0, 2, 4)}
    check(tmp_path, model, {"x": texts("é", "", "xyz"), "i": np.array([2, -3])}, dims=dims)
    check(tmp_path, model, {"x": texts([]), "i": np.array([], np.int64)}, dims=dims)


def test_sequences_of_strings_and_branches(tmp_path: Path) -> None:
    """Values of different widths are chosen from at the greater one."""
    made = helper.make_empty_tensor_value_info
    then = helper.make_graph([N("Identity", ["x"], ["t"])], "then", [], [made("t")])
    otherwise = helper.make_graph([N("StringConcat", ["x", "x"], ["t"])], "else", [], [made("t")])
    nodes = [
        N("If", ["c"], ["y"], then_branch=then, else_branch=otherwise),
        N("SequenceConstruct", ["x", "y"], ["s"]),
        N("ConcatFromSequence", ["s"], ["z"], axis=0),
        N("SplitToSequence", ["z"], ["p"], axis=0, keepdims=0),
    ]
    model = make(nodes, [value("c", BOOL, []), value("x", STRING, [2])], ["y", "s", "z", "p"], opset=20)
    x = texts("é", "ab")
    for taken in (True, False):
        y = x if taken else x + x
        z = np.concatenate([x, y])
        pieces = [np.array(one, object) for one in z]
        check(tmp_path, model, {"c": np.array(taken), "x": x}, expected=[y, [x, y], z, pieces])


# -- comparison, joining, splitting


def test_equal_broadcasts(tmp_path: Path) -> None:
    model = make(
        [N("Equal", ["x", "k"], ["y"])],
        [value("x", STRING, [2, 3])],
        ["y"],
        [constant("k", [["a"], ["ÉCOLE"]])],
        opset=19,
    )
    check(tmp_path, model, {"x": texts(*WORDS)})


def test_concat_broadcasts_and_never_overflows(tmp_path: Path) -> None:
    model = make(
        [N("StringConcat", ["x", "k"], ["y"])],
        [value("x", STRING, [2, 3])],
        ["y"],
        [constant("k", ["ß", "", "x" * 70])],
        opset=20,
    )
    check(tmp_path, model, {"x": texts(["0" * 64, "1", ""], ["", "é" * 32, ""])})


@pytest.mark.parametrize("delimiter", ["", ",", "ab", "é"])
@pytest.mark.parametrize("most", [None, 0, 1, 5])
def test_split(tmp_path: Path, delimiter: str, most: int | None) -> None:
    attrs = {} if most is None else {"maxsplit": most}
    node = N("StringSplit", ["x"], ["y", "n"], delimiter=delimiter, **attrs)
    model = make([node], [value("x", STRING, [2, 3])], ["y", "n"], opset=20)
    check(tmp_path, model, {"x": texts(["a,b,,c", "", " a\u3000b  c "], ["abab", "xéyé", ",,,"])})


def test_split_of_nothing(tmp_path: Path) -> None:
    model = make(
        [N("StringSplit", ["x"], ["y", "n"], delimiter="-")], [value("x", STRING, ["n"])], ["y", "n"], opset=20
    )
    dims = {"n": Bounds(0, 1, 3)}
    check(tmp_path, model, {"x": texts([])}, expected=[np.empty((0, 0), object), np.array([], np.int64)], dims=dims)
    check(tmp_path, model, {"x": texts([""])}, expected=[texts([[""]]), np.array([1], np.int64)], dims=dims)


def test_full_match(tmp_path: Path) -> None:
    model = make([N("RegexFullMatch", ["x"], ["y"], pattern=r"\pL")], [value("x", STRING, [1])], ["y"], opset=20)
    with pytest.raises(ModelError, match="patterns are those of RE2"):
        import_onnx(save(tmp_path, model))
    model = make([N("RegexFullMatch", ["x"], ["y"], pattern="[^é]*é?")], [value("x", STRING, [4])], ["y"], opset=20)
    check(tmp_path, model, {"x": texts("", "日本é", "éa", "x" * 64)})


# -- normalising


def normalizer(**attrs: Any) -> onnx.ModelProto:
    return make(
        [N("StringNormalizer", ["x"], ["y"], **attrs)], [value("x", STRING, attrs.pop("shape", [4]))], ["y"], opset=10
    )


@pytest.mark.parametrize("action", ["NONE", "LOWER", "UPPER"])
@pytest.mark.parametrize("sensitive", [0, 1])
def test_stop_words(tmp_path: Path, action: str, sensitive: int) -> None:
    model = normalizer(case_change_action=action, is_case_sensitive=sensitive, stopwords=["MONDAY", "é"])
    given = ["monday", "É", "Straße", "tuesday"]
    kept = [
        g for g in given if (g if sensitive else g.lower()) not in (["MONDAY", "é"] if sensitive else ["monday", "é"])
    ]
    changed = [{"NONE": str, "LOWER": str.lower, "UPPER": str.upper}[action](g) for g in kept]
    check(tmp_path, model, {"x": texts(*given)}, expected=[texts(*changed)])


def test_nothing_left(tmp_path: Path) -> None:
    model = normalizer(is_case_sensitive=1, stopwords=["a"])
    check(tmp_path, model, {"x": texts("a", "a", "a", "a")}, expected=[texts([""])])
    model = make([N("StringNormalizer", ["x"], ["y"], stopwords=["a"])], [value("x", STRING, [1, 2])], ["y"], opset=10)
    check(tmp_path, model, {"x": texts([["A", "a"]])}, expected=[texts([[""]])])


@pytest.mark.parametrize("upper", [True, False])
def test_case_of_every_character(tmp_path: Path, upper: bool) -> None:
    table, _ = case_table(upper)
    given = ["".join(map(chr, part)) for part in np.array_split(table[:, 0], 200)] + [
        "ΟΔΟΣ ΣΣ",
        "Σ",
        "ΑΣ.",
        "ΑΣα",
        "plain 12",
    ]
    action = "UPPER" if upper else "LOWER"
    model = make(
        [N("StringNormalizer", ["x"], ["y"], case_change_action=action)],
        [value("x", STRING, [len(given)])],
        ["y"],
        opset=10,
    )
    wanted = [t.upper() if upper else t.lower() for t in given]
    check(tmp_path, model, {"x": texts(*given)}, expected=[texts(*wanted)], string_bytes=128)


@pytest.mark.parametrize("fill", [None, "", "ü"])
def test_pad(tmp_path: Path, fill: str | None) -> None:
    x = texts(["a", "bc"], ["é", ""])
    constants = [array("p", [0, 1, 1, 0], np.int64), *([constant("f", fill)] if fill is not None else [])]
    node = N("Pad", ["x", "p", *(["f"] if fill is not None else [])], ["y"])
    model = make([node], [value("x", STRING, [2, 2])], ["y"], constants)
    wanted = np.pad(x, ((0, 1), (1, 0)), constant_values=fill or "")
    check(tmp_path, model, {"x": x}, expected=[wanted])


@pytest.mark.parametrize("ordered", [0, 1])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_unique(tmp_path: Path, ordered: int, axis: int | None) -> None:
    x = texts(["b", "é", "b"], ["a", "", "a"], ["b", "é", "b"])
    more = {} if axis is None else {"axis": axis}
    names = ["y", "first", "inverse", "counts"]
    model = make([N("Unique", ["x"], names, sorted=ordered, **more)], [value("x", STRING, [3, 3])], names)
    slices = x.reshape(-1, 1) if axis is None else np.moveaxis(x, axis, 0)
    rows = [tuple(row) for row in slices]
    kept = sorted(set(rows)) if ordered else list(dict.fromkeys(rows))
    whole = np.array(kept, object)
    y = whole[:, 0] if axis is None else np.moveaxis(whole, 0, axis)
    places = [[rows.index(row) for row in kept], [kept.index(row) for row in rows], [rows.count(row) for row in kept]]
    check(tmp_path, model, {"x": x}, expected=[y, *(np.array(p) for p in places)])


# -- numbers as text

NUMBERS = {
    "int64": [0, -5, 1 << 62, -(1 << 63)],
    "int8": [0, -5, 127, -128],
    "uint8": [0, 5, 255, 128],
    "float32": [0.1, -2.5e-8, 1e16, 123456.0],
    "float64": [0.1, 1 / 3, -1e300, float("-inf")],
    "bool": [True, False, True, True],
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_written(tmp_path: Path, kind: str) -> None:
    x = np.array(NUMBERS[kind], kind).reshape(2, 2)
    node = N("Cast", ["x"], ["y"], to=STRING)
    model = make([node], [value("x", helper.np_dtype_to_tensor_dtype(x.dtype), [2, 2])], ["y"])
    check(tmp_path, model, {"x": x}, expected=[x.astype(np.str_).astype(object)])


@pytest.mark.parametrize("kind", ["int64", "int32", "uint8", "float32", "float64", "float16"])
def test_numbers_read(tmp_path: Path, kind: str) -> None:
    words = ["0", "-7", " 100 ", "12"] if np.dtype(kind).kind in "iu" else ["0.1", "-1e-5", "INF", "3.14159265358979"]
    x = texts(*[[word.replace("-", "") if kind == "uint8" else word for word in words]])
    node = N("Cast", ["x"], ["y"], to=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
    model = make([node], [value("x", STRING, [4])], ["y"])
    wanted = np.array([float(word) if np.dtype(kind).kind == "f" else int(word) for word in x]).astype(kind)
    check(tmp_path, model, {"x": x}, expected=[wanted])


def test_casts_like(tmp_path: Path) -> None:
    x, t = np.array([1.5, -2.0], np.float32), texts("3", "4.25")
    nodes = [N("CastLike", ["x", "t"], ["s"]), N("CastLike", ["t", "x"], ["f"]), N("CastLike", ["t", "s"], ["same"])]
    model = make(nodes, [value("x", FLOAT, [2]), value("t", STRING, [2])], ["s", "f", "same"])
    wanted = [texts("1.5", "-2.0"), np.array([3, 4.25], np.float32), t]
    check(tmp_path, model, {"x": x, "t": t}, expected=wanted)


# -- labels


@pytest.mark.parametrize("keys", ["strings", "int64s", "floats"])
@pytest.mark.parametrize("values", ["strings", "int64s", "floats"])
def test_labels(tmp_path: Path, keys: str, values: str) -> None:
    """In any order, keys repeated, and elements that are none."""
    names = {"strings": ["b", "é", "a", "b"], "int64s": [5, -1, 3, 5], "floats": [0.5, -1.5, 3.0, 0.5]}
    node = N(
        "LabelEncoder",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        **{f"keys_{keys}": names[keys], f"values_{values}": names[values][::-1]},
    )
    kind, dtype = {"strings": (STRING, object), "int64s": (INT64, np.int64), "floats": (FLOAT, np.float32)}[keys]
    x = np.array([*names[keys], names[keys][0] * 7], dtype).reshape(5, 1)
    model = make([node], [value("x", kind, [5, 1])], ["y"], domains=ML)
    found = dict(zip(names[keys], names[values][::-1], strict=True))
    default = {"strings": "_Unused", "int64s": -1, "floats": -0.0}[values]
    out = {"strings": object, "int64s": np.int64, "floats": np.float32}[values]
    wanted = np.array([[found.get(k, default)] for k in [*names[keys], None]], out)
    check(tmp_path, model, {"x": x}, expected=[wanted])


# -- the caller's side


def test_strings_that_do_not_fit(tmp_path: Path) -> None:
    model = make([N("Identity", ["x"], ["y"])], [value("x", STRING, [1])])
    graph = check(tmp_path, model, {"x": texts(["é" * 4])}, string_bytes=8)
    for wrong, what in (
        (["é" * 5], "--string-bytes 10"),
        (["a\0b"], "NUL"),
        (np.array([3], object), "holds a int"),
        (np.zeros(1), "got float64"),
    ):
        with pytest.raises(StratacError, match=what) as failure:
            evaluate(graph, {"x": wrong})
        assert "'x'" in str(failure.value)
    with pytest.raises(ModelError, match="may not be string"):
        import_onnx(
            save(
                tmp_path,
                make(
                    [N("Shape", ["x"], ["s"]), N("SequenceEmpty", [], ["e"]), N("SequenceAt", ["e", "x"], ["y"])],
                    [value("x", STRING, [1])],
                ),
            )
        )
    with pytest.raises(StratacError, match="not possible"):
        make_layout({}, 0)


def test_slots() -> None:
    rows = np.array([["", "é"], ["abc", "日"]], object)
    slots = string_slots("x", rows, 4)
    assert slots.shape == (2, 2, 4) and slots.dtype == np.uint8
    assert slot_strings(slots).tolist() == rows.tolist()
    assert slot_strings(string_slots("x", np.array("ab"), 2)).item() == "ab"
    assert slot_strings(string_slots("x", np.zeros((0, 2), object), 3)).shape == (0, 2)
