"""Rules of casts between numbers and strings."""

from __future__ import annotations

from typing import Union

import onnx

from ....ir.types import DType, bool_, f32, f64, i64, u64
from ..known import Known
from ..unsupported import Unsupported
from .registry import text_rule
from .site import Site
from .strings import slots_of, strings_of
from .structured import Strings, Value

STRING: int = onnx.TensorProto.STRING


def spelled(site: Site, x: Union[str, Known]) -> Strings:
    """Numbers as text: the fewest digits that read back as the same, as Python and numpy write them."""
    value = site.data(x)
    dtype = site.type_of(value).dtype
    if dtype == bool_:
        words = site.constant(slots_of([b"False", b"True"], (2,)))
        return strings_of(site, site.emit("gather", words, site.cast(value, i64), axis=0))
    if dtype.is_float and dtype not in (f32, f64):
        raise Unsupported(f"writing {dtype} as text is not supported", "cast to float first")
    wide = dtype if dtype.is_float else u64 if dtype.kind == "uint" else i64
    return strings_of(site, site.emit("number_string", site.cast(value, wide)))


def read(site: Site, x: Strings, to: DType) -> str:
    """The numbers that strings spell."""
    if to == bool_:
        raise Unsupported("reading text as bool is not supported", "cast to a number first")
    return site.cast(site.emit("string_number", x.value, to=i64 if to.is_integer else f64), to)


@text_rule("Cast")
def cast_strings(site: Site) -> Value:
    site.attribute("saturate"), site.attribute("round_mode")
    return _converted(site, site.get_int("to"))


@text_rule("CastLike")
def cast_like_strings(site: Site) -> Value:
    site.attribute("saturate"), site.attribute("round_mode")
    like = site.value(1)
    return _converted(site, STRING if isinstance(like, Strings) else site.type(1).dtype.onnx)


def _converted(site: Site, code: int) -> Value:
    x = site.value(0)
    if isinstance(x, (str, Known)):
        return spelled(site, x)
    if not isinstance(x, Strings):
        raise Unsupported("casts tensors")
    return x if code == STRING else read(site, x, site.dtype_of(code))
