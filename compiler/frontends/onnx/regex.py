"""Regular expressions in the syntax of RE2, as the table of a deterministic automaton over the bytes of UTF-8.

What is taken: literals, `.`, classes (also `[[:alpha:]]`, `\\d`, `\\w`, `\\s` and their opposites, which are ASCII as in RE2),
groups, `|`, `*`, `+`, `?`, `{m,n}` (greedy or not is the same when the whole string must match), `^`, `$`, `\\A`, `\\z`,
`\\b`, `\\B` and the flags `i` and `s`. Classes by Unicode property (`\\pL`) are not supported; references and look-around are
not in RE2.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ..unsupported import Unsupported

#: States of the automaton, copies that a repetition may make, and groups inside each other.
_STATES, _COPIES, _NESTED = 4096, 1000, 100
#: States that a pattern may have before they are joined, and steps that this may take: edges looked at, states reached.
_PARTS, _WORK = 1 << 16, 1 << 24
#: Of a range of characters so many are looked at for case; beyond them there is none.
_FOLDED = 0x3000
_TOP = 0x10FFFF
#: Characters that a number in a pattern may have.
_DIGITS, _HEXADECIMAL = 16, frozenset("0123456789abcdefABCDEF")
Ranges = list[tuple[int, int]]

_DIGIT: Ranges = [(48, 57)]
_WORD: Ranges = [(48, 57), (65, 90), (95, 95), (97, 122)]
_WORD_CUTS = {cut for low, high in _WORD for cut in (low, high + 1)}
_SPACE: Ranges = [(9, 10), (12, 13), (32, 32)]
_CLASSES = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_NAMED: dict[str, Ranges] = {
    "alnum": [(48, 57), (65, 90), (97, 122)],
    "alpha": [(65, 90), (97, 122)],
    "ascii": [(0, 127)],
    "blank": [(9, 9), (32, 32)],
    "cntrl": [(0, 31), (127, 127)],
    "digit": _DIGIT,
    "graph": [(33, 126)],
    "lower": [(97, 122)],
    "print": [(32, 126)],
    "punct": [(33, 47), (58, 64), (91, 96), (123, 126)],
    "space": [(9, 13), (32, 32)],
    "upper": [(65, 90)],
    "word": _WORD,
    "xdigit": [(48, 57), (65, 70), (97, 102)],
}
_ESCAPES = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}


def automaton(pattern: str) -> np.ndarray:
    """The table of `string_match` (i32[states, 257]) that accepts the strings a pattern matches whole. Raises Unsupported."""
    reader = _Reader(pattern)
    start, end = reader.alternatives()
    if reader.at < len(reader.pattern):
        raise reader.wrong("an unexpected )")
    return reader.graph.table(start, end)


@dataclass
class _Graph:
    """An automaton that is not deterministic: edges by ranges of bytes, and edges taken without reading any. Those marked `begin`
    hold at the start of a string only, `end` ones at its end, `edge` ones where a word begins or ends, `inside` ones elsewhere."""

    edges: list[list[tuple[int, int, int]]] = field(default_factory=list)
    free: list[list[tuple[int, str]]] = field(default_factory=list)
    work: int = 0

    def state(self) -> int:
        if len(self.edges) == _PARTS:
            raise Unsupported(f"the pattern has more than {_PARTS} parts")
        self.edges.append([])
        self.free.append([])
        return len(self.edges) - 1

    def worked(self, steps: int) -> None:
        self.work += steps
        if self.work > _WORK:
            raise Unsupported("the pattern takes too long to be made an automaton")

    def join(self, start: int, end: int, where: str = "") -> None:
        self.free[start].append((end, where))

    def closure(self, states: Iterable[int], allowed: frozenset[str]) -> frozenset[int]:
        seen, pending = set(states), list(states)
        while pending:
            for state, where in self.free[pending.pop()]:
                if state not in seen and (not where or where in allowed):
                    seen.add(state)
                    pending.append(state)
        self.worked(len(seen))
        return frozenset(seen)

    def table(self, start: int, end: int) -> np.ndarray:
        """The subset construction. Where word boundaries occur, a state also knows whether a byte of a word came before."""
        bounded = any(where in ("edge", "inside") for row in self.free for _, where in row)
        first = (self.closure([start], frozenset()), False, True)
        numbers = {first: 0}
        rows = []
        for states, was, begins in (pending := [first]):
            row = np.full(257, -1, np.int32)
            here = frozenset(("begin",)) if begins else frozenset[str]()
            for word in (False, True) if bounded else (False,):
                edges = [
                    e for s in self.closure(states, here | {"edge" if word != was else "inside"}) for e in self.edges[s]
                ]
                cuts = (
                    {low for low, _, _ in edges}
                    | {high + 1 for _, high, _ in edges}
                    | (_WORD_CUTS if bounded else set())
                )
                self.worked(len(edges) * len(cuts) // 4)
                for low, stop in itertools.pairwise(sorted(cuts)):
                    reached = {to for a, b, to in edges if a <= low and stop - 1 <= b}
                    if not reached or (bounded and word != any(a <= low <= b for a, b in _WORD)):
                        continue
                    found = (self.closure(reached, frozenset()), word, False)
                    if found not in numbers:
                        if len(numbers) == _STATES:
                            raise Unsupported(f"the pattern needs more than {_STATES} states")
                        numbers[found] = len(numbers)
                        pending.append(found)
                    row[low:stop] = numbers[found]
            row[256] = end in self.closure(states, here | {"end", "edge" if was else "inside"})
            rows.append(row)
        return np.stack(rows)

    def characters(self, ranges: Ranges, start: int, end: int) -> None:
        """Edges for the UTF-8 of every character in sorted ranges."""
        for low, high in ranges:
            for a, b in _same_length(low, high):
                self._bytes(a, b, start, end)

    def _bytes(self, low: int, high: int, start: int, end: int) -> None:
        """Of one length: split until every byte runs over a range of its own."""
        count = len(chr(low).encode("utf-8", "surrogatepass"))
        for k in range(1, count):
            mask = (1 << 6 * k) - 1
            if low & ~mask != high & ~mask:
                if low & mask:
                    self._bytes(low, low | mask, start, end)
                    return self._bytes((low | mask) + 1, high, start, end)
                if high & mask != mask:
                    self._bytes(low, (high & ~mask) - 1, start, end)
                    return self._bytes(high & ~mask, high, start, end)
        first, last = (chr(c).encode("utf-8", "surrogatepass") for c in (low, high))
        for k in range(count):
            to = end if k + 1 == count else self.state()
            self.edges[start].append((first[k], last[k], to))
            start = to
        return None


def _same_length(low: int, high: int) -> Ranges:
    """A range of characters cut where their UTF-8 gets longer."""
    found = []
    for top in (0x7F, 0x7FF, 0xFFFF, _TOP):
        if low <= min(high, top):
            found.append((low, min(high, top)))
            low = top + 1
    return found


def _sorted(ranges: Ranges) -> Ranges:
    """Ranges in order, those that touch joined."""
    found: Ranges = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


def _opposite(ranges: Ranges) -> Ranges:
    found, low = [], 1  # strings have no NUL
    for first, last in _sorted(ranges):
        if first > low:
            found.append((low, first - 1))
        low = max(low, last + 1)
    return [*found, (low, _TOP)] if low <= _TOP else found


def _folded(ranges: Ranges) -> Ranges:
    """With every character that differs in case alone."""
    more: Ranges = []
    for low, high in ranges:
        for number in range(low, min(high, low + _FOLDED) + 1):
            for other in {chr(number).lower(), chr(number).upper()}:
                if len(other) == 1:
                    more.append((ord(other), ord(other)))
    return _sorted([*ranges, *more])


def _unquoted(pattern: str) -> str:
    """With `\\Q...\\E` written as characters that stand for themselves."""

    def plain(found: re.Match[str]) -> str:
        return re.sub(r"(\W)", r"\\\1", found[1], flags=re.ASCII) if found[1] is not None else found[0]

    return re.sub(r"\\(?:Q(.*?)(?:\\E|$)|.)", plain, pattern, flags=re.DOTALL)


Part = tuple[int, int]


class _Reader:
    """Reads a pattern from left to right into a `_Graph`; each piece has a state it starts in and one it ends in."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.at = _unquoted(pattern), 0
        self.graph = _Graph()
        self.flags: frozenset[str] = frozenset()
        self.depth = 0  # of groups
        # of classes of characters, those with every one that differs in case alone
        self.folded: dict[tuple[tuple[int, int], ...], Ranges] = {}

    def wrong(self, what: str) -> Unsupported:
        return Unsupported(
            f"the pattern {self.pattern!r} is not supported: {what} at {self.at}", "patterns are those of RE2"
        )

    def peek(self, text: str) -> bool:
        return self.pattern.startswith(text, self.at)

    def take(self, text: str) -> bool:
        if self.peek(text):
            self.at += len(text)
            return True
        return False

    def next(self) -> str:
        if self.at >= len(self.pattern):
            raise self.wrong("it ends too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def closing(self, text: str) -> int:
        """Where a text is found next."""
        place = self.pattern.find(text, self.at)
        if place < 0:
            raise self.wrong(f"no {text} follows")
        return place

    def alternatives(self) -> Part:
        start, end = self.graph.state(), self.graph.state()
        flags = self.flags
        while True:
            first, last = self.sequence()
            self.graph.join(start, first)
            self.graph.join(last, end)
            if not self.take("|"):
                self.flags = flags
                return start, end

    def sequence(self) -> Part:
        start = end = self.graph.state()
        while self.at < len(self.pattern) and not self.peek("|") and not self.peek(")"):
            first, last = self.repeated()
            self.graph.join(end, first)
            end = last
        return start, end

    def repeated(self) -> Part:
        """A piece and how often it may stand: it is read again for each copy."""
        begin, flags = self.at, self.flags
        part = self.piece()
        stop = self.at
        least, most = self.counts()
        if (least, most) == (1, 1):
            return part
        after = self.at
        start = end = self.graph.state()
        copies = max(least, most if most is not None else least + 1)
        if copies > _COPIES:
            raise self.wrong(f"more than {_COPIES} repetitions")
        over = self.graph.state()
        for copy in range(copies):
            if copy:
                self.at, self.flags = begin, flags
                part = self.piece()
                assert self.at == stop
            first, last = part
            if copy >= least:
                self.graph.join(end, over)
            self.graph.join(end, first)
            if most is None and copy + 1 == copies:
                self.graph.join(last, first)
            end = last
        self.at = after
        self.graph.join(end, over)
        return start, over

    def counts(self) -> tuple[int, int | None]:
        found: tuple[int, int | None] = (1, 1)
        if self.take("*"):
            found = (0, None)
        elif self.take("+"):
            found = (1, None)
        elif self.take("?"):
            found = (0, 1)
        elif self.peek("{"):
            close = self.pattern.find("}", self.at)
            low, comma, high = self.pattern[self.at + 1 : close].partition(",")
            if close < 0 or not low.isdecimal() or (high and not high.isdecimal()):
                return 1, 1  # a brace that stands for itself
            if close - self.at > _DIGITS:
                raise self.wrong(f"more than {_COPIES} repetitions")
            self.at = close + 1
            found = (int(low), int(low) if not comma else int(high) if high else None)
            if found[1] is not None and found[1] < found[0]:
                raise self.wrong("a repetition whose greatest number is less than its least")
        else:
            return found
        self.take("?")
        if self.at < len(self.pattern) and self.pattern[self.at] in "*+?":
            raise self.wrong("a repetition of a repetition")
        return found

    def piece(self) -> Part:
        character = self.next()
        if character == "(":
            return self.group()
        if character in ")*+?":
            raise self.wrong(f"an unexpected {character}")
        if character in "^$":
            return self.place("begin" if character == "^" else "end")
        if character == ".":
            return self.any_of([(1, _TOP)] if "s" in self.flags else _opposite([(10, 10)]))
        if character == "[":
            return self.any_of(self.bracketed())
        if character == "\\":
            return self.escaped()
        return self.any_of([(ord(character), ord(character))])

    def place(self, where: str) -> Part:
        start, end = self.graph.state(), self.graph.state()
        self.graph.join(start, end, where)
        return start, end

    def any_of(self, ranges: Ranges) -> Part:
        start, end = self.graph.state(), self.graph.state()
        chosen = _sorted(ranges)
        if "i" in self.flags:
            key = tuple(chosen)
            if key not in self.folded:  # a repetition reads its piece again for each copy
                self.graph.worked(sum(min(high - low, _FOLDED) for low, high in chosen))
                self.folded[key] = _folded(chosen)
            chosen = self.folded[key]
        self.graph.characters(chosen, start, end)
        return start, end

    def group(self) -> Part:
        outer = self.flags
        if self.take("?"):
            if self.take("P<") or (self.peek("<") and not self.peek("<=") and not self.peek("<!") and self.take("<")):
                close = self.closing(">")
                if not self.pattern[self.at : close].isidentifier():
                    raise self.wrong("a group without a name")
                self.at = close + 1
            else:
                flags = self.flag_letters()
                if self.take(")"):  # for the rest of the group around it
                    self.flags = flags
                    state = self.graph.state()
                    return state, state
                if not self.take(":"):
                    raise self.wrong("a group of this kind")
                self.flags = flags
        self.depth += 1
        if self.depth > _NESTED:
            raise self.wrong(f"more than {_NESTED} groups inside each other")
        part = self.alternatives()
        self.depth -= 1
        if not self.take(")"):
            raise self.wrong("a group without an end")
        self.flags = outer
        return part

    def flag_letters(self) -> frozenset[str]:
        flags, on = set(self.flags), True
        while self.at < len(self.pattern) and self.pattern[self.at] in "ismU-":
            letter = self.next()
            if letter == "-":
                on = False
            elif letter == "m":
                raise self.wrong("the flag m")
            elif on:
                flags.add(letter)
            else:
                flags.discard(letter)
        return frozenset(flags)

    def escaped(self) -> Part:
        letter = self.next()
        if letter == "A":
            return self.place("begin")
        if letter == "z":
            return self.place("end")
        if letter in "bB":
            return self.place("edge" if letter == "b" else "inside")
        self.at -= 1
        return self.any_of(self.escaped_class())

    def escaped_class(self) -> Ranges:
        """What stands behind a backslash, as a class of characters."""
        letter = self.next()
        if letter.lower() in _CLASSES:
            ranges = _CLASSES[letter.lower()]
            return ranges if letter.islower() else _opposite(ranges)
        if letter in _ESCAPES:
            return [(_ESCAPES[letter],) * 2]
        if letter == "x":
            if self.take("{"):
                close = self.closing("}")
                digits, self.at = self.pattern[self.at : close], close + 1
            else:
                digits = self.next() + self.next()
            if not digits or not set(digits) <= _HEXADECIMAL or len(digits) > _DIGITS:
                raise self.wrong(f"\\x{digits[:_DIGITS]}")
            number = int(digits, 16)
            if number > _TOP:
                raise self.wrong(f"\\x{digits}")
            return [(number, number)]
        if letter in "01234567":
            digits = letter
            while len(digits) < 3 and self.at < len(self.pattern) and self.pattern[self.at] in "01234567":
                digits += self.next()
            if letter != "0" and len(digits) == 1:
                raise self.wrong("a reference to a group")
            return [(int(digits, 8),) * 2]
        if letter.isalnum():
            raise self.wrong(f"\\{letter}")
        return [(ord(letter), ord(letter))]

    def bracketed(self) -> Ranges:
        negative, ranges, first = self.take("^"), list[tuple[int, int]](), True
        while first or not self.peek("]"):
            first = False
            if self.take("[:"):
                close = self.closing(":]")
                name = self.pattern[self.at : close]
                if name.removeprefix("^") not in _NAMED:
                    raise self.wrong(f"the class [:{name}:]")
                self.at = close + 2
                known = _NAMED[name.removeprefix("^")]
                ranges += _opposite(known) if name.startswith("^") else known
                continue
            low = self.member()
            if len(low) == 1 and low[0][0] == low[0][1] and self.peek("-") and not self.peek("-]"):
                self.take("-")
                high = self.member()
                if len(high) != 1 or high[0][0] != high[0][1] or high[0][0] < low[0][0]:
                    raise self.wrong("a range of characters that is none")
                low = [(low[0][0], high[0][0])]
            ranges += low
        self.take("]")
        if "i" in self.flags and negative:
            ranges = _folded(_sorted(ranges))
        return _opposite(ranges) if negative else ranges

    def member(self) -> Ranges:
        character = self.next()
        return self.escaped_class() if character == "\\" else [(ord(character), ord(character))]
