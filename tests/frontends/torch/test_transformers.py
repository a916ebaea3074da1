"""Models of transformers: as modules with named axes, and as folders whose weights stay where they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", "5")

import stratac
from stratac.compiler.cli import main
from stratac.compiler.frontends.torch import open_folder
from stratac.compiler.frontends.torch.safetensors import read_header
from stratac.ir.dims import Bounds
from stratac.ir.errors import ModelError, StratacError
from stratac.ir.graph import FileBytes, Inline

TOKENS = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
BERT = {**TOKENS, "max_position_embeddings": 64}
GPT2 = {
    "vocab_size": 99,
    "n_embd": 32,
    "n_layer": 1,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA = {**TOKENS, "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}


def build(kind: str, config: str, values: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return getattr(transformers, kind)(getattr(transformers, config)(**values)).eval()


def tokens(batch: int, seq: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch * 100 + seq)
    mask = torch.ones(batch, seq, dtype=torch.int64)
    mask[0, seq - seq // 3 :] = 0
    return {"input_ids": torch.randint(3, 99, (batch, seq), generator=generator), "attention_mask": mask}


def agree(plan: Path, model: Any, inputs: dict[str, torch.Tensor], field: str) -> None:
    with stratac.load(plan) as session:
        names = [port.name for port in session.get_outputs()]
        assert [port.name for port in session.get_inputs()] == list(inputs)
        found = dict(zip(names, session.run(None, {k: v.numpy() for k, v in inputs.items()}), strict=True))[field]
    with torch.no_grad():
        want = model(**inputs)[field].numpy()
    assert np.linalg.norm(found - want) <= 1e-5 * np.linalg.norm(want)


NAMED = {name: {0: "batch", 1: "seq"} for name in ("input_ids", "attention_mask")}
DIMS = {"batch": Bounds(1, 2, 4), "seq": Bounds(1, 12, 48)}


@pytest.mark.parametrize(
    ("kind", "config", "values", "field"),
    [
        ("BertModel", "BertConfig", BERT, "last_hidden_state"),
        ("GPT2LMHeadModel", "GPT2Config", {**GPT2, "use_cache": False}, "logits"),
        ("LlamaForCausalLM", "LlamaConfig", {**LLAMA, "use_cache": False}, "logits"),
    ],
    ids=["bert", "gpt2", "llama"],
)
def test_language_models(tmp_path: Path, kind: str, config: str, values: dict[str, Any], field: str) -> None:
    model = build(kind, config, values)
    plan = stratac.compile(model, tmp_path / "m.plan", kwargs=tokens(2, 12), dynamic_shapes=NAMED, dims=DIMS)
    for batch, seq in ((1, 3), (3, 31)):
        agree(plan, model, tokens(batch, seq), field)


def test_resnet(tmp_path: Path) -> None:
    model = build("ResNetForImageClassification", "ResNetConfig", RESNET)
    images = {"pixel_values": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))}
    plan = stratac.compile(model, tmp_path / "r.plan", kwargs=images)
    agree(plan, model, images, "logits")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_folder(tmp_path: Path, dtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Sharded and tied; 16-bit weights are widened when they are packed."""
    model = build("LlamaForCausalLM", "LlamaConfig", {**LLAMA, "tie_word_embeddings": True})
    folder = tmp_path / "tiny-llama"
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    options = ["--dim", "batch=1:2:4", "--dim", "seq=1:12:48", "--quiet"]
    assert main(["compile", f"hf:{folder}", "-o", str(tmp_path / "l.plan"), *options]) == 0
    agree(tmp_path / "l.plan", model.float(), tokens(3, 7), "logits")


