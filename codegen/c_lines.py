"""C text under way: lines and how deep they are indented."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Lines:
    """Indented text under way."""

    rows: list[str] = field(default_factory=list)
    depth: int = 1

    def put(self, text: str) -> None:
        self.rows.append("    " * self.depth + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.put(f"{head} {{" if head else "{")
        self.depth += 1
        yield
        self.depth -= 1
        self.put("}")

    @property
    def text(self) -> str:
        return "\n".join(self.rows)
