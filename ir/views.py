"""Strided views with symbolic strides: which element of a dense buffer each index of a reshaped, permuted, sliced or broadcast
tensor is. A view operator is free wherever the composed view exists; `None` means the data must be moved."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .dims import Dim, Shape, exact_div, product


def dense_strides(shape: Shape) -> Shape:
    """Row-major strides, in elements."""
    strides: list[Dim] = []
    step: Dim = 1
    for extent in reversed(shape):
        strides.append(step)
        step = step * extent
    return tuple(reversed(strides))


@dataclass(frozen=True)
class View:
    """Index (i0, i1, ..) is the element `offset + sum(i_k * strides[k])` of the buffer."""

    shape: Shape
    strides: Shape
    offset: Dim = 0

    @staticmethod
    def dense(shape: Shape) -> View:
        return View(shape, dense_strides(shape))

    @property
    def is_dense(self) -> bool:
        """Row-major without gaps from offset 0; extents of 1 have no say."""
        step: Dim = 1
        for extent, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if extent != 1 and stride != step:
                return False
            step = step * extent
        return self.offset == 0

    def transpose(self, permutation: tuple[int, ...]) -> View:
        return replace(
            self,
            shape=tuple(self.shape[p] for p in permutation),
            strides=tuple(self.strides[p] for p in permutation),
        )

    def slice(self, axis: int, start: Dim, extent: Dim, step: int = 1) -> View:
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + start * strides[axis]
        shape[axis], strides[axis] = extent, strides[axis] * step
        return View(tuple(shape), tuple(strides), offset)

    def broadcast(self, shape: Shape) -> View | None:
        """Right-aligned broadcasting to `shape`; an extent of 1 repeats. None when the extents do not fit."""
        missing = len(shape) - len(self.shape)
        if missing < 0:
            return None
        strides: list[Dim] = [0] * missing
        for extent, stride, wanted in zip(self.shape, self.strides, shape[missing:], strict=True):
            if extent == wanted:
                strides.append(stride)
            elif extent == 1:
                strides.append(0)
            else:
                return None
        return View(shape, tuple(strides), self.offset)

    def reshape(self, shape: Shape) -> View | None:
        """The same elements in row-major order under another shape, or None when no strides can say it."""
        if shape == self.shape:
            return self
        old = [(e, s) for e, s in zip(self.shape, self.strides, strict=True) if e != 1]
        strides: list[Dim] = []
        group: list[tuple[Dim, Dim]] = []  # what is left of the old axes under way: (extent, stride), innermost last
        position = 0
        for extent in shape:
            if extent == 1:
                strides.append(0)
                continue
            # take old axes until their product is divisible by this extent, fusing those that lie back to back
            while True:
                fused = _fuse(group)
                if fused is not None and (rest := exact_div(fused[0], extent)) is not None:
                    group = [(rest, fused[1])] if rest != 1 else []
                    strides.append(rest * fused[1])
                    break
                if fused is None and group:
                    return None
                if position == len(old):
                    return None
                group.append(old[position])
                position += 1
        if group or position != len(old):
            return None
        return View(shape, tuple(strides), self.offset)


def _fuse(group: list[tuple[Dim, Dim]]) -> tuple[Dim, Dim] | None:
    """One axis that runs through all of `group`, or None."""
    if not group:
        return None
    extent, stride = group[-1]
    for outer_extent, outer_stride in reversed(group[:-1]):
        if outer_stride != stride * extent:
            return None
        extent = extent * outer_extent
    return extent, stride


def same_elements(a: Shape, b: Shape) -> bool:
    """Whether two shapes surely have the same number of elements."""
    return product(a) == product(b)
