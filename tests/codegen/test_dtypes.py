"""Every row of the op table in every element type that it has: compiled = interpreted, on whole vectors and on what is left over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from stratac.ir.builder import GraphBuilder
from stratac.ir.errors import StratacError
from stratac.ir.graph import Graph, Port
from stratac.ir.interp import run
from stratac.ir.narrow import FORMATS, decoded, encoded, widened, wrapped
from stratac.ir.ops import OPS, REQUIRED
from stratac.ir.types import COMPUTABLE, DTYPES, DType, TensorType, bool_, f8e8m0, f32, f64, i64
from stratac.runtime.session import Session

from .harness import ISAS, compiled, forest

TYPES = [dtype for dtype in DTYPES.values() if dtype in COMPUTABLE]
ROWS, COLUMNS = 3, 37
#: Elementwise ops by what they are defined on; those named nowhere take floats alone.
NUMBERS = {
    "neg",
    "abs",
    "relu",
    "floor",
    "ceil",
    "round",
    "sign",
    "clip",
    "isnan",
    "isinf",
    "add",
    "sub",
    "mul",
    "div",
    "mod",
}
NUMBERS |= {"pow", "lt", "le", "gt", "ge"}
ANYTHING = {"min", "max", "eq", "ne", "where"}
BITS = {"not", "and", "or", "xor"}
WHOLE = {"shift_left", "shift_right"}
#: Float functions that both sides compute by the same IEEE operations, so that every bit agrees.
EXACT = NUMBERS - {"pow"} | ANYTHING | {"sqrt", "reciprocal", "leaky_relu"}
ATTRS: dict[str, dict[str, Any]] = {
    "leaky_relu": {"alpha": 0.25},
    "elu": {"alpha": 0.5},
    "hard_sigmoid": {"alpha": 0.25, "beta": 0.5},
    "clip": {"min": -1.0, "max": 2.0},
}

Case = tuple[str, Graph, dict[str, np.ndarray], float]


def sample(dtype: DType, shape: tuple[int, ...], seed: int, wild: bool = True) -> np.ndarray:
    """Storage of elements: `wild` has every kind of number, else small ones whose sums and products stay in range."""
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape))
    if dtype == bool_:
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.is_integer:
        least, most = dtype.limits
        if not wild:
            return rng.integers(max(least, -2), min(most, 3) + 1, shape).astype(dtype.np)
        edge = np.array([least, most, 0, 1, max(least, -1), most // 2, least + 1, most - 1], object)
        some = [int(rng.integers(0, 2**62)) % (most - least + 1) + least for _ in range(count)]
        picked = np.where(rng.random(count) < 0.4, edge[rng.integers(0, len(edge), count)], np.array(some, object))
        return picked.astype(dtype.np).reshape(shape)
    if dtype == f8e8m0:
        return rng.integers(120, 132, shape).astype(np.uint8)
    x = rng.uniform(-2, 2, shape)
    if wild:
        special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-3, 65000.0, -300.0, 0.5, 1.5, 2.5, -3.5, 100.0])
        x = np.where(rng.random(shape) < 0.4, special[rng.integers(0, len(special), shape)], x)
    return encoded(x, dtype) if dtype.is_narrow else x.astype(dtype.np)


class Maker:
    """One graph with one op, whose inputs come from `sample`."""

    def __init__(self, dtype: DType, wild: bool) -> None:
        self.dtype, self.wild = dtype, wild
        self.builder = GraphBuilder(name="case")
        self.given: dict[str, np.ndarray] = {}

    def __call__(self, shape: tuple[int, ...], dtype: DType | None = None, array: np.ndarray | None = None) -> str:
        name, kind = f"x{len(self.given)}", dtype or self.dtype
        if array is None:
            array = sample(kind, shape, len(self.given) + sum(map(ord, kind.name)), self.wild)
        self.given[name] = array
        return self.builder.input(name, TensorType(kind, array.shape))

    def case(self, name: str, values: tuple[str, ...], tolerance: float) -> Case:
        graph = self.builder.finish([Port(f"y{k}", v) for k, v in enumerate(values)])
        return f"{name}[{self.dtype}]", graph, self.given, tolerance


def one_step(dtype: DType) -> float:
    """A relative difference that is one unit of the last place, and what f32 functions and sums may differ by."""
    form = FORMATS.get(dtype)
    return 4e-6 if dtype == f32 else 1e-12 if dtype == f64 else 2.0**-form.mantissa if form else 1.0


def elementwise(dtype: DType) -> Iterator[Case]:
    for row in OPS.values():
        if row.category != "elementwise" or row.name in ("cast", "bitcast"):
            continue
        known = NUMBERS | ANYTHING | BITS | WHOLE
        if dtype == bool_:
            fits = row.name in ANYTHING | BITS
        elif dtype.is_integer:
            fits = row.name in known
        else:
            fits = row.name in NUMBERS | ANYTHING or row.name not in known
        attrs = ATTRS.get(row.name, {})
        if not fits or any(spec.default is REQUIRED and name not in attrs for name, spec in row.attrs.items()):
            continue
        m = Maker(dtype, row.name in EXACT | BITS or not dtype.is_float)
        condition = (m((COLUMNS,), bool_),) if row.name == "where" else ()
        inputs = [m((ROWS, COLUMNS)), m((COLUMNS,))][: row.arity[0] - len(condition)]
        if row.name == "pow" and dtype.is_integer:
            inputs[1] = m((), array=np.asarray(sample(dtype, (COLUMNS,), 5, wild=False) & 1).astype(dtype.np))
        if (row.name == "pow" and dtype.is_float) or row.name in ("acosh",):
            inputs[0] = m.builder.op("abs", inputs[0])
        exact = not dtype.is_float or row.name in EXACT
        yield m.case(
            row.name, (m.builder.op(row.name, *condition, *inputs, **attrs),), 0.0 if exact else one_step(dtype)
        )


def folds(dtype: DType) -> Iterator[Case]:
    for row in OPS.values():
        if row.category != "reduction":
            continue
        truth = row.name in ("reduce_max", "reduce_min")
        if dtype == bool_ and not truth:
            continue
        m = Maker(dtype, truth or row.name.startswith("arg") or not dtype.is_float)
        x, values = m((ROWS, COLUMNS)), []
        for axis in (0, 1):
            attrs: dict[str, Any] = {"axes": (axis,)} if "axes" in row.attrs else {"axis": axis}
            values.append(m.builder.op(row.name, x, **attrs))
        exact = not dtype.is_float or m.wild
        yield m.case(row.name, tuple(values), 0.0 if exact else 4 * one_step(dtype))


def moves(dtype: DType) -> Iterator[Case]:
    m = Maker(dtype, True)
    x, op = m((ROWS, COLUMNS)), m.builder.op
    indices = m((5,), i64, np.array([0, -1, 7, 36, 3]))
    values = [
        op("reshape", x, shape=(COLUMNS, ROWS)),
        op("transpose", x, perm=(1, 0)),
        op("expand", m((COLUMNS,)), shape=(ROWS, COLUMNS)),
        op("slice", x, axis=1, start=1, extent=9, step=3),
        op("concat", x, m((ROWS, 4)), axis=1),
        op("gather", x, indices, axis=1),
        op("pad", x, pads=(1, 2, 0, 3), value=1.0),
        op("pad", x, pads=(1, 2, 0, 3), mode="edge"),
        op("fill", value=1.0, shape=(ROWS, 5), dtype=dtype),
    ]
    if dtype != bool_:
        values += [op("iota", extent=11, dtype=dtype), op("dim", value=7, dtype=dtype)]
    yield m.case("moves", tuple(values), 0.0)
    if dtype.kind != "bool":
        t = Maker(dtype, True)
        yield t.case("topk", t.builder.all("topk", t((ROWS, COLUMNS)), outputs=2, axis=1, k=5), 0.0)


def sums(dtype: DType) -> Iterator[Case]:
    """Products, windows and composites."""
    if dtype == bool_:
        return
    step = 4 * one_step(dtype) if dtype.is_float else 0.0
    window: dict[str, Any] = {"strides": (2,), "pads": (1, 1), "dilations": (1,)}

    def made(name: str, *shapes: tuple[int, ...], **attrs: Any) -> Case:
        m = Maker(dtype, False)
        return m.case(name, (m.builder.op(name, *map(m, shapes), **attrs),), step)

    yield made("matmul", (ROWS, 9), (9, COLUMNS))
    yield made("conv", (2, 3, 19), (4, 3, 3), **window)
    yield made("max_pool", (2, 3, 19), kernel=(3,), **window)
    if not dtype.is_float:
        return
    yield made("avg_pool", (2, 3, 19), kernel=(3,), **window)
    for name in ("softmax", "log_softmax"):
        yield made(name, (ROWS, COLUMNS), axis=1)
    yield made("layer_norm", (ROWS, COLUMNS), (COLUMNS,), (COLUMNS,), axis=1, epsilon=1e-3)
    yield made("rms_norm", (ROWS, COLUMNS), (COLUMNS,), axis=1, epsilon=1e-3)
    yield made("rotary", (ROWS, 8), (ROWS, 8), (ROWS, 8))
    yield made("attention", (1, 2, 5, 8), (1, 2, 7, 8), (1, 2, 7, 8), scale=0.5)


def cast_values(dtype: DType) -> np.ndarray:
    """Every code of a type of 8 bits or fewer, else numbers of all sizes and their edges."""
    if dtype == bool_:
        return np.array([False, True])
    if dtype.bits <= 8:
        codes = np.arange(1 << dtype.bits)
        return wrapped(codes, dtype) if dtype.bits < 8 and dtype.is_integer else codes.astype(np.uint8).view(dtype.np)
    if dtype.is_integer:
        return sample(dtype, (301,), 1)
    rng = np.random.default_rng(3)
    sizes = rng.uniform(1, 2, 400) * 2.0 ** rng.integers(-30, 70, 400) * rng.choice([-1, 1], 400)
    edges = [
        s * k for k in (0.0, 0.5, 1.0, 1.5, 2.5, 7.5, 8.5, 127.5, 240, 448, 464, 57344, 65504, 65520) for s in (1, -1)
    ]
    edges += [2.0**k * s + d for k in (3, 7, 8, 15, 16, 31, 32, 63, 64) for s in (1, -1) for d in (0, -1, 1)]
    x = np.array([*sizes, *edges, np.inf, -np.inf, np.nan, 1e-45, 2.0**-25, 1e300, 1.0 + 2.0**-11 + 2.0**-40])
    with np.errstate(all="ignore"):
        return encoded(x, dtype) if dtype.is_narrow else x.astype(dtype.np)


def casts() -> Iterator[Case]:
    for source in TYPES:
        m, values = Maker(source, True), []
        x = m((), array=cast_values(source))
        for to in TYPES:
            if to == source:
                continue
            values.append(m.builder.op("cast", x, to=to))
            if to.is_float and to.bits <= 8:
                values.append(m.builder.op("cast", x, to=to, saturate=True))
            if to == f8e8m0:
                values += [m.builder.op("cast", x, to=to, rounding=r) for r in ("down", "nearest")]
            if to.bits == source.bits:
                values.append(m.builder.op("bitcast", x, to=to))
        yield m.case("cast", tuple(values), 0.0)


def check(cases: list[Case], isa: str) -> None:
    """All cases in one plan; the message names those that fail."""
    plan = compiled(forest([graph for _, graph, _, _ in cases]), isa)
    given = {f"g{k}.{name}": array for k, (_, _, arrays, _) in enumerate(cases) for name, array in arrays.items()}
    found, wrong = plan.run(given, 2), []
    for number, (name, graph, arrays, tolerance) in enumerate(cases):
        for port, wanted in run(graph, arrays).items():
            dtype = graph.types[next(p.value for p in graph.outputs if p.name == port)].dtype
            got = found[f"g{number}.{port}"]
            assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape), (name, port)
            try:
                same(got, wanted, dtype, tolerance)
            except AssertionError as error:
                made = next(n for n in graph.nodes if graph.outputs[int(port[1:])].value in n.outputs)
                wrong.append(f"{name} {made.op} {dict(made.attrs)}: {' '.join(str(error).split())[:300]}")
    assert not wrong, f"{len(wrong)} of {len(cases)} cases on {isa}:\n" + "\n".join(wrong)


def same(got: np.ndarray, wanted: np.ndarray, dtype: DType, tolerance: float) -> None:
    """To the bit but for NaN; or within a tolerance."""
    if dtype.is_float:
        got, wanted = (widened(x, dtype) if dtype.is_narrow else x for x in (got, wanted))
        smallest = float(np.abs(decoded(np.ones(1, DTYPES["u8"].np), dtype))[0]) if dtype.bits <= 8 else 1e-7
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=smallest * bool(tolerance))
    else:
        np.testing.assert_array_equal(got, wanted)


def of(dtype: DType) -> list[Case]:
    makers: tuple[Callable[[DType], Iterator[Case]], ...] = (elementwise, folds, moves, sums)
    return [case for make in makers for case in make(dtype)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_op(dtype: DType) -> None:
    check(of(dtype), ISAS[0])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("isa", ISAS)
def test_every_cast(isa: str) -> None:
    check(list(casts()), isa)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("isa", ISAS[1:])
def test_other_instruction_sets(isa: str) -> None:
    check([case for name in ("f16", "bf16", "f8e5m2", "i4") for case in of(DTYPES[name])], isa)


def test_sessions_take_bits_and_arrays_of_ml_dtypes() -> None:
    names = {"bf16": "bfloat16", "f8e4m3": "float8_e4m3fn", "f4e2m1": "float4_e2m1fn", "i4": "int4", "u2": "uint2"}
    builder = GraphBuilder(name="g")
    ports = []
    for name in (*names, "f16"):
        x = builder.input(name, TensorType(DTYPES[name], (6,)))
        ports.append(Port(f"{name} doubled", builder.op("add", x, x)))
    plan = compiled(builder.finish(ports))
    values = np.array([0, 1, 1, -1, 0.5, -2])
    bits, typed, wanted = {"f16": values.astype(np.float16)}, {"f16": values.astype(np.float16)}, {}
    for name, other in names.items():
        dtype = DTYPES[name]
        number = values if dtype.is_float else wrapped(values.astype(int), dtype)
        typed[name] = number.astype(getattr(ml_dtypes, other))
        bits[name] = encoded(number, dtype) if dtype.is_float else number.astype(dtype.np)
        wanted[name] = encoded(2 * number, dtype) if dtype.is_float else wrapped(2 * number, dtype)
    for given in (bits, typed):
        found = plan.run(given)
        for name, array in wanted.items():
            np.testing.assert_array_equal(found[f"{name} doubled"], array)
    with Session(plan.folder) as session:
        assert {p.name: p.dtype.name for p in session.get_inputs()} == {name: name for name in (*names, "f16")}
        (listed,) = session.run(["u2 doubled"], {**bits, "u2": [0, 1, 1, 3, 0, 2], "bf16": values.tolist()})
        assert listed.tolist() == [0, 2, 2, 2, 0, 0]
        with pytest.raises(StratacError, match="do not fit u2"):
            session.run(None, {**bits, "u2": [0, 1, 1, 4, 0, 2]})
        with pytest.raises(StratacError, match=r"astype\(ml_dtypes.bfloat16\)"):
            session.run(None, {**bits, "bf16": values})
