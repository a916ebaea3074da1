"""Models as nobody should write them: those of the official operator tests, changed as bytes and as messages, and invented nodes."""

from __future__ import annotations

import functools
import inspect
import random
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from stratac.compiler.frontends.onnx.functions import schema_of
from stratac.compiler.frontends.onnx.registry import RULES

NUMBERS = (0, 1, -1, 2, 3, 7, 31, 127, 255, 1 << 16, (1 << 31) - 1, -(1 << 31), 1 << 40, (1 << 63) - 1, -(1 << 63))
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 3e38, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "",
    "x",
    "y",
    "Add",
    "Reshape",
    "ai.onnx",
    "com.microsoft",
    "/etc/passwd",
    "../x",
    "\u00e9",
    "a" * 300,
    "%s",
    "\n",
)
#: Values of attributes that rules ask for.
WORDS = (
    *(
        "NOTSET",
        "SAME_UPPER",
        "SAME_LOWER",
        "VALID",
        "linear",
        "nearest",
        "cubic",
        "none",
        "add",
        "edge",
        "reflect",
        "wrap",
    ),
    *(
        "NONE",
        "SOFTMAX",
        "LOGISTIC",
        "SUM",
        "AVERAGE",
        "LEFT",
        "forward",
        "reverse",
        "bidirectional",
        "TF",
        "IDF",
        "DCR",
    ),
    *(
        "relu",
        "Relu",
        "Tanh",
        "Sigmoid",
        "silu",
        "swiglu",
        "tanh",
        "ij,jk->ik",
        "...i,i...",
        "i",
        ",",
        "BRANCH_LEQ",
        "LEAF",
    ),
    *(
        "LINEAR",
        "RBF",
        "POLY",
        "a+b",
        "(a|b)*[^c]{2,3}",
        "half_pixel",
        "tf_crop_and_resize",
        "gated",
        "delta",
        "a",
        "b",
    ),
)
_TYPES = frozenset(onnx.TensorProto.DataType.keys())
_KINDS = {
    "int": onnx.AttributeProto.INT,
    "ints": onnx.AttributeProto.INTS,
    "float": onnx.AttributeProto.FLOAT,
    "floats": onnx.AttributeProto.FLOATS,
    "str": onnx.AttributeProto.STRING,
    "strings": onnx.AttributeProto.STRINGS,
    "tensor": onnx.AttributeProto.TENSOR,
}


