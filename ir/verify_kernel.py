"""The verifier of kernels: scopes, roles, types of expressions, and that no operand is left or written twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from .dims import Bounds, Dim, Expr, product, symbol, symbols_of, upper
from .errors import VerifyError
from .kernel import (
    Accumulator,
    Apply,
    Attention,
    Axis,
    Const,
    Contraction,
    Conv,
    Folded,
    Guarded,
    Index,
    Kernel,
    Loops,
    Matmul,
    Nest,
    Operand,
    Position,
    Read,
    Reduce,
    Routine,
    Scalar,
    Selection,
    Store,
    Strided,
    walk,
)
from .kernel_bounds import Point, corners
from .ops import OPS
from .scalars import CASTS, PRIMITIVES, TO_BOOL
from .text_kernel import COMPUTED
from .types import COMPUTABLE, DType, bf16, bool_, f32, i8, i32, i64, u8

_PLAIN: tuple[type, ...] = (Const, Position, Read, Apply, Guarded)
#: The legality table: which expressions may stand where.
PLACES: Mapping[str, tuple[type, ...]] = {
    "stage": (*_PLAIN, Folded),
    "condition": _PLAIN,
    "prologue": _PLAIN,
    "zero": _PLAIN,
    "epilogue": (*_PLAIN, Accumulator),
    "score": (*_PLAIN, Accumulator),
}


@dataclass(frozen=True)
class Role:
    """What a kernel may do with an operand of a role."""

    read: str  # never, always, or once stored: earlier in the same nest
    stored: bool
    loops_only: bool = False


ROLES = {"in": Role("always", False), "out": Role("once stored", True), "row": Role("once stored", True, True)}
FOLDS = ("sum", "prod", "max", "min")


def verify_kernel(kernel: Kernel, symbols: Mapping[str, Bounds], sizes: Sequence[Dim] | None = None) -> None:
    """Raise VerifyError for the first rule that `kernel` breaks. `sizes` are the elements of its operands, rows aside.

    Without `sizes` only rows have bounds.
    """
    _Verifier(kernel, symbols).check()
    _check_bounds(kernel, symbols, sizes)


def _kind(kernel: Kernel) -> str:
    return type(kernel.root if isinstance(kernel, Contraction) else kernel).__name__.lower()


def _fail(kernel: Kernel, what: str, hint: str = "") -> NoReturn:
    raise VerifyError(what, op=_kind(kernel), level="kernel", hint=hint)


class _Verifier:
    """One walk over one kernel, without numbers."""

    def __init__(self, kernel: Kernel, symbols: Mapping[str, Bounds]) -> None:
        self.kernel, self.symbols = kernel, symbols
        self.place = ""
        self.axes: set[str] = set()
        self.folded: dict[str, Reduce] = {}
        self.loop: tuple[Axis, ...] = ()  # of the stage at hand
        self.stored: set[int] = set()  # in the nest so far
        self.sums = f32  # what a contraction accumulates in

    def fail(self, what: str, hint: str = "") -> NoReturn:
        _fail(self.kernel, what, hint)

    def check(self) -> None:
        kernel = self.kernel
        for number, operand in enumerate(kernel.operands):
            role = ROLES.get(operand.role)
            if role is None or (role.loops_only and not isinstance(kernel, Loops)):
                self.fail(f"a{number} has the role {operand.role!r}", f"roles here are {', '.join(ROLES)}")
            if operand.dtype not in COMPUTABLE:
                self.fail(f"a{number} has the type {operand.dtype}, which kernels do not compute in")
            self.check_dim(operand.elements, f"a{number}")
            if (operand.role == "row") != (operand.elements != 0):
                self.fail(
                    f"a{number} has {operand.elements} elements as {operand.role}", "rows say how many, others do not"
                )
        if isinstance(kernel, Loops):
            written = set()
            for nest in kernel.nests:
                self.check_nest(nest)
                written |= self.stored
        elif isinstance(kernel, Selection):
            written = self.check_selection(kernel)
        elif isinstance(kernel, Routine):
            written = self.check_routine(kernel)
        else:
            self.check_root(kernel.root)
            written = {store.operand for store in kernel.epilogue}
        for number, operand in enumerate(kernel.operands):
            if operand.role == "out" and number not in written:
                self.fail(f"a{number} is never stored", "every out operand is written")

    def check_selection(self, kernel: Selection) -> set[int]:
        """The operands that it writes: the only one that is out."""
        found = [number for number, operand in enumerate(kernel.operands) if operand.role == "out"]
        if len(found) != 1 or kernel.operands[found[0]].dtype != i64:
            self.fail("a selection has one out operand, of i64")
        self.check_dim(symbol(kernel.count), "the count")
        self.check_value("condition", (kernel.axis,), kernel.condition)
        return set(found)

    def check_routine(self, kernel: Routine) -> set[int]:
        """The operands that it writes, each by one result."""
        row = OPS.get(kernel.op)
        if row is None or row.category != "routine":
            self.fail(f"there is no routine {kernel.op!r}", "routines are rows of ir/ops.py")
        for role, side in (("in", kernel.inputs), ("out", kernel.results)):
            for dense in side:
                if dense is None:
                    continue
                if self.operand(dense.operand).role != role:
                    self.fail(f"a{dense.operand} is not {role}")
                for dim in (dense.offset, *dense.shape):
                    self.check_dim(dim, f"a{dense.operand}")
        for name, value in kernel.attrs:
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, Expr):
                    self.check_dim(part, name)
        found = [dense.operand for dense in kernel.results if dense is not None]
        if len(set(found)) != len(found):
            self.fail("two results are stored in one operand")
        return set(found)

    # -- scopes ----------------------------------------------------------------------------------------------------

    def check_dim(self, dim: Dim, where: str) -> None:
        if unknown := sorted(symbols_of(dim) - self.symbols.keys()):
            self.fail(f"{where} uses the symbol {unknown[0]!r}, which is not declared")

    def enter(self, axes: Sequence[Axis], within: set[str]) -> None:
        """Open the scope `axes` inside `within`."""
        self.axes = set(within)
        for axis in axes:
            if not axis.name or axis.name in self.axes:
                self.fail(f"axis %{axis.name} is declared twice")
            self.check_dim(axis.extent, f"axis %{axis.name}")
            if upper(axis.extent, self.symbols) < 0:
                self.fail(f"axis %{axis.name} has the extent {axis.extent}, which is negative")
            self.axes.add(axis.name)

    def check_nest(self, nest: Nest) -> None:
        self.place, self.folded, self.stored = "stage", {}, set()
        self.enter(nest.outer, set())
        outer = set(self.axes)
        for stage in nest.stages:
            self.enter(stage.axes, outer)
            self.loop = stage.axes
            self.check_scalar(stage.value)
            if isinstance(stage, Store):
                self.check_store(stage)
                continue
            if stage.function not in FOLDS:
                self.fail(f"%{stage.name} folds with {stage.function!r}", f"folds are {', '.join(FOLDS)}")
            if not stage.name or stage.name in self.folded:
                self.fail(f"%{stage.name} is folded twice in one nest")
            self.folded[stage.name] = stage

    def check_store(self, store: Store) -> None:
        operand = self.operand(store.operand)
        if not ROLES[operand.role].stored:
            self.fail(f"stores to a{store.operand}, which is {operand.role}", "only out and row operands are written")
        if operand.dtype != store.value.dtype:
            self.fail(f"stores {store.value.dtype} to a{store.operand}, which is {operand.dtype}")
        self.check_index(store.index)
        self.stored.add(store.operand)

    def operand(self, number: int) -> Operand:
        if not 0 <= number < len(self.kernel.operands):
            self.fail(f"names operand a{number}, but there are {len(self.kernel.operands)}")
        return self.kernel.operands[number]

    # -- expressions -----------------------------------------------------------------------------------------------

    def check_index(self, index: Index) -> None:
        self.check_dim(index.base, "an index")
        for name, coefficient in index.terms:
            if name not in self.axes:
                self.fail(f"an index uses the axis %{name}", f"in scope here: {', '.join(sorted(self.axes)) or 'none'}")
            self.check_dim(coefficient, "an index")
        for expression, coefficient in index.gathers:
            if not expression.dtype.is_integer:
                self.fail(f"an index looks up a {expression.dtype}", "positions are integers")
            self.check_dim(coefficient, "an index")

    def check_scalar(self, expression: Scalar) -> None:
        """Every subexpression, those inside indices included."""
        for part in walk(expression):
            if not isinstance(part, PLACES[self.place]):
                self.fail(f"a {type(part).__name__} may not stand in a {self.place}")
            match part:
                case Const(value, dtype):
                    self.check_const(value, part)
                case Position(index, dtype):
                    self.check_index(index)
                    if not dtype.is_integer:
                        self.fail(f"a position has the type {dtype}", "positions are integers")
                case Read():
                    self.check_read(part)
                case Guarded(condition, value, otherwise):
                    if condition.dtype != bool_ or value.dtype != otherwise.dtype:
                        kinds = f"{condition.dtype}, {value.dtype}, {otherwise.dtype}"
                        self.fail(f"guard({kinds})", "expected bool and two of one type")
                case Folded(name, dtype):
                    if name not in self.folded:
                        self.fail(f"%{name} is used, but not folded earlier in this nest")
                    if (made := self.folded[name].value.dtype) != dtype:
                        self.fail(f"%{name} is used as {dtype}, but folds {made}")
                    if self.folded[name].running and self.folded[name].axes != self.loop:
                        self.fail(f"%{name} is used outside the loop that it runs in")
                case Accumulator(dtype):
                    if dtype != self.sums:
                        self.fail(f"the accumulator has the type {dtype}", f"this root accumulates in {self.sums}")
                case Apply():
                    self.check_apply(part)

    def check_const(self, value: bool | int | float, const: Const) -> None:
        dtype = const.dtype
        wanted = float if dtype.is_float else bool if dtype == bool_ else int
        if type(value) is not wanted:
            self.fail(f"the constant {value!r} has the type {dtype}", f"write it as a {wanted.__name__}")
        if dtype.is_integer:
            low = 0 if dtype.kind == "uint" else -(1 << (dtype.bits - 1))
            if not low <= value < low + (1 << dtype.bits):
                self.fail(f"the constant {value} does not fit {dtype}")

    def check_read(self, read: Read) -> None:
        operand = self.operand(read.operand)
        if operand.dtype != read.dtype:
            self.fail(f"reads a{read.operand} as {read.dtype}, which is {operand.dtype}")
        self.check_index(read.index)
        if ROLES[operand.role].read == "once stored" and read.operand not in self.stored:
            self.fail(f"reads a{read.operand}, which is {operand.role}, before this nest stores it")

    def check_apply(self, apply: Apply) -> None:
        function, kinds = apply.function, [a.dtype for a in apply.args]
        if function not in PRIMITIVES:
            self.fail(f"unknown function {function!r}", "the functions are scalars.PRIMITIVES")
        if len(kinds) != PRIMITIVES[function]:
            self.fail(f"{function} takes {PRIMITIVES[function]} arguments, got {len(kinds)}")
        text = f"{function}({', '.join(map(str, kinds))}):{apply.dtype}"
        if function in CASTS:
            return
        if function == "select" and kinds.pop(0) != bool_:
            self.fail(f"{text} has no bool as its condition")
        if len(set(kinds)) > 1:
            self.fail(f"{text} mixes types", "cast first")
        if apply.dtype != (bool_ if function in TO_BOOL else kinds[0]):
            self.fail(f"{text} has another type than its arguments")

    # -- roots -----------------------------------------------------------------------------------------------------

    def check_root(self, root: Matmul | Conv | Attention) -> None:
        assert isinstance(self.kernel, Contraction)
        around, column = root_axes(root)
        self.sums = self.kernel.sums
        read = [strided.operand for strided, _ in strided_operands(root)]
        for number, wanted in zip(read, self.root_types(root), strict=False):
            operand = self.operand(number)
            if operand.role != "in" or operand.dtype not in wanted:
                self.fail(
                    f"the root reads a{number}, which is {operand.role} {operand.dtype}",
                    f"expected in {' or '.join(map(str, wanted))}",
                )
        for strided, extents in strided_operands(root):
            for dim in (strided.offset, *strided.strides, *extents):
                self.check_dim(dim, f"operand a{strided.operand} of the root")
        if isinstance(root, Matmul):
            if (root.prologue is None) == (root.a == COMPUTED):
                self.fail("the left operand is read or computed by a prologue, not both or neither")
            if root.prologue is not None:
                self.check_value("prologue", (*around, root.depth), root.prologue)
        if isinstance(root, Matmul | Conv) and root.zero is not None:
            self.check_value("zero", (), root.zero)
            if isinstance(root, Matmul) and root.prologue is not None:
                self.fail("a prologue computes floats", "the left operand of a product of whole numbers is read")
        if isinstance(root, Conv):
            if root.groups < 1 or product(a.extent for a in root.rows) != product((root.size[0], *root.out_size)):
                self.fail("the rows are not the batch times the output's height and width")
        if isinstance(root, Attention):
            self.check_attention(root, around)
        if not self.kernel.epilogue:
            self.fail("has no epilogue", "a root is finished by stores")
        for store in self.kernel.epilogue:
            if store.axes:
                self.fail("an epilogue stores over axes of its own")
            self.check_value("epilogue", (*around, column), store.value)
            self.check_store(store)

    def root_types(self, root: Matmul | Conv | Attention) -> tuple[tuple[DType, ...], ...]:
        """Those that each of `strided_operands` may have."""
        if self.sums == i32:
            return (u8,), (i8,)
        return ((f32, bf16) if isinstance(root, Conv) else (f32,), (f32,), (f32,))

    def check_attention(self, root: Attention, around: Sequence[Axis]) -> None:
        if root.score is not None:
            self.check_value("score", (*around, Axis("j", root.keys)), root.score)
        if root.ragged is None:
            return
        ends = self.operand(root.ragged.ends.operand)
        if ends.role != "in" or ends.dtype != i64 or len(root.ragged.ends.strides) != 1:
            self.fail(
                f"sequences end where a{root.ragged.ends.operand} says, {ends.role} {ends.dtype}", "expected in i64"
            )
        self.check_dim(root.ragged.longest, "the longest sequence")
        if root.score is not None or root.keys != root.row.extent:
            self.fail("ragged sequences have a score change, or other keys than queries")
        if any(operand.strides[0] != 0 for operand in (root.q, root.k, root.v)):
            self.fail("ragged sequences have a batch stride", "they lie one after the other")

    def check_value(self, place: str, axes: Sequence[Axis], value: Scalar) -> None:
        self.place = place
        self.enter(axes, set())
        self.check_scalar(value)
        wanted = {"condition": bool_, "zero": i32}.get(place, f32)
        if value.dtype != wanted and place != "epilogue":
            self.fail(f"the {place} gives {value.dtype}, expected {wanted}")


def root_axes(root: Matmul | Conv | Attention) -> tuple[tuple[Axis, ...], Axis]:
    """The axes of a finished element: all but the column, and the column."""
    match root:
        case Matmul():
            return (*root.loops, root.batch, *root.rows), root.column
        case Conv():
            return root.rows, root.column
    outer = (root.batch, root.heads, root.row)
    return (outer if root.ragged is None else outer[1:]), root.column  # ragged: rows count those of all sequences


def strided_operands(root: Matmul | Conv | Attention) -> list[tuple[Strided, tuple[Dim, ...]]]:
    """What the root itself reads, with the extents of its strides; extents beyond them are contiguous."""
    match root:
        case Matmul():
            shared = (*(axis.extent for axis in root.loops), root.batch.extent)
            rows = product(axis.extent for axis in root.rows)
            left = [] if root.prologue is not None else [(root.a, (*shared, rows, root.depth.extent))]
            return [*left, (root.b, (*shared, root.depth.extent, root.column.extent))]
        case Conv():
            inner = root.size[3]
            taps = (root.column.extent, inner, *root.window[:2])
            return [(root.x, (*root.size[:3], inner * root.groups)), (root.filter, taps)]
    shared = (root.batch.extent, root.kv_heads, root.keys)
    queries = (root.batch.extent, root.heads.extent, root.row.extent, root.width)
    return [(root.q, queries), (root.k, (*shared, root.width)), (root.v, (*shared, root.column.extent))]


def _check_bounds(kernel: Kernel, symbols: Mapping[str, Bounds], sizes: Sequence[Dim] | None) -> None:
    for dims in corners(symbols):
        point = Point(dims)
        known = {k: point.number(o.elements) for k, o in enumerate(kernel.operands) if o.role == "row"}
        if sizes is not None:
            known |= {k: point.number(size) for k, size in enumerate(sizes)}
        if bad := _first_bad(kernel, point, known):
            _fail(kernel, bad, "guards and clamps must keep reads inside; stores must be affine")


def _first_bad(kernel: Kernel, point: Point, sizes: Mapping[int, int]) -> str | None:
    """What goes wrong at one choice of the dims."""
    stores: list[tuple[Store, Point, tuple[Axis, ...]]] = []
    if isinstance(kernel, Loops):
        for nest in kernel.nests:
            for stage in nest.stages:
                here = point.inside((*nest.outer, *stage.axes))
                if bad := here.bad_read(stage.value, sizes):
                    return bad
                if isinstance(stage, Store):
                    private = kernel.operands[stage.operand].role == "row"
                    stores.append((stage, here, stage.axes if private else (*nest.outer, *stage.axes)))
    elif isinstance(kernel, Selection):
        return point.inside((kernel.axis,)).bad_read(kernel.condition, sizes)
    elif isinstance(kernel, Routine):
        for dense in (*kernel.inputs, *kernel.results):
            if dense is None or dense.operand not in sizes:
                continue
            offset, count, size = point.number(dense.offset), point.number(product(dense.shape)), sizes[dense.operand]
            if count and not 0 <= offset <= size - count:
                return f"elements {offset} to {offset + count - 1} of a{dense.operand}, which has {size}"
            if dense in kernel.results and count != size:
                return f"stores {count} of the {size} elements of a{dense.operand}"
        return None
    else:
        root = kernel.root
        around, column = root_axes(root)
        for strided, extents in strided_operands(root):
            if bad := point.bad_strided(strided, extents, sizes):
                return bad
        values = [((*around, column), store.value) for store in kernel.epilogue]
        if isinstance(root, Matmul | Conv) and root.zero is not None:
            values.append(((), root.zero))
        if isinstance(root, Matmul) and root.prologue is not None:
            values.append(((*around, root.depth), root.prologue))
        if isinstance(root, Attention) and root.ragged is not None:
            if bad := point.bad_strided(root.ragged.ends, (root.batch.extent,), sizes):
                return bad
        if isinstance(root, Attention) and root.score is not None:
            values.append(((*around, Axis("j", root.keys)), root.score))
        for axes, value in values:
            if bad := point.inside(axes).bad_read(value, sizes):
                return bad
        stores = [(store, point.inside((*around, column)), (*around, column)) for store in kernel.epilogue]
    return _bad_stores(stores, sizes)


def _bad_stores(stores: Sequence[tuple[Store, Point, tuple[Axis, ...]]], sizes: Mapping[int, int]) -> str | None:
    """A store that leaves its operand, or an operand that is not written once, element by element."""
    written: dict[int, int] = {}
    for store, here, axes in stores:
        written[store.operand] = written.get(store.operand, 0) + here.count(axes)
        if here.reached:
            if bad := here.outside(store.operand, store.index, sizes):
                return f"stores {bad}"
            if here.written_twice(store, axes):
                return f"may store an element of a{store.operand} twice"
    for operand, count in written.items():
        if operand in sizes and count != sizes[operand]:
            return f"stores {count} of the {sizes[operand]} elements of a{operand}"
    return None
