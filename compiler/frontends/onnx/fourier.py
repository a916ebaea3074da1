"""Rules of Fourier transforms."""

from __future__ import annotations

from ....ir.dims import Dim, Expr
from ....ir.types import TensorType, f32, f64, i64
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site
from .spectrum import Spectrum

#: Points of a transform, whose factors are written down.
_LONGEST = 1 << 22


def _length(site: Site, index: int, what: str, otherwise: Dim) -> int:
    """A length that is an input, or follows from a shape."""
    value = site.number(index, what) if site.has(index) else otherwise
    if isinstance(value, Expr) or not 1 <= value <= _LONGEST:
        raise Unsupported(f"{what} of {value} is not supported", "fix it with --dim NAME=N")
    return int(value)


def _resized(site: Site, x: str, axis: int, extent: int) -> str:
    """The first elements along an axis, or zeros behind them."""
    shape = site.type_of(x).shape
    have = shape[axis]
    if isinstance(have, Expr):
        raise Unsupported(f"a transform along {have} elements is not supported", "fix it with --dim NAME=N")
    if have >= extent:
        return site.slice(x, axis, 0, extent)
    pads = [0] * (2 * len(shape))
    pads[len(shape) + axis] = extent - have
    return site.emit("pad", x, pads=tuple(pads))


@rule("DFT")
def dft(site: Site) -> Result:
    """Along one axis of [..., 1] or [..., 2]; the axis is an attribute before opset 20, an input since."""
    type = site.type()
    if type.rank < 2 or type.shape[-1] not in (1, 2):
        raise Unsupported(f"takes [..., 1] or [..., 2], got {type}")
    given = site.get_int("axis", 1) if site.opset < 20 else site.whole(2, "the axis") if site.has(2) else -2
    axis = site.axis(given, type.rank)
    if axis == type.rank - 1:
        raise Unsupported("the last axis holds real and imaginary parts")
    inverse, onesided = bool(site.get_int("inverse")), bool(site.get_int("onesided"))
    extent, last = type.shape[axis], type.rank - 2
    length = _length(site, 1, "the length", 2 * (extent - 1) if inverse and onesided else extent)
    wide = f64 if type.dtype == f64 else f32
    order = (*(a for a in range(type.rank - 1) if a != axis), axis, type.rank - 1)
    bins = length // 2 + 1 if onesided else length
    x = site.transpose(site.cast(site.x(), wide), order)
    x = _resized(site, x, last, bins if inverse and onesided else length)
    spectrum, real = Spectrum(site, wide), type.shape[-1] == 1
    if real and inverse:
        zeros = site.expand(site.scalar(0.0, wide), site.type_of(x).shape)
        x = site.emit("concat", x, zeros, axis=type.rank - 1)
    if inverse and onesided:
        y = spectrum.backward_real(x, length, bins)
        y = site.reshape(y, (*site.type_of(y).shape, 1))
    elif real and not inverse:
        y = spectrum.forward_real(site.reshape(x, site.type_of(x).shape[:-1]), length, bins)
    else:
        y = spectrum.first(spectrum.transform(x, length, inverse), bins)
    back = tuple(order.index(a) for a in range(type.rank))
    return site.cast(site.transpose(y, back), type.dtype)


@rule("STFT")
def stft(site: Site) -> Result:
    """Transforms of frames of [batch, samples, 1 or 2] that begin `frame_step` samples apart, each times the window."""
    type = site.type()
    if type.rank == 2:
        type = TensorType(type.dtype, (*type.shape, 1))
    if type.rank != 3 or type.shape[2] not in (1, 2):
        raise Unsupported(f"takes [batch, samples, 1 or 2], got {type}")
    batch, samples, parts = type.shape
    otherwise = site.shape(2, 1)[0] if site.has(2) else samples
    step, length = _length(site, 1, "the step", 0), _length(site, 3, "the length of a frame", otherwise)
    frames = site.facts.maximum(0, (samples - length) // step + 1)
    wide = f64 if type.dtype == f64 else f32
    x = site.cast(site.reshape(site.x(), type.shape), wide)
    starts = site.emit("mul", site.emit("iota", extent=frames, dtype=i64), site.scalar(step, i64))
    index = site.emit("add", site.reshape(starts, (frames, 1)), site.emit("iota", extent=length, dtype=i64))
    x = site.emit("gather", x, index, axis=1)  # [batch, frames, length, parts]
    if site.has(2):
        if site.type(2).shape != (length,):
            raise Unsupported(f"a window {site.type(2)} for frames of {length}")
        x = site.emit("mul", x, site.reshape(site.cast(site.x(2), wide), (length, 1)))
    bins = length // 2 + 1 if site.get_int("onesided", 1) else length
    spectrum = Spectrum(site, wide)
    if parts == 1:
        y = spectrum.forward_real(site.reshape(x, (batch, frames, length)), length, bins)
    else:
        y = spectrum.first(spectrum.transform(x, length, False), bins)
    return site.cast(y, type.dtype)
