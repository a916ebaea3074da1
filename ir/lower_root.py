"""Bodies around a heavy root: its operands as strided reads (or a prologue), what follows as an epilogue."""

from __future__ import annotations

from collections.abc import Sequence

from .affine import PerDim, linear
from .dims import Dim, Shape, product
from .graph import Node
from .kernel import (
    Accumulator,
    Apply,
    Attention,
    Axis,
    Const,
    Contraction,
    Conv,
    Dense,
    Index,
    Matmul,
    Ragged,
    Read,
    Routine,
    Scalar,
    Selection,
    Store,
    Strided,
    indices_of,
    walk,
)
from .lower_scope import NotLowerable, Scope
from .ops import OPS, dims_set
from .scalars import apply, const
from .types import DType, bf16, f32, i8, i32, u8


def root_of(scope: Scope) -> Node | None:
    """The only contraction of the body that heavy kernels may compute, or None: in f32, or in i32 of bytes."""
    roots = [n for n in scope.body if OPS[n.op].category == "contraction"]
    if not roots:
        return None
    if len(roots) > 1:
        raise NotLowerable("two contractions")
    if roots[0].op == "moe":
        raise NotLowerable("a mixture of experts")
    return roots[0] if scope.types[roots[0].output].dtype in (f32, i32) else None


def lower_root(scope: Scope, root: Node) -> Contraction:
    """Raises NotLowerable."""
    rules = {"matmul": _matmul, "conv": _conv, "attention": _attention, "ragged_attention": _ragged_attention}
    return rules[root.op](scope, root)


def _epilogue(scope: Scope, root: Node, identity: PerDim) -> tuple[Store, ...]:
    scope.ready[root.output] = (identity, Accumulator(scope.types[root.output].dtype))
    scope.index_of = {root.output: identity}
    scope.spread()
    stores = []
    for value in scope.outputs:
        if value not in scope.index_of:
            raise NotLowerable(f"{value} is not aligned with the {root.op}")
        index = scope.index_of[value]
        stores.append(Store(scope.operand[value], (), scope.address(value, index), scope.expression(value, index)))
        if not _depends(stores[-1].value):
            raise NotLowerable(f"{value} does not come from the {root.op}")
    return tuple(stores)


def _depends(expression: Scalar) -> bool:
    return any(isinstance(e, Accumulator) for e in walk(expression))


def _plain(expression: Scalar) -> Read | None:
    return expression if isinstance(expression, Read) and not expression.index.gathers else None


def _wide(expression: Scalar) -> Read | None:
    """A plain read of a float, or of a bf16 that becomes one."""
    match expression:
        case Apply("cast", (Read(dtype=found) as read,), to) if found == bf16 and to == f32:
            return _plain(read)
    return _plain(expression)


def _bytes(expression: Scalar, dtype: DType) -> Read | None:
    """The read of a byte that an i32 is made of."""
    match expression:
        case Apply("cast", (Read(dtype=found) as read,), to) if found == dtype and to == i32:
            return _plain(read)
    return None


def _centred(expression: Scalar) -> tuple[Read, Scalar]:
    """The bytes of a left operand of whole numbers, and what is taken from each: the same for all, and a byte itself."""
    zero: Scalar = const(0, i32)
    match expression:
        case Apply("sub", (left, taken)):
            expression, zero = left, taken
    read = _bytes(expression, u8)
    match zero:
        case Const(value):
            is_byte = 0 <= value <= u8.limits[1]
        case _:
            is_byte = _bytes(zero, u8) is not None and not any(index.terms for index in indices_of(zero))
    if read is None or not is_byte:
        raise NotLowerable("the left operand of a product of whole numbers is no u8 less one number")
    return read, zero


def _strided(read: Read, axes: Sequence[str]) -> Strided:
    if any(name not in axes for name, _ in read.index.terms):
        raise NotLowerable("an operand depends on an axis it must not")
    return Strided(read.operand, read.index.base, tuple(read.index.coefficient(a) for a in axes))


def merged_stride(index: Index, axes: Sequence[Axis]) -> Dim | None:
    """The stride of a group of axes walked as one, or None."""
    if not axes:
        return 0
    stride = index.coefficient(axes[-1].name)
    step = stride
    for outer, inner in zip(reversed(axes[:-1]), reversed(axes[1:]), strict=True):
        step = step * inner.extent
        if index.coefficient(outer.name) != step:
            return None
    return stride


# -- matmul --------------------------------------------------------------------------------------------------------


