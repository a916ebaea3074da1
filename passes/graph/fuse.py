"""Fusion: ops become clusters, each of which is one kernel.

Greedy over producers and consumers, and exact about legality: two clusters are merged when the merged body still lowers to one
kernel of the same kind (`ir.lower`), no cycle arises and nothing costly is computed more often than before. Views and sources
are free: every cluster that needs one carries its own copy, so they are never computed for themselves unless no kernel can
absorb them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import networkx
import numpy as np

from ...ir.decompose import decompose_where
from ...ir.dims import Bounds, product, typical, upper
from ...ir.errors import VerifyError
from ...ir.graph import Graph, Node, Port, make_attrs
from ...ir.guards import ALWAYS, Guard, Guards, Roots, choices, find_guards
from ...ir.kernel import Contraction, Kernel, Loops, Matmul, Reduce, Routine, Selection, Store
from ...ir.lower import try_lower
from ...ir.ops import OPS, flops
from ...ir.scalars import cost
from ...ir.types import f32
from .split_weights import is_lookup
from .whole_products import centring

#: a recomputed expression may cost this much (in vector adds) for each element of a broadcast consumer
CHEAP = 3
#: what writing an element to memory and reading it back is worth (in vector adds)
MEMORY = 4
#: a prologue is evaluated once for every column block of the product
CHEAP_PROLOGUE = 12
#: what is computed only under a condition stays apart where that saves so many operations: skipping costs a barrier
WORTH_SKIPPING = 1 << 14
#: ops in one cluster: beyond this nothing is gained, and lowering recurses over the body
LARGEST_CLUSTER = 64


@dataclass(eq=False)
class Group:
    """A cluster under way: its computing nodes (not the free ones), by position in the graph."""

    nodes: set[int]
    kernel: Kernel | None  # None: an op that stays whole
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass
class _Fusion:
    graph: Graph
    nodes: list[Node]
    free: set[int]
    whole: frozenset[str] = frozenset()  # ops that are never lowered
    apart: frozenset[int] = frozenset()  # nodes that stay clusters by themselves
    guards: Mapping[int, Guards] = field(default_factory=dict)  # of nodes that are worth skipping together
    groups: dict[int, Group] = field(default_factory=dict)  # computing node -> its group
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.position = {v: i for i, node in enumerate(self.nodes) for v in node.outputs}
        self.users: dict[str, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for value in node.used:
                self.users.setdefault(value, []).append(i)
        self.kept = set(self.graph.output_values)
        #: how many groups have nodes both in front of a position and from it on
        self.spanned = np.zeros(len(self.nodes) + 1, np.int32)
        self.types = dict(self.graph.types)  # and those of the copies of free values

    # -- what a set of computing nodes needs and gives -------------------------------------------------------------

    def closure(self, nodes: set[int]) -> tuple[list[Node], tuple[str, ...]]:
        """The body in graph order (free nodes included) and the values it reads from outside."""
        needed = set(nodes)
        leaves: list[str] = []
        todo = [(i, v) for i in sorted(nodes) for v in self.nodes[i].used]
        while todo:
            _, value = todo.pop(0)
            producer = self.position.get(value)
            if producer is None or (producer not in nodes and producer not in self.free):
                if value not in leaves:
                    leaves.append(value)
            elif producer not in needed:
                needed.add(producer)
                todo += [(producer, v) for v in self.nodes[producer].used]
        return [self.nodes[i] for i in sorted(needed)], tuple(leaves)

    def readers(self, value: str) -> set[int]:
        """Computing nodes that read a value, directly or through free nodes."""
        found: set[int] = set()
        todo = [value]
        while todo:
            for user in self.users.get(todo.pop(), ()):
                if user in self.free:
                    todo += self.nodes[user].outputs
                else:
                    found.add(user)
        return found

    def results(self, nodes: set[int]) -> tuple[str, ...]:
        """Values of these nodes that somebody outside needs, in order."""
        found = []
        for i in sorted(nodes):
            for value in self.nodes[i].outputs:
                if value in self.kept or not self.readers(value) <= nodes:
                    found.append(value)
        return tuple(found)

    def lower(self, nodes: set[int]) -> Group | str:
        body, inputs = self.closure(nodes)
        outputs = self.results(nodes)
        if not outputs:
            return "nothing of it is used"
        if any(self.nodes[i].op in self.whole or self.nodes[i].graph is not None for i in nodes):
            return Group(set(nodes), None, inputs, outputs) if len(nodes) == 1 else "an op that stays whole"
        kernel = try_lower(body, inputs, outputs, self.graph.types, self.graph.symbols)
        return kernel if isinstance(kernel, str) else Group(set(nodes), kernel, inputs, outputs)

    # -- which views are computed ----------------------------------------------------------------------------------

    def settle_views(self) -> None:
        """Views that a node cannot absorb become copies, computed like any other node. It is decided for all nodes before any
        two are merged, since a view is either free for everybody or for nobody."""
        for i in range(len(self.nodes)):
            if i not in self.free:
                self.settle(i)

    def settle(self, i: int) -> None:
        """Make copies of the views in front of a node, one if that is enough, else all; and so on for those views."""
        if self.nodes[i].graph is not None:  # a loop reads memory only
            for producer in (self.position.get(value) for value in self.nodes[i].used):
                if producer is not None and producer in self.free:
                    self.free.discard(producer)
                    self.settle(producer)
            return
        before, views, least = set(self.free), self.views_in_front(self.nodes[i]), self.fitness(i)
        for wanted in range(2, least, -1):
            for copies in [*([view] for view in views), views] if views else []:
                self.free = before - set(copies)
                if self.fitness(i) == wanted:
                    for view in copies:
                        self.settle(view)
                    return
        self.free = before

    def fitness(self, i: int) -> int:
        """Whether a node by itself has a kernel (else 0), which for a heavy one is best a heavy kernel (2, else 1)."""
        group = self.lower({i})
        if isinstance(group, str):
            return 0
        heavy = group.kernel is None or isinstance(group.kernel, Contraction)
        return 2 if heavy or OPS[self.nodes[i].op].category != "contraction" else 1

    def views_in_front(self, node: Node) -> list[int]:
        """Free views and sources that a node reads, be it through free nodes that make elements wider."""
        found: list[int] = []
        for producer in (self.position.get(value) for value in node.used):
            if producer in self.free:
                assert producer is not None
                view = OPS[self.nodes[producer].op].category in ("view", "source")
                found += [producer] if view else self.views_in_front(self.nodes[producer])
        return found

    # -- the greedy walk -------------------------------------------------------------------------------------------

    def run(self) -> None:
        self.settle_views()
        for i, node in enumerate(self.nodes):
            if i in self.free:
                continue
            group = self.lower({i})
            if isinstance(group, str):
                raise VerifyError(f"has no kernel: {group}", op=node.op, level="graph", source=node.source)
            self.groups[i] = group
            for producer in self.producer_groups(group):
                group = self.try_merge(producer, group) or group

    def producer_groups(self, group: Group) -> list[Group]:
        """Groups whose values this one reads: heavy ones first, then the latest."""
        found: list[Group] = []
        for value in group.inputs:
            producer = self.position.get(value)
            if producer is not None and self.groups[producer] is not group and self.groups[producer] not in found:
                found.append(self.groups[producer])
        return sorted(found, key=lambda g: (not isinstance(g.kernel, Contraction), -max(g.nodes)))

    def try_merge(self, first: Group, second: Group) -> Group | None:
        if not self.allowed(first, second) or self.makes_cycle(first, second):
            return None
        merged = self.lower(first.nodes | second.nodes)
        if isinstance(merged, str) or not self.pays(first, second, merged):
            return None
        for i in merged.nodes:
            self.groups[i] = merged
        for group, step in ((first, -1), (second, -1), (merged, 1)):
            self.spanned[min(group.nodes) + 1 : max(group.nodes) + 1] += step
        return merged

    def allowed(self, first: Group, second: Group) -> bool:
        if len(first.nodes) + len(second.nodes) > LARGEST_CLUSTER or self.apart & (first.nodes | second.nodes):
            return False
        if self.guards_of(first) != self.guards_of(second):
            return False
        if isinstance(first.kernel, Selection | Routine) or isinstance(second.kernel, Selection | Routine):
            return False
        ops = {self.nodes[i].op for i in first.nodes}
        if "concat" in ops:
            return False  # reading through a concat decides per element: better from memory
        if isinstance(second.kernel, Contraction):
            # a prologue: only elementwise work that nobody else needs, in front of a product
            return (
                isinstance(second.kernel.root, Matmul)
                and isinstance(first.kernel, Loops)
                and all(OPS[self.nodes[i].op].category == "elementwise" for i in first.nodes)
            )
        return True

    def makes_cycle(self, first: Group, second: Group) -> bool:
        """Whether some path leads from the first group to the second through a third.

        No path leads back over a cut, a position that no group has nodes on both sides of: the walk ends there.
        """
        cut = min(first.nodes)
        while self.spanned[cut]:
            cut -= 1
        todo = [g for g in self.groups_before(second) if g is not first]
        seen: set[int] = set()
        while todo:
            group = todo.pop()
            if group is first:
                return True
            if id(group) not in seen and max(group.nodes) >= cut:
                seen.add(id(group))
                todo += self.groups_before(group)
        return False

    def guards_of(self, group: Group) -> Guards:
        """Those that all nodes of a group have."""
        return self.guards.get(min(group.nodes), ALWAYS)

    def groups_before(self, group: Group) -> list[Group]:
        """Groups that run before this one: those whose values it reads, and those that find out whether it runs."""
        conditions = (self.position.get(guard.condition) for guard in self.guards_of(group))
        return [*self.producer_groups(group), *(self.groups[i] for i in conditions if i is not None)]

    def pays(self, first: Group, second: Group, merged: Group) -> bool:
        """Whether nothing costly is done more often, and the heavy kernel is still one."""
        heavy = isinstance(first.kernel, Contraction) or isinstance(second.kernel, Contraction)
        if heavy != isinstance(merged.kernel, Contraction):
            return False
        if isinstance(second.kernel, Contraction):
            assert isinstance(merged.kernel, Contraction) and isinstance(merged.kernel.root, Matmul)
            prologue = merged.kernel.root.prologue
            alone = not set(first.outputs) & set(merged.outputs)
            return prologue is not None and alone and cost(prologue) <= CHEAP_PROLOGUE
        if isinstance(first.kernel, Loops) and not _folds(first.kernel):
            assert isinstance(second.kernel, Loops) and isinstance(merged.kernel, Loops)
            symbols, gone = self.graph.symbols, set(first.outputs) - set(merged.outputs)
            apart = _work(first.kernel, symbols) + _work(second.kernel, symbols)
            apart += MEMORY * sum(typical(self.graph.types[v].elements, symbols) for v in gone)
            return _dearest(first.kernel) <= CHEAP or _work(merged.kernel, symbols) <= apart
        return True


def _folds(kernel: Loops) -> bool:
    return any(isinstance(stage, Reduce) for nest in kernel.nests for stage in nest.stages)


def _dearest(kernel: Loops) -> int:
    """The greatest cost of an element the kernel stores."""
    return max(cost(s.value) for nest in kernel.nests for s in nest.stages if isinstance(s, Store))


def _work(kernel: Loops, symbols: Mapping[str, Bounds]) -> int:
    """Cost of all elements that the kernel computes, in vector adds."""
    total = 0
    for nest in kernel.nests:
        outer = typical(product(axis.extent for axis in nest.outer), symbols)
        for stage in nest.stages:
            # what stays the same along the innermost loop is computed in front of it
            innermost = {axis.name for axis in (*nest.outer, *stage.axes)[-1:]}
            inner = typical(product(axis.extent for axis in stage.axes), symbols)
            total += outer * inner * (cost(stage.value, innermost) + 1)
    return total


def _with_own_outputs(graph: Graph) -> Graph:
    """Every output port, and every state that changes, gets a value of its own that some node computes: inputs, weights and
    repeats are copied."""
    computed = {v for node in graph.nodes for v in node.outputs}
    types, nodes = dict(graph.types), list(graph.nodes)
    taken: set[str] = set()

    def own(value: str, mark: str) -> str:
        if value in taken or value not in computed:
            copy = f"{value}.{mark}"
            types[copy] = types[value]
            nodes.append(Node("reshape", (value,), (copy,), make_attrs({"shape": types[value].shape})))
            value = copy
        taken.add(value)
        return value

    ports = tuple(Port(port.name, own(port.value, f"out{number}")) for number, port in enumerate(graph.outputs))
    states = tuple(
        state if state.update == state.value else replace(state, update=own(state.update, f"next{number}"))
        for number, state in enumerate(graph.states)
    )
    return replace(graph, nodes=tuple(nodes), types=types, outputs=ports, states=states)


def fuse(graph: Graph, whole: frozenset[str] = frozenset(), lookup_bytes: int | None = None) -> Graph:
    """Graph of ops -> graph of clusters. Raises VerifyError for an op no kernel can be made of.

    Ops in `whole` become clusters of their own without asking for a kernel: for graphs that are only reckoned with. Lookups of
    rows in weights of `lookup_bytes` or more are clusters by themselves, so that the weights can stay in storage.
    """
    graph = decompose_where(graph, lambda n: n.op == "moe" and n.op not in whole)
    # only f32 attention has a kernel of its own
    graph = decompose_where(graph, lambda n: n.op == "attention" and graph.types[n.output].dtype != f32)
    graph = _with_own_outputs(graph)
    nodes, wider, guards = list(graph.nodes), centring(graph), _worth_skipping(graph)
    kept = {*graph.output_values, *(guard.condition for found in guards.values() for guard in found)}
    free = {
        i
        for i, node in enumerate(nodes)
        if (OPS[node.op].category in ("view", "source") or node.outputs[0] in wider) and not kept & set(node.outputs)
    }
    fusion = _Fusion(graph, nodes, free, whole, _lookups(graph, nodes, lookup_bytes), guards)
    fusion.run()
    clusters = _sorted_clusters(fusion, _distinct(fusion.groups.values()))
    used = {v for cluster in clusters for v in (*cluster.inputs, *cluster.outputs)}
    used |= {v for cluster in clusters for child in cluster.body for v in (*child.used, *child.outputs)}
    keep = used | set(graph.input_values) | set(graph.weights)
    return replace(graph, nodes=clusters, types={v: t for v, t in fusion.types.items() if v in keep})


def _worth_skipping(graph: Graph) -> dict[int, Guards]:
    """The guards of nodes, by position, of which each guards more work than it costs to keep that apart: what is chosen from is
    then written to memory and read back."""
    found = find_guards(graph)
    work: dict[Guard, int] = {}
    for node in graph.nodes:
        if found[node.outputs[0]] and OPS[node.op].category not in ("view", "source"):
            count = typical(flops(node, graph.types), graph.symbols)
            for guard in found[node.outputs[0]]:
                work[guard] = work.get(guard, 0) + count
    roots = Roots(graph.nodes, graph.types)
    for node in graph.nodes if work else ():
        across = MEMORY * typical(graph.types[node.outputs[0]].elements, graph.symbols)
        for guard in frozenset().union(*choices(node, graph.types, roots).values()) & work.keys():
            work[guard] -= across
    worth = {guard for guard, count in work.items() if count >= WORTH_SKIPPING}
    return {position: found[node.outputs[0]] & worth for position, node in enumerate(graph.nodes)} if worth else {}


def _lookups(graph: Graph, nodes: list[Node], lookup_bytes: int | None) -> frozenset[int]:
    """Positions of nodes that look up rows in large weights."""
    if lookup_bytes is None:
        return frozenset()
    found = (i for i, node in enumerate(nodes) if is_lookup(node, graph))
    return frozenset(i for i in found if upper(graph.types[nodes[i].inputs[0]].nbytes, {}) >= lookup_bytes)


def _distinct(groups: Iterable[Group]) -> list[Group]:
    found: dict[int, Group] = {}
    for group in groups:
        found.setdefault(id(group), group)
    return list(found.values())


def _sorted_clusters(fusion: _Fusion, groups: list[Group]) -> tuple[Node, ...]:
    """Cluster nodes in dependency order, the earliest possible first node deciding among the ready."""
    maker = {v: k for k, group in enumerate(groups) for v in group.outputs}
    flow = networkx.DiGraph()
    flow.add_nodes_from(range(len(groups)))
    flow.add_edges_from((maker[v], k) for k, group in enumerate(groups) for v in group.inputs if v in maker)
    for k, group in enumerate(groups):
        conditions = (guard.condition for guard in fusion.guards_of(group))
        flow.add_edges_from((maker[v], k) for v in conditions if v in maker)
    try:
        order = list(networkx.lexicographical_topological_sort(flow, key=lambda k: min(groups[k].nodes)))
    except networkx.NetworkXUnfeasible as error:
        raise VerifyError("fusion made a cycle", level="clusters") from error
    clusters: list[Node] = []
    for ready in (groups[k] for k in order):
        body, inputs = fusion.closure(ready.nodes)
        heavy = [n for n in body if OPS[n.op].category in ("contraction", "window", "composite", "reduction")]
        source = (heavy or [fusion.nodes[i] for i in sorted(ready.nodes)])[0].source
        body = _own_copies(body, ready.nodes, fusion, len(clusters))
        clusters.append(Node("cluster", inputs, ready.outputs, (), source, tuple(body)))
    return tuple(clusters)


def _own_copies(body: list[Node], own: set[int], fusion: _Fusion, number: int) -> list[Node]:
    """Free nodes renamed for this cluster, so that every value has one definition."""
    names: dict[str, str] = {}
    for node in body:
        if fusion.position[node.outputs[0]] not in own:
            names |= {v: f"{v}.{number}" for v in node.outputs}
    for old, new in names.items():
        fusion.types[new] = fusion.graph.types[old]
    return [
        replace(
            node,
            inputs=tuple(names.get(v, v) for v in node.inputs),
            outputs=tuple(names.get(v, v) for v in node.outputs),
        )
        for node in body
    ]
