"""Rules of ai.onnx.ml: preparation of features, linear models and ensembles of trees."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ....ir.ops_trees import MODES
from ....ir.types import DType, f32, f64
from ..unsupported import Unsupported
from .lists import needed, numbers, of_one_length, words
from .registry import Result, rule
from .site import Site

_DOMAIN = "ai.onnx.ml"


def _wide(dtype: DType) -> DType:
    """What features of a type are computed in."""
    return f64 if dtype == f64 else f32


def _matrix(site: Site, dtype: DType) -> str:
    """The features as [rows, features]."""
    x, type = site.cast(site.x(), dtype), site.type()
    if type.rank == 1:
        return site.reshape(x, (1, *type.shape))
    if type.rank != 2:
        raise Unsupported(f"takes [rows, features], got {type}")
    return x


# -- features


@rule("Binarizer", domain=_DOMAIN)
def binarizer(site: Site) -> Result:
    """1 above the threshold, else 0."""
    dtype = site.type().dtype
    wide = dtype if dtype.is_float else f64
    above = site.emit("gt", site.cast(site.x(), wide), site.scalar(site.get_float("threshold"), wide))
    return site.cast(above, dtype)


@rule("Scaler", domain=_DOMAIN)
def scaler(site: Site) -> Result:
    """(x - offset) * scale, in f32."""
    value = site.cast(site.x(), f32)
    for op, name in (("sub", "offset"), ("mul", "scale")):
        found = numbers(site, name)
        if found is not None and len(found):
            value = site.emit(op, value, site.constant(found if len(found) > 1 else found[0]))
    return value


@rule("Normalizer", domain=_DOMAIN)
def normalizer(site: Site) -> Result:
    """Rows divided by their greatest magnitude, their sum of magnitudes or their length."""
    norm, x = site.get_str("norm", "MAX"), site.cast(site.x(), f32)
    axis = site.type().rank - 1
    if norm not in ("MAX", "L1", "L2") or axis < 0:
        raise Unsupported(f"norm {norm!r} of {site.type()} is not supported")
    size = site.emit("mul", x, x) if norm == "L2" else site.emit("abs", x)
    total = site.emit("reduce_max" if norm == "MAX" else "reduce_sum", size, axes=(axis,), keepdims=True)
    if norm == "L2":
        total = site.emit("sqrt", total)
    return site.emit("div", x, site.emit("max", total, site.scalar(1e-30, f32)))


@rule("Imputer", domain=_DOMAIN)
def imputer(site: Site) -> Result:
    """One value, or one for each feature, in place of those that are missing."""
    x, dtype = site.x(), site.type().dtype
    values = needed(site, "imputed_value_floats" if dtype.is_float else "imputed_value_int64s").astype(dtype.np)
    other = "replaced_value_int64" if dtype.is_float else "replaced_value_float"
    site.attribute(other), site.attribute("imputed_value_int64s" if dtype.is_float else "imputed_value_floats")
    if dtype.is_float:
        missing = site.get_float("replaced_value_float")
        here = site.emit("isnan", x) if np.isnan(missing) else site.emit("eq", x, site.scalar(missing, dtype))
    else:
        here = site.emit("eq", x, site.scalar(site.get_int("replaced_value_int64"), dtype))
    return site.emit("where", here, site.constant(values if len(values) > 1 else values[0]), x)


@rule("ArrayFeatureExtractor", domain=_DOMAIN)
def array_feature_extractor(site: Site) -> Result:
    """Elements of the last axis; a row is a matrix of one."""
    x, shape = site.x(), site.type().shape
    index = site.reshape(site.x(1), (site.type(1).elements,))
    if len(shape) == 1:
        x = site.reshape(x, (1, *shape))
    return site.emit("gather", x, index, axis=max(len(shape) - 1, 1))


@rule("OneHotEncoder", domain=_DOMAIN)
def one_hot_encoder(site: Site) -> Result:
    """A new last axis with 1 where the element is that category; what is none of them gives zeros."""
    categories = numbers(site, "cats_int64s")
    if categories is None or not len(categories):
        raise Unsupported("only categories that are numbers are supported")
    if not site.get_int("zeros", 1):
        raise Unsupported("zeros = 0 is not supported", "a plan cannot fail for what its inputs hold")
    x, shape, dtype = site.x(), site.type().shape, site.type().dtype
    same = site.emit("eq", site.reshape(x, (*shape, 1)), site.constant(categories.astype(dtype.np)))
    return site.cast(same, f32)


@rule("FeatureVectorizer", domain=_DOMAIN)
def feature_vectorizer(site: Site) -> Result:
    """Inputs side by side in f32, each cut or padded with zeros to its number of features."""
    sizes, parts = needed(site, "inputdimensions"), []
    if len(sizes) != site.count:
        raise Unsupported(f"inputdimensions names {len(sizes)} of {site.count} inputs")
    for index, size in enumerate(int(s) for s in sizes):
        x, type = site.cast(site.x(index), f32), site.type(index)
        x = site.reshape(x, (*type.shape, 1)) if type.rank == 1 else x
        have = site.type_of(x).shape
        if len(have) != 2 or not isinstance(have[1], int):
            raise Unsupported(f"takes [rows, features], got {type}")
        if size > have[1]:
            x = site.emit("pad", x, pads=(0, 0, 0, size - have[1]))
        parts.append(site.slice(x, 1, 0, size) if size < have[1] else x)
    return site.emit("concat", *parts, axis=1)


# -- models


def _transformed(site: Site, scores: str) -> str:
    """Scores [rows, n] after `post_transform`."""
    name = site.get_str("post_transform", "NONE")
    match name:
        case "NONE":
            return scores
        case "LOGISTIC":
            return site.emit("sigmoid", scores)
        case "SOFTMAX":
            return site.emit("softmax", scores, axis=1)
    raise Unsupported(f"post_transform {name!r} is not supported")


def _linear(site: Site, outputs: int, dtype: DType) -> str:
    """x @ coefficients' + intercepts."""
    weights = needed(site, "coefficients").astype(dtype.np)
    if outputs < 1 or len(weights) % outputs:
        raise Unsupported(f"{len(weights)} coefficients for {outputs} outputs")
    value = site.emit(
        "matmul", _matrix(site, dtype), site.constant(np.ascontiguousarray(weights.reshape(outputs, -1).T))
    )
    offsets = numbers(site, "intercepts")
    return (
        site.emit("add", value, site.constant(offsets.astype(dtype.np)))
        if offsets is not None and len(offsets)
        else value
    )


