"""plan.bin: exact round trips, one digest in two languages, one layout in two languages, and no crash on damage."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stratac.codegen.toolchain import CSRC
from stratac.ir import dims
from stratac.ir.errors import PlanError
from stratac.ir.plan import Arena, Arg, Buffer, Call, Plan, PlanPort, Queue, Read, WeightEntry
from stratac.ir.plan_binary import (
    ARENA_KINDS,
    ARG_SPACES,
    HEADER,
    WeightDigests,
    c_header,
    decode,
    encode,
    plan_id,
    read_header,
)
from stratac.ir.plan_digest import BLOCK_WORDS, Digest64, digest64, digest64_file
from stratac.ir.types import DTYPES, TensorType
from stratac.tests.runtime.tiny import tiny_plan

SYMBOLS = ("n", "seq", "heads")


def test_c_header_is_the_generated_one() -> None:
    committed = (CSRC / "include" / "plan_format.h").read_text()
    assert committed == c_header(), "run: python -m stratac.ir.plan_binary > csrc/include/plan_format.h"


def test_tiny_plan_round_trips() -> None:
    assert decode(encode(tiny_plan())) == tiny_plan()


def dim_strategy() -> st.SearchStrategy[dims.Dim]:
    leaf = st.one_of(st.integers(-5, 1 << 40), st.sampled_from(SYMBOLS).map(dims.symbol))

    def grow(inner: st.SearchStrategy[dims.Dim]) -> st.SearchStrategy[dims.Dim]:
        binary = st.sampled_from((dims.dim_max, dims.dim_min, lambda a, b: a + b, lambda a, b: a - b))
        small = st.sampled_from((-3, 1, 2, 7, *map(dims.symbol, SYMBOLS)))
        return st.one_of(
            st.builds(lambda f, a, b: f(a, b), binary, inner, inner),
            st.builds(lambda a, b: a * b, inner, small),
            st.builds(dims.floordiv, inner, st.integers(1, 64)),
            st.builds(dims.mod, inner, st.integers(1, 64)),
        )

    return st.recursive(leaf, grow, max_leaves=8).filter(lambda d: all(abs(c) < 1 << 62 for c in coefficients(d)))


def coefficients(dim: dims.Dim) -> list[int]:
    if isinstance(dim, int):
        return [dim]
    found = []
    for monomial, coefficient in dim.terms:
        found.append(coefficient)
        for atom in monomial:
            if isinstance(atom, dims.Call):
                found += coefficients(atom.left) + coefficients(atom.right)
    return found


text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
types = st.builds(TensorType, st.sampled_from(tuple(DTYPES.values())), st.lists(dim_strategy(), max_size=3).map(tuple))
counts = st.integers(0, (1 << 62))
seconds = st.floats(allow_nan=False)
args = st.builds(Arg, st.sampled_from(ARG_SPACES), st.integers(0, 1 << 31))
calls = st.builds(
    Call,
    kernel=st.integers(0, 1000),
    args=st.lists(args, max_size=3).map(tuple),
    barrier=st.booleans(),
    parts=st.integers(0, 64),
    label=text,
    seconds=seconds,
    flops=seconds,
    bytes=seconds,
    needs=st.integers(0, 1 << 31),
)
signed = st.integers(-(1 << 62), 1 << 62)
reads = st.builds(Read, counts, counts, st.integers(0, 1 << 31), signed, text, seconds)


def bounds(low: int, middle: int, high: int) -> dims.Bounds:
    return dims.Bounds(low, low + middle, low + middle + high)


plans = st.builds(
    Plan,
    name=text,
    target=text,
    features=st.lists(text, max_size=3).map(tuple),
    threads=st.integers(1, 128),
    symbols=st.fixed_dictionaries({n: st.builds(bounds, *[st.integers(0, 1 << 40)] * 3) for n in SYMBOLS}),
    inputs=st.lists(st.builds(PlanPort, text, types), max_size=3).map(tuple),
    outputs=st.lists(st.builds(PlanPort, text, types), max_size=3).map(tuple),
    arenas=st.lists(st.builds(Arena, text, st.sampled_from(ARENA_KINDS), text, counts), max_size=4).map(tuple),
    buffers=st.lists(
        st.builds(Buffer, text, st.integers(0, 9), counts, counts, counts, counts, types, text), max_size=3
    ).map(tuple),
    weights=st.lists(st.builds(WeightEntry, text, counts, counts, text, text), max_size=3).map(tuple),
    weights_bytes=counts,
    resident_bytes=counts,
    kernels=st.lists(text, max_size=3).map(tuple),
    queues=st.lists(
        st.builds(Queue, text, st.lists(calls, max_size=3).map(tuple), st.lists(reads, max_size=3).map(tuple)),
        max_size=2,
    ).map(tuple),
    notes=st.dictionaries(text, text, max_size=3),
)


@settings(max_examples=150, deadline=None)
@given(plans)
def test_any_plan_round_trips(plan: Plan) -> None:
    digests = WeightDigests(7, tuple(range(len(plan.reads))), {number: number for number in range(len(plan.weights))})
    data = encode(plan, digests=digests)
    found = decode(data)
    assert found == plan
    assert list(found.symbols) == list(plan.symbols) and list(found.notes) == list(plan.notes)
    assert encode(found, digests=digests) == data
    assert read_header(data)["plan_id"] == plan_id(plan)


def test_what_does_not_fit_is_an_error() -> None:
    plan = tiny_plan()
    with pytest.raises(PlanError, match="zero byte"):
        encode(dataclasses.replace(plan, name="a\0b"))
    with pytest.raises(PlanError, match="does not fit"):
        encode(dataclasses.replace(plan, threads=1 << 40))
    with pytest.raises(PlanError, match="arena kind"):
        encode(dataclasses.replace(plan, arenas=(Arena("a", "heap", "ram", 0),)))
    with pytest.raises(PlanError, match="undeclared symbol"):
        encode(dataclasses.replace(plan, symbols={}))


def test_every_flipped_bit_is_found() -> None:
    data = bytearray(encode(tiny_plan()))
    for bit in range(len(data) * 8):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PlanError):
            read_header(bytes(data))
        data[bit // 8] ^= 1 << bit % 8
    for size in range(0, len(data), 7):
        with pytest.raises(PlanError):
            decode(bytes(data[:size]))


def test_damage_with_a_right_digest_is_an_error_not_a_crash() -> None:
    original = encode(tiny_plan())
    digest_at = 24
    assert HEADER.fields[4][0] == "digest"
    draw = random.Random(1)
    refused = 0
    for _ in range(3000):
        data = bytearray(original)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(data))
            data[at] = draw.choice((0, 1, 255, 127, data[at] ^ 1 << draw.randrange(8)))
        data[digest_at : digest_at + 8] = bytes(8)
        data[digest_at : digest_at + 8] = digest64(data).to_bytes(8, "little")
        try:
            decode(bytes(data))
        except PlanError:
            refused += 1
    assert refused > 500


def test_digest_over_pieces_and_files(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(BLOCK_WORDS * 8 * 3 + 13)
    digest = Digest64()
    for at in range(0, len(data), 1001):
        digest.update(data[at : at + 1001])
    assert digest.value() == digest64(data) == digest64(np.frombuffer(data, np.uint8))
    (tmp_path / "file").write_bytes(data)
    assert digest64_file(tmp_path / "file") == digest64(data)
    assert digest64(data + b"\0") != digest64(data)
    assert digest64(b"") == 0


def test_digest_finds_every_flipped_bit_of_a_block() -> None:
    data = np.random.default_rng(0).integers(0, 256, BLOCK_WORDS * 8 + 100, np.uint8)
    whole = digest64(data)
    rng = np.random.default_rng(1)
    for bit in rng.integers(0, data.size * 8, 400):
        data[bit // 8] ^= 1 << (bit % 8)
        assert digest64(data) != whole
        data[bit // 8] ^= 1 << (bit % 8)
