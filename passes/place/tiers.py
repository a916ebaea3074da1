"""One host, reckoned: a chain of pieces on a processor with memory of its own, on the host's processor, or on both in turn, with
weights that do not fit streamed in while other pieces compute.

The first pieces run on the accelerator and the rest on the host's processor; where to change over is tried for every piece. Weights
of the accelerator's pieces fill its memory in order, the rest of them comes over the link in every run; what memory cannot hold is
read from storage in every run. Streams run beside the computing, so a run takes the longest of computing, link and storage:

    seconds = max(computing + transfer, streamed / link, read / storage)

which is the bound that prefetching reaches when it never has to wait for room (ZeRO-Inference; FlexGen's step).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .collectives import Way
from .hosts import Floats
from .pieces import Chain

#: memory through which weights are streamed: large ones are taken apart, so no more is needed
RING_BYTES = 256 << 20


@dataclass(frozen=True)
class Room:
    """Bytes there are, for weights, caches, activations and everything else; a missing tier has none. `link` joins the
    accelerator's memory to the host's, `storage` is bytes per second of reads."""

    memory: float
    device: float = 0.0
    disk: float = 0.0
    link: Way | None = None
    storage: float = 0.0


@dataclass(frozen=True)
class Reckoned:
    """A run on one host. `computing` is the time of the pieces alone; `needed` the least bytes of each tier that this way of
    running takes, and `held` what it takes; `fits` whether there are as many."""

    seconds: float
    computing: float
    on_device: int  # pieces that run on the accelerator; the others follow on the host's processor
    streamed: float  # bytes over the link in a run
    read: float  # bytes from storage in a run
    held: dict[str, float]
    needed: dict[str, float]
    fits: bool
    bound: str  # computing, link or storage


def reckon(host: Chain | None, device: Chain | None, room: Room, floor: float) -> Reckoned:
    """The fastest changeover that fits; of none that fits the one that lacks least. `floor` is what the process itself takes."""
    sums = _Sums(host, device)
    ways = [_at(sums, room, floor, cut) for cut in _cuts(host, device)]
    fitting = [way for way in ways if way.fits]
    if fitting:
        return min(fitting, key=lambda way: (way.seconds, -way.on_device))
    return min(ways, key=lambda way: (_short(way, room), way.seconds))


def _cuts(host: Chain | None, device: Chain | None) -> list[int]:
    if device is None:
        return [0]
    count = len(device.pieces)
    if host is None:
        return [count]
    step = max(count // 256, 1)  # neighbours differ by little
    return sorted({*range(0, count, step), count})


def _short(way: Reckoned, room: Room) -> float:
    have = {"device": room.device, "memory": room.memory, "disk": room.disk}
    return sum(max(count - have[tier], 0.0) for tier, count in way.needed.items())


class _Sums:
    """Sums over the pieces in front of each position, on the accelerator and on the host's processor."""

    def __init__(self, host: Chain | None, device: Chain | None) -> None:
        one = device or host
        assert one is not None
        self.chain = one
        self.on = {name: self.column(device or one, name) for name in ("weights", "state", "seconds")}
        self.off = {name: self.column(host or one, name) for name in ("weights", "state", "seconds")}
        touched = sum(p.weights * p.touched for p in one.pieces)
        self.touched = touched / one.weights if one.weights else 1.0
        self.largest = float(max((p.weights for p in one.pieces), default=0))

    @staticmethod
    def column(chain: Chain, name: str) -> Floats:
        return np.concatenate(([0.0], np.cumsum([float(getattr(piece, name)) for piece in chain.pieces])))

    def split(self, name: str, cut: int) -> tuple[float, float]:
        """What is in front of the cut on the accelerator, and behind it on the host."""
        return float(self.on[name][cut]), float(self.off[name][-1] - self.off[name][cut])


def _at(sums: _Sums, room: Room, floor: float, cut: int) -> Reckoned:
    """With the first `cut` pieces on the accelerator."""
    chain, largest = sums.chain, sums.largest
    after = cut < len(chain.pieces)
    weights_device, weights_host = sums.split("weights", cut)
    state_device, state_host = sums.split("state", cut)
    computing = sum(sums.split("seconds", cut))
    if 0 < cut < len(chain.pieces) and room.link is not None:
        computing += room.link.seconds(chain.pieces[cut - 1].sent)

    # the accelerator: caches and activations stay, weights as far as there is room, the rest in halves of a ring
    fixed = state_device + (chain.activations if cut else 0.0)
    streamed = 0.0
    ring = min(2 * largest, RING_BYTES)
    if fixed + weights_device > room.device:
        streamed = min(weights_device, fixed + weights_device + ring - room.device)
    least_device = fixed + min(weights_device, ring) if room.link is not None else fixed + weights_device
    # the host: its own pieces, and what is streamed to the accelerator
    base = floor + state_host + (chain.activations if after else 0.0)
    kept = weights_host + streamed
    read = 0.0
    if base + kept > room.memory and room.storage > 0:
        read = min(kept, base + kept + ring - room.memory)
    least_memory = base + (min(kept, ring) if room.storage > 0 else kept)
    weights = weights_device + weights_host
    held = {
        "device": fixed + weights_device - streamed + (ring if streamed else 0.0),
        "memory": base + kept - read + (ring if read else 0.0),
        "disk": weights if room.storage > 0 else 0.0,
    }
    needed = {"device": least_device if cut else 0.0, "memory": least_memory, "disk": weights if read else 0.0}
    # which experts a run needs is not known before it: those not in memory are read as they are chosen
    moved, loaded = streamed * sums.touched, read * sums.touched
    link_s = moved / room.link.bandwidth if room.link is not None else 0.0
    disk_s = loaded / room.storage if room.storage > 0 else 0.0
    fits = needed["device"] <= room.device and needed["memory"] <= room.memory and needed["disk"] <= max(room.disk, 0.0)
    seconds = max(computing, link_s, disk_s)
    bound = "storage" if seconds == disk_s else "link" if seconds == link_s else "computing"
    return Reckoned(seconds, computing, cut, moved, loaded, held, needed, fits, bound)
