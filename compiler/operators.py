"""`stratac ops`: which operators compile, in which opsets, element types and for which devices; and docs/operators.md, made of the
same rows (`python -m stratac.compiler.operators FILE`)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..ir.types import COMPUTABLE, DTYPES
from .frontends.onnx.operators import NONE, Operator, operators

#: code is generated for this kind of device; `estimate` prices others
DEVICES = ("cpu",)
_FLOATS = tuple(t.name for t in DTYPES.values() if t in COMPUTABLE and t.kind == "float")
_INTEGERS = tuple(t.name for t in DTYPES.values() if t in COMPUTABLE and t.kind in ("int", "uint"))
_HEAD = """\
# Operators

What `stratac compile` takes, generated from the importer's rules, the schemas of the onnx package and the op table
(`stratac ops`, `stratac ops --json`). *How*: by a `rule` of its own, or as the operators of its `body` in the standard. Opsets
are those of the operator's domain. *Element types* are those that the standard allows for the parameter and that kernels
compute in, all on the CPU; `floats` are {floats}, `integers` are {integers}. Strings are taken by operators that only move
elements and by those made for them. What a rule does not take of an operator, such as a mode or a value that is not known when
compiling, it says when compiling, with every other problem of the model.
"""


def rows_json(rows: Sequence[Operator]) -> list[dict[str, Any]]:
    """As `stratac ops --json` prints them."""
    return [
        {
            "domain": row.domain,
            "op": row.name,
            "how": row.how,
            "opsets": [row.first, row.last],
            "types": {name: list(types) for name, types in row.types.items()},
            "missing_types": list(row.missing),
            "devices": list(DEVICES) if row.how != NONE else [],
        }
        for row in rows
    ]


def _short(types: Sequence[str]) -> str:
    """Groups of element types by their name."""
    left, words = list(types), []
    for name, group in (("floats", _FLOATS), ("integers", _INTEGERS)):
        if set(group) <= set(left):
            words.append(name)
            left = [one for one in left if one not in group]
    return ", ".join([*words, *left])


def _types(row: Operator) -> str:
    return "; ".join(f"{name}: {_short(types)}" for name, types in row.types.items() if types)


def operators_text(rows: Sequence[Operator]) -> str:
    """One line for each operator."""
    taken = [row for row in rows if row.how != NONE]
    width = max(len(row.title) for row in rows)
    lines = [f"{row.title:{width}}  {f'{row.first}-{row.last}':7} {row.how:4}  {_types(row)}" for row in taken]
    lines += ["", f"{len(taken)} of {len(rows)} operators compile, for {', '.join(DEVICES)}; not taken:"]
    return "\n".join([*lines, *(f"  {row.title}" for row in rows if row.how == NONE)])


def operators_page(rows: Sequence[Operator]) -> str:
    """docs/operators.md."""
    lines = [_HEAD.format(floats=_listed(_FLOATS), integers=_listed(_INTEGERS))]
    for domain in dict.fromkeys(row.domain for row in rows):
        taken = [row for row in rows if row.domain == domain and row.how != NONE]
        missing = [f"`{row.name}`" for row in rows if row.domain == domain and row.how == NONE]
        lines += [f"## {domain or 'ai.onnx'}", ""]
        if taken:
            lines += ["| operator | how | opsets | element types |", "|---|---|---|---|"]
            lines += [f"| {r.name} | {r.how} | {r.first} to {r.last} | {_types(r)} |" for r in taken]
            lines += [""]
        if missing:
            lines += [f"Not taken: {', '.join(missing)}.", ""]
    return "\n".join(lines)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(operators_page(operators()), encoding="utf-8")
