"""Discrete Fourier transforms as matrix products.

Numbers are pairs (real, imaginary) along the last axis, so that a transform of n points is one product by a real matrix of 2 n
rows. Long ones are taken apart: n = a * b points are b transforms of a points, a multiplication by constants, and a transforms
of b points (Gentleman and Sande, 1966), each step a product again. A length with a large prime factor becomes a convolution by
a chirp, at a power of two (Bluestein, 1970).
"""

from __future__ import annotations

import numpy as np

from ....ir.dims import Shape
from ....ir.types import DType
from ..draft import Draft

#: The longest transform that is one product.
DIRECT = 512


def _roots(exponents: np.ndarray, n: int) -> np.ndarray:
    """exp(-2 pi i e / n)."""
    turn = np.asarray(exponents) % n
    return np.asarray(np.exp(-2j * np.pi * turn / n))


def _matrix(n: int, inverse: bool) -> np.ndarray:
    """The symmetric matrix of a transform, the factor 1 / n of an inverse one in it."""
    roots = _roots(np.outer(np.arange(n), np.arange(n)), n)
    return np.conj(roots) / n if inverse else roots


def _as_pairs(matrix: np.ndarray, real: bool = False) -> np.ndarray:
    """A complex matrix that pairs, or with `real` plain numbers, are multiplied by from the left: rows in, columns out."""
    rows, columns = matrix.shape
    wide = np.empty((rows, 2, columns, 2))
    wide[:, 0, :, 0], wide[:, 0, :, 1] = matrix.real, matrix.imag
    wide[:, 1, :, 0], wide[:, 1, :, 1] = -matrix.imag, matrix.real
    return wide[:, 0].reshape(rows, 2 * columns) if real else wide.reshape(2 * rows, 2 * columns)


