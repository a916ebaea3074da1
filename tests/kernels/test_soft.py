"""The exponential of attention against e^x in double: the error that soft.h states."""

import subprocess

from .conftest import HERE


def test_error_of_soft_exp(isa, build):
    program = build(isa, "soft", [HERE / "soft.c"], "-O2")
    found = subprocess.run(isa.command(program, "997"), capture_output=True, text=True, check=True).stdout.split()
    assert [v.strip("-") for v in found[:7]] == ["0", "0", "0", "0", "nan", "nan", "1"]
    near, _, weight, power, rough, changed = map(float, found[7:])
    assert near < (2.2 if isa.fused else 2.8) and weight < (1.02 if isa.fused else 1.2)
    assert power < (2.2 if isa.fused else 2.8) and rough < 1.2e-4 and changed == 0
