"""Rules of ai.onnx.ml: ensembles of trees."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ....ir.ops_trees import MODES
from ....ir.types import DType, f32
from ..unsupported import Unsupported
from .lists import needed, numbers, of_one_length, words
from .registry import Result, rule
from .scores import classes, feature_matrix, transformed, wide
from .site import Site
from .structured import Value

_DOMAIN = "ai.onnx.ml"
_MODES = {f"BRANCH_{name}": name for name in ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ")}
_AGGREGATES = ("average", "sum", "min", "max")
#: Features and targets are numbered by 32 bits.
_MOST = 1 << 31


class _Forest:
    """Nodes and leaves as the row `trees` wants them: a reference is a node's number, or the inverse of a leaf's."""

    def __init__(self, dtype: DType) -> None:
        self.dtype = dtype
        self.nodes: list[tuple[int, int, float, int, int]] = []  # feature, mode, split, references if true and if false
        self.leaves: list[list[tuple[int, float]]] = []  # targets and weights
        self.roots: list[int] = []

    def leaf(self, content: list[tuple[int, float]]) -> int:
        self.leaves.append(content)
        return ~(len(self.leaves) - 1)

    def node(self, feature: int, mode: str, split: float, missing: bool) -> int:
        """A node whose branches are set later, by `branch`."""
        self.nodes.append((feature, MODES.index(mode.lower()) + (len(MODES) if missing else 0), split, 0, 0))
        return len(self.nodes) - 1

    def branch(self, node: int, true: int, false: int) -> None:
        self.nodes[node] = (*self.nodes[node][:3], true, false)

    def _check(self) -> None:
        """Every way ends at a leaf."""
        done: set[int] = set()
        for root in self.roots:
            way, on = [(root, 0)], {root}
            while way:
                at, step = way.pop()
                if at < 0 or at in done or step == 2:
                    on.discard(at)
                    done.add(at)
                    continue
                way.append((at, step + 1))
                after = self.nodes[at][3] if step == 0 else self.nodes[at][4]
                if after in on:
                    raise Unsupported("a branch leads back to where it came from")
                if after >= 0 and after not in done:
                    on.add(after)
                    way.append((after, 0))

    def emit(self, site: Site, targets: int, aggregate: str) -> str:
        features = site.shape(0, 1, 2)[-1]
        most = features if isinstance(features, int) else _MOST
        if any(not 0 <= n[0] < most for n in self.nodes):
            raise Unsupported(f"a node looks at a feature that {site.type()} has not")
        if any(not 0 <= t < min(targets, _MOST) for leaf in self.leaves for t, _ in leaf):
            raise Unsupported(f"a leaf has a target beyond {targets}")
        self._check()
        feature, mode, split, true, false = zip(*(self.nodes or [(0, 0, 0.0, -1, -1)]), strict=True)
        starts = np.cumsum([0, *(len(leaf) for leaf in self.leaves)])
        flat = [item for leaf in self.leaves for item in leaf] or [(0, 0.0)]
        tables = [feature, mode, true, false, self.roots, starts, [t for t, _ in flat]]
        whole = [site.constant(np.array(table, np.int32)) for table in tables]
        real = [site.constant(np.array(table, self.dtype.np)) for table in (split, [w for _, w in flat])]
        return site.emit("trees", feature_matrix(site, self.dtype), *whole, *real, targets=targets, aggregate=aggregate)


def _ensemble(site: Site, what: str, dtype: DType) -> _Forest:
    """Trees of the older operators: nodes by tree and number; weights of leaves in lists whose names begin with `what`."""
    tree, number, true, false, feature = (
        needed(site, f"nodes_{n}").tolist() for n in ("treeids", "nodeids", "truenodeids", "falsenodeids", "featureids")
    )
    split = needed(site, "nodes_values", "nodes_values_as_tensor").tolist()
    modes = words(site, "nodes_modes")
    site.attribute("nodes_hitrates"), site.attribute("nodes_hitrates_as_tensor")
    missing = _tracks(site, len(modes))
    count = of_one_length(tree=tree, number=number, true=true, false=false, feature=feature, split=split, modes=modes)
    weights: dict[tuple[int, int], list[tuple[int, float]]] = {}
    rows = [needed(site, f"{what}_{n}").tolist() for n in ("treeids", "nodeids", "ids")]
    amounts = needed(site, f"{what}_weights", f"{what}_weights_as_tensor").tolist()
    of_one_length(trees=rows[0], nodes=rows[1], ids=rows[2], weights=amounts)
    for t, n, target, weight in zip(*rows, amounts, strict=True):
        weights.setdefault((t, n), []).append((target, weight))
    forest, places = _Forest(dtype), {}
    for i in range(count):
        key = (tree[i], number[i])
        if modes[i] == "LEAF":
            places[key] = forest.leaf(weights.get(key, []))
        elif modes[i] in _MODES:
            tracks = missing[i]
            places[key] = forest.node(feature[i], _MODES[modes[i]], split[i], tracks)
        else:
            raise Unsupported(f"nodes of mode {modes[i]!r} are not supported")
    children = set()
    for i in range(count):
        node = places[tree[i], number[i]]
        if node >= 0:
            below = [(tree[i], n) for n in (true[i], false[i])]
            if any(key not in places for key in below):
                raise Unsupported(f"node {number[i]} of tree {tree[i]} has a branch to no node")
            forest.branch(node, places[below[0]], places[below[1]])
            children.update(below)
    forest.roots = [places[key] for key in places if key not in children]
    if len(forest.roots) != len(set(tree)):
        raise Unsupported(f"{len(set(tree))} trees with {len(forest.roots)} roots")
    return forest


def _tracks(site: Site, count: int) -> list[bool]:
    """Of each node whether a missing feature passes."""
    given = numbers(site, "nodes_missing_value_tracks_true")
    if given is None or not len(given):
        return [False] * count
    if len(given) != count:
        raise Unsupported(f"nodes_missing_value_tracks_true has {len(given)} numbers for {count} nodes")
    return [bool(one) for one in given]


def _based(site: Site, scores: str, dtype: DType) -> str:
    base = numbers(site, "base_values", "base_values_as_tensor")
    return site.emit("add", scores, site.constant(base.astype(dtype.np))) if base is not None and len(base) else scores


@rule("TreeEnsembleRegressor", domain=_DOMAIN)
def tree_ensemble_regressor(site: Site) -> Result:
    dtype, aggregate = wide(site.type().dtype), site.get_str("aggregate_function", "SUM").lower()
    if aggregate not in _AGGREGATES:
        raise Unsupported(f"aggregate_function {aggregate!r} is not known")
    scores = _ensemble(site, "target", dtype).emit(site, site.get_int("n_targets", 1), aggregate)
    return site.cast(transformed(site, _based(site, scores, dtype)), f32)


@rule("TreeEnsembleClassifier", domain=_DOMAIN)
def tree_ensemble_classifier(site: Site) -> list[Value]:
    """Labels and scores; where all weights are of one of two classes, the other gets the rest or the negative."""
    dtype, labels = wide(site.type().dtype), classes(site, "classlabels_int64s")
    count = labels.count
    ids = set(needed(site, "class_ids").tolist())
    if count < 2:
        raise Unsupported(f"{count} classes are not supported")
    forest = _ensemble(site, "class", dtype)
    single = len(ids) == 1 and count == 2
    if single:
        forest.leaves = [[(0, weight) for _, weight in leaf] for leaf in forest.leaves]
    scores = _based(site, forest.emit(site, 1 if single else count, "sum"), dtype)
    if single:
        scores = site.slice(scores, 1, 0, 1)
        rest = site.emit("neg", scores)
        if site.get_str("post_transform", "NONE") == "NONE":
            rest = site.emit("add", rest, site.scalar(1.0, dtype))
        scores = site.emit("concat", rest, scores, axis=1)
    scores = transformed(site, scores)
    return [labels.best(site, scores), site.cast(scores, f32)]


@rule("TreeEnsemble", domain=_DOMAIN)
def tree_ensemble(site: Site) -> Result:
    """A node that asks for membership is one node for each member."""
    dtype = wide(site.type().dtype)
    lists = {
        n: needed(site, f"nodes_{n}").tolist() for n in ("featureids", "modes", "splits", "truenodeids", "falsenodeids")
    }
    lists |= {n: needed(site, f"nodes_{n}").tolist() for n in ("trueleafs", "falseleafs")}
    of_one_length(**lists)
    if not all(isinstance(mode, int) for mode in lists["modes"]):
        raise Unsupported("nodes_modes must be whole numbers")
    targets, weights = needed(site, "leaf_targetids").tolist(), needed(site, "leaf_weights").tolist()
    of_one_length(targets=targets, weights=weights)
    missing, roots = _tracks(site, len(lists["modes"])), needed(site, "tree_roots").tolist()
    site.attribute("nodes_hitrates")
    forest = _Forest(dtype)
    leaves = [forest.leaf([pair]) for pair in zip(targets, weights, strict=True)]
    first, last = [], []  # of the nodes that each becomes
    for i, members in enumerate(_members(site, lists["modes"], lists["splits"])):
        mode, tracks = lists["modes"][i], missing[i]
        name = "EQ" if mode == len(MODES) else MODES[mode].upper()
        made = [forest.node(lists["featureids"][i], name, value, tracks) for value in members]
        first.append(made[0])
        last.append(made)

    def reference(index: int, leaf: int) -> int:
        table = leaves if leaf else first
        if not 0 <= index < len(table):
            raise Unsupported(f"a branch to {'leaf' if leaf else 'node'} {index} of {len(table)}")
        return table[index]

    for i, made in enumerate(last):
        true = reference(lists["truenodeids"][i], lists["trueleafs"][i])
        false = reference(lists["falsenodeids"][i], lists["falseleafs"][i])
        for here, after in zip(made, [*made[1:], false], strict=True):
            forest.branch(here, true, after)
    for root in roots:
        same = lists["truenodeids"][root] == lists["falsenodeids"][root] if 0 <= root < len(first) else False
        alone = same and lists["trueleafs"][root] and lists["falseleafs"][root]
        forest.roots.append(reference(lists["truenodeids"][root] if alone else root, int(alone)))
    how = site.get_int("aggregate_function", 1)
    names: Mapping[int, str] = {0: "NONE", 1: "SOFTMAX", 2: "LOGISTIC"}
    post = names.get(site.get_int("post_transform", 0))
    if not 0 <= how < len(_AGGREGATES) or post is None:
        raise Unsupported("this aggregate_function or post_transform is not supported")
    scores = forest.emit(site, site.get_int("n_targets", 1), _AGGREGATES[how])
    if post != "NONE":
        scores = site.emit("sigmoid", scores) if post == "LOGISTIC" else site.emit("softmax", scores, axis=1)
    return site.cast(scores, site.type().dtype)


def _members(site: Site, modes: list[int], splits: list[float]) -> list[list[float]]:
    """What each node compares with: its split, or its set's members, of which none becomes NaN, which equals nothing."""
    pool = numbers(site, "membership_values")
    rest = [] if pool is None else pool.tolist()
    found = []
    for mode, split in zip(modes, splits, strict=True):
        if mode not in range(len(MODES) + 1):
            raise Unsupported(f"nodes of mode {mode} are not known")
        if mode < len(MODES):
            found.append([split])
            continue
        members = []
        while rest and not np.isnan(rest[0]):
            members.append(rest.pop(0))
        if not rest:
            raise Unsupported("membership_values does not end every set by a NaN")
        rest.pop(0)
        found.append(members or [float("nan")])
    return found