def _matmul(scope: Scope, root: Node) -> Contraction:
    out = scope.shape(root.output)
    reason = NotLowerable("a matmul of vectors")
    for rows in _row_shapes(scope, out):
        try:
            return _matmul_over(scope, root, rows)
        except NotLowerable as failure:
            reason = failure
            scope.ready.clear()
    raise reason


def _row_shapes(scope: Scope, out: Shape) -> list[Shape]:
    """How to walk the rows: as one axis, or as the axes into which a reshape behind (or in front of) the product splits them."""
    found: list[Shape] = [out[-2:-1]]
    if len(out) == 2:
        for node in scope.body:
            for value in (*node.used, *node.outputs):
                shape = scope.shape(value)
                if (
                    len(shape) > 2
                    and shape[-1] == out[-1]
                    and product(shape[:-1]) == out[0]
                    and shape[:-1] not in found
                ):
                    found.append(shape[:-1])
    return found


def _matmul_over(scope: Scope, root: Node, row_shape: Shape) -> Contraction:
    a, b = root.inputs
    left, right = scope.shape(a), scope.shape(b)
    out = scope.shape(root.output)
    if len(left) < 2 or len(right) < 2:
        raise NotLowerable("a matmul of vectors")
    lead = len(out) - 2
    depth = scope.axis("k", left[-1])
    column = scope.axis("col", out[-1])
    names = [*(f"b{i}" for i in range(lead)), *(f"m{i}" for i in range(len(row_shape) - 1)), "row"]
    axes = [scope.axis(name, extent) for name, extent in zip(names, (*out[:lead], *row_shape), strict=True)]
    split = tuple(Index.axis(x.name) if x.extent != 1 else Index() for x in axes[lead:])
    before: PerDim = tuple(Index.axis(x.name) if x.extent != 1 else Index() for x in axes[:lead])
    identity: PerDim = (*before, linear(split, row_shape), Index.axis("col") if column.extent != 1 else Index())

    def at(shape: Shape, *last: Index) -> PerDim:
        skip = lead - (len(shape) - 2)
        return (*(Index() if d == 1 else identity[skip + i] for i, d in enumerate(shape[:-2])), *last)

    k = Index.axis("k")
    a_scalar = scope.expression(a, at(left, identity[lead], k))
    b_scalar = scope.expression(b, at(right, k, identity[-1]))
    whole = scope.types[root.output].dtype == i32
    b_read = _bytes(b_scalar, i8) if whole else _plain(b_scalar)
    if b_read is None:
        raise NotLowerable("the right operand of a matmul is computed on the fly")
    a_read, zero = _centred(a_scalar) if whole else (_plain(a_scalar), None)
    if a_read is None and not any(isinstance(e, Read) for e in walk(a_scalar)):
        raise NotLowerable("the left operand reads nothing")
    epilogue = _epilogue(scope, root, identity)

    # rows: as many leading axes as A walks with one stride and B does not depend on
    rows = axes[lead:]
    a_indices = [a_read.index] if a_read is not None else []
    if any(merged_stride(i, rows) is None for i in a_indices):
        raise NotLowerable("the rows of a product are not walked with one stride")
    for axis in reversed(axes[:lead]):
        grown = [axis, *rows]
        if b_read.index.coefficient(axis.name) != 0 or any(merged_stride(i, grown) is None for i in a_indices):
            break
        rows = grown
    rest = axes[: len(axes) - len(rows)]
    rest = [x for x in rest if x.extent != 1]
    loops, batch = tuple(rest[:-1]), rest[-1] if rest else Axis("batch", 1)
    shared = (*(x.name for x in loops), batch.name)

    def operand(read: Read, *others: tuple[str, Dim]) -> Strided:
        strides = [*(read.index.coefficient(n) for n in shared), *(s for _, s in others)]
        return Strided(read.operand, read.index.base, tuple(strides))

    prologue = None
    if a_read is None:
        prologue = a_scalar
        a_operand = Strided(-1, 0, ())
    else:
        stride = merged_stride(a_read.index, rows)
        assert stride is not None
        a_operand = operand(a_read, ("row", stride), ("k", a_read.index.coefficient("k")))
    b_strides = (("k", b_read.index.coefficient("k")), ("col", b_read.index.coefficient("col")))
    right_operand = operand(b_read, *b_strides)
    matmul = Matmul(loops, batch, tuple(rows), column, depth, a_operand, right_operand, prologue, zero)
    return Contraction(tuple(scope.operands), matmul, epilogue)


# -- convolution ---------------------------------------------------------------------------------------------------


