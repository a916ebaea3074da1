"""`stratac estimate`: the plan's own time where a plan could be made, answers where it could not, and errors like other commands'."""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stratac as package
from stratac.benchmarks.big_graphs import decoder, write
from stratac.benchmarks.estimates import lines, measure
from stratac.compiler.driver import lower_model
from stratac.compiler.estimate.text import number_text
from stratac.compiler.options import CompileOptions, parse_dim
from stratac.compiler.profiles import load_machine, shipped
from stratac.tests.cli.command import child
from stratac.tests.cli.conftest import CommandLine
from stratac.tests.cli.models import conv_net, save, transformer_block

PAST = ("--dim", "past=0:512:1024")


def thin(phase: str = "decode", name: str = "llama70b", layers: int = 2) -> Path:
    return write(replace(decoder(name), layers=layers), phase, Path())


def answers(stratac: CommandLine, *argv: str | Path, code: int = 0) -> list[dict[str, Any]]:
    result = stratac("estimate", *argv, "--json")
    assert result.code == code, result.err
    return list(json.loads(result.out))


# -- the same as a plan


@pytest.mark.parametrize("target", ["native", "laptop-8gb", "generic-x86_64-avx2"])
def test_time_and_memory_are_the_plans(stratac: CommandLine, target: str) -> None:
    save(conv_net(), Path("conv.onnx"))
    save(transformer_block(), Path("block.onnx"))
    for name, dims in (("mlp", ["seq=1:5:16"]), ("conv", ["batch=1:2:3"]), ("block", ["seq=1:8:32"])):
        options = CompileOptions(target=target, dims=dict(parse_dim(d) for d in dims))
        plan = lower_model(Path(f"{name}.onnx"), options).plan
        (answer,) = answers(stratac, f"{name}.onnx", "--target", target, *(f"--dim={d}" for d in dims))
        assert answer["seconds"] == plan.seconds
        assert answer["fits"] and answer["runs_today"] and answer["method"].startswith("placed")
        assert answer["memory"]["ram"]["needed"] == pytest.approx(plan.peak_bytes() + (3 << 20))


def test_smallest_budget_is_the_compilers(stratac: CommandLine) -> None:
    (answer,) = answers(stratac, "mlp.onnx", "--dim", "seq=1:5:16", "--budget", "ram=3MiB", code=2)
    assert not answer["fits"] and answer["memory"]["ram"]["short"] > 0
    least = int(answer["smallest_budget"]["ram"])
    stratac.refused(
        ("compile", "mlp.onnx", "-o", "x.plan", "--dim", "seq=1:5:16", "--budget", f"ram={least - 1}"), 2, str(least)
    )
    assert answers(stratac, "mlp.onnx", "--dim", "seq=1:5:16", "--budget", f"ram={least}")[0]["fits"]


# -- what cannot be compiled


def test_verdict_comes_first(stratac: CommandLine) -> None:
    thin()
    page = stratac.good("estimate", "llama70b-decode.onnx", "--target", "h200-server", *PAST)
    first, *rest = page.splitlines()
    assert first.startswith("llama70b-decode on h200-server: fits, ") and "tokens/s" in first
    for text in (
        "an estimate only",
        "past = 0:512:1024, batch = 1 assumed",
        "absent   llama70b.data",
        "hbm0 (each of",
        "energy",
        "price",
    ):
        assert any(text in line for line in rest), (text, page)


def test_without_room_it_says_what_is_short_and_what_would_do(stratac: CommandLine) -> None:
    thin()
    argv = ("llama70b-decode.onnx", "--target", "generic-x86_64-avx512", *PAST, "--budget", "ram=1GiB,disk=1GiB")
    (answer,) = answers(stratac, *argv, code=2)
    assert not answer["fits"] and answer["memory"]
    result = stratac("estimate", *argv)
    assert result.code == 2 and "does not fit, short of" in result.out.splitlines()[0]
    budgets = {"ram": 1 << 30, "disk": 1 << 30}
    for _ in budgets:  # each answer names the tier that is short next
        budgets |= {tier: int(count) + 1 for tier, count in answer["smallest_budget"].items()}
        text = ",".join(f"{tier}={count}" for tier, count in budgets.items())
        (answer,) = json.loads(stratac("estimate", *argv[:-1], text, "--json").out)
    assert answer["fits"]


def test_too_large_for_one_host_but_not_for_many(stratac: CommandLine) -> None:
    thin("decode", "moe1t", 16)
    argv = ("moe1t-decode.onnx", "--target", "h200-server", *PAST, "--budget", "ram=1GiB,disk=1GiB,hbm0=60GB")
    (answer,) = answers(stratac, *argv, code=2)
    assert not answer["fits"] and answer["hosts_used"] > 1 and answer["seconds"] > 0
    rows = {row["hosts"]: row for row in answer["hosts"]}
    assert not rows[1]["fits"] and rows[answer["hosts_used"]]["fits"]
    assert "it fits" in stratac("estimate", *argv).out
    (alone,) = answers(stratac, *argv, "--hosts", "1", code=2)
    assert alone["hosts"] == [] and alone["hosts_used"] == 1


