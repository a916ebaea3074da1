"""csrc/simd against numpy and math: accuracy in ULP, special values, partial accesses."""

import ctypes
import math

import numpy as np
import pytest

from .conftest import HERE
from .remote import Buffer

INF, NAN = np.inf, np.nan
SPECIALS = [
    0,
    -0.0,
    INF,
    -INF,
    NAN,
    1e-45,
    -1e-45,
    1e-38,
    3.4028235e38,
    -3.4028235e38,
    1,
    -1,
    0.5,
    1.5,
    2.5,
    -0.5,
    -1.5,
    -0.25,
]
SPECIALS += [8388607.5, 8388609.0, 16777216.0, 16777218.0, 2, -2, 3, -3, 1e-30, 131072.0, 1e20]


@pytest.fixture(scope="session")
def probe(isa, build, open_library):
    library = open_library(isa, build(isa, "probe.so", [HERE / "probe.c"], "-O3", "-shared"))
    for name in ("reduce_add", "reduce_max", "reduce_min"):
        getattr(library, name).restype = ctypes.c_float
    library.probe_isa.restype = ctypes.c_char_p
    assert library.probe_isa().decode() == isa.level
    return library


def call(function, *inputs):
    out = np.full_like(inputs[0], 77)
    function(*map(Buffer, inputs), Buffer(out), ctypes.c_int64(out.size))
    return out


