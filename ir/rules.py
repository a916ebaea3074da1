"""Type rules: the output types of an op from its attributes and input types. Named by the rows of `ops`.

Every rule takes `(node, types)`, types being one TensorType per input (None where an optional one is absent),
and returns one TensorType per output. It raises VerifyError where the inputs do not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .dims import Dim, Shape, product
from .errors import VerifyError
from .graph import Node
from .types import DType, TensorType, bool_, i64

Types = Sequence["TensorType | None"]


def fail(node: Node, what: str, hint: str = "") -> VerifyError:
    return VerifyError(what, op=node.op, source=node.source, hint=hint)


def given(node: Node, types: Types, index: int) -> TensorType:
    if index >= len(types) or types[index] is None:
        raise fail(node, f"input {index} is missing")
    return types[index]  # type: ignore[return-value]


def broadcast_shapes(node: Node, shapes: Sequence[Shape]) -> Shape:
    """Numpy broadcasting over symbolic dims; two different symbolic extents do not broadcast."""
    rank = max(len(s) for s in shapes)
    result: list[Dim] = []
    for axis in range(rank):
        extent: Dim = 1
        for shape in shapes:
            position = axis - (rank - len(shape))
            if position < 0 or shape[position] == 1:
                continue
            if extent != 1 and extent != shape[position]:
                text = " and ".join(f"[{', '.join(map(str, s))}]" for s in shapes)
                raise fail(node, f"shapes {text} do not broadcast: {extent} against {shape[position]}")
            extent = shape[position]
        result.append(extent)
    return tuple(result)


def axis_of(node: Node, axis: int, rank: int) -> int:
    """A possibly negative axis made non-negative, checked."""
    if not -rank <= axis < max(rank, 1):
        raise fail(node, f"axis {axis} is out of range for rank {rank}")
    return axis % rank if rank else 0


def own_axis(node: Node, axis: int, x: TensorType) -> int:
    """The same where there must be one: a scalar has none."""
    if not x.rank:
        raise fail(node, f"a scalar has no axis {axis}")
    return axis_of(node, axis, x.rank)


def _same_dtype(node: Node, types: Types, start: int = 0) -> DType:
    names = [t.dtype for t in types[start:] if t is not None]
    if any(d != names[0] for d in names):
        raise fail(node, f"inputs have different element types: {', '.join(map(str, names))}", "insert a cast")
    return names[0]


def elementwise(node: Node, types: Types) -> list[TensorType]:
    present = [t for t in types if t is not None]
    return [TensorType(_same_dtype(node, types), broadcast_shapes(node, [t.shape for t in present]))]


def smooth(node: Node, types: Types) -> list[TensorType]:
    """Functions of real numbers."""
    _only_floats(node, types)
    return elementwise(node, types)


def _only_floats(node: Node, types: Types) -> None:
    if not given(node, types, 0).dtype.is_float:
        raise fail(node, f"{node.op} of {types[0]}: only floats have one", "cast to a float first")


def compare(node: Node, types: Types) -> list[TensorType]:
    return [TensorType(bool_, elementwise(node, types)[0].shape)]


def cast(node: Node, types: Types) -> list[TensorType]:
    return [TensorType(node.attr("to"), given(node, types, 0).shape)]


def bitcast(node: Node, types: Types) -> list[TensorType]:
    x, to = given(node, types, 0), node.attr("to")
    if x.dtype.bits != to.bits:
        raise fail(node, f"{x.dtype} has {x.dtype.bits} bits, {to} has {to.bits}")
    return [TensorType(to, x.shape)]


def where(node: Node, types: Types) -> list[TensorType]:
    condition = given(node, types, 0)
    if condition.dtype != bool_:
        raise fail(node, f"the condition must be bool, got {condition.dtype}")
    shape = broadcast_shapes(node, [t.shape for t in types if t is not None])
    return [TensorType(_same_dtype(node, types, 1), shape)]


def reduce(node: Node, types: Types) -> list[TensorType]:
    x = given(node, types, 0)
    axes = {axis_of(node, a, x.rank) for a in node.attr("axes")}
    keep = node.attr("keepdims", True)
    shape = tuple(1 if i in axes else d for i, d in enumerate(x.shape) if keep or i not in axes)
    return [TensorType(x.dtype, shape)]


def arg_reduce(node: Node, types: Types) -> list[TensorType]:
    x = given(node, types, 0)
    axis, keep = axis_of(node, node.attr("axis"), x.rank), node.attr("keepdims", True)
    return [TensorType(i64, tuple(1 if i == axis else d for i, d in enumerate(x.shape) if keep or i != axis))]


def reshape(node: Node, types: Types) -> list[TensorType]:
    x = given(node, types, 0)
    shape = node.attr("shape")
    if product(shape) != product(x.shape):
        raise fail(node, f"cannot reshape {x} to [{', '.join(map(str, shape))}]: the element counts differ")
    return [TensorType(x.dtype, shape)]


def transpose(node: Node, types: Types) -> list[TensorType]:
    x, perm = given(node, types, 0), node.attr("perm")
    if sorted(perm) != list(range(x.rank)):
        raise fail(node, f"perm {perm} is no permutation of rank {x.rank}")
    return [TensorType(x.dtype, tuple(x.shape[p] for p in perm))]


def expand(node: Node, types: Types) -> list[TensorType]:
    x = given(node, types, 0)
    shape = broadcast_shapes(node, [x.shape, node.attr("shape")])
    return [TensorType(x.dtype, shape)]


def slice_(node: Node, types: Types) -> list[TensorType]:
    x = given(node, types, 0)
    axis = own_axis(node, node.attr("axis"), x)
    start, extent, step, full = node.attr("start"), node.attr("extent"), node.attr("step", 1), x.shape[axis]
    if step == 0:
        raise fail(node, "step must not be 0")
    last = start + (extent - 1) * step
    for at in (start, last) if extent != 0 else ():
        if isinstance(at, int) and (at < 0 or (isinstance(full, int) and at >= full)):
            raise fail(node, f"elements {start} to {last} are not within the extent {full} of axis {axis}")
    return [TensorType(x.dtype, (*x.shape[:axis], extent, *x.shape[axis + 1 :]))]


def concat(node: Node, types: Types) -> list[TensorType]:
    first = given(node, types, 0)
    axis = own_axis(node, node.attr("axis"), first)
    total: Dim = 0
    for index in range(len(types)):
        x = given(node, types, index)
        if x.rank != first.rank or any(a != b for i, (a, b) in enumerate(zip(x.shape, first.shape)) if i != axis):  # noqa: B905
            raise fail(node, f"cannot join {x} to {first} along axis {axis}")
        total = total + x.shape[axis]
    return [TensorType(_same_dtype(node, types), (*first.shape[:axis], total, *first.shape[axis + 1 :]))]


def pad(node: Node, types: Types) -> list[TensorType]:
    x, pads = given(node, types, 0), node.attr("pads")
    if len(pads) != 2 * x.rank:
        raise fail(node, f"pads must have {2 * x.rank} entries, got {len(pads)}")
    return [TensorType(x.dtype, tuple(d + pads[i] + pads[i + x.rank] for i, d in enumerate(x.shape)))]


def gather(node: Node, types: Types) -> list[TensorType]:
    x, indices = given(node, types, 0), given(node, types, 1)
    if x.rank == 0:
        raise fail(node, "a scalar has no axis to gather along")
    axis = axis_of(node, node.attr("axis"), x.rank)
    if not indices.dtype.is_integer:
        raise fail(node, f"indices must be integers, got {indices.dtype}")
    return [TensorType(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))]


def nonzero(node: Node, types: Types) -> list[TensorType]:
    x = given(node, types, 0)
    if x.dtype != bool_ or x.rank != 1:
        raise fail(node, f"takes bool of rank 1, got {x}", "compare with zero and reshape first")
    return [TensorType(i64, (node.attr("count"),))]


def iota(node: Node, types: Types) -> list[TensorType]:
    return [TensorType(node.attr("dtype", i64), (node.attr("extent"),))]


def fill(node: Node, types: Types) -> list[TensorType]:
    return [TensorType(node.attr("dtype"), node.attr("shape"))]


def dim(node: Node, types: Types) -> list[TensorType]:
    return [TensorType(node.attr("dtype", i64), ())]


def rotary(node: Node, types: Types) -> list[TensorType]:
    x = given(node, types, 0)
    if x.rank < 1 or (isinstance(x.shape[-1], int) and x.shape[-1] % 2):
        raise fail(node, f"rotary needs an even last extent, got {x}")
    for index in (1, 2):
        if broadcast_shapes(node, [given(node, types, index).shape, x.shape]) != x.shape:
            raise fail(node, f"input {index} of type {types[index]} does not broadcast to {x}")
    _same_dtype(node, types)
    return [x]


def softmax(node: Node, types: Types) -> list[TensorType]:
    _only_floats(node, types)
    x = given(node, types, 0)
    axis_of(node, node.attr("axis"), x.rank)
    return [x]


def cumulative(node: Node, types: Types) -> list[TensorType]:
    x = given(node, types, 0)
    axis_of(node, node.attr("axis"), x.rank)
    return [x]


def normalise(node: Node, types: Types) -> list[TensorType]:
    """layer_norm, rms_norm: over the axes from `axis` on; scale and bias broadcast to those."""
    _only_floats(node, types)
    x = given(node, types, 0)
    axis = axis_of(node, node.attr("axis"), x.rank)
    for extra in types[1:]:
        if extra is not None and broadcast_shapes(node, [extra.shape, x.shape[axis:]]) != x.shape[axis:]:
            raise fail(node, f"scale or bias {extra} does not fit the normalised axes of {x}")
    return [x]


def batch_norm(node: Node, types: Types) -> list[TensorType]:
    _only_floats(node, types)
    x = given(node, types, 0)
    if x.rank < 2:
        raise fail(node, f"{x} has no channels")
    for index in range(1, 5):
        if given(node, types, index).shape != (x.shape[1],):
            raise fail(node, f"input {index} must have shape [{x.shape[1]}], got {types[index]}")
    return [x]


def matmul(node: Node, types: Types) -> list[TensorType]:
    a, b = given(node, types, 0), given(node, types, 1)
    if a.rank < 1 or b.rank < 1:
        raise fail(node, "matmul needs inputs of rank 1 or more")
    left = a.shape if a.rank > 1 else (1, *a.shape)
    right = b.shape if b.rank > 1 else (*b.shape, 1)
    if left[-1] != right[-2]:
        raise fail(node, f"matmul of {a} by {b}: inner sizes {left[-1]} and {right[-2]} differ")
    batch = broadcast_shapes(node, [left[:-2], right[:-2]]) if max(a.rank, b.rank) > 2 else ()
    shape = (*batch, *((left[-2],) if a.rank > 1 else ()), *((right[-1],) if b.rank > 1 else ()))
    return [TensorType(_same_dtype(node, types), shape)]


#: Windows are smaller, and steps shorter, than this.
_FARTHEST = 1 << 31


def _spatial(node: Node, x: TensorType) -> tuple[Dim, Shape, Dim]:
    """Batch, spatial extents and channels of an activation, whichever layout the node says."""
    if x.rank < 2:
        raise fail(node, f"{x} has no batch and channels")
    if node.attr("channels_last", False):
        return x.shape[0], x.shape[1:-1], x.shape[-1]
    return x.shape[0], x.shape[2:], x.shape[1]


def _windowed(node: Node, x: TensorType, kernel: Sequence[int], channels: Dim) -> TensorType:
    batch, spatial, _ = _spatial(node, x)
    n = len(spatial)
    strides, pads, dilations = node.attr("strides"), node.attr("pads"), node.attr("dilations")
    if not (len(strides) == len(dilations) == len(kernel) == n and len(pads) == 2 * n):
        raise fail(node, f"strides, pads, dilations and kernel must fit {n} spatial axes")
    if not all(0 < one < _FARTHEST for one in (*strides, *dilations, *kernel)) or any(
        abs(p) >= _FARTHEST for p in pads
    ):
        raise fail(node, f"a window {kernel}, strides {strides}, dilations {dilations} or pads {pads} is not possible")
    sizes = []
    for i, extent in enumerate(spatial):
        reach = dilations[i] * (kernel[i] - 1) + 1
        room = extent + (pads[i] + pads[i + n] - reach)
        sizes.append(room // strides[i] + 1)
        if isinstance(room, int) and room < 0:
            raise fail(node, f"the window of {reach} does not fit the padded extent of {extent}")
    shape = (batch, *sizes, channels) if node.attr("channels_last", False) else (batch, channels, *sizes)
    return TensorType(x.dtype, shape)


def conv(node: Node, types: Types) -> list[TensorType]:
    """x, filter [out, in / groups, *kernel], optional bias [out]."""
    x, w = given(node, types, 0), given(node, types, 1)
    groups = node.attr("groups", 1)
    _, spatial, channels = _spatial(node, x)
    if w.rank != len(spatial) + 2 or any(not isinstance(d, int) for d in w.shape):
        raise fail(node, f"filter {w} does not fit input {x}")
    if groups < 1 or channels != w.shape[1] * groups or w.shape[0] % groups:
        raise fail(node, f"filter {w} with {groups} groups does not fit {channels} input channels")
    if len(types) > 2 and types[2] is not None and types[2].shape != w.shape[:1]:
        raise fail(node, f"bias {types[2]} does not fit filter {w}")
    _same_dtype(node, types)
    return [_windowed(node, x, w.shape[2:], w.shape[0])]  # type: ignore[arg-type]


def pool(node: Node, types: Types) -> list[TensorType]:
    x = given(node, types, 0)
    return [_windowed(node, x, node.attr("kernel"), _spatial(node, x)[2])]


def resize(node: Node, types: Types) -> list[TensorType]:
    return [TensorType(given(node, types, 0).dtype, node.attr("shape"))]


def attention(node: Node, types: Types) -> list[TensorType]:
    """q [B, H, L, D], k [B, G, S, D], v [B, G, S, E], optional additive mask broadcastable to [B, H, L, S]."""
    _only_floats(node, types)
    q, k, v = (given(node, types, i) for i in range(3))
    if not q.rank == k.rank == v.rank == 4:
        raise fail(node, f"attention needs rank 4, got {q}, {k}, {v}")
    if q.shape[3] != k.shape[3] or k.shape[:3] != v.shape[:3] or q.shape[0] != k.shape[0]:
        raise fail(node, f"attention shapes do not fit: q {q}, k {k}, v {v}")
    heads, groups = q.shape[1], k.shape[1]
    if not isinstance(heads, int) or not isinstance(groups, int) or groups < 1 or heads % groups:
        raise fail(node, f"{groups} key heads do not divide {heads} query heads")
    dtype = _same_dtype(node, types)
    if len(types) > 3 and types[3] is not None:
        scores = (*q.shape[:3], k.shape[2])
        if broadcast_shapes(node, [types[3].shape, scores]) != scores:
            raise fail(node, f"mask {types[3]} does not broadcast to [{', '.join(map(str, scores))}]")
    return [TensorType(dtype, (*q.shape[:3], v.shape[3]))]


def ragged_attention(node: Node, types: Types) -> list[TensorType]:
    """q [N, H, D], k [N, G, D], v [N, G, E], ends i64 [B]: sequence b is the rows ends[b - 1] .. ends[b] - 1 (the first from 0).

    The ends do not fall, the last is N, and no sequence is longer than `longest`.
    """
    _only_floats(node, types)
    q, k, v, ends = (given(node, types, i) for i in range(4))
    if not q.rank == k.rank == v.rank == 3:
        raise fail(node, f"needs rank 3, got {q}, {k}, {v}")
    if q.shape[2] != k.shape[2] or k.shape[:2] != v.shape[:2] or q.shape[0] != k.shape[0]:
        raise fail(node, f"shapes do not fit: q {q}, k {k}, v {v}")
    heads, groups = q.shape[1], k.shape[1]
    if not isinstance(heads, int) or not isinstance(groups, int) or groups < 1 or heads % groups:
        raise fail(node, f"{groups} key heads do not divide {heads} query heads")
    if ends.dtype != i64 or ends.rank != 1:
        raise fail(node, f"the ends of the sequences must be i64 of rank 1, got {ends}")
    return [TensorType(_same_dtype(node, types[:3]), (*q.shape[:2], v.shape[2]))]


#: activations an expert may have: attribute -> op and its attributes
MOE_ACTIVATIONS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "silu": ("silu", {}),
    "gelu": ("gelu", {"approximate": "tanh"}),
    "relu": ("relu", {}),
}


def moe(node: Node, types: Types) -> list[TensorType]:
    """x [T, H], probabilities [T, E], up [E, F, H], down [E, H, F], optional second up [E, F, H] whose product is multiplied in.

    Rows of the expert matrices are outputs, as ONNX has them.
    """
    _only_floats(node, types)
    x, shares, up, down = (given(node, types, i) for i in range(4))
    second = types[4] if len(types) > 4 else None
    if x.rank != 2 or shares.rank != 2 or up.rank != 3 or shares.shape != (x.shape[0], up.shape[0]):
        raise fail(node, f"moe of {x} with probabilities {shares} and experts {up} does not fit")
    experts, inner, width = up.shape
    if (
        width != x.shape[1]
        or down.shape != (experts, width, inner)
        or (second is not None and second.shape != up.shape)
    ):
        raise fail(node, f"the experts of moe do not fit {x}: {up}, {down}{f', {second}' if second else ''}")
    if not isinstance(experts, int) or not 1 <= node.attr("top_k") <= experts:
        raise fail(node, f"top_k {node.attr('top_k')} is not within 1..{experts}")
    _same_dtype(node, types)
    return [x]