def test_every_shipped_machine_answers(stratac: CommandLine) -> None:
    thin("prefill")
    found = answers(stratac, "llama70b-prefill.onnx", "--all-targets", "--dim", "seq=128")
    assert [a["target"] for a in found] == shipped()
    assert all(a["fits"] and a["seconds"] > 0 for a in found)
    table = stratac.good("estimate", "llama70b-prefill.onnx", "--all-targets", "--dim", "seq=128")
    assert all(any(line.startswith(name) for line in table.splitlines()) for name in shipped())
    seconds = {a["target"]: a["seconds"] for a in found}
    assert seconds["h200-server"] < seconds["desktop-24gb-gpu"] < seconds["laptop-8gb"] < seconds["raspberry-pi-5"]


def test_a_gpu_is_only_estimated(stratac: CommandLine) -> None:
    """An f32 model on a machine with a GPU: the estimate uses it, a plan does not."""
    save(transformer_block(), Path("block.onnx"))
    (answer,) = answers(stratac, "block.onnx", "--target", "desktop-24gb-gpu", "--dim", "seq=1:8:32")
    assert answer["fits"] and not answer["runs_today"] and answer["hosts"]
    plan = lower_model(
        Path("block.onnx"), CompileOptions(target="desktop-24gb-gpu", dims={"seq": parse_dim("seq=1:8:32")[1]})
    )
    assert {c.chosen.candidate.device for c in plan.placed.choices.values()} == {"cpu"}


def test_more_tokens_never_take_less_time(stratac: CommandLine) -> None:
    thin("prefill")
    for target in ("h200-server", "desktop-24gb-gpu", "server-amx"):
        times = [
            answers(stratac, "llama70b-prefill.onnx", "--target", target, "--dim", f"seq={n}")[0]["seconds"]
            for n in (1, 64, 1024, 4096)
        ]
        assert times == sorted(times) and times[-1] > 2 * times[0]


# -- errors


@pytest.mark.parametrize(
    ("argv", "texts"),
    [
        (("absent.onnx",), ("cannot read the model",)),
        (("mlp.onnx", "--target", "cray"), ("no machine 'cray'", "h200-server")),
        (("mlp.onnx", "--target", ","), ("--target names no machine",)),
        (("mlp.onnx",), ("dim 'seq'", "has no bounds")),
        (("mlp.onnx", "--dim", "sec=4"), ("no dim 'sec'", "did you mean 'seq'?")),
        (("mlp.onnx", "--dim", "seq=4", "--budget", "vram=1GiB"), ("has no tier 'vram'", "ram")),
        (("mlp.onnx", "--dim", "seq=4", "--hosts", "0"), ("not a whole number",)),
        (("mlp.onnx", "--dim", "seq=4", "--target", "phone-flash", "--hosts", "4"), ("phone-flash has no network",)),
    ],
)
def test_errors(stratac: CommandLine, argv: tuple[str, ...], texts: tuple[str, ...]) -> None:
    stratac.refused(("estimate", *argv), 2, *texts)


def test_help_teaches(stratac: CommandLine) -> None:
    page = stratac.good("estimate", "--help")
    for text in ("examples:", "--all-targets", "docs/estimate.md", "exit code"):
        assert text in page


# -- Python, and the size of it


def test_python_api(stratac: CommandLine) -> None:
    thin()
    answer = package.estimate("llama70b-decode.onnx", target="h200-server", dims={"past": "0:512:1024"}, hosts=1)
    assert answer["fits"] and answer["tokens"] == 1 and "estimate" in dir(package)
    assert answer == answers(stratac, "llama70b-decode.onnx", "--target", "h200-server", *PAST, "--hosts", "1")[0]


def test_seconds_and_memory_of_an_estimate(stratac: CommandLine) -> None:
    """A tenth of the layers in a process of its own; all of them are `python -m benchmarks.estimates`."""
    thin(layers=8)
    result = child("estimate", "llama70b-decode.onnx", "--target", "h200-server", *PAST, timeout=60)
    assert result.code == 0, result.err
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    assert peak < 2 << 30


def test_benchmark_measures_a_process_of_its_own(stratac: CommandLine) -> None:
    found = measure(thin(), "decode", "server-amx")
    assert 0 < found["taken_seconds"] < 60 and 10 << 20 < found["taken_bytes"] < 2 << 30
    _, _, row = lines([{"model": "llama70b", "phase": "decode", "target": "server-amx", **found}])
    assert row.startswith("llama70b  decode") and "fits" in row and "MiB" in row


@pytest.mark.parametrize(("value", "text"), [(1, "1"), (1500, "1.5 k"), (70.6e9, "70.6 G"), (2e12, "2 T")])
def test_numbers(value: float, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(
    "name", ["desktop-24gb-gpu", "h200-server", "laptop-8gb", "phone-flash", "raspberry-pi-5", "server-amx"]
)
def test_shipped_profiles_say_where_their_figures_come_from(name: str) -> None:
    machine = load_machine(name)
    assert machine.source and machine.watts > 0
    named = [f"devices.{d.name}" for d in machine.devices if d.kind == "cpu"] + ["tiers.ram", "tiers.disk"]
    assert all(machine.sources.get(key) for key in named)
    assert all(t.core_bandwidth <= t.bandwidth for t in machine.tiers)
