"""Directed cases of routines."""

from __future__ import annotations

import itertools

import numpy as np
from stratac.ir.dims import Bounds, Dim, symbol
from stratac.ir.types import DType, bf16, f8e4m3, f16, f32, i4, u4

from .cases import M, N, Net, case

_KINDS = ("float32", "float64", "int64", "int8", "uint16")


@case(*itertools.product(_KINDS, (True, False)))
def topk(net: Net, dtype: str, largest: bool) -> tuple[str, ...]:
    """Few different values, so that equal ones meet."""
    x = net.input((3, N, M), dtype, 0, 3)
    first = net.many("topk", x, outputs=2, axis=-1, k=1, largest=largest)
    whole = net.many("topk", x, outputs=2, axis=1, k=N, largest=largest)
    return *first, *whole


@case(True, False)
def topk_of_special_values(net: Net, largest: bool) -> tuple[str, ...]:
    values = np.array([[0.0, np.nan, -np.inf, 3.0, np.nan, -0.0, np.inf, 3.0]], np.float32)
    return net.many("topk", net.input(values), outputs=2, axis=-1, k=7, largest=largest)


@case()
def topk_behind_views(net: Net) -> str:
    """A transposed input becomes a copy, a slice along the first axis a place in the middle; one result is not used."""
    x = net.input((M, 5), "float32")
    turned = net.many("topk", net.transpose(x, perm=(1, 0)), outputs=2, axis=0, k=2)[1]
    part = net.many("topk", net.slice(net.input((7, 4)), axis=0, start=2, extent=5), outputs=2, axis=0, k=3)[0]
    return net.add(net.reduce_sum(net.cast(turned, to=f32), axes=(0, 1), keepdims=False), part)


def _whole(net: Net, low: int, high: int, shape: tuple[int, ...], dtype: str = "int64") -> str:
    return net.input(shape, dtype, low, high)


@case(*itertools.product(("none", "add", "mul", "min", "max"), ("float32", "int32", "uint8", "float64")))
def scatter(net: Net, reduction: str, dtype: str) -> tuple[str, ...]:
    """Rows that meet, rows counted from the end; wide and narrow ones, and more than one part's share."""
    wide = net.scatter(
        net.input((6, 700), dtype, 0, 3),
        net.array([-1, 2, 2, -6, 5], "int64"),
        net.input((5, 700), dtype, 0, 3),
        reduction=reduction,
    )
    x, rows = net.input((700, N), dtype, 0, 3), _whole(net, -700, 699, (90,), "int32")
    narrow = net.scatter(x, rows, net.input((90, N), dtype, 0, 3), reduction=reduction)
    single = net.scatter(
        net.input((5000,), dtype, 0, 3), _whole(net, 0, 40, (200,)), net.input((200,), dtype, 0, 3), reduction=reduction
    )
    return wide, narrow, single


@case()
def scatter_of_special_values(net: Net) -> tuple[str, ...]:
    x = net.input(np.array([1.0, np.nan, 2.0, -np.inf, 0.0], np.float32))
    updates = net.input(np.array([np.nan, 3.0, np.inf, np.nan, -1.0], np.float32))
    rows = net.array([0, 1, 3, 2, 2], "int64")
    return tuple(net.scatter(x, rows, updates, reduction=r) for r in ("none", "add", "max", "min"))


@case()
def scatter_of_bools_and_nothing(net: Net) -> tuple[str, ...]:
    x, rows, updates = net.input((9,), "bool"), _whole(net, -9, 8, (7,)), net.input((7,), "bool")
    found = [net.scatter(x, rows, updates, reduction=r) for r in ("none", "add", "mul", "min", "max")]
    nothing = net.scatter(net.input((4, 3)), net.array(np.zeros(0), "int64"), net.input((0, 3)))
    return *found, nothing, net.scatter(net.input((4, 0)), net.array([1], "int64"), net.input((1, 0)))


@case(*itertools.product(("none", "add", "mul", "min", "max"), ("float32", "int64", "uint8")))
def scatter_elements(net: Net, reduction: str, dtype: str) -> tuple[str, ...]:
    """Along each axis; indices as long as the data and shorter, and of a dim that may be 0."""
    found = []
    for axis, (shape, short) in itertools.product((0, 1, -1), (((5, 4, 30), (5, 4, 30)), ((5, 4, 30), (3, 2, 11)))):
        extent = shape[axis]
        x, at = net.input(shape, dtype, 0, 3), _whole(net, -extent, extent - 1, short, "int32")
        found.append(net.scatter_elements(x, at, net.input(short, dtype, 0, 3), axis=axis, reduction=reduction))
    x, at = net.input((6, N), dtype, 0, 3), net.input((4, N), "int64", -6, 5)
    return *found, net.scatter_elements(x, at, net.input((4, N), dtype, 0, 3), axis=0, reduction=reduction)


def _found(net: Net, name: str, most: int) -> Dim:
    """A run-time dim; all cases share one plan, so names are theirs alone."""
    net.builder.symbols[name] = Bounds(0, most, most)
    return symbol(name)


