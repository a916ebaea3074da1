"""What a rule sees of the program: one call of an ATen operator, its arguments by name, and the graph under construction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from ....ir.dims import Dim, Expr
from ....ir.errors import Source
from ....ir.types import DType, TensorType, bool_, f32, i64
from .. import contents
from ..contents import cast_known, rounded
from ..draft import Draft, Tensor
from ..known import Known
from ..scalars import Scalar
from ..unsupported import Unsupported
from .weights import dtype_of

if TYPE_CHECKING:
    from .importer import Importer


class Value(str):
    """A value of the graph, told apart from arguments that are strings."""

    __slots__ = ()


class Site(Draft):
    """One call being imported. `arguments` holds every parameter of the operator's schema, defaults filled in."""

    def __init__(self, importer: Importer, node: torch.fx.Node, arguments: Mapping[str, Any], source: Source) -> None:
        super().__init__(importer.builder, importer.emitter, importer.facts, source)
        self.importer, self.node, self.arguments = importer, node, arguments
        self.op = str(node.target)
        self.name = self.op.split(".")[1] if "." in self.op else self.op

    # -- arguments that are no tensors

    def get(self, name: str, default: Any = None) -> Any:
        return self.arguments.get(name, default)

    def has(self, name: str) -> bool:
        return self.arguments.get(name) is not None

    def flag(self, name: str) -> bool:
        return bool(self.arguments.get(name))

    def number(self, name: str, default: float = 0.0) -> float:
        """A number that must be known when compiling."""
        value = self.arguments.get(name, default)
        if not isinstance(value, (int, float)):
            raise Unsupported(f"{name} = {value} must be a known number")
        return float(value)

    def whole(self, name: str, default: int = 0) -> int:
        value = self.arguments.get(name, default)
        if not isinstance(value, int):
            raise Unsupported(f"{name} = {value} must be a known whole number", "fix a dim with --dim NAME=N")
        return value

    def dim(self, name: str, default: Dim = 0) -> Dim:
        value = self.arguments.get(name)
        if value is None:
            return default
        if not isinstance(value, (int, Expr)):
            raise Unsupported(f"{name} = {value} must be a whole number")
        return value

    def dims(self, name: str) -> tuple[Dim, ...]:
        """A list of extents; one extent is a list of itself."""
        value = self.arguments.get(name)
        values = value if isinstance(value, (list, tuple)) else [value]
        if any(not isinstance(v, (int, Expr)) for v in values):
            raise Unsupported(f"{name} = {value} must be whole numbers")
        return tuple(values)

    def ints(self, name: str, count: int | None = None) -> tuple[int, ...]:
        """A list of whole numbers; a single one stands for `count` of them."""
        values = tuple(v for v in self.dims(name) if isinstance(v, int))
        if len(values) != len(self.dims(name)):
            raise Unsupported(f"{name} = {self.arguments.get(name)} must be constant", "fix a dim with --dim NAME=N")
        if count is not None and len(values) == 1:
            return values * count
        if count is not None and len(values) != count:
            raise Unsupported(f"{name} = {list(values)} must hold {count} numbers")
        return values

    def axis_at(self, name: str, rank: int, default: int = 0) -> int:
        """An axis made non-negative."""
        return self.axis(self.whole(name, default), rank)

    def axes_at(self, name: str, rank: int) -> tuple[int, ...]:
        """Axes made non-negative and sorted; all of them where none are given."""
        value = self.arguments.get(name)
        if value is None or value == []:
            return tuple(range(rank))
        return tuple(sorted({self.axis(a, rank) for a in self.ints(name)}))

    # -- tensors

    def value_of(self, argument: Any, dtype: DType | None = None) -> str:
        """A tensor, or a number made a scalar of `dtype`, as a graph value; in `dtype` where that is given."""
        if isinstance(argument, Known):
            known = argument if dtype in (None, argument.dtype) else cast_known(self.facts, argument, dtype or f32)
            if known is not None:
                return self.data(known)
            argument = self.data(argument)
        elif not isinstance(argument, Value):
            return self.data(self._literal(argument, dtype))
        return argument if dtype is None else self.cast(argument, dtype)

    def _literal(self, argument: Any, dtype: DType | None) -> Known:
        if dtype is None:
            dtype = bool_ if isinstance(argument, bool) else f32 if isinstance(argument, float) else i64
        if isinstance(argument, (bool, int, float, Expr)):
            if isinstance(argument, float) and dtype.is_integer:
                argument = int(argument)
            elif dtype == bool_ and not isinstance(argument, Expr):
                argument = int(argument != 0)
            value: Scalar = float(argument) if dtype.is_float and not isinstance(argument, Expr) else argument
            return contents.scalar(dtype, value)
        raise Unsupported(f"a {type(argument).__name__} stands where a tensor or number is expected")

    def x(self, name: str, dtype: DType | None = None) -> str:
        """The graph value of an argument, in `dtype` where that is given."""
        if not self.has(name):
            raise Unsupported(f"argument {name!r} is missing")
        return self.value_of(self.arguments[name], dtype)

    def tensors(self, name: str) -> list[Any]:
        """The elements of a list of tensors, as `value_of` takes them."""
        return list(self.arguments.get(name) or ())

    def type(self, name: str) -> TensorType:
        return self.type_of_argument(self.arguments.get(name))

    def type_of_argument(self, argument: Any) -> TensorType:
        if isinstance(argument, Known):
            return argument.type
        if isinstance(argument, Value):
            return self.type_of(argument)
        return self._literal(argument, None).type

    def known(self, name: str, dtype: DType | None = None) -> Known | None:
        """The known contents of an argument; a number is known, in `dtype`."""
        return self.known_of(self.arguments.get(name), dtype)

    def known_of(self, argument: Any, dtype: DType | None = None) -> Known | None:
        if isinstance(argument, Known):
            return argument if dtype in (None, argument.dtype) else cast_known(self.facts, argument, dtype or f32)
        if isinstance(argument, Value) or argument is None:
            return None
        return self._literal(argument, dtype)

    def tensor(self, name: str, dtype: DType | None = None) -> Tensor:
        """An argument as what is known of it, else as a graph value; in `dtype` where that is given."""
        return self.known(name, dtype) or self.x(name, dtype)

    def tensor_of(self, argument: Any) -> Tensor:
        return self.known_of(argument) or self.value_of(argument)

    def fold(self, dtype: DType, within: DType, function: Callable[..., Scalar] | None, *names: str) -> Known | None:
        """`function(facts, *elements)` of arguments that are all known, taken in `within`; the result is of `dtype`."""
        if function is None or not any(isinstance(self.arguments.get(name), Known) for name in names):
            return None
        found = [self.known(name, within) for name in names]
        inputs = [known for known in found if known is not None]
        if len(inputs) != len(found):
            return None
        return contents.elementwise(self.facts, dtype, rounded(dtype, function), *inputs)

    # -- results

    def result(self, index: int = 0) -> TensorType:
        """The type of an output as torch derived it."""
        found = self.node.meta.get("val")
        if isinstance(found, (list, tuple)):
            found = found[index]
        return self.importer.type_of_tensor(found)

    def used(self, index: int) -> bool:
        """Whether anything reads an output of several."""
        return any(user.args[1] == index for user in self.node.users if len(user.args) > 1)

    def promoted(self, *names: str) -> DType:
        """The element type torch computes in when these arguments meet."""
        values = []
        for name in names:
            index = [a.name for a in self.node.target._schema.arguments].index(name)
            given = self.node.args[index] if index < len(self.node.args) else self.node.kwargs.get(name)
            values.append(given.meta["val"] if isinstance(given, torch.fx.Node) else given)
        return dtype_of(torch.result_type(*values))