def samples() -> np.ndarray:
    rng = np.random.default_rng(7)
    bits = rng.integers(0, 2**32, 100_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    ranges = [rng.uniform(-high, high, 60_000).astype(np.float32) for high in (1.2, 12, 110)]
    near_quarter_turns = (np.arange(1, 30_000) * (np.pi / 2)).astype(np.float32)
    return np.concatenate([bits, *ranges, near_quarter_turns, np.array(SPECIALS, np.float32)])


def ulps(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Distance in units of the last place of the rounded reference; infinite where NaN or infinity disagree."""
    with np.errstate(all="ignore"):
        rounded = want.astype(np.float32)
        unit = np.maximum(np.spacing(np.abs(rounded)).astype(np.float64), 2.0**-149)
        distance = np.abs(got.astype(np.float64) - want) / unit
    finite = np.isfinite(rounded) & np.isfinite(got)
    same = (np.isnan(got) & np.isnan(rounded)) | (got == rounded)
    return np.where(finite, distance, np.where(same, 0, np.inf))


def sigmoid(x):
    return np.where(x < 0, np.exp(x) / (1 + np.exp(x)), 1 / (1 + np.exp(-x)))


FUNCTIONS = {  # reference in double, most ULP
    "exp": (np.exp, 1.5),
    "log": (np.log, 1.5),
    "tanh": (np.tanh, 2),
    "erf": (np.vectorize(math.erf), 1.2),
    "sigmoid": (sigmoid, 2.5),
    "sin": (np.sin, 2),
    "cos": (np.cos, 2),
    "sqrt": (np.sqrt, 0.5),
    "floor": (np.floor, 0),
    "ceil": (np.ceil, 0),
    "round": (np.rint, 0),
    "trunc": (np.trunc, 0),
    "abs": (np.abs, 0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_accurate(probe, name):
    reference, most = FUNCTIONS[name]
    x = samples()
    y = call(getattr(probe, "vector_" + name), x)
    with np.errstate(all="ignore"):
        want = reference(x.astype(np.float64))
    distance = ulps(y, want)
    worst = distance.argmax()
    assert distance[worst] <= most, (x[worst], y[worst], want[worst], distance[worst])
    zero = ~np.isnan(want) & (y == 0)
    assert (np.signbit(y) == np.signbit(want))[zero].all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_scalar_is_lane_zero(probe, name):
    x = samples()[::7].copy()
    vector, scalar = call(getattr(probe, "vector_" + name), x), call(getattr(probe, "scalar_" + name), x)
    assert (vector.view(np.int32) == scalar.view(np.int32))[~np.isnan(vector)].all()


def test_pow(probe):
    rng = np.random.default_rng(8)
    x = np.concatenate(
        [rng.uniform(0, 3, 50_000), np.exp(rng.uniform(-100, 88, 50_000)), -rng.uniform(0, 50, 20_000)]
    ).astype(np.float32)
    y = np.concatenate(
        [rng.uniform(-50, 50, 50_000), rng.uniform(-3, 3, 50_000), rng.integers(-20, 20, 20_000)]
    ).astype(np.float32)
    grid = [axis.ravel().astype(np.float32) for axis in np.meshgrid(SPECIALS, SPECIALS)]
    x, y = np.concatenate([x, grid[0]]), np.concatenate([y, grid[1]])
    got = call(probe.binary_pow, x, y)
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.longdouble), y.astype(np.longdouble)).astype(np.float64)
    distance = ulps(got, want)
    worst = distance.argmax()
    assert distance[worst] <= 1.5, (x[worst], y[worst], got[worst], want[worst])
    assert (np.signbit(got) == np.signbit(want))[~np.isnan(want)].all()


BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "min": np.minimum,
    "max": np.maximum,
    "at_most": lambda a, b: np.minimum(a, np.where(b == b, b, 1)),
    "at_least": lambda a, b: np.maximum(a, np.where(b == b, b, 1)),
    "min_fast": lambda a, b: np.where(a < b, a, b),
    "max_fast": lambda a, b: np.where(a > b, a, b),
    "neg": lambda a, b: -a,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "and_not": lambda a, b: (a < b) & ~(a < 0),
    "xor_or": lambda a, b: ((a < b) ^ (b > 0)) | (a != a),
}


@pytest.mark.parametrize("name", BINARY)
def test_binary_operation(probe, name):
    a, b = [axis.ravel().astype(np.float32) for axis in np.meshgrid(SPECIALS, SPECIALS)]
    got = call(getattr(probe, "binary_" + name), a, b)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(got, BINARY[name](a, b).astype(np.float32))


def test_fused_multiply_add(probe, isa):
    rng = np.random.default_rng(9)
    a, b = rng.uniform(-2, 2, (2, 5000)).astype(np.float32)
    c, wide = np.float32(0.1), a.astype(np.float64) * b
    for name, product in (("fma", wide), ("fnma", -wide)):
        want = (product + c).astype(np.float32) if isa.fused else product.astype(np.float32) + c
        assert ulps(call(getattr(probe, "binary_" + name), a, b), want.astype(np.float64)).max() <= 0


INTEGER = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "min": np.minimum,
    "max": np.maximum,
    "lookup": lambda a, b: a & 15,
    "shl": lambda a, b: a << 5,
    "sar": lambda a, b: a >> 5,
    "shr": lambda a, b: (a.view(np.uint32) >> 5).view(np.int32),
    "select": lambda a, b: np.where(a > b, a, np.where(a == b, 7, b)),
    "to_float": lambda a, b: a.astype(np.float32).view(np.int32),
}


@pytest.mark.parametrize("name", INTEGER)
def test_integer_operation(probe, name):
    rng = np.random.default_rng(10)
    a, b = rng.integers(-(2**31), 2**31, (2, 1003), dtype=np.int64).astype(np.int32)
    a[:3], b[:3] = (-(2**31), 2**31 - 1, 5), (-1, 1, 5)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(
            call(getattr(probe, "integer_" + name), a, b), INTEGER[name](a, b).astype(np.int32)
        )


def test_conversion_truncates_and_marks_what_does_not_fit(probe):
    x = np.array([1.9, -1.9, 2147483520.0, -2147483648.0, 2147483648.0, 1e30, -1e30, INF, -INF, NAN, -0.0], np.float32)
    got = call(probe.integer_from_float, x.view(np.int32), x.view(np.int32))
    assert got.tolist() == [1, -1, 2147483520, -(2**31), *[-(2**31)] * 6, 0]


def test_partial_accesses(probe):
    lanes = probe.probe_lanes()
    x = np.arange(1, lanes * 7 + 1, dtype=np.float32)
    for n in range(lanes + 1):
        for stride in (1, 2, 7):
            y = np.full(lanes, 77, np.float32)
            probe.strided(Buffer(x), ctypes.c_int64(stride), ctypes.c_int64(n), Buffer(y))
            assert y.tolist() == [*x[: n * stride : stride], *[0] * (lanes - n)]
        y = np.full(lanes + 1, 77, np.float32)
        probe.vector_abs(Buffer(x), Buffer(y), ctypes.c_int64(n))
        assert y.tolist() == [*x[:n], *[77] * (lanes + 1 - n)]
        truth = np.array([(i * 5 + 1) % 3 for i in range(lanes)], np.uint8)
        out, any_all = np.full(lanes + 1, 77, np.uint8), np.zeros(2, np.int32)
        probe.masks(Buffer(truth), ctypes.c_int64(n), Buffer(out), Buffer(any_all))
        assert out.tolist() == [*(truth[:n] != 0), *[77] * (lanes + 1 - n)]
        assert any_all.tolist() == [int(truth[:n].any()), int(n == lanes and truth.all())]


def test_reductions_fold_halves(probe):
    lanes = probe.probe_lanes()
    x = np.random.default_rng(11).uniform(-1, 1, lanes).astype(np.float32)
    folded = x
    while folded.size > 1:
        folded = folded[: folded.size // 2] + folded[folded.size // 2 :]
    assert probe.reduce_add(Buffer(x)) == folded[0]
    assert probe.reduce_max(Buffer(x)) == x.max() and probe.reduce_min(Buffer(x)) == x.min()
    for lane in range(lanes):
        spoiled = x.copy()
        spoiled[lane] = NAN
        assert math.isnan(probe.reduce_max(Buffer(spoiled))) and math.isnan(probe.reduce_min(Buffer(spoiled)))


def test_transpose_and_iota(probe):
    lanes = probe.probe_lanes()
    x = np.arange(lanes * lanes, dtype=np.float32).reshape(lanes, lanes)
    y = np.zeros_like(x)
    probe.transpose(Buffer(x), Buffer(y))
    np.testing.assert_array_equal(y, x.T)
    first = np.zeros(lanes, np.float32)
    probe.iota(Buffer(first))
    assert first.tolist() == list(range(lanes))
