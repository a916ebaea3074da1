"""Profiles: what is written is read back, every shipped one is whole, and wrong keys are told."""

from __future__ import annotations

import random
import tomllib
from dataclasses import replace

import pytest
from stratac.compiler.profiles import load_machine, shipped
from stratac.ir.errors import StratacError
from stratac.ir.machine import Cache, Device, Link, Machine, Network, Reading, Tier, machine_from_table
from stratac.ir.machine_text import profile_text


def read(text: str) -> Machine:
    return machine_from_table(tomllib.loads(text))


def random_machine(rng: random.Random) -> Machine:
    def number(least: float = 1e-9) -> float:
        return rng.choice((rng.uniform(least, 1.0), rng.uniform(1, 1e12), float(rng.randrange(1, 1 << 40))))

    def text() -> str:
        return "".join(rng.choice("ab \"\\\n\t'#=é.\x7f") for _ in range(rng.randrange(1, 9)))

    caches = tuple(Cache(i + 1, rng.randrange(1, 1 << 30), number()) for i in range(rng.randrange(4)))
    devices = [
        Device("cpu", "cpu", "x86_64", "avx2", rng.randrange(1, 99), number(), number(), caches, number(), model=text())
    ]
    tiers = [Tier("ram", rng.randrange(1, 1 << 50), number(), number())]
    if rng.random() < 0.5:
        devices.append(
            Device("gpu0", "gpu", "cuda", "sm_90", 1, number(), number(), (), number(), "vram", {"bf16": 1 + number()})
        )
        tiers.append(Tier("vram", 1 << 34, number(), number()))
    if rng.random() < 0.5:
        curve = tuple(
            Reading(rng.randrange(1, 1 << 24), rng.randrange(1, 99), number()) for _ in range(rng.randrange(4))
        )
        tiers.append(Tier("disk", 1 << 40, number(), number(), "disk", number(), curve))
    names = [tier.name for tier in tiers]
    return Machine(
        name=text(),
        devices=tuple(devices),
        tiers=tuple(tiers),
        efficiency={
            name: rng.uniform(0.01, 1) for name in rng.sample(("matmul", "conv", "odd name"), rng.randrange(3))
        },
        source=text(),
        links=tuple(Link(rng.choice(names), rng.choice(names), number(), number()) for _ in range(rng.randrange(3))),
        network=Network(rng.randrange(1, 9), number(), number()) if rng.random() < 0.5 else None,
        kernels={
            f: {t: number() for t in ("fma", "to_ram", "a.b")}
            for f in rng.sample(("matmul", "loops"), rng.randrange(3))
        },
        watts=number() if rng.random() < 0.5 else 0.0,
        price_per_hour=number(),
        sources={name: text() for name in rng.sample(("devices.cpu", "tiers.ram"), rng.randrange(3))},
    )


@pytest.mark.parametrize("seed", range(60))
def test_what_is_written_is_read_back(seed: int) -> None:
    machine = random_machine(random.Random(seed))
    text = profile_text(machine, "a comment\nof two lines")
    assert read(text) == machine
    assert profile_text(read(text), "a comment\nof two lines") == text


@pytest.mark.parametrize("name", shipped())
def test_shipped_profiles_are_read_back(name: str) -> None:
    machine = load_machine(name)
    assert machine.name == name
    assert read(profile_text(machine)) == machine
    assert (
        machine.device("cpu").peak_flops > 1e9 and machine.tier("ram").bandwidth >= machine.tier("ram").core_bandwidth
    )


LEAST = """
name = "least"
[[devices]]
name = "cpu"
kind = "cpu"
arch = "x86_64"
isa = "portable"
cores = 1
clock_hz = 1e9
flops_per_cycle = 2.0
launch_s = 0
[[tiers]]
name = "ram"
bytes = 1024
bandwidth = 1e9
"""


