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
from ...ir.errors import StratacError
from ...ir.machine import Device, Machine
from ...ir.placed import Placed
from ...ir.plan import REQUEST_BYTES, REQUEST_DEPTH
from ...passes.place.collectives import Way
from ...passes.place.cost import read_bandwidth
from ...passes.place.hosts import Chain as HostChain
from ...passes.place.hosts import Below, Fabric, Split, Unit, scaling, stops_paying
from ...passes.place.infeasible import Infeasible
from ...passes.place.pieces import Chain, make_chain
from ...passes.place.place import place
from ...passes.place.tiers import Reckoned, Room, reckon
from ..artifact import PROCESS_FLOOR
from ..driver import place_request
from ..forms import choose_form
from ..options import CompileOptions
from ..profiles import load_machine
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
    model = read_model(path, options.dims)
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
        self.library = Library()
        self.disk = next((t for t in machine.tiers if t.kind == "disk"), None)
        for tier in options.budgets:
            machine.tier(tier)  # raises for one the machine does not have
        self._chains: dict[str, Chain] = {}

    def answer(self) -> dict[str, Any]:
        found = self.on_gpus() if self.gpus else self.on_cpu()
        rows = self.scale()
        if not found.fits:
            fitting = [split for _, split in rows if split is not None]
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

    def on_cpu(self) -> _Found:
        """As `compile` would place it, where it could or the graph is small; else reckoned."""
        try:
            if self.model.runnable:
                request = replace(self.request, executable=True)
                return self.placed(choose_form(self.model.graph, self.machine, request).placed)
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
        streamed = sum(self._read(home.nbytes, home.tier) for home in placed.homes.values())
        links = {f"{self.disk.name}->ram": streamed} if self.disk is not None and streamed else {}
        priced = tuple(choice.chosen for choice in placed.choices.values())
        bound = "storage" if streamed and solution.seconds > 1.2 * sum(p.seconds for p in priced) else "computing"
        seconds = solution.seconds + (self.cpu.run_s if self.cpu is not None else 0.0)
        return _Found(True, seconds, f"placed: {solution.method}", memory, links, priced, bound, {})

    def _read(self, nbytes: int, tier: str) -> float:
        return float(nbytes) if self.machine.tier(tier).kind == "disk" else 0.0

    def infeasible(self, short: Infeasible) -> _Found:
        memory = {short.tier: {"needed": float(short.needed), "available": float(short.budget)}}
        return _Found(
            False, 0.0, "placed", memory, {}, (), "memory", {short.tier: float(short.smallest_budget)}
        )

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

    def reckoned(self, gpu: Device | None) -> _Found:
        """One host, by `passes.place.tiers`."""
        host = self.chain(self.cpu) if self.cpu is not None else None
        device = self.chain(gpu) if gpu is not None else None
        way = reckon(host, device, self.room(gpu), float(self.request.floor))
        names = {"memory": "ram", "device": gpu.memory if gpu else "", "disk": self.disk.name if self.disk else ""}
        memory = {
            names[tier]: {"needed": max(way.needed[tier], way.held[tier] if way.fits else 0.0), "available": self.budget(names[tier])}
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
        return _Found(way.fits, way.seconds, _how(way, device is not None), memory, links, priced, way.bound, smallest)

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
        rows = scaling(HostChain(chain.pieces), fabric, (1,), self.model.batch, chain.members)
        split = rows[0][1]
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

    def scale(self, objective: str = "latency") -> list[tuple[int, Split | None]]:
        """The best split for 1, 2, 4, .. hosts."""
        device = self.gpus[0] if self.gpus else self.cpu
        network, fabric = self.machine.network, self.fabric()
        most = min(self.hosts or (network.hosts if network is not None else 1), 64)
        if self.hosts > 1 and network is None:
            raise StratacError(f"machine {self.machine.name} has no network", hint="add [network] to its profile")
        if device is None or fabric is None or most < 2:
            return []
        counts = sorted({*(n for n in HOST_COUNTS if n <= most), most})
        chain = self.chain(device)
        return scaling(HostChain(chain.pieces), fabric, counts, self.model.batch, chain.members, objective)

    def over(self, split: Split, chain: Chain, device: Device) -> _Found:
        """What a split over units needs and moves."""
        held = split.memory + chain.activations + (GPU_RESERVE if device.kind == "gpu" else self.request.floor)
        memory = {device.memory: {"needed": held - split.streamed, "available": self.budget(device.memory)}}
        links = {"ram->unit" if device.kind == "gpu" else "disk->ram": split.streamed} if split.streamed else {}
        sent = sum(p.reduce + p.gather for p in chain.pieces) if split.tensor > 1 else 0.0
        sent += sum(chain.pieces[cut - 1].sent for cut in split.cuts[1:])
        if sent:
            links["between units"] = sent
        bound = "exchange" if split.exchange_s > split.seconds / 2 else "computing"
        method = f"reckoned: {split.stages} pipeline stages x {split.tensor} in a tensor group"
        return _Found(True, split.seconds, method, memory, links, chain.priced, bound, {}, split)

    def over_hosts(self, one: _Found, split: Split) -> _Found:
        """Where one host is too small, the fewest that are enough."""
        device = self.gpus[0] if self.gpus else self.cpu
        assert device is not None
        found = self.over(split, self.chain(device), device)
        return replace(found, fits=False, memory=one.memory, smallest=one.smallest)

    # -- the answer

    def facts(self, found: _Found, rows: list[tuple[int, Split | None]]) -> dict[str, Any]:
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
            "bound": _binding(found),
            "units": self.fabric_size(found),
            "seconds": seconds,
            "tokens": model.tokens,
            "tokens_per_second": model.tokens / seconds if seconds else 0.0,
            "links": found.links,
            "phases": _phases(found.priced, model),
            "top": _top(found.priced, model),
            "hosts_used": hosts,
            "hosts": [_row(count, split, model.tokens) for count, split in rows],
            "hosts_throughput": [_row(count, split, model.tokens) for count, split in self.scale("throughput")],
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
        if device is None or not found.priced:
            return []
        chain = self.chain(device)
        compute, weights = sum(p.compute_s for p in chain.pieces), sum(p.weight_s for p in chain.pieces)
        said = []
        if found.bound in ("storage", "link") or not found.fits:
            half = model_half(self.model.weight_bytes)
            said.append(f"weights of 8 bits would take {half}, half of what is streamed or short now")
        if compute and weights > 1.5 * compute:
            said.append(
                f"memory binds: up to {weights / compute:.0f} times as many tokens per run cost little more time, "
                "since the weights are read once for all of them"
            )
        if found.bound == "storage" and self.disk is not None:
            said.append(f"storage binds: twice the read bandwidth of {self.disk.name} makes a run up to twice as fast")
        if found.bound == "link":
            said.append("the link binds: more device memory, or more tokens per run, hides it")
        return said


def model_half(weight_bytes: int) -> str:
    return f"{weight_bytes / 2 / (1 << 30):.1f} GiB"


def _how(way: Reckoned, has_device: bool) -> str:
    if not has_device:
        return "reckoned: weights that do not fit are read from storage in every run" if way.read else "reckoned"
    total = way.on_device
    return f"reckoned: the first {total} clusters on the accelerator, the others on the processor"


def _binding(found: _Found) -> str:
    """storage, link or exchange; else what binds most of the computing: compute, memory or launch."""
    if found.bound != "computing":
        return found.bound
    seconds: dict[str, float] = {}
    for choice in found.priced:
        seconds[choice.bound] = seconds.get(choice.bound, 0.0) + choice.seconds
    return max(seconds, key=lambda bound: seconds[bound], default="")


def _kind(ops: frozenset[str]) -> str:
    for kind, names in (
        ("experts", {"moe"}),
        ("attention", {"attention"}),
        ("products", {"matmul", "conv"}),
        ("lookups", {"gather"}),
    ):
        if ops & names:
            return kind
    return "the rest"


def _phases(priced: Sequence[Priced], model: EstimatedModel) -> list[dict[str, Any]]:
    """Seconds by kind of cluster, and what binds most of them."""
    if len(priced) != len(model.clusters.nodes):
        return []  # another form of the model was placed
    found: dict[str, dict[str, float]] = {}
    for node, choice in zip(model.clusters.nodes, priced, strict=True):
        row = found.setdefault(_kind(frozenset(n.op for n in node.body)), {})
        row[choice.bound] = row.get(choice.bound, 0.0) + choice.seconds
    total = sum(p.seconds for p in priced) or 1.0
    rows = [
        {"name": name, "seconds": sum(row.values()), "share": sum(row.values()) / total, "bound": max(row, key=lambda b: row[b])}
        for name, row in found.items()
    ]
    return sorted(rows, key=lambda row: -float(row["seconds"]))  # type: ignore[arg-type]


def _top(priced: Sequence[Priced], model: EstimatedModel, count: int = 8) -> list[dict[str, Any]]:
    """The clusters that take most, equal ones counted together."""
    if len(priced) != len(model.clusters.nodes):
        return []
    groups: dict[tuple[str, str, str], list[Any]] = {}
    for node, choice in zip(model.clusters.nodes, priced, strict=True):
        ops = " + ".join(dict.fromkeys(n.op for n in node.body if n.op not in ("reshape", "transpose", "expand", "slice", "fill")))
        key = (ops or node.body[0].op, str(model.clusters.types[node.outputs[0]]), choice.candidate.name)
        groups.setdefault(key, [0, 0.0, choice.bound, str(node.source.node)])
        groups[key][0] += 1
        groups[key][1] += choice.seconds
    ranked = sorted(groups.items(), key=lambda item: -item[1][1])[:count]
    return [
        {"ops": ops, "result": result, "kernel": kernel, "count": n, "seconds": s, "bound": b, "first": first}
        for (ops, result, kernel), (n, s, b, first) in ranked
    ]


def _row(count: int, split: Split | None, tokens: int) -> dict[str, Any]:
    if split is None:
        return {"hosts": count, "fits": False}
    return {
        "hosts": count,
        "fits": True,
        "stages": split.stages,
        "tensor": split.tensor,
        "microbatches": split.microbatches,
        "copies": split.copies,
        "seconds": split.seconds,
        "tokens_per_second": tokens / split.seconds,
        "runs_per_second": split.runs_per_second,
        "bubble": split.bubble,
        "exchange_seconds": split.exchange_s,
        "bytes_per_unit": split.memory,
        "streamed_per_unit": split.streamed,
    }
