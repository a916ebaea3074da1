"""Element types, tensor types and the type rules of the op table."""

from __future__ import annotations

import numpy as np
import pytest
from stratac.ir import types as t
from stratac.ir.dims import Bounds, symbol
from stratac.ir.errors import VerifyError
from stratac.ir.graph import Node, make_attrs
from stratac.ir.lexer import parse
from stratac.ir.ops import OPS, AttrSpec, infer
from stratac.ir.parse import read_type
from stratac.ir.types import DTYPES, TensorType

S = symbol("s")


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_every_type_prints_and_reads_back(name: str) -> None:
    kind = TensorType(DTYPES[name], (S, 3, 2 * S + 1))
    assert parse(str(kind), read_type) == kind


def test_numpy_types_round_trip() -> None:
    for dtype in t.COMPUTABLE - set(t.ML_NAMES.values()):
        assert t.from_numpy(dtype.np) == dtype
    with pytest.raises(KeyError):
        t.from_numpy(np.dtype("complex64"))


def test_sizes() -> None:
    assert TensorType(t.f32, (S, 3)).nbytes == 12 * S
    assert TensorType(t.i4, (3, 3)).nbytes == 9
    assert TensorType(t.i4, (3, 3)).file_bytes == 5
    assert TensorType(t.f16, (3, 3)).file_bytes == TensorType(t.f16, (3, 3)).nbytes == 18
    assert TensorType(t.f32, ()).nbytes == 4
    assert TensorType(t.f32, ()).elements == 1
    assert str(TensorType(t.bool_, ())) == "bool[]"


TYPES = {
    "x": TensorType(t.f32, (S, 4, 6)),
    "y": TensorType(t.f32, (4, 6)),
    "i": TensorType(t.i64, (S,)),
    "c": TensorType(t.bool_, (6,)),
    "m": TensorType(t.f32, (6, 5)),
    "w": TensorType(t.f32, (8, 2, 3)),
    "q": TensorType(t.f32, (2, 8, S, 16)),
    "k": TensorType(t.f32, (2, 2, 7, 16)),
    "o": TensorType(t.f32, (4,)),
}


def kind_of(op: str, *inputs: str, **attrs: object) -> str:
    node = Node(op, inputs, ("z",), make_attrs(attrs))  # type: ignore[arg-type]
    (kind,) = infer(node, TYPES, {"s": Bounds(1, 2, 8)})
    return str(kind)


WINDOW = {"strides": (2,), "pads": (1, 1), "dilations": (1,)}
RIGHT = [
    ("add", ("x", "y"), {}, "f32[s, 4, 6]"),
    ("where", ("c", "x", "y"), {}, "f32[s, 4, 6]"),
    ("lt", ("x", "y"), {}, "bool[s, 4, 6]"),
    ("cast", ("x",), {"to": t.i32}, "i32[s, 4, 6]"),
    ("reduce_sum", ("x",), {"axes": (-1, 0), "keepdims": False}, "f32[4]"),
    ("argmax", ("x",), {"axis": 1}, "i64[s, 1, 6]"),
    ("reshape", ("x",), {"shape": (S * 4, 6)}, "f32[4*s, 6]"),
    ("transpose", ("x",), {"perm": (2, 0, 1)}, "f32[6, s, 4]"),
    ("expand", ("y",), {"shape": (S, 1, 1)}, "f32[s, 4, 6]"),
    ("slice", ("y",), {"axis": 1, "start": 5, "extent": 3, "step": -2}, "f32[4, 3]"),
    ("slice", ("x",), {"axis": 0, "start": 1, "extent": S - 1}, "f32[s - 1, 4, 6]"),
    ("concat", ("x", "x"), {"axis": 0}, "f32[2*s, 4, 6]"),
    ("pad", ("y",), {"pads": (1, 0, 2, 3)}, "f32[7, 9]"),
    ("gather", ("y", "i"), {"axis": 1}, "f32[4, s]"),
    ("iota", (), {"extent": S}, "i64[s]"),
    ("matmul", ("x", "m"), {}, "f32[s, 4, 5]"),
    ("conv", ("x", "w"), {**WINDOW, "groups": 2}, "f32[s, 8, 3]"),
    ("max_pool", ("x",), {**WINDOW, "kernel": (2,)}, "f32[s, 4, 4]"),
    ("attention", ("q", "k", "k"), {"scale": 0.25}, "f32[2, 8, s, 16]"),
    ("batch_norm", ("x", "o", "o", "o", "o"), {"epsilon": 1e-5}, "f32[s, 4, 6]"),
]


