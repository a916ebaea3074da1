"""The rule of TfIdfVectorizer: how often each n-gram of a pool occurs."""

from __future__ import annotations

import itertools

import numpy as np

from ....ir.dims import Dim
from ....ir.types import f32
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site

#: Columns that the result may have, and places that may lie between the elements of an n-gram.
_WIDEST, _APART = 1 << 24, 1 << 9
#: Elements of a matrix that moves counts to their columns.
_MATRIX = 1 << 28


def _pool(site: Site, shortest: int, longest: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each length n the n-grams [count, n], and their columns of the result; of equal ones the last."""
    pool, starts = site.get_ints("pool_int64s"), site.get_ints("ngram_counts") or ()
    columns = site.get_ints("ngram_indexes") or ()
    if pool is None:
        raise Unsupported("only pools of numbers are supported")
    found, number = [], 0
    for n, (begin, end) in enumerate(itertools.pairwise((*starts, len(pool))), 1):
        if not 0 <= begin <= end <= len(pool) or (end - begin) % n:
            raise Unsupported(f"ngram_counts {list(starts)} do not fit a pool of {len(pool)}")
        grams = [pool[i : i + n] for i in range(begin, end, n)]
        own = columns[number : number + len(grams)]
        number += len(grams)
        if len(own) != len(grams):
            raise Unsupported(f"{len(columns)} ngram_indexes for more n-grams")
        last = dict(zip(grams, own, strict=True))
        if last and shortest <= n <= longest:
            found.append((np.array(list(last), np.int64).reshape(-1, n), np.array(list(last.values()), np.int64)))
    return found


@rule("TfIdfVectorizer")
def tfidf(site: Site) -> Result:
    """Every n-gram against every place where it may begin, its elements up to max_skip_count + 1 apart."""
    type = site.type()
    if type.rank not in (1, 2) or not type.dtype.is_integer:
        raise Unsupported(f"takes whole numbers [C] or [N, C], got {type}")
    mode, skips = site.get_str("mode"), site.get_int("max_skip_count")
    shortest, longest = site.get_int("min_gram_length"), site.get_int("max_gram_length")
    if mode not in ("TF", "IDF", "TFIDF"):
        raise Unsupported(f"mode {mode!r} is not known")
    rows: Dim = type.shape[0] if type.rank == 2 else 1
    width = type.shape[-1]
    x = site.reshape(site.x(), (rows, width, 1))
    indexes = site.get_ints("ngram_indexes") or ()
    if not all(0 <= one < _WIDEST for one in indexes) or skips > _APART:
        ends = min(indexes, default=0), max(indexes, default=0)
        raise Unsupported(f"ngram_indexes from {ends[0]} to {ends[1]} with max_skip_count = {skips}")
    size = max(indexes, default=-1) + 1
    counts, columns = [], []
    for grams, own in _pool(site, shortest, longest):
        total = ""
        for apart in range(1, 2 if grams.shape[1] == 1 else skips + 2):
            places = site.facts.maximum(0, width - apart * (grams.shape[1] - 1))
            if places == 0:  # for all that lie further apart, too
                break
            hits = ""
            for j in range(grams.shape[1]):
                wanted = site.constant(grams[:, j].astype(type.dtype.np).reshape(1, 1, -1))
                hit = site.emit("eq", site.slice(x, 1, j * apart, places), wanted)
                hits = site.emit("and", hits, hit) if hits else hit
            found = site.emit("reduce_sum", site.cast(hits, f32), axes=(1,), keepdims=False)
            total = site.emit("add", total, found) if total else found
        if total:
            counts.append(total)
            columns.append(own)
    result = _placed(site, counts, columns, rows, size)
    weights = site.get_floats("weights") or ()
    if mode == "IDF":
        result = site.cast(site.emit("gt", result, site.scalar(0.0, f32)), f32)
    if mode != "TF" and weights:
        if len(weights) < size:
            raise Unsupported(f"{len(weights)} weights for {size} columns")
        result = site.emit("mul", result, site.constant(np.array(weights[:size], np.float32)))
    return site.reshape(result, (rows, size) if type.rank == 2 else (size,))


def _placed(site: Site, counts: list[str], columns: list[np.ndarray], rows: Dim, size: int) -> str:
    """Counts [rows, n] moved to their columns, zero where no n-gram has one; several of one column add up."""
    zeros = site.expand(site.scalar(0.0, f32), (rows, 1))
    if not counts:
        return site.expand(site.scalar(0.0, f32), (rows, size))
    order = np.concatenate(columns)
    value = site.emit("concat", zeros, *counts, axis=1)
    if len(set(order.tolist())) == len(order):
        source = np.zeros(size, np.int64)
        source[order] = 1 + np.arange(len(order))
        return site.emit("gather", value, site.constant(source), axis=1)
    if len(order) * size > _MATRIX:
        raise Unsupported(f"{len(order)} n-grams in {size} columns, several in one of them")
    chosen = np.zeros((1 + len(order), size), np.float32)
    chosen[1 + np.arange(len(order)), order] = 1
    return site.emit("matmul", value, site.constant(chosen))