class Spectrum:
    """Transforms along the last axis but one of values [..., n, 2] of one element type (f32 or f64)."""

    def __init__(self, draft: Draft, dtype: DType) -> None:
        self.draft, self.dtype = draft, dtype

    def forward_real(self, x: str, n: int, bins: int) -> str:
        """[..., n] plain numbers to [..., bins, 2], the first of the n there are."""
        if n <= DIRECT:
            return self._product(x, _as_pairs(_matrix(n, False)[:, :bins], real=True), (bins, 2))
        shape = self.draft.type_of(x).shape
        pairs = self.draft.reshape(x, (*shape, 1))
        zeros = self.draft.expand(self.draft.scalar(0.0, self.dtype), (*shape, 1))
        return self.first(self.transform(self.draft.emit("concat", pairs, zeros, axis=len(shape)), n, False), bins)

    def transform(self, x: str, n: int, inverse: bool) -> str:
        """[..., n, 2] to [..., n, 2]; 1 / n is the inverse transform's."""
        if n <= DIRECT:
            return self._pairs(x, _matrix(n, inverse), n)
        a = max((d for d in range(2, int(n**0.5) + 1) if n % d == 0), default=1)
        return self._long(x, a, n // a, inverse) if a > 1 and _smooth(n) else self._chirp(x, n, inverse)

    def backward_real(self, x: str, n: int, bins: int) -> str:
        """[..., bins, 2], the first n // 2 + 1 bins of a symmetric spectrum, to the n plain numbers they come from."""
        if n <= DIRECT:
            weight = np.where((np.arange(bins) == 0) | (2 * np.arange(bins) == n), 1.0, 2.0)
            matrix = np.conj(_roots(np.outer(np.arange(bins), np.arange(n)), n)) * weight[:, None] / n
            both = np.stack([matrix.real, -matrix.imag], 1)
            both[weight == 1, 1] = 0  # what is not real there does not count
            return self._product(self._flat(x, 2 * bins), both.reshape(2 * bins, n), (n,))
        draft, axis = self.draft, len(self.draft.type_of(x).shape) - 2
        keep = np.ones((bins, 2))
        keep[0, 1] = 0
        if n % 2 == 0:
            keep[-1, 1] = 0
        x = draft.emit("mul", x, self._constant(keep))
        rest = draft.emit("gather", x, draft.constant(np.arange(n - bins, 0, -1)), axis=axis)
        rest = draft.emit("mul", rest, self._constant(np.array([1.0, -1.0])))
        whole = self.transform(draft.emit("concat", x, rest, axis=axis), n, True)
        real = draft.slice(whole, axis + 1, 0, 1)
        return draft.reshape(real, draft.type_of(real).shape[:-1])

    def first(self, x: str, bins: int) -> str:
        axis = len(self.draft.type_of(x).shape) - 2
        return self.draft.slice(x, axis, 0, bins)

    def _constant(self, array: np.ndarray) -> str:
        return self.draft.constant(array.astype(self.dtype.np))

    def _flat(self, x: str, width: int) -> str:
        return self.draft.reshape(x, (*self.draft.type_of(x).shape[:-2], width))

    def _product(self, x: str, matrix: np.ndarray, tail: Shape) -> str:
        value = self.draft.emit("matmul", x, self._constant(matrix))
        return self.draft.reshape(value, (*self.draft.type_of(x).shape[:-1], *tail))

    def _pairs(self, x: str, matrix: np.ndarray, n: int) -> str:
        return self._product(self._flat(x, 2 * n), _as_pairs(matrix), (matrix.shape[1], 2))

    def _times(self, x: str, factors: np.ndarray) -> str:
        """Pairs times complex constants that broadcast to them: (re, im) * c + (im, re) * (-s, s)."""
        draft, axis = self.draft, len(self.draft.type_of(x).shape) - 1
        turned = draft.emit("concat", draft.slice(x, axis, 1, 1), draft.slice(x, axis, 0, 1), axis=axis)
        straight = draft.emit("mul", x, self._constant(factors.real[..., None]))
        across = np.stack([-factors.imag, factors.imag], -1)
        return draft.emit("add", straight, draft.emit("mul", turned, self._constant(across)))

    def _long(self, x: str, a: int, b: int, inverse: bool) -> str:
        """Point j of a * b is (j // b, j % b), frequency k is (k % a, k // a)."""
        draft = self.draft
        lead = draft.type_of(x).shape[:-2]
        r = len(lead)
        outer = tuple(range(r))
        x = draft.transpose(draft.reshape(x, (*lead, a, b, 2)), (*outer, r + 1, r, r + 2))
        x = self.transform(x, a, inverse)  # [..., b, a, 2]
        roots = _roots(np.outer(np.arange(b), np.arange(a)), a * b)
        x = self._times(x, np.conj(roots) if inverse else roots)
        x = self.transform(draft.transpose(x, (*outer, r + 1, r, r + 2)), b, inverse)  # [..., a, b, 2]
        return draft.reshape(draft.transpose(x, (*outer, r + 1, r, r + 2)), (*lead, a * b, 2))

    def _chirp(self, x: str, n: int, inverse: bool) -> str:
        """exp(-pi i (j - k)^2 / n) is what exp(-2 pi i j k / n) is but for factors of j alone and of k alone."""
        draft, index = self.draft, np.arange(n)
        chirp = _roots(index * index, 2 * n)
        chirp = np.conj(chirp) if inverse else chirp
        room = 1 << (2 * n - 2).bit_length()
        other = np.zeros(room, complex)
        other[:n] = np.conj(chirp)
        other[room - n + 1 :] = np.conj(chirp)[:0:-1]
        x = self._times(x, chirp)
        pads = (0,) * len(draft.type_of(x).shape)
        x = draft.emit("pad", x, pads=(*pads, *pads[:-2], room - n, 0))
        x = self._times(self.transform(x, room, False), np.fft.fft(other))
        x = self.first(self.transform(x, room, True), n)
        return self._times(x, chirp / n if inverse else chirp)


def _smooth(n: int) -> bool:
    """Whether no prime factor is longer than a direct transform."""
    for factor in range(2, DIRECT + 1):
        while n % factor == 0:
            n //= factor
    return n == 1