@rule("LinearRegressor", domain=_DOMAIN)
def linear_regressor(site: Site) -> Result:
    return _transformed(site, _linear(site, site.get_int("targets", 1), _wide(site.type().dtype)))


def _labels(site: Site, scores: str, whole: np.ndarray | None, named: list[str]) -> str:
    """The label of the greatest score of each row."""
    if named and site.used(0):
        raise Unsupported("labels that are strings are not supported")
    best = site.emit("argmax", scores, axis=1, keepdims=False)
    return best if whole is None else site.emit("gather", site.constant(whole), best, axis=0)


@rule("LinearClassifier", domain=_DOMAIN)
def linear_classifier(site: Site) -> list[Result]:
    """Labels and scores; of two classes with one score the other is its negative."""
    dtype, whole, named = (
        _wide(site.type().dtype),
        numbers(site, "classlabels_ints"),
        words(site, "classlabels_strings"),
    )
    site.attribute("multi_class")
    features = site.type().shape[-1]
    if not isinstance(features, int) or not features:
        raise Unsupported(f"takes [rows, features], got {site.type()}")
    scores = _linear(site, len(needed(site, "coefficients")) // features, dtype)
    count = max(len(named), 0 if whole is None else len(whole))
    if site.type_of(scores).shape[1] == 1:
        if count != 2:
            raise Unsupported(f"one score for {count} classes is not supported")
        scores = site.emit("concat", site.emit("neg", scores), scores, axis=1)
    scores = _transformed(site, scores)
    return [_labels(site, scores, whole, named), site.cast(scores, f32)]


# -- trees

_MODES = {f"BRANCH_{name}": name for name in ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ")}
_AGGREGATES = ("average", "sum", "min", "max")


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
        features = site.type().shape[-1]
        if isinstance(features, int) and any(not 0 <= n[0] < features for n in self.nodes):
            raise Unsupported(f"a node looks at a feature that {site.type()} has not")
        if any(not 0 <= t < targets for leaf in self.leaves for t, _ in leaf):
            raise Unsupported(f"a leaf has a target beyond {targets}")
        self._check()
        feature, mode, split, true, false = zip(*(self.nodes or [(0, 0, 0.0, -1, -1)]), strict=True)
        starts = np.cumsum([0, *(len(leaf) for leaf in self.leaves)])
        flat = [item for leaf in self.leaves for item in leaf] or [(0, 0.0)]
        tables = [feature, mode, true, false, self.roots, starts, [t for t, _ in flat]]
        whole = [site.constant(np.array(table, np.int32)) for table in tables]
        real = [site.constant(np.array(table, self.dtype.np)) for table in (split, [w for _, w in flat])]
        return site.emit("trees", _matrix(site, self.dtype), *whole, *real, targets=targets, aggregate=aggregate)


def _ensemble(site: Site, what: str, dtype: DType) -> _Forest:
    """Trees of the older operators: nodes by tree and number; weights of leaves in lists whose names begin with `what`."""
    tree, number, true, false, feature = (
        needed(site, f"nodes_{n}").tolist() for n in ("treeids", "nodeids", "truenodeids", "falsenodeids", "featureids")
    )
    split = needed(site, "nodes_values", "nodes_values_as_tensor").tolist()
    modes, missing = words(site, "nodes_modes"), numbers(site, "nodes_missing_value_tracks_true")
    site.attribute("nodes_hitrates"), site.attribute("nodes_hitrates_as_tensor")
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
            tracks = bool(missing is not None and len(missing) and missing[i])
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


def _based(site: Site, scores: str, dtype: DType) -> str:
    base = numbers(site, "base_values", "base_values_as_tensor")
    return site.emit("add", scores, site.constant(base.astype(dtype.np))) if base is not None and len(base) else scores


@rule("TreeEnsembleRegressor", domain=_DOMAIN)
def tree_ensemble_regressor(site: Site) -> Result:
    dtype, aggregate = _wide(site.type().dtype), site.get_str("aggregate_function", "SUM").lower()
    if aggregate not in _AGGREGATES:
        raise Unsupported(f"aggregate_function {aggregate!r} is not known")
    scores = _ensemble(site, "target", dtype).emit(site, site.get_int("n_targets", 1), aggregate)
    return site.cast(_transformed(site, _based(site, scores, dtype)), f32)


@rule("TreeEnsembleClassifier", domain=_DOMAIN)
def tree_ensemble_classifier(site: Site) -> list[Result]:
    """Labels and scores; where all weights are of one of two classes, the other gets the rest or the negative."""
    dtype, whole, named = (
        _wide(site.type().dtype),
        numbers(site, "classlabels_int64s"),
        words(site, "classlabels_strings"),
    )
    count = max(len(named), 0 if whole is None else len(whole))
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
    scores = _transformed(site, scores)
    return [_labels(site, scores, whole, named), site.cast(scores, f32)]


@rule("TreeEnsemble", domain=_DOMAIN)
def tree_ensemble(site: Site) -> Result:
    """A node that asks for membership is one node for each member."""
    dtype = _wide(site.type().dtype)
    lists = {
        n: needed(site, f"nodes_{n}").tolist() for n in ("featureids", "modes", "splits", "truenodeids", "falsenodeids")
    }
    lists |= {n: needed(site, f"nodes_{n}").tolist() for n in ("trueleafs", "falseleafs")}
    of_one_length(**lists)
    targets, weights = needed(site, "leaf_targetids").tolist(), needed(site, "leaf_weights").tolist()
    of_one_length(targets=targets, weights=weights)
    missing, roots = numbers(site, "nodes_missing_value_tracks_true"), needed(site, "tree_roots").tolist()
    site.attribute("nodes_hitrates")
    forest = _Forest(dtype)
    leaves = [forest.leaf([pair]) for pair in zip(targets, weights, strict=True)]
    first, last = [], []  # of the nodes that each becomes
    for i, members in enumerate(_members(site, lists["modes"], lists["splits"])):
        mode, tracks = lists["modes"][i], bool(missing is not None and len(missing) and missing[i])
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
        if not 0 <= mode <= len(MODES):
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
