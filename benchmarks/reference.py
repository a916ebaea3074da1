"""How fast this machine computes just now: what tells a disturbed measurement from a wrong prediction where cores are shared."""

from __future__ import annotations

import tempfile
from pathlib import Path

from stratac.codegen.toolchain import ToolchainOptions
from stratac.compiler.options import default_cache, environment_cc
from stratac.compiler.probe.hardware import CHAINS, Loops
from stratac.ir.machine import Device

SECONDS = 0.01


class Reference:
    """Multiply-adds in registers on so many threads: nothing that a plan does disturbs them, other guests on the same cores do."""

    def __init__(self, device: Device, threads: int) -> None:
        options = ToolchainOptions(cc=environment_cc(), cache=default_cache())
        with tempfile.TemporaryDirectory(prefix="stratac-reference-") as folder:
            self.loops = Loops(device.isa, Path(folder), options)
        self.threads, self.steps = threads, self.loops.steps(SECONDS)
        # core seconds of that work where nothing disturbs
        self.undisturbed = threads * 2.0 * CHAINS * self.loops.lanes * self.steps / device.peak_flops

    def speed(self) -> float:
        """The share of the profile's peak that all threads together reach now, at most about 1."""
        return self.undisturbed / self.loops.busy(self.threads, self.steps)