def corpus(folder: Path | None = None) -> list[bytes]:
    """The models of the official operator tests, and those of a folder."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [case.model.SerializeToString() for case in collect_testcases(None) if case.model is not None]
    return found + [path.read_bytes() for path in sorted(folder.glob("*.onnx") if folder else ())]


def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """A damaged copy: mostly of the message, sometimes of the bytes. `other` is a model to take pieces from. Sometimes neither counts,
    and one is invented."""
    if rng.random() < 0.25:
        data = invent(rng)
    elif rng.random() < 0.2:
        return _bytes(rng, data, other)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return _bytes(rng, data, other)
    donor = onnx.ModelProto()
    donor.ParseFromString(other)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 6))):
        with suppress(ValueError):  # a number that the field cannot hold
            rng.choice(_MESSAGES)(rng, model, donor)
    return model.SerializeToString()


def invent(rng: random.Random) -> bytes:
    """A node of some operator that has a rule, of inputs that may fit its standard, where it has one, and of attributes."""
    (domain, op), opset = rng.choice(sorted(RULES)), rng.choice((7, 9, 11, 13, 17, 18, 20, 22, 24))
    node = onnx.NodeProto(domain=domain, op_type=op, output=["y", "y1", "y2", "y3"][: rng.choice((1, 1, 2, 3, 4))])
    model = onnx.ModelProto(ir_version=10)
    model.opset_import.add(version=opset)
    if domain:
        model.opset_import.add(domain=domain, version=rng.choice((1, 3, 5)))
    schema = schema_of(domain, op, opset if not domain else 5)
    most = rng.randrange(1, 10)
    if schema is not None:
        most = min(
            schema.max_input, rng.choice((schema.min_input, schema.min_input + 1, min(schema.max_input, 9), most))
        )
        node.output[:] = node.output[: max(schema.max_output, 1)]
    pool = [
        [rng.choice((1, 2, 2, 3, 4, 4, 6, 8)) for _ in range(rng.choice((0, 1, 2, 2, 3, 3, 4, 4, 5)))] for _ in range(3)
    ]
    chosen: dict[str, int] = {}
    for index in range(most):
        name, kind = f"x{index}", rng.choice((1, 1, 1, 2, 3, 6, 7, 10))
        if schema is not None:
            parameter = schema.inputs[min(index, len(schema.inputs) - 1)]
            allowed = [c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == parameter.type_str]
            words = [w[7:-1].upper() for w in (*allowed, [parameter.type_str])[0] if w.startswith("tensor(")]
            codes = [onnx.TensorProto.DataType.Value(w) for w in words if w in _TYPES]
            kind = chosen.setdefault(parameter.type_str, rng.choice(codes or [1]))
        node.input.append("" if index and rng.random() < 0.1 else name)
        if not node.input[-1]:
            continue
        if kind in (onnx.TensorProto.INT64, onnx.TensorProto.FLOAT) and rng.random() < 0.35:
            shape = rng.choice((*pool, [], [1], [2], [4]))
            count = int(np.prod(shape))
            numbers = (0, 1, 1, 2, 2, 3, 4, 8, -1) if rng.random() < 0.8 else NUMBERS
            array = np.array([rng.choice(numbers) for _ in range(count)], np.int64).reshape(shape)
            array = array if kind == onnx.TensorProto.INT64 else array.astype(np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
            continue
        shape = [rng.choice(("n", "m")) if rng.random() < 0.08 else extent for extent in rng.choice(pool)]
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, shape))
    model.graph.node.append(node)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output)
    if rng.random() < 0.6:
        _give_attributes(rng, model, model)
    if schema is not None:
        have = {attribute.name for attribute in model.graph.node[0].attribute}
        for name, kind in attributes_asked()[domain, op]:
            if name not in have and schema.attributes[name].required if name in schema.attributes else False:
                model.graph.node[0].attribute.append(_attribute(rng, name, kind))
    return bytes(model.SerializeToString())


def _bytes(rng: random.Random, data: bytes, other: bytes) -> bytes:
    text = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(text) + 1)
        match rng.randrange(5):
            case 0 if at < len(text):
                text[at] ^= 1 << rng.randrange(8)
            case 1:
                del text[at : at + rng.randrange(1, 16)]
            case 2:
                text[at:at] = rng.randbytes(rng.randrange(1, 16))
            case 3:
                del text[at:]
            case 4:
                begin = rng.randrange(len(other))
                text[at:at] = other[begin : begin + rng.randrange(1, 64)]
    return bytes(text)


def _fields(message: Message, depth: int = 0) -> list[tuple[Message, object]]:
    """Every field that is set, with the message it is in."""
    found: list[tuple[Message, object]] = []
    for field, value in message.ListFields():
        found.append((message, field))
        if field.message_type is None or depth > 8:
            continue
        for part in value if field.is_repeated else (value,):
            found += _fields(part, depth + 1)
    return found


def _change_a_field(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """A number, text or flag becomes another; a repeated field loses, doubles or swaps a part."""
    message, field = rng.choice(_fields(model) or [(model, None)])
    if field is None:
        return
    name = field.name  # type: ignore[attr-defined]
    value = getattr(message, name)
    if field.is_repeated:  # type: ignore[attr-defined]
        at = rng.randrange(len(value))
        match rng.randrange(4):
            case 0:
                del value[at]
            case 1 if field.message_type is not None:  # type: ignore[attr-defined]
                value.add().CopyFrom(value[at])
            case 1:
                value.append(value[at])
            case 2 if field.message_type is None:  # type: ignore[attr-defined]
                value[at] = _other(rng, value[at])
            case 3 if field.message_type is None:  # type: ignore[attr-defined]
                value[at] = value[rng.randrange(len(value))]
    elif field.message_type is not None or rng.random() < 0.2:  # type: ignore[attr-defined]
        message.ClearField(name)
    else:
        setattr(message, name, _other(rng, value))


def _other(rng: random.Random, value: object) -> object:
    """Another value of a field's type, often one that is near."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((*NUMBERS, value + 1, value - 1, rng.randrange(64)))
    if isinstance(value, float):
        return rng.choice((*FLOATS, value * 2))
    if isinstance(value, str):
        return rng.choice((*TEXTS, value + "_", value[:-1]))
    assert isinstance(value, bytes)
    return rng.choice((b"", value[:-1], value + b"\0", value[::-1], rng.randbytes(len(value))))


