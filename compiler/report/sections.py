"""The parts of the HTML page that are plain HTML: answers, tables and bars. Every text from a plan is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from ...ir.machine import Device, Machine
from ..options import size_text
from .verdict import BOUNDS, Verdict
from .words import candidate_text, counted, format_text, ops_text, rate_text, share_text, short, signed_time, time_text


def answers(report: Mapping[str, Any], said: Verdict) -> str:
    """The three cards in front: fits, speed, why."""
    tier = max((t for t in report["tiers"] if t["kind"] == "memory"), key=lambda t: t["used"] / max(t["budget"], 1))
    allowed = f"the {size_text(tier['budget'])} {'allowed' if tier['limited'] else 'the machine has'}"
    number, unit = size_text(tier["used"]).split(" ")
    share = min(said.tight, 1.0)
    state = "yes, tightly" if said.tight > 0.9 else "yes"
    solution = report["solution"]
    gap = ""
    if solution is not None:
        bound = time_text(solution["lower_bound"])
        gap = f"Lower bound {bound}, gap {solution['gap'] * 100:.2f} %; objective {solution['objective']}."
    seconds = report["predicted_seconds"]
    rate = f"{1 / seconds:.3g} runs a second" if seconds else ""
    total = sum(report["seconds_by"].values())
    by = sorted(
        ((n, s) for n, s in report["seconds_by"].items() if s >= 5e-4 * total > 0), key=lambda pair: (-pair[1], pair[0])
    )
    first = f"{share_text(by[0][1], total)} <small>{escape(BOUNDS.get(by[0][0], by[0][0]))}</small>" if by else "-"
    value, scale = time_text(seconds).split(" ")
    return (
        _answer(
            f'Does it fit? <b class="good">{state}</b>',
            f"{number} <small>{unit} of {escape(tier['name'])}</small>",
            f'<div class="bar"><i style="width:{share * 100:.2f}%"></i></div>'
            f"{share_text(tier['used'], tier['budget'])} of {escape(allowed)}, at the greatest dims.",
        )
        + _answer(
            "How fast is it?",
            f"{value} <small>{scale} a run, {escape(counted(report['threads'], 'thread'))}</small>",
            f"{escape(rate)}, predicted at the typical dims.<br>{escape(gap)}",
        )
        + _answer("Why?", first, _bar(by, total) + _keys((n, BOUNDS.get(n, n), share_text(s, total)) for n, s in by))
    )


def _answer(question: str, value: str, rest: str) -> str:
    return (
        f'<div class="answer"><p class="question">{question}</p><p class="value">{value}</p>'
        f'<div class="rest">{rest}</div></div>'
    )


def _bar(parts: Iterable[tuple[str, float]], total: float) -> str:
    cells = (
        "".join(f'<i class="f-{escape(n)}" style="width:{s / total * 100:.2f}%"></i>' for n, s in parts)
        if total
        else ""
    )
    return f'<div class="bar">{cells}</div>'


def _keys(rows: Iterable[tuple[str, str, str]]) -> str:
    return "".join(
        f'<span class="key"><i class="f-{escape(k)}"></i>{escape(name)} {escape(text)}</span>' for k, name, text in rows
    )


def legend(report: Mapping[str, Any]) -> str:
    """The colours of the kernel families that occur."""
    families = dict.fromkeys(c["chosen"]["name"].split("/")[1] for c in report["clusters"])
    return _keys((family, family, "") for family in sorted(families))


def tier_bars(report: Mapping[str, Any]) -> str:
    """For each tier what it has, may take and takes."""
    found = []
    for tier in report["tiers"]:
        parts = sorted(tier["parts"].items(), key=lambda part: (-part[1], part[0]))
        share = min(tier["used"] / tier["budget"], 1.0) if tier["budget"] else 0.0
        rows = "".join(f"<dt>{escape(name)}</dt><dd>{size_text(size)}</dd>" for name, size in parts)
        limit = f"budget {size_text(tier['budget'])}, " if tier["limited"] else ""
        found.append(
            f'<div class="tier"><h3>{escape(tier["name"])}: {size_text(tier["used"])}</h3>'
            f'<span class="minor">{escape(limit)}capacity {size_text(tier["capacity"])}</span>'
            f'<div class="bar"><i style="width:{share * 100:.2f}%"></i></div><dl>{rows}</dl></div>'
        )
    return "".join(found)


def family_bars(report: Mapping[str, Any]) -> str:
    """Seconds of each kernel family, and what calls wait."""
    found: dict[str, float] = {}
    for cluster in report["clusters"]:
        family = cluster["chosen"]["name"].split("/")[1]
        found[family] = found.get(family, 0.0) + cluster["chosen"]["seconds"]
    waited = sum(cluster["waited"] for cluster in report["clusters"])
    rows = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
    if waited > 0:
        rows.append(("storage", waited))
    most, total = max((s for _, s in rows), default=0.0), sum(s for _, s in rows)
    return "".join(
        f'<div class="family"><span>{"waits" if name == "storage" else escape(name)}</span>'
        f'<div class="bar"><i class="f-{escape(name)}" style="width:{seconds / most * 100 if most else 0:.2f}%"></i></div>'
        f"<span>{time_text(seconds)}, {seconds / total * 100 if total else 0:.0f} %</span></div>"
        for name, seconds in rows
    )


# -- tables --------------------------------------------------------------------------------------------------------


def _head(columns: Sequence[tuple[str, str]]) -> str:
    """Headings: a name, and `n` for numbers, `t` for text, both sortable, or nothing."""
    cells = "".join(
        f'<th scope="col"{" class=n" if kind == "n" else ""}{f" data-sort={kind}" if kind else ""}>{escape(name)}</th>'
        for name, kind in columns
    )
    return f"<thead><tr>{cells}</tr></thead>"


def _number(value: float | None, text: str, more: str = "") -> str:
    data = "" if value is None else f' data-v="{value!r}"'
    return f'<td class="n"{data}>{escape(text)}{more}</td>'


def cluster_table(report: Mapping[str, Any]) -> str:
    """One row for each cluster in the order they run."""
    total = report["predicted_seconds"]
    most = max((c["chosen"]["seconds"] for c in report["clusters"]), default=0.0) or 1.0
    weights = {row["key"]: row for row in report["weights"]}
    head = _head(
        [
            ("#", "n"),
            ("Cluster", "t"),
            ("Chosen", "t"),
            ("Time", "n"),
            ("Runner-up", "t"),
            ("Difference", "n"),
            ("Binds", "t"),
            ("FLOP/B", "n"),
            ("Weights", "n"),
            ("Why", "t"),
        ]
    )
    body = "".join(_cluster_row(c, weights, total, most) for c in report["clusters"])
    return f'<table id="cluster-table">{head}<tbody>{body}</tbody></table>'


def _cluster_row(c: Mapping[str, Any], weights: Mapping[str, Mapping[str, Any]], total: float, most: float) -> str:
    seconds, other = c["chosen"]["seconds"], c["runner_up"]
    family = c["chosen"]["name"].split("/")[1]
    own = [weights[key] for key in c["weights"] if key in weights]
    held = sum(w["bytes"] for w in own)
    how = ", ".join(dict.fromkeys(w["how"] for w in own if w["bytes"] * 10 >= held))
    why = c["why"].removeprefix(f"{c['chosen']['name']}: ")
    text = " ".join(
        [c["name"], *c["ops"], *c["nodes"], c["chosen"]["name"], c["binding"], *(w["label"] for w in own), how, why]
    )
    meter = f'<div class="meter" style="width:{seconds / most * 72:.0f}px"></div>'
    wait = f'<small class="bad">waits {time_text(c["waited"])}</small>' if c["waited"] > 0 else ""
    dash = '<td class="minor">none</td>' if other is None else f"<td>{escape(candidate_text(other['name']))}</td>"
    return (
        f'<tr class="row" data-cluster="{escape(c["cluster"])}" data-text="{escape(text.lower())}">'
        + _number(c["call"], str(c["call"]))
        + f'<td><span class="dot f-{escape(family)}"></span>{escape(short(ops_text(c["ops"]), 44))}<br>'
        f'<small class="minor">{escape(short(c["name"], 40))}</small></td>'
        f"<td>{escape(candidate_text(c['chosen']['name']))}</td>"
        + _number(
            seconds, time_text(seconds), f' <small class="minor">{share_text(seconds, total)}</small>{meter}{wait}'
        )
        + dash
        + _number(c["difference"], "-" if other is None else signed_time(c["difference"]))
        + f"<td>{escape(c['binding'] or c['chosen']['bound'])}</td>"
        + _number(c["intensity"], f"{c['intensity']:.3g}")
        + _number(
            held, size_text(held) if held else "-", f'<br><small class="minor">{escape(how)}</small>' if held else ""
        )
        + f'<td><small class="minor">{escape(why)}</small></td></tr>'
    )


def crossing_tables(report: Mapping[str, Any]) -> str:
    """Totals of each link, then every crossing."""
    load = report["load"]
    if not report["crossings"]:
        opened = (
            f"At open, once: {size_text(load['bytes'])} from {escape(load['from'])} in {time_text(load['seconds'])}, cold."
            if load["seconds"] is not None
            else "The machine's profile has no disk, so that nothing is said about opening."
        )
        return f'<div class="card">{opened}</div>'
    sums = [("Bytes", "n"), ("Seconds", "n"), ("Hidden", "n"), ("Exposed", "n"), ("", "")]
    columns = [("From", "t"), ("To", "t"), ("Crossings", "n"), *sums]
    body = "".join(
        f"<tr><td>{escape(r['from'])}</td><td>{escape(r['to'])}</td>{_number(r['crossings'], str(r['crossings']))}{_sums(r)}</tr>"
        for r in report["links"]
    )
    links = f'<div class="card scroll"><table>{_head(columns)}<tbody>{body}</tbody></table></div>'
    names = {c["cluster"]: c["name"] for c in report["clusters"]}
    columns = [("What", "t"), ("Weight or value", "t"), ("For", "t"), ("Way", "t"), *sums]
    body = "".join(
        f"<tr><td>{escape(r['kind'])}</td><td>{escape(short(r['label'], 60))}</td>"
        f"<td>{escape(short(names.get(r['cluster'], r['cluster']), 40))}</td>"
        f'<td class="keep">{escape(r["from"])} → {escape(r["to"])}</td>{_sums(r)}</tr>'
        for r in report["crossings"]
    )
    every = (
        f'<div class="card scroll" style="margin-top:14px"><table>{_head(columns)}<tbody>{body}</tbody></table></div>'
    )
    return links + every


def _sums(row: Mapping[str, Any]) -> str:
    part = row["hidden"] / row["seconds"] * 100 if row["seconds"] else 0.0
    return (
        _number(row["bytes"], size_text(row["bytes"]))
        + _number(row["seconds"], time_text(row["seconds"]))
        + _number(row["hidden"], time_text(row["hidden"]))
        + _number(row["exposed"], time_text(row["exposed"]))
        + f'<td><div class="pair" title="hidden, exposed"><i class="hid" style="width:{part:.1f}%"></i>'
        f'<i class="exp" style="width:{100 - part:.1f}%"></i></div></td>'
    )


def weight_table(report: Mapping[str, Any]) -> str:
    """Every weight in each of its formats, largest first."""
    columns = [
        ("Weight", "t"),
        ("Bytes", "n"),
        ("Home", "t"),
        ("How", "t"),
        ("Format", "t"),
        ("Uses", "n"),
        ("Why", "t"),
    ]
    rows = sorted(report["weights"], key=lambda w: (-w["bytes"], w["key"]))
    body = "".join(
        f"<tr><td class=name>{escape(short(w['label'], 64))}</td>{_number(w['bytes'], size_text(w['bytes']))}"
        f"<td>{escape(w['tier'])}</td>"
        f'<td class="keep">{escape(w["how"])}</td>'
        f"<td>{escape(format_text(w['format']))}</td>{_number(len(w['users']), str(len(w['users'])))}"
        f'<td class="minor">{escape(w["why"])}</td></tr>'
        for w in rows
    )
    return f"<table>{_head(columns)}<tbody>{body}</tbody></table>"


def decisions(report: Mapping[str, Any]) -> str:
    """Objective, method, bound, budgets, options and the plan's notes."""
    rows: list[tuple[str, str]] = []
    solution = report["solution"]
    if solution is not None:
        rows += [
            ("objective", solution["objective"]),
            ("method", solution["method"]),
            ("lower bound", f"{time_text(solution['lower_bound'])}: no placement under these budgets is faster"),
            ("gap", f"{solution['gap'] * 100:.2f} %"),
        ]
        rows += [
            (f"budget {tier}", f"{size_text(budget)}, of which {size_text(solution['used'].get(tier, 0))} are used")
            for tier, budget in solution["budgets"].items()
        ]
    rows += sorted(report["notes"].items())
    rows += [(f"pin {where}", pattern) for pattern, where in report.get("options", {}).get("pins", [])]
    return f"<dl>{''.join(f'<dt>{escape(k)}</dt><dd>{escape(v)}</dd>' for k, v in rows)}</dl>"


