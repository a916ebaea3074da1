"""The large decoders are the models they are named after: the graph made by repeating a layer against torch's own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
onnxruntime = pytest.importorskip("onnxruntime")

from stratac.benchmarks import large

TOY = large.LARGE["gpt2_toy"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return large.export("gpt2_toy", tmp_path_factory.mktemp("large"))


def parameters(path: Path) -> dict[str, np.ndarray]:
    """The tensors of the data file by their torch names."""
    model = onnx.load(path)
    found = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name.startswith("model.")}
    return {name.removeprefix("model."): array for name, array in found.items()}


def test_it_computes_what_torch_computes(toy: Path) -> None:
    config = transformers.GPT2Config(
        use_cache=False,
        n_layer=TOY.layers,
        n_embd=TOY.hidden,
        n_head=TOY.heads,
        vocab_size=TOY.vocabulary,
        n_positions=TOY.positions,
    )
    module = transformers.GPT2LMHeadModel(config).eval()
    state = {name: torch.from_numpy(array.copy()) for name, array in parameters(toy).items()}
    missing, unexpected = module.load_state_dict(state, strict=False)
    assert not unexpected
    assert {name.split(".")[-2] for name in missing} <= {"lm_head", "wte", "attn"}, (
        "all but the tied embedding and masks"
    )
    assert sum(tensor.numel() for tensor in state.values()) == TOY.weights
    session = onnxruntime.InferenceSession(str(toy), providers=["CPUExecutionProvider"])
    for batch, seq in ((1, 1), (2, 37), (3, 96)):
        arrays = large.inputs(TOY, seed=seq, batch=batch, seq=seq)
        (got,) = session.run(None, arrays)
        with torch.no_grad():
            wanted = module(input_ids=torch.from_numpy(arrays["input_ids"])).logits.numpy()
        assert got.shape == wanted.shape == (batch, seq, TOY.vocabulary)
        assert np.linalg.norm(got - wanted) < 2e-5 * np.linalg.norm(wanted)


def test_every_layer_counts(toy: Path) -> None:
    """No layer stands beside the path: each has nodes, and weights of its own."""
    model = onnx.load(toy, load_external_data=False)
    onnx.checker.check_model(str(toy))
    for layer in range(TOY.layers):
        readers = [n for n in model.graph.node if any(f".h.{layer}." in v for v in n.input)]
        assert len(readers) >= 6
    arrays = parameters(toy)
    one, other = (arrays[f"transformer.h.{layer}.mlp.c_fc.weight"] for layer in (3, 7))
    assert not np.array_equal(one, other) and one.std() == pytest.approx(1.25 / TOY.hidden**0.5, rel=0.05)


def test_a_full_disk_is_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**9))
    with pytest.raises(OSError, match=r"gpt2_xl needs 7\.3 GB in .*, which has 1\.0 GB free"):
        large.export("gpt2_xl", tmp_path)
    assert list(tmp_path.iterdir()) == []