def _conv(scope: Scope, root: Node) -> Contraction:
    x, w = root.inputs[:2]
    if not root.attr("channels_last", False):
        raise NotLowerable("a convolution with channels first")
    shape, filters, out = scope.shape(x), scope.shape(w), scope.shape(root.output)
    if not 3 <= len(shape) <= 4:
        raise NotLowerable("a convolution over three or more axes")
    flat = len(shape) == 3  # one spatial axis: a picture of height one
    groups = root.attr("groups", 1)
    names = ["n", "x"] if flat else ["n", "y", "x"]
    axes = tuple(scope.axis(name, extent) for name, extent in zip(names, out[:-1], strict=True))
    column = scope.axis("col", out[-1])
    identity: PerDim = tuple(Index.axis(a.name) if a.extent != 1 else Index() for a in (*axes, column))

    probe = [scope.axis(f"p{i}", d) for i, d in enumerate(shape)]
    x_scalar = scope.expression(x, tuple(Index.axis(p.name) for p in probe))
    whole = scope.types[root.output].dtype == i32
    x_read, zero = _centred(x_scalar) if whole else (_wide(x_scalar), None)
    taps = [scope.axis(f"f{i}", d) for i, d in enumerate(filters)]
    w_scalar = scope.expression(w, tuple(Index.axis(t.name) for t in taps))
    w_read = _bytes(w_scalar, i8) if whole else _plain(w_scalar)
    if x_read is None or w_read is None:
        raise NotLowerable("an operand of a convolution is computed on the fly")
    x_all = _strided(x_read, [p.name for p in probe])
    if x_all.strides[-1] != 1 and shape[-1] != 1:
        raise NotLowerable("the channels of the input do not lie side by side")
    w_all = _strided(w_read, [t.name for t in taps])
    if len(root.inputs) > 2 and root.inputs[2]:
        raise NotLowerable("a convolution with its bias inside: canonicalise splits it off")
    strides, pads, dilations = root.attr("strides"), root.attr("pads"), root.attr("dilations")
    kernel = filters[2:]
    size: tuple[Dim, ...]
    if flat:
        window = (1, kernel[0], 1, strides[0], 1, dilations[0], 0, pads[0])
        size = (shape[0], 1, shape[1], filters[1])
        x_strides: tuple[Dim, ...] = (x_all.strides[0], 0, x_all.strides[1])
        w_strides: tuple[Dim, ...] = (w_all.strides[0], w_all.strides[1], 0, w_all.strides[2])
    else:
        window = (*kernel, *strides, *dilations, pads[0], pads[1])
        size = (shape[0], shape[1], shape[2], filters[1])
        x_strides, w_strides = x_all.strides[:3], w_all.strides
    conv = Conv(
        axes,
        column,
        size,
        (1, out[1]) if flat else out[1:3],
        window,  # type: ignore[arg-type]
        groups,
        Strided(x_all.operand, x_all.offset, x_strides),
        Strided(w_all.operand, w_all.offset, w_strides),
        zero,
    )
    return Contraction(tuple(scope.operands), conv, _epilogue(scope, root, identity))


# -- attention -----------------------------------------------------------------------------------------------------


def _attention(scope: Scope, root: Node) -> Contraction:
    q, k, v = root.inputs[:3]
    batch, heads, queries, width = scope.shape(q)
    kv_heads, keys = scope.shape(k)[1:3]
    value_width = scope.shape(v)[3]
    assert isinstance(kv_heads, int)
    axes = [scope.axis(n, e) for n, e in zip(("b", "h", "i", "col"), (batch, heads, queries, value_width), strict=True)]
    key = scope.axis("j", keys)
    identity: PerDim = tuple(Index.axis(a.name) if a.extent != 1 else Index() for a in axes)
    operands = [_attended(scope, value, ("b", "g", "l", "d")) for value in (q, k, v)]
    for axis in axes:
        scope.extents[axis.name] = axis.extent
    score: Scalar | None = None
    softcap = root.attr("softcap", 0.0)
    if softcap:
        score = apply("tanh", apply("mul", Accumulator(), const(1.0 / softcap, f32)))
        score = apply("mul", score, const(softcap, f32))
    if len(root.inputs) > 3 and root.inputs[3]:
        mask = root.inputs[3]
        shape = scope.shape(mask)
        place = (*identity[:3], Index.axis("j") if key.extent != 1 else Index())
        at = tuple(Index() if d == 1 else place[4 - len(shape) + i] for i, d in enumerate(shape))
        added = scope.expression(mask, at)
        score = apply("add", score or Accumulator(), added)
    attention = Attention(
        batch=axes[0],
        heads=axes[1],
        row=axes[2],
        column=axes[3],
        keys=keys,
        kv_heads=kv_heads,
        width=width,
        scale=root.attr("scale"),
        causal=root.attr("causal", False),
        q=operands[0],
        k=operands[1],
        v=operands[2],
        score=score,
    )
    return Contraction(tuple(scope.operands), attention, _epilogue(scope, root, identity))


