"""Element types and tensor types."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .dims import Dim, Expr, Shape, product


@dataclass(frozen=True)
class DType:
    """An element type. `numpy` and `c` are what holds one element: floats that numpy lacks are their bits in an unsigned
    integer, types of fewer than 8 bits one element in a byte (files pack them: `TensorType.file_bytes`)."""

    name: str
    bits: int
    kind: str  # "float", "int", "uint", "bool", "string"
    numpy: str
    c: str
    onnx: int  # TensorProto.DataType

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        return self.kind in ("int", "uint")

    @property
    def bytes(self) -> int:
        """Bytes of one element; types of fewer than 8 bits take one."""
        return max(1, self.bits // 8)

    @property
    def wide(self) -> DType:
        """The type that elements are computed in: f32 for narrower floats, 8 bits for narrower integers, else its own."""
        if self.is_float:
            return f32 if self.bits < 32 else self
        return {"int": i8, "uint": u8}[self.kind] if self.is_integer and self.bits < 8 else self

    @property
    def is_narrow(self) -> bool:
        """Whether elements are widened to be computed with, and results rounded."""
        return self.wide != self

    @property
    def limits(self) -> tuple[int, int]:
        """The least and greatest value of an integer type."""
        top = 1 << (self.bits - (self.kind != "uint"))
        return (0 if self.kind == "uint" else -top), top - 1

    @property
    def np(self) -> np.dtype:
        """The numpy type of the storage."""
        return np.dtype(self.numpy)


f64 = DType("f64", 64, "float", "float64", "double", 11)
f32 = DType("f32", 32, "float", "float32", "float", 1)
f16 = DType("f16", 16, "float", "float16", "uint16_t", 10)
bf16 = DType("bf16", 16, "float", "uint16", "uint16_t", 16)
f8e4m3 = DType("f8e4m3", 8, "float", "uint8", "uint8_t", 17)
f8e4m3fnuz = DType("f8e4m3fnuz", 8, "float", "uint8", "uint8_t", 18)
f8e5m2 = DType("f8e5m2", 8, "float", "uint8", "uint8_t", 19)
f8e5m2fnuz = DType("f8e5m2fnuz", 8, "float", "uint8", "uint8_t", 20)
f8e8m0 = DType("f8e8m0", 8, "float", "uint8", "uint8_t", 24)
f4e2m1 = DType("f4e2m1", 4, "float", "uint8", "uint8_t", 23)
i64 = DType("i64", 64, "int", "int64", "int64_t", 7)
i32 = DType("i32", 32, "int", "int32", "int32_t", 6)
i16 = DType("i16", 16, "int", "int16", "int16_t", 5)
i8 = DType("i8", 8, "int", "int8", "int8_t", 3)
i4 = DType("i4", 4, "int", "int8", "int8_t", 22)
i2 = DType("i2", 2, "int", "int8", "int8_t", 26)
u64 = DType("u64", 64, "uint", "uint64", "uint64_t", 13)
u32 = DType("u32", 32, "uint", "uint32", "uint32_t", 12)
u16 = DType("u16", 16, "uint", "uint16", "uint16_t", 4)
u8 = DType("u8", 8, "uint", "uint8", "uint8_t", 2)
u4 = DType("u4", 4, "uint", "uint8", "uint8_t", 21)
u2 = DType("u2", 2, "uint", "uint8", "uint8_t", 25)
bool_ = DType("bool", 8, "bool", "bool", "uint8_t", 9)
string = DType("string", 64, "string", "object", "void *", 8)
c64 = DType("c64", 64, "complex", "complex64", "void", 14)
c128 = DType("c128", 128, "complex", "complex128", "void", 15)

DTYPES = {
    t.name: t
    for t in (
        *(f64, f32, f16, bf16, f8e4m3, f8e4m3fnuz, f8e5m2, f8e5m2fnuz, f8e8m0, f4e2m1, i64, i32, i16, i8, i4, i2),
        *(u64, u32, u16, u8, u4, u2, bool_, string, c64, c128),
    )
}
BY_ONNX = {t.onnx: t for t in DTYPES.values()}
#: Types the interpreter and the kernels compute in; others may be named, stored and reported.
COMPUTABLE = frozenset(t for t in DTYPES.values() if t.kind not in ("string", "complex"))
#: What the ml_dtypes package calls the types that numpy lacks.
ML_NAMES = {
    "bfloat16": bf16,
    "float8_e4m3fn": f8e4m3,
    "float8_e4m3fnuz": f8e4m3fnuz,
    "float8_e5m2": f8e5m2,
    "float8_e5m2fnuz": f8e5m2fnuz,
    "float8_e8m0fnu": f8e8m0,
    "float4_e2m1fn": f4e2m1,
    "int4": i4,
    "int2": i2,
    "uint4": u4,
    "uint2": u2,
}
_BY_NUMPY = {t.np: t for t in COMPUTABLE - set(ML_NAMES.values())}


def from_numpy(dtype: np.dtype | type) -> DType:
    """The element type of a numpy dtype. Raises KeyError where there is none."""
    return _BY_NUMPY[np.dtype(dtype)]


#: No tensor has so many elements, nor an extent in which so many symbols are multiplied.
_IMPOSSIBLE, _DEGREE = 1 << 60, 64
#: Axes that a tensor may have, as csrc/runtime.h has them (ST_MAX_RANK), and numpy.
MOST_AXES = 64


@dataclass(frozen=True)
class TensorType:
    """Element type and shape. Text: `f32[batch, 128, 768]`, a scalar is `f32[]`."""

    dtype: DType
    shape: Shape

    def __str__(self) -> str:
        return f"{self.dtype.name}[{', '.join(str(d) for d in self.shape)}]"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def elements(self) -> Dim:
        return product(self.shape)

    @property
    def fault(self) -> str:
        """Why there is no such tensor, "" where there may be one. Offsets are 64-bit integers, in the extents that are numbers
        as in products of those that are not, and an extent of 0 beside others excuses none of them."""
        if self.rank > MOST_AXES:
            return f"no tensor has more than {MOST_AXES} axes"
        extents = [extent for extent in self.shape if isinstance(extent, int)]
        if any(extent < 0 for extent in extents):
            return "no extent is negative"
        degree = max((len(m) for d in self.shape if isinstance(d, Expr) for m, _ in d.terms), default=0)
        if degree > _DEGREE or math.prod(filter(None, extents)) >= _IMPOSSIBLE:
            return "no memory holds so many elements"
        return ""

    @property
    def nbytes(self) -> Dim:
        """Bytes of a dense array of this type, in memory and in a plan."""
        return self.elements * self.dtype.bytes

    @property
    def file_bytes(self) -> Dim:
        """Bytes of the same in a model's file, where elements of fewer than 8 bits are packed, the first in the low bits."""
        if self.dtype.bits >= 8:
            return self.nbytes
        return (self.elements * self.dtype.bits + 7) // 8
