"""The exponential of attention against e^x in double: the error that soft.h states."""

import subprocess

from .conftest import HERE


def test_error_of_soft_exp(isa, build):
    program = build(isa, "soft", [HERE / "soft.c"], "-O2")
    found = subprocess.run([program, "997"], capture_output=True, text=True, check=True).stdout.split()
    assert [v.strip("-") for v in found[:7]] == ["0", "0", "0", "0", "nan", "nan", "1"]
    near, _, weight = map(float, found[7:])
    assert near < (2.8 if isa == "portable" else 2.2) and weight < (1.2 if isa == "portable" else 1.02)
