"""Rules of sums of products: matrix products, Einsum, convolutions."""

from __future__ import annotations

from ....ir.dims import Dim, product
from ..transposed import transposed_conv
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site
from .window import window_attributes

Ints = tuple[int, ...]


@rule("MatMul")
def matmul(site: Site) -> Result:
    return site.emit("matmul", site.x(0), site.x(1))


@rule("Gemm")
def gemm(site: Site) -> Result:
    return affine(site)


def affine(site: Site) -> str:
    """alpha * a' @ b' + beta * c."""
    dtype = site.type().dtype
    if site.type(0).rank != 2 or site.type(1).rank != 2:
        raise Unsupported(f"needs matrices, got {site.type(0)} and {site.type(1)}")
    a = site.transpose(site.x(0), (1, 0) if site.get_int("transA") else (0, 1))
    b = site.transpose(site.x(1), (1, 0) if site.get_int("transB") else (0, 1))
    value = site.emit("matmul", a, b)
    alpha, beta = site.get_float("alpha", 1.0), site.get_float("beta", 1.0)
    if alpha != 1.0:
        value = site.emit("mul", value, site.scalar(alpha, dtype))
    if site.has(2) and beta != 0.0:
        c = site.x(2)
        if beta != 1.0:
            c = site.emit("mul", c, site.scalar(beta, dtype))
        value = site.emit("add", value, c)
    return value


# -- einsum


def _labels(site: Site) -> tuple[list[str], str]:
    """One string of labels per input and one for the output; an ellipsis becomes digits, aligned at the right."""
    equation = site.get_str("equation").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != site.count:
        raise Unsupported(f"equation {equation!r} has {len(terms)} terms for {site.count} inputs")
    widest = 0
    ranks = []
    for index, term in enumerate(terms):
        extra = site.type(index).rank - len(term.replace("...", ""))
        if extra < 0 or ("..." not in term and extra) or term.count("...") > 1:
            raise Unsupported(f"term {term!r} of {equation!r} does not fit {site.type(index)}")
        ranks.append(extra)
        widest = max(widest, extra)
    if widest > 10:
        raise Unsupported(f"equation {equation!r} has too many axes under '...'")
    digits = "0123456789"[:widest]
    whole = [t.replace("...", digits[widest - n :]) for t, n in zip(terms, ranks, strict=True)]
    if arrow:
        out = right.replace("...", digits)
    else:
        seen = "".join(whole)
        out = digits + "".join(sorted(c for c in set(seen) if c.isalpha() and seen.count(c) == 1))
    if len(set(out)) != len(out) or not set(out) <= set("".join(whole)):
        raise Unsupported(f"the result of the equation {equation!r} is not valid")
    return whole, out


@rule("Einsum")
def einsum(site: Site) -> Result:
    """Input after input: each pair as one batched matrix product."""
    terms, out = _labels(site)
    values = []
    for index, term in enumerate(terms):
        value, terms[index] = _diagonal(site, site.x(index), term)
        values.append(value)
    extents: dict[str, Dim] = {}
    for term, value in zip(terms, values, strict=True):
        for label, extent in zip(term, site.type_of(value).shape, strict=True):
            if extents.setdefault(label, extent) == 1:
                extents[label] = extent
            if extent != extents[label] and extent != 1:
                raise Unsupported(f"label {label!r} is {extents[label]} in one input and {extent} in another")
    value, have = _summed(site, values[0], terms[0], set(out).union(*terms[1:]))
    for index in range(1, len(terms)):
        later = set(out).union(*terms[index + 1 :])
        other, labels = _summed(site, values[index], terms[index], later | set(have))
        value, have = _pair(site, (value, have), (other, labels), later)
    return site.expand(site.transpose(value, [have.index(c) for c in out]), [extents[c] for c in out])


