"""Rules of sequences and optionals: lists of values whose lengths are known while importing."""

from __future__ import annotations

from ....ir.dims import Dim, Expr, ceildiv
from ....ir.types import bool_, i64
from .. import contents
from ..known import Known
from ..scalars import integer
from ..unsupported import Unsupported
from .merge import widened
from .registry import rule
from .site import Site
from .structured import Items, Nothing, Strings, Value

#: Tensors that one operator may make a sequence of.
LONGEST = 4096


def items_of(site: Site, index: int = 0) -> tuple[Value, ...]:
    """The elements of an input that must be a sequence."""
    found = site.value(index)
    if not isinstance(found, Items):
        raise Unsupported(f"input {index} must be a sequence")
    return found.items


def _position(site: Site, index: int, count: int) -> int:
    """A position in a sequence of `count` places, negative ones counted from the end."""
    found = integer(site.number(index, "the position"))
    if isinstance(found, Expr):
        raise Unsupported(f"the position {found} must be one number")
    if not -count <= found < count:
        raise Unsupported(f"position {found} is out of range for {count} places")
    return found % count


@rule("SequenceEmpty")
def sequence_empty(site: Site) -> Value:
    site.get_int("dtype")
    return Items()


@rule("SequenceConstruct")
def sequence_construct(site: Site) -> Value:
    return Items(tuple(site.value(i) for i in range(site.count)))


@rule("SequenceLength")
def sequence_length(site: Site) -> Value:
    return contents.scalar(i64, len(items_of(site)))


@rule("SequenceAt")
def sequence_at(site: Site) -> Value:
    """A position that depends on the data is looked up in the elements joined, which must be of one type."""
    items = items_of(site)
    if site.importer.required(site.node.input[1]) is not None or len(items) < 2:
        return items[_position(site, 1, len(items))]
    tensors = [item for item in items if isinstance(item, (str, Known))]
    values = [site.data(item) for item in tensors]
    if len(values) != len(items) or len({site.type_of(v) for v in values}) != 1:
        site.contents(1, "the position among elements of different types")
    return site.emit("gather", site.data(stack(site, tensors, 0)), site.reshape(site.x(1), ()), axis=0)


@rule("SequenceInsert")
def sequence_insert(site: Site) -> Value:
    items = list(items_of(site))
    where = integer(site.number(2, "the position")) if site.has(2) else len(items)
    if not isinstance(where, int) or not -len(items) <= where <= len(items):
        raise Unsupported(f"position {where} is out of range for {len(items)} elements")
    items.insert(where, site.value(1))
    return Items(tuple(items))


@rule("SequenceErase")
def sequence_erase(site: Site) -> Value:
    items = list(items_of(site))
    if not items:
        raise Unsupported("the sequence is empty")
    del items[_position(site, 1, len(items)) if site.has(1) else -1]
    return Items(tuple(items))


@rule("SplitToSequence")
def split_to_sequence(site: Site) -> Value:
    """In equal parts (the last may be smaller), of given sizes, or one element each."""
    source = site.value(0)
    if not isinstance(source, (str, Known)):
        raise Unsupported("splits tensors")
    shape = site.type(0).shape
    axis = site.axis(site.get_int("axis"), len(shape))
    extent = shape[axis]
    keep = bool(site.get_int("keepdims", 1))
    sizes: list[Dim]
    if site.has(1) and site.type(1).rank == 1:
        sizes = site.dims(1, "split")
    else:
        each = integer(site.number(1, "split")) if site.has(1) else 1
        if not isinstance(extent, int) or not isinstance(each, int):
            raise Unsupported(f"splits an extent {extent} into parts of {each}", f"fix it with --dim {extent}=N")
        if each < 1:
            raise Unsupported(f"splits into parts of {each}")
        count = ceildiv(extent, each)
        assert isinstance(count, int)
        if count > LONGEST:
            raise Unsupported(f"makes a sequence of {count} tensors, more than {LONGEST}")
        sizes = [min(each, extent - each * k) for k in range(count)]
    total: Dim = 0
    for size in sizes:
        total = total + size
    if total != extent or any(site.facts.range(size)[0] < 0 for size in sizes):
        raise Unsupported(f"sizes [{', '.join(map(str, sizes))}] do not make up {extent}")
    start: Dim = 0
    items: list[Value] = []
    for size in sizes:
        piece = site.part(source, axis, start, size)
        items.append(piece if site.has(1) or keep else without_axis(site, piece, axis))
        start = start + size
    return Items(tuple(items))


