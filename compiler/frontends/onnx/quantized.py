"""Rules of operators on quantised tensors: products of whole numbers in i32, then a scale and a saturating rounding."""

from __future__ import annotations

from ....ir.dims import product as dim_product
from ....ir.types import DType, f32, f64, i32, u8
from ..unsupported import Unsupported
from .contraction import convolution
from .registry import Result, rule
from .site import Site
from .window import average_pool, max_pool, pooled

_MICROSOFT = "com.microsoft"


def _centred(site: Site, index: int, zero: int, axis: int = -1) -> str:
    """An input less its zero points in i32; a row of them lies along `axis`."""
    value = site.cast(site.x(index), i32)
    if not site.has(zero):
        return value
    return site.emit("sub", value, _along(site, site.cast(site.x(zero), i32), axis, site.type(index).rank))


def _along(site: Site, value: str, axis: int, rank: int) -> str:
    """Scales or zero points shaped so that they broadcast: one number, or a row along an axis."""
    shape = site.type_of(value).shape
    if shape in ((), (1,)):
        return site.reshape(value, ())
    if len(shape) != 1:
        return value
    if rank < 1:
        raise Unsupported(f"a row of scales or zero points, {site.type_of(value)}, for a scalar")
    return site.reshape(value, (*shape, *(1,) * (rank - 1 - axis % rank)))


def _saturated(site: Site, value: str, zero: int, otherwise: DType) -> str:
    """round(value + zero point), brought within the type."""
    to = site.type(zero).dtype if site.has(zero) else otherwise
    dtype = site.type_of(value).dtype
    if site.has(zero):
        value = site.emit("add", value, site.cast(_along(site, site.x(zero), -1, 1), dtype))
    low, high = to.limits
    return site.cast(site.emit("clip", site.emit("round", value), min=float(low), max=float(high)), to)


def _scale(site: Site, index: int, axis: int = -1, rank: int = 1) -> str:
    return _along(site, site.cast(site.x(index), f64), axis, rank)


def _ratio(site: Site, a: str, b: str, y: int) -> str:
    """a * b / the scale of the result, rounded once to f32: what a sum of products is multiplied by."""
    return site.cast(site.emit("div", site.emit("mul", a, b), _scale(site, y)), f32)


def _scaled(site: Site, sums: str, factor: str, bias: str) -> str:
    """(sums + bias) * factor in f32, for whole numbers."""
    value = site.emit("mul", site.cast(sums, f32), factor)
    return site.emit("add", value, site.emit("mul", site.cast(bias, f32), factor)) if bias else value


def _requantised(site: Site, sums: str, factor: str, zero: int, bias: str = "") -> str:
    """round((sums + bias) * factor) + zero point, brought within the type: in f32."""
    value = site.emit("round", _scaled(site, sums, factor, bias))
    if site.has(zero):
        value = site.emit("add", value, site.cast(_along(site, site.x(zero), -1, 1), f32))
    to = site.type(zero).dtype if site.has(zero) else site.type().dtype
    low, high = to.limits
    return site.cast(site.emit("clip", value, min=float(low), max=float(high)), to)


@rule("QLinearMatMul")
def qlinear_matmul(site: Site) -> Result:
    """Rows of the left operand and columns of the right may have scales and zero points of their own."""
    left, right = site.type(0).rank, site.type(3).rank
    product = site.emit("matmul", _centred(site, 0, 2, -2 if left > 1 else -1), _centred(site, 3, 5))
    factor = _ratio(site, _scale(site, 1, -2, max(left, 2)), _scale(site, 4, -1, right), 6)
    return _requantised(site, product, factor, 7)


@rule("QLinearConv")
def qlinear_conv(site: Site) -> Result:
    x, w, rank = _centred(site, 0, 2), _centred(site, 3, 5, 0), site.type(3).rank
    value = convolution(site, x, w)
    factor = _ratio(site, _scale(site, 1), _scale(site, 4, 1, rank), 6)
    bias = site.reshape(site.x(8), (*site.type(8).shape, *(1,) * (rank - 2))) if site.has(8) else ""
    return _requantised(site, value, factor, 7, bias)


@rule("ConvInteger")
def conv_integer(site: Site) -> Result:
    return convolution(site, _centred(site, 0, 2), _centred(site, 1, 3, 0))


