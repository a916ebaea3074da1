"""How reports write times, shares, counts and tables."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], head: Sequence[str], right: frozenset[int] = frozenset()) -> list[str]:
    """Aligned columns; the numbers in `right` are right-aligned."""
    widths = [max(len(str(r[k])) for r in [head, *rows]) for k in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        parts = [c.rjust(w) if k in right else c.ljust(w) for k, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "  ".join(parts).rstrip()

    return [line(head), line(["-" * w for w in widths]), *(line([str(c) for c in row]) for row in rows)]


def time_text(seconds: float) -> str:
    """Seconds for people: 1.25 s, 3.200 ms, 40.0 us, 47 ns; a difference keeps its sign."""
    if seconds == 0:
        return "0 s"
    if abs(seconds) >= 1:
        return f"{seconds:.2f} s"
    if abs(seconds) < 1e-7:
        return f"{seconds * 1e9:.3g} ns"
    return f"{seconds * 1e3:.3f} ms" if abs(seconds) >= 1e-3 else f"{seconds * 1e6:.1f} us"


def signed_time(seconds: float) -> str:
    """A difference of times, with its sign."""
    return f"+{time_text(seconds)}" if seconds > 0 else time_text(seconds)


def share_text(part: float, whole: float) -> str:
    return f"{part / whole * 100:.1f} %" if whole else "-"


def rate_text(per_second: float, unit: str) -> str:
    """A rate with a decimal prefix: 332.8 GFLOP/s, 1.20 GB/s."""
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(per_second) >= size:
            return f"{per_second / size:.3g} {prefix}{unit}"
    return f"{per_second:.3g} {unit}"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def short(text: str, width: int) -> str:
    """At most `width` characters; what is cut is the middle, since names differ at their ends."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def ops_text(ops: Sequence[str]) -> str:
    """The ops of a cluster without those that only rearrange."""
    quiet = {"reshape", "transpose", "fill", "expand", "slice"}
    shown = [op for op in ops if op not in quiet] or list(ops)
    return " + ".join(dict.fromkeys(shown))


def format_text(format: str) -> str:
    """A packing format without its numbers: panel32(0;1,384,384;..) is panel32."""
    return format.split("(", 1)[0]


def candidate_text(name: str) -> str:
    """A candidate without its device where that is the CPU: cpu/matmul/f32 is matmul/f32."""
    return name.removeprefix("cpu/")
