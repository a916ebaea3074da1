"""Attention masks taken apart: which part says "no key after the query", and what is left.

A mask is a sum of terms. A term made by `where(condition, 0, very negative)` is a set of conditions that must all hold for a
key to be seen; conditions that say `key <= query + keys - queries` are proven so from affine index arithmetic or from the
elements of a constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...ir.dims import Dim, Shape, product
from ...ir.graph import Node
from ...ir.interp import evaluate_weight
from ...ir.types import COMPUTABLE, bool_
from .rebuild import Rebuild

#: What is at most this hides a key: the weight of any other key drowns it.
VERY_NEGATIVE = -1e3
#: Constant masks are looked into up to this size.
_LOOK_BYTES = 1 << 25


@dataclass(frozen=True)
class Term:
    """Added to the scores: `factor * value`, or, with conditions, 0 where all hold and `hidden` elsewhere.

    A condition is a boolean value and what it must be. Conditions broadcast to `context`, the shape of the scores there.
    """

    context: Shape
    value: str = ""
    factor: float = 1.0
    conditions: tuple[tuple[str, bool], ...] = ()
    hidden: float = -math.inf


# -- reading -------------------------------------------------------------------------------------------------------


def terms(work: Rebuild, value: str, factor: float, context: Shape) -> list[Term]:
    """The terms of an additive mask."""
    value = narrowest(work, value)
    node = work.producer(value)
    if node is not None and node.op == "add":
        return [term for part in node.inputs for term in terms(work, part, factor, context)]
    inner = work.shape(node.inputs[0]) if node is not None and node.op == "reshape" else ()
    if node is not None and len(inner) >= 2 and inner[-2:] == work.shape(value)[-2:]:
        if product(inner[:-2]) in (1, product(context[:-2])):
            return terms(work, node.inputs[0], factor, (*inner[:-2], *context[-2:]))
    found = _conditions(work, value)
    if found is not None and found[1] * factor <= VERY_NEGATIVE:
        return [Term(context, value, factor, *found)] if found[0] else []
    return [] if work.scalar(value) == 0.0 else [Term(context, value, factor)]


def _conditions(work: Rebuild, value: str) -> tuple[tuple[tuple[str, bool], ...], float] | None:
    """where(c, 0, hidden), where(c, hidden, 0), and one such inside another."""
    node = work.producer(value, "where")
    if node is None:
        return None
    condition, yes, no = node.inputs
    for seen, inner, other in ((True, yes, no), (False, no, yes)):
        hidden = work.scalar(other)
        if hidden is None or not hidden <= VERY_NEGATIVE:
            continue
        if work.scalar(inner) == 0.0:
            return conjuncts(work, condition, seen), hidden
        deeper = _conditions(work, narrowest(work, inner))
        if deeper is not None and deeper[1] == hidden:
            return (*conjuncts(work, condition, seen), *deeper[0]), hidden
    return None


def conjuncts(work: Rebuild, condition: str, wanted: bool = True) -> tuple[tuple[str, bool], ...]:
    """What must hold for `condition` to be `wanted`: a conjunction, or a disjunction that must not hold, taken apart."""
    condition = narrowest(work, condition)
    node = work.producer(condition)
    if node is not None and node.op == "not":
        return conjuncts(work, node.inputs[0], not wanted)
    if node is not None and node.op == ("and" if wanted else "or"):
        return tuple(dict.fromkeys(part for v in node.inputs for part in conjuncts(work, v, wanted)))
    if work.scalar(condition) == float(wanted):
        return ()
    return ((condition, wanted),)


def narrowest(work: Rebuild, value: str) -> str:
    """Below expansions that broadcasting does again, aligned to the last two axes."""
    while (node := work.producer(value, "expand")) is not None:
        value = node.inputs[0]
    return value


# -- causality -----------------------------------------------------------------------------------------------------


def is_causal(work: Rebuild, condition: str, wanted: bool, queries: Dim, keys: Dim) -> bool:
    """Whether the condition is `wanted` exactly where key <= query + keys - queries."""
    condition = _last_two(work, condition)
    array = _window(work, condition, queries, keys)
    if array is not None:
        return bool(((array != 0) == (_triangle(array) == wanted)).all())
    node = work.producer(condition)
    if node is None or node.op not in ("le", "lt", "ge", "gt"):
        return False
    left, right = (_affine(work, v) for v in node.inputs)
    if left is None or right is None:
        return False
    above = node.op in ("ge", "gt")
    difference = _minus(right, left) if above == wanted else _minus(left, right)
    # the condition holds (or, if not wanted, fails) where the difference is <= 0, or < 0
    strict = (node.op in ("lt", "gt")) == wanted
    steps, start = difference
    return _steps_are(steps, 1, -1) and start + (1 if strict else 0) == queries - keys


def hides_future(work: Rebuild, value: str, factor: float, queries: Dim, keys: Dim) -> bool:
    """Whether an additive constant is 0 for keys <= query + keys - queries and very negative elsewhere."""
    array = _window(work, _last_two(work, value), queries, keys)
    if array is None or not np.issubdtype(array.dtype, np.floating):
        return False
    seen = _triangle(array)
    return bool((array[seen] == 0).all() and (array[~seen] * factor <= VERY_NEGATIVE).all())


def _triangle(array: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    rows, columns = array.shape
    return np.tri(rows, columns, columns - rows, dtype=np.bool_)


def _last_two(work: Rebuild, value: str) -> str:
    """Below views that leave the last two axes alone and only add or drop axes of 1 before them."""
    while (node := work.producer(value)) is not None and node.op in ("expand", "reshape"):
        inner, shape = work.shape(node.inputs[0]), work.shape(value)
        if len(inner) < 2 or inner[-2:] != shape[-2:] or (node.op == "reshape" and product(inner[:-2]) != 1):
            break
        value = node.inputs[0]
    return value


def _window(work: Rebuild, value: str, queries: Dim, keys: Dim) -> npt.NDArray[Any] | None:
    """A constant matrix whose elements [0:queries, 0:keys] decide: the mask itself, or what the mask is a corner of.

    A corner of `queries` rows from keys - queries on is the square below: it decides for every size.
    """
    if work.shape(value)[-2:] != (queries, keys):
        return None
    begin: list[Dim] = [0, 0]
    while (node := work.producer(value)) is not None and node.op in ("slice", "cast", "reshape"):
        inner = work.shape(node.inputs[0])
        if node.op == "reshape" and (len(inner) < 2 or inner[-2:] != work.shape(value)[-2:]):
            return None
        if node.op == "cast" and not (node.attr("to") == bool_ or node.attr("to").is_float):
            return None
        if node.op == "slice":
            axis = node.attr("axis") % len(inner) - len(inner)
            if axis >= -2:
                if node.attr("step", 1) != 1:
                    return None
                at = axis + 2
                begin[at] = begin[at] + node.attr("start")
        value = node.inputs[0]
    array = _elements(work, value)
    if array is None or array.ndim < 2 or array.size != array.shape[-1] * array.shape[-2]:
        return None
    array = array.reshape(array.shape[-2], array.shape[-1])
    numbers = [d for d in (*begin, queries, keys) if isinstance(d, int)]
    if len(numbers) == 4:
        top, left, rows, columns = numbers
        return array[top : top + rows, left : left + columns]
    return array if begin == [keys - queries, 0] and array.shape[0] == array.shape[1] else None


def _elements(work: Rebuild, value: str) -> npt.NDArray[Any] | None:
    found: npt.NDArray[Any] | None = work.constant(value)
    weight = work.builder.weights.get(value)
    if found is None and weight is not None and weight.type.dtype in COMPUTABLE and work.readable(value):
        size = weight.type.nbytes
        if isinstance(size, int) and size <= _LOOK_BYTES:
            found = evaluate_weight(work.snapshot(), value)
    return found


# -- affine index arithmetic ---------------------------------------------------------------------------------------

#: value[i0, .., ik] = start + sum(step * index): the steps by axis, counted from the last, and the start
Affine = tuple[tuple[Dim, ...], Dim]


def _steps_are(steps: tuple[Dim, ...], key: int, query: int) -> bool:
    wide = (*steps, 0, 0)
    return wide[0] == key and wide[1] == query and not any(wide[2:])


def _minus(a: Affine, b: Affine) -> Affine:
    return _plus(a, b, -1)


def _plus(a: Affine, b: Affine, sign: int = 1) -> Affine:
    size = max(len(a[0]), len(b[0]))
    left, right = ((*x, *(0,) * (size - len(x))) for x in (a[0], b[0]))
    return tuple(p + sign * q for p, q in zip(left, right, strict=True)), a[1] + sign * b[1]


def _affine(work: Rebuild, value: str) -> Affine | None:
    """How an integer value varies along its axes, the last axis first."""
    node, shape = work.producer(value), work.shape(value)
    if node is None:
        return _affine_constant(work, value)
    match node.op:
        case "iota":
            return (0 if node.attr("extent") == 1 else 1,), 0
        case "dim":
            return (), node.attr("value")
        case "fill":
            number = float(node.attr("value"))
            return ((0,) * len(shape), int(number)) if number.is_integer() else None
        case "cast":
            narrow = not (work.type(value).dtype.is_integer and work.type(node.inputs[0]).dtype.is_integer)
            return None if narrow or work.type(value).dtype.bits < 32 else _affine(work, node.inputs[0])
        case "add" | "sub":
            left, right = (_affine(work, v) for v in node.inputs)
            if left is None or right is None:
                return None
            return _plus(left, right, 1 if node.op == "add" else -1)
        case "expand":
            found = _affine(work, node.inputs[0])
            return found and ((*found[0], *(0,) * (len(shape) - len(found[0]))), found[1])
        case "transpose":
            found = _affine(work, node.inputs[0])
            if found is None:
                return None
            steps = found[0][::-1]
            return tuple(steps[p] for p in reversed(node.attr("perm"))), found[1]
        case "reshape":
            found = _affine(work, node.inputs[0])
            return found and _affine_reshape(found, work.shape(node.inputs[0]), shape)
    return _affine_constant(work, value)


def _affine_reshape(found: Affine, inner: Shape, outer: Shape) -> Affine | None:
    """Axes of 1 come and go."""
    if [d for d in inner if d != 1] != [d for d in outer if d != 1]:
        return None
    steps = iter([s for s, d in zip(reversed(found[0]), inner, strict=True) if d != 1])
    return tuple(next(steps) if d != 1 else 0 for d in outer)[::-1], found[1]


def _affine_constant(work: Rebuild, value: str) -> Affine | None:
    array = work.constant(value)
    if array is None or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
        return None
    start = int(array.flat[0])
    total, steps = np.full(array.shape, start, dtype=np.int64), []
    for axis, extent in enumerate(array.shape):
        at = tuple(1 if k == axis else 0 for k in range(array.ndim))
        steps.append(int(array[at]) - start if extent > 1 else 0)
        total += steps[-1] * np.arange(extent).reshape(*(-1 if k == axis else 1 for k in range(array.ndim)))
    return (tuple(steps[::-1]), start) if (total == array).all() else None


# -- writing -------------------------------------------------------------------------------------------------------


def absorb(work: Rebuild, found: list[Term], queries: Dim, keys: Dim) -> tuple[bool, list[Term]]:
    """Whether causality is among the terms, and the terms without it.

    A query whose visible keys are all padding tells finite numbers that stand for minus infinity from the real one: with them an
    exporter averages over hidden keys too. So a finite causal mask is absorbed only where nothing else is masked.
    """
    alone = len(found) == 1 and len(found[0].conditions) <= 1
    causal, rest = False, []
    for term in found:
        if not alone and not (term.conditions and math.isinf(term.hidden)):
            rest.append(term)
        elif term.conditions:
            kept = tuple(c for c in term.conditions if not is_causal(work, *c, queries, keys))
            causal = causal or kept != term.conditions
            if kept:
                rest.append(replace(term, conditions=kept, value=term.value if kept == term.conditions else ""))
        elif hides_future(work, term.value, term.factor, queries, keys):
            causal = True
        else:
            rest.append(term)
    return causal, rest


def write(work: Rebuild, term: Term, like: Node, dtype_of: str) -> str:
    """A term as a value that broadcasts to its context."""
    dtype = work.type(dtype_of).dtype

    def literal(number: float) -> str:
        return work.emit("fill", like=like, value=number, shape=(), dtype=dtype)

    if not term.conditions:
        same = work.type(term.value).dtype == dtype
        value = term.value if same else work.emit("cast", term.value, like=like, to=dtype)
        return value if term.factor == 1.0 else work.emit("mul", value, literal(term.factor), like=like)
    hidden = term.hidden * term.factor
    if math.isinf(hidden) and not math.isinf(term.hidden):
        hidden = float(np.finfo(dtype.np).min)
    if len(term.conditions) == 1:
        ((condition, wanted),) = term.conditions
        zero, low = literal(0.0), literal(hidden)
        return work.emit("where", condition, *((zero, low) if wanted else (low, zero)), like=like)
    seen = ""
    for condition, wanted in term.conditions:
        part = condition if wanted else work.emit("not", condition, like=like)
        seen = work.emit("and", seen, part, like=like) if seen else part
    return work.emit("where", seen, literal(0.0), literal(hidden), like=like)
