"""What lowering one cluster knows: the index of every read follows from the index of what is stored, backwards through the body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .affine import PerDim, backward, broadcast, forward, linear
from .decompose import decompose, has_decomposition
from .dims import Bounds, Dim, Shape, product
from .graph import Node
from .kernel import (
    Axis,
    Guarded,
    Index,
    Operand,
    Position,
    Read,
    Scalar,
    Store,
    children,
)
from .ops import OPS
from .scalars import apply, const, scalar_of
from .types import COMPUTABLE, TensorType, bool_, i64

Symbols = Mapping[str, Bounds]


#: An expression may have this many nodes when written out as a tree; printing and hashing go through all of them.
LARGEST = 2000
Known = dict[tuple[str, PerDim], tuple[Scalar, int]]


class NotLowerable(Exception):
    """Why a body is no single kernel; only seen inside lowering and fusion."""


class Scope:
    """What lowering one cluster knows: the body with composites expanded, operand numbers, loop axes, finished values."""

    def __init__(
        self,
        body: Sequence[Node],
        inputs: Sequence[str],
        outputs: Sequence[str],
        types: Mapping[str, TensorType],
        symbols: Symbols,
    ) -> None:
        self.inputs, self.outputs, self.symbols = tuple(inputs), tuple(outputs), symbols
        self.types: dict[str, TensorType] = dict(types)
        self.body: list[Node] = []
        for node in body:
            self._check_types(node)
            if OPS[node.op].category == "composite":
                if not has_decomposition(node.op):
                    raise NotLowerable(f"{node.op} has no decomposition")
                parts, self.types = decompose(node, self.types, symbols)
                self.body += parts
            else:
                self.body.append(node)
        self.producer = {v: node for node in self.body for v in node.outputs}
        self.operand = {v: k for k, v in enumerate((*self.inputs, *self.outputs))}
        self.operands = [Operand(self.types[v].dtype, "in") for v in self.inputs]
        self.operands += [Operand(self.types[v].dtype, "out") for v in self.outputs]
        self.known: Known | None = None  # while an expression is made
        self.extents: dict[str, Dim] = {}
        self.index_of: dict[str, PerDim] = {}
        #: values that are at hand at exactly this index: results of reductions, the accumulator, stored rows
        self.ready: dict[str, tuple[PerDim, Scalar]] = {}

    def _check_types(self, node: Node) -> None:
        for value in (*node.used, *node.outputs):
            dtype = self.types[value].dtype
            if dtype not in COMPUTABLE:
                raise NotLowerable(f"{node.op} cannot compute with {dtype}")

    def shape(self, value: str) -> Shape:
        return self.types[value].shape

    def axis(self, name: str, extent: Dim) -> Axis:
        self.extents[name] = extent
        return Axis(name, extent)

    def axes_for(self, shape: Shape, prefix: str) -> tuple[tuple[Axis, ...], PerDim]:
        """One axis per dim (none for extents of 1) and the identity index over them."""
        axes: list[Axis] = []
        index: list[Index] = []
        for k, extent in enumerate(shape):
            if extent == 1:
                index.append(Index())
            else:
                axes.append(self.axis(f"{prefix}{k}", extent))
                index.append(Index.axis(f"{prefix}{k}"))
        return tuple(axes), tuple(index)

    def is_input(self, value: str) -> bool:
        return self.operand.get(value, len(self.inputs)) < len(self.inputs)

    def address(self, value: str, index: PerDim) -> Index:
        return linear(index, self.shape(value))

    # -- expressions, backwards ------------------------------------------------------------------------------------

    def expression(self, value: str, index: PerDim) -> Scalar:
        """The scalar that `value` holds at `index`. Raises NotLowerable."""
        if self.known is not None:
            return self._known(self.known, value, index)
        self.known = {}
        try:
            return self._known(self.known, value, index)
        finally:
            self.known = None

    def _known(self, known: Known, value: str, index: PerDim) -> Scalar:
        """Each value at each index once: a value that is used twice by all that follows would be expanded without end."""
        if (value, index) not in known:
            found = self._expression(value, index)
            known[value, index] = found, _size(found, {id(e): size for e, size in known.values()})
            if known[value, index][1] > LARGEST:
                raise NotLowerable(f"the expression of {value} is too large")
        return known[value, index][0]

    def _expression(self, value: str, index: PerDim) -> Scalar:
        if value in self.ready:
            where, scalar = self.ready[value]
            if where != index:
                raise NotLowerable(f"{value} is needed at another point than where it is computed")
            return scalar
        kind = self.types[value]
        if self.is_input(value):
            return Read(self.operand[value], self.address(value, index), kind.dtype)
        node = self.producer.get(value)
        if node is None:
            raise NotLowerable(f"{value} is neither an input nor computed here")
        match OPS[node.op].category:
            case "view":
                (source,) = node.inputs
                if node.op == "reshape" and self.is_input(source):
                    # a dense buffer keeps its order under any shape
                    return Read(self.operand[source], linear(index, kind.shape), kind.dtype)
                moved = backward(node, index, self.shape(source), kind.shape, self.extents, self.symbols)
                if moved is None:
                    raise NotLowerable(f"{node.op} of {source} is no affine view here")
                return self.expression(source, moved)
            case "elementwise":
                args = (self.expression(v, broadcast(index, self.shape(v))) for v in node.inputs)
                return scalar_of(node, tuple(args))
            case "source":
                return self._source(node, index)
            case "movement":
                return self._moved(node, index)
        raise NotLowerable(f"{node.op} ends a loop nest")

    def _source(self, node: Node, index: PerDim) -> Scalar:
        dtype = self.types[node.output].dtype
        if node.op == "fill":
            return const(node.attr("value"), dtype)  # of a narrow type as it was given: rounded where it is written
        position = Position(index[0] if node.op == "iota" else Index(node.attr("value")))
        return apply("cast", position, dtype=dtype)

    def _moved(self, node: Node, index: PerDim) -> Scalar:
        if node.op == "gather":
            data, indices = node.inputs
            rank = len(self.shape(indices))
            axis = node.attr("axis") % len(self.shape(data))
            extent = Position(Index(self.shape(data)[axis]))
            wanted = apply("cast", self.expression(indices, index[axis : axis + rank]), dtype=i64)
            wrapped = apply("select", apply("lt", wanted, const(0, i64)), apply("add", wanted, extent), wanted)
            last = Position(Index(self.shape(data)[axis] - 1))
            safe = apply("max", apply("min", wrapped, last), const(0, i64))  # a wrong index never leaves the buffer
            return self.expression(data, (*index[:axis], Index(gathers=((safe, 1),)), *index[axis + rank :]))
        if node.op == "pad":
            return self._padded(node, index)
        # concat read in place: which part an element comes from is decided per element
        axis = node.attr("axis") % len(index)
        offsets: list[Dim] = [0]
        for value in node.inputs[:-1]:
            offsets.append(offsets[-1] + self.shape(value)[axis])
        result: Scalar | None = None
        for value, start in reversed(list(zip(node.inputs, offsets, strict=True))):
            moved = (*index[:axis], index[axis].shifted(-start), *index[axis + 1 :])
            part = self.expression(value, moved)
            if result is None:
                result = part
            else:
                end = Position(Index(start + self.shape(value)[axis]))
                result = Guarded(apply("lt", Position(index[axis]), end), part, result)
        assert result is not None
        return result

    def _padded(self, node: Node, index: PerDim) -> Scalar:
        (source,) = node.inputs
        pads, rank, mode = node.attr("pads"), len(index), node.attr("mode", "constant")
        moved: list[Index] = []
        inside: Scalar | None = None
        for k in range(rank):
            begin, end, extent = pads[k], pads[k + rank], self.shape(source)[k]
            position = index[k].shifted(-begin)
            if begin == end == 0:
                moved.append(position)
            elif mode == "constant":
                moved.append(position)
                inside = conjunction(inside, in_bounds(position, extent, begin, end))
            else:
                here, last = Position(position), Position(Index(extent - 1))
                if mode == "edge":
                    nearest = apply("max", apply("min", here, last), const(0, i64))
                else:
                    nearest = apply("sub", last, apply("abs", apply("sub", last, apply("abs", here))))
                moved.append(Index(gathers=((nearest, 1),)))
        value = self.expression(source, tuple(moved))
        if inside is None:
            return value
        return Guarded(inside, value, const(node.attr("value", 0.0), value))

    # -- index maps, to and fro ------------------------------------------------------------------------------------

    def spread(self) -> None:
        """Carry known index maps through elementwise and view nodes, forwards and backwards, until nothing changes."""
        changed = True
        while changed:
            changed = False
            for node in self.body:
                changed |= self._spread_over(node)

    def _spread_over(self, node: Node) -> bool:
        category = OPS[node.op].category
        if category not in ("elementwise", "view"):
            return False
        out = node.output
        before = len(self.index_of)
        if out not in self.index_of:
            for value in node.inputs:
                if value not in self.index_of:
                    continue
                if category == "elementwise":
                    if self.shape(value) == self.shape(out):
                        self.index_of[out] = self.index_of[value]
                        break
                else:
                    shapes = (self.shape(value), self.shape(out))
                    moved = forward(node, self.index_of[value], *shapes, self.extents, self.symbols)
                    if moved is not None:
                        self.index_of[out] = moved
        if out in self.index_of:
            for value in node.inputs:
                if value in self.index_of:
                    continue
                if category == "elementwise" and self.shape(value) == self.shape(out):
                    self.index_of[value] = self.index_of[out]
                elif category == "view" and product(self.shape(value)) == product(self.shape(out)):
                    shapes = (self.shape(value), self.shape(out))
                    back = backward(node, self.index_of[out], *shapes, self.extents, self.symbols)
                    if back is not None:
                        self.index_of[value] = back
        return len(self.index_of) > before


def _size(expression: Scalar, known: Mapping[int, int]) -> int:
    """Nodes of an expression written out; `known` holds the sizes of its parts by identity."""
    found = known.get(id(expression))
    return found if found is not None else 1 + sum(_size(child, known) for child in children(expression))


def store(scope: Scope, value: str, index: PerDim, axes: tuple[Axis, ...]) -> Store:
    """The store of a value at an index, over `axes` of its own."""
    return Store(scope.operand[value], axes, scope.address(value, index), scope.expression(value, index))


def in_bounds(position: Index, extent: Dim, before: int, after: int) -> Scalar | None:
    """0 <= position < extent, testing only the sides that can be crossed."""
    low = apply("ge", Position(position), const(0, i64)) if before else None
    high = apply("lt", Position(position), Position(Index(extent))) if after else None
    return conjunction(low, high)


def conjunction(a: Scalar | None, b: Scalar | None) -> Scalar | None:
    if a is None or b is None:
        return b if a is None else a
    return apply("and", a, b, dtype=bool_)
