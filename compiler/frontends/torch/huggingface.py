"""Model folders as Hugging Face keeps them: config.json and safetensors files.

The class that the config names is built without weights and exported; its parameters are bound to where their bytes lie in the
files, so that importing a model takes no memory that grows with its weights.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ....ir.errors import EnvironmentProblem, ModelError, Problem
from ....ir.types import TensorType
from .cached import CachedDecoder
from .export import export_module
from .model import ExportedModel
from .safetensors import read_folder
from .weights import Joined, Stored

#: Sizes of the example inputs that a model is exported with; they do not shape the program.
_BATCH, _SEQ, _TARGET = 2, 8, 6


@dataclass(frozen=True)
class Example:
    """An example input and the names of its dynamic axes."""

    tensor: Any
    axes: Mapping[int, str]


def open_folder(folder: Path, cache: tuple[int, int] | None = None) -> ExportedModel:
    """The model of a folder, exported with the inputs its kind has: see `example_inputs`. With a `cache`, a batch and a length, it
    is a decoder that takes the next tokens, whose keys and values are state: see `CachedDecoder`.

    Raises ModelError where the folder, its config or its weights do not fit, EnvironmentProblem where transformers is missing.
    """
    try:
        import transformers
    except ImportError as error:
        raise EnvironmentProblem(
            "the package transformers is not installed", hint="pip install transformers"
        ) from error
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise ModelError(f"{folder} is no model folder: it has no config.json")
    try:
        named = json.loads(config_file.read_text()).get("architectures") or []
        config = transformers.AutoConfig.from_pretrained(folder)
    except (ValueError, OSError, KeyError) as error:
        raise ModelError(f"cannot read {config_file}: {error}") from None
    kind = getattr(transformers, named[0], None) if named else None
    if kind is None:
        what = f"architecture {named[0]!r}, which transformers does not have" if named else "no architecture"
        raise ModelError(f"{config_file} names {what}", hint="set its field architectures")
    if getattr(config, "use_cache", False):
        config.use_cache = False
    model = _without_weights(kind, config)
    files = read_folder(folder)
    stored = _bound(model, files)
    if cache is not None:
        return _cached(model, config, stored, folder, *cache)
    examples = example_inputs(model, config)
    given = {name: example.tensor for name, example in examples.items()}
    shapes = {name: dict(example.axes) for name, example in examples.items()}
    program, names = export_module(model, (), given, shapes)
    return ExportedModel(program, folder.resolve().name, names, stored, folder)


def _cached(
    model: Any, config: Any, stored: Mapping[str, Stored | Joined], folder: Path, batch: int, length: int
) -> ExportedModel:
    """The model as a decoder with a cache."""
    decoder = CachedDecoder(model, config, batch, length)
    tokens = torch.ones(batch, min(_SEQ, length), dtype=torch.int64)
    program, names = export_module(decoder, (), {"input_ids": tokens}, {"input_ids": {1: "seq"}})
    bound = {f"model.{name}": place for name, place in stored.items()}
    return ExportedModel(program, folder.resolve().name, names, bound, folder)


def _without_weights(kind: Any, config: Any) -> Any:
    """The module with parameters that take address space alone: what is never written takes no memory. Buffers that are not
    part of the files have their values."""
    with torch.device("meta"):
        model = kind(config)
    model.tie_weights()
    for parameter in {id(p): p for p in model.parameters()}.values():
        parameter._is_hf_initialized = True
    kept = {}
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is None:
                    continue
                if id(tensor) not in kept:
                    empty = torch.empty_like(tensor, device="cpu")
                    empty = torch.nn.Parameter(empty, False) if isinstance(tensor, torch.nn.Parameter) else empty
                    lasting = table is module._parameters or name not in module._non_persistent_buffers_set
                    empty._is_hf_initialized = lasting
                    kept[id(tensor)] = (tensor, empty)
                table[name] = kept[id(tensor)][1]
    model.initialize_weights()  # what is marked stays as it is
    return model.eval()


def _bound(model: Any, files: Mapping[str, Stored]) -> dict[str, Stored | Joined]:
    """Where each parameter of the model lies in the files; tied ones at the place of either. Raises ModelError."""
    renamed = _renamed(model, files)
    found: dict[str, Stored | Joined] = {}
    problems = []
    aliases: dict[int, list[str]] = {}
    tensors = dict(model.named_parameters(remove_duplicate=False))
    tensors |= {name: b for name, b in model.named_buffers() if name in model.state_dict()}
    for name, tensor in tensors.items():
        aliases.setdefault(id(tensor), []).append(name)
    for names in aliases.values():
        stored = next((renamed[name] for name in names if name in renamed), None)
        shape = tuple(int(d) for d in tensors[names[0]].shape)
        if stored is None:
            if isinstance(tensors[names[0]], torch.nn.Parameter):
                problems.append(Problem(f"parameter {names[0]!r} is not in the files"))
        elif stored.type.shape != shape:
            problems.append(
                Problem(f"parameter {names[0]!r} has shape {list(shape)}; in the files it is {stored.type}")
            )
        else:
            found |= dict.fromkeys(names, stored)
    if problems:
        count = len(problems)
        text = f"the weights do not fit {type(model).__name__}: {count} problem{'s' if count > 1 else ''}"
        raise ModelError(text, problems, hint="is this the folder of another kind of model?")
    return found


def _renamed(model: Any, files: Mapping[str, Stored]) -> dict[str, Stored | Joined]:
    """The tensors of the files by what they are called in the model: transformers' own rules, as far as they rename, stack lists of
    tensors (experts, one by one in the files) and join what is left."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key
    except ImportError as error:
        raise EnvironmentProblem(
            "this version of transformers is too old to read model folders", hint="pip install 'transformers>=5'"
        ) from error
    mapping = get_model_conversion_mapping(model)
    rules = [rule for rule in mapping if type(rule) is WeightRenaming]
    joins = {
        pattern: rule
        for rule in mapping
        if type(rule) is WeightConverter and _joins(rule)
        for pattern in rule.source_patterns
    }
    converters, wanted = list(dict.fromkeys(joins.values())), model.state_dict()
    found: dict[str, Stored | Joined] = {}
    lists: dict[str, dict[str, list[Stored]]] = {}  # by the names of wholes and the patterns of their parts
    for name in sorted(files, key=dot_natural_key):
        called, pattern = rename_source_key(name, rules, converters, model.base_model_prefix, wanted)
        if pattern is None or name == called or name in wanted:
            found[called] = files[name]
        else:
            lists.setdefault(called, {}).setdefault(pattern, []).append(files[name])
    for called, patterns in lists.items():
        rule = joins[next(iter(patterns))]
        joined = _joined([patterns.get(pattern, []) for pattern in rule.source_patterns], rule)
        if joined is not None:
            found[called] = joined
    return found


