"""Edits of whole graphs that passes share. Each returns a new graph; none re-derives types (the verifier does)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from .graph import Carried, Derived, Graph, Node, Port, State, Weight
from .ops import runtime_dims


def free_values(body: Iterable[Node]) -> tuple[str, ...]:
    """What a sequence of nodes reads but does not define, in order of first use."""
    defined: set[str] = set()
    found: dict[str, None] = {}
    for node in body:
        found.update((value, None) for value in node.used if value not in defined)
        defined.update(node.outputs)
    return tuple(found)


def replace_values(graph: Graph, mapping: Mapping[str, str]) -> Graph:
    """Every reader of a key reads its value instead, graph outputs and Derived weights included; chains are followed.

    Definitions stay, so `drop_unused` is the usual next step. Raises ValueError for a cycle in `mapping`.
    """
    target = {value: _end_of_chain(value, mapping) for value in mapping}

    def edit(node: Node) -> Node:
        body = tuple(edit(child) for child in node.body)
        inputs = tuple(target.get(value, value) for value in node.inputs)
        if node.op == "cluster":
            # a body may now read what it did not before
            inputs = tuple(dict.fromkeys((*inputs, *free_values(body))))
        return replace(node, inputs=inputs, body=body)

    return replace(
        graph,
        nodes=tuple(edit(node) for node in graph.nodes),
        outputs=tuple(replace(port, value=target.get(port.value, port.value)) for port in graph.outputs),
        weights={name: _map_bases(weight, target) for name, weight in graph.weights.items()},
        states=map_updates(graph, target),
    )


def map_updates(graph: Graph, names: Mapping[str, str]) -> tuple[State, ...]:
    """The states, what they become renamed."""
    return tuple(replace(state, update=names.get(state.update, state.update)) for state in graph.states)


def _end_of_chain(value: str, mapping: Mapping[str, str]) -> str:
    seen = {value}
    while value in mapping:
        value = mapping[value]
        if value in seen:
            raise ValueError(f"the replacement of {value} leads back to itself")
        seen.add(value)
    return value


def _map_bases(weight: Weight, names: Mapping[str, str]) -> Weight:
    if not isinstance(weight.content, Derived):
        return weight
    inputs = tuple(names.get(value, value) for value in weight.content.inputs)
    return replace(weight, content=replace(weight.content, inputs=inputs))


def drop_unused(graph: Graph) -> Graph:
    """Without nodes, cluster outputs, body nodes, cluster inputs, weights and types that no graph output and no state needs.

    Graph inputs, states and their symbols stay, since they are the model's signature; so do the bases of Derived weights in use.
    Dims that dropped nodes would have set go with them.
    """
    live = {*graph.output_values, *(one.update for loop in graph.loops for one in loop.carried)}
    nodes = _live_nodes(graph.nodes, live)
    live |= {*graph.input_values, *(state.initial for state in graph.states if state.initial)}
    pending = [name for name in graph.weights if name in live]
    while pending:
        content = graph.weights[pending.pop()].content
        bases = [value for value in content.inputs if value] if isinstance(content, Derived) else []
        pending += [value for value in bases if value not in live]
        live.update(bases)
    weights = {name: weight for name, weight in graph.weights.items() if name in live}
    slim = replace(graph, nodes=nodes, weights=weights)
    gone = runtime_dims(graph) - runtime_dims(slim)
    slim = replace(slim, symbols={name: bounds for name, bounds in graph.symbols.items() if name not in gone})
    return replace(slim, types={value: graph.types[value] for value in _definitions(slim)})


def _live_nodes(nodes: tuple[Node, ...], live: set[str]) -> tuple[Node, ...]:
    """The nodes that define a live value; what they read becomes live too."""
    kept: list[Node] = []
    for node in reversed(nodes):
        if live.isdisjoint(node.outputs):
            continue
        if node.op == "cluster":
            outputs = tuple(value for value in node.outputs if value in live)
            body = _live_nodes(node.body, set(outputs))
            inner = set(free_values(body))
            inputs = tuple(value for value in node.inputs if value in inner)
            node = replace(node, inputs=inputs, outputs=outputs, body=body)
        live.update(node.used)
        kept.append(node)
    return tuple(reversed(kept))


def _definitions(graph: Graph) -> Iterator[str]:
    """Every defined value once, in the order of the text."""
    yield from graph.input_values
    yield from graph.weights
    for node in graph.walk():
        if node.op != "cluster":
            yield from (value for value in node.outputs if value)


def is_topological(graph: Graph) -> bool:
    """Whether every node, in bodies too, stands after those it reads from."""
    known = {*graph.input_values, *graph.weights}
    for node in graph.nodes:
        inner = set(known)
        for child in node.body:
            if not inner.issuperset(child.used):
                return False
            inner.update(child.outputs)
        if not known.issuperset(node.used):
            return False
        known.update(node.outputs)
    return True


def sort_nodes(graph: Graph) -> Graph:
    """The top-level nodes in topological order, each as early as its place allows. Raises ValueError for a cycle."""
    producers = graph.producers()
    order: list[Node] = []
    done: set[int] = set()
    waiting: set[int] = set()
    stack = [(node, False) for node in reversed(graph.nodes)]
    while stack:
        node, inputs_done = stack.pop()
        key = id(node)
        if inputs_done:
            waiting.discard(key)
            done.add(key)
            order.append(node)
        elif key in waiting:
            raise ValueError(f"the graph has a cycle through {node.op} {', '.join(node.outputs)}")
        elif key not in done:
            waiting.add(key)
            stack.append((node, True))
            before = [producers[value] for value in reversed(node.used) if value in producers]
            stack += [(other, False) for other in before if id(other) not in done]
    return replace(graph, nodes=tuple(order))


def inline_clusters(graph: Graph) -> Graph:
    """Every cluster replaced by its body."""
    nodes = tuple(child for node in graph.nodes for child in (node.body if node.op == "cluster" else (node,)))
    return replace(graph, nodes=nodes)


def rename_values(graph: Graph, names: Mapping[str, str]) -> Graph:
    """Definitions and uses renamed together. Raises ValueError where two values would get one name."""
    if len({names.get(value, value) for value in graph.types}) != len(graph.types):
        raise ValueError("renaming would give two values one name")

    def edit(node: Node) -> Node:
        return replace(
            node,
            inputs=tuple(names.get(value, value) for value in node.inputs),
            outputs=tuple(names.get(value, value) for value in node.outputs),
            body=tuple(edit(child) for child in node.body),
        )

    def ports(old: tuple[Port, ...]) -> tuple[Port, ...]:
        return tuple(replace(port, value=names.get(port.value, port.value)) for port in old)

    weights = {names.get(k, k): replace(_map_bases(w, names), name=names.get(k, k)) for k, w in graph.weights.items()}
    types = {names.get(value, value): kind for value, kind in graph.types.items()}
    nodes = tuple(edit(node) for node in graph.nodes)
    states = tuple(
        replace(s, value=names.get(s.value, s.value), initial=names.get(s.initial, s.initial))
        for s in map_updates(graph, names)
    )
    loops = tuple(
        replace(
            loop,
            first=names.get(loop.first, loop.first),
            last=names.get(loop.last, loop.last),
            carried=tuple(Carried(names.get(c.value, c.value), names.get(c.update, c.update)) for c in loop.carried),
            condition=names.get(loop.condition, loop.condition),
        )
        for loop in graph.loops
    )
    return replace(
        graph,
        inputs=ports(graph.inputs),
        outputs=ports(graph.outputs),
        weights=weights,
        nodes=nodes,
        types=types,
        states=states,
        loops=loops,
    )


def renumber(graph: Graph) -> Graph:
    """Canonical names: inputs in0.., states s0.. and node outputs v0.. by order, weights w0.. by first use, bases before derived.

    Two graphs that differ only in names and in the order of their weights become equal, and print alike.
    """
    order: dict[str, None] = {}

    def visit(name: str) -> None:
        """Bases first; iterative, since chains of derivations may be long."""
        stack = [(name, False)]
        while stack:
            value, bases_done = stack.pop()
            content = graph.weights[value].content
            if bases_done or not isinstance(content, Derived):
                order.setdefault(value)
            elif value not in order:
                stack.append((value, True))
                stack += [(base, False) for base in reversed(content.inputs) if base and base not in order]

    for value in (
        [value for node in graph.walk() for value in node.used] + list(graph.output_values) + list(graph.weights)
    ):
        if value in graph.weights:
            visit(value)
    ordered = replace(graph, weights={name: graph.weights[name] for name in order})
    names = {port.value: f"in{i}" for i, port in enumerate(graph.inputs)}
    names |= {state.value: f"s{i}" for i, state in enumerate(graph.states)}
    names |= {name: f"w{i}" for i, name in enumerate(order)}
    inner = [value for value in _definitions(ordered) if value not in names]
    names |= {value: f"v{i}" for i, value in enumerate(inner)}
    typed = replace(ordered, types={value: graph.types[value] for value in names})
    renamed = rename_values(typed, names)
    return replace(renamed, nodes=tuple(map(_renumber_inside, renamed.nodes)))


def _renumber_inside(node: Node) -> Node:
    """The bodies of loops renumbered too."""
    body = tuple(map(_renumber_inside, node.body))
    return replace(node, body=body, graph=None if node.graph is None else renumber(node.graph))
