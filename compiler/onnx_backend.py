"""The backend interface of the onnx package (`onnx.backend.base`) over compiled plans: `prepare`, `run_model`, `run_node`.

    import stratac.compiler.onnx_backend as backend
    outputs = backend.run_model(onnx.load("model.onnx"), [x])

Everything runs as a compiled plan, whatever it takes to make one. `prepare` compiles at once where the model alone says
enough. Where it does not, because dims are symbolic or because values of inputs decide shapes (the target of a Reshape,
axes, pads), the first `run` compiles for the shapes and values of that call; a later call with others compiles again. At
most `PLANS` plans are kept, and those used longest ago go first. Plans lie in temporary folders that go with the
representation.
"""

from __future__ import annotations

import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict

from ..ir.errors import ModelError, StratacError
from ..ir.types import BY_ONNX, ML_NAMES
from ..runtime.session import Session, load
from .constants import constant_digest
from .driver import compile_model
from .layout import Elements, Layout
from .options import CompileOptions, default_cache, environment_cc

#: Plans that one representation keeps.
PLANS = 8
#: A file of the protobuf format holds less than this many bytes; larger models have their weights beside it.
_PROTOBUF_BYTES = 2**31 - 2**20


@dataclass(frozen=True)
class _Plan:
    """An open plan and the folder it lies in."""

    session: Session
    folder: tempfile.TemporaryDirectory[str]

    def close(self) -> None:
        self.session.close()
        self.folder.cleanup()


def _close(plans: OrderedDict[Any, _Plan], folder: tempfile.TemporaryDirectory[str]) -> None:
    while plans:
        plans.popitem()[1].close()
    folder.cleanup()