def _joins(rule: Any) -> bool:
    """Whether a rule of transformers' makes one tensor by stacking lists, by joining, or by the one and then the other."""
    kinds = [type(operation).__name__ for operation in rule.operations]
    stacks = all(getattr(op, "dim", 0) == 0 for op in rule.operations if type(op).__name__ == "MergeModulelist")
    allowed = (["MergeModulelist"], ["Concatenate"], ["MergeModulelist", "Concatenate"])
    return kinds in allowed and stacks and len(rule.target_patterns) == 1


def _joined(parts: list[list[Stored]], rule: Any) -> Joined | None:
    """The whole of these parts, or None where they do not fit together: then it is missing."""
    stacked = type(rule.operations[0]).__name__ == "MergeModulelist"
    last = rule.operations[-1]
    axis = int(last.dim) if type(last).__name__ == "Concatenate" else 0
    kinds = [part[0].type for part in parts if part]
    alike = len(kinds) == len(parts) and all(
        one.type == kind for part, kind in zip(parts, kinds, strict=True) for one in part
    )
    if not alike or len({(kind.dtype, kind.rank, len(part)) for kind, part in zip(kinds, parts, strict=True)}) != 1:
        return None
    shapes = [(len(part), *kind.shape) if stacked else kind.shape for kind, part in zip(kinds, parts, strict=True)]
    if len({(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}) != 1 or (not stacked and len(parts[0]) != 1):
        return None
    extent = sum(int(str(shape[axis])) for shape in shapes)
    whole = TensorType(kinds[0].dtype, (*shapes[0][:axis], extent, *shapes[0][axis + 1 :]))
    return Joined(whole, tuple(tuple(part) for part in parts), stacked, axis)


def example_inputs(model: Any, config: Any) -> dict[str, Example]:
    """What a kind of model is called with: token ids and their mask [batch, seq], images [batch, channels, height, width], spectra
    [batch, bins, frames] or samples [batch, samples]; those with a decoder also its token ids [batch, target].

    Raises ModelError for a model that starts from something else.
    """
    accepted = inspect.signature(model.forward).parameters
    found: dict[str, Example] = {}
    start = getattr(model, "main_input_name", "input_ids")
    main = start[0] if isinstance(start, (list, tuple)) else start
    if main == "input_ids" or ("input_ids" in accepted and "pixel_values" in accepted):
        found |= _tokens("input_ids", "attention_mask", _SEQ, "seq", accepted)
    if "pixel_values" in accepted:
        found["pixel_values"] = Example(torch.zeros(_BATCH, *_image(config)), {0: "batch"})
    if "input_features" in accepted:
        frames = 2 * int(getattr(config, "max_source_positions", 1500))
        found["input_features"] = Example(torch.zeros(_BATCH, int(config.num_mel_bins), frames), {0: "batch"})
    if "input_values" in accepted:
        found["input_values"] = Example(torch.zeros(_BATCH, 16000), {0: "batch", 1: "samples"})
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in accepted:
        found |= _tokens("decoder_input_ids", "", _TARGET, "target", accepted)
    if not found:
        raise ModelError(
            f"{type(model).__name__} starts from {main!r}, for which there is no example input",
            hint="compile the module itself: stratac.compile(module, kwargs=..., dynamic_shapes=...)",
        )
    return found


def _tokens(name: str, mask: str, length: int, dim: str, accepted: Mapping[str, Any]) -> dict[str, Example]:
    axes = {0: "batch", 1: dim}
    found = {name: Example(torch.ones(_BATCH, length, dtype=torch.int64), axes)}
    if mask in accepted:
        found[mask] = Example(torch.ones(_BATCH, length, dtype=torch.int64), axes)
    return found


def _image(config: Any) -> tuple[int, int, int]:
    """Channels, height and width."""
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", None) or 224
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return int(getattr(vision, "num_channels", 3)), int(height), int(width)
