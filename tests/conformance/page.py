"""docs/conformance.md, generated from the records of the last whole runs: `python -m tests.conformance.page`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from .record import DOCS, Record, read_record
from .suite import read_pairs, read_skips

PAGE = DOCS / "conformance.md"
DIFFERENCES = Path(__file__).with_name("differences.txt")
_HEAD = """\
# Conformance

The official suite of the onnx package (`onnx.backend.test`) runs over compiled plans, through the package's own runner and
`compiler/onnx_backend.py`; no case is interpreted.

```
make conformance                                             # everything, compiled anew, on two processes
python -m tests.conformance                                  # the same with the user's cache of compiled objects
python -m tests.conformance --filter 'node/test_(abs|add)'   # cases whose kind/test_name matches
python -m tests.conformance --share 1/8 --jobs 1             # a fixed eighth of the cases
python -m tests.conformance --json out.json                  # every outcome as JSON
python -m tests.conformance --against docs/conformance.json  # fails where a case passed before
python -m tests.conformance --write                          # a whole run becomes this page and its JSON
python -m tests.conformance --failing --write                # the same of the cases that failed then
python -m tests.conformance --system onnxruntime --write     # the same with onnxruntime
```

Each case runs in a process that may die without harm to the others. Inputs whose values decide shapes or attributes are
compiled in (`stratac compile --constant`). Cases of `tests/conformance/skips.txt` are not run; `--skipped` runs them too, and a
test holds that none of them passes. The file is written only with at least as many passes as it has.
"""


def write_page() -> None:
    PAGE.write_text(page_text(), encoding="utf-8")


def page_text() -> str:
    """The page, from docs/conformance.json and docs/conformance-onnxruntime.json."""
    ours, peer = read_record(DOCS / "conformance.json"), read_record(DOCS / "conformance-onnxruntime.json")
    return "\n".join([_HEAD, *_results(ours), *_failures(ours), *_skips(), *_differences(ours, peer)]) + "\n"


def _results(ours: Record) -> list[str]:
    lines = [f"## Results with onnx {ours.onnx}", "", "| kind | cases | pass | not |", "|---|---:|---:|---:|"]
    for kind, count in ours.cases.items():
        bad = sum(name.startswith(f"{kind}/") for name in ours.others)
        lines.append(f"| {kind} | {count} | {count - bad} | {bad} |")
    total = sum(ours.cases.values())
    share = 100 * ours.passed / total if total else 0.0
    return [*lines, f"| all | {total} | {ours.passed} | {total - ours.passed} |", "", f"{share:.1f} % pass.", ""]


def _failures(ours: Record) -> list[str]:
    """By what is said of them; cases of one operator say the same."""
    groups = defaultdict(list)
    for name, row in ours.others.items():
        if row["result"] != "skip":
            groups[row["cause"], _said(row["message"])].append(name)
    if not groups:
        return []
    lines = ["## What does not pass", "", "| cases | | why | the first |", "|---:|---|---|---|"]
    for (cause, said), names in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        lines.append(f"| {len(names)} | {cause} | {_cell(said)} | {names[0]} |")
    return [*lines, ""]


def _said(message: str) -> str:
    """The first problem, without the names of its tensors and of its node."""
    text = message.partition(" - ")[2] or message
    text = re.sub(r"'[^']*'", "..", text.partition(" - ")[0])
    return re.sub(r" at \S+:\S+.*| at \S+\.onnx.*", "", text)


def _skips() -> list[str]:
    skips = read_skips()
    if not skips:
        return []
    return ["## What is not run", "", *(f"- `{name}`: {reason}" for name, reason in skips.items()), ""]


def _differences(ours: Record, peer: Record) -> list[str]:
    """Beside the reference evaluator, whose results the suite holds: where the peer refuses, where it differs."""
    lines = [
        f"## Beside {peer.system}",
        "",
        f"The same run of {peer.system} (default optimisations, one thread, CPU; models of IR versions it does not know are given as",
        f"the newest it does): {peer.passed} of {sum(peer.cases.values())} pass. What it makes of the others, and how many of them pass here:",
        "",
        "| what | cases | pass here |",
        "|---|---:|---:|",
    ]
    groups = defaultdict(list)
    for name, row in peer.others.items():
        groups[_kind(row)].append(name)
    for what, names in sorted(groups.items(), key=lambda item: -len(item[1])):
        lines.append(f"| {what} | {len(names)} | {sum(name not in ours.others for name in names)} |")
    lines += ["", "Where it gives other results than the reference evaluator:", ""]
    differing, reasons = set(groups.get(_DIFFERS, [])), defaultdict(list)
    for name in sorted(differing):
        found = [reason for pattern, reason in read_pairs(DIFFERENCES).items() if re.search(pattern, name)]
        reasons[found[0] if found else peer.others[name]["message"]].append(name.removeprefix("node/test_"))
    return lines + [f"- {', '.join(f'`{name}`' for name in names)}: {_cell(why)}." for why, names in reasons.items()]


_DIFFERS = "other results than the reference"


def _kind(row: Mapping[str, str]) -> str:
    message = row["message"]
    if row["result"] == "died":
        return "the process died"
    if row["cause"] == "other results":
        return _DIFFERS
    for text, kind in (
        ("NOT_IMPLEMENTED", "not implemented"),
        ("is under development", "opset under development"),
        ("No Op registered", "unknown operator"),
        ("is not a registered function", "unknown operator"),
        ("takes no arrays of elements below a byte", "cannot be given 4-bit inputs from Python"),
        ("INVALID_GRAPH", "model refused (INVALID_GRAPH)"),
        ("INVALID_ARGUMENT", "inputs refused (INVALID_ARGUMENT)"),
    ):
        if text in message or text.lower() in message.lower():
            return kind
    return "another error"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    write_page()
