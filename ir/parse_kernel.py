"""Reads kernels: `parse_kernel`. Names in front of `=`, `let`s and defaults of types are as `text_kernel` prints them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .dims import Dim
from .kernel import (
    Accumulator,
    Apply,
    Attention,
    Axis,
    Const,
    Contraction,
    Conv,
    Dense,
    Folded,
    Guarded,
    Index,
    Kernel,
    Loops,
    Matmul,
    Nest,
    Operand,
    Position,
    Ragged,
    Read,
    Reduce,
    Routine,
    Scalar,
    Selection,
    Stage,
    Store,
    Strided,
)
from .lexer import Lexer, parse
from .parse import read_attrs, read_dim, read_factor
from .text_kernel import COMPUTED, default_const_dtype, default_dtype
from .types import DTYPES, DType, f32, i64

_OPERAND = re.compile(r"a(0|[1-9]\d{0,8})")


def parse_kernel(text: str) -> Kernel:
    """A kernel from its text. Raises ParseError."""
    return parse(text, read_kernel)


def read_kernel(lexer: Lexer) -> Kernel:
    """`kernel loops { .. }`."""
    lexer.expect_word("kernel")
    if not lexer.at("name") or lexer.token.text not in ("loops", "selection", "routine", *_ROOTS):
        lexer.expected(f"loops, selection, routine, {', '.join(_ROOTS)}")
    kind = lexer.name()
    lexer.expect("{")
    reader = _Reader(lexer)
    while (number := reader.at_operand()) is not None:
        reader.read_operand(number)
    if kind == "loops":
        nests = []
        while not lexer.accept("}"):
            if not lexer.at_word("nest"):
                lexer.expected("nest or '}'")
            nests.append(reader.read_nest())
        return Loops(tuple(reader.operands), tuple(nests))
    if kind == "selection":
        return reader.read_selection()
    if kind == "routine":
        return reader.read_routine()
    root = reader.read_root(kind)
    stores = []
    for stage in reader.read_stages():
        if not isinstance(stage, Store):
            lexer.fail("an epilogue only stores")
        stores.append(stage)
    return Contraction(tuple(reader.operands), root, tuple(stores))


class _Reader:
    """One kernel under way: operands, the lets so far, and the types of the nest's folds so far."""

    def __init__(self, lexer: Lexer) -> None:
        self.lexer = lexer
        self.operands: list[Operand] = []
        self.lets: dict[str, Scalar] = {}
        self.folded: dict[str, DType] = {}

    # -- operands, axes, fields ------------------------------------------------------------------------------------

    def at_operand(self) -> int | None:
        """The number of the operand that stands here, if one does."""
        found = _OPERAND.fullmatch(self.lexer.token.text) if self.lexer.at("name") else None
        return int(found.group(1)) if found else None

    def read_operand(self, number: int) -> None:
        if number != len(self.operands):
            self.lexer.fail(f"expected operand a{len(self.operands)}, got a{number}")
        self.lexer.next()
        self.lexer.expect(":")
        role, dtype = self.lexer.name("in, out or row"), self.read_dtype()
        elements: Dim = 0
        if self.lexer.accept("["):
            elements = read_dim(self.lexer)
            self.lexer.expect("]")
        self.operands.append(Operand(dtype, role, elements))

    def read_dtype(self) -> DType:
        if not self.lexer.at("name") or self.lexer.token.text not in DTYPES:
            self.lexer.expected("an element type such as f32")
        return DTYPES[self.lexer.name()]

    def read_axis(self) -> Axis:
        name = self.lexer.value("an axis such as %i0")
        self.lexer.expect("<")
        return Axis(name, read_dim(self.lexer))

    def read_axes(self) -> tuple[Axis, ...]:
        return self.lexer.list("(", lambda _: self.read_axis(), ")")

    def read_dims(self) -> tuple[Dim, ...]:
        return self.lexer.list("(", read_dim, ")")

    def read_number(self) -> int:
        number = self.at_operand()
        if number is None:
            self.lexer.expected("an operand such as a0")
        self.lexer.next()
        return number

    def read_strided(self) -> Strided:
        if self.lexer.accept_word("computed"):
            return COMPUTED
        number = self.read_number()
        self.lexer.expect("+")
        offset = self.read_product()
        self.lexer.expect_word("by")
        return Strided(number, offset, self.read_dims())

    def read_window(self) -> tuple[int, ...]:
        pairs = list(self.lexer.list("(", Lexer.integer, ")"))
        for word in ("stride", "dilation", "padding"):
            self.lexer.expect_word(word)
            pairs += self.lexer.list("(", Lexer.integer, ")")
        if len(pairs) != 8:
            self.lexer.fail("a window has two numbers each")
        return tuple(pairs)

    def read_selection(self) -> Selection:
        """What follows the operands, and the closing brace."""
        self.lexer.expect_word("axis")
        axis = self.read_axis()
        self.read_lets()
        self.lexer.expect_word("condition")
        self.lexer.expect("=")
        condition = self.read_scalar()
        self.lexer.expect_word("count")
        count = self.lexer.name("a dim's name")
        self.lexer.expect("}")
        return Selection(tuple(self.operands), axis, condition, count)

    def read_dense(self) -> Dense | None:
        """`a0 + 0 : (8, 3)`, or `_`."""
        if self.lexer.accept_word("_"):
            return None
        number = self.read_number()
        self.lexer.expect("+")
        offset = self.read_product()
        self.lexer.expect(":")
        return Dense(number, offset, self.read_dims())

    def read_product(self) -> Dim:
        """A dim without a sum outside of parentheses."""
        product = read_factor(self.lexer)
        while self.lexer.accept("*"):
            product = product * read_factor(self.lexer)
        return product

    def read_routine(self) -> Routine:
        """What follows the operands, and the closing brace."""
        op = self.lexer.name("a routine")
        inputs = self.lexer.list("(", lambda _: self.read_dense(), ")")
        self.lexer.expect("->")
        results = self.lexer.list("(", lambda _: self.read_dense(), ")")
        attrs = read_attrs(self.lexer)
        self.lexer.expect("}")
        return Routine(tuple(self.operands), op, inputs, results, attrs)

    def read_root(self, kind: str) -> Matmul | Conv | Attention:
        """The fields of a root, each once, in the order of the table."""
        make, fields = _ROOTS[kind]
        found: dict[str, Any] = {}
        for name, (read, default) in fields.items():
            self.read_lets()
            if self.lexer.accept_word(name):
                if read in _EQUATED:
                    self.lexer.expect("=")
                found[name] = read(self)
            elif default is _REQUIRED:
                self.lexer.expected(f"'{name}'")
            else:
                found[name] = default
        if make is Attention:
            ends, longest = found.pop("ends"), found.pop("longest")
            if (ends is None) != (longest is None):
                self.lexer.fail("ragged sequences have ends and a longest")
            found["ragged"] = None if ends is None else Ragged(ends, longest)
        return make(**found)

    # -- stages ----------------------------------------------------------------------------------------------------

    def read_nest(self) -> Nest:
        self.lexer.expect_word("nest")
        outer = self.read_axes()
        self.lexer.expect("{")
        self.folded = {}
        return Nest(outer, tuple(self.read_stages()))

    def read_stages(self) -> list[Stage]:
        """Stages and the closing brace."""
        stages: list[Stage] = []
        self.read_lets()
        while not self.lexer.accept("}"):
            axes = self.read_axes() if self.lexer.accept_word("for") else ()
            running = self.lexer.accept_word("scan")
            if running or self.lexer.accept_word("fold"):
                name = self.lexer.value("a fold's name such as %s0")
                self.lexer.expect("=")
                fold = Reduce(name, self.lexer.name("sum, prod, max or min"), axes, self.read_scalar(), running)
                self.folded[name] = fold.value.dtype
                stages.append(fold)
            elif self.lexer.accept_word("store"):
                number = self.read_number()
                index = self.read_index("[", "]")
                self.lexer.expect("=")
                stages.append(Store(number, axes, index, self.read_scalar()))
            else:
                self.lexer.expected("for, fold, scan, store, let or '}'")
            self.read_lets()
        return stages

    def read_lets(self) -> None:
        while self.lexer.accept_word("let"):
            position = self.lexer.token.position
            name = self.lexer.value("a name such as %t0")
            if name in self.lets:
                self.lexer.fail(f"%{name} is given twice", position)
            self.lexer.expect("=")
            self.lets[name] = self.read_scalar()

    # -- expressions -----------------------------------------------------------------------------------------------

    def read_index(self, open: str, close: str) -> Index:
        self.lexer.expect(open)
        base: Dim = 0
        terms: list[tuple[str, Dim]] = []
        gathers: list[tuple[Scalar, Dim]] = []
        sign = -1 if self.lexer.accept("-") else 1
        while True:
            coefficient: Dim = sign
            moving: str | Scalar | None = None
            while True:
                position = self.lexer.token.position
                if not self.lexer.at("value", "{"):
                    coefficient = coefficient * read_factor(self.lexer)
                elif moving is not None:
                    self.lexer.fail("a product holds one axis or one {..}", position)
                else:
                    moving = self.lexer.value() if self.lexer.at("value") else self.read_gather()
                if not self.lexer.accept("*"):
                    break
            if moving is None:
                base = base + coefficient
            elif isinstance(moving, str):
                terms.append((moving, coefficient))
            else:
                gathers.append((moving, coefficient))
            if not self.lexer.at("+", "-"):
                break
            sign = 1 if self.lexer.next().kind == "+" else -1
        self.lexer.expect(close)
        return Index(base, tuple(terms), tuple(gathers))

    def read_gather(self) -> Scalar:
        self.lexer.expect("{")
        value = self.read_scalar()
        self.lexer.expect("}")
        return value

    def read_scalar(self) -> Scalar:
        lexer = self.lexer
        if lexer.at("value"):
            position, name = lexer.token.position, lexer.value()
            if name in self.lets:
                return self.lets[name]
            dtype = self.read_annotation(self.folded.get(name))
            if dtype is None:
                lexer.fail(f"%{name} is no fold or let of this nest so far", position)
            return Folded(name, dtype)
        if lexer.at("int", "float", "-") or (lexer.at("name") and lexer.token.text in _CONSTANTS):
            value = self.read_constant()
            dtype = self.read_annotation(default_const_dtype(value))
            assert dtype is not None
            return Const(value, dtype)
        number = self.at_operand()
        name = lexer.name("a scalar expression")
        if number is not None:
            index = self.read_index("[", "]")
            known = self.operands[number].dtype if number < len(self.operands) else None
            dtype = self.read_annotation(known)
            if dtype is None:
                lexer.fail(f"a{number} is no operand of this kernel")
            return Read(number, index, dtype)
        if name == "acc":
            return Accumulator(self.read_annotation(f32) or f32)
        if name == "at":
            return Position(self.read_index("[", "]"), self.read_annotation(i64) or i64)
        return self.read_apply(name)

    def read_apply(self, name: str) -> Scalar:
        args = self.lexer.list("(", lambda _: self.read_scalar(), ")")
        if name == "guard":
            if len(args) != 3:
                self.lexer.fail("guard takes a condition and two values")
            return Guarded(*args)
        dtype = self.read_annotation(default_dtype(name, args))
        if dtype is None:
            self.lexer.fail(f"the type of {name}() is not known: write {name}():f32")
        return Apply(name, args, dtype)

    def read_annotation(self, default: DType | None) -> DType | None:
        """`:f32`, or nothing where the type is the default."""
        return self.read_dtype() if self.lexer.accept(":") else default

    def read_constant(self) -> bool | int | float:
        for word, constant in (("true", True), ("false", False)):
            if self.lexer.accept_word(word):
                return constant
        negative = self.lexer.accept("-")
        number = self.lexer.integer() if self.lexer.at("int") else self.lexer.number()
        return -number if negative else number


