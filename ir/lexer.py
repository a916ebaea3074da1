"""The tokens of the IR's text, for the readers of every level."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn, TypeVar

from .errors import StratacError

T = TypeVar("T")


class ParseError(StratacError):
    """A text that does not follow the grammar. `line` and `column` count from 1."""

    def __init__(self, what: str, line: int, column: int) -> None:
        self.line, self.column = line, column
        super().__init__(f"line {line}, column {column}: {what}")


class Token(NamedTuple):
    """`kind` is name, int, float, string, value, end, or for punctuation the text itself."""

    kind: str
    text: str
    position: int


_TOKEN = re.compile(
    r"""(?P<skip>(?:\s+|\#[^\n]*)+)
      | (?P<float>\d+\.\d*(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
      | (?P<int>\d+)
      | (?P<name>[^\W\d]\w*)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<value>%(?:[A-Za-z0-9_.$-]+|"(?:[^"\\\n]|\\.)*"))
      | (?P<punctuation>->|<=|>=|==|!=|\.\.|[-+*/%<>=!?&|^~:;,.@(){}\[\]])""",
    re.VERBOSE,
)


class Lexer:
    """A text as tokens, with one token of lookahead. `#` starts a comment."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens = self._scan()
        self.token = next(self._tokens)

    def _scan(self) -> Iterator[Token]:
        position = 0
        while position < len(self.text):
            found = _TOKEN.match(self.text, position)
            if found is None or (found.lastgroup == "name" and not found.group().isidentifier()):
                what = "the string is not closed" if self.text[position] in '"%' else "unexpected character"
                self.fail(f"{what}: {self.text[position]!r}", position)
            kind = str(found.lastgroup)
            if kind != "skip":
                yield Token(found.group() if kind == "punctuation" else kind, found.group(), position)
            position = found.end()
        while True:
            yield Token("end", "", len(self.text))

    def fail(self, what: str, position: int | None = None) -> NoReturn:
        """Raise a ParseError at `position`, by default at the current token."""
        at = self.token.position if position is None else position
        start = self.text.rfind("\n", 0, at) + 1
        raise ParseError(what, self.text.count("\n", 0, at) + 1, at - start + 1)

    def expected(self, what: str) -> NoReturn:
        """Raise a ParseError that says what should stand here instead of the current token."""
        self.fail(f"expected {what}, got {'the end of the text' if self.token.kind == 'end' else self.token.text}")

    def next(self) -> Token:
        """The current token, consumed."""
        token = self.token
        self.token = next(self._tokens)
        return token

    def at(self, *kinds: str) -> bool:
        """Whether the current token is one of these kinds (or this punctuation)."""
        return self.token.kind in kinds

    def at_word(self, word: str) -> bool:
        return self.token.kind == "name" and self.token.text == word

    def accept(self, kind: str) -> bool:
        """Consume the current token if it is of this kind."""
        if self.token.kind != kind:
            return False
        self.next()
        return True

    def accept_word(self, word: str) -> bool:
        if not self.at_word(word):
            return False
        self.next()
        return True

    def expect(self, kind: str, what: str = "") -> Token:
        """Consume a token of this kind or raise."""
        if self.token.kind != kind:
            self.expected(what or f"'{kind}'")
        return self.next()

    def expect_word(self, word: str) -> None:
        if not self.accept_word(word):
            self.expected(f"'{word}'")

    def name(self, what: str = "a name") -> str:
        return self.expect("name", what).text

    def integer(self, what: str = "an integer") -> int:
        """A signed integer."""
        sign = -1 if self.accept("-") else 1
        token = self.expect("int", what)
        if len(token.text) > 40:
            self.fail("the integer is too long", token.position)
        return sign * int(token.text)

    def number(self, what: str = "a number") -> float:
        """A signed float; integers are taken too."""
        sign = -1.0 if self.accept("-") else 1.0
        if self.at("int", "float") or self.at_word("inf") or self.at_word("nan"):
            return sign * float(self.next().text)
        self.expected(what)

    def string(self, what: str = "a string") -> str:
        position = self.token.position
        return self._unquoted(self.expect("string", what).text, position)

    def _unquoted(self, text: str, position: int) -> str:
        try:
            return str(json.loads(text))
        except ValueError:
            self.fail(f"the string {text} has a wrong escape", position)

    def value(self, what: str = "a value such as %0") -> str:
        """The name of a value, without the sign."""
        token = self.expect("value", what)
        name = token.text[1:]
        return self._unquoted(name, token.position) if name.startswith('"') else name

    def global_name(self) -> str:
        self.expect("@", "'@' and a name")
        return self.string() if self.at("string") else self.name("a name or a string")

    def list(self, open: str, read: Callable[[Lexer], T], close: str) -> tuple[T, ...]:
        """Items between brackets, separated by commas; a comma may follow the last."""
        self.expect(open)
        items = []
        while not self.at(close):
            items.append(read(self))
            if not self.accept(","):
                break
        self.expect(close, f"',' or '{close}'")
        return tuple(items)


def parse(text: str, read: Callable[[Lexer], T]) -> T:
    """The whole text read by one reader: nothing may follow. Raises ParseError."""
    lexer = Lexer(text)
    try:
        result = read(lexer)
    except RecursionError:
        lexer.fail("brackets are nested too deeply")
    if not lexer.at("end"):
        lexer.expected("the end of the text")
    return result
