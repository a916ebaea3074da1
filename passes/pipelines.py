"""The order of passes: plain lists."""

from __future__ import annotations

from functools import partial

from .base import Pass
from .graph.canonicalize import canonicalize
from .graph.choose_layouts import choose_layouts
from .graph.cse import cse
from .graph.dequantised_products import dequantised_products
from .graph.fold_constants import fold_constants
from .graph.fuse import fuse
from .graph.lay_loops import lay_loops
from .graph.merge_products import merge_products
from .graph.recompose import recompose
from .graph.split_weights import split_weights
from .graph.store_states import store_states
from .graph.whole_products import whole_products
from .graph.widen import widen

_CANONICALIZE = Pass("canonicalize", canonicalize, summary="local rewrites to one form")
_FOLD = Pass("fold_constants", fold_constants, summary="ops on constants become constants")
_CSE = Pass("cse", cse, summary="equal computations are done once")
_RECOMPOSE = Pass("recompose", recompose, summary="composites rebuilt from their parts")
_DEQUANTISED = Pass(
    "dequantised_products",
    dequantised_products,
    summary="products of dequantised tensors become those of their integers",
)
_WHOLE = Pass(
    "whole_products", whole_products, summary="products of 8-bit integers in the one form that kernels compute"
)
_LAYOUTS = Pass("choose_layouts", choose_layouts, summary="channels last around convolutions")
#: What follows any pass that leaves work behind.
SIMPLIFY: tuple[Pass, ...] = (_CANONICALIZE, _FOLD, _CSE)

#: From an imported graph to its simplest form, for whatever device. `recompose` compares values by name, so it stands after
#: `cse`; layouts are chosen after it, so that what it folds into filters is still channels first. What is quantised is looked at
#: before constants fold, since then nothing would be left of it.
MODEL_PASSES: tuple[Pass, ...] = (_DEQUANTISED, _WHOLE, *SIMPLIFY, _RECOMPOSE, *SIMPLIFY, _LAYOUTS, *SIMPLIFY)

#: What CPUs need beyond it: their heavy kernels are those of f32.
CPU_PASSES: tuple[Pass, ...] = (Pass("widen", widen, summary="products of narrow floats compute in f32"), *SIMPLIFY)

#: From an imported graph to one that is ready to be fused for a CPU.
GRAPH_PASSES: tuple[Pass, ...] = (*MODEL_PASSES, *CPU_PASSES)


def exactly(passes: tuple[Pass, ...]) -> tuple[Pass, ...]:
    """The passes without those that leave results only as good as they were, not the same."""
    return tuple(step for step in passes if step is not _DEQUANTISED)


_STATES = Pass("store_states", store_states, "clusters", "clusters", "who writes what stays between runs")
_LOOPS = Pass("lay_loops", lay_loops, "clusters", "clusters", "the clusters of loops among the others")

#: Graph of ops -> graph of clusters.
CLUSTER_PASSES: tuple[Pass, ...] = (
    Pass("fuse", fuse, "graph", "clusters", "one kernel for each cluster"),
    _STATES,
    _LOOPS,
)


#: For a plan that keeps weights in memory: what follows GRAPH_PASSES.
MEMORY_PASSES: tuple[Pass, ...] = (
    Pass("merge_products", merge_products, summary="products whose results attention reads as one"),
    *SIMPLIFY,
)


def storage_passes(limit_bytes: int) -> tuple[tuple[Pass, ...], tuple[Pass, ...]]:
    """For a plan that keeps weights in storage: what follows GRAPH_PASSES, and what takes the place of CLUSTER_PASSES. No weight
    that has to be in memory at once is larger than `limit_bytes`, where it can be taken apart.
    """
    split = Pass("split_weights", split_weights(limit_bytes), summary="large products taken apart by columns")
    apart = partial(fuse, lookup_bytes=limit_bytes)
    fusion = Pass("fuse", apart, "graph", "clusters", "one kernel for each cluster; large lookups apart")
    return (split,), (fusion, _STATES, _LOOPS)