def _diagonal(site: Site, value: str, labels: str) -> tuple[str, str]:
    """Axes of one label become one: every (n + 1)-th element of two axes of n seen as one."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            shape = site.type_of(value).shape
            extent = shape[first]
            if shape[second] != extent or not isinstance(extent, int):
                raise Unsupported(f"label {label!r} is {extent} and {shape[second]} in one term", "use --dim NAME=N")
            rest = [a for a in range(len(shape)) if a not in (first, second)]
            value = site.transpose(value, [first, second, *rest])
            tail = [shape[a] for a in rest]
            value = site.slice(site.reshape(value, (extent * extent, *tail)), 0, 0, extent, extent + 1)
            labels = label + "".join(labels[a] for a in rest)
    return value, labels


def _summed(site: Site, value: str, labels: str, kept: set[str]) -> tuple[str, str]:
    """Labels that nothing else has are summed at once."""
    axes = tuple(a for a, c in enumerate(labels) if c not in kept)
    if not axes:
        return value, labels
    return site.emit("reduce_sum", value, axes=axes, keepdims=False), "".join(c for c in labels if c in kept)


def _pair(site: Site, left: tuple[str, str], right: tuple[str, str], kept: set[str]) -> tuple[str, str]:
    (a, a_labels), (b, b_labels) = left, right
    shared = [c for c in a_labels if c in b_labels]
    sizes = dict(zip(a_labels, site.type_of(a).shape, strict=True))
    other = dict(zip(b_labels, site.type_of(b).shape, strict=True))
    summed = [c for c in shared if c not in kept]
    if any(sizes[c] != other[c] for c in summed):
        raise Unsupported("an axis of extent 1 is summed against a longer one")
    batch = [c for c in shared if c in kept]
    rows, columns = [c for c in a_labels if c not in b_labels], [c for c in b_labels if c not in a_labels]
    a = site.transpose(a, [a_labels.index(c) for c in (*batch, *rows, *summed)])
    b = site.transpose(b, [b_labels.index(c) for c in (*batch, *summed, *columns)])
    inner = product(sizes[c] for c in summed)
    a = site.reshape(a, (*(sizes[c] for c in batch), product(sizes[c] for c in rows), inner))
    b = site.reshape(b, (*(other[c] for c in batch), inner, product(other[c] for c in columns)))
    value = site.emit("matmul", a, b)
    lead = site.type_of(value).shape[: len(batch)]
    value = site.reshape(value, (*lead, *(sizes[c] for c in rows), *(other[c] for c in columns)))
    return value, "".join((*batch, *rows, *columns))


# -- convolution


@rule("Conv")
def conv(site: Site) -> Result:
    return convolved(site)


def convolved(site: Site) -> str:
    """The convolution of input 0 by the filter in input 1, with a bias in input 2."""
    return convolution(site, site.x(0), site.x(1), *([site.x(2)] if site.has(2) else []))


def convolution(site: Site, x: str, w: str, *bias: str) -> str:
    """A convolution of values, as the attributes of a node of the Conv family say whose input 0 has the shape of `x`."""
    filter, spatial = site.type_of(w), site.type_of(x).rank - 2
    if not 1 <= spatial <= 3 or filter.rank != spatial + 2:
        raise Unsupported(f"convolution over {spatial} axes by a filter {filter} is not supported")
    kernel = site.get_ints("kernel_shape") or filter.shape[2:]
    if tuple(kernel) != filter.shape[2:]:
        raise Unsupported(f"kernel_shape {list(kernel)} does not fit the filter {filter}")
    strides, pads, dilations = window_attributes(site, kernel)  # type: ignore[arg-type]
    groups = site.get_int("group", 1)
    return site.emit("conv", x, w, *bias, strides=strides, pads=pads, dilations=dilations, groups=groups)


def _cut_off(site: Site, reach: Ints, strides: Ints, extra: Ints) -> Ints:
    """What is cut off the full output: all begins, then all ends; may be negative."""
    n = len(reach)
    auto = site.get_str("auto_pad", "NOTSET")
    wanted = site.get_ints("output_shape")
    if wanted is None and auto in ("NOTSET", "VALID", ""):
        pads = site.get_ints("pads") or (0,) * (2 * n)
        return (0,) * (2 * n) if auto == "VALID" else pads
    totals = [r + e - s for r, e, s in zip(reach, extra, strides, strict=True)]  # output = stride * input
    if wanted is not None:
        extents = site.type().shape[2:]
        if len(wanted) not in (n, n + 2):
            raise Unsupported(f"output_shape {list(wanted)} for {n} spatial axes")
        wanted = wanted[-n:]
        for i, extent in enumerate(extents):
            total = strides[i] * (extent - 1) + extra[i] + reach[i] - wanted[i]
            if not isinstance(total, int):
                raise Unsupported(f"output_shape {list(wanted)} for the extent {extent}", "fix it with --dim NAME=N")
            totals[i] = total
    small = [t // 2 for t in totals]
    large = [t - t // 2 for t in totals]
    return (*small, *large) if auto == "SAME_UPPER" else (*large, *small)


@rule("ConvTranspose")
def conv_transpose(site: Site) -> Result:
    x, w = site.type(0), site.type(1)
    n = x.rank - 2
    kernel = tuple(k for k in w.shape[2:] if isinstance(k, int))
    fits = w.rank == x.rank and len(kernel) == n and (site.get_ints("kernel_shape") or kernel) == kernel
    if not 1 <= n <= 3 or not fits or not all(kernel):
        raise Unsupported(f"a filter {w} for an input {x}")
    ones, zeros = (1,) * n, (0,) * n
    strides, dilations = site.get_ints("strides") or ones, site.get_ints("dilations") or ones
    extra = site.get_ints("output_padding") or zeros
    if len(strides) != n or len(dilations) != n or len(extra) != n or min(*strides, *dilations) < 1:
        raise Unsupported(f"strides {strides}, dilations {dilations}, output_padding {extra} for {n} spatial axes")
    groups = site.get_int("group", 1)
    if (
        groups < 1
        or not isinstance(w.shape[0], int)
        or not isinstance(w.shape[1], int)
        or w.shape[0] % groups
        or x.shape[1] != w.shape[0]
    ):
        raise Unsupported(f"a filter {w} in {groups} groups for an input {x}")
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True))
    pads = _cut_off(site, reach, strides, extra)
    if len(pads) != 2 * n:
        raise Unsupported(f"pads {list(pads)} for {n} spatial axes")
    value = transposed_conv(site, site.x(0), site.x(1), strides, dilations, pads, extra, groups)
    if site.has(2):
        value = site.emit("add", value, site.reshape(site.x(2), (w.shape[1] * groups, *ones)))
    return value
