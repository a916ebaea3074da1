"""Products of 8-bit integers in the form in which kernels compute them: u8 less one number for all elements, by constant i8, summed
in i32. Zero points of either side, and the signs of their types, go into that form exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...ir.dims import product
from ...ir.graph import Graph, Node
from ...ir.types import DType, f32, i8, i16, i32, u8
from .match import is_constant
from .rebuild import Rebuild, rebuild

PRODUCTS = ("matmul", "conv")
_HALF = 128  # what lies between i8 and u8


@dataclass(frozen=True)
class Centred:
    """Elements of u8 or i8 less zero points, which broadcast to them (empty: there are none)."""

    number: str
    zero: str = ""


def centring(graph: Graph) -> frozenset[str]:
    """Values in i32 that make 8-bit integers wider for a product: casts of them, and these less zero points."""
    users: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for value in node.used:
            users.setdefault(value, []).append(node)
    found: set[str] = set()
    for node in reversed(graph.nodes):
        if node.op not in ("cast", "sub") or graph.types[node.output].dtype != i32:
            continue
        wide = node.op == "sub" or graph.types[node.inputs[0]].dtype in (u8, i8)
        if wide and any(user.op in PRODUCTS or user.output in found for user in users.get(node.output, ())):
            found.add(node.output)
    return frozenset(found)


def known(work: Rebuild, value: str) -> np.ndarray | None:
    """The elements of a small constant, be it cast or reshaped, or None."""
    found, node = work.constant(value), work.producer(value)
    if found is not None or node is None or node.op not in ("cast", "reshape"):
        return found
    inner = known(work, node.inputs[0])
    if inner is None or work.type(value).dtype.is_narrow:
        return None
    return inner.astype(work.type(value).dtype.np).reshape(tuple(int(str(d)) for d in work.shape(value)))


def centred(work: Rebuild, value: str, wide: DType) -> Centred | None:
    """A value of type `wide` that 8-bit integers were made, less zero points."""
    node, zero = work.producer(value), ""
    if node is not None and node.op == "transpose":
        inner = centred(work, node.inputs[0], wide)
        if inner is None or (inner.zero and product(work.shape(inner.zero)) != 1):
            return None
        return replace(inner, number=work.emit("transpose", inner.number, like=node, **dict(node.attrs)))
    if node is not None and node.op == "sub":
        (value, zero), shape = node.inputs, work.shape(node.output)
        node = work.producer(value) if work.shape(value) == shape else None
    if node is None or node.op != "cast" or work.type(value).dtype != wide:
        return None
    (number,) = node.inputs
    return Centred(number, zero) if work.type(number).dtype in (u8, i8) else None


def whole_product(work: Rebuild, node: Node, left: Centred, right: Centred) -> str | None:
    """The contraction `node` of two such operands in i32, or None where kernels have no form of it."""
    if node.op == "conv" and node.attr("groups", 1) > 1 and work.shape(right.number)[1] == 1:
        return None  # loops over channels
    pixels, numbers = _left(work, node, left), _right(work, node, right)
    if pixels is None or numbers is None:
        return None
    filters, zeros = numbers
    if zeros.any() and (node.op == "conv" or not _along_columns(zeros, work.shape(filters))):
        return None
    wide = work.emit("cast", filters, like=node, to=i32)
    found = work.emit(node.op, pixels, wide, like=node, **dict(node.attrs))
    if zeros.any():
        rows = work.emit("reduce_sum", pixels, like=node, axes=(work.type(pixels).rank - 1,), keepdims=True)
        column = work.builder.constant(zeros.reshape(-1).astype(np.int32))
        found = work.emit("sub", found, work.emit("mul", rows, column, like=node), like=node)
    return found


def _along_columns(zeros: np.ndarray, shape: tuple[object, ...]) -> bool:
    """Whether zero points of a right operand differ from column to column at most."""
    return zeros.size == 1 or (zeros.shape[-1:] == shape[-1:] and zeros.size == zeros.shape[-1])


def _left(work: Rebuild, like: Node, operand: Centred) -> str | None:
    """u8 less one number, in i32."""
    number, zero = operand.number, operand.zero
    signed = work.type(number).dtype == i8
    point: str | int = 0
    if zero:
        if product(work.shape(zero)) != 1:
            return None
        array = known(work, zero)
        point = int(array.flat[0]) if array is not None else _narrow(work, zero)
    if point == "":
        return None
    if signed:
        number = _unsigned(work, like, number)
    if isinstance(point, str):
        if work.type(point).dtype == i8:
            point = _unsigned(work, like, point)
        taken = work.emit("cast", work.emit("reshape", point, like=like, shape=()), like=like, to=i32)
    else:
        point += _HALF if signed else 0
        if not 0 <= point <= u8.limits[1]:
            return None
        taken = work.emit("fill", like=like, value=float(point), shape=(), dtype=i32)
    wide = work.emit("cast", number, like=like, to=i32)
    return wide if point == 0 else work.emit("sub", wide, taken, like=like)


def _narrow(work: Rebuild, value: str) -> str:
    """The 8-bit integer that a zero point was before it was cast and reshaped, or nothing."""
    node = work.producer(value)
    while node is not None and node.op in ("cast", "reshape") and work.type(value).dtype not in (u8, i8):
        value = node.inputs[0]
        node = work.producer(value)
    return value if work.type(value).dtype in (u8, i8) else ""


def _unsigned(work: Rebuild, like: Node, number: str) -> str:
    """i8 as u8, each element 128 greater. What was just rounded to i8 is rounded to u8 in its place."""
    made = work.producer(number, "cast")
    clip = work.producer(made.inputs[0], "clip") if made is not None else None
    low, high = (float(limit) for limit in i8.limits)
    if clip is not None and work.type(clip.output).dtype == f32 and (clip.attr("min"), clip.attr("max")) == (low, high):
        value = clip.output
    else:
        value = work.emit("cast", number, like=like, to=f32)
    half = work.emit("fill", like=like, value=float(_HALF), shape=(), dtype=f32)
    return work.emit("cast", work.emit("add", value, half, like=like), like=like, to=u8)


def _right(work: Rebuild, like: Node, operand: Centred) -> tuple[str, np.ndarray] | None:
    """A constant as i8, and the zero points that are left."""
    number, zeros = operand.number, np.zeros(1, np.int64)
    if not is_constant(work, number):
        return None
    if operand.zero:
        array = known(work, operand.zero)
        if array is None:
            return None
        zeros = array.astype(np.int64)
    if work.type(number).dtype == u8:
        half = work.emit("fill", like=like, value=float(_HALF), shape=(), dtype=i16)
        number = work.emit("sub", work.emit("cast", number, like=like, to=i16), half, like=like)
        number, zeros = work.emit("cast", number, like=like, to=i8), zeros - _HALF
    return number, zeros


def _of_integers(work: Rebuild, node: Node) -> str | None:
    if work.old.types[node.output].dtype != i32 or len(node.inputs) > 2:
        return None
    left, right = (centred(work, value, i32) for value in node.inputs)
    if left is None or right is None:
        return None
    return whole_product(work, node, left, right)


def whole_products(graph: Graph) -> Graph:
    """Products of 8-bit integers by constants have the one form that kernels compute."""
    return rebuild(graph, dict.fromkeys(PRODUCTS, (_of_integers,)))
