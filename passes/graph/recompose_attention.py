"""Attention from softmax(scale * q @ k^T + mask) @ v, whichever way an exporter scales, masks, guards and shapes it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...ir.dims import Dim, Shape, product
from ...ir.graph import Node
from ...ir.types import bf16, f32
from .match import broadcasts_to, is_constant, scaled, uses
from .rebuild import Rebuild
from .recompose_mask import VERY_NEGATIVE, Term, absorb, conjuncts, narrowest, terms, write


@dataclass(frozen=True)
class _Scores:
    """factor * q @ keys + terms, where `keys` are transposed; with a softcap c, c tanh(factor / c * q @ keys) + terms. `leads` are
    the leading shapes the scores go through."""

    q: str
    keys: str
    factor: float
    terms: tuple[Term, ...] = ()
    leads: tuple[Shape, ...] = ()
    softcap: float = 0.0


# -- reading -------------------------------------------------------------------------------------------------------


def _uncast(work: Rebuild, value: str) -> str:
    """Below casts between floats: attention accumulates in more than any of them."""
    while (node := work.producer(value, "cast")) is not None and work.type(node.inputs[0]).dtype.is_float:
        if not node.attr("to").is_float:
            break
        value = node.inputs[0]
    return value


def _softmax_below(work: Rebuild, p: str) -> str | None:
    """The scores under probabilities that nothing else reads, also under where(isnan(p), 0, p) and with other leading axes."""
    if uses(work, p) > 1:
        return None
    p = _uncast(work, p)
    node = work.producer(p, "reshape")
    if node is not None and work.shape(node.inputs[0])[-2:] == work.shape(p)[-2:]:
        p = node.inputs[0]
        if uses(work, p) > 1:
            return None
        p = _uncast(work, p)
    node = work.producer(p, "where")
    if node is not None:
        guard = work.producer(node.inputs[0], "isnan")
        if guard is None or guard.inputs[0] != node.inputs[2] or work.scalar(node.inputs[1]) != 0.0:
            return None
        p = node.inputs[2]
        if uses(work, p) > 2:
            return None
        p = _uncast(work, p)
    elif uses(work, p) > 1:
        return None
    inner = work.producer(p, "softmax")
    if inner is None or inner.attr("axis") % len(work.shape(p)) != len(work.shape(p)) - 1:
        return None
    return _uncast(work, inner.inputs[0])


def _scores(work: Rebuild, value: str, factor: float) -> _Scores | None:
    """Scores that are multiplied by `factor` further up, read down to their product."""
    value = _uncast(work, value)
    node, shape = work.producer(value), work.shape(value)
    if node is None or len(shape) < 2:
        return None
    if node.op == "matmul":
        q, keys = node.inputs
        return _Scores(q, keys, factor, leads=(shape[:-2],)) if _is_product(work, q, keys) else None
    if node.op == "reshape":
        if work.shape(node.inputs[0])[-2:] != shape[-2:]:
            return None
        found = _scores(work, node.inputs[0], factor)
        return found and replace(found, leads=(*found.leads, shape[:-2]))
    step = scaled(work, node)
    if step is not None:
        return _scores(work, step[0], factor * step[1])
    if node.op == "add":
        for inner, mask in (node.inputs, node.inputs[::-1]):
            found = _scores(work, inner, factor) if work.shape(inner) == shape else None
            if found is not None:
                return replace(found, terms=(*found.terms, *terms(work, mask, factor, shape)))
    if node.op == "tanh" and factor > 0:
        found = _scores(work, node.inputs[0], 1.0)
        if found is None or found.terms or found.softcap:
            return None
        return replace(found, factor=found.factor * factor, softcap=factor)
    if node.op in ("max", "clip"):
        # a floor under hidden scores, so that none is -infinity
        lowest = node.attr("min") if node.op == "clip" else work.scalar(node.inputs[1])
        free = node.op == "max" or node.attr("max", np.inf) == np.inf
        return _scores(work, node.inputs[0], factor) if free and lowest is not None and lowest < -1e30 else None
    if node.op == "where":
        condition, yes, no = node.inputs
        for seen, inner, other in ((True, yes, no), (False, no, yes)):
            hidden = work.scalar(other)
            found = _scores(work, inner, factor) if hidden is not None and work.shape(inner) == shape else None
            if found is not None and hidden is not None and hidden * factor <= VERY_NEGATIVE:
                # replacing is adding a number so low that the score drowns in it
                dtype = work.type(value).dtype
                low = hidden if np.isinf(hidden) else float(np.finfo((f32 if dtype == bf16 else dtype).np).min)
                conditions = conjuncts(work, condition, seen)
                extra = (Term(shape, conditions=conditions, hidden=low),) if conditions else ()
                return replace(found, terms=(*found.terms, *extra))
    return None


def _is_product(work: Rebuild, q: str, keys: str) -> bool:
    """A product of two activations: with a constant right side it is a layer."""
    return min(len(work.shape(q)), len(work.shape(keys))) >= 2 and not is_constant(work, keys)


def _without_factor(work: Rebuild, value: str) -> tuple[float, str]:
    """A scalar factor taken out from under views."""
    node = work.producer(value)
    if node is None:
        return 1.0, value
    step = scaled(work, node)
    if step is not None:
        factor, inner = _without_factor(work, step[0])
        return factor * step[1], inner
    if node.op in ("reshape", "transpose"):
        factor, inner = _without_factor(work, node.inputs[0])
        if inner != node.inputs[0]:
            return factor, work.emit(node.op, inner, like=node, **dict(node.attrs))
    return 1.0, value


# -- shaping -------------------------------------------------------------------------------------------------------


def _reshape(work: Rebuild, value: str, shape: Shape, like: Node) -> str:
    """Reshapes on top of each other are one."""
    while (node := work.producer(value, "reshape")) is not None and work.shape(value) != shape:
        value = node.inputs[0]
    return value if work.shape(value) == shape else work.emit("reshape", value, like=like, shape=shape)


def _swap_last(work: Rebuild, value: str, like: Node) -> str:
    """The last two axes exchanged, by undoing the transpose that made them where there is one."""
    shape, node = work.shape(value), work.producer(value)
    swapped = (*shape[:-2], shape[-1], shape[-2])
    if node is not None and node.op == "transpose":
        perm = node.attr("perm")
        perm = (*perm[:-2], perm[-1], perm[-2])
        source = node.inputs[0]
        return source if perm == tuple(range(len(perm))) else work.emit("transpose", source, like=like, perm=perm)
    if node is not None and node.op == "reshape" and work.shape(node.inputs[0])[-2:] == shape[-2:]:
        return _reshape(work, _swap_last(work, node.inputs[0], like), swapped, like)
    order = tuple(range(len(shape)))
    return work.emit("transpose", value, like=like, perm=(*order[:-2], order[-1], order[-2]))


def _unrepeated(work: Rebuild, value: str, like: Node) -> str:
    """[B, G, S, D] below [B, G * repeat, S, D] made by reshape(expand([B, G, 1, S, D]))."""
    shape, node = work.shape(value), work.producer(value, "reshape")
    wide = work.producer(node.inputs[0], "expand") if node is not None else None
    if wide is None or len(shape) != 4:
        return value
    inner, full = work.shape(wide.inputs[0]), work.shape(wide.output)
    if len(inner) != 5 or len(full) != 5 or inner[2] != 1 or (*full[:2], *full[3:]) != (*inner[:2], *inner[3:]):
        return value
    if full[0] != shape[0] or full[3:] != shape[2:]:
        return value
    return _reshape(work, wide.inputs[0], (*inner[:2], *inner[3:]), like)


def _target_lead(work: Rebuild, found: _Scores, v: str) -> tuple[Dim, Dim]:
    """Batch and heads: from the scores, else from what q or v was reshaped from, else heads are 1."""
    lead = found.leads[0]
    if len(lead) == 2 and isinstance(lead[1], int):
        return lead[0], lead[1]
    candidates = [*found.leads[1:]]
    for value in (found.q, v):
        node = work.producer(value, "reshape")
        inner = work.shape(node.inputs[0]) if node is not None else ()
        if len(inner) > 2 and inner[-2:] == work.shape(value)[-2:]:
            candidates.append(inner[:-2])
    for other in candidates:
        if len(other) == 2 and isinstance(other[1], int) and product(other) == product(lead):
            return other[0], other[1]
    if len(lead) > 2 and isinstance(lead[-1], int):
        return product(lead[:-1]), lead[-1]
    return product(lead), 1


def _to_lead(work: Rebuild, value: str, lead: Shape, target: Shape, like: Node, *, keep_ones: bool = False) -> str:
    """[.., a, b], whose leading axes broadcast to `lead`, as [*target, a, b]; `keep_ones` leaves ones to broadcasting."""
    shape = work.shape(value)
    own, tail = shape[:-2], shape[-2:]
    if product(own) == 1 and keep_ones:
        return _reshape(work, value, (*(1,) * len(target), *tail), like)
    wide = (*(1,) * (len(lead) - len(own)), *own)
    value = _reshape(work, value, (*wide, *tail), like)
    if lead == target and keep_ones:
        return value
    if wide != lead:
        value = work.emit("expand", value, like=like, shape=(*lead, *tail))
    return _reshape(work, value, (*target, *tail), like)


def _grouped(work: Rebuild, k: str, v: str, lead: Shape, target: Shape, like: Node) -> tuple[str, str]:
    """Keys and values with the fewest heads both have."""
    k, v = (_to_lead(work, x, lead, target, like, keep_ones=lead == target) for x in (k, v))
    bare = _unrepeated(work, k, like), _unrepeated(work, v, like)
    if work.shape(bare[0])[1] == work.shape(bare[1])[1]:
        k, v = bare
    batch, heads = target
    groups = work.shape(k)[1] if work.shape(k)[1] == work.shape(v)[1] else heads
    shapes = [(batch, groups, *work.shape(x)[2:]) for x in (k, v)]
    wide = [
        x if work.shape(x) == s else work.emit("expand", x, like=like, shape=s)
        for x, s in zip((k, v), shapes, strict=True)
    ]
    return wide[0], wide[1]


def _mask(work: Rebuild, found: list[Term], target: Shape, like: Node, dtype_of: str) -> str:
    """The sum of the terms, brought from the leading axes each had to `target`."""
    total = ""
    for term in found:
        value = write(work, term, like, dtype_of)
        lead, shape = term.context[:-2], work.shape(value)
        if len(shape) > 2 and product(shape[:-2]) == 1:
            value = _reshape(work, value, shape[-2:], like)
        elif len(shape) > 2 and lead != target:
            value = _to_lead(work, value, lead, target, like)
        total = work.emit("add", total, value, like=like) if total else value
    return total


# -- the rules -----------------------------------------------------------------------------------------------------


def attention(work: Rebuild, node: Node) -> str | None:
    """softmax(scores) @ v; the scores' mask is split into causality and the rest."""
    p, v = node.inputs
    below = _softmax_below(work, p)
    found = _scores(work, below, 1.0) if below is not None else None
    if found is None or len(work.shape(v)) < 2 or not work.type(v).dtype.is_float or is_constant(work, v):
        return None
    behind = work.shape(p)[:-2]
    if found.leads[-1] != behind:
        found = replace(found, leads=(*found.leads, behind))
    lead, result = found.leads[0], work.old.types[node.output]
    dtypes = {work.type(x).dtype for x in (found.q, found.keys, v)}
    if len(dtypes) > 1 or product(result.shape[:-2]) != product(lead) or product(behind) != product(lead):
        return None
    if not broadcasts_to(work.shape(v)[:-2], behind):
        return None
    target = _target_lead(work, found, v)
    (q_factor, q), (k_factor, keys) = _without_factor(work, found.q), _without_factor(work, found.keys)
    q = _to_lead(work, q, lead, target, node)
    v = v if found.leads[-1] == lead else _to_lead(work, v, found.leads[-1], lead, node)
    k, v = _grouped(work, _swap_last(work, keys, node), v, lead, target, node)
    queries, length = work.shape(q)[2], work.shape(k)[2]
    causal, rest = absorb(work, list(found.terms), queries, length)
    mask = _mask(work, rest, target, node, q)
    extra = (mask,) if mask else ()
    scale = found.factor * q_factor * k_factor
    value = work.emit(
        "attention", q, k, v, *extra, like=node, scale=scale, causal=causal, softcap=found.softcap or None
    )
    return _reshape(work, value, result.shape, node)


