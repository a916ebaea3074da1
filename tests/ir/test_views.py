"""Views: the elements of any chain of views are numpy's, and a reshape without strides is one numpy must copy too."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from stratac.ir.dims import Dim, evaluate, evaluate_shape, exact_div, product, symbol
from stratac.ir.views import View, dense_strides, same_elements

IntArray = npt.NDArray[np.int64]


def elements(view: View, values: dict[str, int]) -> IntArray:
    """The buffer positions a view visits, at these sizes."""
    shape, strides = evaluate_shape(view.shape, values), evaluate_shape(view.strides, values)
    index = np.indices(shape).reshape(len(shape), -1)
    flat = evaluate(view.offset, values) + np.array(strides, dtype=np.int64) @ index
    return np.asarray(flat).reshape(shape)


def numpy_reshape_is_free(array: IntArray, shape: tuple[int, ...]) -> bool:
    probe = array.view()
    try:
        probe.shape = shape
    except AttributeError:
        return False
    return True


@st.composite
def chains(draw: st.DrawFn, symbolic: bool) -> tuple[View, IntArray, dict[str, int]]:
    """A view after some steps, the numpy array after the same steps, and the symbols' values."""
    values = {"a": draw(st.integers(1, 4)), "b": draw(st.integers(1, 3))}
    extents: list[Dim] = [1, 2, 3, 4, 6]
    if symbolic:
        extents += [symbol("a"), symbol("b"), 2 * symbol("a")]
    shape = tuple(draw(st.lists(st.sampled_from(extents), min_size=1, max_size=4)))
    view = View.dense(shape)
    array = np.arange(evaluate(product(shape), values)).reshape(evaluate_shape(shape, values))
    for _ in range(draw(st.integers(1, 6))):
        match draw(st.sampled_from(["transpose", "slice", "broadcast", "reshape"])):
            case "transpose":
                perm = tuple(draw(st.permutations(range(len(view.shape)))))
                view, array = view.transpose(perm), array.transpose(perm)
            case "slice" if view.shape:
                axis = draw(st.integers(0, len(view.shape) - 1))
                full = array.shape[axis]
                start, step = draw(st.integers(0, full - 1)), draw(st.sampled_from([1, 2]))
                count = draw(st.integers(1, (full - start + step - 1) // step))
                extent: Dim = count
                if symbolic and step == 1 and draw(st.booleans()):
                    extent, count = view.shape[axis] - start, full - start
                view = view.slice(axis, start, extent, step)
                array = array[(slice(None),) * axis + (slice(start, start + (count - 1) * step + 1, step),)]
            case "broadcast":
                wider = tuple(draw(st.sampled_from(extents)) if d == 1 else d for d in view.shape)
                lead = (draw(st.sampled_from(extents)),) if draw(st.booleans()) and len(view.shape) < 5 else ()
                found = view.broadcast(lead + wider)
                assert found is not None
                view, array = found, np.broadcast_to(array, evaluate_shape(lead + wider, values))
            case "reshape":
                new = draw_reshape(draw, view.shape)
                concrete = evaluate_shape(new, values)
                reshaped = view.reshape(new)
                if reshaped is None:
                    assert symbolic or not numpy_reshape_is_free(array, concrete)
                    continue
                view, array = reshaped, array.reshape(concrete)
    return view, array, values


def draw_reshape(draw: st.DrawFn, shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Another shape with as many elements: axes merged, split, added."""
    new = list(shape)
    for _ in range(draw(st.integers(1, 3))):
        axis = draw(st.integers(0, max(len(new) - 1, 0)))
        match draw(st.sampled_from(["merge", "split", "one"])):
            case "merge" if len(new) > 1:
                axis = min(axis, len(new) - 2)
                new[axis : axis + 2] = [new[axis] * new[axis + 1]]
            case "split" if new:
                factor = draw(st.sampled_from([2, 3, symbol("a")]))
                if (rest := exact_div(new[axis], factor)) is not None:
                    new[axis : axis + 1] = [rest, factor]
            case _:
                new.insert(axis, 1)
    return tuple(new)


@given(chains(symbolic=False))
def test_concrete_chains(chain: tuple[View, IntArray, dict[str, int]]) -> None:
    view, array, values = chain
    np.testing.assert_array_equal(elements(view, values), array)


@given(chains(symbolic=True))
def test_symbolic_chains(chain: tuple[View, IntArray, dict[str, int]]) -> None:
    view, array, values = chain
    np.testing.assert_array_equal(elements(view, values), array)


@given(chains(symbolic=True))
def test_is_dense_means_the_buffer_in_order(chain: tuple[View, IntArray, dict[str, int]]) -> None:
    view, array, _ = chain
    if view.is_dense:
        np.testing.assert_array_equal(array.ravel(), np.arange(array.size))


def test_by_hand() -> None:
    a = symbol("a")
    assert dense_strides((a, 3, 4)) == (12, 4, 1)
    view = View.dense((a, 3, 4))
    assert view.is_dense
    assert view.reshape((a * 12,)) == View((a * 12,), (1,))
    assert view.reshape((3, 4, a)) == View.dense((3, 4, a))
    turned = view.transpose((0, 2, 1))
    assert not turned.is_dense
    assert turned.reshape((a, 12)) is None
    assert turned.reshape((a, 2, 2, 3)) == View((a, 2, 2, 3), (12, 2, 1, 4))
    assert view.broadcast((2, a, 3, 4)) == View((2, a, 3, 4), (0, 12, 4, 1))
    assert view.broadcast((a, 3, 5)) is None
    assert view.broadcast((3, 4)) is None
    assert view.slice(0, a - 1, 1) == View((1, 3, 4), (12, 4, 1), 12 * a - 12)
    assert same_elements((a, 6), (2, 3 * a))
