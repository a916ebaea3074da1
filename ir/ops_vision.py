"""Rows of ops on images and boxes."""

from __future__ import annotations

from .dims import Dim, product
from .graph import Node
from .op import AttrSpec, Op
from .rules import Types, fail, given, pool
from .types import TensorType, i64

_INT, _INTS = AttrSpec("int"), AttrSpec("ints")


def sample(node: Node, types: Types) -> list[TensorType]:
    """x [N, C, *extents], positions [N, *P, number of extents]."""
    x, where = given(node, types, 0), given(node, types, 1)
    if x.rank < 3 or where.rank < 2 or where.shape[0] != x.shape[0] or where.shape[-1] != x.rank - 2:
        raise fail(node, f"positions {where} do not fit {x}")
    if not x.dtype.is_float or not where.dtype.is_float:
        raise fail(node, f"takes floats, got {x} and {where}")
    return [TensorType(x.dtype, (*x.shape[:2], *where.shape[1:-1]))]


def roi_align(node: Node, types: Types) -> list[TensorType]:
    """x [B, C, H, W], boxes [R, 4], the image of each [R]."""
    x, boxes, images = (given(node, types, i) for i in range(3))
    if x.rank != 4 or boxes.shape != (*images.shape, 4) or images.rank != 1 or not images.dtype.is_integer:
        raise fail(node, f"boxes {boxes} in images {images} do not fit {x}")
    if not x.dtype.is_float or boxes.dtype != x.dtype:
        raise fail(node, f"takes floats of one type, got {x} and {boxes}")
    return [TensorType(x.dtype, (boxes.shape[0], x.shape[1], node.attr("height"), node.attr("width")))]


def roi_pool(node: Node, types: Types) -> list[TensorType]:
    """x [B, C, H, W], boxes [R, 5] that begin with their image's number."""
    x, boxes = given(node, types, 0), given(node, types, 1)
    if x.rank != 4 or boxes.rank != 2 or boxes.shape[1] != 5 or boxes.dtype != x.dtype or not x.dtype.is_float:
        raise fail(node, f"boxes {boxes} do not fit {x}")
    return [TensorType(x.dtype, (boxes.shape[0], x.shape[1], node.attr("height"), node.attr("width")))]


def max_pool_at(node: Node, types: Types) -> list[TensorType]:
    (values,) = pool(node, types)
    return [values, TensorType(i64, values.shape)]


def col2im(node: Node, types: Types) -> list[TensorType]:
    """x [N, C * elements of a block, blocks]."""
    x, image, block = given(node, types, 0), node.attr("image"), node.attr("block")
    n, size = len(image), product(node.attr("block"))
    pads, strides, dilations = node.attr("pads"), node.attr("strides"), node.attr("dilations")
    if x.rank != 3 or not len(block) == len(strides) == len(dilations) == n or len(pads) != 2 * n:
        raise fail(node, f"image {image}, block {block}, strides, pads and dilations do not fit {x}")
    if not all(one > 0 for one in (*block, *strides, *dilations)):
        raise fail(node, f"block {block}, strides {strides} and dilations {dilations} must be positive")
    blocks: Dim = 1
    for i, extent in enumerate(image):
        blocks = blocks * ((extent + pads[i] + pads[i + n] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1)
    channels = x.shape[1]
    if x.shape[2] != blocks or not isinstance(channels, int) or not isinstance(size, int) or channels % size:
        raise fail(node, f"{x} does not hold {blocks} blocks of {size} elements of whole channels")
    return [TensorType(x.dtype, (x.shape[0], channels // size, *image))]


def non_max_suppression(node: Node, types: Types) -> list[TensorType]:
    """boxes [B, N, 4], scores [B, C, N], then the most boxes of a class, the overlap and the score, one number each."""
    boxes, scores = given(node, types, 0), given(node, types, 1)
    if boxes.rank != 3 or scores.rank != 3 or boxes.shape[2] != 4:
        raise fail(node, f"boxes {boxes} and scores {scores} do not fit")
    if (boxes.shape[0], boxes.shape[1]) != (scores.shape[0], scores.shape[2]) or boxes.dtype != scores.dtype:
        raise fail(node, f"boxes {boxes} and scores {scores} do not fit")
    for index, like in enumerate((i64, boxes.dtype, boxes.dtype), 2):
        extra = types[index] if index < len(types) else None
        if extra is not None and (extra.elements != 1 or extra.dtype != like):
            raise fail(node, f"input {index} must be one {like}, got {extra}")
    return [TensorType(i64, (*scores.shape[:2], node.attr("room")))]


_SIZE = {"height": _INT, "width": _INT, "scale": AttrSpec("float")}

ROWS = (
    Op(
        "sample",
        "routine",
        (2, 2),
        sample,
        {
            "mode": AttrSpec("str", "linear", ("nearest", "linear", "cubic")),
            "padding": AttrSpec("str", "zeros", ("zeros", "border", "reflection")),
            "align_corners": AttrSpec("bool", False),
        },
        8,
        "images read between their elements, at positions whose coordinates begin with the last axis",
    ),
    Op(
        "roi_align",
        "routine",
        (3, 3),
        roi_align,
        {
            **_SIZE,
            "samples": AttrSpec("int", 0),
            "half_pixel": AttrSpec("bool", True),
            "mode": AttrSpec("str", "avg", ("avg", "max")),
        },
        40,
        "boxes (x1, y1, x2, y2) resized to one size: each part the mean (or the greatest term) of samples * samples points",
    ),
    Op("roi_pool", "routine", (2, 2), roi_pool, _SIZE, 40, "the greatest elements of parts of boxes in whole pixels"),
    Op(
        "max_pool_at",
        "routine",
        (1, 1),
        max_pool_at,
        {
            **dict.fromkeys(("kernel", "strides", "pads", "dilations"), _INTS),
            "channels_last": AttrSpec("bool", False),
            "column_major": AttrSpec("bool", False),
        },
        4,
        "max_pool, and where each maximum is in all of x: the first of equals, the first NaN",
    ),
    Op(
        "col2im",
        "routine",
        (1, 1),
        col2im,
        dict.fromkeys(("image", "block", "strides", "pads", "dilations"), _INTS),
        4,
        "sums of the blocks that cover an element: the transpose of taking an image apart for a convolution",
    ),
    Op(
        "non_max_suppression",
        "routine",
        (2, 5),
        non_max_suppression,
        {"center": AttrSpec("bool", False), "room": AttrSpec("dim")},
        16,
        "of each image and class up to `room` boxes from the best on, without those that overlap a better one too much, then -1",
    ),
)