def _total(net: Net, value: str, rank: int) -> str:
    """The sum of all elements, each times where it stands along the first axis."""
    wide = net.cast(value, to=f32)
    places = net.cumsum(net.add(net.mul(wide, net.array(0)), net.array(1)), axis=0)
    return net.reduce_sum(net.mul(wide, places), axes=tuple(range(rank)), keepdims=False)


@case(*itertools.product((True, False), ("float32", "int8", "int64")))
def unique(net: Net, keep: bool, dtype: str) -> tuple[str, ...]:
    """Folded, since the number of results is found out; rows of several elements, of one, and of none."""
    found: list[str] = []
    for k, shape in enumerate(((9, 2), (M, 1), (N, 3), (0, 1), (4, 0))):
        most = 40 if shape[0] == M else 9
        count = _found(net, f"kinds_{keep}_{dtype}_{k}", most)
        x = net.input(shape, dtype, 0, 2)
        y, first, which, times = net.many("unique", x, outputs=4, sorted=keep, count=count)
        found += [which, _total(net, net.add(first, net.mul(times, net.array(100, "int64"))), 1)]
        if shape[1]:
            found.append(_total(net, net.mul(net.cast(y, to=f32), net.array(range(3, 3 + shape[1]), "float32")), 2))
    return tuple(found)


@case(
    ("linear", "zeros"),
    ("cubic", "zeros"),
    ("nearest", "border"),
    ("linear", "border"),
    ("cubic", "reflection"),
    ("linear", "reflection"),
    ("nearest", "reflection"),
    ("nearest", "zeros"),
    tolerance=2e-5,
)
def sample(net: Net, mode: str, padding: str) -> tuple[str, ...]:
    """Images of 1 to 3 axes, positions inside and far outside, more than one block of them."""
    found = []
    for corners in (True, False):
        for shape, points in (
            ((2, 3, 5, 7), (9, 11)),
            ((N, 2, 6), (13,)),
            ((1, 2, 3, 4, 5), (2, 3, 7)),
            ((1, 1, 1, 1), (4,)),
        ):
            where = net.input((shape[0], *points, len(shape) - 2), "float32", -9, 14)
            found.append(net.sample(net.input(shape), where, mode=mode, padding=padding, align_corners=corners))
    far = net.input(np.array([[[np.nan, 1.0], [np.inf, 0.5], [-np.inf, -1e30]]], np.float32))
    return *found, net.sample(net.input((1, 2, 3, 4)), far, mode=mode, padding=padding)


@case(tolerance=1e-12)
def sample_of_doubles(net: Net) -> str:
    return net.sample(net.input((2, 3, 5, 7), "float64"), net.input((2, 9, 2), "float64", -3, 9), mode="cubic")


_BOXES = np.array(
    [[0, 0, 5, 5], [1, 2, 9, 7], [-4, -3, 2, 2], [6, 1, 2, 8], [3, 3, 3, 3], [0, 0, 30, 40], [np.nan, 0, 3, 3]],
    np.float32,
)


@case(*itertools.product((0, 2), (True, False), ("avg", "max")), tolerance=2e-5)
def roi_align(net: Net, samples: int, half_pixel: bool, mode: str) -> str:
    """More channels than one block; boxes outside, upside down, empty, large and broken."""
    boxes, images = net.input(_BOXES), net.array([0, 1, 0, 1, 1, 0, 1], "int64")
    return net.roi_align(
        net.input((2, 19, 8, 9)),
        boxes,
        images,
        height=3,
        width=2,
        scale=0.8,
        samples=samples,
        half_pixel=half_pixel,
        mode=mode,
    )


@case()
def roi_pool(net: Net) -> str:
    boxes = np.array(
        [[0, 0, 0, 5, 5], [1, 1, 2, 9, 7], [0, -4, -3, 2, 2], [1, 6, 1, 2, 8], [0, 2, 2, 20, 30]], np.float32
    )
    return net.roi_pool(net.input((2, 3, 8, 9)), net.input(boxes), height=3, width=2, scale=0.7)


@case(*itertools.product(("float32", "int8", "uint8", "float64"), (True, False)))
def max_pool_at(net: Net, dtype: str, column_major: bool) -> tuple[str, ...]:
    found: list[str] = []
    for shape, kernel in (((N, 3, 9), (3,)), ((2, 2, 7, 6), (3, 2)), ((1, 2, 5, 4, 6), (2, 2, 3))):
        n = len(kernel)
        window = {"kernel": kernel, "strides": (2,) * n, "pads": (1,) * (2 * n), "dilations": (1, 2, 1)[:n]}
        found += net.many("max_pool_at", net.input(shape, dtype, 0, 3), outputs=2, column_major=column_major, **window)
    return tuple(found)


@case()
def max_pool_at_of_special_values(net: Net) -> tuple[str, ...]:
    x = net.input(np.array([[[np.nan, 1.0, -np.inf, -np.inf, np.inf, np.nan, np.nan]]], np.float32))
    return net.many("max_pool_at", x, outputs=2, kernel=(2,), strides=(1,), pads=(0, 2), dilations=(1,))


