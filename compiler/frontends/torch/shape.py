"""Rules of operators that only rearrange elements."""

from __future__ import annotations

from collections.abc import Sequence

from ....ir.dims import Dim, exact_div, product
from .. import contents
from ..known import Known
from ..scalars import Undecided
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site, Value


@rule("view", "reshape", "_unsafe_view", "view_copy", "_reshape_alias")
def reshape(site: Site) -> Result:
    have, wanted = site.type("self").shape, list(site.dims("shape" if "shape" in site.arguments else "size"))
    if -1 in wanted:
        at = wanted.index(-1)
        rest = product(d for i, d in enumerate(wanted) if i != at)
        missing = exact_div(product(have), rest) if rest != 0 else 0
        if missing is None:
            raise Unsupported(f"cannot find the extent -1 of {wanted} for {site.type('self')}", "fix one of the dims")
        wanted[at] = missing
    return site.viewed(site.tensor("self"), wanted)


@rule("unsqueeze", "squeeze", "squeeze.dim", "squeeze.dims", "flatten.using_ints", "unflatten.int")
@rule("unsqueeze_copy", "squeeze_copy.dim", "atleast_1d")
def viewed(site: Site) -> Result:
    """What torch derived is the shape."""
    return site.viewed(site.tensor("self"), site.result().shape)


def moved(site: Site, perm: Sequence[int]) -> Result:
    known = site.known("self")
    return contents.transpose(known, perm) if known is not None else site.transpose(site.x("self"), perm)


@rule("permute", "permute_copy")
def permute(site: Site) -> Result:
    rank = site.type("self").rank
    return moved(site, [site.axis(a, rank) for a in site.ints("dims")])


@rule("transpose.int", "t", "numpy_T", "mT", "transpose_copy.int", "t_copy")
def transpose(site: Site) -> Result:
    rank = site.type("self").rank
    perm = list(range(rank))
    if site.name.startswith("transpose"):
        a, b = site.axis_at("dim0", rank), site.axis_at("dim1", rank)
    else:
        a, b = rank - 2, rank - 1
    if rank > 1:
        perm[a], perm[b] = perm[b], perm[a]
    return moved(site, perm)


@rule("movedim.int", "movedim.intlist")
def movedim(site: Site) -> Result:
    rank = site.type("self").rank
    source = [site.axis(a, rank) for a in site.ints("source")]
    target = [site.axis(a, rank) for a in site.ints("destination")]
    rest = iter(a for a in range(rank) if a not in source)
    perm = [source[target.index(a)] if a in target else next(rest) for a in range(rank)]
    return moved(site, perm)


@rule("expand", "expand_as", "broadcast_to", "expand_copy")
def expand(site: Site) -> Result:
    shape = site.result().shape
    known = site.known("self")
    folded = contents.expand(known, shape) if known is not None else None
    return folded or site.expand(site.x("self"), shape)


@rule("repeat", "tile")
def repeat(site: Site) -> Result:
    """Whole copies along each axis; new axes come first."""
    counts = list(site.dims("repeats" if site.name == "repeat" else "dims"))
    have: list[Dim] = list(site.type("self").shape)
    counts = [*(1,) * (len(have) - len(counts)), *counts]
    have = [*(1,) * (len(counts) - len(have)), *have]
    target = tuple(c * d for c, d in zip(counts, have, strict=True))
    known = site.known("self")
    if known is not None and known.uniform is not None:
        return contents.full(known.dtype, target, known.uniform)
    value = site.viewed(site.tensor("self"), have)
    if all(c == 1 or d == 1 for c, d in zip(counts, have, strict=True)):
        folded = contents.expand(value, target) if isinstance(value, Known) else None
        return folded or site.expand(site.data(value), target)
    return _copies(site, site.data(value), list(zip(counts, have, strict=True)), target)


def _copies(site: Site, value: str, sizes: Sequence[tuple[Dim, Dim]], target: Sequence[Dim]) -> str:
    """Each axis as (count, extent), the counts filled by expansion."""
    split = [d for _, extent in sizes for d in (1, extent)]
    grown = [d for count, extent in sizes for d in (count, extent)]
    return site.reshape(site.expand(site.reshape(value, split), grown), target)


@rule("repeat_interleave.self_int")
def repeat_interleave(site: Site) -> Result:
    """Each element as often as said, next to each other."""
    shape, count = site.type("self").shape, site.dim("repeats", 1)
    x = site.x("self")
    if not site.has("dim"):
        shape = (product(shape),)
        x = site.reshape(x, shape)
    axis = site.axis_at("dim", len(shape)) if site.has("dim") else 0
    return site.repeat(x, axis, count)


# -- joining


