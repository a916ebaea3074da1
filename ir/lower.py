"""A cluster of ops as a kernel. Lowering is also the test of whether ops may be fused: `try_lower` returns the reason where a
body has no single kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .errors import VerifyError
from .graph import Node
from .kernel import Kernel
from .lower_loops import lower_loops
from .lower_root import lower_root, lower_routine, lower_selection, root_of
from .lower_scope import NotLowerable, Scope, Symbols
from .ops import OPS
from .simplify import merge_axes
from .types import TensorType


def try_lower(
    body: Sequence[Node],
    inputs: Sequence[str],
    outputs: Sequence[str],
    types: Mapping[str, TensorType],
    symbols: Symbols,
) -> Kernel | str:
    """The kernel of a body, its operands numbered inputs first, then outputs; or the reason why there is none."""
    if any(node.graph is not None for node in body):
        return "it repeats a graph of its own"
    try:
        scope = Scope(body, inputs, outputs, types, symbols)
        selections = [node for node in scope.body if OPS[node.op].category == "selection"]
        if selections:
            return lower_selection(scope, selections[0])
        routines = [node for node in scope.body if OPS[node.op].category == "routine"]
        if routines:
            return lower_routine(scope, routines[0])
        root = root_of(scope)
        if root is None:
            return merge_axes(lower_loops(scope))
        try:
            return merge_axes(lower_root(scope, root))
        except NotLowerable:
            return merge_axes(lower_loops(Scope(body, inputs, outputs, types, symbols)))
    except NotLowerable as reason:
        return str(reason)


def lower_cluster(cluster: Node, types: Mapping[str, TensorType], symbols: Symbols) -> Kernel:
    """The kernel of a cluster. Raises VerifyError where the cluster is not one kernel."""
    kernel = try_lower(cluster.body, cluster.used, cluster.outputs, types, symbols)
    if isinstance(kernel, str):
        raise VerifyError(f"has no kernel: {kernel}", op="cluster", level="clusters", source=cluster.source)
    return kernel