@case("float32", "float64", "int32", tolerance=1e-5)
def col2im(net: Net, dtype: str) -> tuple[str, ...]:
    two = {"image": (6, 5), "block": (2, 3), "strides": (2, 1), "pads": (1, 0, 0, 1), "dilations": (1, 2)}
    one = {"image": (9,), "block": (4,), "strides": (1,), "pads": (2, 1), "dilations": (2,)}
    three = {"image": (3, 4, 3), "block": (1, 2, 2), "strides": (1,) * 3, "pads": (0,) * 6, "dilations": (1,) * 3}
    return (
        net.col2im(net.input((N, 12, 6), dtype, -3, 3), **two),
        net.col2im(net.input((2, 4, 6), dtype, -3, 3), **one),
        net.col2im(net.input((1, 8, 18), dtype, -3, 3), **three),
    )


@case("float32", "float64", tolerance=1e-5)
def det(net: Net, dtype: str) -> tuple[str, ...]:
    singular = np.array([[1, 2, 3], [2, 4, 6], [0, 0, 1]], dtype)
    return (
        net.det(net.input((N, 2, 4, 4), dtype)),
        net.det(net.input((5, 1, 1), dtype)),
        net.det(net.input((7, 7), dtype)),
        net.det(net.input((2, 0, 0), dtype)),
        net.det(net.input(singular)),
    )


@case(True, False)
def non_max_suppression(net: Net, center: bool) -> tuple[str, ...]:
    """Equal scores, many overlaps."""
    found = []
    for most, least, room in ((3, 0.4, 5), (100, None, 30), (0, 0.1, 2), (9, 0.1, 4)):
        boxes, scores = net.input((N, 30, 4), "float32", 0, 4), net.input((N, 3, 30), "float32", 0, 1)
        rough = net.div(net.round(net.mul(scores, net.array(20))), net.array(20))
        extra = [net.array([most], "int64"), net.array(0.2)] + ([] if least is None else [net.array([least])])
        found.append(net.non_max_suppression(boxes, rough, *extra, center=center, room=room))
    return tuple(found)


def _narrow(net: Net, to: DType, *shape: Dim) -> str:
    return net.cast(net.input(shape, "float32", -3, 3), to=to)


@case(*itertools.product(("none", "add", "max"), (f16, bf16, f8e4m3, u4, i4)))
def scatter_of_narrow_elements(net: Net, reduction: str, dtype: DType) -> tuple[str, ...]:
    """Each update is rounded."""
    x, rows = _narrow(net, dtype, 6, 70), net.input((9,), "int64", -6, 5)
    y = net.scatter(x, rows, _narrow(net, dtype, 9, 70), reduction=reduction)
    at = net.input((6, 5), "int64", 0, 69)
    z = net.scatter_elements(x, at, _narrow(net, dtype, 6, 5), axis=1, reduction=reduction)
    return net.cast(y, to=f32), net.cast(z, to=f32)


@case(f16, bf16, tolerance=2e-2)
def vision_of_narrow_floats(net: Net, dtype: DType) -> tuple[str, ...]:
    x = _narrow(net, dtype, 2, 3, 6, 7)
    found = [
        net.sample(x, net.input((2, 9, 2), "float32", -2, 8)),
        net.col2im(_narrow(net, dtype, 2, 4, 5), image=(6,), block=(2,), strides=(1,), pads=(0, 0), dilations=(1,)),
        net.det(_narrow(net, dtype, 3, 2, 2)),
        net.many("max_pool_at", x, outputs=2, kernel=(2, 2), strides=(1, 1), pads=(0,) * 4, dilations=(1, 1))[0],
    ]
    return tuple(net.cast(y, to=f32) for y in found)


@case(*itertools.product(("linear", "gated", "gated_delta"), (1, 2), (False, True)), tolerance=2e-5)
def linear_attention(net: Net, rule: str, groups: int, before: bool) -> tuple[str, ...]:
    """Two query heads on one or two key heads, and the other way round."""
    q, k, v = net.input((N, M, 2, 5)), net.input((N, M, groups, 5)), net.input((N, M, groups, 7))
    factor = net.sigmoid(net.input((N, M, groups, 5 if groups == 2 else 1))) if "gated" in rule else ""
    rate = net.sigmoid(net.input((N, M, groups))) if "delta" in rule else ""
    state = net.input((N, groups, 5, 7)) if before else ""
    inputs = [q, k, v, factor, rate, state]
    while not inputs[-1]:
        inputs.pop()
    first = net.many("linear_attention", *inputs, outputs=2, scale=0.3)
    inputs[0] = net.slice(q, axis=2, start=0, extent=1)
    return *first, net.many("linear_attention", *inputs, outputs=2, scale=0.3)[0]


@case(*itertools.product(("float32", "float64"), (2, 3, 5)), tolerance=1e-4)
def pairwise_probabilities(net: Net, dtype: str, classes: int) -> str:
    return net.pairwise_probabilities(net.input((N, classes * (classes - 1) // 2), dtype, 0.05, 0.95), classes=classes)
