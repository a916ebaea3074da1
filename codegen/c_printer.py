"""The C printer of the kernel IR.

A stage is printed over one *vector axis*: where every value that varies along it is a float of 32 bits or fewer (or a bool
mask) the loop steps by vectors of the target, with a masked tail that runs the same operations, so that a value never depends
on where it stands in the loop. Anything else is printed as scalar loops. Subexpressions are printed once each; what does not vary
along the vector axis is computed in front of the loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from typing import Any

from ..ir.dims import Dim, symbols_of, to_c
from ..ir.kernel import (
    Accumulator,
    Apply,
    Axis,
    Const,
    Folded,
    Guarded,
    Index,
    Operand,
    Position,
    Read,
    Reduce,
    Scalar,
    Stage,
    Store,
    children,
    walk,
)
from ..ir.types import DType, bool_, f32
from .c_lines import Lines
from .c_scalar import (
    FOLD_AS,
    accumulator_type,
    casts_lanes,
    has_lanes,
    has_vector_code,
    literal,
    neutral,
    scalar_code,
    vector_code,
)

#: what a minimum or maximum is called where its second argument is no NaN
BOUNDED = {"min": "at_most", "max": "at_least"}
UNROLL = 4  # independent accumulators of a vector fold


def _call(expression: Apply) -> tuple[str, tuple[Scalar, ...]]:
    """The function to print and its arguments: a bound that is a literal costs less than one that may be NaN."""
    if expression.function in BOUNDED and expression.dtype == f32:
        for x, bound in (expression.args, expression.args[::-1]):
            if isinstance(bound, Const) and not math.isnan(bound.value):
                return BOUNDED[expression.function], (x, bound)
    return expression.function, expression.args


class Printer:
    """Prints stages into one C function. `lanes` names the vector axis while one is open."""

    def __init__(self, operands: Sequence[Operand], symbols: Sequence[str], pointers: Sequence[str]) -> None:
        self.operands, self.pointers = tuple(operands), tuple(pointers)
        self.dims = {name: f"d_{name}" for name in symbols}
        self.out = Lines()
        self.memo: list[dict[tuple[Scalar, bool], str]] = [{}]
        self.count = 0
        self.vector_axis: str | None = None  # set while printing inside a vector loop
        self.outer_vector = False  # folds of this nest are vectors themselves
        self.tail: str | None = None  # C name of the lane count inside a masked tail
        self.accumulator = ""
        self.used_symbols: set[str] = set()
        self.past: dict[int, str] = {}  # operands of which whole vectors go past the caches, and C that says whether

    # -- names and numbers -----------------------------------------------------------------------------------------

    def fresh(self, prefix: str = "t") -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def dim(self, dim: Dim) -> str:
        self.used_symbols |= symbols_of(dim)
        return to_c(dim, self.dims)

    def dim_lines(self, order: Sequence[str]) -> list[str]:
        """Declarations of the symbols used so far."""
        return [f"const int64_t {self.dims[s]} = dims[{order.index(s)}];" for s in sorted(self.used_symbols)]

    def find(self, expression: Scalar, vector: bool) -> str | None:
        return next((scope[expression, vector] for scope in reversed(self.memo) if (expression, vector) in scope), None)

    @contextmanager
    def scope(self) -> Any:
        self.memo.append({})
        yield
        self.memo.pop()

    # -- what varies -----------------------------------------------------------------------------------------------

    def varies(self, expression: Scalar) -> bool:
        """Whether an expression differs between the lanes of the open vector axis."""
        axis = self.vector_axis
        if axis is None:
            return False
        match expression:
            case Accumulator():
                return True
            case Folded():
                return self.outer_vector
            case Read(index=index) | Position(index=index):
                return index.coefficient(axis) != 0 or any(self.varies(e) for e, _ in index.gathers)
        return any(self.varies(child) for child in children(expression))

    def can_vectorise(self, expression: Scalar, axis: str, outer: bool) -> bool:
        """Whether an expression can be printed over vectors along `axis`."""
        saved = self.vector_axis, self.outer_vector
        self.vector_axis, self.outer_vector = axis, outer
        try:
            return self._vectorisable(expression)
        finally:
            self.vector_axis, self.outer_vector = saved

    def _vectorisable(self, expression: Scalar) -> bool:
        if not self.varies(expression):
            return True
        match expression:
            case Read(index=index, dtype=dtype):
                if any(self.varies(e) for e, _ in index.gathers):
                    return False
                return has_lanes(dtype) and (dtype != bool_ or index.coefficient(self.vector_axis or "") == 1)
            case Position():
                return False
            case Guarded(condition, value, otherwise):
                return not self.varies(condition) and self._vectorisable(value) and self._vectorisable(otherwise)
            case Apply("cast", (Position(index),), dtype):
                return dtype == f32 and not any(self.varies(e) for e, _ in index.gathers)
            case Apply("cast", (Accumulator(source),), dtype) if casts_lanes(source):
                return dtype == f32
            case Apply("cast", (Apply("cast", (inner,), middle),), dtype) if casts_lanes(middle) and inner.dtype == f32:
                return dtype == f32 and self._vectorisable(inner)
            case Apply("cast", (Read(index=index, dtype=source),), dtype) if casts_lanes(source):
                beside = index.coefficient(self.vector_axis or "") == 1
                return dtype == f32 and beside and not any(self.varies(e) for e, _ in index.gathers)
            case Apply(function, args, dtype):
                return has_vector_code(function, [a.dtype for a in args], dtype) and all(map(self._vectorisable, args))
        return expression.dtype == f32 or (isinstance(expression, Const) and has_lanes(expression.dtype))

    # -- expressions -----------------------------------------------------------------------------------------------

    def index(self, index: Index, without: str | None = None) -> str:
        """An element position as C; the term of axis `without` is left out."""
        parts = []
        if index.base != 0 or (not index.terms and not index.gathers):
            parts.append(self.dim(index.base))
        for axis, coefficient in index.terms:
            if axis != without:
                factor = self.dim(coefficient)
                parts.append(axis if factor == "1" else f"{axis} * {factor}")
        for expression, coefficient in index.gathers:
            factor = self.dim(coefficient)
            value = f"(int64_t){self.scalar(expression)}"
            parts.append(value if factor == "1" else f"{value} * {factor}")
        return " + ".join(parts) or "0"

    def keep(self, expression: Scalar, vector: bool, kind: str, code: str, prefix: str = "t") -> str:
        name = self.fresh(prefix)
        self.out.put(f"const {kind} {name} = {code};")
        self.memo[-1][expression, vector] = name
        return name

    def scalar(self, expression: Scalar) -> str:
        """C of an expression that does not vary (or is printed in scalar mode): a temporary or a literal."""
        found = self.find(expression, False)
        if found is not None:
            return found
        match expression:
            case Const(value, dtype):
                return literal(value, dtype)
            case Folded(name):
                return name
            case Accumulator():
                return f"(*({self.accumulator}))"
            case Position(index, dtype):
                return self.keep(expression, False, dtype.c, self.index(index))
            case Read(operand, index, dtype):
                place = self.index(index)
                return self.keep(expression, False, dtype.c, f"{self.pointers[operand]}[{place}]")
            case Guarded(condition, value, otherwise):
                return self._guarded(expression, condition, value, otherwise, vector=False)
            case Apply(_, _, dtype):
                function, args = _call(expression)
                codes = [self.scalar(a) for a in args]
                return self.keep(
                    expression, False, dtype.c, scalar_code(function, codes, [a.dtype for a in args], dtype)
                )
        raise TypeError(expression)

    def vector(self, expression: Scalar) -> str:
        """C of an expression as a vector (or a mask for bools)."""
        found = self.find(expression, True)
        if found is not None:
            return found
        kind = "vm" if expression.dtype == bool_ else "vf"
        if not self.varies(expression):
            code = self.scalar(expression)
            if kind == "vf" and expression.dtype != f32:
                code = f"st_{expression.dtype}_value({code})"
            splat = f"vf_set1({code})" if kind == "vf" else f"vf_ne(vf_set1((float)({code})), vf_zero())"
            return self.keep(expression, True, kind, splat, "v")
        match expression:
            case Accumulator():
                return self.keep(expression, True, kind, self.load(self.accumulator, 1, f32), "v")
            case Folded(name):
                return name
            case Read(operand, index, dtype):
                step = index.coefficient(self.vector_axis or "")
                pointer = f"{self.pointers[operand]} + ({self.index(index)})"
                return self.keep(expression, True, kind, self.load(pointer, step, dtype), "v")
            case Guarded(condition, value, otherwise):
                return self._guarded(expression, condition, value, otherwise, vector=True)
            case Apply("cast", (Position(index),)):
                apart = f"vi_set1((int32_t)({self.dim(index.coefficient(self.vector_axis or ''))}))"
                lanes = f"vi_add(vi_set1((int32_t)({self.index(index)})), vi_mul(vi_iota(), {apart}))"
                return self.keep(expression, True, kind, f"vf_from_i32({lanes})", "v")
            case Apply("cast", (Accumulator(source),)) if casts_lanes(source):
                return self.keep(expression, True, kind, self.load(self.accumulator, 1, source), "v")
            case Apply("cast", (Apply("cast", (inner,), middle),)) if casts_lanes(middle) and inner.dtype == f32:
                return self.keep(expression, True, kind, f"vf_round_{middle}({self.vector(inner)})", "v")
            case Apply("cast", (Read(operand, index, source),)) if casts_lanes(source):
                pointer = f"{self.pointers[operand]} + ({self.index(index)})"
                return self.keep(expression, True, kind, self.load(pointer, 1, source), "v")
            case Apply(_, _, dtype):
                function, args = _call(expression)
                codes = [self.vector(a) for a in args]
                code = vector_code(function, codes, [a.dtype for a in args], dtype)
                return self.keep(expression, True, kind, code, "v")
        raise TypeError(expression)

    def load(self, pointer: str, step: Dim, dtype: DType) -> str:
        count = self.tail or "VL"
        if dtype == bool_:
            return f"vm_load_n({pointer}, {count})"
        of = "" if dtype == f32 else f"_{dtype}"
        if step == 1:
            return f"vf_load_n{of}({pointer}, {self.tail})" if self.tail else f"vf_load{of}({pointer})"
        return f"vf_load_strided{of}({pointer}, {self.dim(step)}, {count})"

    def _guarded(self, whole: Scalar, condition: Scalar, value: Scalar, otherwise: Scalar, vector: bool) -> str:
        test = self.scalar(condition)
        name = self.fresh("v" if vector else "t")
        kind = ("vm" if whole.dtype == bool_ else "vf") if vector else whole.dtype.c
        self.out.put(f"{kind} {name};")
        for head, branch in ((f"if ({test})", value), ("else", otherwise)):
            with self.out.block(head), self.scope():
                code = self.vector(branch) if vector else self.scalar(branch)
                self.out.put(f"{name} = {code};")
        self.memo[-1][whole, vector] = name
        return name

    def hoist(self, expression: Scalar) -> None:
        """Compute what does not vary in front of the vector loop about to be opened, except under a guard."""
        if not self.varies(expression):
            self.vector(expression)
            return
        if isinstance(expression, Guarded):
            self.hoist(expression.condition)
            return
        for child in children(expression):
            if not (isinstance(expression, Read) and self.varies(child)):
                if has_lanes(child.dtype):
                    self.hoist(child)
                elif not self.varies(child):
                    self.scalar(child)

    # -- stages ----------------------------------------------------------------------------------------------------

    def groups(self, stages: Sequence[Stage]) -> list[tuple[tuple[Axis, ...], list[Stage]]]:
        """Consecutive stages over the same axes share one loop unless one needs what another folds."""
        result: list[tuple[tuple[Axis, ...], list[Stage]]] = []
        for stage in stages:
            needs = {e.name for e in walk(stage.value) if isinstance(e, Folded)}
            if result and result[-1][0] == stage.axes and stage.axes:
                made = {s.name for s in result[-1][1] if isinstance(s, Reduce)}
                running = {s.name for s in result[-1][1] if isinstance(s, Reduce) and s.running}
                if not needs & made - running:
                    result[-1][1].append(stage)
                    continue
            result.append((stage.axes, [stage]))
        return result

    def store(self, stage: Store, vector: bool) -> None:
        place = f"{self.pointers[stage.operand]} + ({self.index(stage.index)})"
        back = Read(stage.operand, stage.index, stage.value.dtype)
        if not vector:
            code = self.scalar(stage.value)
            self.out.put(f"*({place}) = {code};")
        else:
            dtype, value = stage.value.dtype, self.held(stage)
            code = self.vector(value)
            of = "" if dtype == f32 else f"_{dtype}"
            if dtype == bool_:
                self.out.put(f"vm_store_n({place}, {code}, {self.tail or 'VL'});")
            elif self.tail:
                self.out.put(f"vf_store_n{of}({place}, {code}, {self.tail});")
            elif dtype == f32 and stage.operand in self.past:
                self.out.put(f"({self.past[stage.operand]} ? vf_store_past : vf_store)({place}, {code});")
            else:
                self.out.put(f"vf_store{of}({place}, {code});")
            if value is not stage.value:
                return
        self.memo[-1][back, vector] = code

    def held(self, stage: Stage) -> Scalar:
        """What vectors hold of a stage's value: a store of a narrow float or an integer rounds by itself, so that the cast in front
        of it needs no code. Whoever reads the element back loads it."""
        value = stage.value
        cast = isinstance(stage, Store) and isinstance(value, Apply) and value.function == "cast"
        if cast and isinstance(value, Apply) and value.args[0].dtype == f32 and value.dtype not in (f32, bool_):
            return value.args[0] if has_lanes(value.dtype) or casts_lanes(value.dtype) else value
        return value

    def store_has_vectors(self, stage: Store, axis: str) -> bool:
        """Whether vectors along `axis` are stored side by side. Narrow floats that are only moved keep their bits, whatever NaN
        they are: these are moved one at a time."""
        dtype = self.operands[stage.operand].dtype
        lanes = (has_lanes(dtype) or self.held(stage) is not stage.value) and dtype == stage.value.dtype
        return lanes and stage.index.coefficient(axis) == 1 and not (dtype.is_narrow and _only_moved(stage.value))

    def scalar_group(self, axes: Sequence[Axis], stages: Sequence[Stage]) -> None:
        """Plain loops over all of `axes`."""
        folds = [s for s in stages if isinstance(s, Reduce)]
        for fold in folds:
            kind = accumulator_type(fold.value.dtype) if fold.function == "sum" else fold.value.dtype
            self.out.put(f"{kind.c} acc_{fold.name} = {neutral(fold.function, kind)};")
        with self.loops(axes), self.scope():
            for stage in stages:
                if isinstance(stage, Store):
                    self.store(stage, vector=False)
                else:
                    self._fold_scalar(stage)
                    if stage.running:
                        self._name_fold(stage)
        for fold in folds:
            if not fold.running:
                self._name_fold(fold)

    def _name_fold(self, fold: Reduce) -> None:
        self.out.put(f"const {fold.value.dtype.c} {fold.name} = ({fold.value.dtype.c})acc_{fold.name};")

    def _fold_scalar(self, fold: Reduce) -> None:
        kind = accumulator_type(fold.value.dtype) if fold.function == "sum" else fold.value.dtype
        code = self.scalar(fold.value)
        name = f"acc_{fold.name}"
        self.out.put(f"{name} = {scalar_code(FOLD_AS[fold.function], [name, code], [kind, kind], kind)};")

    @contextmanager
    def loops(self, axes: Sequence[Axis]) -> Any:
        """for (..) over every axis."""
        for axis in axes:
            self.out.put(f"for (int64_t {axis.name} = 0; {axis.name} < {self.dim(axis.extent)}; {axis.name}++) {{")
            self.out.depth += 1
        if not axes:
            self.out.put("{")
            self.out.depth += 1
        yield
        for _ in range(len(axes) or 1):
            self.out.depth -= 1
            self.out.put("}")

    def inner_vector_group(self, axes: Sequence[Axis], stages: Sequence[Stage]) -> None:
        """The last axis by vectors: stores and folds of rows."""
        folds = [s for s in stages if isinstance(s, Reduce)]
        wide = UNROLL if folds and not any(isinstance(s, Store) for s in stages) else 1
        for fold in folds:
            start = neutral(fold.function, f32)
            names = ", ".join(f"acc_{fold.name}_{u} = vf_set1({start})" for u in range(wide))
            self.out.put(f"vf {names};")
        axis = axes[-1]
        end = self.dim(axis.extent)
        if len(axes) > 1:
            with self.loops(axes[:-1]), self.scope():
                self.vector_loop(axis.name, "0", end, lambda u: self._vector_body(stages, u), wide, stages)
        else:
            with self.out.block(""), self.scope():
                self.vector_loop(axis.name, "0", end, lambda u: self._vector_body(stages, u), wide, stages)
        for fold in folds:
            name, how = f"acc_{fold.name}", FOLD_AS[fold.function]
            if wide == UNROLL:
                self.out.put(f"{name}_0 = vf_{how}(vf_{how}({name}_0, {name}_1), vf_{how}({name}_2, {name}_3));")
            self.out.put(f"const float {fold.name} = vf_reduce_{how}({name}_0);")

    def vector_loop(
        self, axis: str, start: str, end: str, body: Any, wide: int = 1, stages: Iterable[Stage] = ()
    ) -> None:
        """axis = start .. end by vectors: `body(unroll)` is printed for whole vectors and once more for the masked tail."""
        self.vector_axis = axis
        for stage in stages:
            self.hoist(self.held(stage))
        self.out.put(f"int64_t {axis} = {start};")
        if wide > 1:
            with self.out.block(f"for (; {axis} + {wide} * VL <= {end}; {axis} += VL)"):
                for u in range(wide):
                    with self.out.block(""), self.scope():
                        body(u)
                    if u + 1 < wide:
                        self.out.put(f"{axis} += VL;")
        with self.out.block(f"for (; {axis} + VL <= {end}; {axis} += VL)"), self.scope():
            body(0)
        with self.out.block(f"if ({axis} < {end})"), self.scope():
            self.tail = self.fresh("n")
            self.out.put(f"const int64_t {self.tail} = {end} - {axis};")
            body(0)
            self.tail = None
        self.vector_axis = None

    def _vector_body(self, stages: Sequence[Stage], unroll: int) -> None:
        for stage in stages:
            if isinstance(stage, Store):
                self.store(stage, vector=True)
                continue
            name, how = f"acc_{stage.name}_{unroll}", FOLD_AS[stage.function]
            code = f"vf_{how}({name}, {self.vector(stage.value)})"
            if self.tail:
                code = f"vf_select(vm_first({self.tail}), {code}, {name})"
            self.out.put(f"{name} = {code};")

    def outer_vector_stages(self, stages: Sequence[Stage]) -> None:
        """Stages inside a loop whose vectors run over an outer axis: folds keep one accumulator per lane."""
        for axes, group in self.groups(stages):
            folds = [s for s in group if isinstance(s, Reduce)]
            for fold in folds:
                self.out.put(f"vf acc_{fold.name} = vf_set1({neutral(fold.function, f32)});")
            if axes:
                with self.loops(axes), self.scope():
                    self._outer_bodies(group)
            else:
                self._outer_bodies(group)
            for fold in folds:
                if not fold.running:
                    self.out.put(f"const vf {fold.name} = acc_{fold.name};")

    def _outer_bodies(self, group: Sequence[Stage]) -> None:
        for stage in group:
            if isinstance(stage, Store):
                self.store(stage, vector=True)
            else:
                name = f"acc_{stage.name}"
                self.out.put(f"{name} = vf_{FOLD_AS[stage.function]}({name}, {self.vector(stage.value)});")
                if stage.running:
                    self.out.put(f"const vf {stage.name} = {name};")


def _only_moved(expression: Scalar) -> bool:
    """Whether an element is one of others, or a constant."""
    match expression:
        case Guarded(_, value, otherwise):
            return _only_moved(value) and _only_moved(otherwise)
        case Apply("select", (_, yes, no)):
            return _only_moved(yes) and _only_moved(no)
    return isinstance(expression, Read | Const)
