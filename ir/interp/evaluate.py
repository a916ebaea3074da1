"""Runs a graph on numpy arrays: binds the symbols, reads the weights, and applies each node's meaning in order."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..dims import Dim, Expr, evaluate, evaluate_shape, interval, substitute, symbol
from ..errors import StratacError
from ..graph import Attrs, Derived, FileBytes, Graph, Inline, Node, Weight
from ..narrow import narrowed, unpacked, widened
from ..ops import OPS, dims_set
from ..types import DType, TensorType
from .registry import MEANINGS, Array, meaning

#: large elementwise derivations are done in blocks of about so many bytes
_BLOCK_BYTES = 16 << 20


def run(graph: Graph, inputs: Mapping[str, Array], *, keep: Collection[str] = ()) -> dict[str, Array]:
    """The graph's outputs by port name, and the values named in `keep` (those inside clusters too) by value name.

    `inputs` maps port names to arrays; states are as they start. Raises StratacError for a wrong name, dtype, shape or dim, and if
    an op fails. Run-time dims get their values as the nodes that set them are evaluated.
    """
    found = _values(graph, inputs, initial_state(graph), keep)
    return {value: found[value] for value in keep} | {port.name: found[port.value] for port in graph.outputs}


def step(
    graph: Graph, inputs: Mapping[str, Array], state: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """One run of a graph with states: its outputs by port name, and what the states become by their names."""
    found = _values(graph, inputs, state, ())
    outputs = {port.name: found[port.value] for port in graph.outputs}
    return outputs, {row.name: found[row.update] for row in graph.states}


def initial_state(graph: Graph) -> dict[str, Array]:
    """What the states are before the first run, by their names."""
    found: dict[str, Array] = {}
    for state in graph.states:
        kind = graph.types[state.value]
        zeros = np.zeros(evaluate_shape(kind.shape, {}), kind.dtype.np)
        found[state.name] = evaluate_weight(graph, state.initial) if state.initial else zeros
    return found


def _values(
    graph: Graph, inputs: Mapping[str, Array], state: Mapping[str, Array], keep: Collection[str]
) -> dict[str, Array]:
    """By value name: at least the outputs, what the states become, and `keep`."""
    symbols = bind_symbols(graph, inputs)
    values: dict[str, Array] = {port.value: np.asarray(inputs[port.name]) for port in graph.inputs}
    values |= {row.value: state[row.name] for row in graph.states}
    return _evaluated(graph, values, symbols, {*graph.output_values, *keep})


def _evaluated(
    graph: Graph, values: dict[str, Array], symbols: dict[str, int], wanted: Collection[str]
) -> dict[str, Array]:
    """The values wanted, from those of inputs and states. Dims that are set join `symbols`."""
    kept: dict[str, Array] = {}
    last_use = _last_uses(graph.nodes)
    begins = {first: (last, loop) for (first, last), loop in zip(graph.spans(), graph.loops, strict=True)}

    def apply(index: int) -> None:
        node = graph.nodes[index]
        for value in node.used:
            if value in graph.weights and value not in values:
                values[value] = evaluate_weight(graph, value)
        for name, result in _apply(node, values, graph, symbols).items():
            if name in wanted:
                kept[name] = result
            if name in node.outputs:
                values[name] = result
        for value in node.used:
            if not begins and last_use[value] == index and value not in wanted:
                values.pop(value, None)

    def walk(first: int, last: int, inside: bool = False) -> None:
        index = first
        while index <= last:
            if index in begins and not (inside and index == first):
                last_inside, loop = begins[index]
                for trip in range(graph.symbols[loop.trip].max + 1):
                    if loop.condition and not values[loop.condition]:
                        break
                    symbols[loop.trip] = trip
                    walk(index, last_inside, inside=True)
                    values.update({one.value: values[one.update] for one in loop.carried})
                values.update({one.update: values[one.value] for one in loop.carried})
                index = last_inside + 1
            else:
                apply(index)
                index += 1

    walk(0, len(graph.nodes) - 1)
    for value in wanted:
        if value in graph.weights and value not in values:
            values[value] = evaluate_weight(graph, value)
    found = {**values, **kept}
    if missing := sorted(set(wanted) - found.keys()):
        raise StratacError(f"the graph has no value {missing[0]!r}", level="graph")
    return found


@meaning("loop", typed=True, moves=True)  # beside what other meanings are given it needs its graph and dims
def _repeated(node: Node, body: Graph, arrays: Sequence[Array], symbols: Mapping[str, int]) -> dict[str, Array]:
    """Runs its body on what it carries for as long as there are trips."""
    count, trip = len(body.states), node.attr("trip")
    carried = list(arrays[:count])
    outside = {port.value: array for port, array in zip(body.inputs, arrays[count:], strict=True)}
    outside |= {name: evaluate_weight(body, name) for node in body.nodes for name in node.used if name in body.weights}
    for number in range(body.symbols[trip].max + 1):
        if node.attr("while") and not carried[0]:
            break
        values = outside | {state.value: array for state, array in zip(body.states, carried, strict=True)}
        found = _evaluated(body, values, {**symbols, trip: number}, {state.update for state in body.states})
        carried = [found[state.update] for state in body.states]
    return dict(zip(node.outputs, carried, strict=True))


def evaluate_weight(graph: Graph, name: str) -> Array:
    """The array of a weight: read from its file (memory-mapped), decoded, or derived from other weights.

    Types that numpy lacks come as their storage (bf16 as uint16), those of fewer than 8 bits with one element in a byte.
    Raises StratacError for a missing or short file, a wrong byte count and a derivation that fails.
    """
    weight = graph.weights.get(name)
    if weight is None:
        raise StratacError(f"the graph has no weight {name!r}", level="graph")
    match weight.content:
        case Derived(op, inputs, attrs):
            arrays = [evaluate_weight(graph, value) if value else None for value in inputs]
            node = Node(op, inputs, (name,), attrs)
            types = {value: graph.weights[value].type for value in inputs if value} | {name: weight.type}
            return _derive(node, arrays, types)
        case Inline(data):
            return _decode(weight, np.frombuffer(data, dtype=np.uint8))
        case FileBytes() as place:
            return _decode(weight, _map_file(graph, name, place), packed=True)


def _derive(node: Node, arrays: Sequence[Array | None], types: Mapping[str, TensorType]) -> Array:
    """The output of one node; of a large elementwise one row by row, since meanings may widen what they compute with."""
    kind = types[node.output]
    shape = evaluate_shape(kind.shape, {})
    size = math.prod(shape) * kind.dtype.np.itemsize
    if OPS[node.op].category != "elementwise" or size <= _BLOCK_BYTES:
        return _meaning_of(node, arrays, types, {})[0]
    result = np.empty(shape, kind.dtype.np)
    axis = next(a for a, extent in enumerate(shape) if extent > 1)
    rows = max(_BLOCK_BYTES * shape[axis] // size, 1)
    for start in range(0, shape[axis], rows):
        block = (slice(None),) * axis + (slice(start, start + rows),)
        count = result[block].shape[axis]
        given = [None if a is None else _rows(a, len(shape), axis, block) for a in arrays]
        cut = {node.output: replace(kind, shape=(*shape[:axis], count, *shape[axis + 1 :]))}
        result[block] = _meaning_of(node, given, {**types, **cut}, {})[0]
    return result


def _rows(array: Array, rank: int, axis: int, block: tuple[slice, ...]) -> Array:
    """The part of an operand that a block of the result needs: all of it where it is broadcast along the axis."""
    own = axis - (rank - array.ndim)
    return array if own < 0 or array.shape[own] == 1 else array[block[axis - own :]]


def bind_symbols(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, int]:
    """The value of each symbol that the inputs' shapes settle, every input and bound checked.

    Raises StratacError for a missing or unknown input, a wrong dtype, rank or extent, and a dim outside its bounds.
    """
    names = [port.name for port in graph.inputs]
    if unknown := [name for name in inputs if name not in names]:
        raise StratacError(
            f"the model has no input {unknown[0]!r}", hint=f"its inputs are {', '.join(map(repr, names))}"
        )
    equations: list[tuple[str, int, Dim, int]] = []
    for port in graph.inputs:
        if port.name not in inputs:
            raise StratacError(f"input {port.name!r} is missing", hint=f"expected {graph.types[port.value]}")
        array, kind = np.asarray(inputs[port.name]), graph.types[port.value]
        if array.dtype != kind.dtype.np:
            raise StratacError(
                f"input {port.name!r} is {array.dtype}, expected {kind}", hint=f"convert to {kind.dtype.numpy}"
            )
        if array.ndim != kind.rank:
            raise StratacError(f"input {port.name!r} has shape {array.shape}, expected {kind}")
        equations += [(port.name, axis, kind.shape[axis], extent) for axis, extent in enumerate(array.shape)]
    found = {name: bounds.min for name, bounds in graph.symbols.items() if bounds.min == bounds.max}
    found |= _solve([(dim, extent) for _, _, dim, extent in equations], found)
    for name, value in found.items():
        bounds = graph.symbols.get(name)
        if bounds and not bounds.min <= value <= bounds.max:
            raise StratacError(f"dim {name} = {value} is outside its bounds {bounds.min}..{bounds.max}")
    for name, axis, dim, extent in equations:
        expected = substitute(dim, found)
        if isinstance(expected, Expr):
            least, most = interval(expected, graph.symbols)
            fits = least <= extent <= most and _linear(expected) is None  # else _solve found no integer
        else:
            fits = expected == extent
        if not fits:
            raise StratacError(f"input {name!r} has extent {extent} on axis {axis}, expected {dim} = {expected}")
    return found


def _solve(equations: Iterable[tuple[Dim, int]], known: Mapping[str, int]) -> dict[str, int]:
    """Symbols from equations dim = extent, by solving each that is linear in the one symbol still unknown."""
    found: dict[str, int] = {}
    pending = list(equations)
    progress = True
    while progress:
        progress = False
        for dim, extent in pending:
            linear = _linear(substitute(dim, {**known, **found}))
            if linear is not None and (extent - linear[2]) % linear[1] == 0:
                found[linear[0]] = (extent - linear[2]) // linear[1]
                progress = True
    return found


def _linear(dim: Dim) -> tuple[str, int, int] | None:
    """(symbol, scale, constant) where dim = scale * symbol + constant, else None."""
    if not isinstance(dim, Expr):
        return None
    terms = dict(dim.terms)
    constant = terms.pop((), 0)
    if len(terms) != 1:
        return None
    (monomial, scale) = next(iter(terms.items()))
    (name,) = monomial if len(monomial) == 1 else (None,)
    return (name, scale, constant) if isinstance(name, str) else None


def _last_uses(nodes: Sequence[Node]) -> dict[str, int]:
    return {value: index for index, node in enumerate(nodes) for value in node.used}


def _apply(node: Node, values: Mapping[str, Array], graph: Graph, symbols: dict[str, int]) -> dict[str, Array]:
    """Every value that `node` defines; for a cluster also those inside its body. Dims that it sets join `symbols`."""
    if node.op == "cluster":
        scope: dict[str, Array] = {value: values[value] for value in node.used}
        defined: dict[str, Array] = {}
        for child in node.body:
            results = _apply(child, scope, graph, symbols)
            scope |= results
            defined |= results
        return defined | {value: scope[value] for value in node.outputs}
    if node.graph is not None:
        carried: dict[str, Array] = _repeated(node, node.graph, [values[value] for value in node.inputs], symbols)
        return carried
    arrays = [values[value] if value else None for value in node.inputs]
    found = _meaning_of(node, arrays, graph.types, symbols)
    symbols |= {name: _found_dim(node, name, found, graph) for name in dims_set(node)}
    return dict(zip(node.outputs, found, strict=True))


def _found_dim(node: Node, name: str, results: Sequence[Array], graph: Graph) -> int:
    """The value that a node's results give to a dim it sets."""
    shapes = zip(results, (graph.types[value].shape for value in node.outputs), strict=True)
    pairs = [pair for array, shape in shapes for pair in zip(array.shape, shape, strict=True)]
    value = next(int(extent) for extent, dim in pairs if dim == symbol(name))
    bounds = graph.symbols[name]
    if not bounds.min <= value <= bounds.max:
        what = f"dim {name} comes out as {value}, its bounds are {bounds.min}..{bounds.max}"
        raise StratacError(what, op=node.op, level="graph", source=node.source)
    return value


