"""The generated sections of `docs/ir.md`. `python -m stratac.ir.document` rewrites them; a test compares."""

from __future__ import annotations

from pathlib import Path

from .interp import MEANINGS
from .ops import OPS, REQUIRED, AttrSpec, Op
from .plan_binary import ARENA_KINDS, ARG_SPACES, CALL_KINDS, DIM_OPS, HEADER, REGION_KINDS, SECTION, Record
from .plan_binary import SECTIONS as RECORDS
from .scalars import PRIMITIVES, TO_BOOL
from .text import attr_text
from .types import COMPUTABLE, DTYPES
from .verify import LEVELS
from .verify_kernel import PLACES, ROLES
from .verify_placed import TIERS
from .verify_plan import ARENAS, SPACES

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


def kernel_table() -> str:
    """One row for each kind of expression: where it may stand in a kernel."""
    rows = [f"| expression | {' | '.join(PLACES)} |", "|---" * (len(PLACES) + 1) + "|"]
    for kind in dict.fromkeys(kind for kinds in PLACES.values() for kind in kinds):
        rows.append(
            f"| {kind.__name__} | {' | '.join('yes' if kind in kinds else 'no' for kinds in PLACES.values())} |"
        )
    return "\n".join(rows)


def role_table() -> str:
    """One row for each role of a kernel's operands."""
    rows = ["| role | read | stored | in |", "|---|---|---|---|"]
    for name, role in ROLES.items():
        where = "loops" if role.loops_only else "every kernel"
        rows.append(f"| `{name}` | {role.read} | {'yes' if role.stored else 'no'} | {where} |")
    return "\n".join(rows)


def function_table() -> str:
    """The scalar functions by what they take and give."""
    special = {"select": "bool, T, T -> T", "cast": "any -> any"}
    kinds: dict[str, list[str]] = {}
    for name, count in PRIMITIVES.items():
        kind = special.get(name) or f"{', '.join('T' * count)} -> {'bool' if name in TO_BOOL else 'T'}"
        kinds.setdefault(kind, []).append(f"`{name}`")
    return "\n".join(["| types | functions |", "|---|---|", *(f"| {k} | {' '.join(v)} |" for k, v in kinds.items())])


def plan_table() -> str:
    """One row for each space of arguments, kind of arena and kind of tier."""
    rows = ["| space | written | shared by threads | holds |", "|---|---|---|---|"]
    for name, space in SPACES.items():
        flags = " | ".join("yes" if flag else "no" for flag in (space.written, space.shared))
        rows.append(f"| `{name}` | {flags} | {space.holds} |")
    rows += ["", "| arena | holds buffers |", "|---|---|"]
    rows += [f"| `{kind}` | {'yes' if holds else 'no'} |" for kind, holds in ARENAS.items()]
    rows += ["", "| kind of tier | holds |", "|---|---|", *(f"| `{tier}` | {holds} |" for tier, holds in TIERS.items())]
    return "\n".join(rows)


def binary_table() -> str:
    """One row for each record of plan.bin, and the numbers of the enumerations."""

    def row(number: str, record: Record, count: int) -> str:
        fields = ", ".join(f"{kind} {name}" for name, kind in record.fields) or "one byte of text"
        return f"| {number} | `{record.name}` | {count} | {fields} |"

    rows = ["| section | record | bytes | fields |", "|---|---|---|---|"]
    rows += [row("", HEADER, HEADER.bytes), row("", SECTION, SECTION.bytes)]
    rows += [row(str(n), record, record.bytes if record.fields else 1) for n, record in enumerate(RECORDS)]
    names = {"arena kind": ARENA_KINDS, "argument space": ARG_SPACES, "call kind": CALL_KINDS}
    names |= {"region kind": REGION_KINDS, "dim op": DIM_OPS}
    rows += ["", "| number of | from 0 |", "|---|---|"]
    return "\n".join([*rows, *(f"| {what} | {', '.join(f'`{name}`' for name in of)} |" for what, of in names.items())])


SECTIONS = {
    "ops": op_table,
    "types": type_table,
    "legality": legality_table,
    "kernel": kernel_table,
    "roles": role_table,
    "functions": function_table,
    "plan": plan_table,
    "binary": binary_table,
}


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