@rule("cat", "concatenate")
def cat(site: Site) -> Result:
    """Tensors of shape [0] take part in nothing."""
    dtype = site.result().dtype
    parts = [p for p in site.tensors("tensors") if site.type_of_argument(p).shape != (0,)]
    if not parts:
        return contents.full(dtype, site.result().shape, 0)
    axis = site.axis_at("dim", site.type_of_argument(parts[0]).rank)
    kept = [p for p in parts if site.type_of_argument(p).shape[axis] != 0] or parts[:1]
    return joined(site, kept, axis)


def joined(site: Site, parts: Sequence[object], axis: int) -> Result:
    dtype = site.result().dtype
    known = [site.known_of(p, dtype) for p in parts]
    found = [k for k in known if k is not None]
    if len(found) == len(parts):
        folded = contents.concat(found, axis)
        if folded is not None:
            return folded
    values = [site.value_of(p, dtype) for p in parts]
    return values[0] if len(values) == 1 else site.emit("concat", *values, axis=axis)


@rule("stack")
def stack(site: Site) -> Result:
    parts = site.tensors("tensors")
    shape = site.type_of_argument(parts[0]).shape
    axis = site.axis_at("dim", len(shape) + 1)
    wide = [site.viewed(site.tensor_of(part), (*shape[:axis], 1, *shape[axis:])) for part in parts]
    return joined(site, [part if isinstance(part, Known) else Value(part) for part in wide], axis)


# -- parts of an axis


@rule("slice.Tensor", "slice_copy.Tensor")
def slice_(site: Site) -> Result:
    kind = site.type("self")
    axis, step = site.axis_at("dim", kind.rank), site.whole("step", 1)
    extent = kind.shape[axis]
    start, end = site.dim("start", 0), site.dim("end", extent)
    if isinstance(end, int) and end >= 1 << 62:
        end = extent
    try:
        first, count = site.facts.window(start, end, step, extent)
    except Undecided:
        text = f"whether {start}:{end} counts from the end of axis {axis} (extent {extent}) depends on the dims"
        raise Unsupported(text, "narrow the bounds with --dim") from None
    return site.part(site.tensor("self"), axis, first, count, step)


@rule("narrow", "narrow_copy")
def narrow(site: Site) -> Result:
    axis = site.axis_at("dim", site.type("self").rank)
    start = _position(site, site.dim("start"), site.type("self").shape[axis])
    return site.part(site.tensor("self"), axis, start, site.dim("length"))


@rule("select.int", "select_copy.int")
def select(site: Site) -> Result:
    kind = site.type("self")
    axis = site.axis_at("dim", kind.rank)
    at = _position(site, site.dim("index"), kind.shape[axis])
    found = site.part(site.tensor("self"), axis, at, 1)
    return _dropped(site, found, axis)


def _position(site: Site, index: Dim, extent: Dim) -> Dim:
    try:
        return site.facts.position(index, extent)
    except Undecided:
        text = f"whether {index} counts from the end of the extent {extent} depends on the dims"
        raise Unsupported(text, "narrow the bounds with --dim") from None


def _dropped(site: Site, found: Result, axis: int) -> Result:
    shape = site.type_of(found).shape
    return site.viewed(found, (*shape[:axis], *shape[axis + 1 :]))


@rule("split.Tensor", "split_with_sizes", "chunk", "tensor_split.sections", "split.sizes", "split_copy.Tensor")
@rule("split_with_sizes_copy", "unsafe_split.Tensor", "unsafe_chunk")
def split(site: Site) -> list[Result]:
    """The extents are those torch derived."""
    axis = site.axis_at("dim", site.type("self").rank)
    results: list[Result] = []
    start: Dim = 0
    for index in range(len(site.node.meta["val"])):
        extent = site.result(index).shape[axis]
        results.append(site.part(site.tensor("self"), axis, start, extent))
        start = start + extent
    return results


@rule("unbind.int", "unbind_copy.int")
def unbind(site: Site) -> list[Result]:
    axis = site.axis_at("dim", site.type("self").rank)
    count = len(site.node.meta["val"])
    return [_dropped(site, site.part(site.tensor("self"), axis, i, 1), axis) for i in range(count)]


@rule("flip")
def flip(site: Site) -> Result:
    x, shape = site.x("self"), site.type("self").shape
    for axis in (site.axis(a, len(shape)) for a in site.ints("dims")):
        if shape[axis] not in (0, 1):
            x = site.slice(x, axis, shape[axis] - 1, shape[axis], -1)
    return x


