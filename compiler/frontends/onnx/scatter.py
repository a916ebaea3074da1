"""Rules of operators that put elements where indices say."""

from __future__ import annotations

from ....ir.dims import Dim, product
from ....ir.types import i64
from .. import contents
from ..unsupported import Unsupported
from .indexing import flat_rows
from .registry import Result, rule
from .site import Site


def _reduction(site: Site) -> str:
    reduction = site.get_str("reduction", "none")
    if reduction not in ("none", "add", "mul", "min", "max"):
        raise Unsupported(f"reduction {reduction!r} is not known")
    return reduction


@rule("Scatter", "ScatterElements")
def scatter_elements(site: Site) -> Result:
    axis = site.axis(site.get_int("axis"), site.type().rank)
    return site.emit("scatter_elements", *(site.x(i) for i in range(3)), axis=axis, reduction=_reduction(site))


@rule("ScatterND")
def scatter_nd(site: Site) -> Result:
    """Rows of the data, its leading axes seen as one."""
    data, indices, reduction = site.type(0), site.type(1), _reduction(site)
    depth = indices.shape[-1] if indices.rank else 0
    if not isinstance(depth, int) or not 1 <= depth <= data.rank:
        raise Unsupported(f"indices {indices} do not fit data {data}")
    rest, count = data.shape[depth:], product(indices.shape[:-1])
    flat = site.reshape(site.x(0), (product(data.shape[:depth]), *rest))
    rows = site.reshape(flat_rows(site, data.shape[:depth], indices.shape[:-1]), (count,))
    updates = site.reshape(site.x(2), (count, *rest))
    return site.reshape(site.emit("scatter", flat, rows, updates, reduction=reduction), data.shape)


@rule("TensorScatter")
def tensor_scatter(site: Site) -> Result:
    """Updates written into a cache along its axis of time, of each sequence from an index on."""
    past, update, mode = site.type(0), site.type(1), site.get_str("mode", "linear")
    axis = site.axis(site.get_int("axis", -2), past.rank)
    if axis == 0 or mode not in ("linear", "circular") or update.rank != past.rank:
        raise Unsupported(f"an update {update} of {past} along axis {axis} in mode {mode!r}")
    batch, extent, length = past.shape[0], past.shape[axis], update.shape[axis]
    between, rest = product(past.shape[1:axis]), past.shape[axis + 1 :]
    steps = site.data(contents.along(i64, 0, length, 2, 3))
    if site.has(2):
        steps = site.emit("add", site.reshape(site.cast(site.x(2), i64), (batch, 1, 1)), steps)
    if mode == "circular":
        steps = site.emit("mod", steps, site.scalar(extent, i64))
    blocks = site.data(contents.arange(i64, 0, extent, batch * between))
    rows = site.emit("add", site.reshape(blocks, (batch, between, 1)), steps)
    flat = site.reshape(site.x(0), (batch * between * extent, *rest))
    count = batch * between * length
    value = site.emit("scatter", flat, site.reshape(rows, (count,)), site.reshape(site.x(1), (count, *rest)))
    return site.reshape(value, past.shape)


@rule("MaxUnpool")
def max_unpool(site: Site) -> Result:
    """Zeros, with each element where its maximum was found."""
    x, kernel = site.type(0), site.get_ints("kernel_shape") or ()
    n = len(kernel)
    strides, pads = site.get_ints("strides") or (1,) * n, site.get_ints("pads") or (0,) * (2 * n)
    if n != x.rank - 2 or len(strides) != n or len(pads) != 2 * n:
        raise Unsupported(f"kernel_shape {list(kernel)} does not fit {x}")
    shape: tuple[Dim, ...] = (
        *x.shape[:2],
        *((d - 1) * strides[i] - pads[i] - pads[i + n] + kernel[i] for i, d in enumerate(x.shape[2:])),
    )
    zeros = site.emit("fill", value=0.0, shape=(product(shape),), dtype=x.dtype)
    where = site.reshape(site.x(1), (x.elements,))
    value = site.emit("scatter", zeros, where, site.reshape(site.x(0), (x.elements,)))
    value = site.reshape(value, shape)
    if site.has(2):
        wanted = site.dims(2, "the output's shape")
        if len(wanted) != len(shape):
            raise Unsupported(f"output_shape of {len(wanted)} extents for rank {len(shape)}")
        more = [w - have for w, have in zip(wanted, shape, strict=True)]
        ends = [m for m in more if isinstance(m, int) and m >= 0]
        if len(ends) != len(more):
            raise Unsupported(
                f"output_shape [{', '.join(map(str, wanted))}] for maxima of [{', '.join(map(str, shape))}]"
            )
        value = site.emit("pad", value, pads=(*(0,) * len(ends), *ends)) if any(ends) else value
    return value
