"""Index maps through reshapes against counting: every point of every loop lands on the same element."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from stratac.ir.affine import PerDim, regroup
from stratac.ir.dims import Bounds, Dim, evaluate, evaluate_shape, symbol
from stratac.ir.kernel import Index

S = symbol("s")
SYMBOLS = {"s": Bounds(1, 3, 4)}


@st.composite
def walks(draw: st.DrawFn) -> tuple[tuple[Dim, ...], tuple[Dim, ...], PerDim, dict[str, Dim]]:
    """A shape, another one of as many elements, and an index that stays within the first: steps, offsets, turned axes."""
    factors: list[Dim] = draw(st.lists(st.sampled_from([1, 2, 2, 3, 4, S]), min_size=1, max_size=5))

    def grouped() -> tuple[Dim, ...]:
        shape: list[Dim] = []
        for factor in factors:
            if shape and draw(st.booleans()):
                shape[-1] = shape[-1] * factor
            else:
                shape.append(factor)
        return tuple(shape)

    source, target = grouped(), grouped()
    index: list[Index] = []
    extents: dict[str, Dim] = {}
    for number, extent in enumerate(source):
        name = f"i{number}"
        if isinstance(extent, int):
            step = draw(st.integers(1, 2))
            count = draw(st.integers(1, (extent - 1) // step + 1))
            start = draw(st.integers(0, extent - 1 - (count - 1) * step))
            down = draw(st.booleans())
            extents[name] = count
            index.append(
                Index.axis(name, -step if down else step).shifted(start + (count - 1) * step if down else start)
            )
        else:
            extents[name] = extent
            index.append(Index.axis(name, -1).shifted(extent - 1) if draw(st.booleans()) else Index.axis(name))
    return source, target, tuple(index), extents


def at(index: PerDim, point: dict[str, int], symbols: dict[str, int]) -> tuple[int, ...]:
    return tuple(evaluate(i.base, symbols) + sum(point[a] * evaluate(c, symbols) for a, c in i.terms) for i in index)


@settings(max_examples=600, derandomize=True, database=None, deadline=None)
@given(walks())
def test_regrouped_index_is_the_same_element(
    walk: tuple[tuple[Dim, ...], tuple[Dim, ...], PerDim, dict[str, Dim]],
) -> None:
    source, target, index, extents = walk
    moved = regroup(index, source, target, extents, SYMBOLS)
    if moved is None:
        return
    for size in (1, 3, 4):
        symbols = {"s": size}
        old, new = evaluate_shape(source, symbols), evaluate_shape(target, symbols)
        for values in itertools.product(*(range(evaluate(e, symbols)) for e in extents.values())):
            point = dict(zip(extents, values, strict=True))
            place, wanted = at(moved, point, symbols), at(index, point, symbols)
            assert all(0 <= p < d for p, d in zip(place, new, strict=True))
            assert np.ravel_multi_index(place, new) == np.ravel_multi_index(wanted, old)


def test_whole_axes_split_and_merge() -> None:
    both = (Index.axis("i"), Index.axis("j"))
    extents: dict[str, Dim] = {"i": 4, "j": S}
    assert regroup(both, (4, S), (4 * S,), extents, SYMBOLS) == (Index(0, (("i", S), ("j", 1))),)
    assert regroup((Index.axis("i", S) + Index.axis("j"),), (4 * S,), (4, S), extents, SYMBOLS) == both
    assert regroup((Index.axis("i"),), (12,), (3, 4), {"i": 12}, SYMBOLS) is None  # would need a division