@rule("roll")
def roll(site: Site) -> Result:
    """The last `shift` elements of an axis come first; without axes, of the flattened tensor."""
    shape, shifts = site.type("self").shape, site.ints("shifts")
    axes = [site.axis(a, len(shape)) for a in site.ints("dims")] if site.get("dims") else []
    x = site.x("self")
    if not axes:
        axes = [0]
        x = site.reshape(x, (product(shape),))
    for shift, axis in zip(shifts, axes, strict=True):
        extent = site.type_of(x).shape[axis]
        if extent == 0 or shift == 0:
            continue
        if isinstance(extent, int):
            shift %= extent
        elif not site.facts.at_least(extent, abs(shift)):
            raise Unsupported(f"rolls an axis of extent {extent} by {shift}", "narrow the bounds with --dim")
        front: Dim = extent - shift if shift >= 0 else -shift
        if front in (0, extent):
            continue
        x = site.emit("concat", site.slice(x, axis, front, extent - front), site.slice(x, axis, 0, front), axis=axis)
    return site.reshape(x, shape)


@rule("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
@rule("replication_pad1d", "replication_pad2d", "replication_pad3d")
def pad(site: Site) -> Result:
    """Pairs from the last axis on; negative pads cut off."""
    kind = site.type("self")
    given = site.ints("pad" if "pad" in site.arguments else "padding")
    mode = "reflect" if "reflection" in site.name else "edge" if "replication" in site.name else "constant"
    if site.name == "pad":
        named = str(site.get("mode", "constant"))
        mode = {"replicate": "edge"}.get(named, named)
    if mode == "circular":
        return _wrapped(site, given)
    value = site.get("value")
    fill = 0.0 if value is None else float(value)
    before, after = [0] * kind.rank, [0] * kind.rank
    for index in range(len(given) // 2):
        axis = kind.rank - 1 - index
        before[axis], after[axis] = given[2 * index], given[2 * index + 1]
    x = site.x("self")
    for axis in range(kind.rank):
        cut = min(0, before[axis]), min(0, after[axis])
        if any(cut):
            x = site.slice(x, axis, -cut[0], site.type_of(x).shape[axis] + cut[0] + cut[1])
    pads = tuple(max(0, p) for p in (*before, *after))
    return site.emit("pad", x, pads=pads, value=fill, mode=mode) if any(pads) else x


def _wrapped(site: Site, given: Sequence[int]) -> Result:
    """Circular padding: the end comes before the start, and the start after the end."""
    x, rank = site.x("self"), site.type("self").rank
    for index in range(len(given) // 2):
        axis, before, after = rank - 1 - index, given[2 * index], given[2 * index + 1]
        extent = site.type_of(x).shape[axis]
        parts = [site.slice(x, axis, extent - before, before)] if before > 0 else []
        parts.append(x)
        parts += [site.slice(x, axis, 0, after)] if after > 0 else []
        x = site.emit("concat", *parts, axis=axis) if len(parts) > 1 else x
    return x


@rule("pixel_shuffle", "pixel_unshuffle")
def pixel_shuffle(site: Site) -> Result:
    x, shape = site.x("self"), site.type("self").shape
    lead, (c, h, w) = shape[:-3], shape[-3:]
    n = len(lead)
    order = list(range(n))
    if site.name == "pixel_shuffle":
        r = site.whole("upscale_factor", 1)
        depth = exact_div(c, r * r)
        if depth is None:
            raise Unsupported(f"{r} x {r} does not divide {c} channels")
        x = site.transpose(site.reshape(x, (*lead, depth, r, r, h, w)), (*order, n, n + 3, n + 1, n + 4, n + 2))
    else:
        r = site.whole("downscale_factor", 1)
        rows, columns = exact_div(h, r), exact_div(w, r)
        if rows is None or columns is None:
            raise Unsupported(f"{r} does not divide {h} by {w}")
        x = site.transpose(site.reshape(x, (*lead, c, rows, r, columns, r)), (*order, n, n + 2, n + 4, n + 1, n + 3))
    return site.reshape(x, site.result().shape)


@rule("diff")
def diff(site: Site) -> Result:
    """Differences of neighbours."""
    kind = site.type("self")
    if site.has("prepend") or site.has("append") or site.get("n", 1) != 1:
        parts = [site.get(n) for n in ("prepend", "self", "append") if site.has(n)]
        if site.get("n", 1) != 1:
            raise Unsupported("of an order other than 1 is not supported")
        axis = site.axis_at("dim", kind.rank, -1)
        x = site.emit("concat", *(site.value_of(p) for p in parts), axis=axis) if len(parts) > 1 else site.x("self")
    else:
        axis, x = site.axis_at("dim", kind.rank, -1), site.x("self")
    extent = site.type_of(x).shape[axis] - 1
    left, right = site.slice(x, axis, 0, extent), site.slice(x, axis, 1, extent)
    return site.emit("xor" if kind.dtype.kind == "bool" else "sub", right, left)
