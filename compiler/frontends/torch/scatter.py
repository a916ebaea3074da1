"""Rules of operators that put elements or parts in place of others."""

from __future__ import annotations

from ....ir.dims import Dim, product
from ....ir.types import bool_, i64
from .. import contents
from ..indexing import not_negative, row_numbers
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site

_REDUCTIONS = {"sum": "add", "add": "add", "prod": "mul", "multiply": "mul", "amax": "max", "amin": "min"}


@rule("scatter.src", "scatter.value", "scatter_add", "scatter.reduce", "scatter.value_reduce", "scatter_reduce.two")
def scatter(site: Site) -> Result:
    """Along one axis at the index found at the same position; indices name each place once, or what they name is combined."""
    kind, index = site.type("self"), site.type("index")
    if not kind.rank:
        raise Unsupported("of a scalar is not supported")
    named = str(site.get("reduce", "add" if site.name == "scatter_add" else ""))
    if named == "mean" or (site.name == "scatter_reduce" and not site.flag("include_self")):
        raise Unsupported(f"reduce={named!r} without the tensor's own elements is not supported")
    if site.has("value"):
        updates = site.expand(site.x("value", kind.dtype), index.shape)
    else:
        updates = site.x("src", kind.dtype)
        for axis, extent in enumerate(index.shape):
            updates = site.slice(updates, axis, 0, extent)
    reduction = _REDUCTIONS.get(named, "none")
    axis = site.axis_at("dim", kind.rank)
    return site.emit("scatter_elements", site.x("self"), site.x("index"), updates, axis=axis, reduction=reduction)


@rule("index_put", "_unsafe_index_put", "index_put.hacked_twin")
def index_put(site: Site) -> Result:
    """Of the leading axes, by whole numbers; or a mask over all axes and one value."""
    kind, indices = site.type("self"), list(site.get("indices"))
    if len(indices) == 1 and indices[0] is not None and site.type_of_argument(indices[0]).dtype == bool_:
        value = site.type("values")
        if value.elements == 1 and not site.flag("accumulate"):
            mask = site.value_of(indices[0])
            behind = kind.rank - site.type_of(mask).rank
            mask = site.reshape(mask, (*site.type_of(mask).shape, *(1,) * behind))
            return site.emit("where", mask, site.reshape(site.x("values", kind.dtype), ()), site.x("self"))
    kept = next((k for k, one in enumerate(indices) if one is not None), 0)
    if kept == len(indices) - 1 and site.type_of_argument(indices[kept]).rank == 1:
        if site.type_of_argument(indices[kept]).dtype != bool_:
            return _slices(site, kept, site.value_of(indices[kept], i64), "values", site.flag("accumulate"))
    if any(one is None or site.type_of_argument(one).dtype == bool_ for one in indices):
        raise Unsupported("by a mask, or behind axes that are kept whole, is not supported")
    shape = contents.broadcast([site.type_of_argument(one).shape for one in indices])
    if shape is None:
        raise Unsupported("the shapes of the indices do not broadcast")
    lead, rest = kind.shape[: len(indices)], kind.shape[len(indices) :]
    count = product(shape)  # rows of the leading axes taken as one
    total = row_numbers(
        site,
        (not_negative(site, site.value_of(one, i64), extent) for one, extent in zip(indices, lead, strict=True)),
        lead,
    )
    rows = site.reshape(site.expand(total, shape), (count,))
    updates = site.reshape(site.expand(site.x("values", kind.dtype), (*shape, *rest)), (count, *rest))
    flat = site.reshape(site.x("self"), (product(lead), *rest))
    reduction = "add" if site.flag("accumulate") else "none"
    return site.reshape(site.emit("scatter", flat, rows, updates, reduction=reduction), kind.shape)


@rule("index_add", "index_copy", "index_fill.int_Scalar")
def index_rows(site: Site) -> Result:
    """Whole slices of one axis."""
    kind = site.type("self")
    axis = site.axis_at("dim", kind.rank)
    given = "value" if site.name == "index_fill" else "source"
    return _slices(site, axis, site.x("index", i64), given, site.name == "index_add", site.get("alpha", 1))


def _slices(site: Site, axis: int, rows: str, given: str, adds: bool, alpha: float = 1) -> str:
    """Slices of one axis put at `rows`, or added there: nothing but them is moved."""
    kind = site.type("self")
    shape = (*kind.shape[:axis], *site.type_of(rows).shape, *kind.shape[axis + 1 :])
    updates = site.expand(site.x(given, kind.dtype), shape)
    if alpha != 1:
        updates = site.emit("mul", updates, site.value_of(alpha, kind.dtype))
    reduction = "add" if adds else "none"
    if not axis:
        return site.emit("scatter", site.x("self"), rows, updates, reduction=reduction)
    wide = site.reshape(rows, tuple(extent if a == axis else 1 for a, extent in enumerate(shape)))
    return site.emit(
        "scatter_elements", site.x("self"), site.expand(wide, shape), updates, axis=axis, reduction=reduction
    )


@rule("copy")
def copy(site: Site) -> Result:
    """Every element replaced."""
    kind = site.type("self")
    return site.expand(site.x("src", kind.dtype), kind.shape)


@rule("slice_scatter", "select_scatter")
def part_replaced(site: Site) -> Result:
    """A part of one axis: what is before it, the new part, and what is behind it."""
    kind = site.type("self")
    axis = site.axis_at("dim", kind.rank)
    extent = kind.shape[axis]
    part = site.x("src", kind.dtype)
    if site.name == "select_scatter":
        start = site.facts.position(site.dim("index"), extent)
        part = site.reshape(part, (*kind.shape[:axis], 1, *kind.shape[axis + 1 :]))
        count: Dim = 1
    else:
        if site.whole("step", 1) != 1:
            raise Unsupported("with a step other than 1 is not supported")
        end = site.dim("end", extent)
        end = extent if isinstance(end, int) and end >= 1 << 62 else end
        start, count = site.facts.window(site.dim("start"), end, 1, extent)
    pieces = []
    if start != 0:
        pieces.append(site.slice(site.x("self"), axis, 0, start))
    pieces.append(part)
    if start + count != extent:
        pieces.append(site.slice(site.x("self"), axis, start + count, extent - start - count))
    return pieces[0] if len(pieces) == 1 else site.emit("concat", *pieces, axis=axis)
