"""The error function in float64, vectorised: W. J. Cody, "Rational Chebyshev approximations for the error function",
Mathematics of Computation 23 (1969). Relative error below 1e-15."""

from __future__ import annotations

import numpy as np

from .registry import Array

# erf(x) = x * A(x^2) / B(x^2) for |x| <= 0.46875, coefficients from the highest power down
_A = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
_B = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
# erfc(x) = exp(-x^2) * C(x) / D(x) for 0.46875 < x <= 4
_C = (
    *(
        2.15311535474403846e-8,
        5.64188496988670089e-1,
        8.88314979438837594e0,
        6.61191906371416295e1,
        2.98635138197400131e2,
    ),
    *(8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3),
)
_D = (
    *(1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3),
    *(3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3),
)
# erfc(x) = exp(-x^2) / x * (1 / sqrt(pi) - P(1 / x^2) / Q(1 / x^2) / x^2) for x > 4
_P = (
    *(1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1),
    *(1.60837851487422766e-2, 6.58749161529837803e-4),
)
_Q = (
    *(1.0, 2.56852019228982242e0, 1.87295284992346725e0, 5.27905102951428412e-1, 6.05183413124413191e-2),
    2.33520497626869185e-3,
)


def erf(x: Array) -> Array:
    """The error function of a float64 array, elementwise; NaN stays NaN."""
    x = np.asarray(x, dtype=np.float64)
    result = np.where(np.isnan(x), np.nan, np.sign(x))  # what it is from |x| = 6 on
    size = np.abs(x)

    small = size <= 0.46875
    y = x[small]
    result[small] = y * np.polyval(_A, y * y) / np.polyval(_B, y * y)

    middle = (size > 0.46875) & (size <= 4)
    y = size[middle]
    result[middle] = np.sign(x[middle]) * (1 - np.exp(-y * y) * np.polyval(_C, y) / np.polyval(_D, y))

    large = (size > 4) & (size < 6)
    y = size[large]
    z = 1 / (y * y)
    tail = np.exp(-y * y) / y * (1 / np.sqrt(np.pi) - z * np.polyval(_P, z) / np.polyval(_Q, z))
    result[large] = np.sign(x[large]) * (1 - tail)
    return result
