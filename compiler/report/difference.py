"""`diff`: what two plans differ in, from their manifests and reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from ..options import size_text
from .words import candidate_text, counted, signed_time, table, time_text

#: times that differ by less than this share are equal
SAME = 1e-9
#: rows of a list that people see
SHOWN = 12

_Row = Mapping[str, Any]


def diff_plans(one: tuple[_Row, _Row], two: tuple[_Row, _Row]) -> dict[str, Any]:
    """Differences of two (manifest, report); empty parts are equal, and `same` says that all are."""
    (manifest_a, a), (manifest_b, b) = one, two
    parts = {
        "signature": _changed(_signature(manifest_a), _signature(manifest_b)),
        "facts": _changed(_facts(manifest_a, a), _facts(manifest_b, b)),
        "notes": _changed(a["notes"], b["notes"]),
        "time": _changed(_times(a), _times(b)),
        "memory": _changed(_memory(a), _memory(b)),
        "storage": _changed(_storage(a), _storage(b)),
        "clusters": _clusters(a, b),
        "weights": _weights(a, b),
        "machine": _changed(_profile(a), _profile(b)),
    }
    return {"same": not any(parts.values()), **parts}


def _changed(a: _Row, b: _Row) -> dict[str, list[Any]]:
    """key -> [a's value, b's value] where they differ; None where one has no such key."""
    return {key: [a.get(key), b.get(key)] for key in dict.fromkeys((*a, *b)) if not _equal(a.get(key), b.get(key))}


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= SAME * max(abs(a), abs(b))
    return bool(a == b)


def _signature(manifest: _Row) -> dict[str, Any]:
    found = {
        f"{kind[:-1]} {p['name']}": f"{p['dtype']}{p['shape']}"
        for kind in ("inputs", "outputs")
        for p in manifest[kind]
    }
    dims = {f"dim {n}": f"{b['min']}:{b['typical']}:{b['max']}" for n, b in manifest["symbols"].items()}
    return {**found, **dims}


def _facts(manifest: _Row, report: _Row) -> dict[str, Any]:
    options = report.get("options", {})
    given = {f"option {key}": value for key, value in options.items() if key not in ("dims", "threads")}
    model = report.get("model", {}).get("sha256")
    return {
        "name": report["name"],
        "target": report["target"],
        "arch": manifest.get("arch"),
        "threads": report["threads"],
        "model": model,
        "stratac": manifest["stratac_version"],
        "instructions": report["instructions"],
        "kernels": report["kernels"],
        **given,
    }


def _times(report: _Row) -> dict[str, Any]:
    solution = report["solution"] or {}
    found = {"one run": report["predicted_seconds"], "first run": report["first_seconds"]}
    found |= {name: seconds for name, seconds in report["seconds_by"].items() if seconds}
    return {**found, "lower bound": solution.get("lower_bound"), "opening": report["load"]["seconds"]}


def _memory(report: _Row) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for tier in report["tiers"]:
        found[f"{tier['name']} used"] = tier["used"]
        found[f"{tier['name']} budget"] = tier["budget"]
        found |= {f"{tier['name']} {part}": size for part, size in tier["parts"].items()}
    return found


def _storage(report: _Row) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in ("read", "lookup", "transfer"):
        rows = [row for row in report["crossings"] if row["kind"] == kind]
        if rows:
            found[f"{kind}s"] = len(rows)
            found[f"{kind} bytes"] = sum(row["bytes"] for row in rows)
            found[f"{kind} exposed"] = sum(row["exposed"] for row in rows)
    return found


def _profile(report: _Row) -> dict[str, Any]:
    """The profile's lines by section and key: what `profile_text` writes has one fact a line."""
    found: dict[str, Any] = {}
    section, count = "", Counter[str]()
    for line in report["profile"].splitlines():
        if line.startswith("["):
            count[line] += 1
            section = f"{line}{count[line]} " if line.startswith("[[") else f"{line} "
        elif " = " in line:
            key, value = line.split(" = ", 1)
            found[f"{section}{key}"] = value
    return found