@rule("ConcatFromSequence")
def concat_from_sequence(site: Site) -> Value:
    items, new = items_of(site), bool(site.get_int("new_axis"))
    axis = site.get_int("axis")
    if not items:
        raise Unsupported("joins an empty sequence")
    if not any(all(isinstance(item, kind) for item in items) for kind in ((str, Known), Strings)):
        raise Unsupported("joins tensors only")
    return join(site, items, site.axis(axis, rank_of(site, items[0]) + new), new)


def rank_of(site: Site, value: Value) -> int:
    """The rank of a tensor, of strings too. Raises Unsupported for what is none."""
    if isinstance(value, Strings):
        return len(value.shape)
    if not isinstance(value, (str, Known)):
        raise Unsupported("takes tensors; this is a sequence or an optional")
    return site.type_of(value).rank


def stack(site: Site, items: list[str | Known], axis: int) -> str | Known:
    found = join(site, tuple(items), axis, True)
    assert isinstance(found, (str, Known))
    return found


def join(site: Site, items: tuple[Value, ...], axis: int, new: bool) -> Value:
    """Values joined along an axis, a new one if asked. Raises Unsupported where their types do not fit."""
    strings = [item for item in items if isinstance(item, Strings)]
    if strings:
        width = max(item.width for item in strings)
        slots = [widened(site, item, width) for item in strings]
        joined = site.data(_joined(site, slots, axis, new))
        return Strings(joined, site.type_of(joined))
    return _joined(site, [item for item in items if isinstance(item, (str, Known))], axis, new)


def _joined(site: Site, items: list[str] | list[str | Known], axis: int, new: bool) -> str | Known:
    ranks = {site.type_of(item).rank for item in items}
    if len(ranks) != 1:
        raise Unsupported(f"joins tensors of ranks {', '.join(map(str, sorted(ranks)))}")
    parts = [with_axis(site, item, axis) for item in items] if new else list(items)
    if len(parts) == 1:
        return parts[0]
    known = [item for item in parts if isinstance(item, Known)]
    others = {tuple(d for a, d in enumerate(k.shape) if a != axis) for k in known}
    if len(known) == len(parts) and len({k.dtype for k in known}) == 1 and len(others) == 1:
        folded = contents.concat(known, axis)
        if folded is not None:
            return folded
    return site.emit("concat", *(site.data(item) for item in parts), axis=axis)


def with_axis(site: Site, value: str | Known, axis: int) -> str | Known:
    """A new axis of extent 1."""
    shape = site.type_of(value).shape
    return site.viewed(value, (*shape[:axis], 1, *shape[axis:]))


def without_axis(site: Site, value: str | Known, axis: int) -> str | Known:
    """An axis of extent 1 taken away."""
    shape = site.type_of(value).shape
    return site.viewed(value, (*shape[:axis], *shape[axis + 1 :]))


# -- optionals


@rule("Optional")
def optional(site: Site) -> Value:
    site.attribute("type")
    return site.value(0) if site.has(0) else Nothing()


@rule("OptionalHasElement")
def optional_has_element(site: Site) -> Value:
    return contents.scalar(bool_, int(site.has(0) and not isinstance(site.value(0), Nothing)))


@rule("OptionalGetElement")
def optional_get_element(site: Site) -> Value:
    found = site.value(0)
    if isinstance(found, Nothing):
        raise Unsupported("the optional has no value")
    return found