@rule("DynamicQuantizeLinear")
def dynamic_quantize(site: Site) -> list[Result]:
    """To u8, with the least scale that holds all elements and zero."""
    return list(_dynamic(site, site.x()))


def _dynamic(site: Site, x: str) -> tuple[str, str, str]:
    """Quantised, its scale, its zero point."""
    axes = tuple(range(len(site.type_of(x).shape)))
    zero, top = site.scalar(0.0, f32), site.scalar(255.0, f32)
    low, high = (
        site.emit(op, site.emit(f"reduce_{op}", x, axes=axes, keepdims=False) if axes else x, zero)
        for op in ("min", "max")
    )
    spread = site.emit("sub", high, low)
    spread = site.emit("where", site.emit("eq", spread, zero), site.scalar(1.0, f32), spread)
    scale = site.emit("div", spread, top)
    point = site.emit(
        "round", site.emit("clip", site.emit("sub", zero, site.emit("div", low, scale)), min=0.0, max=255.0)
    )
    value = site.emit("add", site.emit("round", site.emit("div", x, scale)), point)
    return site.cast(site.emit("clip", value, min=0.0, max=255.0), u8), scale, site.cast(point, u8)


# -- of onnxruntime


def _real(site: Site, index: int, scale: int, zero: int) -> str:
    """What a quantised input stands for."""
    return site.emit("mul", site.cast(_centred(site, index, zero), f64), _scale(site, scale))


def _quantised(site: Site, value: str, scale: int, zero: int, otherwise: DType) -> str:
    return _saturated(site, site.emit("div", value, _scale(site, scale)), zero, otherwise)


@rule("QLinearAdd", "QLinearMul", domain=_MICROSOFT)
def qlinear_binary(site: Site) -> Result:
    a, b = _real(site, 0, 1, 2), _real(site, 3, 4, 5)
    return _quantised(site, site.emit("add" if site.op == "QLinearAdd" else "mul", a, b), 6, 7, site.type().dtype)


@rule("QLinearSigmoid", "QLinearLeakyRelu", domain=_MICROSOFT)
def qlinear_unary(site: Site) -> Result:
    x = _real(site, 0, 1, 2)
    if site.op == "QLinearSigmoid":
        value = site.emit("sigmoid", x)
    else:
        value = site.emit("leaky_relu", x, alpha=site.get_float("alpha", 0.01))
    return _quantised(site, value, 3, 4, site.type().dtype)


@rule("QLinearConcat", domain=_MICROSOFT)
def qlinear_concat(site: Site) -> Result:
    """The result's scale and zero point, then each input with its own."""
    axis, rank = site.get_int("axis"), site.type(2).rank
    parts = [_real(site, i, i + 1, i + 2) for i in range(2, site.count, 3)]
    return _quantised(site, site.emit("concat", *parts, axis=site.axis(axis, rank)), 0, 1, site.type(2).dtype)


@rule("QLinearGlobalAveragePool", domain=_MICROSOFT)
def qlinear_global_average_pool(site: Site) -> Result:
    last, rank = bool(site.get_int("channels_last")), site.type().rank
    axes = tuple(range(1, rank - 1)) if last else tuple(range(2, rank))
    mean = site.emit("reduce_mean", _real(site, 0, 1, 2), axes=axes, keepdims=True)
    return _quantised(site, mean, 3, 4, site.type().dtype)


@rule("QGemm", domain=_MICROSOFT)
def qgemm(site: Site) -> Result:
    """alpha * a' @ b' + c, c being whole numbers at the product's scale; without a scale of the result, floats."""
    turn = [(1, 0) if site.get_int(name) else (0, 1) for name in ("transA", "transB")]
    column = 0 if turn[1] == (1, 0) else 1
    a, b = _centred(site, 0, 2), _centred(site, 3, 5, column)
    value = site.emit("matmul", site.transpose(a, turn[0]), site.transpose(b, turn[1]))
    bias = site.x(6) if site.has(6) else ""
    factor = site.emit("mul", _scale(site, 1), _scale(site, 4, -1, 2))
    factor = site.emit("mul", factor, site.scalar(site.get_float("alpha", 1.0), f64))
    if not site.has(7):
        return _scaled(site, value, site.cast(factor, f32), bias)
    return _requantised(site, value, site.cast(site.emit("div", factor, _scale(site, 7)), f32), 8, bias)


