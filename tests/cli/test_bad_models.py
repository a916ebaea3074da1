"""Models, dims, targets and budgets that cannot be compiled: what, where, and what to do."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from stratac.compiler.profiles import FOLDER
from stratac.tests.cli.conftest import CommandLine
from stratac.tests.cli.models import DIMS, N, external, five_problems, mlp, model, save, value

COMPILE = ("compile", "bad.onnx", "-o", "out.plan")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "bad.onnx is empty"),
        (random.Random(0).randbytes(4000), "not a valid ONNX file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
        (b"not a model at all\n", "not a valid ONNX file"),
        (mlp().SerializeToString()[:-100], "interrupted download"),
        (mlp().SerializeToString()[:20], "interrupted download"),
    ],
    ids=("empty", "garbage", "lfs", "text", "truncated", "stump"),
)
def test_damaged_files(stratac: CommandLine, content: bytes, said: str) -> None:
    Path("bad.onnx").write_bytes(content)
    stratac.refused(COMPILE, 2, "bad.onnx", said)


def test_every_truncation_is_refused(stratac: CommandLine) -> None:
    data = mlp().SerializeToString()
    for size in range(1, len(data), 37):
        Path("bad.onnx").write_bytes(data[:size])
        stratac.refused((*COMPILE, *DIMS), 2)


def test_any_damage_is_refused_or_compiled(stratac: CommandLine) -> None:
    """Random damage never ends in a traceback."""
    draw = random.Random(1)
    data = mlp().SerializeToString()
    for _ in range(60):
        bad = bytearray(data)
        for _ in range(draw.choice((1, 1, 5))):
            bad[draw.randrange(len(bad))] = draw.randrange(256)
        Path("bad.onnx").write_bytes(bad)
        result = stratac(*COMPILE, *DIMS, "--budget", "ram=1")
        assert result.code == 2 and result.err.startswith("stratac: error: "), result.err


def test_files_that_are_not_there(stratac: CommandLine) -> None:
    stratac.refused(("compile", "none.onnx"), 2, "none.onnx", "No such file")
    stratac.refused(("compile", "."), 2, "Is a directory")
    stratac.refused(("compile", ""), 2, "Is a directory")
    stratac.refused(("compile", "mlp.onnx/inner.onnx", "-o", "out.plan"), 2, "Not a directory")


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("gone.data", "'gone.data' is missing"),
        ("../secret.data", "outside the model's folder"),
        ("/etc/passwd", "outside the model's folder"),
        ("", "outside the model's folder"),
        ("link.data", "link that leaves the model's folder"),
        ("short.data", "too short: 100 bytes, 384 needed"),
    ],
)
def test_external_data(stratac: CommandLine, location: str, said: str) -> None:
    (stratac.folder.parent / "secret.data").write_bytes(bytes(4000))
    Path("link.data").symlink_to("../secret.data")
    Path("short.data").write_bytes(bytes(100))
    save(external(location), Path("bad.onnx"))
    stratac.refused((*COMPILE, *DIMS), 2, "'w'", said)


def test_external_data_beside_the_model(stratac: CommandLine) -> None:
    Path("w.data").write_bytes(bytes(8 * 12 * 4))
    save(external("w.data"), Path("good.onnx"))
    stratac.good("compile", "good.onnx", *DIMS)
    Path("w.data").unlink()  # a plan needs nothing of the model
    stratac.good("verify", "good.plan")


def test_five_problems_are_five_entries_of_one_report(stratac: CommandLine) -> None:
    save(five_problems(), Path("bad.onnx"))
    stratac.refused(COMPILE, 2, "bad.onnx cannot be imported: 5 problems")
    entries = stratac(*COMPILE).err.splitlines()[1:]
    assert len(entries) == 5
    names = ("no_rule", "misspelt", "foreign", "sizes", "complex")
    for entry, name in zip(entries, names, strict=True):
        assert entry.startswith("  - ") and name in entry and "bad.onnx" in entry
    assert "nearest supported operator is Relu" in entries[1]
    assert "com.acme::Frobnicate" in entries[2]
    assert "element type c64 is not supported" in entries[4]


@pytest.mark.parametrize(
    ("dims", "said"),
    [
        (["seq=1:5:16", "sec=3"], "no dim 'sec' at mlp.onnx; did you mean 'seq'?"),
        (["zzz=3", "seq=3"], "the model's dims are batch, seq"),
        ([], "dim 'seq' (axis 1 of 'x') is dynamic and has no bounds"),
        ([], "--dim seq=MIN:TYPICAL:MAX or --dim seq=N"),
        (["seq=9:5:2"], "order them MIN:TYPICAL:MAX"),
        (["seq=9:2"], "order them MIN:TYPICAL:MAX"),
        (["seq=1:20:16"], "order them MIN:TYPICAL:MAX"),
        (["seq=99999999999999999999"], "the greatest extent of a dim"),
        *((["seq" + text], "write NAME=N, NAME=MIN:MAX or") for text in ("", "=", "=a", "=-1", "=1.5", "=1:2:3:4")),
        (["=3"], "write NAME=N"),
    ],
)
def test_dims(stratac: CommandLine, dims: list[str], said: str) -> None:
    words = [word for dim in dims for word in ("--dim", dim)]
    stratac.refused(("compile", "mlp.onnx", "-o", "out.plan", *words), 2, said)


def test_a_batch_without_bounds_is_one_and_said_so(stratac: CommandLine) -> None:
    said = "batch=1 assumed, since no bounds were given: --dim batch=MIN:TYPICAL:MAX"
    assert said in stratac.good("compile", "mlp.onnx", "-o", "out.plan", "--dim", "seq=4")
    assert said in stratac.good("inspect", "out.plan")
    assert said in stratac.good("compile", "mlp.onnx", "-o", "out.plan", "--dim", "seq=4", "--json")
    assert "float32[1, 4, 12]" in stratac.good("run", "out.plan", "--random", "0")


GENERIC = (FOLDER / "generic-portable.toml").read_text()


def test_unknown_targets(stratac: CommandLine) -> None:
    words = ("compile", "mlp.onnx", "-o", "out.plan", *DIMS, "--target")
    stratac.refused((*words, "cray-1"), 2, "no machine 'cray-1'", "generic-portable", "TOML file")
    stratac.refused((*words, ""), 2, "no machine ''")
    stratac.refused((*words, "."), 2, "no machine '.'")
    stratac.refused((*words, "gone.toml"), 2, "cannot read the machine profile gone.toml", "No such file")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs a name"),
        ("name = ", "is not valid TOML"),
        (b"\xff\xfe", "is not valid TOML"),
        ('name = "m"\ndevices = [1]\n', "write [[devices]]"),
        ('name = "m"\ndevices = "two"\n', "write [[devices]]"),
        (GENERIC.replace('name = "generic-portable"', "name = 3"), "needs a name"),
        (GENERIC.replace("cores = 2", 'cores = "two"'), "cores in devices must be a whole number, at least 1"),
        (GENERIC.replace("cores = 2", "cores = 0"), "got 0"),
        (GENERIC.replace("cores = 2", ""), "lacks 'cores' in devices"),
        (GENERIC.replace("cores = 2", "cores = 2\nwheels = 4"), "unknown key 'wheels' in devices"),
        (GENERIC.replace("clock_hz = 2.6e9", "clock_hz = nan"), "clock_hz in devices must be a positive number"),
        (GENERIC.replace('isa = "portable"', 'isa = "sse9"'), "unknown isa 'sse9' of device cpu; known: avx512, avx2"),
        (GENERIC.replace('name = "cpu"', 'name = "tpu"'), "has no device 'cpu'; it has tpu"),
        (GENERIC.replace('name = "ram"', 'name = "disk"'), "has two tiers called 'disk'"),
        (
            GENERIC.replace('name = "ram"', 'name = "main"'),
            "the memory of device cpu, 'ram', is no tier; it has main, disk",
        ),
        (GENERIC + '[kernels.odd]\nfma = "x"\n', "fma in kernels.odd must be a number, at least 0"),
        (GENERIC + "[wheels]\n", "unknown key 'wheels'"),
        (GENERIC.replace("matmul = 0.60", "matmul = true"), "efficiency must be shares above 0"),
    ],
)
def test_broken_machine_profiles(stratac: CommandLine, text: str | bytes, said: str) -> None:
    Path("m.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    words = ("compile", "mlp.onnx", "-o", "out.plan", *DIMS, "--target", "m.toml")
    stratac.refused(words, 2, said)


def test_budget_too_small(stratac: CommandLine) -> None:
    words = ("compile", "mlp.onnx", "-o", "out.plan", *DIMS, "--threads", "2", "--budget")
    result = stratac(*words, "ram=1KiB")
    stratac.refused((*words, "ram=1KiB"), 2, "MiB of ram", "more than the budget of 1.00 KiB", "weights 1.06 KiB")
    enough = result.err.rstrip().rpartition("ram=")[2]
    stratac.refused((*words, f"ram={int(enough) - 1}"), 2, "1 B more than the budget", f"allow ram={enough}")
    assert "peak memory" in stratac.good(*words, f"ram={enough}")


@pytest.mark.parametrize("text", ["ram", "ram=", "ram=x", "1GiB", "ram=-1", "ram=1GiB,ram=2GiB", "ram=1PB"])
def test_malformed_budgets(stratac: CommandLine, text: str) -> None:
    stratac.refused(("compile", "mlp.onnx", "-o", "out.plan", "--budget", text), 2, "; write ")


def test_a_budget_for_a_tier_the_machine_lacks(stratac: CommandLine) -> None:
    words = ("compile", "mlp.onnx", "-o", "out.plan", *DIMS, "--budget", "gpu0=1GiB")
    stratac.refused(words, 2, "'gpu0'", "it has ram, disk")


def test_a_budget_beyond_any_machine(stratac: CommandLine) -> None:
    stratac.good("compile", "mlp.onnx", "-o", "out.plan", *DIMS, "--budget", f"ram={'9' * 400}GiB")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("compile",), "arguments are required: model; see `stratac compile --help`"),
        (("kompile",), "invalid choice: 'kompile'"),
        (("compile", "mlp.onnx", "--wat"), "unrecognized arguments: --wat"),
        (("compile", "mlp.onnx", "--threads", "0"), "'0' is not a whole number from 1 to 1024"),
        (("compile", "mlp.onnx", "--threads", "9999"), "from 1 to 1024"),
        (("compile", "mlp.onnx", "--threads", "two"), "from 1 to 1024"),
        (("compile", "mlp.onnx", "--jobs", "-1"), "--jobs"),
        (("compile", "mlp.onnx", "--jobs", "0"), "whole number from 1"),
        (("run", "mlp.plan", "--random", "-1"), "--random"),
        (("run", "mlp.plan", "--random", "1", "-i", "in.npz"), "not allowed with argument"),
        (("run", "mlp.plan", "--threads", "0", "--random", "1"), "from 1 to 1024"),
        (("verify", "mlp.plan", "--tolerance", "x"), "invalid float"),
        (("inspect", "mlp.plan", "--level", "asm"), "choose from 'graph', 'placed', 'plan'"),
    ],
)
def test_wrong_arguments(stratac: CommandLine, words: tuple[str, ...], said: str) -> None:
    stratac.refused(words, 2, said)


def test_many_nodes_with_one_problem_are_one_entry(stratac: CommandLine) -> None:
    """Counts, nodes, types and the nearest alternative; the same as data."""
    nodes = [N("Reluu", ["x" if i == 0 else "y"], [f"r{i}"], name=f"odd{i}") for i in range(5)]
    ports = [value("x", [2, 3]), value("y", [7])]
    made = model(
        [*nodes, N("Frobnicate", ["x"], ["z"], name="far", domain="com.acme")], ports, ["r4", "z"], (), ["com.acme"]
    )
    save(made, Path("bad.onnx"))
    entry = "ai.onnx::Reluu-17 is no operator of the ONNX standard of (f32[2, 3]), (f32[7]) at 5 nodes of bad.onnx: odd0, odd1, odd2 and 2 more"
    stratac.refused(COMPILE, 2, "cannot be imported: 2 problems", entry, "the nearest supported operator is Relu")
    told = stratac(*COMPILE, "--json")
    assert told.code == 2 and told.err == ""
    facts = json.loads(told.out)
    assert facts["error"] == "bad.onnx cannot be imported: 2 problems"
    first, second = facts["problems"]
    assert (
        first["op"] == "ai.onnx::Reluu-17" and first["count"] == 5 and first["nodes"] == [f"odd{i}" for i in range(5)]
    )
    assert first["inputs"] == [["f32[2, 3]"], ["f32[7]"]] and "Relu" in first["hint"] and first["needs"] == []
    assert second["op"] == "com.acme::Frobnicate-1" and second["count"] == 1
    assert not Path("out.plan").exists()


def test_dims_without_bounds_are_told_as_data(stratac: CommandLine) -> None:
    told = stratac("compile", "mlp.onnx", "-o", "out.plan", "--json")
    assert told.code == 2
    (problem,) = json.loads(told.out)["problems"]
    assert "'seq'" in problem["what"] and problem["hint"].startswith("--dim seq=")
