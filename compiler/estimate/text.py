"""An estimate for people: the verdict first, then time, memory, what moves, what binds, hosts, and what would help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..options import size_text
from ..report.text import counted, table, time_text


def number_text(value: float) -> str:
    """1.2 k, 34 M, 5.6 G, 7.8 T."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def estimate_text(answer: Mapping[str, Any]) -> str:
    """The whole page for one target."""
    lines = [
        *_verdict(answer),
        "",
        *_model(answer),
        "",
        *_memory(answer),
        *_time(answer),
        *_hosts(answer),
        *_rest(answer),
    ]
    return "\n".join(lines)


def _verdict(answer: Mapping[str, Any]) -> list[str]:
    title = f"{answer['model']} on {answer['target']}"
    if answer["fits"]:
        lines = [f"{title}: fits, {_speed(answer)}"]
    else:
        short = [f"{size_text(m['short'])} of {tier}" for tier, m in answer["memory"].items() if m["short"]]
        lines = [f"{title}: does not fit, short of {' and '.join(short) or 'memory'}"]
        if answer["smallest_budget"]:
            least = ", ".join(f"{tier}={int(count)}" for tier, count in answer["smallest_budget"].items())
            lines.append(f"  it would with a budget of {least} ({_sizes(answer['smallest_budget'])})")
        if answer["seconds"]:
            lines.append(f"  it fits {counted(answer['hosts_used'], 'host')} of this kind: {_speed(answer)}")
    lines.append(f"  {answer['method']}; bound by {answer['bound']}" if answer["seconds"] else f"  {answer['method']}")
    if not answer["runs_today"]:
        lines.append(
            "  an estimate only: no code is generated for this device, these element types or chosen experts yet"
        )
    return lines


def _sizes(budgets: Mapping[str, float]) -> str:
    return ", ".join(f"{size_text(count)} of {tier}" for tier, count in budgets.items())


def _speed(answer: Mapping[str, Any]) -> str:
    text = f"{time_text(answer['seconds'])} a run"
    return text + (f", {answer['tokens_per_second']:.3g} tokens/s" if answer["tokens"] else "")


def _model(answer: Mapping[str, Any]) -> list[str]:
    cache = f", {size_text(answer['cache_bytes'])} of caches" if answer["cache_bytes"] else ""
    lines = [
        f"model    {number_text(answer['parameters'])} parameters, {size_text(answer['weight_bytes'])} of weights{cache}; "
        f"{number_text(answer['flops'])}FLOP a run in {counted(answer['clusters'], 'cluster')}"
    ]
    dims = [f"{name} = {low}:{usual}:{high}" for name, (low, usual, high) in answer["dims"].items()]
    dims += [f"{name} = 1 assumed" for name in answer["assumed_dims"]]
    if dims:
        lines.append(f"dims     {', '.join(dims)} (min:typical:max)")
    if answer["absent_files"]:
        lines.append(f"absent   {', '.join(answer['absent_files'])}: sizes are taken from the graph")
    return lines


def _memory(answer: Mapping[str, Any]) -> list[str]:
    each = f" (each of {answer['units']})" if answer["units"] > 1 else ""
    rows = [
        (
            tier + (each if k == 0 else ""),
            size_text(m["needed"]),
            size_text(m["available"]),
            size_text(m["short"]) if m["short"] else "-",
        )
        for k, (tier, m) in enumerate(answer["memory"].items())
    ]
    lines = table(rows, ("memory at the greatest dims", "needed", "there is", "short"), frozenset({1, 2, 3}))
    if answer["links"]:
        moved = ", ".join(f"{link} {size_text(count)}" for link, count in answer["links"].items())
        lines.append(f"moved in every run: {moved}")
    return [*lines, ""]


def _time(answer: Mapping[str, Any]) -> list[str]:
    if not answer["phases"]:
        return []
    rows = [(p["name"], f"{p['share'] * 100:.1f} %", p["bound"]) for p in answer["phases"]]
    lines = table(rows, ("computing time goes to", "share", "bound by"), frozenset({1}))
    total = sum(p["seconds"] for p in answer["phases"]) or 1.0
    cells = [
        (f"{t['count']} x", f"{t['seconds'] / total * 100:.1f} %", t["ops"], t["result"], t["kernel"], t["bound"])
        for t in answer["top"]
    ]
    return [*lines, "", *table(cells, ("", "share", "clusters", "result", "kernel", "bound by"), frozenset({0, 1})), ""]


def _hosts(answer: Mapping[str, Any]) -> list[str]:
    rows = [row for row in answer["hosts"] if row["hosts"] > 1 or row["fits"]]
    if not any(row["fits"] for row in rows):
        return ["no number of hosts up to what the network has is enough", ""] if rows else []
    most = {row["hosts"]: row for row in answer["hosts_throughput"]}
    tokens = answer["tokens"]
    cells = []
    for row in rows:
        if not row["fits"]:
            cells.append((str(row["hosts"]), "does not fit", "", "", "", ""))
            continue
        busy = most[row["hosts"]]
        cells.append(
            (
                str(row["hosts"]),
                f"{row['stages']} x {row['tensor']}"
                + (f", {row['microbatches']} microbatches" if row["microbatches"] > 1 else ""),
                time_text(row["seconds"]),
                f"{row['exchange_seconds'] / row['seconds'] * 100:.0f} %",
                f"{busy['runs_per_second'] * tokens:.3g} tokens/s"
                if tokens
                else f"{busy['runs_per_second']:.3g} runs/s",
                f"{busy['copies']} of {busy['stages']} x {busy['tensor']}",
            )
        )
    head = ("hosts", "stages x tensor group", "a run", "exchanging", "back to back", "with copies")
    lines = table(cells, head, frozenset({0, 2, 3, 4}))
    if answer["stops_paying"]:
        lines.append(f"beyond {counted(answer['stops_paying'], 'host')}, more make a run less than 10 % faster")
    return [*lines, ""]


def _rest(answer: Mapping[str, Any]) -> list[str]:
    lines = []
    tokens = answer["tokens"] or 1
    if answer["energy_joules"] and answer["seconds"]:
        lines.append(f"energy   {answer['energy_joules']:.3g} J a run at the machine's greatest power")
    if answer["price_usd"]:
        lines.append(
            f"price    ${answer['price_usd']:.3g} a run, ${answer['price_usd'] / tokens * 1e6:.3g} per million tokens"
        )
    lines += [f"help     {text}" for text in answer["help"]]
    return lines


def summary_table(answers: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each target."""
    rows = []
    for a in answers:
        if a["fits"]:
            rows.append((a["target"], "fits", time_text(a["seconds"]), _tokens(a), a["bound"], ""))
            continue
        short = ", ".join(f"{size_text(m['short'])} of {tier}" for tier, m in a["memory"].items() if m["short"])
        enough = f"; {a['hosts_used']} hosts: {time_text(a['seconds'])}" if a["seconds"] else ""
        rows.append((a["target"], "does not fit", "-", "-", "-", f"short of {short}{enough}"))
    return table(rows, ("target", "verdict", "a run", "tokens/s", "bound by", ""), frozenset({2, 3}))


def _tokens(answer: Mapping[str, Any]) -> str:
    return f"{answer['tokens_per_second']:.3g}" if answer["tokens"] else "-"