@pytest.mark.parametrize(
    ("kind", "config", "values"),
    [
        ("LlamaForCausalLM", "LlamaConfig", {**LLAMA, "num_hidden_layers": 2}),
        ("GPT2LMHeadModel", "GPT2Config", GPT2),
    ],
    ids=["llama", "gpt2"],
)
def test_a_decoder_with_a_cache(tmp_path: Path, kind: str, config: str, values: dict[str, Any]) -> None:
    """A prompt, then tokens one by one, through one plan: what the model says of all tokens at once."""
    model = build(kind, config, values)
    model.save_pretrained(tmp_path / "decoder")
    options = ["--cache", "2x20", "--dim", "seq=1:1:8", "--quiet"]
    assert main(["compile", f"hf:{tmp_path / 'decoder'}", "-o", str(tmp_path / "d.plan"), *options]) == 0
    tokens = torch.randint(3, 99, (2, 14), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        want = model(tokens).logits.numpy()
    with stratac.load(tmp_path / "d.plan") as session:
        assert [port.name for port in session.get_inputs()] == ["input_ids"]
        for _ in range(2):
            found = []
            for start, end in ((0, 5), (5, 6), (6, 7), (7, 12), (12, 13), (13, 14)):
                found += session.run(None, {"input_ids": tokens[:, start:end].numpy()})
            together = np.concatenate(found, 1)
            assert np.linalg.norm(together - want) <= 1e-5 * np.linalg.norm(want)
            session.reset()
        for start in range(0, 20, 5):
            session.run(None, {"input_ids": tokens[:, start % 10 : start % 10 + 5].numpy()})
        with pytest.raises(StratacError, match="tokens_beyond_the_cache"):
            session.run(None, {"input_ids": tokens[:, :1].numpy()})
        session.reset()
        np.testing.assert_array_equal(session.run(None, {"input_ids": tokens[:, :5].numpy()})[0], found[0])
    plan = (tmp_path / "d.plan" / "placed.txt").read_text()
    kept = [line for line in plan.splitlines() if ".kept =" in line]
    assert all(": i64[]" in line for line in kept), "rows are put in place"


def test_experts_of_a_folder_are_joined(tmp_path: Path) -> None:
    """Files have the experts one by one, the model has them as one tensor."""
    values = {**LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}
    model = build("MixtralForCausalLM", "MixtralConfig", values)
    model.save_pretrained(tmp_path / "mixtral")
    names = [name for file in (tmp_path / "mixtral").glob("*.safetensors") for name in read_header(file)]
    assert sum("experts.3.w1" in name for name in names) == 1
    plan = stratac.compile(f"hf:{tmp_path / 'mixtral'}", tmp_path / "m.plan", dims=DIMS)
    agree(plan, model, tokens(2, 7), "logits")


def test_a_cache_needs_a_decoder(tmp_path: Path) -> None:
    model = build("BertModel", "BertConfig", BERT)
    model.save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelError, match="is no decoder"):
        stratac.compile(f"hf:{tmp_path / 'bert'}", tmp_path / "b.plan", cache=16)
    with pytest.raises(StratacError, match="decoders in folders"):
        stratac.compile(tmp_path / "model.onnx", tmp_path / "b.plan", cache=16)


def test_weights_of_a_folder_are_references(tmp_path: Path) -> None:
    """Nothing of the files is read; buffers that are in no file are computed."""
    model = build("BertForSequenceClassification", "BertConfig", BERT)
    model.save_pretrained(tmp_path / "bert")
    graph = open_folder(tmp_path / "bert").graph(DIMS, {})
    assert graph.symbols == DIMS
    for weight in graph.weights.values():
        assert isinstance(weight.content, FileBytes) or (isinstance(weight.content, Inline) and not weight.label)
    files = {weight.content.file for weight in graph.weights.values() if isinstance(weight.content, FileBytes)}
    assert files == {"model.safetensors"}


def test_vision_folder(tmp_path: Path) -> None:
    model = build("ResNetForImageClassification", "ResNetConfig", RESNET)
    model.save_pretrained(tmp_path / "resnet")
    plan = stratac.compile(f"hf:{tmp_path / 'resnet'}", tmp_path / "r.plan", dims={"batch": "1:1:2"})
    images = {"pixel_values": torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))}
    agree(plan, model, images, "logits")


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        open_folder(tmp_path)
    model = build("BertModel", "BertConfig", BERT)
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**model.config.to_dict(), "architectures": ["NoSuchModel"]}))
    with pytest.raises(ModelError, match="'NoSuchModel', which transformers does not have"):
        open_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**model.config.to_dict(), "intermediate_size": 32}))
    with pytest.raises(ModelError, match=r"has shape \[32, 32\]; in the files it is f32\[64, 32\]"):
        open_folder(tmp_path)
    shard = tmp_path / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(ModelError, match="does not lie within the file"):
        open_folder(tmp_path)
    shard.unlink()
    with pytest.raises(ModelError, match="is missing"):
        open_folder(tmp_path)


#: Prints the peak memory of importing a folder, and the bytes of its weights.
_IMPORT = """
import resource, sys
from pathlib import Path
from stratac.compiler.frontends.torch import open_folder
from stratac.ir.dims import Bounds
graph = open_folder(Path(sys.argv[1])).graph({"batch": Bounds(1, 1, 1), "seq": Bounds(1, 8, 64)}, {})
weights = sum(getattr(weight.content, "nbytes", 0) for weight in graph.weights.values())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, weights)
"""


def hollow_folder(folder: Path, width: int) -> None:
    """A Llama folder whose file of weights is all holes: it has its size and takes no disk."""
    config = transformers.LlamaConfig(
        **{**LLAMA, "hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 4, "vocab_size": 4000},
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(folder)
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    header, offset = {}, 0
    for name, parameter in model.named_parameters():
        size = 4 * parameter.numel()
        header[name] = {"dtype": "F32", "shape": list(parameter.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)


def test_memory_of_an_import_does_not_grow_with_the_weights(tmp_path: Path) -> None:
    found = []
    for width in (64, 1600):
        folder = tmp_path / str(width)
        folder.mkdir()
        hollow_folder(folder, width)
        command = [sys.executable, "-c", _IMPORT, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
        found.append(tuple(map(int, done.stdout.split())))
    (small, few), (large, many) = found
    assert many > 400 << 20 and few < 8 << 20
    assert large - small < 32 << 20
