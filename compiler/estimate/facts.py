"""Parts of an estimate's answer as plain data: what binds, where the time goes, splits over hosts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...ir.candidate import Priced
from ...passes.place.hosts import Split
from ...passes.place.tiers import Reckoned
from .model import EstimatedModel


def binding(bound: str, priced: Sequence[Priced]) -> str:
    """storage, link or exchange; else what binds most of the computing: compute, memory or launch."""
    if bound != "computing":
        return bound
    seconds: dict[str, float] = {}
    for choice in priced:
        seconds[choice.bound] = seconds.get(choice.bound, 0.0) + choice.seconds
    return max(seconds, key=lambda name: seconds[name], default="")


def how(way: Reckoned, has_device: bool) -> str:
    if not has_device:
        return "reckoned: weights that do not fit are read from storage in every run" if way.read else "reckoned"
    total = way.on_device
    return f"reckoned: the first {total} clusters on the accelerator, the others on the processor"


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


def phases(priced: Sequence[Priced], model: EstimatedModel) -> list[dict[str, Any]]:
    """Seconds by kind of cluster, and what binds most of them."""
    if len(priced) != len(model.clusters.nodes):
        return []  # another form of the model was placed
    found: dict[str, dict[str, float]] = {}
    for node, choice in zip(model.clusters.nodes, priced, strict=True):
        row = found.setdefault(_kind(frozenset(n.op for n in node.body)), {})
        row[choice.bound] = row.get(choice.bound, 0.0) + choice.seconds
    total = sum(p.seconds for p in priced) or 1.0
    ranked = sorted(found.items(), key=lambda item: -sum(item[1].values()))
    return [
        {
            "name": name,
            "seconds": sum(row.values()),
            "share": sum(row.values()) / total,
            "bound": max(row.items(), key=lambda item: item[1])[0],
        }
        for name, row in ranked
    ]


def top(priced: Sequence[Priced], model: EstimatedModel, count: int = 8) -> list[dict[str, Any]]:
    """The clusters that take most, equal ones counted together."""
    if len(priced) != len(model.clusters.nodes):
        return []
    groups: dict[tuple[str, str, str], list[Any]] = {}
    for node, choice in zip(model.clusters.nodes, priced, strict=True):
        ops = " + ".join(
            dict.fromkeys(n.op for n in node.body if n.op not in ("reshape", "transpose", "expand", "slice", "fill"))
        )
        key = (ops or node.body[0].op, str(model.clusters.types[node.outputs[0]]), choice.candidate.name)
        groups.setdefault(key, [0, 0.0, choice.bound, str(node.source.node)])
        groups[key][0] += 1
        groups[key][1] += choice.seconds
    ranked = sorted(groups.items(), key=lambda item: -item[1][1])[:count]
    return [
        {"ops": ops, "result": result, "kernel": kernel, "count": n, "seconds": s, "bound": b, "first": first}
        for (ops, result, kernel), (n, s, b, first) in ranked
    ]


def row_of(count: int, split: Split | None, tokens: int) -> dict[str, Any]:
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
