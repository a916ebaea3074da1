"""The user's pins, resolved: which clusters may run on which devices, which weights may live in which tiers."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...ir.errors import StratacError
from ...ir.graph import Graph, Node
from ...ir.machine import Machine
from .request import Pin


@dataclass
class Rules:
    """For each cluster (by first output) and weight that is pinned: where it may go, and the pins that say so."""

    devices: dict[str, frozenset[str]] = field(default_factory=dict)
    tiers: dict[str, frozenset[str]] = field(default_factory=dict)
    said: dict[str, list[Pin]] = field(default_factory=dict)

    def allows_device(self, cluster: str, device: str) -> bool:
        return device in self.devices.get(cluster, (device,))

    def allows_tier(self, weight: str, tier: str) -> bool:
        return tier in self.tiers.get(weight, (tier,))

    def pins(self, name: str) -> str:
        """The pins on a cluster or weight, as written."""
        return ", ".join(f"{pin.pattern}={pin.where}" for pin in self.said.get(name, ()))


def resolve_pins(graph: Graph, machine: Machine, pins: Sequence[Pin]) -> Rules:
    """Raises StratacError for a pin that matches nothing, names no device or tier, or leaves nowhere to go."""
    rules = Rules()
    devices = [device.name for device in machine.devices]
    tiers = [tier.name for tier in machine.tiers]
    clusters = {node.outputs[0]: _cluster_names(node) for node in graph.nodes}
    weights = {name: [name, weight.label] for name, weight in graph.weights.items()}
    for pin in pins:
        target = pin.where.removeprefix("!")
        if target not in devices and target not in tiers:
            close = difflib.get_close_matches(target, devices + tiers)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(devices + tiers)}"
            raise StratacError(
                f"pin {pin.pattern}={pin.where}: {machine.name} has no device or tier {target!r}", hint=hint
            )
        names, where, table = (clusters, devices, rules.devices) if target in devices else (weights, tiers, rules.tiers)
        found = _matches(pin, names)
        if not found and target in tiers:  # a pattern over nodes means their weights
            nodes = set(_matches(pin, clusters))
            used = {
                v: None for node in graph.nodes if node.outputs[0] in nodes for v in node.used if v in graph.weights
            }
            found = list(used)
        if not found:
            raise StratacError(f"pin {pin.pattern}={pin.where} matches nothing", hint=_near(pin, names))
        for name in found:
            left = table.get(name, frozenset(where))
            left = left - {target} if pin.where.startswith("!") else left & {target}
            rules.said.setdefault(name, []).append(pin)
            if not left:
                raise StratacError(f"%{name} may go nowhere", hint=f"its pins exclude each other: {rules.pins(name)}")
            table[name] = left
    return rules


def _cluster_names(node: Node) -> list[str]:
    inner = [part.source.node for part in node.body]
    return [node.outputs[0], node.source.node, *inner]


def _matches(pin: Pin, names: dict[str, list[str]]) -> list[str]:
    try:
        pattern = re.compile(pin.pattern)
    except re.error as error:
        raise StratacError(f"pin {pin.pattern!r} is no regular expression: {error}") from error
    return [name for name, known in names.items() if any(pattern.search(text) for text in known if text)]


def _near(pin: Pin, names: dict[str, list[str]]) -> str:
    known = list(dict.fromkeys(text for texts in names.values() for text in texts if text))
    close = difflib.get_close_matches(pin.pattern, known, n=5, cutoff=0.3) or known[:5]
    return f"the nearest names are {', '.join(close)}" if close else "there is nothing to pin"
