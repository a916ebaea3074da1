"""Rules of operators that only rearrange elements, and of those that read shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir.dims import Dim, Shape, ceildiv, exact_div, product
from ....ir.types import i64
from .. import contents
from ..scalars import Undecided
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site

#: Up to so many elements along an axis it is written down which ones they are.
_WRITTEN = 1 << 24


@rule("Shape")
def shape(site: Site) -> Result:
    dims = site.type().shape
    start, end = site.get_int("start"), site.get_int("end", len(dims))
    return contents.vector(i64, dims[slice(start, end)])


@rule("Size")
def size(site: Site) -> Result:
    return contents.scalar(i64, site.type().elements)


def viewed(site: Site, shape: Sequence[Dim], index: int = 0) -> Result:
    """An input under another shape."""
    wanted, known = site.possible(site.type(index).dtype, shape), site.known(index)
    folded = contents.reshape(known, wanted) if known is not None else None
    return folded or site.reshape(site.x(index), wanted)


@rule("Reshape")
def reshape(site: Site) -> Result:
    have, wanted = site.type().shape, site.dims(1, "the target shape")
    zero_is_zero = bool(site.get_int("allowzero"))
    dims: list[Dim] = []
    unknown: int | None = None
    for axis, extent in enumerate(wanted):
        if extent == 0 and not zero_is_zero:
            if axis >= len(have):
                raise Unsupported(f"copies extent {axis} of an input of rank {len(have)}")
            extent = have[axis]
        elif not isinstance(extent, int) and site.facts.range(extent)[0] < 0:
            raise Unsupported(f"the target extent {extent} may be negative")
        elif isinstance(extent, int) and extent < 0:
            if extent != -1 or unknown is not None:
                raise Unsupported(f"the target shape [{', '.join(map(str, wanted))}] is not valid")
            unknown, extent = axis, 1
        dims.append(extent)
    if unknown is not None:
        missing = exact_div(product(have), product(dims))
        if missing is None:
            sizes = [", ".join(map(str, d)) for d in (have, wanted)]
            text = f"cannot find the extent -1: [{sizes[0]}] does not divide into [{sizes[1]}]"
            raise Unsupported(text, "fix one of the dims with --dim NAME=N")
        dims[unknown] = missing
    return viewed(site, dims)


@rule("Flatten")
def flatten(site: Site) -> Result:
    dims, axis = site.type().shape, site.get_int("axis", 1)
    if not -len(dims) <= axis <= len(dims):
        raise Unsupported(f"axis {axis} is out of range for rank {len(dims)}")
    axis += len(dims) if axis < 0 else 0
    return viewed(site, (product(dims[:axis]), product(dims[axis:])))


def _axes(site: Site, index: int = 1) -> list[int] | None:
    """Axes as an attribute before opset 13, as an input since; None where they are not given."""
    if site.opset >= 13:
        return site.numbers(index, "axes") if site.has(index) else None
    given = site.get_ints("axes")
    return None if given is None else list(given)


@rule("Squeeze")
def squeeze(site: Site) -> Result:
    dims, axes = site.type().shape, _axes(site)
    if axes is None:
        chosen = {a for a, d in enumerate(dims) if d == 1}
    else:
        chosen = {site.axis(a, len(dims)) for a in axes}
    for axis in chosen:
        if dims[axis] != 1:
            hint = f"fix it with --dim {dims[axis]}=1" if not isinstance(dims[axis], int) else ""
            raise Unsupported(f"axis {axis} has extent {dims[axis]}, not 1", hint)
    return viewed(site, [d for a, d in enumerate(dims) if a not in chosen])


@rule("Unsqueeze")
def unsqueeze(site: Site) -> Result:
    dims, axes = list(site.type().shape), _axes(site)
    if axes is None:
        raise Unsupported("lacks axes")
    rank = len(dims) + len(axes)
    chosen = {site.axis(a, rank) for a in axes}
    if len(chosen) != len(axes):
        raise Unsupported(f"axes {axes} repeat")
    rest = iter(dims)
    return viewed(site, [1 if a in chosen else next(rest) for a in range(rank)])


@rule("Transpose")
def transpose(site: Site) -> Result:
    rank = site.type().rank
    perm = site.get_ints("perm") or tuple(reversed(range(rank)))
    perm = tuple(site.axis(p, rank) for p in perm)
    known = site.known()
    if known is not None and sorted(perm) == list(range(rank)):
        return contents.transpose(known, perm)
    return site.transpose(site.x(), perm)


@rule("Expand")
def expand(site: Site) -> Result:
    wanted = site.possible(site.type().dtype, site.dims(1, "the target shape"))
    for extent in wanted:
        if site.facts.range(extent)[0] < 0:
            raise Unsupported(f"the target extent {extent} may be negative")
    known = site.known()
    folded = contents.expand(known, wanted) if known is not None else None
    if folded is not None:
        return folded
    have = site.type().shape
    whole = contents.broadcast([have, wanted])
    return site.x() if whole == have else site.emit("expand", site.x(), shape=wanted)


@rule("Tile")
def tile(site: Site) -> Result:
    have, repeats = site.type().shape, site.dims(1, "repeats")
    if len(repeats) != len(have):
        raise Unsupported(f"{len(repeats)} repeats for rank {len(have)}")
    if any(isinstance(r, int) and r < 0 for r in repeats):
        raise Unsupported(f"repeats [{', '.join(map(str, repeats))}] must not be negative")
    target = site.possible(site.type().dtype, [r * d for r, d in zip(repeats, have, strict=True)])
    known = site.known()
    if known is not None and known.uniform is not None:
        return contents.full(known.dtype, target, known.uniform)
    if all(r == 1 or d == 1 for r, d in zip(repeats, have, strict=True)):
        folded = contents.expand(known, target) if known is not None else None
        return folded or site.expand(site.x(), target)
    split: list[Dim] = []
    grown: list[Dim] = []
    for repeat, extent in zip(repeats, have, strict=True):
        split += [1, extent]
        grown += [repeat, extent]
    return site.reshape(site.expand(site.reshape(site.x(), split), grown), target)


@rule("Concat")
def concat(site: Site) -> Result:
    if site.type().rank < 1 or any(site.type(i).rank != site.type().rank for i in range(site.count)):
        joined = ", ".join(str(site.type(i)) for i in range(site.count))
        raise Unsupported(f"joins {joined}; the ranks must be equal, and 1 or more")
    axis = site.axis(site.get_int("axis"), site.type().rank)
    known = site.all_known()
    if known is not None and len({k.dtype for k in known}) == 1:
        others = {tuple(d for a, d in enumerate(k.shape) if a != axis) for k in known}
        folded = contents.concat(known, axis) if len(others) == 1 else None
        if folded is not None:
            return folded
    kept = [i for i in range(site.count) if site.type(i).shape[axis] != 0]
    if not kept:
        return site.x()
    if len(kept) == 1:
        return site.known(kept[0]) or site.x(kept[0])
    return site.emit("concat", *(site.x(i) for i in kept), axis=axis)


# -- parts of an axis


def _slice_inputs(site: Site) -> tuple[list[Dim], list[Dim], list[int], list[int]]:
    """Starts, ends, axes, steps: attributes before opset 10, inputs since."""
    starts: list[Dim]
    ends: list[Dim]
    if site.opset < 10:
        starts, ends = list(site.get_ints("starts") or ()), list(site.get_ints("ends") or ())
        axes = list(site.get_ints("axes") or range(len(starts)))
        steps = [1] * len(starts)
    else:
        starts, ends = site.dims(1, "starts"), site.dims(2, "ends")
        axes = site.numbers(3, "axes") if site.has(3) else list(range(len(starts)))
        steps = site.numbers(4, "steps") if site.has(4) else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise Unsupported("starts, ends, axes and steps differ in length")
    return starts, ends, axes, steps


@rule("Slice")
def slice_(site: Site) -> Result:
    starts, ends, axes, steps = _slice_inputs(site)
    known = site.known()
    value: Result = known if known is not None else site.x()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        dims = site.type_of(value).shape
        axis = site.axis(axis, len(dims))
        if step == 0:
            raise Unsupported("a step of 0")
        try:
            first, extent = site.facts.window(start, end, step, dims[axis])
        except Undecided:
            text = f"whether {start}:{end} counts from the end of axis {axis} (extent {dims[axis]}) depends on the dims"
            raise Unsupported(text, "narrow the bounds with --dim") from None
        value = site.part(value, axis, first, extent, step)
    return value


@rule("Split")
def split(site: Site) -> list[Result]:
    """Sizes are an attribute before opset 13, an input since; opset 18 may give only their number."""
    axis = site.axis(site.get_int("axis"), site.type().rank)
    extent, parts = site.type().shape[axis], len(site.node.output)
    if site.get_int("num_outputs", parts) != parts:
        raise Unsupported(f"num_outputs = {site.get_int('num_outputs')} for {parts} outputs")
    sizes: list[Dim]
    if site.opset < 13 and site.has_attribute("split"):
        sizes = list(site.get_ints("split") or ())
    elif site.opset >= 13 and site.has(1):
        sizes = site.dims(1, "split sizes")
    else:
        even = exact_div(extent, parts)
        if even is None:
            if not isinstance(extent, int):
                raise Unsupported(f"cannot split the extent {extent} into {parts} parts")
            even = ceildiv(extent, parts)
        sizes = [even] * (parts - 1) + [extent - even * (parts - 1)]
    if any(site.facts.range(one)[1] < 0 for one in sizes):
        raise Unsupported(f"cannot split {extent} into {parts} parts")
    total: Dim = 0
    for one in sizes:
        total = total + one
    if len(sizes) != parts or total != extent:
        raise Unsupported(f"split sizes [{', '.join(map(str, sizes))}] do not make up {parts} parts of {extent}")
    known = site.known()
    value: Result = known if known is not None else site.x()
    results: list[Result] = []
    start: Dim = 0
    for one in sizes:
        results.append(site.part(value, axis, start, one))
        start = start + one
    return results


@rule("Pad")
def pad(site: Site) -> Result:
    """Pads and value are attributes before opset 11, inputs since; negative pads cut off."""
    x, rank = site.x(), site.type().rank
    mode = site.get_str("mode", "constant")
    if mode not in ("constant", "edge", "reflect", "wrap"):
        raise Unsupported(f"mode {mode!r} is not known")
    value: object = 0.0
    if site.opset < 11:
        pads = list(site.get_ints("pads") or ())
        value = site.get_float("value", 0.0)
        axes = list(range(rank))
    else:
        pads = site.numbers(1, "pads")
        if site.has(2):
            value = site.number(2, "the padding value")
        axes = [site.axis(a, rank) for a in site.numbers(3, "axes")] if site.has(3) else list(range(rank))
    if len(pads) != 2 * len(axes) or not isinstance(value, (int, float)):
        raise Unsupported(f"pads {pads} do not fit {len(axes)} axes")
    whole = [0] * (2 * rank)
    for position, axis in enumerate(axes):
        whole[axis], whole[axis + rank] = pads[position], pads[position + len(axes)]
    for axis in range(rank):
        before, after = min(0, whole[axis]), min(0, whole[axis + rank])
        if before or after:
            x = site.slice(x, axis, -before, site.type_of(x).shape[axis] + before + after)
    positive = tuple(max(0, p) for p in whole)
    if not any(positive):
        return x
    if mode == "wrap" or (mode == "reflect" and not _reflects_once(site.type_of(x).shape, positive)):
        return _repeated(site, x, positive, mode)
    empty = [a for a, d in enumerate(site.type_of(x).shape) if d == 0]
    if mode == "edge" and any(positive[a] or positive[a + rank] for a in empty):
        raise Unsupported(f"mode 'edge' for {site.type_of(x)}, which has no edge along an axis")
    return site.emit("pad", x, pads=positive, value=float(value), mode=mode)


def _reflects_once(dims: Shape, pads: Sequence[int]) -> bool:
    """Whether no pad is longer than what there is to reflect."""
    rank = len(dims)
    return all(not isinstance(d, int) or max(pads[a], pads[a + rank]) < max(d, 1) for a, d in enumerate(dims))


def _repeated(site: Site, value: str, pads: Sequence[int], mode: str) -> str:
    """Pads that go on with the elements from the other end, or to and fro."""
    rank = len(pads) // 2
    for axis, (before, after) in enumerate(zip(pads[:rank], pads[rank:], strict=True)):
        extent = site.type_of(value).shape[axis]
        if not before and not after:
            continue
        if not isinstance(extent, int) or not extent:
            raise Unsupported(f"mode {mode!r} for the extent {extent}", "fix it with --dim NAME=N")
        if before + extent + after > _WRITTEN:
            raise Unsupported(f"mode {mode!r} for pads {before} and {after} of the extent {extent}")
        index = np.arange(-before, extent + after)
        period = extent if mode == "wrap" else max(2 * (extent - 1), 1)
        index = index % period
        if mode == "reflect":
            index = np.minimum(index, period - index) if extent > 1 else index * 0
        value = site.emit("gather", value, site.constant(index), axis=axis)
    return value


@rule("CenterCropPad")
def center_crop_pad(site: Site) -> Result:
    """Cut, or fill up with zeros, at both ends; of an odd difference the end gets one more."""
    rank, wanted = site.type().rank, site.dims(1, "the shape")
    axes = [site.axis(a, rank) for a in site.get_ints("axes") or range(rank)]
    if len(axes) != len(wanted):
        raise Unsupported(f"{len(wanted)} extents for {len(axes)} axes")
    x, pads = site.x(0), [0] * (2 * rank)
    for axis, size in zip(axes, wanted, strict=True):
        extent = site.type_of(x).shape[axis]
        more = size - extent
        if not isinstance(more, int):
            raise Unsupported(f"{size} of an extent of {extent}", "fix it with --dim NAME=N")
        if more < 0:
            x = site.slice(x, axis, -more // 2, size)
        else:
            pads[axis], pads[axis + rank] = more // 2, more - more // 2
    return site.emit("pad", x, pads=tuple(pads)) if any(pads) else x


@rule("DepthToSpace")
def depth_to_space(site: Site) -> Result:
    n, c, h, w = _image(site)
    block, mode = site.get_int("blocksize"), site.get_str("mode", "DCR")
    depth = exact_div(c, block * block)
    if depth is None or mode not in ("DCR", "CRD"):
        raise Unsupported(f"blocksize {block} (mode {mode}) does not fit {c} channels")
    if mode == "DCR":
        x = site.transpose(site.reshape(site.x(), (n, block, block, depth, h, w)), (0, 3, 4, 1, 5, 2))
    else:
        x = site.transpose(site.reshape(site.x(), (n, depth, block, block, h, w)), (0, 1, 4, 2, 5, 3))
    return site.reshape(x, (n, depth, h * block, w * block))


@rule("SpaceToDepth")
def space_to_depth(site: Site) -> Result:
    n, c, h, w = _image(site)
    block = site.get_int("blocksize")
    rows, columns = exact_div(h, block), exact_div(w, block)
    if rows is None or columns is None:
        raise Unsupported(f"blocksize {block} does not divide {h} by {w}")
    mode = site.get_str("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise Unsupported(f"mode {mode!r} is not known")
    perm = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    x = site.transpose(site.reshape(site.x(), (n, c, rows, block, columns, block)), perm)
    return site.reshape(x, (n, c * block * block, rows, columns))


def _image(site: Site) -> Shape:
    dims = site.type().shape
    if len(dims) != 4:
        raise Unsupported(f"needs rank 4, got {site.type()}")
    return dims
