"""Every cluster of a placed graph as C: equal kernels once, spread over a few files that compile side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from ..ir.machine import Machine
from ..ir.placed import Placed
from .library import Library, family

HEADER = """\
/* Generated: the kernels of one plan. */
#include "include/kernel_abi.h"
#include "kernels/kernels.h"
#include "kernels/narrow.h"
#include "kernels/scalar_ops.h"
#include "simd/simd.h"
"""
NAME = "KERNEL_NAME"  # stands for the function's name until its text is known


@dataclass(frozen=True)
class EmittedKernels:
    """`functions` maps each cluster (its first output) to its C function; before those in `before` another one is called; `units`
    are (file name, C text)."""

    functions: Mapping[str, str]
    before: frozenset[str]
    units: tuple[tuple[str, str], ...]


def emit_kernels(placed: Placed, library: Library, machine: Machine, *, files: int = 4) -> EmittedKernels:
    """C for every cluster, named by family and content, so that equal kernels are compiled once and names are stable."""
    functions: dict[str, str] = {}
    texts: dict[str, str] = {}
    before: set[str] = set()
    memo: dict[object, str] = {}
    for cluster in placed.graph.nodes:
        candidate = placed.choices[cluster.outputs[0]].chosen.candidate
        device = machine.device(candidate.device)
        kernel = library.kernel_for(cluster, placed.graph, candidate.family, device)
        packed = frozenset(i for i, v in enumerate(cluster.used) if v in dict(candidate.formats))
        key = (candidate.family, kernel, packed)
        if key not in memo:
            emitted = family(candidate.family).emit(kernel, NAME, packed, placed.graph.symbols, device)
            name = f"k_{candidate.family}_{hashlib.sha256(emitted.text.encode()).hexdigest()[:12]}"
            texts[name] = emitted.text.replace(NAME, name)
            memo[key] = name
            if emitted.before:
                before.add(name)
        functions[cluster.outputs[0]] = memo[key]
    # the largest first, always into the shortest file: balanced and deterministic
    bins: list[list[str]] = [[] for _ in range(min(files, max(len(texts), 1)))]
    for name in sorted(texts, key=lambda n: (-len(texts[n]), n)):
        min(bins, key=lambda b: sum(len(texts[n]) for n in b)).append(name)
    units = tuple(
        (f"kernels_{number}.c", HEADER + "\n" + "\n\n".join(texts[n] for n in sorted(names)) + "\n")
        for number, names in enumerate(bins)
    )
    return EmittedKernels(functions, frozenset(before), units)


def table_unit(names: tuple[str, ...], before: frozenset[str], plan_id: int, workspace: int) -> tuple[str, str]:
    """The C file that tells the runtime which functions the plan's kernel numbers are and what is called before them, and
    kernels how far apart the workspaces of two threads lie (bytes)."""
    firsts = [f"{name}_before" if name in before else "" for name in names]
    lines = [
        '#include "include/kernel_abi.h"',
        *(
            f"void {n}(void *const *args, const int64_t *dims, int part, int parts);"
            for n in filter(None, (*names, *firsts))
        ),
        f"const st_kernel st_plan_kernels[] = {{ {', '.join(names) or '0'} }};",
        f"const st_kernel st_plan_before[] = {{ {', '.join(n or '0' for n in firsts) or '0'} }};",
        "const char *const st_plan_kernel_names[] = { " + (", ".join(f'"{n}"' for n in names) or "0") + " };",
        f"const int st_plan_kernel_count = {len(names)};",
        f"const int64_t st_plan_workspace = {workspace};",
        f"const uint64_t st_plan_id = {plan_id}ull;",
    ]
    return "plan_table.c", "\n".join(lines) + "\n"
