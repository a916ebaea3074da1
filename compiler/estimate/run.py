"""`stratac estimate`: whether a model fits a machine and how long a run takes, from the graph and the profile alone.

What can be compiled today for the machine's processor, or is small, is placed exactly as `compile` would place it, so that the
predicted time is the plan's. Everything else is reckoned as a chain of pieces: on one host by `passes.place.tiers`, over several
units and hosts by `passes.place.hosts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...codegen.library import Library
from ...ir.candidate import Priced
from ...ir.dims import typical
from ...ir.errors import StratacError
from ...ir.machine import Device, Machine
from ...ir.placed import DENSE, Placed, home_key
from ...ir.plan import REQUEST_BYTES, REQUEST_DEPTH
from ...passes.place.collectives import Way
from ...passes.place.cost import read_bandwidth
from ...passes.place.hosts import Below, Fabric, Scale, Split, Unit, best_split, scaling, stops_paying
from ...passes.place.hosts import Chain as HostChain
from ...passes.place.infeasible import Infeasible
from ...passes.place.pieces import Chain, make_chain
from ...passes.place.place import place
from ...passes.place.tiers import Reckoned, Room, reckon
from ..driver import place_request
from ..forms import choose_form
from ..options import CompileOptions, size_text
from ..profiles import load_machine
from ..report.text import time_text
from .facts import binding, how, phases, row_of, top
from .model import EstimatedModel, read_model

#: of a GPU's memory, what its driver and context keep
GPU_RESERVE = 600 << 20
#: graphs of more clusters are reckoned instead of placed: placement under a budget takes minutes there
MOST_PLACED = 300
HOST_COUNTS = (1, 2, 4, 8, 16, 32, 64)


def estimate_model(path: Path, options: CompileOptions, targets: Sequence[str], hosts: int = 0) -> list[dict[str, Any]]:
    """One answer for each target, as plain data. `hosts` is the greatest number of equal hosts tried (0: what the profile's network
    has). Raises StratacError for a model, dim, target or budget that is wrong; that nothing fits is an answer."""
    machines = [load_machine(target) for target in targets]
    model = read_model(path, options.dims, options.layout)
    return [
        _Estimate(model, machine, replace(options, target=target), hosts).answer()
        for target, machine in zip(targets, machines, strict=True)
    ]


@dataclass(frozen=True)
class _Found:
    """What one host does: seconds, where bytes are, what moves, and the priced clusters."""

    fits: bool
    seconds: float
    method: str
    memory: dict[str, dict[str, float]]
    links: dict[str, float]
    priced: tuple[Priced, ...]
    bound: str
    smallest: dict[str, float]
    split: Split | None = None


class _Estimate:
    """One model on one machine."""

    def __init__(self, model: EstimatedModel, machine: Machine, options: CompileOptions, hosts: int) -> None:
        self.model, self.machine, self.options, self.hosts = model, machine, options, hosts
        cpus = [d for d in machine.devices if d.kind == "cpu"]
        self.cpu = cpus[0] if cpus else None
        self.gpus = [d for d in machine.devices if d.kind == "gpu"]
        self.threads = options.threads or (self.cpu.cores if self.cpu else 1)
        self.request = place_request(machine, self.threads, options, executable=False)
        self.library = Library(max_error=options.max_error)
        self.disk = next((t for t in machine.tiers if t.kind == "disk"), None)
        for tier in options.budgets:
            machine.tier(tier)  # raises for one the machine does not have
        self._chains: dict[str, Chain] = {}
        self._host_chains: dict[int, HostChain] = {}

    def answer(self) -> dict[str, Any]:
        found = self.on_gpus() if self.gpus else self.on_cpu()
        rows = self.scale()
        if not found.fits:
            fitting = [row.fastest for row in rows if row.fastest is not None]
            found = self.over_hosts(found, fitting[0]) if fitting and self.hosts != 1 else found
        return self.facts(found, rows)

    # -- one host

    def budget(self, tier: str) -> float:
        return float(self.request.budgets.get(tier, self.machine.tier(tier).bytes))

    def chain(self, device: Device) -> Chain:
        if device.name not in self._chains:
            threads = self.threads if device.kind == "cpu" else 1
            self._chains[device.name] = make_chain(self.model.clusters, self.library, self.machine, device, threads)
        return self._chains[device.name]

    def host_chain(self, chain: Chain) -> HostChain:
        """The same as the search over splits wants it; kept, since it remembers sums."""
        if id(chain) not in self._host_chains:
            self._host_chains[id(chain)] = HostChain(chain.pieces)
        return self._host_chains[id(chain)]

    def on_cpu(self) -> _Found:
        """As `compile` would place it, where it could or the graph is small; else reckoned."""
        try:
            if self.model.runnable:
                request = replace(self.request, executable=True)
                return self.placed(choose_form(self.model.graph, self.machine, request, self.options.max_error).placed)
            if self.small:
                return self.placed(self.place())
        except Infeasible as short:
            return self.infeasible(short)
        return self.reckoned(None)

    @property
    def small(self) -> bool:
        return len(self.model.clusters.nodes) <= MOST_PLACED

    def place(self) -> Placed:
        """Over candidates that are only priced; caches take memory for good."""
        floor = self.request.floor + self.model.state_bytes
        return place(self.model.clusters, self.library, self.machine, replace(self.request, floor=floor))

    def placed(self, placed: Placed) -> _Found:
        solution = placed.solution
        assert solution is not None
        memory = {
            tier: {"needed": float(used), "available": float(solution.budgets.get(tier, self.budget(tier)))}
            for tier, used in solution.used.items()
        }
        links = self.moved_between(placed)
        priced = tuple(choice.chosen for choice in placed.choices.values())
        waits = solution.seconds > 1.2 * sum(p.seconds for p in priced)
        read = any(self.disk is not None and name.startswith(f"{self.disk.name}->") for name in links)
        bound = "computing" if not links or not waits else "storage" if read else "link"
        seconds = solution.seconds + (self.cpu.run_s if self.cpu is not None else 0.0)
        return _Found(True, seconds, f"placed: {solution.method}", memory, links, priced, bound, {})

    def moved_between(self, placed: Placed) -> dict[str, float]:
        """Bytes of a run from tier to tier: weights to clusters that do not work where they live, and transferred values."""
        found: dict[str, float] = {}
        for node in placed.graph.nodes:
            candidate = placed.choices[node.outputs[0]].chosen.candidate
            memory, formats = self.machine.device(candidate.device).memory, dict(candidate.formats)
            for value in node.used:
                home = placed.homes.get(home_key(value, formats.get(value, DENSE)))
                if home is not None and home.tier != memory and value not in candidate.direct:
                    name = f"{home.tier}->{memory}"
                    found[name] = found.get(name, 0.0) + home.nbytes
        for transfer in placed.transfers:
            name = f"{transfer.source}->{transfer.target}"
            nbytes = typical(placed.graph.types[transfer.value].nbytes, placed.graph.symbols)
            found[name] = found.get(name, 0.0) + nbytes
        return found

    def infeasible(self, short: Infeasible) -> _Found:
        memory = {short.tier: {"needed": float(short.needed), "available": float(short.budget)}}
        return _Found(False, 0.0, "placed", memory, {}, (), "memory", {short.tier: float(short.smallest_budget)})

    def room(self, gpu: Device | None) -> Room:
        storage = read_bandwidth(self.disk, REQUEST_BYTES, REQUEST_DEPTH) if self.disk is not None else 0.0
        return Room(
            self.budget("ram") if any(t.name == "ram" for t in self.machine.tiers) else 0.0,
            max(self.budget(gpu.memory) - GPU_RESERVE, 0.0) if gpu is not None else 0.0,
            self.budget(self.disk.name) if self.disk is not None else 0.0,
            self.link("ram", gpu.memory) if gpu is not None else None,
            storage,
        )

    def link(self, source: str, target: str) -> Way | None:
        found = [k for k in self.machine.links if k.source == source and k.target == target]
        return Way(found[0].bandwidth, found[0].latency_s) if found else None

    def reckon(self, gpu: Device | None, weights: float = 1.0) -> Reckoned:
        """One host, with so many times the bytes of weights."""
        host = self.chain(self.cpu).scaled(weights) if self.cpu is not None else None
        device = self.chain(gpu).scaled(weights) if gpu is not None else None
        way = reckon(host, device, self.room(gpu), float(self.request.floor))
        return replace(way, seconds=way.seconds + (self.cpu.run_s if self.cpu is not None else 0.0))

    def reckoned(self, gpu: Device | None) -> _Found:
        """One host, by `passes.place.tiers`."""
        host = self.chain(self.cpu) if self.cpu is not None else None
        device = self.chain(gpu) if gpu is not None else None
        way = self.reckon(gpu)
        names = {"memory": "ram", "device": gpu.memory if gpu else "", "disk": self.disk.name if self.disk else ""}
        memory = {
            names[tier]: {
                "needed": max(way.needed[tier], way.held[tier] if way.fits else 0.0),
                "available": self.budget(names[tier]),
            }
            for tier in ("device", "memory", "disk")
            if names[tier] and (way.held[tier] or way.needed[tier])
        }
        if gpu is not None and way.on_device:
            memory[gpu.memory]["needed"] += GPU_RESERVE
        links: dict[str, float] = {}
        if way.streamed:
            links[f"ram->{names['device']}"] = way.streamed
        if way.read:
            links[f"{names['disk']}->ram"] = way.read
        priced = (*(device.priced[: way.on_device] if device else ()), *(host.priced[way.on_device :] if host else ()))
        smallest = {} if way.fits else {t: m["needed"] for t, m in memory.items() if m["needed"] > m["available"]}
        return _Found(way.fits, way.seconds, how(way, device is not None), memory, links, priced, way.bound, smallest)

    def on_gpus(self) -> _Found:
        gpu = self.gpus[0]
        if len(self.gpus) == 1 and self.small:
            try:
                return self.placed(self.place())
            except Infeasible as short:
                return self.infeasible(short)
        if len(self.gpus) == 1:
            return self.reckoned(gpu)
        chain, fabric = self.chain(gpu), self.fabric()
        assert fabric is not None
        split = best_split(self.host_chain(chain), fabric, self.model.batch, chain.members)
        if split is None:
            return self.reckoned(gpu)
        return self.over(split, chain, gpu)

    # -- several units

    def fabric(self) -> Fabric | None:
        """Equal GPUs of a host and what joins them, or hosts with one processor each."""
        network = self.machine.network
        between = Way(network.bandwidth, network.latency_s) if network is not None else None
        if self.gpus:
            gpu = self.gpus[0]
            peers = [d for d in self.gpus if replace(d, name="", memory="") == replace(gpu, name="", memory="")]
            inside = self.link(gpu.memory, peers[1].memory) if len(peers) > 1 else None
            fallback = self.link("ram", gpu.memory) or between or Way(1e9, 1e-5)
            below = self.link("ram", gpu.memory)
            levels: list[Below] = []
            if below is not None:
                levels.append(Below(max(self.budget("ram") - self.request.floor, 0.0) / len(peers), below.bandwidth))
                levels += self.storage(len(peers))
            unit = Unit(self.free(gpu), tuple(levels))
            return Fabric(unit, len(peers), inside or fallback, between)
        if self.cpu is None:
            return None
        return Fabric(Unit(self.free(self.cpu), self.storage(1)), 1, between or Way(1e9, 1e-5), between)

    def storage(self, units: int) -> tuple[Below, ...]:
        """The disk as each of so many units has it."""
        if self.disk is None:
            return ()
        rate = read_bandwidth(self.disk, REQUEST_BYTES, REQUEST_DEPTH)
        return (Below(self.budget(self.disk.name) / units, rate / units),)

    def free(self, device: Device) -> float:
        """Bytes for weights and caches on one unit."""
        reserve = GPU_RESERVE if device.kind == "gpu" else self.request.floor
        return max(self.budget(device.memory) - self.chain(device).activations - reserve, 0.0)

    def scale(self) -> list[Scale]:
        """The best splits for 1, 2, 4, .. hosts."""
        device = self.gpus[0] if self.gpus else self.cpu
        network, fabric = self.machine.network, self.fabric()
        most = min(self.hosts or (network.hosts if network is not None else 1), 64)
        if self.hosts > 1 and network is None:
            raise StratacError(f"machine {self.machine.name} has no network", hint="add [network] to its profile")
        if device is None or fabric is None or most < 2:
            return []
        counts = sorted({*(n for n in HOST_COUNTS if n <= most), most})
        chain = self.chain(device)
        return scaling(self.host_chain(chain), fabric, counts, self.model.batch, chain.members)

    def over(self, split: Split, chain: Chain, device: Device) -> _Found:
        """What a split over units needs and moves."""
        gpu = device.kind == "gpu"
        held = split.memory - split.over + chain.activations + (GPU_RESERVE if gpu else self.request.floor)
        memory = {device.memory: {"needed": held, "available": self.budget(device.memory)}}
        units = min(split.stages * split.tensor, len(self.gpus)) if gpu else 1
        below = split.over * units  # of one host; what its memory cannot hold is on its disk
        if gpu and below:
            memory["ram"] = {"needed": min(below, self.budget("ram")), "available": self.budget("ram")}
            below = max(below - self.budget("ram"), 0.0)
        if below and self.disk is not None:
            memory[self.disk.name] = {"needed": below, "available": self.budget(self.disk.name)}
        links = {"ram->unit" if gpu else "disk->ram": split.streamed} if split.streamed else {}
        sent = sum(p.reduce + p.gather for p in chain.pieces) if split.tensor > 1 else 0.0
        sent += sum(chain.pieces[cut - 1].sent for cut in split.cuts[1:])
        if sent:
            links["between units"] = sent
        bound = "exchange" if split.exchange_s > split.seconds / 2 else "computing"
        if split.starved:
            bound = "storage" if below else "link"
        method = f"reckoned: {split.stages} pipeline stages x {split.tensor} in a tensor group"
        return _Found(True, split.seconds, method, memory, links, chain.priced, bound, {}, split)

    def over_hosts(self, one: _Found, split: Split) -> _Found:
        """Where one host is too small, the fewest that are enough."""
        device = self.gpus[0] if self.gpus else self.cpu
        assert device is not None
        found = self.over(split, self.chain(device), device)
        return replace(found, fits=False, memory=one.memory, smallest=one.smallest)

    # -- the answer

    def facts(self, found: _Found, rows: list[Scale]) -> dict[str, Any]:
        model, machine, seconds = self.model, self.machine, found.seconds
        memory = {t: {**m, "short": max(m["needed"] - m["available"], 0.0)} for t, m in found.memory.items()}
        hosts = found.split.hosts if found.split is not None else 1
        return {
            "model": model.graph.name,
            "target": machine.name,
            "dims": {n: [b.min, b.typical, b.max] for n, b in model.graph.symbols.items()},
            "assumed_dims": list(model.assumed),
            "parameters": model.parameters,
            "weight_bytes": model.weight_bytes,
            "cache_bytes": model.state_bytes,
            "flops": model.flops,
            "clusters": len(model.clusters.nodes),
            "absent_files": sorted(model.graph.absent),
            "runs_today": model.runnable and not self.gpus,
            "fits": found.fits,
            "memory": memory,
            "smallest_budget": found.smallest,
            "method": found.method,
            "bound": binding(found.bound, found.priced),
            "units": self.fabric_size(found),
            "seconds": seconds,
            "tokens": model.tokens,
            "tokens_per_second": model.tokens / seconds if seconds else 0.0,
            "links": found.links,
            "phases": phases(found.priced, model),
            "top": top(found.priced, model),
            "hosts_used": hosts,
            "hosts": [row_of(row.hosts, row.fastest, model.tokens) for row in rows],
            "hosts_throughput": [row_of(row.hosts, row.busiest, model.tokens) for row in rows],
            "stops_paying": stops_paying(rows),
            "energy_joules": machine.watts * seconds * hosts,
            "price_usd": machine.price_per_hour * seconds * hosts / 3600,
            "help": self.help(found),
        }

    def fabric_size(self, found: _Found) -> int:
        """How many units of a host the figures of its first memory are of."""
        if found.split is None or not self.gpus:
            return 1
        return min(found.split.stages * found.split.tensor, len(self.gpus))

    def help(self, found: _Found) -> list[str]:
        """What would make a run fit or faster, with numbers where the chain gives them."""
        device = self.gpus[0] if self.gpus else self.cpu
        if device is None:
            return []
        chain, said = self.chain(device), []
        if found.split is None:
            half = self.reckon(self.gpus[0] if self.gpus else None, 0.5)
            if half.fits and (not found.fits or half.seconds < 0.8 * found.seconds):
                said.append(f"weights of half as many bits: fits, about {time_text(half.seconds)} a run")
        if not found.fits and chain.activations + chain.state > 0.1 * self.budget(device.memory):
            said.append(
                f"at the greatest dims activations take {size_text(chain.activations)} and caches {size_text(chain.state)}: "
                "lower them"
            )
        compute, weights = sum(p.compute_s for p in chain.pieces), sum(p.weight_s for p in chain.pieces)
        if found.fits and compute and weights > 1.5 * compute:
            said.append(
                f"reading weights binds: up to {weights / compute:.0f} times as many tokens in a run cost little more time, "
                "since the weights are read once for all of them"
            )
        if found.bound == "storage" and self.disk is not None:
            said.append(f"storage binds: twice the read bandwidth of {self.disk.name} makes a run up to twice as fast")
        if found.bound == "link":
            said.append("the link binds: more device memory, or more tokens in a run, hides it")
        return said