def _pairs(
    a: Sequence[_Row], b: Sequence[_Row], keys: Sequence[Callable[[_Row], Hashable]]
) -> tuple[list[tuple[_Row, _Row]], list[_Row], list[_Row]]:
    """Rows that are the same thing in both: those with an equal key, by each of `keys` in turn; among equal ones the first with the
    first and so on, where there are as many in both. Then the rest of each."""
    pairs: list[tuple[int, int]] = []
    left, right = dict(enumerate(a)), dict(enumerate(b))
    for key in keys:
        mine, theirs = _grouped(left, key), _grouped(right, key)
        for value, rows in mine.items():
            if len(rows) == len(theirs.get(value, ())):
                for i, j in zip(rows, theirs[value], strict=True):
                    pairs.append((i, j))
                    del left[i], right[j]
    return [(a[i], b[j]) for i, j in sorted(pairs)], list(left.values()), list(right.values())


def _grouped(rows: Mapping[int, _Row], key: Callable[[_Row], Hashable]) -> dict[Hashable, list[int]]:
    found: dict[Hashable, list[int]] = {}
    for index, row in rows.items():
        found.setdefault(key(row), []).append(index)
    return found


def _clusters(a: _Row, b: _Row) -> dict[str, Any]:
    by = (
        lambda c: (tuple(c["nodes"]), c["name"], tuple(c["ops"])),
        lambda c: (c["name"], c["ops"][0] if c["ops"] else ""),
        lambda c: c["call"],
    )
    pairs, gone, new = _pairs(a["clusters"], b["clusters"], by[:2] if a["name"] == b["name"] else by)
    changed = []
    for one, two in pairs:
        facts = _changed(_cluster_facts(one), _cluster_facts(two))
        if facts:
            changed.append({"name": one["name"], **facts})
    return {k: v for k, v in {"changed": changed, "only first": _names(gone), "only second": _names(new)}.items() if v}


def _cluster_facts(c: _Row) -> dict[str, Any]:
    return {
        "candidate": c["chosen"]["name"],
        "seconds": c["chosen"]["seconds"],
        "waited": c["waited"],
        "ops": " + ".join(c["ops"]),
        "binding": c["binding"],
    }


def _names(rows: Iterable[_Row]) -> list[str]:
    return [row["name"] for row in rows]


def _weights(a: _Row, b: _Row) -> dict[str, Any]:
    pairs, gone, new = _pairs(
        a["weights"], b["weights"], (lambda w: (w["label"], w["format"]), lambda w: w["label"], lambda w: w["key"])
    )
    moved = []
    for one, two in pairs:
        facts = _changed(*({k: w[k] for k in ("tier", "how", "format", "bytes")} for w in (one, two)))
        if facts:
            moved.append({"name": one["label"], "size": two["bytes"], **facts})
    only = {side: [row["label"] for row in rows] for side, rows in (("only first", gone), ("only second", new))}
    return {k: v for k, v in {"changed": moved, **only}.items() if v}


# -- text ----------------------------------------------------------------------------------------------------------


def diff_text(found: _Row, names: tuple[str, str] = ("first", "second")) -> str:
    """The differences for people."""
    if found["same"]:
        return "no difference"
    lines: list[str] = []
    for part in ("signature", "facts", "time", "memory", "storage", "notes"):
        if found[part]:
            cells = [
                (key, _cut(_value(part, key, a)), _cut(_value(part, key, b)), _delta(part, key, a, b))
                for key, (a, b) in found[part].items()
            ]
            lines += [part, *(f"  {line}" for line in table(cells, ("", *names, "difference"))), ""]
    lines += _cluster_lines(found["clusters"], names) + _weight_lines(found["weights"], names)
    if found["machine"]:
        lines += ["machine", *(f"  {key}: {a} -> {b}" for key, (a, b) in list(found["machine"].items())[:SHOWN])]
        lines += _rest(len(found["machine"])) + [""]
    return "\n".join(lines).rstrip()


