"""Views, ops that copy elements, and sources for random graphs; see random_values and random_ops."""

from __future__ import annotations

from stratac.ir.dims import Dim, Expr, exact_div, product

from .random_ops import builder, dtype_named
from .random_values import Maker, Value, is_int


@builder
def transpose(m: Maker) -> Value | None:
    x = m.pick(lambda v: v.rank > 1)
    if x is None:
        return None
    order = list(range(x.rank))
    for i in range(x.rank - 1):
        j = m.integer(i, x.rank - 1)
        order[i], order[j] = order[j], order[i]
    if order == sorted(order):
        order = order[::-1]
    return m.add("transpose", x, lo=x.lo, hi=x.hi, err=x.err, perm=tuple(order))


@builder
def reshape(m: Maker) -> Value | None:
    """Merges two axes, splits one, adds or drops a 1, or flattens."""
    x = m.pick(lambda v: True)
    if x is None:
        return None
    shape, ways = list(x.shape), ["unsqueeze"]
    splits: list[tuple[int, Dim, int]] = []
    for i, extent in enumerate(shape):
        for factor in (2, 3, 4):
            rest = exact_div(extent, factor)
            if rest is not None:
                splits.append((i, rest, factor))
    if len(shape) > 1:
        ways += ["merge", "flatten"]
    if splits:
        ways.append("split")
    if 1 in shape:
        ways.append("squeeze")
    match m.choice(ways):
        case "merge":
            i = m.integer(0, len(shape) - 2)
            shape[i : i + 2] = [shape[i] * shape[i + 1]]
        case "flatten":
            shape = [product(shape)]
        case "split":
            i, rest, factor = m.choice(splits)
            parts: list[Dim] = [rest, factor]
            shape[i : i + 1] = parts if m.flag() else parts[::-1]
        case "squeeze":
            shape.remove(1)
        case _:
            shape.insert(m.integer(0, len(shape)), 1)
    if len(shape) > 5:
        return None
    return m.add("reshape", x, lo=x.lo, hi=x.hi, err=x.err, shape=tuple(shape))


@builder
def expand(m: Maker) -> Value | None:
    x = m.pick(lambda v: v.rank < 5)
    if x is None:
        return None
    shape = [m.choice(m.extents) if d == 1 and m.flag() else d for d in x.shape]
    if len(shape) < 4 and m.flag():
        shape.insert(0, m.choice(m.extents))
    return m.add("expand", x, lo=x.lo, hi=x.hi, err=x.err, shape=tuple(shape))


@builder
def slice_(m: Maker) -> Value | None:
    x = m.pick(lambda v: v.rank > 0)
    if x is None:
        return None
    axis = m.integer(0, x.rank - 1)
    full, sure = x.shape[axis], m.least(x.shape[axis])
    start: Dim = m.integer(0, sure - 1)
    step = 1
    if isinstance(full, Expr) and m.flag():
        # all that follows `start`, or the last element only
        start, extent = (start, full - start) if m.flag() else (full - 1, 1)
    else:
        step = m.choice((1, 2, -1))
        reach = sure - start if step > 0 else start + 1
        extent = m.integer(1, (reach + abs(step) - 1) // abs(step))
    return m.add("slice", x, lo=x.lo, hi=x.hi, err=x.err, axis=axis, start=start, extent=extent, step=step)


@builder
def concat(m: Maker) -> Value | None:
    x = m.pick(lambda v: v.rank > 0)
    if x is None:
        return None
    axis = m.integer(0, x.rank - 1)
    rest = x.shape[:axis] + x.shape[axis + 1 :]
    parts = [x]
    for _ in range(m.integer(1, 2)):
        if all(isinstance(d, int) for d in rest) and m.flag():
            shape = [m.integer(1, 3) if i == axis else d for i, d in enumerate(x.shape)]
            parts.append(m.constant(shape, 0, 1, x.type.dtype))  # type: ignore[arg-type]
        else:
            other = m.pick(
                lambda v: (
                    v.rank == x.rank and v.type.dtype == x.type.dtype and v.shape[:axis] + v.shape[axis + 1 :] == rest
                )
            )
            parts.append(other or x)
    lo, hi, err = min(p.lo for p in parts), max(p.hi for p in parts), max(p.err for p in parts)
    return m.add("concat", *parts, lo=lo, hi=hi, err=err, axis=axis - x.rank if m.flag() else axis)


@builder
def pad(m: Maker) -> Value | None:
    x = m.pick(lambda v: v.rank > 0)
    if x is None:
        return None
    mode = m.choice(("constant", "edge", "reflect"))
    room = [min(2, m.least(d) - 1) if mode == "reflect" else 2 for d in x.shape]
    pads = tuple(m.integer(0, most) if m.flag() else 0 for most in room * 2)
    facts = {"value": 1.0} if mode == "constant" and m.flag() else {}
    return m.add("pad", x, lo=min(x.lo, 0), hi=max(x.hi, 1), err=x.err, pads=pads, mode=mode, **facts)


@builder
def gather(m: Maker) -> Value | None:
    x = m.pick(lambda v: v.rank > 0)
    if x is None:
        return None
    axis = m.integer(0, x.rank - 1)
    sure = m.least(x.shape[axis])
    indices = m.pick(lambda v: is_int(v) and v.rank <= 2 and -sure <= v.lo and v.hi < sure)
    if indices is None or m.flag():
        shape = tuple(m.integer(1, 4) for _ in range(m.integer(0, 2)))
        indices = m.constant(shape, -sure, sure - 1, dtype_named(m.choice(("i64", "i32"))))
    return m.add("gather", x, indices, lo=x.lo, hi=x.hi, err=x.err, axis=axis)


@builder
def source(m: Maker) -> Value | None:
    extent = m.choice(m.extents)
    match m.choice(("iota", "dim", "fill")):
        case "iota":
            dtype = {"dtype": dtype_named(m.choice(("f32", "i32")))} if m.flag() else {}
            return m.add("iota", lo=0, hi=m.most(extent) - 1, extent=extent, **dtype)
        case "dim":
            return m.add("dim", lo=m.least(extent), hi=m.most(extent), value=extent)
        case _:
            dtype = {"dtype": dtype_named(m.choice(("f32", "i64")))}
            return m.add("fill", lo=2, hi=2, value=2.0, shape=m.shape(0, 3), **dtype)
