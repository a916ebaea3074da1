"""Guards: under which conditions a value is needed at all.

A `where` by one bool looks at one of the two it chooses from. What nothing else needs is *guarded* by that bool: where it is the
other way round, nobody looks at the value, so that it need not be computed. Guards are conjunctions: what is needed only by
something guarded has its guards too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .graph import Graph, Node
from .ops import OPS, dims_set
from .types import TensorType
from .verify import mentions

Types = Mapping[str, TensorType]


@dataclass(frozen=True, order=True)
class Guard:
    """The value `condition`, one bool, is `when`."""

    condition: str
    when: bool


Guards = frozenset[Guard]
ALWAYS: Guards = frozenset()


def find_guards(graph: Graph) -> dict[str, Guards]:
    """The guards of each top-level node, by its first output: it is needed only where all of them hold.

    A condition is an input or a result of a node in front of the guarded one, and its own guards are among those of whatever it
    guards; none is a state, which changes while it runs. A node that sets a dim is needed wherever the dim is mentioned. What
    nobody needs has no guards.
    """
    kept = {value for state in graph.states for value in (state.value, state.update)}
    kept |= {value for pair in graph.rewritten() for value in pair}
    places = {port.value: -1 for port in graph.inputs}
    places |= {v: position for position, node in enumerate(graph.nodes) for v in node.outputs if v not in kept}
    roots = Roots(graph.nodes, graph.types)
    needs: dict[str, Guards] = dict.fromkeys(graph.output_values, ALWAYS)
    late = mentions([graph.types[value].shape for value in graph.output_values])
    dims: dict[str, Guards] = dict.fromkeys(late, ALWAYS)
    found: dict[str, Guards] = {}
    position = len(graph.nodes)
    around = {last: first for first, last in graph.spans()}
    while position:
        position -= 1
        first, single = around.get(position, position), position not in around
        nodes = graph.nodes[first : position + 1]  # a loop runs whole or not at all
        uses = [needs[value] for node in nodes for value in node.outputs if value in needs]
        uses += [dims[name] for node in nodes for name in dims_set(node) if name in dims]
        met = frozenset.intersection(*uses) if uses else ALWAYS
        own = frozenset(guard for guard in met if places[guard.condition] < first)
        for node in nodes:
            found[node.outputs[0]] = own
            for value, further in choices(node, graph.types, roots).items():
                read = own | {guard for guard in further if guard.condition in places and single}
                needs[value] = needs.get(value, read) & read
            for name in mentioned(node, graph.types):
                dims[name] = dims.get(name, own) & own
        position = first
    return found


def choices(node: Node, types: Types, roots: Roots | None = None) -> dict[str, Guards]:
    """For each input of a top-level node the guards under which the node looks at it, beside the node's own. `roots` are those of
    the graph that an op stands in.

    In a cluster, choosing has to be all that is done with a value: nothing computes with what may not have been computed itself.
    Conditions are then inputs of the cluster.
    """
    if node.op != "cluster":
        return _reads(node, ALWAYS, types, roots or Roots((), types))
    inside = Roots(node.body, types)
    within = {value for child in node.body for value in child.outputs}
    needs: dict[str, Guards] = dict.fromkeys(node.outputs, ALWAYS)
    for child in reversed(node.body):
        own = frozenset.intersection(*(needs.get(value, ALWAYS) for value in child.outputs))
        passes = child.op == "where" or OPS[child.op].category == "view"
        for value, guards in _reads(child, own if passes else ALWAYS, types, inside).items():
            known = frozenset(guard for guard in guards if guard.condition not in within)
            needs[value] = needs.get(value, known) & known
    return {value: needs.get(value, ALWAYS) for value in node.used}


def _reads(node: Node, own: Guards, types: Types, roots: Roots) -> dict[str, Guards]:
    """The guards under which a node that is no cluster looks at each of its inputs, `own` among them."""
    condition = roots.of(node.inputs[0]) if node.op == "where" else ""
    found: dict[str, Guards] = {}
    for place, value in enumerate(node.inputs):
        chosen = place and condition and types[condition].elements == 1
        guards = own | {Guard(condition, place == 1)} if chosen else own
        if value:
            found[value] = found.get(value, guards) & guards
    return found


class Roots:
    """Finds what one bool was before views gave it another shape."""

    def __init__(self, nodes: Iterable[Node], types: Types) -> None:
        self.views = {
            node.output: node.inputs[0]
            for node in nodes
            if node.op in OPS and OPS[node.op].category == "view" and types[node.inputs[0]].elements == 1
        }

    def of(self, value: str) -> str:
        while value in self.views:
            value = self.views[value]
        return value


def mentioned(node: Node, types: Types) -> frozenset[str]:
    """The symbols that a top-level node computes with."""
    rows = (node, *node.body)
    return mentions([[value for _, value in row.attrs] for row in rows]) | mentions(
        [types[value].shape for row in rows for value in row.outputs if value]
    )