def test_defaults() -> None:
    machine = read(LEAST)
    (device,), (tier,) = machine.devices, machine.tiers
    assert (device.memory, device.modes, device.caches, device.model) == ("ram", {}, (), "")
    assert (tier.kind, tier.core_bandwidth, tier.latency_s, tier.curve) == ("memory", 1e9, 0.0, ())
    assert (machine.links, machine.network, machine.kernels, machine.watts) == ((), None, {}, 0.0)


def test_sources_of_sections() -> None:
    text = (
        LEAST.replace('name = "ram"', 'name = "ram"\nsource = "guessed"')
        + '[kernels.matmul]\nsource = "measured"\nfma = 1e-10\n'
    )
    machine = read(text)
    assert machine.sources == {"tiers.ram": "guessed", "kernels.matmul": "measured"}
    assert machine.kernels == {"matmul": {"fma": 1e-10}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('kind = "cpu"', 'kind = "tpu"'), "unknown kind 'tpu' of device cpu; known: cpu, gpu"),
        (("cores = 1", "cores = true"), "cores in devices must be a whole number"),
        (("launch_s = 0", "launch_s = -1"), "launch_s in devices must be a positive number"),
        (("launch_s = 0", 'launch_s = 0\nmemory = "vram"'), "'vram', is no tier; it has ram"),
        (("launch_s = 0", "launch_s = 0\nmodes = { bf16 = 0 }"), "bf16 in modes must be a number, at least 1"),
        (("launch_s = 0", "launch_s = 0\nsource = 3"), "source of devices.cpu must be text"),
        (("bandwidth = 1e9", 'bandwidth = 1e9\nkind = "tape"'), "unknown kind 'tape' of tier ram; known: memory, disk"),
        (("bandwidth = 1e9", "bandwidth = 1e9\ncurve = [{ depth = 1, bandwidth = 1e9 }]"), "lacks 'request_bytes' in tiers.curve"),
        (("bandwidth = 1e9", "bandwidth = 1e9\n[network]\nhosts = 0\nbandwidth = 1.0\nlatency_s = 0"), "hosts in network must be a whole number"),
        (("bandwidth = 1e9", 'bandwidth = 1e9\n[[links]]\nsource = "ram"\ntarget = "moon"\nbandwidth = 1.0\nlatency_s = 0'),
         "a link names 'moon', which is no tier"),
        (("bandwidth = 1e9", "bandwidth = 1e9\n[kernels.matmul]\nfma = -1"), "fma in kernels.matmul must be a number, at least 0"),
        (("bandwidth = 1e9", "bandwidth = 1e9\n[efficiency]\nmatmul = 2"), "efficiency must be shares above 0"),
        (('name = "least"', 'name = "least"\nwheels = 4'), "unknown key 'wheels'"),
        (('name = "least"', 'name = "least"\nwatts = "many"'), "watts in the profile must be a positive number"),
    ],
)  # fmt: skip
def test_wrong_keys(change: tuple[str, str], said: str) -> None:
    with pytest.raises(StratacError, match=said.replace("(", r"\(")):
        read(LEAST.replace(*change))


def test_two_of_a_name() -> None:
    machine = read(LEAST)
    with pytest.raises(StratacError, match="two tiers called 'ram'"):
        read(profile_text(replace(machine, tiers=machine.tiers * 2)))


def test_a_plan_asks_for_what_its_kernels_use() -> None:
    """A CPU with both kinds of VNNI: each ISA level's kernels use one of them."""
    both = replace(read(LEAST).devices[0], arch="x86_64", extensions=("avx512_vnni", "avx_vnni", "avx512_bf16"))
    for isa, used in (("avx512", "avx512_vnni"), ("avx2", "avx_vnni")):
        device = replace(both, isa=isa, extensions=("avx512_vnni", "avx_vnni") if isa == "avx512" else ("avx_vnni",))
        assert device.used({"i8"}) == (used,) and {used} == device.features({"i8"}) - device.features()
    assert replace(both, isa="avx512").used({"f32"}) == ()