@rule("DynamicQuantizeMatMul", domain=_MICROSOFT)
def dynamic_quantize_matmul(site: Site) -> Result:
    """Floats quantised on the way, by a quantised matrix."""
    a, scale, zero = _dynamic(site, site.x())
    left = site.emit("sub", site.cast(a, i32), site.cast(zero, i32))
    product = site.emit("matmul", left, _centred(site, 1, 3))
    value = site.emit("mul", site.cast(product, f32), site.emit("mul", scale, _along(site, site.x(2), -1, 1)))
    return site.emit("add", value, site.x(4)) if site.has(4) else value


@rule("QLinearSoftmax", domain=_MICROSOFT)
def qlinear_softmax(site: Site) -> Result:
    """`opset` is that of the Softmax it stands for: before 13 the axes from `axis` on are one."""
    shape, old = site.type().shape, site.get_int("opset", 13) < 13
    axis = site.axis(site.get_int("axis", 1 if old else -1), len(shape))
    x = site.cast(_real(site, 0, 1, 2), f32)
    if old:
        x = site.reshape(x, (*shape[:axis], dim_product(shape[axis:])))
    value = site.reshape(site.emit("softmax", x, axis=axis), shape)
    return _quantised(site, site.cast(value, f64), 3, 4, site.type().dtype)


@rule("QLinearReduceMean", domain=_MICROSOFT)
def qlinear_reduce_mean(site: Site) -> Result:
    rank = site.type().rank
    axes = tuple(sorted({site.axis(a, rank) for a in site.get_ints("axes") or range(rank)}))
    mean = site.emit("reduce_mean", _real(site, 0, 1, 2), axes=axes, keepdims=bool(site.get_int("keepdims", 1)))
    return _quantised(site, mean, 3, 4, site.type().dtype)


@rule("QLinearWhere", domain=_MICROSOFT)
def qlinear_where(site: Site) -> Result:
    value = site.emit("where", site.x(0), _real(site, 1, 2, 3), _real(site, 4, 5, 6))
    return _quantised(site, value, 7, 8, site.type(1).dtype)


@rule("QLinearAveragePool", domain=_MICROSOFT)
def qlinear_average_pool(site: Site) -> Result:
    mean = pooled(site, site.cast(_real(site, 0, 1, 2), f32), average_pool, bool(site.get_int("channels_last")))
    return _quantised(site, site.cast(mean, f64), 3, 4, site.type().dtype)


@rule("QEmbedLayerNormalization", domain=_MICROSOFT)
def qembed_layer_normalization(site: Site) -> list[Result]:
    """layer_norm(words + positions + segments), and the number of tokens in each row of the mask. Inputs: words, segments, their
    three tables, gamma, beta and the mask; the scales of tables, gamma and beta, then their zero points."""
    batch, length = site.shape(0, 2)

    def real(index: int, value: str) -> str:
        whole, zero = site.cast(value, i32), index + 11
        if site.has(zero):
            whole = site.emit("sub", whole, site.cast(_along(site, site.x(zero), -1, 1), i32))
        return site.emit("mul", site.cast(whole, f32), _along(site, site.x(index + 6), -1, 1))

    parts = [
        real(2, site.emit("gather", site.x(2), site.x(0), axis=0)),
        real(3, site.slice(site.x(3), 0, 0, length)),
    ]
    if site.has(1) and site.has(4):
        parts.append(real(4, site.emit("gather", site.x(4), site.x(1), axis=0)))
    factors = [real(index, site.x(index)) for index in (5, 6)]
    epsilon = site.get_float("epsilon", 1e-12)
    value = site.emit("layer_norm", site.chain("add", parts), *factors, axis=2, epsilon=epsilon)
    if not site.has(7):
        return [value, site.expand(site.scalar(0, i32), (batch,))]
    return [value, site.emit("reduce_sum", site.x(7), axes=(1,), keepdims=False)]


@rule("NhwcMaxPool", domain=_MICROSOFT)
def nhwc_max_pool(site: Site) -> Result:
    return pooled(site, site.x(), max_pool, True)
