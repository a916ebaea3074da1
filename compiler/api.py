"""`stratac.compile`: the compiler as a Python function."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.dims import Bounds
from ..ir.errors import StratacError
from .driver import compile_model
from .layout import STRING_BYTES, make_layout
from .options import (
    CompileOptions,
    default_cache,
    environment_cc,
    parse_cache,
    parse_dim,
    parse_pin,
    parse_size,
    plan_path,
    precision_error,
)
from .source import ModelSource

#: what a model's path starts with where it is a folder of Hugging Face's
HF_PREFIX = "hf:"
Dims = Mapping[str, "Bounds | int | str"]


def compile(
    model: Any,
    output: str | os.PathLike[str] | None = None,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    dims: Dims | None = None,
    constants: Mapping[str, Any] | None = None,
    sequences: Mapping[str, Any] | None = None,
    string_bytes: int = STRING_BYTES,
    states: Mapping[str, str] | None = None,
    trips: int = 0,
    cache: int | str | None = None,
    target: str = "native",
    threads: int = 0,
    budgets: Mapping[str, int | str] | None = None,
    objective: str = "latency",
    pins: Mapping[str, str] | None = None,
    precision: str = "faithful",
    max_error: float | None = None,
    ragged: str = "",
    cc: str | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Path:
    """Compile a model to a plan folder and return its path.

    `model` is the path of an ONNX file, "hf:FOLDER" for a model as Hugging Face keeps them, a `torch.nn.Module` or a
    `torch.export.ExportedProgram`. A module is exported as it is in evaluation, called with `args` and `kwargs`; `dynamic_shapes`
    is what `torch.export.export` takes, and an axis may also be named by a string. Inputs of the plan are called as the parameters
    of `forward`, outputs as the fields of its result, parts of nested ones joined by underscores.

    `output` defaults to the model's name with `.plan`. `dims` bounds symbolic dims: an int, "min:typical:max" or Bounds.
    `constants` gives values of inputs by name (arrays, numbers or lists): they are compiled in and the plan does not ask for them.
    `sequences` gives for each input that is a sequence its length, or a list with the shape of each element (extents and names of
    dims), and None for an optional input without a value; `string_bytes` is the UTF-8 length that strings may have. `states` ties
    inputs to outputs by name: the plan keeps what a run leaves there for the next one (`Session.state`, `Session.reset`), as it
    does with buffers that a module changes. `cache` makes of a folder's decoder a plan that takes the next tokens and keeps keys
    and values of so many, as state ("4x512" for a batch of 4).
    `trips` is how often loops may run of which only the data says how often (a run that needs more fails).
    `target` is `native`, a shipped machine or a TOML file; `threads` the planned count (0: the target's cores).
    `budgets` maps a tier to the bytes the plan may use there, as a number or "2GiB"; weights that do not fit are streamed from
    storage. `objective` is latency, throughput or memory. `pins` maps regular expressions over node and weight names to where
    they must go: a device, a tier, or "!" and one of them. `precision` is faithful, exact, bf16x3 or bf16; `max_error` instead
    gives the relative L2 error that a product's numeric mode may have. `ragged` names the input that is the mask of valid tokens
    (1) and padding (0): then padded rows are not computed, and outputs are zeros there. `cc` is the C compiler's command (default:
    $CC, else one on PATH that makes code for the target). Raises StratacError.
    """
    bounds = {}
    for name, value in (dims or {}).items():
        bounds[name] = value if isinstance(value, Bounds) else parse_dim(f"{name}={value}")[1]
    options = CompileOptions(
        target=target,
        dims=bounds,
        constants={name: np.asarray(value) for name, value in (constants or {}).items()},
        layout=make_layout(sequences, string_bytes, states, trips),
        threads=threads,
        budgets={tier: parse_size(str(size)) for tier, size in (budgets or {}).items()},
        objective=objective,
        pins=tuple(parse_pin(f"{pattern}={where}") for pattern, where in (pins or {}).items()),
        max_error=precision_error(precision, max_error),
        ragged=ragged,
        cc=cc or environment_cc(),
        cache=default_cache(),
    )
    place = Path(output) if output is not None else None
    rooms = None if cache is None else parse_cache(str(cache))
    with opened(model, place, args, kwargs, dynamic_shapes, rooms) as (source, folder):
        return compile_model(source, folder, options, progress).folder


@contextmanager
def opened(
    model: Any,
    output: Path | None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    cache: tuple[int, int] | None = None,
) -> Iterator[tuple[Path | ModelSource, Path]]:
    """A model as `compile` takes it, ready for the compiler, and the folder of its plan; what was made of it goes at the end."""
    text = os.fspath(model) if isinstance(model, (str, os.PathLike)) else None
    if cache is not None and (text is None or not text.startswith(HF_PREFIX)):
        hint = f"give {HF_PREFIX}FOLDER; the caches of a module or of a file are state where they are buffers, or by states="
        raise StratacError("a cache is made for decoders in folders of Hugging Face's only", hint=hint)
    if text is not None and not text.startswith(HF_PREFIX):
        yield Path(text), output or plan_path(Path(text))
        return
    # torch is loaded only for models that need it
    from .frontends.torch import open_folder, open_program

    if text is not None:
        folder = Path(text.removeprefix(HF_PREFIX))
        yield open_folder(folder, cache), output or plan_path(Path(folder.resolve().name))
        return
    target = output or plan_path(Path(f"{type(model).__name__}.model"))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as parameters:
        yield open_program(model, args, kwargs, dynamic_shapes, Path(parameters)), target
