"""The rows of the benchmark: how stratac computes, which systems it meets, under which mask of CPU features, and the target.

A mask takes features away from all sides: our plan is compiled for a target without them, the peers are told by their own
switches. onnxruntime's kernels have no such switch.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from stratac.compiler.profiles import cpu_features, load_machine, native
from stratac.ir.machine import EXTENSIONS, ISA_LEVELS, Machine
from stratac.ir.machine_text import profile_text

#: the systems of torch, which run what `torch_build` makes of a model of the zoo, and the classes that do
TORCH_SYSTEMS: Mapping[str, str] = {
    "aotinductor": "stratac.benchmarks.torch_systems:AotInductor",
    "inductor-bf16": "stratac.benchmarks.torch_systems:InductorBf16",
}
F32_PEERS = ("onnxruntime", "openvino", "aotinductor")
BF16_PEERS = ("openvino-default", "inductor-bf16")


@dataclass(frozen=True)
class Mask:
    """CPU features that nobody may use. `prefixes` of their names; `environment` is what peers obey; `isa` what packages are
    compiled for (`torch_build.ISAS`); `unmasked` are the systems that no switch reaches."""

    prefixes: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    isa: str = ""
    unmasked: tuple[str, ...] = ()

    def hides(self, feature: str) -> bool:
        return feature.startswith(self.prefixes) if self.prefixes else False

    def applies(self, features: Iterable[str]) -> bool:
        """Whether a CPU with these features has something to hide."""
        return any(map(self.hides, features))


def _switches(onednn: str, mkl: str, torch: str) -> tuple[tuple[str, str], ...]:
    return (("ONEDNN_MAX_CPU_ISA", onednn), ("MKL_ENABLE_INSTRUCTIONS", mkl), ("ATEN_CPU_CAPABILITY", torch))


NO_MASK = Mask()
NO_AMX = Mask(("amx",), _switches("AVX512_CORE", "AVX512", "avx512"), "avx512")  # onnxruntime has no f32 kernels on AMX
NO_AVX512 = Mask(("amx", "avx512"), _switches("AVX2", "AVX2", "avx2"), "avx2", ("onnxruntime",))


@dataclass(frozen=True)
class Mode:
    """A row of the table of targets.

    `options` are those of `stratac compile`. stratac's time is held against the fastest of `rivals` on each model; `mean` is
    the target for the geometric mean over the zoo, `least` for every single model. `amx`: the target is one of machines with
    AMX. `others` are measured beside them and shown. Results further than `sane` from float64, in relative L2, are wrong.
    """

    name: str
    title: str
    rivals: tuple[str, ...]
    mean: float
    least: float
    sane: float
    options: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    mask: Mask = NO_MASK
    amx: bool = False

    @property
    def faithful(self) -> bool:
        """Whether plans may be no less exact than f32: then their errors are held against onnxruntime's."""
        return not self.options

    @property
    def systems(self) -> tuple[str, ...]:
        return (*self.rivals, *self.others)


MODES: Mapping[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode("faithful", "fp32-faithful", F32_PEERS, 2.0, 1.05, 1e-5, others=("iree",), amx=True),
        Mode("max-error", "--max-error 1e-4", F32_PEERS, 3.0, 1.15, 1e-3, ("--max-error", "1e-4"), amx=True),
        Mode("bf16", "--precision bf16", BF16_PEERS, 1.5, 1.0, 5e-2, ("--precision", "bf16"), amx=True),
        Mode("faithful-no-amx", "fp32-faithful, AMX masked off", F32_PEERS, 1.1, 0.95, 1e-5, mask=NO_AMX),
        Mode(
            "faithful-avx2",
            "fp32-faithful, AVX-512 masked off too",
            ("aotinductor",),
            1.1,
            0.9,
            1e-5,
            others=("openvino", "onnxruntime"),
            mask=NO_AVX512,
        ),
    )
}


def twin_of(mode: Mode, features: Iterable[str] | None = None) -> str:
    """The mode that is the same on this CPU, because there is nothing to mask; empty where there is none."""
    if mode.mask is NO_MASK or mode.mask.applies(cpu_features() if features is None else features):
        return ""
    return next(m.name for m in MODES.values() if m.mask is NO_MASK and m.options == mode.options)


def masked_machine(mask: Mask, features: frozenset[str], machine: Machine) -> Machine:
    """`machine`, whose CPU has `features`, without what the mask hides.

    Where that leaves the ISA level as it is, so are the measured prices, but for rates that hidden instructions reach; else they
    are those of the lower level's class.
    """
    left = frozenset(name for name in features if not mask.hides(name))
    isa = next(level.name for level in ISA_LEVELS if level.features <= left)
    extensions = tuple(name for name, row in EXTENSIONS.items() if row[0] <= left)
    cpu = next(device for device in machine.devices if device.kind == "cpu")
    if isa != cpu.isa:
        generic = load_machine(f"generic-{platform.machine()}-{isa}")
        lower = next(device for device in generic.devices if device.kind == "cpu")
        cpu, machine = replace(lower, cores=cpu.cores), replace(generic, tiers=machine.tiers, links=machine.links)
    lost = frozenset[str]().union(*(EXTENSIONS[name][2] for name in cpu.extensions if name not in extensions))
    modes = {mode: rate for mode, rate in cpu.modes.items() if mode not in lost}
    named = replace(cpu, extensions=extensions, modes=modes)
    return replace(machine, devices=tuple(named if d.kind == "cpu" else d for d in machine.devices))


def target_of(mode: Mode, folder: Path) -> str:
    """What `--target` takes for a plan of this mode: a profile written to `folder` where something is masked."""
    if mode.mask is NO_MASK:
        return "native"
    path = folder / f"{mode.name}.toml"
    path.write_text(profile_text(masked_machine(mode.mask, cpu_features(), native())))
    return str(path)
