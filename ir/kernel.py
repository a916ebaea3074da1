"""How one cluster computes: loop nests over affine reads and writes with scalar expression trees, and heavy contractions that
take such expressions as prologue and epilogue.

A kernel is `Loops` (nests that together do everything), a `Contraction` (a matmul, convolution or attention whose finished
elements pass through an epilogue), a `Selection`, or a `Routine` (one op that is no loop nest). Operands are numbered buffers;
which tensors they are is the caller's business, so equal kernels of different clusters are equal values and are compiled once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Union

from .dims import Dim, Shape
from .graph import Attrs
from .types import DType, f32, i32, i64


@dataclass(frozen=True)
class Axis:
    """One loop: 0 <= name < extent."""

    name: str
    extent: Dim


@dataclass(frozen=True)
class Index:
    """An element position: base + sum(axis * coefficient) + sum(integer expression * coefficient)."""

    base: Dim = 0
    terms: tuple[tuple[str, Dim], ...] = ()
    gathers: tuple[tuple[Scalar, Dim], ...] = ()

    @staticmethod
    def axis(name: str, coefficient: Dim = 1) -> Index:
        return Index(0, ((name, coefficient),))

    def coefficient(self, axis: str) -> Dim:
        return next((c for name, c in self.terms if name == axis), 0)

    def __add__(self, other: Index) -> Index:
        terms = dict(self.terms)
        for axis, coefficient in other.terms:
            terms[axis] = terms.get(axis, 0) + coefficient
        gathers = dict(self.gathers)
        for expression, coefficient in other.gathers:
            gathers[expression] = gathers.get(expression, 0) + coefficient
        kept = tuple(sorted((a, c) for a, c in terms.items() if c != 0))
        return Index(self.base + other.base, kept, tuple((e, c) for e, c in gathers.items() if c != 0))

    def scaled(self, factor: Dim) -> Index:
        if factor == 0:
            return Index()
        return Index(
            self.base * factor,
            tuple((a, c * factor) for a, c in self.terms),
            tuple((e, c * factor) for e, c in self.gathers),
        )

    def shifted(self, amount: Dim) -> Index:
        return replace(self, base=self.base + amount)


@dataclass(frozen=True)
class Const:
    """A literal."""

    value: float | int | bool
    dtype: DType


@dataclass(frozen=True)
class Position:
    """The value of an index expression, as an integer: iota, dims, bounds checks."""

    index: Index
    dtype: DType = i64


@dataclass(frozen=True)
class Read:
    """One element of an operand."""

    operand: int
    index: Index
    dtype: DType


@dataclass(frozen=True)
class Apply:
    """A scalar function of scalars. The functions are the elementwise primitives of `scalars.PRIMITIVES`."""

    function: str
    args: tuple[Scalar, ...]
    dtype: DType


@dataclass(frozen=True)
class Guarded:
    """`value` where `condition` holds, else `otherwise`; `value` is not evaluated (read) where it does not hold."""

    condition: Scalar
    value: Scalar
    otherwise: Scalar

    @property
    def dtype(self) -> DType:
        return self.otherwise.dtype


@dataclass(frozen=True)
class Folded:
    """The result of an earlier Reduce of the same nest at the same outer point."""

    name: str
    dtype: DType


@dataclass(frozen=True)
class Accumulator:
    """The finished element of a contraction that the epilogue is applied to."""

    dtype: DType = f32


Scalar = Union[Const, Position, Read, Apply, Guarded, Folded, Accumulator]


@dataclass(frozen=True)
class Reduce:
    """name = fold of `value` over `axes` with `function` (sum, prod, max, min), in one fixed order.

    A `running` fold shares its loop, which counts up, with the stages right after it over the same axes: they see the fold so
    far, the element at hand included.
    """

    name: str
    function: str
    axes: tuple[Axis, ...]
    value: Scalar
    running: bool = False


@dataclass(frozen=True)
class Store:
    """operand[index] = value, for every point of the outer axes and of `axes`."""

    operand: int
    axes: tuple[Axis, ...]
    index: Index
    value: Scalar


Stage = Union[Reduce, Store]


@dataclass(frozen=True)
class Nest:
    """For every point of `outer`, in any order: the stages, one after the other."""

    outer: tuple[Axis, ...]
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Operand:
    """`role` is in, out or row; a row is private scratch of one outer point, with its greatest element count."""

    dtype: DType
    role: str
    elements: Dim = 0


@dataclass(frozen=True)
class Loops:
    """Nests that do not depend on each other's stores."""

    operands: tuple[Operand, ...]
    nests: tuple[Nest, ...]


@dataclass(frozen=True)
class Strided:
    """A read-only operand of a contraction: element (i, j, ..) at offset + sum(i * stride)."""

    operand: int
    offset: Dim
    strides: tuple[Dim, ...]


