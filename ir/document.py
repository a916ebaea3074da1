"""The generated sections of `docs/ir.md`. `python -m stratac.ir.document` rewrites them; a test compares."""

from __future__ import annotations

from pathlib import Path

from .interp import MEANINGS
from .ops import OPS, REQUIRED, AttrSpec, Op
from .text import attr_text
from .types import COMPUTABLE, DTYPES
from .verify import LEVELS

PAGE = Path(__file__).parent.parent / "docs" / "ir.md"


def op_table() -> str:
    """One row for each op: arity, category, attributes and meaning."""
    rows = ["| op | inputs | category | attributes | meaning |", "|---|---|---|---|---|"]
    for op in OPS.values():
        attrs = ", ".join(_attr(name, spec) for name, spec in op.attrs.items())
        rows.append(f"| `{op.name}` | {_arity(op)} | {op.category} | {attrs} | {_summary(op)} |")
    return "\n".join(rows)


def _arity(op: Op) -> str:
    low, high = op.arity
    if low == high:
        return str(low)
    return f"{low}..{high}" if high < 100 else f"{low}.."


def _attr(name: str, spec: AttrSpec) -> str:
    kind = " or ".join(f'"{choice}"' for choice in spec.choices) or spec.kind
    if spec.default is REQUIRED:
        return f"`{name}`: {kind}"
    return f"`{name}`: {kind}, optional" if spec.default is None else f"`{name}`: {kind} = {attr_text(spec.default)}"


def _summary(op: Op) -> str:
    """The row's summary, then what the meaning's docstring adds; numpy's own docstrings add nothing."""
    function = MEANINGS[op.name].function
    wrapped = getattr(function, "__wrapped__", function)
    own = getattr(wrapped, "__module__", "").startswith(__package__ or "")
    note = (function.__doc__ or "").split("\n")[0].strip().rstrip(".") if own else ""
    return "; ".join(part.replace("|", "\\|") for part in (op.summary, note) if part)


def type_table() -> str:
    """One row for each element type."""
    rows = ["| type | bits | kind | computed in today |", "|---|---|---|---|"]
    rows += [f"| `{d.name}` | {d.bits} | {d.kind} | {'yes' if d in COMPUTABLE else ''} |" for d in DTYPES.values()]
    return "\n".join(rows)


def legality_table() -> str:
    """One row for each category of ops: where it may stand at each level of the Graph."""
    heads = [f"{level}: {place}" for level in LEVELS for place in ("top", "in clusters")]
    rows = [f"| category | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    names = ["cluster", *dict.fromkeys(op.category for op in OPS.values())]
    for name in names:
        cells = [("yes" if name in legal else "no") for level in LEVELS.values() for legal in (level.top, level.body)]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


SECTIONS = {"ops": op_table, "types": type_table, "legality": legality_table}


def regenerate(page: str) -> str:
    """The page with each `<!-- begin NAME -->` .. `<!-- end NAME -->` section written anew."""
    for name, make in SECTIONS.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        if begin in page and end in page:
            head, rest = page.split(begin, 1)
            page = f"{head}{begin}\n{make()}\n{end}{rest.split(end, 1)[1]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(regenerate(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
