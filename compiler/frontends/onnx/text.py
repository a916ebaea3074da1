"""Rules of operators on strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

import numpy as np
import onnx

from ....ir.types import bool_, f32, i64, u8
from .. import contents
from ..known import Known
from ..unsupported import Unsupported
from .casing import case_table, grown
from .lists import numbers
from .merge import widened
from .regex import automaton
from .registry import RULES, rule, text_rule
from .selecting import chosen, unique_rows
from .site import Site
from .strings import moved, slots_of, strings_constant, strings_of
from .structured import Strings, Value


def _strings(site: Site, index: int = 0) -> Strings:
    found = site.value(index)
    if not isinstance(found, Strings):
        raise Unsupported(f"input {index} must be a tensor of strings")
    return found


def _texts(site: Site, name: str) -> list[bytes] | None:
    """An attribute of strings."""
    attribute = site.attribute(name)
    return None if attribute is None else [bytes(text) for text in attribute.strings]


@text_rule("Equal")
def equal(site: Site) -> Value:
    pair = [_strings(site, i) for i in range(2)]
    width = max(one.width for one in pair)
    same = site.emit("eq", *(widened(site, one, width) for one in pair))
    last = site.type_of(same).rank - 1
    return site.cast(site.emit("reduce_min", site.cast(same, u8), axes=(last,), keepdims=False), bool_)


@rule("StringConcat")
def string_concat(site: Site) -> Value:
    pair = [_strings(site, i) for i in range(2)]
    shape = contents.broadcast([one.shape for one in pair])
    if shape is None:
        raise Unsupported(f"joins strings of shapes {pair[0].shape} and {pair[1].shape}")
    whole = [site.expand(one.value, (*shape, one.width)) for one in pair]
    return strings_of(site, site.emit("string_concat", *whole))


@rule("StringSplit")
def string_split(site: Site) -> list[Value]:
    """The number of pieces, a run-time dim, has a bound: no more fit into the slot of a string."""
    x, between = _strings(site), site.get_str("delimiter").encode()
    most = site.get_int("maxsplit", -1)
    pieces = x.width // len(between) + 1 if between else (x.width + 1) // 2
    pieces = min(pieces, most + 1) if most >= 0 else pieces
    count = site.runtime_dim("pieces", pieces)
    delimiter = site.constant(np.frombuffer(between, np.uint8))
    parts, numbers = site.emit_all("string_split", x.value, delimiter, outputs=2, count=count, most=most)
    return [strings_of(site, parts), numbers]


@rule("RegexFullMatch")
def regex_full_match(site: Site) -> Value:
    table = automaton(site.get_str("pattern"))
    return site.emit("string_match", _strings(site).value, site.constant(table))


def _cased(site: Site, x: Strings, upper: bool) -> Strings:
    table, factor = case_table(upper)
    width = grown(x.width, factor)
    return strings_of(site, site.emit("string_case", x.value, site.constant(table), width=width, sigma=not upper))


@rule("StringNormalizer")
def string_normalizer(site: Site) -> Value:
    """Strings that are stop words are left out, as the standard's text has it; without any left there is one empty string. The
    locale changes nothing: case is that of Unicode."""
    x, action = _strings(site), site.get_str("case_change_action", "NONE")
    if action not in ("NONE", "LOWER", "UPPER"):
        raise Unsupported(f"case_change_action {action!r} is not known")
    site.get_str("locale")
    sensitive, words = bool(site.get_int("is_case_sensitive")), _texts(site, "stopwords") or []
    if len(x.shape) not in (1, 2) or (len(x.shape) == 2 and x.shape[0] != 1):
        raise Unsupported(f"takes strings of shape [C] or [1, C], got {list(x.shape)}")
    row = strings_of(site, site.reshape(x.value, x.type.shape[-2:]))
    result = row if action == "NONE" else _cased(site, row, action == "UPPER")
    if words:
        looked = row if sensitive else _cased(site, row, False)
        keys = words if sensitive else [word.decode("utf-8", "replace").lower().encode() for word in words]
        where = _found(site, looked, keys)
        kept, count = chosen(site, site.emit("lt", where, site.scalar(0, i64)), "kept")
        result = _or_empty(site, result, kept, count)
    elif row.shape[0] == 0:
        result = strings_of(site, site.constant(np.zeros((1, 1), np.uint8)))
    lead = x.shape[:-1]
    return strings_of(site, site.reshape(result.value, (*lead, *result.type.shape)))


def _or_empty(site: Site, x: Strings, kept: str, count: Any) -> Strings:
    """The strings at some positions, or one empty string where there are none."""
    (extent,) = x.shape
    table = site.emit("concat", x.value, site.constant(np.zeros((1, x.width), np.uint8)), axis=0)
    end = site.data(contents.vector(i64, [extent]))
    number = site.facts.over(()).maximum(count, 1)
    positions = site.slice(site.emit("concat", kept, end, axis=0), 0, 0, number)
    return strings_of(site, site.emit("gather", table, positions, axis=0))


def _found(site: Site, x: Strings, keys: Sequence[bytes]) -> str:
    """Where each string is in the sorted keys, -1 where it is not."""
    known = sorted(set(keys))
    return site.emit("string_find", x.value, site.constant(slots_of(known, (len(known),))))


@text_rule("Pad")
def pad_of_strings(site: Site) -> Union[Value, Sequence[Value]]:
    """Pads with a string, which is empty where none is given."""
    copy = onnx.NodeProto()
    copy.CopyFrom(site.node)
    copy.input.extend([""] * (3 - len(copy.input)))
    if not copy.input[2]:
        copy.input[2] = site.importer.temporary(strings_constant(site.emitter, [b""], ()))
    return moved(site.like(copy), RULES["", "Pad"])


@text_rule("Unique")
def unique_strings(site: Site) -> list[Value]:
    """In the order of their bytes, which is that of their characters."""
    x = _strings(site)
    found = unique_rows(site, x.value, len(x.shape), bool(site.get_int("sorted", 1)))
    return [strings_of(site, found[0]), *found[1:]]


# -- tables of labels


@rule("LabelEncoder", domain="ai.onnx.ml")
def label_encoder(site: Site) -> Value:
    """Each element looked up among the keys; what is not there gets the default."""
    keys, values, default = _classes(site) if site.opset < 2 else _labels(site)
    if len(keys) != len(values):
        raise Unsupported(f"{len(keys)} keys for {len(values)} values")
    return _looked_up(site, dict(zip(keys, values, strict=True)), default)


def _looked_up(site: Site, table: dict[Any, Any], default: Any) -> Value:
    """What a table has for each element, or the default."""
    where = _label_positions(site, sorted(table))
    ordered = [*(table[key] for key in sorted(table)), default]
    if len({isinstance(value, bytes) for value in ordered}) != 1:
        raise Unsupported("gives strings for some elements and numbers for others")
    if isinstance(default, bytes):
        return strings_of(site, site.emit("gather", site.constant(slots_of(ordered, (len(ordered),))), where, axis=0))
    return site.emit("gather", site.constant(np.array(ordered)), where, axis=0)


def _label_positions(site: Site, keys: list[Any]) -> str:
    """Where each element is among sorted keys, -1 where it is not."""
    x = site.value(0)
    if isinstance(x, Strings):
        if any(not isinstance(key, bytes) for key in keys):
            raise Unsupported("looks up strings among keys that are numbers")
        return _found(site, x, keys)
    if any(isinstance(key, bytes) for key in keys):
        raise Unsupported("looks up numbers among keys that are strings")
    assert isinstance(x, (str, Known))
    value = site.data(x)
    type = site.type_of(value)
    table = np.array(keys, None if keys else type.dtype.np)
    if table.dtype.kind == "f" and not type.dtype.is_float:
        raise Unsupported(f"looks up {type.dtype} among keys that are {table.dtype}")
    wide = site.reshape(value, (*type.shape, 1))
    same = site.emit("eq", wide, site.constant(table.astype(type.dtype.np)))
    numbers = site.data(contents.arange(i64, 0, 1, len(keys)))
    return site.emit(
        "reduce_max", site.emit("where", same, numbers, site.scalar(-1, i64)), axes=(type.rank,), keepdims=False
    )


def _classes(site: Site) -> tuple[list[Any], list[Any], Any]:
    """The first version: strings to their positions, or positions to strings."""
    words = _texts(site, "classes_strings") or []
    fallback = site.get_str("default_string", "_Unused").encode()
    number = site.get_int("default_int64", -1)
    places = list(range(len(words)))
    if isinstance(site.value(0), Strings):
        return words, [np.int64(place) for place in places], np.int64(number)
    return places, words, fallback


def _labels(site: Site) -> tuple[list[Any], list[Any], Any]:
    keys = _listed(site, "keys")
    values = _listed(site, "values")
    defaults = {
        "strings": site.get_str("default_string", "_Unused").encode(),
        "int64s": np.int64(site.get_int("default_int64", -1)),
        "floats": np.float32(site.get_float("default_float", -0.0)),
    }
    tensor = site.get_tensor("default_tensor")
    if keys is None or values is None:
        raise Unsupported("lacks keys or values")
    kind = values[0]
    if kind != "tensor":
        return keys[1], values[1], defaults[kind]
    elements = _elements(site, tensor) if tensor is not None else []
    if len(elements) != 1:
        raise Unsupported("default_tensor must have one element")
    return keys[1], values[1], elements[0]


def _listed(site: Site, side: str) -> tuple[str, list[Any]] | None:
    """The keys or the values, and the kind of the attribute that has them; strings as bytes."""
    found = None
    for kind in ("strings", "int64s", "floats", "tensor"):
        attribute = site.attribute(f"{side}_{kind}")
        if attribute is None:
            continue
        if kind == "tensor":
            found = kind, _elements(site, attribute.t)
        elif kind == "strings":
            found = kind, [bytes(text) for text in attribute.strings]
        else:
            dtype = np.int64 if kind == "int64s" else np.float32
            found = kind, list(np.array(attribute.ints if kind == "int64s" else attribute.floats, dtype))
    return found


def _elements(site: Site, tensor: onnx.TensorProto) -> list[Any]:
    if tensor.data_type == onnx.TensorProto.STRING:
        return [bytes(text) for text in tensor.string_data]
    return list(site.importer.tensors.array(tensor).reshape(-1))


@rule("CategoryMapper", domain="ai.onnx.ml")
def category_mapper(site: Site) -> Value:
    """Strings to numbers or back, by pairs."""
    words, whole = _texts(site, "cats_strings") or [], numbers(site, "cats_int64s")
    places = [] if whole is None else list(whole)
    if len(words) != len(places):
        raise Unsupported(f"{len(words)} strings for {len(places)} numbers")
    fallback = site.get_str("default_string", "_Unused").encode()
    number = np.int64(site.get_int("default_int64", -1))
    if isinstance(site.value(0), Strings):
        return _looked_up(site, dict(zip(words, places, strict=True)), number)
    return _looked_up(site, dict(zip(places, words, strict=True)), fallback)


@text_rule("OneHotEncoder", domain="ai.onnx.ml")
def one_hot_of_strings(site: Site) -> Value:
    """A new last axis with 1 where the string is that category."""
    words, x = _texts(site, "cats_strings") or [], _strings(site)
    site.attribute("cats_int64s")
    if not words or not site.get_int("zeros", 1):
        raise Unsupported("cats_strings must name the categories, and zeros must be 1")
    known = sorted(set(words))
    places = {word: place for place, word in enumerate(known)}
    where = site.reshape(_found(site, x, words), (*x.shape, 1))
    return site.cast(site.emit("eq", where, site.constant(np.array([places[word] for word in words]))), f32)


@text_rule("TfIdfVectorizer")
def tfidf_of_strings(site: Site) -> Any:
    """Strings become their numbers in the pool, and the rule of numbers does the rest."""
    words = _texts(site, "pool_strings")
    if not words or ("", "TfIdfVectorizer") not in RULES:
        raise Unsupported("is not supported" if words else "lacks pool_strings")
    known = sorted(set(words))
    places = {word: place for place, word in enumerate(known)}
    copy = onnx.NodeProto()
    copy.CopyFrom(site.node)
    del copy.attribute[:]
    copy.attribute.extend(a for a in site.node.attribute if a.name != "pool_strings")
    copy.attribute.append(onnx.helper.make_attribute("pool_int64s", [places[word] for word in words]))
    copy.input[0] = site.importer.temporary(_found(site, _strings(site), known))
    return RULES["", "TfIdfVectorizer"](site.like(copy))