def _meaning_of(
    node: Node, arrays: Sequence[Array | None], types: Mapping[str, TensorType], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """The outputs of one node, each checked against its declared type; extents that it sets itself are as they come out."""

    def failed(what: object, hint: str = "") -> StratacError:
        return StratacError(str(what), op=node.op, level="graph", source=node.source, hint=hint)

    if node.op not in MEANINGS or node.op not in OPS:
        raise failed(f"no meaning for op {node.op!r}", "meanings are registered in ir/interp")
    meaning = MEANINGS[node.op]
    try:
        arguments = _arguments(node, node.attrs, symbols)
        if meaning.typed:
            arguments["types"] = tuple(types[value].dtype for value in node.inputs if value)
        elif not meaning.moves:
            given = zip(arrays, node.inputs, strict=True)
            arrays = [None if x is None else widened(x, types[value].dtype) for x, value in given]
        with np.errstate(all="ignore"):
            result = meaning.function(*arrays, **arguments)
    except KeyError as missing:
        raise failed(f"the dim {missing} is not settled by the inputs") from missing
    except (ValueError, IndexError, TypeError, ArithmeticError, NotImplementedError) as error:
        raise failed(error) from error
    results = result if isinstance(result, tuple) else (result,)
    if not meaning.typed and not meaning.moves:
        results = tuple(narrowed(x, types[value].dtype) for x, value in zip(results, node.outputs, strict=True))
    own = [symbol(name) for name in dims_set(node)]
    for value, array in zip(node.outputs, results, strict=True):
        kind = types[value]
        try:
            wanted = zip(kind.shape, array.shape, strict=False)
            shape = tuple(extent if dim in own else evaluate(dim, symbols) for dim, extent in wanted)
        except KeyError as missing:
            raise failed(f"the dim {missing} is not settled by the inputs") from missing
        if array.ndim != kind.rank or array.shape != shape or array.dtype != kind.dtype.np:
            raise failed(f"{value} came out as {array.dtype}{list(array.shape)}, its type is {kind} = {list(shape)}")
    return tuple(np.asarray(array) for array in results)


def _arguments(node: Node, attrs: Attrs, symbols: Mapping[str, int]) -> dict[str, Any]:
    """The row's attributes as keyword arguments: defaults filled in, dims evaluated."""
    rows = OPS[node.op].attrs
    given = {name: spec.default for name, spec in rows.items()} | dict(attrs)
    return {name: _concrete(value, symbols) for name, value in given.items() if rows[name].kind != "sets"}


def _concrete(value: Any, symbols: Mapping[str, int]) -> Any:
    if isinstance(value, tuple):
        return tuple(_concrete(v, symbols) for v in value)
    return evaluate(value, symbols) if isinstance(value, Expr) else value


def _storage(dtype: DType) -> np.dtype[Any]:
    return dtype.np.newbyteorder("<")


def _decode(weight: Weight, data: Array, packed: bool = False) -> Array:
    """Bytes as an array of the weight's type; `packed` as files have elements of fewer than 8 bits."""
    kind = weight.type
    wanted = kind.file_bytes if packed else kind.nbytes
    if data.size != wanted:
        raise StratacError(f"weight {weight.name} has {data.size} bytes, its type {kind} needs {wanted}", level="graph")
    if kind.dtype.kind in ("string", "complex"):
        raise StratacError(f"weight {weight.name} of type {kind} cannot be evaluated", level="graph")
    shape = evaluate_shape(kind.shape, {})
    if packed and kind.dtype.bits < 8:
        return unpacked(data, kind.dtype, math.prod(shape)).reshape(shape)
    return data.view(_storage(kind.dtype)).reshape(shape)


def _map_file(graph: Graph, name: str, place: FileBytes) -> Array:
    path = Path(graph.folder) / place.file
    try:
        size = path.stat().st_size
        if place.offset + place.nbytes > size:
            raise StratacError(
                f"weight {name} needs {place.nbytes} bytes at {place.offset} of {path}, which has {size}",
                level="graph",
                hint="the file is truncated or belongs to another model",
            )
        if place.nbytes == 0:
            return np.empty(0, dtype=np.uint8)
        return np.memmap(path, dtype=np.uint8, mode="r", offset=place.offset, shape=(place.nbytes,))
    except OSError as error:
        raise StratacError(f"weight {name} cannot be read from {path}: {error.strerror}", level="graph") from error