def _attended(scope: Scope, value: str, names: tuple[str, ...]) -> Strided:
    """An operand of attention, with an axis for each of its dims; strides of all but the last, which is contiguous."""
    extents = scope.shape(value)
    for name, extent in zip(names, extents, strict=True):
        scope.axis(name, extent)
    index = tuple(Index.axis(n) if e != 1 else Index() for n, e in zip(names, extents, strict=True))
    plain = _plain(scope.expression(value, index))
    if plain is None:
        raise NotLowerable("an operand of attention is computed on the fly")
    found = _strided(plain, names)
    if found.strides[-1] != 1 and extents[-1] != 1:
        raise NotLowerable("the rows of an attention operand are not contiguous")
    return Strided(found.operand, found.offset, found.strides[:-1])


def _ragged_operand(scope: Scope, value: str) -> Strided:
    """[N, G, D] by (batch, head, row), without a batch stride."""
    found = _attended(scope, value, ("l", "g", "d"))
    return Strided(found.operand, found.offset, (0, found.strides[1], found.strides[0]))


def _ragged_attention(scope: Scope, root: Node) -> Contraction:
    *qkv, ends = root.inputs
    rows, heads, width = scope.shape(qkv[0])
    kv_heads, value_width = scope.shape(qkv[1])[1], scope.shape(qkv[2])[2]
    assert isinstance(kv_heads, int)
    extents = (scope.shape(ends)[0], heads, rows, value_width)
    batch, head, row, column = (scope.axis(n, e) for n, e in zip(("b", "h", "i", "col"), extents, strict=True))
    q, k, v = (_ragged_operand(scope, value) for value in qkv)
    lengths = _plain(scope.expression(ends, (Index.axis("b") if batch.extent != 1 else Index(),)))
    if lengths is None:
        raise NotLowerable("the ends of sequences are computed on the fly")
    for axis in (row, head, column):
        scope.extents[axis.name] = axis.extent
    identity: PerDim = tuple(Index.axis(a.name) if a.extent != 1 else Index() for a in (row, head, column))
    epilogue = _epilogue(scope, root, identity)
    if len(epilogue) > 1 or not isinstance(epilogue[0].value, Accumulator) or epilogue[0].index.coefficient("col") != 1:
        raise NotLowerable("attention over ragged sequences stores its result as it is")
    attention = Attention(
        batch,
        head,
        row,
        column,
        rows,
        kv_heads,
        width,
        root.attr("scale"),
        root.attr("causal", False),
        q,
        k,
        v,
        ragged=Ragged(_strided(lengths, ("b",)), root.attr("longest")),
    )
    return Contraction(tuple(scope.operands), attention, epilogue)


def lower_selection(scope: Scope, root: Node) -> Selection:
    """The kernel of a selection, which stands alone. Raises NotLowerable."""
    (axis,) = [scope.axis("i", extent) for extent in scope.shape(root.inputs[0])]
    (count,) = dims_set(root)
    if scope.outputs != (root.output,):
        raise NotLowerable("a selection gives nothing but positions")
    condition = scope.expression(root.inputs[0], (Index.axis("i") if axis.extent != 1 else Index(),))
    return Selection(tuple(scope.operands), axis, condition, count)


def lower_routine(scope: Scope, node: Node) -> Routine:
    """The kernel of a routine, which stands alone behind views that leave the order of elements as it is. Raises NotLowerable."""
    if any(value not in node.outputs for value in scope.outputs):
        raise NotLowerable(f"{node.op} is a kernel by itself")
    inputs = tuple(_dense(scope, value) if value else None for value in node.inputs)
    results = tuple(
        Dense(scope.operand[value], 0, scope.shape(value)) if value in scope.outputs else None for value in node.outputs
    )
    return Routine(tuple(scope.operands), node.op, inputs, results, node.attrs)


def _dense(scope: Scope, value: str) -> Dense:
    """An operand of a routine."""
    shape = scope.shape(value)
    _, index = scope.axes_for(shape, "i")
    read = _plain(scope.expression(value, index))
    wanted = linear(index, shape)
    if read is None or read.index.terms != wanted.terms:
        raise NotLowerable(f"{value} does not lie in row-major order")
    return Dense(read.operand, read.index.base, shape)
