"""Which form of a model is placed: as it is where its weights fit, with large weights taken apart where storage has to help; and
with narrower values between clusters, where products may round them and that is faster.

A split makes the ring small and lets embeddings be looked up in storage, at the price of a copy for each split product. The forms
tried do not depend on the budget, so that a budget named as the smallest that works does work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from ..codegen.library import Library
from ..ir.candidate import MODE_ERRORS
from ..ir.graph import Graph, Node
from ..ir.machine import Machine
from ..ir.placed import Placed
from ..ir.types import bf16, f32
from ..passes.base import Pass, run_passes
from ..passes.graph.narrow_values import narrow_values
from ..passes.pipelines import CLUSTER_PASSES, MEMORY_PASSES, storage_passes
from ..passes.place.infeasible import Infeasible
from ..passes.place.place import place
from ..passes.place.request import PlaceRequest
from .report.words import time_text

#: bytes of the largest weight of each split form, in the order they are tried
SPLIT_BYTES = (64 << 20, 16 << 20, 4 << 20)
#: a placement this close to its lower bound is not worth another form
CLOSE = 0.02


@dataclass(frozen=True)
class Form:
    """A graph, its clusters and their placement; `split` is the limit its weights were split by, 0: none."""

    graph: Graph
    clusters: Graph
    library: Library
    placed: Placed
    split: int = 0
    other: float = 0.0  # seconds predicted where no value is narrower than in the model; 0: that does not fit

    @property
    def narrow(self) -> tuple[str, ...]:
        """The values between clusters that are stored as bf16 though the model has them in f32."""
        made = (value for node in self.clusters.nodes for value in node.outputs)
        return tuple(v for v in made if self.clusters.types[v].dtype == bf16 and _wide(self.graph, v))

    @property
    def why_narrow(self) -> str:
        """What is said of these in the plan, and why it is so; nothing where there are none."""
        other = f"predicted {time_text(self.other)}" if self.other else "the plan would not fit"
        count = len(self.narrow)
        return f"{count} values that products in bf16 read are stored as bf16; else {other}" if count else ""

    @property
    def seconds(self) -> float:
        """What a run is predicted to take."""
        return self.placed.solution.seconds if self.placed.solution is not None else 0.0

    def cost(self, objective: str) -> float:
        """What the objective makes least."""
        solution = self.placed.solution
        return float(solution.used.get("ram", 0)) if solution is not None and objective == "memory" else self.seconds


def choose_form(graph: Graph, machine: Machine, request: PlaceRequest, max_error: float = 0.0) -> Form:
    """The form that is predicted fastest under the budgets, with kernels of at most that error (`Library`).

    Raises Infeasible, with the least any form needs.
    """
    resident, storage = Library(max_error=max_error), Library(storage=True, max_error=max_error)
    best: Form | None = None
    short: Infeasible | None = None
    seen: list[tuple[Node, ...]] = []
    for split in (0, *SPLIT_BYTES):
        if split and not any(tier.kind == "disk" for tier in machine.tiers):
            break
        before, cluster_passes = storage_passes(split) if split else (MEMORY_PASSES, CLUSTER_PASSES)
        form_graph = run_passes(graph, before)
        clusters = run_passes(form_graph, cluster_passes)
        if clusters.nodes in seen:
            continue
        library = storage if split else resident
        if split:  # the first form's clusters may come again: then with kernels that read storage by themselves
            seen.append(clusters.nodes)
        found: list[Form] = []
        tried = (clusters, *_narrowed(clusters, library, machine, max_error))
        for nodes in tried:
            try:
                found.append(Form(form_graph, nodes, library, place(nodes, library, machine, request), split))
            except Infeasible as error:
                if short is None or error.needed < short.needed:
                    short = error
        if not found:
            continue
        other = found[0].seconds if len(found) == len(tried) else 0.0
        form = replace(min(found, key=lambda one: one.cost(request.objective)), other=other)
        if best is None or form.cost(request.objective) < best.cost(request.objective):
            best = form
        streams = any(machine.tier(home.tier).kind == "disk" for home in form.placed.homes.values())
        if not streams or (split and form.placed.solution is not None and form.placed.solution.gap <= CLOSE):
            break
    if best is not None:
        return best
    assert short is not None
    raise short


def _wide(graph: Graph, value: str) -> bool:
    return value in graph.types and graph.types[value].dtype == f32


def _narrowed(clusters: Graph, library: Library, machine: Machine, max_error: float) -> tuple[Graph, ...]:
    """The same clusters with narrower values between them, if the error allowed is that of products in bf16 and there are such."""
    if max_error < MODE_ERRORS["bf16"]:
        return ()
    reads = partial(library.narrow_reads, machine=machine)
    step = Pass(
        "narrow_values", partial(narrow_values, reads=reads), "clusters", "clusters", "what bf16 rounds, as bf16"
    )
    found = run_passes(clusters, (step,))
    return (found,) if found is not clusters else ()
