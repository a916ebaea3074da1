"""Rules of operators that make data from attributes and shapes."""

from __future__ import annotations

import math

import numpy as np
import onnx

from ....ir.dims import Dim, Expr, ceildiv
from ....ir.narrow import narrowed, widened
from ....ir.types import DType, bool_, f32, f64, i64
from .. import contents, scalars
from ..known import Known
from ..scalars import Scalar, Undecided
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site
from .strings import strings_constant
from .structured import Value

#: Elements that a range may have at most, and up to how many its numbers are written down.
_LONGEST = 1 << 40
_WRITTEN = 1 << 16


@rule("Constant")
def constant(site: Site) -> Value:
    for name, dtype in (
        ("value_int", np.int64),
        ("value_float", np.float32),
        ("value_ints", np.int64),
        ("value_floats", np.float32),
    ):
        attribute = site.attribute(name)
        if attribute is not None:
            array = np.array(onnx.helper.get_attribute_value(attribute), dtype)
            return _constant(site, array)
    texts = [site.attribute(name) for name in ("value_string", "value_strings")]
    if texts[0] is not None or texts[1] is not None:
        words = [texts[0].s] if texts[0] is not None else list(texts[1].strings) if texts[1] is not None else []
        return strings_constant(site.emitter, words, () if texts[0] is not None else (len(words),))
    tensor = site.get_tensor("value")
    if tensor is None:
        raise Unsupported("only dense constants are supported")
    if tensor.data_type == onnx.TensorProto.STRING:
        return strings_constant(site.emitter, list(tensor.string_data), tuple(tensor.dims))
    name = site.node.output[0]
    site.importer.constants[name] = tensor
    try:
        return site.importer.known(name) or site.importer.value(name, site.source)
    except Unsupported:
        del site.importer.constants[name]
        raise


def _constant(site: Site, array: np.ndarray) -> Result:
    dtype = i64 if array.dtype == np.int64 else f32
    return contents.from_array(dtype, array) or site.constant(array)


def _fill(site: Site) -> tuple[DType, Scalar]:
    """The `value` attribute of one element; 0.0 by default."""
    tensor = site.get_tensor("value")
    if tensor is None:
        return f32, 0.0
    array = site.importer.tensors.array(tensor)
    if array.size != 1:
        raise Unsupported("value must have one element")
    dtype = site.dtype_of(tensor.data_type)
    value = array.reshape(-1)[0].item()
    return dtype, int(value) if dtype == bool_ else value


@rule("ConstantOfShape")
def constant_of_shape(site: Site) -> Result:
    dims = site.dims(0, "the shape")
    for extent in dims:
        if site.facts.range(extent)[0] < 0:
            raise Unsupported(f"the extent {extent} may be negative")
    dtype, value = _fill(site)
    return contents.full(dtype, site.possible(dtype, dims), value)


@rule("Range")
@rule("Range", domain="com.microsoft")
def range_(site: Site) -> Result:
    dtype = site.type().dtype
    start, limit = (site.number(i, name) for i, name in enumerate(("start", "limit")))
    delta = site.number(2, "delta") if site.has(2) else 1
    if not isinstance(start, Expr) and not isinstance(limit, Expr) and not isinstance(delta, Expr):
        if not all(map(math.isfinite, (start, limit, delta))) or delta == 0:
            raise Unsupported(f"range({start}, {limit}, {delta}) has no end")
        steps = (limit - start) / delta
        count = max(0, math.ceil(steps)) if math.isfinite(steps) else _LONGEST + 1
        if count > _LONGEST:
            raise Unsupported(f"range({start}, {limit}, {delta}) has more than {_LONGEST} elements")
        if count > _WRITTEN:
            return _counted(site, dtype, start, delta, count)
        array = np.asarray(np.arange(count) * delta + start)
        if dtype.is_narrow:
            array = widened(narrowed(array, dtype), dtype)
        known = contents.from_array(dtype, array.astype(dtype.wide.np))
        return known or site.constant(array, dtype)
    try:
        first, step = scalars.integer(start), scalars.integer(delta)
        extent = _count(site, first, scalars.integer(limit), step)
        return contents.arange(dtype, first, step, extent)
    except Undecided:
        raise Unsupported(f"range({start}, {limit}, {delta}) is not supported") from None


def _counted(site: Site, dtype: DType, start: float, delta: float, count: int) -> Result:
    """A range by its positions."""
    if dtype.is_integer:
        return contents.arange(dtype, int(start), int(delta), count)
    steps = site.emit("mul", site.emit("iota", extent=count, dtype=f64), site.scalar(delta, f64))
    return site.cast(site.emit("add", steps, site.scalar(start, f64)), dtype)


def _count(site: Site, start: Dim, limit: Dim, step: Dim) -> Dim:
    if not isinstance(step, int) or step == 0:
        raise Undecided
    count = ceildiv(limit - start, step) if step > 0 else ceildiv(start - limit, -step)
    return site.facts.maximum(0, count)


def _grid(rows: Dim, columns: Dim, offset: Dim) -> tuple[Known, Known]:
    """Row positions plus an offset as a column, and column positions as a row."""
    return contents.along(i64, offset, rows, 0, 2), contents.arange(i64, 0, 1, columns)


@rule("Trilu")
@rule("Trilu", domain="com.microsoft")
def trilu(site: Site) -> Result:
    """Upper keeps column >= row + k, lower column <= row + k."""
    type = site.type()
    if type.rank < 2:
        raise Unsupported(f"needs rank 2 or more, got {type}")
    offset = scalars.integer(site.number(1, "k")) if site.has(1) else 0
    down, across = _grid(type.shape[-2], type.shape[-1], offset)
    kept = site.emit("ge" if site.get_int("upper", 1) else "le", site.data(across), site.data(down))
    return site.emit("where", kept, site.x(), site.scalar(0, type.dtype))


@rule("EyeLike")
def eye_like(site: Site) -> Result:
    type = site.type()
    if type.rank != 2:
        raise Unsupported(f"needs a matrix, got {type}")
    dtype = site.dtype_of(site.get_int("dtype")) if site.has_attribute("dtype") else type.dtype
    down, across = _grid(type.shape[0], type.shape[1], site.get_int("k"))
    return site.cast(site.emit("eq", site.data(across), site.data(down)), dtype)
