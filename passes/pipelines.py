"""Pipelines: plain lists of passes."""

from __future__ import annotations

from .base import Pass
from .graph.canonicalize import canonicalize
from .graph.choose_layouts import choose_layouts
from .graph.cse import cse
from .graph.fold_constants import fold_constants
from .graph.fuse import fuse

GRAPH_PASSES: tuple[Pass, ...] = (
    Pass("canonicalize", canonicalize),
    Pass("fold_constants", fold_constants),
    Pass("cse", cse),
    Pass("choose_layouts", choose_layouts),
    Pass("canonicalize", canonicalize),
    Pass("fold_constants", fold_constants),
    Pass("cse", cse),
)

CLUSTER_PASSES: tuple[Pass, ...] = (Pass("fuse", fuse, "graph", "clusters"),)
