"""Packing in pieces gives the bytes of packing at once, for dense weights and for views, and holds little beside the weight."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stratac.codegen.pack import Layout, pack, pack_pieces
from stratac.ir.placed import DENSE

KIB = 1 << 10


def views(rows: int, columns: int) -> dict[str, np.ndarray]:
    """The same kind of matrix as numpy may hand it over: dense, transposed, a slice of columns, every other row, turned."""
    rng = np.random.default_rng(rows * 1000 + columns)
    return {
        "dense": rng.standard_normal((rows, columns)).astype("f4"),
        "transposed": rng.standard_normal((columns, rows)).astype("f4").T,
        "columns": rng.standard_normal((rows, columns + 7)).astype("f4")[:, 3 : columns + 3],
        "rows": rng.standard_normal((2 * rows, columns)).astype("f4")[::2],
        "turned": rng.standard_normal((rows, columns)).astype("f4")[::-1],
        "expanded": np.broadcast_to(rng.standard_normal((rows, 1)).astype("f4"), (rows, columns)),
    }


def joined(array: np.ndarray, format: str, piece_bytes: int) -> bytes:
    return b"".join(piece.tobytes() for piece in pack_pieces(array, format, piece_bytes))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 90),
    panel=st.sampled_from([0, 8, 16, 32]),
    piece=st.sampled_from([1, 64, 1000, 4096]),
    turned=st.booleans(),
)
def test_pieces_join_to_the_packed_weight(rows: int, columns: int, panel: int, piece: int, turned: bool) -> None:
    """The right operand of a product as stored, or as the transpose of what is stored."""
    for name, array in views(rows, columns).items():
        dims, strides = ((1, columns, rows), (0, 1, columns)) if turned else ((1, rows, columns), (0, columns, 1))
        for format in (DENSE, str(Layout(panel, 0, dims, strides))):
            assert joined(array, format, piece) == pack(array, format).tobytes(), (name, format)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize(
    "layout",
    [
        Layout(8, 0, (3, 5, 7, 11), (385, 77, 11, 1)),  # a matrix each, two depth axes
        Layout(8, 0, (1, 105, 11), (0, 11, 1)),  # depth runs over three axes at once
        Layout(16, 385, (2, 5, 77), (385, 77, 1)),  # an offset; columns over two axes
        Layout(0, 4, (3, 5, 7), (385, 77, 11)),  # no panels: a selection
        Layout(8, 12, (2, 3, 5), (385, 154, 2)),  # steps along axes
        Layout(8, 0, (4, 5, 7), (0, 77, 11)),  # the same matrix again
    ],
)
def test_any_selection_of_a_weight(layout: Layout, transpose: bool) -> None:
    array = np.arange(3 * 5 * 7 * 11, dtype="f4").reshape(3, 5, 7, 11)
    if transpose:  # the same elements, laid out otherwise
        array = np.ascontiguousarray(array.transpose(3, 1, 0, 2)).transpose(2, 1, 3, 0)
        assert not array.flags.c_contiguous
    assert joined(array, str(layout), 64) == pack(array, str(layout)).tobytes()


@pytest.mark.parametrize("kind", ["dense", "transposed"])
def test_a_view_is_not_copied(kind: str) -> None:
    array = views(512, 2048)[kind]  # 4 MiB
    format = str(Layout(32, 0, (1, 512, 2048), (0, 2048, 1)))
    tracemalloc.start()
    for _ in pack_pieces(array, format, 256 * KIB):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1024 * KIB, "a few pieces, not the weight"
