"""Rules of sliding windows: pooling, and the attributes that convolutions share with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import onnx

from ....ir.dims import Dim, exact_div
from ..unsupported import Unsupported
from ..windows import Ints, beyond, extended, mean_of_windows
from .registry import Result, rule
from .site import Site


def window_attributes(site: Site, kernel: Sequence[int]) -> tuple[Ints, Ints, Ints]:
    """Strides, pads (all begins, then all ends) and dilations, `auto_pad` resolved."""
    n = len(kernel)
    if not kernel or any(not isinstance(k, int) or k < 1 for k in kernel):
        raise Unsupported(f"kernel {list(kernel)} must be positive numbers")
    strides = site.get_ints("strides") or (1,) * n
    dilations = site.get_ints("dilations") or (1,) * n
    pads = site.get_ints("pads") or (0,) * (2 * n)
    if len(strides) != n or len(dilations) != n or len(pads) != 2 * n or min(*strides, *dilations) < 1:
        raise Unsupported(f"strides {strides}, dilations {dilations} and pads {pads} do not fit {n} spatial axes")
    if any(p < 0 for p in pads):
        raise Unsupported(f"negative pads {list(pads)} are not supported")
    auto = site.get_str("auto_pad", "NOTSET")
    if auto == "VALID":
        return strides, (0,) * (2 * n), dilations
    if auto in ("NOTSET", ""):
        return strides, pads, dilations
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise Unsupported(f"auto_pad {auto!r} is not known")
    extents = site.type().shape[2:]
    totals = [_same(*item) for item in zip(extents, kernel, strides, dilations, strict=True)]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return strides, (*small, *large) if auto == "SAME_UPPER" else (*large, *small), dilations


def _same(extent: Dim, kernel: int, stride: int, dilation: int) -> int:
    """The padding that makes the output ceil(extent / stride)."""
    reach = dilation * (kernel - 1) + 1
    if isinstance(extent, int):
        return max(0, (-(-extent // stride) - 1) * stride + reach - extent)
    if exact_div(extent, stride) is None:
        raise Unsupported(
            f"auto_pad SAME with stride {stride} depends on the extent {extent}",
            "fix it with --dim NAME=N, or export explicit pads",
        )
    return max(0, reach - stride)


def _pool(site: Site) -> tuple[dict[str, Ints], Ints]:
    """Kernel, strides, pads and dilations, and how far ceil_mode lets windows reach beyond the pads at the end."""
    kernel = site.get_ints("kernel_shape") or ()
    spatial = site.type().shape[2:]
    n = len(spatial)
    if len(kernel) != n or not 1 <= n <= 3:
        raise Unsupported(f"kernel_shape {list(kernel)} does not fit {site.type()}")
    strides, pads, dilations = window_attributes(site, kernel)
    more = (0,) * n
    if site.get_int("ceil_mode") and site.get_str("auto_pad", "NOTSET") in ("NOTSET", "", "VALID"):
        reaches = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
        more = tuple(beyond(spatial[i], pads[i], pads[i + n], reaches[i], strides[i]) for i in range(n))
    return {"kernel": kernel, "strides": strides, "pads": pads, "dilations": dilations}, more


@rule("MaxPool")
def max_pool(site: Site) -> Result | tuple[Result, ...]:
    window, more = _pool(site)
    window["pads"] = extended(window["pads"], more)
    by_columns = bool(site.get_int("storage_order"))  # says how positions are counted
    if site.used(1):
        return site.emit_all("max_pool_at", site.x(), outputs=2, column_major=by_columns, **window)
    return site.emit("max_pool", site.x(), **window)


@rule("AveragePool")
def average_pool(site: Site) -> Result:
    window, more = _pool(site)
    return mean_of_windows(site, site.x(), window, more, bool(site.get_int("count_include_pad")))


def pooled(site: Site, x: str, rule: Callable[[Site], object], channels_last: bool) -> str:
    """What the rule of a pool, the one of `site` but for where channels are, makes of a value [batch, channels, ..] or
    [batch, .., channels]."""
    rank = site.type_of(x).rank
    if not channels_last or rank < 3:
        found = rule(site.given(x))
        assert isinstance(found, str)
        return found
    found = rule(site.given(site.transpose(x, (0, rank - 1, *range(1, rank - 1)))))
    assert isinstance(found, str)
    return site.transpose(found, (0, *range(2, rank), 1))


@rule("GlobalAveragePool", "GlobalMaxPool")
def global_pool(site: Site) -> Result:
    op = "reduce_mean" if site.op == "GlobalAveragePool" else "reduce_max"
    return site.emit(op, site.x(), axes=tuple(range(2, site.type().rank)), keepdims=True)


@rule("GlobalLpPool")
def global_lp_pool(site: Site) -> Result:
    p = _exponent(site)
    axes = tuple(range(2, site.type().rank))
    return _root(site, site.emit("reduce_sum", _power(site, p), axes=axes, keepdims=True), p)


@rule("LpPool")
def lp_pool(site: Site) -> Result:
    """The p-norm of each window; what lies outside of the input counts as zero."""
    window, more = _pool(site)
    window["pads"] = extended(window["pads"], more)
    p = _exponent(site)
    mean = site.emit("avg_pool", _power(site, p), count_include_pad=True, **window)
    count = site.scalar(float(math.prod(window["kernel"])), site.type().dtype)
    return _root(site, site.emit("mul", mean, count), p)


def _exponent(site: Site) -> float:
    """A whole number; opset 1 has any (`early` passes on what is not whole)."""
    attribute = site.attribute("p")
    fractional = attribute is not None and attribute.type == onnx.AttributeProto.FLOAT
    p = site.get_float("p") if fractional else float(site.get_int("p", 2))
    if not 0 < p < math.inf:
        raise Unsupported(f"a norm of order {p}")
    return p


def _power(site: Site, p: float) -> str:
    """|x| ** p."""
    x = site.x()
    if p == 2:
        return site.emit("mul", x, x)
    size = site.emit("abs", x)
    return size if p == 1 else site.emit("pow", size, site.scalar(p, site.type().dtype))


def _root(site: Site, value: str, p: float) -> str:
    if p in (1, 2):
        return value if p == 1 else site.emit("sqrt", value)
    return site.emit("pow", value, site.scalar(1 / p, site.type().dtype))
