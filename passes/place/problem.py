"""The decisions of placement as numbers: options of clusters, stores of weights, and what each costs in bytes and seconds.

For plans that run: one device whose memory is `ram`, and storage from which weights can be streamed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from ...ir.candidate import Candidate, KernelLibrary, Priced
from ...ir.errors import StratacError, VerifyError
from ...ir.graph import Graph, Node
from ...ir.machine import Machine
from ...ir.placed import DENSE, home_key
from ..schedule.ledger import StateLayout, lay_states, plan_activations, resident_bytes, workspace_bytes
from ..schedule.liveness import aligned
from ..schedule.stream_weights import padded
from .cost import price, read_seconds, reading_cores
from .pins import Rules, resolve_pins
from .request import PlaceRequest

#: weights below this many bytes stay in memory where they can: reading them costs more than holding them
SMALL = 64 << 10
RAM = "ram"
NO_LIMIT = 1 << 62


@dataclass(frozen=True)
class Store:
    """A weight in a format: where its bytes may live, and what one read of it takes."""

    weight: str
    format: str
    nbytes: int
    seconds: float  # of one read from storage
    cores: float  # by which it delays the call it is for
    may_stay: bool  # resident in memory
    may_stream: bool

    @property
    def key(self) -> str:
        return home_key(self.weight, self.format)

    @cached_property
    def resident(self) -> int:
        return aligned(self.nbytes)

    @cached_property
    def padded(self) -> int:
        return padded(self.nbytes)

    @property
    def small(self) -> bool:
        return self.nbytes < SMALL


@dataclass(frozen=True)
class Option:
    """One way to run one cluster: its price, the stores it reads through memory, and those whose rows it reads from storage."""

    priced: Priced
    stores: tuple[int, ...]
    direct: tuple[int, ...]

    @property
    def seconds(self) -> float:
        return self.priced.seconds

    @property
    def workspace(self) -> int:
        return self.priced.candidate.work.workspace


@dataclass(frozen=True)
class Problem:
    """Clusters in the order of the schedule, each with its options, cheapest first. Bytes of ram beside weights, ring and
    workspace are `fixed`; `budget` covers all of them. What states start from is in memory and in storage in any case."""

    graph: Graph
    machine: Machine
    request: PlaceRequest
    rules: Rules
    nodes: tuple[Node, ...]
    options: tuple[tuple[Option, ...], ...]
    stores: tuple[Store, ...]
    fixed: int
    budget: int
    storage: str  # the tier weights are streamed from; empty where there is none
    storage_budget: int
    states: StateLayout

    @cached_property
    def live(self) -> tuple[tuple[int, ...], ...]:
        """The options of each cluster that no cheaper one makes pointless."""
        users = Counter(s for options in self.options for s in {s for o in options for s in (*o.stores, *o.direct)})
        return tuple(
            tuple(
                n
                for n, option in enumerate(options)
                if not any(self._pointless(option, other, users) for other in options[:n])
            )
            for options in self.options
        )

    def _pointless(self, option: Option, other: Option, users: Mapping[int, int]) -> bool:
        """Whether `other`, which is as cheap, takes no more memory or reading in any case."""
        if option.direct != other.direct or option.workspace < other.workspace:
            return False
        mine = {self.stores[s].weight: s for s in option.stores}
        for store in other.stores:
            row = self.stores[store]
            twin = mine.get(row.weight)
            if twin == store:
                continue
            if twin is None or users[twin] > 1 or self.stores[twin].nbytes < row.nbytes:
                return False
        return len(mine) == len(other.stores)

    @property
    def threads(self) -> int:
        return self.request.threads

    def with_budget(self, budget: int) -> Problem:
        return replace(self, budget=budget)


@dataclass(frozen=True)
class Decision:
    """`options[k]` is the number of cluster k's option; `resident` the stores that stay in memory; `ring` its greatest size."""

    options: tuple[int, ...]
    resident: frozenset[int]
    ring: int


def chosen(problem: Problem, decision: Decision) -> list[Option]:
    return [options[number] for options, number in zip(problem.options, decision.options, strict=True)]


def streamed(problem: Problem, decision: Decision) -> tuple[list[int], list[int]]:
    """Reads in order: the cluster each is for, and its store."""
    users, stores = [], []
    for cluster, option in enumerate(chosen(problem, decision)):
        for store in option.stores:
            if store not in decision.resident:
                users.append(cluster)
                stores.append(store)
    return users, stores


def ram_bytes(problem: Problem, decision: Decision) -> int:
    """Bytes of ram the plan of a decision holds, the floor included: `Plan.peak_bytes()` says the same."""
    options = chosen(problem, decision)
    used = {store for option in options for store in option.stores}
    kept = used & decision.resident
    storage = len(kept) < len(used) or any(option.direct for option in options)
    workspace = workspace_bytes(option.workspace for option in options) * problem.threads
    weights = resident_bytes((problem.stores[s].nbytes for s in sorted(kept)), storage)
    return problem.fixed + weights + workspace + decision.ring


