"""Rules of operators of signal processing: windows and filters; transforms are rows of their own."""

from __future__ import annotations

import math

import numpy as np

from ....ir.dims import Expr
from ....ir.types import bf16, f32, f64
from .. import contents
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site

#: Coefficients of cos(0), cos(2 pi i / n), cos(4 pi i / n), ...
_WINDOWS = {
    "HannWindow": (0.5, -0.5),
    "HammingWindow": (25 / 46, -21 / 46),
    "BlackmanWindow": (0.42, -0.5, 0.08),
}


@rule(*_WINDOWS)
def window(site: Site) -> Result:
    """A sum of cosines over one period of `size` elements, or, not periodic, of one less."""
    sizes = site.dims(0, "the size")
    if len(sizes) != 1:
        raise Unsupported(f"the size is one number, got {len(sizes)}")
    dtype = site.dtype_of(site.get_int("output_datatype", f32.onnx))
    (size,) = sizes
    period = size if site.get_int("periodic", 1) else size - 1
    turn = site.emit("mul", site.emit("iota", extent=size, dtype=f64), site.scalar(2 * math.pi, f64))
    turn = site.emit("div", turn, site.cast(site.data(contents.full(f64, (), period)), f64))
    first, *rest = _WINDOWS[site.op]
    value = site.scalar(first, f64)
    for number, factor in enumerate(rest, 1):
        wave = site.emit("cos", site.emit("mul", turn, site.scalar(float(number), f64)))
        value = site.emit("add", value, site.emit("mul", wave, site.scalar(factor, f64)))
    return site.cast(value, dtype)


#: Bands, and elements of the matrix, from here on are a mistake.
_BANDS, _ELEMENTS = 1 << 12, 1 << 25


def _number(site: Site, index: int, what: str) -> int | float:
    value = site.number(index, what)
    if isinstance(value, Expr):
        raise Unsupported(f"{what} must be constant, got {value}", follows=True)
    return value


@rule("MelWeightMatrix")
def mel_weight_matrix(site: Site) -> Result:
    """Triangular filters from the bins of a spectrum to bands that are evenly spaced in mel."""
    bands, length, rate = (site.whole(i, name) for i, name in enumerate(("num_mel_bins", "dft_length", "sample_rate")))
    rows, ends = length // 2 + 1, [_number(site, i, "an edge") for i in (3, 4)]
    if not (
        1 <= bands < _BANDS and 0 < rows * bands < _ELEMENTS and rate >= 1 and all(0 <= e < math.inf for e in ends)
    ):
        what = (
            f"{bands} bands from {ends[0]} to {ends[1]} Hz of a transform of {length} points at {rate} samples a second"
        )
        raise Unsupported(what)
    # edges, spacing and the bins of the edges in the precision that the standard's reference has them in
    kinds = [site.type(i).dtype for i in (3, 4)]
    edges = [np.asarray(e, np.float32 if k == bf16 else k.np)[()] for e, k in zip(ends, kinds, strict=True)]
    low, high = (2595 * np.log1p(edge / 700) / np.log(10) for edge in edges)
    mels = np.arange(bands + 2) * ((high - low) / (bands + 2)) + low
    bins = (((length + 1) * (700 * np.expm1(mels / 2595 * np.log(10)))) // rate).astype(int)
    if bins.min() < 0 or bins.max() > rows:
        raise Unsupported(
            f"the edges {edges[0]} and {edges[1]} Hz are not within the spectrum at {rate} samples a second"
        )
    matrix = np.zeros((rows, bands))
    at = np.arange(rows)
    for band, (left, centre, right) in enumerate(zip(bins, bins[1:], bins[2:], strict=False)):
        if left == centre:
            matrix[at == centre, band] = 1
        else:
            rising = (at >= left) & (at <= centre)
            matrix[rising, band] = (at[rising] - left) / (centre - left)
        if right > centre:
            falling = (at >= centre) & (at < right)
            matrix[falling, band] = (right - at[falling]) / (right - centre)
    return site.cast(site.constant(matrix), site.dtype_of(site.get_int("output_datatype", f32.onnx)))