def _swap_operators(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """A node becomes another operator with the same inputs."""
    if model.graph.node and donor.graph.node:
        node, from_ = rng.choice(model.graph.node), rng.choice(donor.graph.node)
        node.op_type, node.domain = from_.op_type, from_.domain
        if rng.random() < 0.5:
            del node.attribute[:]
            node.attribute.extend(from_.attribute)


def _rewire(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """An input or output of a node gets another name of the model."""
    names = [info.name for info in (*model.graph.input, *model.graph.output)]
    names += [name for node in model.graph.node for name in (*node.input, *node.output)] + [""]
    for node in model.graph.node[:1] if rng.random() < 0.5 else model.graph.node:
        side = node.input if rng.random() < 0.7 else node.output
        if side:
            side[rng.randrange(len(side))] = rng.choice(names)


def _reshape(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """A port gets another shape, a symbolic dim or another element type."""
    ports = [*model.graph.input, *model.graph.output]
    if not ports:
        return
    tensor = rng.choice(ports).type.tensor_type
    match rng.randrange(5):
        case 0:
            tensor.elem_type = rng.randrange(30)
        case 1:
            tensor.shape.dim.add().dim_value = rng.choice((0, 1, 2, 5, -1))
        case 2 if tensor.shape.dim:
            del tensor.shape.dim[rng.randrange(len(tensor.shape.dim))]
        case 3 if tensor.shape.dim:
            rng.choice(tensor.shape.dim).dim_value = rng.choice((*NUMBERS, 2, 3, 4))
        case 4 if tensor.shape.dim:
            rng.choice(tensor.shape.dim).dim_param = rng.choice(("n", "batch", "", "a b", "1"))


def _make_constant(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """An input becomes an initializer, whose values decide shapes: small numbers, or what does not fit."""
    if not model.graph.input:
        return
    port = rng.choice(model.graph.input)
    kind, dims = port.type.tensor_type.elem_type, [d.dim_value for d in port.type.tensor_type.shape.dim]
    tensor = onnx.TensorProto(name=port.name, data_type=kind, dims=dims)
    count = 1
    for extent in dims:
        count *= max(extent, 0)
    if count > 4096:
        return
    if kind == onnx.TensorProto.INT64:
        tensor.int64_data.extend(rng.choice((*NUMBERS[:7], -2)) for _ in range(count))
    else:
        tensor.raw_data = rng.randbytes(count * rng.choice((1, 2, 4, 4, 8)))
    model.graph.initializer.append(tensor)
    if rng.random() < 0.7:
        model.graph.input.remove(port)


def _change_opset(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    if model.opset_import:
        rng.choice(model.opset_import).version = rng.choice((*NUMBERS, *range(1, 30)))


def _give_attributes(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """A node gets values for attributes that its rule asks for, or that its standard has."""
    if not model.graph.node:
        return
    node = rng.choice(model.graph.node)
    kinds = sorted(attributes_asked().get(("" if node.domain == "ai.onnx" else node.domain, node.op_type), ()))
    for name, kind in rng.sample(kinds, min(len(kinds), rng.choice((1, 1, 2, 4, 12)))):
        for index in reversed([k for k, attribute in enumerate(node.attribute) if attribute.name == name]):
            del node.attribute[index]
        node.attribute.append(_attribute(rng, name, kind))


def _attribute(rng: random.Random, name: str, kind: str) -> onnx.AttributeProto:
    """An attribute of some value: mostly one that might be meant."""
    few = rng.choice((0, 1, 1, 2, 2, 3, 4, 6))
    small = (0, 1, 1, 1, 2, 2, 3, 4, 8)
    whole = [rng.choice(small if rng.random() < 0.8 else NUMBERS) for _ in range(few or 1)]
    real = [rng.choice((0.0, 0.5, 1.0, 2.0) if rng.random() < 0.7 else FLOATS) for _ in range(few or 1)]
    words = [rng.choice(WORDS if rng.random() < 0.8 else TEXTS) for _ in range(few or 1)]
    values = {"int": whole[0], "ints": whole, "float": real[0], "floats": real, "str": words[0], "strings": words}
    found = onnx.AttributeProto(name=name, type=_KINDS[kind])
    if kind == "tensor":
        dtype = rng.choice((np.float32, np.int64, np.uint8, np.float64))
        array = np.array(real) if np.dtype(dtype).kind == "f" else np.array(whole) % 128
        found.t.CopyFrom(onnx.numpy_helper.from_array(array.astype(dtype)))
    elif kind in ("ints", "floats", "strings"):
        held = values[kind] if few else []
        getattr(found, kind).extend([w.encode() for w in words] if kind == "strings" and few else held)
    elif kind == "str":
        found.s = words[0].encode()
    else:
        setattr(found, kind[0], values[kind])
    return found


def _source(rule: Callable[..., object]) -> str:
    """Of a rule and the functions it calls."""
    found: dict[Callable[..., object], str] = {}
    pending = [rule]
    while pending:
        one = pending.pop()
        found[one] = inspect.getsource(one)
        near = [getattr(inspect.getmodule(one), name, None) for name in re.findall(r"\b(\w+)\(", found[one])]
        pending += [each for each in near if inspect.isfunction(each) and each not in found and each not in pending]
    return "".join(found.values())


@functools.cache
def attributes_asked() -> dict[tuple[str, str], set[tuple[str, str]]]:
    """Names and kinds of attributes by (domain, operator): those of the standard, and those that the file of its rule asks for."""
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    types = onnx.defs.OpSchema.AttrType
    names = {types.INT: "int", types.INTS: "ints", types.FLOAT: "float", types.FLOATS: "floats"}
    names |= {types.STRING: "str", types.STRINGS: "strings", types.TENSOR: "tensor"}
    for schema in onnx.defs.get_all_schemas():
        own = {(name, names[spec.type]) for name, spec in schema.attributes.items() if spec.type in names}
        found.setdefault(("" if schema.domain == "ai.onnx" else schema.domain, schema.name), set()).update(own)
    for key, rule in RULES.items():
        if key not in found:
            text = _source(rule)
            asked = re.findall(r"\bget_(int|ints|float|floats|str|tensor)\(\s*\"(\w+)\"", text)
            found[key] = {(name, kind) for kind, name in asked}
    return found


def _swap_for_a_rule(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """A node becomes any operator that there is a rule for, with some of its attributes."""
    if not model.graph.node:
        return
    node = rng.choice(model.graph.node)
    node.domain, node.op_type = rng.choice(sorted(RULES))
    if not any(entry.domain == node.domain for entry in model.opset_import):
        model.opset_import.add(domain=node.domain, version=rng.choice((1, 3, 5)))
    del node.attribute[:]
    _give_attributes(rng, model, donor)


def _change_inputs(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """A node loses an input, leaves one out, gets more of them, or gets them in another order."""
    if not model.graph.node:
        return
    node = rng.choice(model.graph.node)
    names = [info.name for info in model.graph.input] + [tensor.name for tensor in model.graph.initializer] + [""]
    given = list(node.input)
    match rng.randrange(4):
        case 0 if given:
            given[rng.randrange(len(given))] = ""
        case 1 if given:
            del given[rng.randrange(len(given))]
        case 2:
            given += [rng.choice(names) for _ in range(rng.randrange(1, 6))]
        case 3:
            rng.shuffle(given)
    node.input[:] = given


def _swap_types(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """All ports and constants of one element type get another."""
    kinds = [port.type.tensor_type.elem_type for port in model.graph.input]
    if not kinds:
        return
    old, new = rng.choice(kinds), rng.choice((1, 1, 2, 3, 5, 6, 7, 7, 9, 10, 11, 12, 13, 16, 17, 21, 22, 23))
    for port in (*model.graph.input, *model.graph.output):
        if port.type.tensor_type.elem_type == old:
            port.type.tensor_type.elem_type = new
    for tensor in model.graph.initializer:
        if tensor.data_type == old:
            tensor.data_type = new


def _change_ranks(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """Inputs get shapes of their own, some of them the same; outputs none."""
    pool = [[rng.choice((0, 1, 1, 2, 2, 3, 4, 6, 8)) for _ in range(rng.randrange(6))] for _ in range(2)]
    for port in model.graph.input:
        if rng.random() < 0.7:
            tensor = port.type.tensor_type
            tensor.shape.ClearField("dim")
            for extent in rng.choice(pool):
                dim = tensor.shape.dim.add()
                if rng.random() < 0.15:
                    dim.dim_param = rng.choice(("n", "m"))
                else:
                    dim.dim_value = extent
    for port in model.graph.output:
        port.type.tensor_type.ClearField("shape")


def _join(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """Nodes of another model behind those there are, reading some of their values."""
    names = [name for node in model.graph.node for name in node.output if name]
    names += [port.name for port in model.graph.input]
    if not names or not donor.graph.node or len(model.graph.node) > 40:
        return
    renamed = {port.name: rng.choice(names) for port in donor.graph.input}
    more = onnx.GraphProto()
    more.CopyFrom(donor.graph)
    mark = f"_{rng.randrange(1 << 20)}"
    for tensor in more.initializer:
        renamed[tensor.name] = tensor.name = tensor.name + mark
    for node in more.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        for name in node.output:
            renamed[name] = name and name + mark
        node.output[:] = [renamed[name] for name in node.output]
    model.graph.node.extend(more.node)
    model.graph.initializer.extend(more.initializer)
    if more.node[-1].output:
        model.graph.output.add(name=more.node[-1].output[0])
    have = {entry.domain for entry in model.opset_import}
    model.opset_import.extend(entry for entry in donor.opset_import if entry.domain not in have)


def _change_a_body(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """A graph inside a node is damaged as a model is."""
    bodies = [a.g for node in model.graph.node for a in node.attribute if a.HasField("g")]
    if not bodies:
        return
    body, inner = rng.choice(bodies), onnx.ModelProto()
    inner.graph.CopyFrom(body)
    rng.choice([change for change in _MESSAGES if change is not _change_opset])(rng, inner, donor)
    body.CopyFrom(inner.graph)


def _change_a_constant(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """A constant gets other bytes, extents or values, or lies in a file."""
    tensors = [*model.graph.initializer, *(a.t for n in model.graph.node for a in n.attribute if a.HasField("t"))]
    if not tensors:
        return
    tensor = rng.choice(tensors)
    match rng.randrange(5):
        case 0:
            tensor.dims[:] = [rng.choice((0, 1, 2, 3, *NUMBERS)) for _ in range(rng.randrange(4))]
        case 1:
            tensor.raw_data = rng.randbytes(rng.choice((0, 1, 4, 8, 16, 2000)))
        case 2:
            tensor.data_type = rng.randrange(27)
        case 3:
            array = np.array([rng.choice(NUMBERS) for _ in range(rng.randrange(6))], np.int64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        case 4:
            tensor.data_location = onnx.TensorProto.EXTERNAL
            pairs = {"location": rng.choice(("model.onnx", *TEXTS)), "offset": str(rng.choice((0, 1, *NUMBERS)))}
            for key, value in {**pairs, "length": str(rng.choice(NUMBERS))}.items():
                tensor.external_data.add(key=key, value=value)


def _make_a_function(rng: random.Random, model: onnx.ModelProto, donor: onnx.ModelProto) -> None:
    """A node becomes a call of a function of the model, which may have a fault."""
    if not model.graph.node:
        return
    node = rng.choice(model.graph.node)
    function = model.functions.add(name="F" + node.op_type, domain="own")
    function.input.extend(f"i{k}" for k in range(len(node.input) - (rng.random() < 0.1)))
    function.output.extend(f"o{k}" for k in range(len(node.output)))
    function.opset_import.extend(model.opset_import)
    inner = function.node.add()
    inner.CopyFrom(node)
    inner.input[:] = [f"i{k}" if name else "" for k, name in enumerate(node.input)]
    inner.output[:] = [f"o{k}" for k in range(len(node.output))]
    for attribute in inner.attribute:
        if rng.random() < 0.3:
            attribute.ref_attr_name = attribute.name
            function.attribute.append(attribute.name)
    if rng.random() < 0.1:
        function.node.add(op_type=function.name, domain="own", input=inner.input, output=["again"])
    node.op_type, node.domain = function.name, "own"
    model.opset_import.add(domain="own", version=1)


_MESSAGES: tuple[Callable[[random.Random, onnx.ModelProto, onnx.ModelProto], None], ...] = (
    *(_change_a_field,) * 4,
    _swap_operators,
    *(_swap_for_a_rule,) * 3,
    _rewire,
    _reshape,
    *(_make_constant,) * 2,
    _change_opset,
    *(_give_attributes,) * 3,
    *(_change_inputs,) * 2,
    _swap_types,
    *(_change_ranks,) * 2,
    *(_join,) * 2,
    _change_a_body,
    _change_a_constant,
    _make_a_function,
)