class StratacRep(BackendRep):
    """A model ready to run: one plan, or one for each set of shapes and values that `run` meets. A context manager."""

    def __init__(self, model: onnx.ModelProto, options: CompileOptions) -> None:
        """Compile `model` if it says enough by itself. Raises ModelError where no call could be compiled."""
        self._options, self._lock = options, threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="stratac-backend-")
        self._plans: OrderedDict[Any, _Plan] = OrderedDict()
        self._finalizer = weakref.finalize(self, _close, self._plans, self._folder)
        fixed = {t.name for t in model.graph.initializer}
        self._inputs = [i for i in model.graph.input if i.name not in fixed]
        self._outputs = list(model.graph.output)
        self._needed: tuple[str, ...] = ()
        self._model = Path(self._folder.name) / "model.onnx"
        try:
            _save(model, self._model)
            self._symbolic = any(not _fixed_shape(i.type) for i in self._inputs)
            self._listed = any(not i.type.HasField("tensor_type") for i in self._inputs)
            if not self._symbolic and not self._listed:
                self._compile_unless_needed()
        except BaseException:
            self._finalizer()
            raise

    def _compile_unless_needed(self) -> None:
        try:
            self._plans[(), "{}", ()] = self._compile({}, {}, self._options.layout)
        except ModelError as error:
            self._needed = _needed(error)
            if not self._needed:
                raise

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Outputs by position and name, from inputs in the order of the model's (or a mapping by name).

        Compiles where no kept plan has been made for these shapes and values. Raises StratacError.
        """
        feeds = self._feeds(inputs)
        with self._lock:
            plan, needed = self._plan(feeds)
            values = {name: value for name, value in feeds.items() if name not in needed}
            arrays = plan.session.run(None, values)
        names = [output.name for output in self._outputs]
        found = (_as_ml_dtypes(array, output.type) for array, output in zip(arrays, self._outputs, strict=True))
        return namedtupledict("Outputs", names)(*found)

    def _feeds(self, inputs: Any) -> dict[str, Any]:
        """Arrays; lists and None for what is no tensor."""
        names = [i.name for i in self._inputs]
        if isinstance(inputs, Mapping):
            if inputs.keys() != set(names):
                what = f"the model has the inputs {', '.join(names)}, given were {', '.join(map(str, inputs))}"
                raise StratacError(what)
            return {i.name: _value(i.type, inputs[i.name]) for i in self._inputs}
        values = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        if len(values) != len(names):
            raise StratacError(f"the model has {len(names)} inputs, {len(values)} were given", hint=", ".join(names))
        return {i.name: _value(i.type, value) for i, value in zip(self._inputs, values, strict=True)}

    def _layout(self, feeds: Mapping[str, Any]) -> Layout:
        """What the values of a call say of sequences, optionals and strings."""
        types = {i.name: i.type for i in self._inputs}
        lists = {name: _elements(value) for name, value in feeds.items() if not types[name].HasField("tensor_type")}
        given = self._options.layout
        longest = max((_longest(value) for value in feeds.values()), default=0)
        width = given.string_bytes if longest <= given.string_bytes else 1 << (longest - 1).bit_length()
        return Layout({**given.sequences, **lists}, width, given.states, given.trips)

    def _plan(self, feeds: Mapping[str, Any]) -> tuple[_Plan, tuple[str, ...]]:
        """The plan for a call, and the inputs whose values are compiled into it."""
        while True:
            shapes = tuple((n, np.shape(v)) for n, v in _tensors(feeds)) if self._symbolic else ()
            layout = self._layout(feeds)
            constants = {name: feeds[name] for name in self._needed if name in feeds}
            values = tuple((n, v.dtype.str, v.shape, constant_digest(v)) for n, v in constants.items())
            key = shapes, str(layout.facts()), values
            if key in self._plans:
                self._plans.move_to_end(key)
                return self._plans[key], self._needed
            try:
                plan = self._compile(feeds if self._symbolic else {}, constants, layout)
            except ModelError as error:
                more = [
                    name
                    for name in _needed(error)
                    if isinstance(feeds.get(name), np.ndarray) and name not in self._needed
                ]
                if not more:
                    raise
                self._needed = (*self._needed, *more)
                continue
            self._plans[key] = plan
            while len(self._plans) > PLANS:
                self._plans.popitem(last=False)[1].close()
            return plan, self._needed

    def _compile(self, feeds: Mapping[str, Any], constants: Mapping[str, np.ndarray], layout: Layout) -> _Plan:
        """A plan for the shapes of `feeds`, where the model leaves them open, with `constants` compiled in."""
        folder = tempfile.TemporaryDirectory(prefix="plan-", dir=self._folder.name)
        try:
            model = self._model
            if feeds:
                model = Path(folder.name) / "model.onnx"
                _save(_with_shapes(onnx.load(self._model), feeds), model)
            options = replace(self._options, constants=constants, layout=layout)
            plan = compile_model(model, Path(folder.name) / "plan", options).folder
            return _Plan(load(plan), folder)
        except BaseException:
            folder.cleanup()
            raise

    def close(self) -> None:
        """Close the plans and remove their folders; called when the representation is collected, too."""
        self._finalizer()

    def __enter__(self) -> StratacRep:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _as_ml_dtypes(value: Any, type: onnx.TypeProto) -> Any:
    """An output with the element type that the onnx package gives it: one of ml_dtypes where numpy has none."""
    if isinstance(value, list):
        return [_as_ml_dtypes(item, type.sequence_type.elem_type) for item in value]
    dtype = BY_ONNX.get(type.tensor_type.elem_type)
    if dtype is None or dtype not in ML_NAMES.values() or not isinstance(value, np.ndarray):
        return value
    wanted = onnx.helper.tensor_dtype_to_np_dtype(dtype.onnx)
    return value.astype(wanted) if dtype.is_integer else value.view(wanted)


def _save(model: onnx.ModelProto, path: Path) -> None:
    if model.ByteSize() < _PROTOBUF_BYTES:
        path.write_bytes(model.SerializeToString())
    else:
        onnx.save_model(model, str(path), save_as_external_data=True, location="weights")


def _fixed_shape(type: onnx.TypeProto) -> bool:
    tensor = type.tensor_type
    return not type.HasField("tensor_type") or (
        tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)
    )


def _value(type: onnx.TypeProto, value: Any) -> Any:
    """A tensor as an array; a list of arrays or None as it is."""
    if type.HasField("optional_type"):
        return None if value is None else _value(type.optional_type.elem_type, value)
    return [np.asarray(item) for item in value] if type.HasField("sequence_type") else np.asarray(value)


def _tensors(feeds: Mapping[str, Any]) -> list[tuple[str, np.ndarray]]:
    return [(name, value) for name, value in feeds.items() if isinstance(value, np.ndarray)]


def _elements(value: Any) -> Elements:
    """What a value says of a sequence or an optional."""
    if value is None:
        return None
    return tuple(np.shape(item) for item in value) if isinstance(value, list) else (np.shape(value),)


def _longest(value: Any) -> int:
    """Bytes of the longest string in a value."""
    if isinstance(value, list):
        return max((_longest(item) for item in value), default=0)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "OUS":
        return 0
    texts = value.reshape(-1).tolist()
    return max((len(t.encode() if isinstance(t, str) else t) for t in texts if isinstance(t, (str, bytes))), default=0)


def _with_shapes(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> onnx.ModelProto:
    """The model with every open dim of its inputs as in `feeds`. Raises StratacError where one name has two sizes."""
    sizes: dict[str, tuple[int, str]] = {}
    for port in model.graph.input:
        if not isinstance(feeds.get(port.name), np.ndarray) or not port.type.HasField("tensor_type"):
            continue
        tensor, shape = port.type.tensor_type, feeds[port.name].shape
        if not tensor.HasField("shape"):
            tensor.shape.CopyFrom(onnx.TensorShapeProto())
            tensor.shape.dim.extend(onnx.TensorShapeProto.Dimension(dim_value=extent) for extent in shape)
        if len(tensor.shape.dim) != len(shape):
            raise StratacError(
                f"input {port.name!r} has rank {len(tensor.shape.dim)} and got an array of shape {shape}"
            )
        for dim, extent in zip(tensor.shape.dim, shape, strict=True):
            if dim.HasField("dim_value"):
                continue
            have, where = sizes.setdefault(dim.dim_param, (extent, port.name)) if dim.dim_param else (extent, "")
            if have != extent:
                raise StratacError(f"dim {dim.dim_param!r} is {have} in {where!r} and {extent} in {port.name!r}")
            dim.dim_value = extent
    return model


def _needed(error: ModelError) -> tuple[str, ...]:
    """The inputs whose values would help."""
    return tuple(dict.fromkeys(name for problem in error.problems for name in problem.needs))


class StratacBackend(Backend):
    """`onnx.backend.base.Backend` over compiled plans; `options` are those of every compilation (None: the usual ones)."""

    options: CompileOptions | None = None

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> StratacRep:
        """Compile a model, or get it ready to be compiled for its first call. Raises StratacError for an unknown device and
        ModelError for a model that cannot be compiled."""
        if not cls.supports_device(device):
            raise StratacError(f"no plans are made for device {device!r}", hint="use CPU")
        return StratacRep(model, cls.options or CompileOptions(cc=environment_cc(), cache=default_cache()))

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """`prepare` and `run` once."""
        with cls.prepare(model, device, **kwargs) as prepared:
            return prepared.run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one operator on arrays, `opset_version` (default: the newest) saying which version of it is meant."""
        super().run_node(node, inputs, device, outputs_info, **kwargs)
        arrays = [np.asarray(value) for value in inputs]
        names = [name for name in node.input if name]
        made = onnx.helper.make_tensor_value_info
        code = onnx.helper.np_dtype_to_tensor_dtype
        ports = [made(n, code(a.dtype), a.shape) for n, a in zip(names, arrays, strict=True)]
        wanted = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        version = int(kwargs.get("opset_version", onnx.defs.onnx_opset_version()))
        graph = onnx.helper.make_graph([node], "node", ports, wanted)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(node.domain, version)])
        return cls.run_model(model, arrays, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Plans run on CPUs."""
        try:
            return bool(Device(device).type == DeviceType.CPU)
        except AttributeError:
            return False


is_compatible = StratacBackend.is_compatible
prepare = StratacBackend.prepare
run_model = StratacBackend.run_model
run_node = StratacBackend.run_node
supports_device = StratacBackend.supports_device
