"""Rules of operators that find out how many results there are."""

from __future__ import annotations

from ....ir.dims import Dim, product
from ....ir.types import bool_, i64
from .. import contents
from ..draft import Draft
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site


def chosen(draft: Draft, condition: str, hint: str) -> tuple[str, Dim]:
    """The positions of the true elements of a condition of rank 1, and the run-time dim of their number."""
    count = draft.runtime_dim(hint, draft.type_of(condition).elements)
    return draft.emit("nonzero", condition, count=count), count


@rule("NonZero")
def nonzero(site: Site) -> Result:
    """[rank, count]: the coordinates along each axis, in row-major order; a scalar has none."""
    type, x = site.type(), site.x()
    if type.dtype != bool_:
        x = site.emit("ne", x, site.scalar(0, type.dtype))
    positions, count = chosen(site, site.reshape(x, (type.elements,)), "nonzero")
    rows = site.reshape(positions, (1, count))
    if type.rank < 2:
        return site.slice(rows, 0, 0, type.rank)
    found = []
    for axis, extent in enumerate(type.shape):
        inner = product(type.shape[axis + 1 :])
        here = site.emit("div", rows, _number(site, inner)) if inner != 1 else rows
        found.append(site.emit("mod", here, _number(site, extent)) if axis else here)
    return site.emit("concat", *found, axis=0)


@rule("Compress")
def compress(site: Site) -> Result:
    """The slices along an axis, or the elements in row-major order, whose condition is true."""
    x, condition = site.type(0), site.type(1)
    if condition.rank != 1:
        raise Unsupported(f"the condition must have rank 1, got {condition}")
    axis = site.axis(site.get_int("axis"), x.rank) if site.has_attribute("axis") else 0
    value = site.x(0) if site.has_attribute("axis") else site.reshape(site.x(0), (x.elements,))
    positions, _ = chosen(site, site.x(1), "compress")
    return site.emit("gather", value, positions, axis=axis)


@rule("Unique")
def unique(site: Site) -> list[str]:
    """Of the elements, or of the slices along an axis."""
    return unique_rows(site, site.x(), site.type().rank, bool(site.get_int("sorted", 1)))


@rule("Unique", domain="com.microsoft")
def unique_as_they_occur(site: Site) -> list[str]:
    """Without the places of the first ones."""
    values, _, *rest = unique_rows(site, site.x(), site.type().rank, False)
    return [values, *rest]


def unique_rows(site: Site, value: str, rank: int, ordered: bool) -> list[str]:
    """The outputs of Unique for a value of which the first `rank` axes are its own; what lies behind them belongs to an element.
    Elements or slices are seen as rows of a matrix; `ordered` has them in order, else they come as they occur."""
    shape = site.type_of(value).shape
    if not site.has_attribute("axis"):
        shape = (product(shape[:rank]), *shape[rank:])
        value = site.reshape(value, shape)
    axis = site.axis(site.get_int("axis"), rank) if site.has_attribute("axis") else 0
    order = [axis, *(a for a in range(len(shape)) if a != axis)]
    rest = [shape[a] for a in order[1:]]
    count = site.runtime_dim("unique", shape[axis])
    value = site.reshape(site.transpose(value, order), (shape[axis], product(rest)))
    value, *places = site.emit_all("unique", value, outputs=4, sorted=ordered, count=count)
    value = site.reshape(value, (count, *rest))
    return [site.transpose(value, [order.index(a) for a in range(len(order))]), *places]


def _number(site: Site, value: Dim) -> str:
    return site.data(contents.scalar(i64, value))
