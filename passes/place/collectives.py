"""What members of a group pay to exchange bytes: closed forms for rings and stars, n bytes in all, t members, a link of
`bandwidth` bytes per second and `latency_s` at each member.

    all-reduce, ring: 2 (t - 1) latencies and 2 (t - 1) / t * n bytes     (reduce-scatter, then all-gather)
    all-reduce, star: 2 latencies and 2 (t - 1) * n bytes at the hub      (TPI-LLM: at kilobytes, latency dominates)
    all-gather, ring: (t - 1) latencies and (t - 1) / t * n bytes
    all-gather, star: 1 latency and (t - 1) / t * n bytes                 (every member sends its part to all others)
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Way:
    """What joins two members: bytes per second in each direction, and seconds before the first byte arrives."""

    bandwidth: float
    latency_s: float

    def seconds(self, nbytes: float) -> float:
        return self.latency_s + nbytes / self.bandwidth if nbytes > 0 else 0.0


def ring_all_reduce(nbytes: float, members: int, way: Way) -> float:
    return 2 * (members - 1) * (way.latency_s + nbytes / members / way.bandwidth)


def star_all_reduce(nbytes: float, members: int, way: Way) -> float:
    return 2 * way.latency_s + 2 * (members - 1) * nbytes / way.bandwidth if members > 1 else 0.0


def ring_all_gather(nbytes: float, members: int, way: Way) -> float:
    return (members - 1) * (way.latency_s + nbytes / members / way.bandwidth)


def star_all_gather(nbytes: float, members: int, way: Way) -> float:
    return way.latency_s + (members - 1) * nbytes / members / way.bandwidth if members > 1 else 0.0


def all_reduce_seconds(nbytes: float, members: int, way: Way) -> float:
    """The cheaper of ring and star; nothing for no bytes or one member."""
    if nbytes <= 0 or members <= 1:
        return 0.0
    return min(ring_all_reduce(nbytes, members, way), star_all_reduce(nbytes, members, way))


def all_gather_seconds(nbytes: float, members: int, way: Way) -> float:
    """The cheaper of ring and star; `nbytes` is what every member holds in the end."""
    if nbytes <= 0 or members <= 1:
        return 0.0
    return min(ring_all_gather(nbytes, members, way), star_all_gather(nbytes, members, way))
