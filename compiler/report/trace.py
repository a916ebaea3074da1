"""A run in the trace format that chrome://tracing and ui.perfetto.dev open: the queues as predicted, and as measured.

The runtime measures durations and waits, no clock times: the measured calls are laid one behind the other with their waits, and
a read where it was free to start and those before it were under way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PREDICTED, MEASURED = 1, 2
_CPU, _IO = 1, 10
_US = 1e6


def chrome_trace(report: Mapping[str, Any], ledger: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object of a trace; times in microseconds from the beginning of the run, moved so that none is negative."""
    spans = [*_predicted(report), *_measured(report, ledger)]
    first = min((span["ts"] for span in spans), default=0.0)
    for span in spans:
        span["ts"] -= first
    names = {PREDICTED: "predicted", MEASURED: f"measured, mean of {ledger['runs']}"}
    lanes = sorted({(span["pid"], span["tid"]) for span in spans})
    return {
        "displayTimeUnit": "ms",
        "traceEvents": [
            *(_named("process_name", pid, 0, name) for pid, name in names.items()),
            *(_named("thread_name", pid, tid, _lane(tid)) for pid, tid in lanes),
            *spans,
        ],
        "otherData": {"plan": report["name"], "target": report["target"], "threads": ledger["threads"]},
    }


def _lane(tid: int) -> str:
    return "cpu" if tid == _CPU else "io" if tid == _IO else f"io, overlapping {tid - _IO}"


def _named(kind: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}


def _span(pid: int, tid: int, name: str, start: float, seconds: float, **args: Any) -> dict[str, Any]:
    return {
        "ph": "X",
        "cat": "plan",
        "name": name,
        "pid": pid,
        "tid": tid,
        "ts": start * _US,
        "dur": seconds * _US,
        "args": args,
    }


def _predicted(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    spans = []
    for c in report["clusters"]:
        if c["waited"] > 0:
            spans.append(_span(PREDICTED, _CPU, "waits for reads", c["start"] - c["waited"], c["waited"]))
        spans.append(
            _span(
                PREDICTED, _CPU, c["name"], c["start"], c["end"] - c["start"], kernel=c["chosen"]["name"], why=c["why"]
            )
        )
    for row in _reads(report):
        spans.append(_span(PREDICTED, _IO, row["label"], row["start"], row["seconds"], bytes=row["bytes"]))
    return spans


def _reads(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in report["crossings"] if row["kind"] == "read"]


def _measured(report: Mapping[str, Any], ledger: Mapping[str, Any]) -> list[dict[str, Any]]:
    spans, ends = [], []
    now = 0.0
    for cluster, call in zip(report["clusters"], ledger["calls"], strict=True):
        if call["waited"] > 0:
            spans.append(_span(MEASURED, _CPU, "waits for reads", now, call["waited"]))
            now += call["waited"]
        error = None if call["error"] is None else f"{call['error'] * 100:+.1f} %"
        spans.append(
            _span(
                MEASURED,
                _CPU,
                cluster["name"],
                now,
                call["measured"],
                predicted_us=call["predicted"] * _US,
                error=error,
            )
        )
        now += call["measured"]
        ends.append(now)
    return spans + _measured_reads(report, ledger, ends, now)


def _measured_reads(
    report: Mapping[str, Any], ledger: Mapping[str, Any], ends: Sequence[float], seconds: float
) -> list[dict[str, Any]]:
    """Reads overlap, and spans of one lane must not: each goes to the first lane that is free."""
    spans: list[dict[str, Any]] = []
    free: list[float] = []
    started = float("-inf")
    rate = ledger["traffic"]["bandwidth"]
    for row, read in zip(_reads(report), ledger["reads"], strict=True):
        after = row["after"]
        released = (
            ends[after - 1] if after > 0 else ends[len(ends) + after - 1] - seconds if after > -len(ends) else -seconds
        )
        start = max(released, started)
        started = start + (read["bytes"] / rate if rate else read["measured"])
        lane = next((k for k, until in enumerate(free) if until <= start), len(free))
        free[lane : lane + 1] = [start + read["measured"]]
        spans.append(_span(MEASURED, _IO + lane, read["label"], start, read["measured"], bytes=read["bytes"]))
    return spans
