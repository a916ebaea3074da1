"""Models larger than the memory they are to run in: GPT-2 decoders of any size, exported as a user would, in bounded memory.

Two layers of the size asked for are built and exported by torch; the second one's nodes are repeated for all further layers, and
the weights, seeded and lively as the zoo's, are written to the external data file piece by piece.

    python -m benchmarks.large [NAMES...] [-o zoo/large] [--force]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from .zoo import Arrays

DEFAULT_FOLDER = Path(__file__).resolve().parent.parent / "zoo" / "large"
PIECE = 1 << 22  # floats made at a time
SPARE_BYTES = 1 << 30  # left free on the disk
ALIGNMENT = 4096  # of a tensor in the external data file
TYPICAL = {"batch": 1, "seq": 128}


@dataclass(frozen=True)
class Decoder:
    """The sizes of a GPT-2."""

    layers: int
    hidden: int
    heads: int
    vocabulary: int = 50257
    positions: int = 1024

    @property
    def weights(self) -> int:
        """Floats of all parameters; the embedding is also the output layer."""
        block = 12 * self.hidden**2 + 13 * self.hidden
        return self.layers * block + (self.vocabulary + self.positions + 2) * self.hidden

    def gflops(self, batch: int, seq: int) -> float:
        """Of one forward pass: matrix products and attention, a multiply-add counting two."""
        rows = batch * seq
        products = 2 * rows * (12 * self.layers * self.hidden**2 + self.vocabulary * self.hidden)
        return (products + 4 * self.layers * rows * seq * self.hidden) / 1e9


LARGE: Mapping[str, Decoder] = {
    "gpt2_xl": Decoder(48, 1600, 25),
    "gpt2_large": Decoder(36, 1280, 20),
    "gpt2_medium": Decoder(24, 1024, 16),
    "gpt2_small": Decoder(12, 768, 12),
    "gpt2_toy": Decoder(12, 128, 4, 1003, 96),
}


def inputs(model: Decoder, seed: int = 0, *, batch: int, seq: int) -> Arrays:
    """Tokens."""
    ids = np.random.default_rng(seed).integers(0, model.vocabulary, (batch, seq), dtype=np.int64)
    return {"input_ids": ids}


# -- structure -----------------------------------------------------------------------------------------------------


def export_two_layers(model: Decoder, path: Path) -> onnx.ModelProto:
    """The graph that torch exports for two layers, its weights left out: external tensors without a place."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from .zoo import _decoder, _enliven

    config = GPT2Config(
        use_cache=False, n_layer=2, n_embd=model.hidden, n_head=model.heads,
        vocab_size=model.vocabulary, n_positions=model.positions,
    )  # fmt: skip
    module = _decoder(_enliven(GPT2LMHeadModel(config), 31))  # equal tensors would be stored once
    # neither 0 nor 1 nor equal: the exporter would specialise or merge the dims
    example = {"input_ids": torch.zeros((2, 24), dtype=torch.int64)}
    dynamic = {"input_ids": {0: "batch", 1: "seq"}}
    options = {"output_names": ["logits"], "dynamic_shapes": dynamic, "external_data": True, "verbose": False}
    torch.onnx.export(module, (), path, kwargs=example, dynamo=True, **options)  # type: ignore[arg-type]
    return onnx.load(path, load_external_data=False)


def repeat_layer(two: onnx.ModelProto, layers: int) -> onnx.ModelProto:
    """The graph with the second layer's nodes once for each layer from the second on. Raises ValueError where the second layer is
    not one stretch of nodes from one value to the next.
    """
    nodes = list(two.graph.node)
    begin = next(i for i, n in enumerate(nodes) if any(v.endswith(".h.1.ln_1.weight") for v in n.input))
    end = next(i for i, n in enumerate(nodes) if any(v.endswith(".ln_f.weight") for v in n.input))
    block, carry, last = nodes[begin:end], nodes[begin].input[0], nodes[end].input[0]
    made = {v for n in block for v in n.output}
    if last not in made or any(v in made - {last} for n in nodes[end:] for v in n.input):
        raise ValueError("the second layer hands on more than one value")
    tensors = {t.name: t for t in two.graph.initializer}

    def renamed(name: str, layer: int) -> str:
        if name == carry:
            return last if layer == 2 else f"{last}_layer{layer - 1}"
        if name in made:
            return f"{name}_layer{layer}"
        return name.replace(".h.1.", f".h.{layer}.")

    repeated, more = [], []
    for layer in range(2, layers):
        for node in block:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{node.name}_layer{layer}"
            copy.input[:] = [renamed(v, layer) for v in node.input]
            copy.output[:] = [renamed(v, layer) for v in node.output]
            for entry in copy.metadata_props:
                entry.value = entry.value.replace(".h.1", f".h.{layer}")
            repeated.append(copy)
        for name, tensor in tensors.items():
            if ".h.1." in name:
                clone = onnx.TensorProto()
                clone.CopyFrom(tensor)
                clone.name = renamed(name, layer)
                more.append(clone)
    final = last if layers == 2 else f"{last}_layer{layers - 1}"
    tail = []
    for node in nodes[end:]:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [final if v == last else v for v in node.input]
        tail.append(copy)
    result = onnx.ModelProto()
    result.CopyFrom(two)
    del result.graph.node[:]
    result.graph.node.extend([*nodes[:end], *repeated, *tail])
    result.graph.initializer.extend(more)
    return result


