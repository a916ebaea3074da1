"""Rules of operators that make data from numbers: they are known until an operator needs them as data."""

from __future__ import annotations

from ....ir.dims import Dim, Expr, ceildiv
from ....ir.types import i64
from .. import contents
from ..known import Known
from ..scalars import Scalar
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site


def _filled(site: Site, value: object) -> Known:
    kind = site.result()
    if not isinstance(value, (bool, int, float, Expr)):
        raise Unsupported(f"the value {value} must be a number")
    cell: Scalar = value
    if not isinstance(value, Expr):
        cell = float(value) if kind.dtype.is_float else int(value != 0) if kind.dtype.kind == "bool" else int(value)
    return contents.full(kind.dtype, kind.shape, cell)


@rule("full", "full_like", "new_full", "fill.Scalar", "scalar_tensor")
def full(site: Site) -> Result:
    name = next(n for n in ("fill_value", "value", "s") if n in site.arguments)
    return _filled(site, site.get(name))


@rule("fill.Tensor")
def fill(site: Site) -> Result:
    return site.expand(site.x("value", site.result().dtype), site.result().shape)


@rule("zeros", "zeros_like", "new_zeros", "empty.memory_format", "empty_like", "new_empty", "empty_strided")
@rule("zero", "new_empty_strided")
def zeros(site: Site) -> Result:
    """What torch leaves undefined is zero here."""
    return _filled(site, 0)


@rule("ones", "ones_like", "new_ones")
def ones(site: Site) -> Result:
    return _filled(site, 1)


@rule("arange", "arange.start", "arange.start_step")
def arange(site: Site) -> Result:
    """start + step * position; of fractions as data."""
    kind = site.result()
    start, end, step = site.get("start", 0) or 0, site.get("end"), site.get("step", 1)
    step = 1 if step is None else step
    if all(isinstance(v, (int, Expr)) for v in (start, end, step)):
        extent = kind.shape[0]
        if isinstance(step, int) and not isinstance(extent, int):
            span: Dim = end - start
            extent = span if step == 1 else ceildiv(span, step) if step > 0 else ceildiv(-span, -step)
        if not kind.dtype.is_float:
            return contents.arange(kind.dtype, start, step, extent)
    extent = kind.shape[0]
    value = site.cast(site.emit("iota", extent=extent, dtype=i64), kind.dtype)
    if step != 1:
        value = site.emit("mul", value, site.value_of(step, kind.dtype))
    return site.emit("add", value, site.value_of(start, kind.dtype)) if start != 0 else value


@rule("linspace")
def linspace(site: Site) -> Result:
    kind = site.result()
    start, end = site.number("start"), site.number("end")
    count = kind.shape[0]
    if not isinstance(count, int):
        raise Unsupported(f"{count} steps must be constant", "fix a dim with --dim NAME=N")
    step = (end - start) / (count - 1) if count > 1 else 0.0
    value = site.emit(
        "mul", site.cast(site.emit("iota", extent=count, dtype=i64), kind.dtype), site.scalar(step, kind.dtype)
    )
    return site.emit("add", value, site.scalar(start, kind.dtype))


@rule("eye", "eye.m")
def eye(site: Site) -> Result:
    kind = site.result()
    rows, columns = contents.along(i64, 0, kind.shape[0], 0, 2), contents.arange(i64, 0, 1, kind.shape[1])
    return site.cast(site.emit("eq", site.data(rows), site.data(columns)), kind.dtype)


@rule("tril", "triu")
def triangle(site: Site) -> Result:
    """Where column - row <= diagonal (below), or >= (above); zeros elsewhere."""
    kind = site.type("self")
    rows, columns = kind.shape[-2:]
    down, across = contents.along(i64, site.dim("diagonal"), rows, 0, 2), contents.arange(i64, 0, 1, columns)
    kept = site.emit("le" if site.name == "tril" else "ge", site.data(across), site.data(down))
    if kind.dtype.kind == "bool":
        return site.emit("and", kept, site.x("self"))
    return site.emit("where", kept, site.x("self"), site.scalar(0, kind.dtype))