@pytest.mark.parametrize(("op", "inputs", "attrs", "kind"), RIGHT, ids=[case[0] for case in RIGHT])
def test_type_rules(op: str, inputs: tuple[str, ...], attrs: dict[str, object], kind: str) -> None:
    assert kind_of(op, *inputs, **attrs) == kind


WRONG = [
    ("add", ("x", "m"), {}, "do not broadcast"),
    ("add", ("x", "i"), {}, "different element types"),
    ("add", ("x",), {}, "takes 2 to 2 inputs, got 1"),
    ("add", ("x", ""), {}, "input 1 is missing"),
    ("where", ("x", "x", "x"), {}, "condition must be bool"),
    ("softmax", ("x",), {"axis": 3}, "axis 3 is out of range"),
    ("softmax", ("x",), {}, "lacks attribute 'axis'"),
    ("softmax", ("x",), {"axis": 1.0}, "is not a int"),
    ("softmax", ("x",), {"axis": 1, "beta": 2}, "has no attribute 'beta'"),
    ("reshape", ("x",), {"shape": (S, 25)}, "element counts differ"),
    ("transpose", ("x",), {"perm": (0, 0, 1)}, "no permutation"),
    ("matmul", ("x", "y"), {}, "inner sizes 6 and 4 differ"),
    ("gather", ("y", "x"), {"axis": 0}, "indices must be integers"),
    ("pad", ("y",), {"pads": (1, 1)}, "must have 4 entries"),
    ("conv", ("x", "w"), WINDOW, "does not fit 4 input channels"),
    ("max_pool", ("x",), {**WINDOW, "kernel": (9,)}, "does not fit"),
    ("concat", ("x", "y"), {"axis": 0}, "cannot join"),
    ("attention", ("q", "k", "q"), {"scale": 1.0}, "attention shapes do not fit"),
    ("batch_norm", ("x", "o", "o", "o", "i"), {"epsilon": 1e-5}, "must have shape"),
    ("layer_norm", ("x", "m"), {"axis": -1, "epsilon": 1e-5}, "does not fit the normalised axes|do not broadcast"),
    ("slice", ("y",), {"axis": 1, "start": 2, "extent": 5}, "not within the extent 6"),
    ("slice", ("x",), {"axis": 0, "start": -1, "extent": 1}, "not within the extent s"),
    ("slice", ("x",), {"axis": 0, "start": 0, "extent": 1, "step": 0}, "must not be 0"),
    ("nonsense", (), {}, "unknown op"),
]


@pytest.mark.parametrize(("op", "inputs", "attrs", "match"), WRONG)
def test_type_rules_refuse(op: str, inputs: tuple[str, ...], attrs: dict[str, object], match: str) -> None:
    with pytest.raises(VerifyError, match=match):
        kind_of(op, *inputs, **attrs)


def test_rows_are_well_formed() -> None:
    for name, row in OPS.items():
        assert row.name == name
        assert row.arity[0] <= row.arity[1]
        for spec in row.attrs.values():
            assert spec.kind in {"int", "float", "bool", "str", "dtype", "dim", "sets", "ints", "dims"}


def test_attr_kinds_keep_bools_apart() -> None:
    assert not AttrSpec("int").accepts(True)
    assert not AttrSpec("bool").accepts(1)
    assert AttrSpec("dims").accepts((1, S))
    assert not AttrSpec("ints").accepts((1, S))
