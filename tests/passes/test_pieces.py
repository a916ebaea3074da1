"""A decoder as a chain of pieces: what is held, what divides over a tensor group, and what later pieces need."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from stratac.benchmarks.big_graphs import DECODERS, Decoder, decoder, write
from stratac.codegen.library import Library
from stratac.compiler.estimate.model import EstimatedModel, read_model
from stratac.compiler.profiles import load_machine
from stratac.ir.dims import Bounds
from stratac.passes.place.collectives import Way
from stratac.passes.place.cost import price
from stratac.passes.place.hosts import Chain as HostChain
from stratac.passes.place.hosts import Fabric, Unit, evaluate
from stratac.passes.place.pieces import Chain, make_chain

DIMS = {
    "prefill": {"batch": Bounds(1, 2, 4), "seq": Bounds(1, 512, 1024)},
    "decode": {"batch": Bounds(1, 2, 4), "past": Bounds(0, 512, 1024)},
}


def thin(name: str, layers: int = 3) -> Decoder:
    return replace(decoder(name), layers=layers)


@cache
def estimated(name: str, phase: str, folder: Path, layers: int = 3) -> EstimatedModel:
    return read_model(write(thin(name, layers), phase, folder), DIMS[phase])


@cache
def chain(name: str, phase: str, folder: Path, layers: int = 3) -> Chain:
    machine = load_machine("h200-server")
    return make_chain(estimated(name, phase, folder, layers).clusters, Library(), machine, machine.device("gpu0"), 1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("big")


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", [d.name for d in DECODERS])
def test_weights_are_those_of_the_model(name: str, phase: str, folder: Path) -> None:
    found, model = chain(name, phase, folder), estimated(name, phase, folder)
    tables = 2 * 131072 * thin(name).head // 2
    assert model.parameters == thin(name).parameters + tables
    assert found.weights == model.weight_bytes == 2 * model.parameters
    assert model.graph.absent == {f"{name}.data"} and not model.runnable
    assert model.tokens == (1024 if phase == "prefill" else 2) and model.batch == 2


@pytest.mark.parametrize("name", [d.name for d in DECODERS])
def test_every_composite_is_whole(name: str, folder: Path) -> None:
    """Of a decoder layer: two norms, two rotations, one attention; the matrices as products, or one mixture of experts."""
    for phase in ("prefill", "decode"):
        ops = [n.op for n in estimated(name, phase, folder).clusters.walk()]
        assert ops.count("rms_norm") == 2 * 3 + 1 and ops.count("attention") == 3 and ops.count("rotary") == 6
        assert ops.count("moe") == (3 if thin(name).experts else 0)
        assert ops.count("matmul") == (3 * 5 if thin(name).experts else 3 * 7) + 1


def test_caches_are_held_once_and_appended_to(folder: Path) -> None:
    shape = thin("llama70b")
    found, model = chain("llama70b", "decode", folder), estimated("llama70b", "decode", folder)
    assert found.state == model.state_bytes == 3 * 2 * 4 * shape.kv_heads * 1025 * shape.head * 2
    appends = [p for p in found.pieces if p.state]
    assert len(appends) == 6 and all(p.seconds < 6e-6 for p in appends)  # a new row is written, not the cache
    assert chain("llama70b", "prefill", folder).state == 0


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", ["llama70b", "dense1t"])
def test_two_sums_for_each_layer(name: str, phase: str, folder: Path) -> None:
    """Columns, then rows: after attention and after the FFN; the lookup sums once, and the logits are brought together."""
    found, shape = chain(name, phase, folder), thin(name)
    tokens = estimated(name, phase, folder).tokens
    sums = [p for p in found.pieces if p.reduce]
    rows = 2 * shape.hidden * tokens
    assert [p.reduce for p in sums[-6:]] == [rows] * 6
    assert sum(p.reduce == rows for p in sums) == 2 * shape.layers + 1  # and the embedding
    gathers = [p for p in found.pieces if p.gather]
    assert [p.gather for p in gathers] == [2 * shape.vocab * tokens]
    held = sum(p.weights for p in found.pieces if not p.split)
    assert held < 5e-3 * found.weights  # norms and the angles of the rotary embedding are copied


def test_experts_are_divided_and_summed(folder: Path) -> None:
    found = chain("moe1t", "decode", folder)
    experts = [p for p in found.pieces if p.weights > 1e10]
    assert len(experts) == 3 and all(p.split and p.reduce == 2 * 7168 * 2 and not p.gather for p in experts)
    active = 384 * (1 - (1 - 8 / 384) ** 2) / 384
    assert experts[0].weight_s == pytest.approx(active * experts[0].weights / 4.3e12)


def test_pieces_cost_what_the_cost_model_says(folder: Path) -> None:
    machine, library = load_machine("h200-server"), Library()
    model = estimated("llama70b", "prefill", folder)
    for node, piece in zip(model.clusters.nodes, chain("llama70b", "prefill", folder).pieces, strict=True):
        (candidate,) = (c for c in library.candidates(node, model.clusters, machine) if c.device == "gpu0")
        assert not candidate.executable
        assert piece.seconds == pytest.approx(price(candidate, machine, 1).seconds, rel=1e-9)


def test_a_group_of_eight_is_nearly_eight_times_as_fast(folder: Path) -> None:
    found = chain("llama70b", "prefill", folder)
    fabric = Fabric(Unit(141e9), 8, Way(400e9, 4e-6), None)
    one, eight = (evaluate(HostChain(found.pieces), fabric, 1, t, 1) for t in (1, 8))
    assert one is not None and eight is not None
    assert one.seconds == pytest.approx(found.seconds)
    assert 6.0 < one.seconds / (eight.seconds - eight.exchange_s) < 8.0
    assert found.members == 8


def test_weights_of_half_as_many_bits(folder: Path) -> None:
    found = chain("llama70b", "decode", folder)
    half = found.scaled(0.5)
    assert half.weights == pytest.approx(found.weights / 2, rel=1e-6) and half.state == found.state
    assert found.seconds / 2 < half.seconds < found.seconds and found.scaled(1.0) is found


def test_between_layers_only_the_hidden_state_is_sent(folder: Path) -> None:
    """And what all layers share, angles of the rotary embedding and positions."""
    shape, found = thin("llama70b"), chain("llama70b", "decode", folder)
    tokens = 2
    ends = [k for k, p in enumerate(found.pieces) if p.reduce][2::2]  # behind each FFN
    for k in ends[:-1]:
        assert found.pieces[k].sent == pytest.approx(2 * shape.hidden * tokens, abs=4 * shape.head * 2 * tokens)