# -- weights -------------------------------------------------------------------------------------------------------


def draw(name: str, dims: tuple[int, ...], seed: int) -> Iterator[np.ndarray]:
    """A parameter in flat pieces, spread like the zoo's: no term of the computation is trivial."""
    rng = np.random.default_rng([seed, *name.encode()])
    count = int(np.prod(dims, dtype=np.int64))
    leaf = name.rpartition(".")[2]
    norm = ".ln_" in name
    if leaf == "bias":
        spread = 0.2 if norm else 0.1
    elif "wpe" in name:
        spread = 0.3
    elif "wte" in name or "lm_head" in name:
        spread = 0.05
    else:
        spread = 1.25 / dims[0] ** 0.5  # GPT-2's linear layers are [in, out]
    for start in range(0, count, PIECE):
        size = min(PIECE, count - start)
        if norm and leaf == "weight":
            yield rng.random(size, np.float32) * np.float32(0.8) + np.float32(0.6)
        else:
            yield rng.standard_normal(size, np.float32) * np.float32(spread)


def write_weights(model: onnx.ModelProto, path: Path, seed: int) -> None:
    """Every parameter into one file; the model's tensors then refer to it. Small constants of the exporter stay as they are."""
    with open(path, "wb") as file:
        for tensor in model.graph.initializer:
            if tensor.data_location != onnx.TensorProto.EXTERNAL:
                continue
            if not tensor.name.startswith("model."):
                raise ValueError(f"the exporter moved the constant {tensor.name} into the data file")
            file.seek(-(-file.tell() // ALIGNMENT) * ALIGNMENT)
            start = file.tell()
            for piece in draw(tensor.name, tuple(tensor.dims), seed):
                file.write(memoryview(piece).cast("B"))
            del tensor.external_data[:]
            for key, value in (("location", path.name), ("offset", start), ("length", file.tell() - start)):
                tensor.external_data.add(key=key, value=str(value))


def export(name: str, folder: Path = DEFAULT_FOLDER, force: bool = False, seed: int = 31) -> Path:
    """`folder`/NAME.onnx with NAME.onnx.data; a file already present is reused unless `force`.

    Raises OSError, before anything is made, where the disk has no room.
    """
    model, target = LARGE[name], folder / f"{name}.onnx"
    if target.exists() and not force:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    need, free = 4 * model.weights + SPARE_BYTES, shutil.disk_usage(folder).free
    if need > free:
        raise OSError(f"{name} needs {need / 1e9:.1f} GB in {folder}, which has {free / 1e9:.1f} GB free")
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder))
    try:
        two = export_two_layers(model, scratch / "two.onnx")
        whole = repeat_layer(two, model.layers)
        whole.graph.name = name
        write_weights(whole, scratch / f"{name}.onnx.data", seed)
        onnx.save(whole, scratch / target.name)
        target.unlink(missing_ok=True)
        os.replace(scratch / f"{name}.onnx.data", folder / f"{name}.onnx.data")
        os.replace(scratch / target.name, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(LARGE))
    parser.add_argument("-o", "--folder", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--force", action="store_true", help="make it again even when the file is present")
    arguments = parser.parse_args(argv)
    if unknown := [name for name in arguments.names if name not in LARGE]:
        parser.error(f"no model {', '.join(unknown)}; known: {', '.join(LARGE)}")
    for name in arguments.names or ["gpt2_xl"]:
        started = time.perf_counter()
        path = export(name, arguments.folder, arguments.force)
        size = path.with_name(f"{path.name}.data").stat().st_size
        print(f"{path}  {size / 2**30:.2f} GiB, {time.perf_counter() - started:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