@dataclass(frozen=True)
class Matmul:
    """C[batch, row, col] = sum_k A[batch, row, k] B[batch, k, col]. `loops` are batch axes that no single stride covers.

    a strides: (*loops, batch, row, k); b strides: (*loops, batch, k, col). `prologue` replaces reads of A: a scalar over the
    axes of loops, `batch`, `row` and `k`. With `zero` A is u8, B is i8 and C is i32: that number, an i32 that depends
    on no axis, is taken from each element of A.
    """

    loops: tuple[Axis, ...]
    batch: Axis
    rows: tuple[Axis, ...]
    column: Axis
    depth: Axis
    a: Strided
    b: Strided
    prologue: Scalar | None = None
    zero: Scalar | None = None


@dataclass(frozen=True)
class Conv:
    """Channels-last convolution: rows are (n, y, x), merged where possible; columns the output channels. x strides: (n, h, w).
    x may be bf16, and is widened. `zero` is that of `Matmul`; outside of the image lies what it takes to nothing."""

    rows: tuple[Axis, ...]
    column: Axis
    size: Shape  # n, h, w, channels per group
    out_size: Shape  # height and width of the output
    window: tuple[
        int, int, int, int, int, int, int, int
    ]  # kh, kw, stride_h, stride_w, dilation_h, dilation_w, top, left
    groups: int
    x: Strided
    filter: Strided  # strides of (out channel, in channel per group, kh, kw)
    zero: Scalar | None = None


@dataclass(frozen=True)
class Ragged:
    """Sequences of different lengths, one after the other: sequence b ends in front of row ends[b], where the next begins. None
    has more than `longest` rows."""

    ends: Strided  # i64, strides: (batch,)
    longest: Dim


@dataclass(frozen=True)
class Attention:
    """softmax(scale q k^T, changed by `score`) v. Strides: (batch, head, row); the last axis is contiguous.

    `score` is a scalar over axes b, h, i (query), j (key) with Accumulator standing for the scaled score. With `ragged`, `row`
    and `keys` count the rows of all sequences, batch strides are 0, rows see those of their own sequence, and there is no score.
    """

    batch: Axis
    heads: Axis
    row: Axis
    column: Axis
    keys: Dim
    kv_heads: int
    width: Dim
    scale: float
    causal: bool
    q: Strided
    k: Strided
    v: Strided
    score: Scalar | None = None
    ragged: Ragged | None = None

    @property
    def lengths(self) -> tuple[Dim, Dim]:
        """The most queries and keys of one sequence."""
        return (self.ragged.longest,) * 2 if self.ragged is not None else (self.row.extent, self.keys)


@dataclass(frozen=True)
class Contraction:
    """A heavy root and what happens to each finished element: stores over the root's axes with Accumulator inside."""

    operands: tuple[Operand, ...]
    root: Matmul | Conv | Attention
    epilogue: tuple[Store, ...]

    @property
    def sums(self) -> DType:
        """The type of a finished element: i32 of whole numbers, else f32."""
        return f32 if isinstance(self.root, Attention) or self.root.zero is None else i32


@dataclass(frozen=True)
class Selection:
    """The points of `axis` at which `condition` holds, in order, stored one after the other; their number becomes the dim `count`.

    The one out operand is i64. Never more are stored than the greatest value of `count`.
    """

    operands: tuple[Operand, ...]
    axis: Axis
    condition: Scalar
    count: str


@dataclass(frozen=True)
class Dense:
    """Elements of an operand in row-major order, from `offset` on."""

    operand: int
    offset: Dim
    shape: Shape


@dataclass(frozen=True)
class Routine:
    """An op of category `routine` over whole tensors: what it does is its op's meaning, how is a template of the op's name.

    Inputs that are absent and outputs that nobody reads are None. Results fill their operands.
    """

    operands: tuple[Operand, ...]
    op: str
    inputs: tuple[Dense | None, ...]
    results: tuple[Dense | None, ...]
    attrs: Attrs = ()


Kernel = Union[Loops, Contraction, Selection, Routine]


def children(expression: Scalar) -> tuple[Scalar, ...]:
    """The direct subexpressions, those inside indices included."""
    match expression:
        case Apply(args=args):
            return args
        case Guarded(condition, value, otherwise):
            return (condition, value, otherwise)
        case Read(index=index) | Position(index=index):
            return tuple(e for e, _ in index.gathers)
    return ()


def walk(expression: Scalar) -> Iterator[Scalar]:
    """Every subexpression, inner ones first."""
    for child in children(expression):
        yield from walk(child)
    yield expression


def indices_of(expression: Scalar) -> Iterator[Index]:
    """Every index used in an expression."""
    for part in walk(expression):
        if isinstance(part, Read | Position):
            yield part.index


def map_indices(expression: Scalar, change: object) -> Scalar:
    """The expression with `change(index)` applied to every index, innermost first."""
    match expression:
        case Apply(function, args, dtype):
            return Apply(function, tuple(map_indices(a, change) for a in args), dtype)
        case Guarded(condition, value, otherwise):
            return Guarded(*(map_indices(e, change) for e in (condition, value, otherwise)))
        case Read() | Position():
            gathers = tuple((map_indices(e, change), c) for e, c in expression.index.gathers)
            return replace(expression, index=change(replace(expression.index, gathers=gathers)))  # type: ignore[operator]
    return expression
