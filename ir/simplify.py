"""Loop axes merged wherever every index walks them as one, so that contiguous data is one long loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from .kernel import (
    Attention,
    Axis,
    Contraction,
    Conv,
    Index,
    Kernel,
    Loops,
    Matmul,
    Nest,
    Reduce,
    Scalar,
    Stage,
    indices_of,
    map_indices,
)


def merge_axes(kernel: Kernel) -> Kernel:
    """The same kernel with as few axes as its indices allow."""
    if isinstance(kernel, Loops):
        return replace(kernel, nests=tuple(_merge_nest(nest) for nest in kernel.nests))
    return _merge_contraction(kernel) if isinstance(kernel, Contraction) else kernel


def _indices(expressions: Iterable[Scalar]) -> list[Index]:
    return [index for e in expressions for index in indices_of(e)]


def _groups(axes: Sequence[Axis], indices: Sequence[Index]) -> list[Axis]:
    """Neighbouring axes merged; a merged axis keeps the name of its innermost part."""
    kept: list[Axis] = []
    for axis in axes:
        if axis.extent == 1:
            continue
        if kept:
            outer = kept[-1]
            if all(i.coefficient(outer.name) == i.coefficient(axis.name) * axis.extent for i in indices):
                kept[-1] = Axis(axis.name, outer.extent * axis.extent)
                continue
        kept.append(axis)
    return kept


def _only(expression: Scalar, names: set[str]) -> Scalar:
    return map_indices(expression, lambda index: _restrict(index, names))


def _restrict(index: Index, names: set[str]) -> Index:
    return replace(index, terms=tuple((a, c) for a, c in index.terms if a in names))


def _merge_nest(nest: Nest) -> Nest:
    indices = _indices(stage.value for stage in nest.stages)
    indices += [stage.index for stage in nest.stages if not isinstance(stage, Reduce)]
    outer = _groups(nest.outer, indices)
    inner_axes = next((stage.axes for stage in nest.stages if stage.axes), ())
    inner = _groups(inner_axes, indices) if all(s.axes in ((), inner_axes) for s in nest.stages) else list(inner_axes)
    names = {axis.name for axis in (*outer, *inner)}
    names |= {axis.name for stage in nest.stages for axis in stage.axes} if inner == list(inner_axes) else set()

    def merged(stage: Stage) -> Stage:
        axes = tuple(inner) if stage.axes else ()
        value = _only(stage.value, names)
        if isinstance(stage, Reduce):
            return replace(stage, axes=axes, value=value, running=stage.running and bool(axes))
        return replace(stage, axes=axes, value=value, index=_restrict(stage.index, names))

    return Nest(tuple(outer), tuple(merged(stage) for stage in nest.stages))


def _merge_contraction(contraction: Contraction) -> Contraction:
    root = contraction.root
    if isinstance(root, Attention):
        return contraction
    indices = _indices(store.value for store in contraction.epilogue) + [s.index for s in contraction.epilogue]
    if isinstance(root, Matmul) and root.prologue is not None:
        indices += _indices([root.prologue])
    rows = tuple(_groups(root.rows, indices)) or root.rows[-1:]
    names = {axis.name for axis in rows} | {root.column.name}
    epilogue = contraction.epilogue
    if isinstance(root, Matmul):
        names |= {axis.name for axis in (*root.loops, root.batch)}
        prologue = root.prologue and _only(root.prologue, names | {root.depth.name})
        changed: Matmul | Conv = replace(root, rows=rows, prologue=prologue)
    else:
        changed = replace(root, rows=rows)
    epilogue = tuple(
        replace(store, index=_restrict(store.index, names), value=_only(store.value, names)) for store in epilogue
    )
    return replace(contraction, root=changed, epilogue=epilogue)