def simplify_attention(work: Rebuild, node: Node) -> str | None:
    """An attention that came whole: its mask narrowed, causality found in it, repeated heads taken back."""
    q, k, v = node.inputs[:3]
    mask = node.inputs[3] if len(node.inputs) > 3 else ""
    bare = _unrepeated(work, k, node), _unrepeated(work, v, node)
    repeated = bare[0] != k and work.shape(bare[0])[1] == work.shape(bare[1])[1]
    changed, causal = repeated, bool(node.attr("causal", False))
    if mask:
        scores = (*work.shape(q)[:3], work.shape(k)[2])
        found = terms(work, mask, 1.0, scores)
        hides, rest = absorb(work, found, scores[2], scores[3])
        choice = work.producer(mask, "where")
        expanded = choice is not None and narrowest(work, choice.inputs[0]) != choice.inputs[0]
        if hides or not found or expanded or narrowest(work, mask) != mask:
            changed, causal = True, causal or hides
            mask = _mask(work, rest, scores[:2], node, q)
    if not changed:
        return None
    k, v = bare if repeated else (k, v)
    inputs = (q, k, v, mask) if mask else (q, k, v)
    attrs = {**dict(node.attrs), "causal": causal}
    return work.emit("attention", *inputs, like=node, **attrs)