def _rest(count: int) -> list[str]:
    return [f"  ... and {count - SHOWN} more; --json has all"] if count > SHOWN else []


def _cut(text: str) -> str:
    return text if len(text) <= 44 else f"{text[:43]}…"


def _is_time(part: str, key: str) -> bool:
    return part == "time" or (part == "storage" and key.endswith("exposed"))


def _is_size(part: str, key: str) -> bool:
    return part == "memory" or (part == "storage" and key.endswith("bytes"))


def _value(part: str, key: str, value: Any) -> str:
    if value is None:
        return "-"
    if _is_time(part, key):
        return time_text(value)
    if _is_size(part, key):
        return size_text(value)
    return str(value)


def _delta(part: str, key: str, a: Any, b: Any) -> str:
    numbers = [0 if v is None else v for v in (a, b)]
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in numbers):
        return ""
    change = numbers[1] - numbers[0]
    share = f" ({change / numbers[0] * 100:+.1f} %)" if numbers[0] and part in ("time", "memory") else ""
    if _is_time(part, key):
        return f"{signed_time(change)}{share}"
    if _is_size(part, key):
        return f"{'+' if change > 0 else ''}{size_text(change)}{share}"
    return f"{change:+}" if part in ("storage", "facts") else ""


def _cluster_lines(part: _Row, names: tuple[str, str]) -> list[str]:
    lines = []
    changed = sorted(part.get("changed", []), key=lambda c: -abs(_gain(c)))
    if changed:
        lines.append(f"{counted(len(changed), 'cluster')} changed")
        for c in changed[:SHOWN]:
            said = []
            if "candidate" in c:
                said.append(" -> ".join(map(candidate_text, c["candidate"])))
            if "seconds" in c:
                said.append(
                    " -> ".join(map(time_text, c["seconds"])) + f" ({signed_time(c['seconds'][1] - c['seconds'][0])})"
                )
            if "waited" in c:
                said.append("waits " + " -> ".join(map(time_text, c["waited"])))
            said += [f"{key} {c[key][0] or 'none'} -> {c[key][1] or 'none'}" for key in ("ops", "binding") if key in c]
            lines.append(f"  {c['name']}: {', '.join(said)}")
        lines += _rest(len(changed)) + [""]
    return lines + _only("cluster", part, names)


def _gain(c: _Row) -> float:
    pairs = (c.get(key, (0.0, 0.0)) for key in ("seconds", "waited"))
    return float(sum(b - a for a, b in pairs))


def _weight_lines(part: _Row, names: tuple[str, str]) -> list[str]:
    lines = []
    changed = part.get("changed", [])
    ways: dict[str, list[_Row]] = {}
    for row in sorted(changed, key=lambda w: (-w["size"], w["name"])):
        way = "; ".join(f"{key} {row[key][0]} -> {row[key][1]}" for key in ("tier", "how", "format") if key in row)
        ways.setdefault(way or "size", []).append(row)
    for way, rows in ways.items():
        lines.append(f"{counted(len(rows), 'weight')}, {size_text(sum(r['size'] for r in rows))}: {way}")
        lines += [f"  {row['name']}  {size_text(row['size'])}" for row in rows[:SHOWN]] + _rest(len(rows)) + [""]
    return lines + _only("weight", part, names)


def _only(noun: str, part: _Row, names: tuple[str, str]) -> list[str]:
    lines = []
    for side, name in zip(("only first", "only second"), names, strict=True):
        if rows := part.get(side):
            lines += [
                f"{counted(len(rows), noun)} only in {name}",
                *(f"  {row}" for row in rows[:SHOWN]),
                *_rest(len(rows)),
                "",
            ]
    return lines