def _caches(device: Device) -> str:
    return ", ".join(f"L{c.level} {size_text(c.bytes)} {rate_text(c.bandwidth, 'B/s')}" for c in device.caches) or "-"


def machine_tables(machine: Machine) -> str:
    """Devices with their caches, tiers and links, as the profile has them."""
    columns = [("Device", ""), ("Kind", ""), ("Cores", "n"), ("Peak of a core", "n"), ("Caches of a core", "")]
    columns.append(("Start of a kernel", "n"))
    devices = "".join(
        f"<tr><td>{escape(d.name)}</td><td>{escape(f'{d.kind} {d.arch} {d.isa}')}</td><td class=n>{d.cores}</td>"
        f"<td class=n>{rate_text(d.peak_flops, 'FLOP/s')}</td>"
        f"<td>{_caches(d)}</td>"
        f"<td class=n>{time_text(d.launch_s)}</td></tr>"
        for d in machine.devices
    )
    places = [("Tier", ""), ("Kind", ""), ("Capacity", "n"), ("Bandwidth", "n"), ("One core", "n"), ("Latency", "n")]
    tiers = "".join(
        f"<tr><td>{escape(t.name)}</td><td>{escape(t.kind)}</td><td class=n>{size_text(t.bytes)}</td>"
        f"<td class=n>{rate_text(t.bandwidth, 'B/s')}</td><td class=n>{rate_text(t.core_bandwidth, 'B/s')}</td>"
        f"<td class=n>{time_text(t.latency_s) if t.latency_s else '-'}</td></tr>"
        for t in machine.tiers
    )
    links = "".join(
        f"<tr><td>{escape(k.source)} → {escape(k.target)}</td><td>link</td><td class=n>-</td>"
        f"<td class=n>{rate_text(k.bandwidth, 'B/s')}</td><td class=n>-</td><td class=n>{time_text(k.latency_s)}</td></tr>"
        for k in machine.links
    )
    return (
        f"<table>{_head(columns)}<tbody>{devices}</tbody></table><br>"
        f"<table>{_head(places)}<tbody>{tiers}{links}</tbody></table>"
    )