def storage_bytes(problem: Problem, decision: Decision) -> int:
    """Bytes of weights.bin, which holds resident and streamed weights alike."""
    options = chosen(problem, decision)
    used = {store for option in options for store in option.stores}
    direct = {store for option in options for store in option.direct}
    kept = used & decision.resident
    apart = (used | direct) - kept
    inside = resident_bytes((problem.stores[s].nbytes for s in kept), bool(apart))
    return problem.states.initial + inside + sum(problem.stores[s].padded for s in apart)


def make_problem(graph: Graph, library: KernelLibrary, machine: Machine, request: PlaceRequest) -> Problem:
    """Price every candidate. Raises VerifyError for a cluster without candidates, StratacError for pins that cannot be kept."""
    rules = resolve_pins(graph, machine, request.pins)
    activations = plan_activations(graph)
    storage = next((tier.name for tier in machine.tiers if tier.kind == "disk"), "")
    maker = _Maker(graph, library, machine, request, rules, storage)
    options = tuple(maker.options(node) for node in activations.nodes)
    disk = machine.tier(storage).bytes if storage else 0
    states = lay_states(graph)
    return Problem(
        graph,
        machine,
        request,
        rules,
        activations.nodes,
        options,
        tuple(maker.stores.values()),
        request.floor + activations.memory.bytes + states.bytes + states.initial,
        request.budgets.get(RAM, machine.tier(RAM).bytes),
        storage,
        request.budgets.get(storage, disk) if storage else NO_LIMIT,
        states,
    )


class _Maker:
    """Options and stores under way."""

    def __init__(
        self, graph: Graph, library: KernelLibrary, machine: Machine, request: PlaceRequest, rules: Rules, storage: str
    ) -> None:
        self.graph, self.library, self.machine, self.request = graph, library, machine, request
        self.rules, self.storage = rules, storage
        self.stores: dict[str, Store] = {}
        self.numbers: dict[str, int] = {}
        self.trips = graph.trips()
        #: of loops: these stay in memory
        self.repeated = {v for n in graph.nodes if n.outputs[0] in self.trips for v in n.used if v in graph.weights}

    def options(self, node: Node) -> tuple[Option, ...]:
        candidates = self.library.candidates(node, self.graph, self.machine)
        if not candidates:
            raise VerifyError("no kernel of this machine can run it", op="cluster", level="placed", source=node.source)
        usable = [c for c in candidates if c.executable or not self.request.executable]
        allowed = [c for c in usable if self.rules.allows_device(node.outputs[0], c.device)]
        if not allowed:
            raise StratacError(
                f"%{node.outputs[0]} may run on none of the devices that have a kernel for it",
                source=node.source,
                hint=f"pins: {self.rules.pins(node.outputs[0])}"
                if usable
                else "its kernels are only estimated: see `stratac estimate`",
            )
        found = [option for c in allowed if (option := self.option(node, c)) is not None]
        if not found:
            hint = "; ".join(filter(None, (self.rules.pins(v) for v in node.used)))
            raise StratacError(
                f"%{node.outputs[0]} can read its weights nowhere they may be", source=node.source, hint=f"pins: {hint}"
            )
        return tuple(sorted(found, key=lambda option: option.seconds))

    def option(self, node: Node, candidate: Candidate) -> Option | None:
        """None where pins keep a weight from where the candidate needs it."""
        formats = dict(candidate.formats)
        through, direct = [], []
        for value in node.used:
            if value not in self.graph.weights:
                continue
            number = self.store(value, formats.get(value, DENSE))
            store = self.stores[home_key(value, formats.get(value, DENSE))]
            if value in candidate.direct:
                if not self.storage or not self.rules.allows_tier(value, self.storage):
                    return None
                direct.append(number)
            elif store.may_stay or store.may_stream:
                through.append(number)
            else:
                return None
        trips = self.trips.get(node.outputs[0], 1)
        return Option(price(candidate, self.machine, self.request.threads, trips), tuple(through), tuple(direct))

    def store(self, weight: str, format: str) -> int:
        key = home_key(weight, format)
        if key not in self.stores:
            nbytes = self.library.packed_bytes(self.graph, weight, format, self.machine)
            may = weight not in self.repeated and self.rules.allows_tier(weight, self.storage)
            streams = bool(self.storage and nbytes and may)
            self.numbers[key] = len(self.stores)
            self.stores[key] = Store(
                weight,
                format,
                nbytes,
                read_seconds(self.machine, self.storage, padded(nbytes)) if streams else 0.0,
                reading_cores(self.machine, self.storage, padded(nbytes), self.request.threads) if streams else 0.0,
                self.rules.allows_tier(weight, RAM) or not nbytes,
                streams,
            )
        return self.numbers[key]
