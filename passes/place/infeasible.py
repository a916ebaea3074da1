"""The answer where no plan keeps the budgets: which tier is short, by how much, and what would be enough."""

from __future__ import annotations

from ...ir.errors import StratacError


class Infeasible(StratacError):
    """No placement keeps a budget.

    `tier` is short by `short_bytes`: the least a plan needs is `needed`, the budget is `budget`. With `smallest_budget` of this
    tier, the others unchanged, placement succeeds; with a byte less it does not.
    """

    def __init__(self, tier: str, needed: int, budget: int, what: str, hint: str = "") -> None:
        self.tier, self.needed, self.budget = tier, needed, budget
        self.short_bytes, self.smallest_budget = needed - budget, needed
        super().__init__(what, hint=hint)


def text(count: float) -> str:
    """Bytes for people, exact where they matter: 1.50 GiB, 512 B."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(count) >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f} B"