_CONSTANTS = frozenset({"true", "false", "inf", "nan"})
_REQUIRED = object()
_Field = tuple[Callable[[_Reader], Any], Any]


def _required(read: Callable[[_Reader], Any]) -> _Field:
    return read, _REQUIRED


def _dim(reader: _Reader) -> Dim:
    return read_dim(reader.lexer)


def _integer(reader: _Reader) -> int:
    return reader.lexer.integer()


_EQUATED = (_Reader.read_strided, _Reader.read_scalar)
_MATMUL: dict[str, _Field] = {
    "loops": (_Reader.read_axes, ()),
    "batch": _required(_Reader.read_axis),
    "rows": _required(_Reader.read_axes),
    "column": _required(_Reader.read_axis),
    "depth": _required(_Reader.read_axis),
    "a": _required(_Reader.read_strided),
    "b": _required(_Reader.read_strided),
    "zero": (_Reader.read_scalar, None),
    "prologue": (_Reader.read_scalar, None),
}
_CONV: dict[str, _Field] = {
    "rows": _required(_Reader.read_axes),
    "column": _required(_Reader.read_axis),
    "size": _required(_Reader.read_dims),
    "out_size": _required(_Reader.read_dims),
    "window": _required(_Reader.read_window),
    "groups": _required(_integer),
    "x": _required(_Reader.read_strided),
    "filter": _required(_Reader.read_strided),
    "zero": (_Reader.read_scalar, None),
}
_ATTENTION: dict[str, _Field] = {
    "batch": _required(_Reader.read_axis),
    "heads": _required(_Reader.read_axis),
    "row": _required(_Reader.read_axis),
    "column": _required(_Reader.read_axis),
    "keys": _required(_dim),
    "kv_heads": _required(_integer),
    "width": _required(_dim),
    "scale": _required(lambda reader: reader.lexer.number()),
    "causal": (lambda reader: True, False),
    "q": _required(_Reader.read_strided),
    "k": _required(_Reader.read_strided),
    "v": _required(_Reader.read_strided),
    "ends": (_Reader.read_strided, None),
    "longest": (_dim, None),
    "score": (_Reader.read_scalar, None),
}
#: The heavy roots: class and fields in order; a field with a default may be missing.
_ROOTS: dict[str, tuple[Callable[..., Matmul | Conv | Attention], dict[str, _Field]]] = {
    "matmul": (Matmul, _MATMUL),
    "conv": (Conv, _CONV),
    "attention": (Attention, _ATTENTION),
}
