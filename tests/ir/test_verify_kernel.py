"""One broken kernel for each rule of the verifier."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stratac.ir.dims import Bounds, Dim, symbol
from stratac.ir.errors import VerifyError
from stratac.ir.kernel import Axis, Loops, Store
from stratac.ir.parse_kernel import parse_kernel
from stratac.ir.verify_kernel import PLACES, ROLES, verify_kernel

N = symbol("n")
SYMBOLS = {"n": Bounds(1, 4, 8), "m": Bounds(2, 2, 2)}
LOOPS = """
kernel loops {
  a0 : in f32
  a1 : in i64
  a2 : out f32
  a3 : row f32[6]
  nest (%i < n) {
    for (%j < 6) fold %s0 = sum a0[6*%i + %j]
    for (%j < 6) store a3[%j] = mul(a0[6*%i + %j], %s0)
    for (%j < 6) store a2[6*%i + %j] = guard(ge(at[%j - 1], 0), a3[%j - 1], a0[6*{max(min(a1[%i], at[n - 1]), 0)}])
  }
}
"""
LOOPS_SIZES: tuple[Dim, ...] = (6 * N, N, 6 * N)
MATMUL = """
kernel matmul {
  a0 : in f32
  a1 : in f32
  a2 : in f32
  a3 : out f32
  batch %batch < 1
  rows (%row < n)
  column %col < 8
  depth %k < 6
  a = a0 + 0 by (0, 6, 1)
  b = a1 + 0 by (0, 8, 1)
  store a3[8*%row + %col] = add(acc, a2[%col])
}
"""
MATMUL_SIZES: tuple[Dim, ...] = (6 * N, 48, 8, 8 * N)
PROLOGUE = MATMUL.replace("a = a0 + 0 by (0, 6, 1)", "a = computed").replace(
    "  store", "  prologue = neg(a0[6*%row + %k])\n  store"
)
CONV = """
kernel conv {
  a0 : in f32
  a1 : in f32
  a2 : out f32
  rows (%x < 16*n)
  column %col < 8
  size (n, 4, 4, 3)
  out_size (4, 4)
  window (3, 3) stride (1, 1) dilation (1, 1) padding (1, 1)
  groups 1
  x = a0 + 0 by (48, 12, 3)
  filter = a1 + 0 by (27, 9, 3, 1)
  store a2[8*%x + %col] = acc
}
"""
CONV_SIZES: tuple[Dim, ...] = (48 * N, 216, 128 * N)
ATTENTION = """
kernel attention {
  a0 : in f32
  a1 : in f32
  a2 : in f32
  a3 : in f32
  a4 : out f32
  batch %b < n
  heads %h < 4
  row %i < 5
  column %col < 16
  keys 7
  kv_heads 2
  width 16
  scale 0.25
  q = a0 + 0 by (320, 80, 16)
  k = a1 + 0 by (224, 112, 16)
  v = a2 + 0 by (224, 112, 16)
  score = add(acc, a3[7*%i + %j])
  store a4[320*%b + 80*%h + 16*%i + %col] = acc
}
"""
ATTENTION_SIZES: tuple[Dim, ...] = (320 * N, 224 * N, 224 * N, 35, 320 * N)
GOOD = {
    "loops": (LOOPS, LOOPS_SIZES),
    "matmul": (MATMUL, MATMUL_SIZES),
    "prologue": (PROLOGUE, MATMUL_SIZES),
    "conv": (CONV, CONV_SIZES),
    "attention": (ATTENTION, ATTENTION_SIZES),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_kernels_pass(name: str) -> None:
    text, sizes = GOOD[name]
    verify_kernel(parse_kernel(text), SYMBOLS, sizes)
    verify_kernel(parse_kernel(text), SYMBOLS)


BROKEN: list[tuple[str, str, str, str]] = [
    # operands and roles
    ("loops", "a1 : in i64", "a1 : inout i64", "a1 has the role 'inout'"),
    ("matmul", "a3 : out f32", "a3 : out f32 a4 : row f32[3]", "a4 has the role 'row'"),
    ("loops", "a1 : in i64", "a1 : in c64", "a1 has the type c64"),
    ("loops", "a3 : row f32[6]", "a3 : row f32", "a3 has 0 elements as row"),
    ("loops", "a1 : in i64", "a1 : in i64[3]", "a1 has 3 elements as in"),
    ("loops", "a3 : row f32[6]", "a3 : row f32[6] a4 : out f32", "a4 is never stored"),
    ("loops", "store a2", "store a0", "stores to a0, which is in"),
    ("loops", "store a2", "store a9", "names operand a9, but there are 4"),
    ("loops", "sum a0[6*%i + %j]", "sum a9[6*%i + %j]:f32", "names operand a9"),
    (
        "loops",
        "store a2[6*%i + %j]",
        "store a2[6*%i + %j] = true for (%j < 6) store a2[6*%i + %j]",
        "stores bool to a2",
    ),
    ("loops", "sum a0[6*%i + %j]", "sum a3[%j]", "reads a3, which is row, before this nest stores it"),
    ("loops", "mul(a0[6*%i + %j], %s0)", "mul(a2[6*%i + %j], %s0)", "reads a2, which is out, before this nest"),
    # scopes
    ("loops", "for (%j < 6) fold", "for (%i < 6) fold", "axis %i is declared twice"),
    ("loops", "for (%j < 6) fold", "for (%j < 6, %j < 6) fold", "axis %j is declared twice"),
    ("loops", "nest (%i < n)", "nest (%i < q)", "axis %i uses the symbol 'q', which is not declared"),
    ("loops", "nest (%i < n)", "nest (%i < -n)", "axis %i has the extent -n, which is negative"),
    ("loops", "sum a0[6*%i + %j]", "sum a0[6*%i + %k]", "an index uses the axis %k"),
    ("loops", "sum a0[6*%i + %j]", "sum a0[q*%i + %j]", "an index uses the symbol 'q'"),
    ("matmul", "a2[%col]", "a2[%k]", "an index uses the axis %k"),
    ("prologue", "6*%row + %k", "6*%row + %col", "an index uses the axis %col"),
    ("attention", "= acc", "= mul(acc, a3[%j])", "an index uses the axis %j"),
    # folds and places
    ("loops", "fold %s0", "fold %s1 = sum %s0:f32 for (%j < 6) fold %s0", "%s0 is used, but not folded earlier"),
    ("loops", "for (%j < 6) fold", "fold %s0 = sum 1.0 for (%j < 6) fold", "%s0 is folded twice"),
    ("loops", "%s0)", "%s0:f64)", "%s0 is used as f64, but folds f32"),
    ("loops", "fold %s0 = sum", "fold %s0 = mean", "%s0 folds with 'mean'"),
    ("loops", "sum a0[6*%i + %j]", "sum acc", "a Accumulator may not stand in a stage"),
    ("prologue", "neg(a0[6*%row + %k])", "acc", "a Accumulator may not stand in a prologue"),
    ("matmul", "add(acc", "add(%s0:f32", "a Folded may not stand in a epilogue"),
    # types
    ("loops", "%s0)", "%s0):f64", "mul(f32, f32):f64 has another type than its arguments"),
    ("loops", "mul(a0", "mul(a1", "mul(i64, f32):f32 mixes types"),
    ("loops", "mul(a0", "warp(a0", "unknown function 'warp'"),
    ("loops", "mul(a0[6*%i + %j], %s0)", "mul(%s0)", "mul takes 2 arguments, got 1"),
    ("loops", "mul(a0[6*%i + %j], %s0)", "select(%s0, %s0, %s0)", "has no bool as its condition"),
    ("loops", "ge(at[%j - 1], 0)", "at[%j - 1]", "guard(i64, f32, f32)"),
    ("loops", "ge(at[%j - 1], 0)", "ge(at[%j - 1], 0):i64", "has another type"),
    ("loops", "a3[%j - 1], a0", "1, a0", "guard(bool, i64, f32)"),
    ("loops", "at[%j - 1]", "at[%j - 1]:f32", "a position has the type f32"),
    ("loops", "{max(min(a1[%i], at[n - 1]), 0)}", "{%s0}", "an index looks up a f32"),
    ("loops", "a1[%i]", "a1[%i]:i32", "reads a1 as i32, which is i64"),
    ("loops", "mul(a0[6*%i + %j], %s0)", "1:f32", "the constant 1 has the type f32"),
    ("loops", "ge(at[%j - 1], 0)", "eq(300:u8, 3:u8)", "the constant 300 does not fit u8"),
    ("matmul", "add(acc, a2[%col])", "cast(acc:f64):f32", "the accumulator has the type f64"),
    ("attention", "add(acc, a3[7*%i + %j])", "cast(acc):f64", "the score gives f64, expected f32"),
    # roots
    ("matmul", "b = a1", "b = a3", "the root reads a3, which is out f32"),
    ("matmul", "a1 : in f32", "a1 : in f64", "the root reads a1, which is in f64"),
    ("matmul", "a = a0 + 0 by (0, 6, 1)", "a = computed", "the root reads a-1|names operand a-1"),
    ("prologue", "a = computed", "a = a0 + 0 by (0, 6, 1)", "not both or neither"),
    ("matmul", "(0, 8, 1)", "(0, q, 1)", "uses the symbol 'q'"),
    ("matmul", "store a3[8*%row + %col] = add(acc, a2[%col])", "", "a3 is never stored|has no epilogue"),
    ("matmul", "store", "for (%z < 1) store", "stores over axes of its own"),
    ("conv", "rows (%x < 16*n)", "rows (%x < 15*n)", "the rows are not the batch times"),
    ("conv", "groups 1", "groups 0", "the rows are not the batch times"),
    # bounds
    ("loops", "sum a0[6*%i + %j]", "sum a0[6*%i + %j + 1]", "reads a0 at 1..24, which has 24 elements, n = 4"),
    ("loops", "sum a0[6*%i + %j]", "sum a0[6*%i - %j]", "reads a0 at -5.."),
    ("loops", "store a2[6*%i + %j]", "store a2[6*%i + %j + 1]", "stores a2 at 1.."),
    ("loops", "store a3[%j]", "store a3[%j + 1]", "stores a3 at 1..6, which has 6 elements"),
    ("loops", "ge(at[%j - 1], 0)", "ge(at[%j], 0)", "reads a3 at -1.."),
    ("loops", "at[n - 1]", "at[n]", "reads a0 at 0..24"),
    ("loops", "max(min(a1[%i], at[n - 1]), 0)", "min(a1[%i], at[n - 1])", "reads a0 at"),
    ("loops", "store a2[6*%i + %j]", "store a2[5*%i + %j]", "may store an element of a2 twice"),
    ("loops", "for (%j < 6) store a2[6*%i + %j]", "for (%j < 5) store a2[6*%i + %j]", "stores 20 of the 24 elements"),
    ("loops", "store a2[6*%i + %j]", "store a2[{a1[%i]}]", "stores a2 at|may store an element of a2 twice"),
    ("matmul", "(0, 6, 1)", "(0, 7, 1)", "reads a0 at 0..26, which has 24"),
    ("matmul", "b = a1 + 0", "b = a1 + 1", "reads a1 at 1..48"),
    ("matmul", "a2[%col]", "a2[%col + 1]", "reads a2 at 1..8"),
    ("matmul", "store a3[8*%row + %col]", "store a3[8*%row]", "may store an element of a3 twice"),
    ("prologue", "6*%row + %k", "7*%row + %k", "reads a0 at 0..26"),
    ("conv", "by (48, 12, 3)", "by (48, 12, 4)", "reads a0 at"),
    ("conv", "groups 1", "groups 2", "reads a0 at"),
    ("conv", "by (27, 9, 3, 1)", "by (27, 9, 3, 2)", "reads a1 at 0..217"),
    ("attention", "by (320, 80, 16)", "by (320, 80, 17)", "reads a0 at"),
    ("attention", "kv_heads 2", "kv_heads 3", "reads a1 at"),
    ("attention", "a3[7*%i + %j]", "a3[8*%i + %j]", "reads a3 at 0..38"),
]


@pytest.mark.parametrize(("name", "old", "new", "what"), BROKEN, ids=range(len(BROKEN)))
def test_broken_kernels_fail(name: str, old: str, new: str, what: str) -> None:
    text, sizes = GOOD[name]
    assert old in text
    with pytest.raises(VerifyError) as caught:
        verify_kernel(parse_kernel(text.replace(old, new, 1)), SYMBOLS, sizes)
    assert any(part in str(caught.value) for part in what.split("|")), caught.value
    assert caught.value.level == "kernel" and caught.value.op


def test_an_axis_without_a_name_fails() -> None:
    kernel = parse_kernel(LOOPS)
    assert isinstance(kernel, Loops)
    nest = replace(kernel.nests[0], outer=(Axis("", N),))
    with pytest.raises(VerifyError, match="axis"):
        verify_kernel(replace(kernel, nests=(nest,)), SYMBOLS)


def test_nests_do_not_read_each_others_stores() -> None:
    text = "kernel loops { a0 : out f32 a1 : out f32 nest (%i < 4) { store a0[%i] = 1.0 } nest (%i < 4) { "
    with pytest.raises(VerifyError, match="before this nest stores it"):
        verify_kernel(parse_kernel(text + "store a1[%i] = a0[%i] } }"), {})
    kernel = parse_kernel(text + "store a1[%i] = 1.0 } }")
    verify_kernel(kernel, {}, (4, 4))
    assert isinstance(kernel, Loops) and all(isinstance(s, Store) for nest in kernel.nests for s in nest.stages)


GUARDS = [
    ("guard(and(ge(at[2*%i + %w - 1], 0), lt(at[2*%i + %w - 1], at[4*n])), a0[2*%i + %w - 1], 0.0)", True),
    ("guard(ge(at[2*%i + %w], 0), a0[2*%i + %w], 0.0)", False),
    ("guard(lt(at[%i], 2), a0[%i], a0[%i - 2])", True),
    ("guard(lt(at[%i], 1), a0[%i], a0[%i - 2])", False),
    ("guard(not(lt(at[%i], 2)), a0[%i - 2], 0.0)", False),
    ("guard(or(lt(at[%i], 2), gt(at[%i], at[4*n])), 0.0, a0[%i - 2])", True),
    ("guard(eq(at[%w], 0), a0[2*%i + %w], 0.0)", True),
    ("guard(lt(at[n], 1), a0[1000], 0.0)", True),  # never taken
    ("a0[{abs(sub(at[1], at[%w]))}]", True),
    ("a0[{div(at[%i], 2)}]", True),
    ("a0[{cast(lt(at[%i], 2)):i64}]", True),
]


@pytest.mark.parametrize(("value", "fine"), GUARDS, ids=range(len(GUARDS)))
def test_guards_and_clamps_bound_reads(value: str, fine: bool) -> None:
    text = f"kernel loops {{ a0 : in f32 a1 : out f32 nest (%i < 2*n) {{ for (%w < 3) fold %s = sum {value} "
    kernel = parse_kernel(text + "store a1[%i] = %s } }")
    if fine:
        verify_kernel(kernel, SYMBOLS, (4 * N, 2 * N))
    else:
        with pytest.raises(VerifyError, match="reads a0 at"):
            verify_kernel(kernel, SYMBOLS, (4 * N, 2 * N))


def test_the_tables_name_what_exists() -> None:
    assert set(PLACES) == {"stage", "condition", "prologue", "zero", "epilogue", "score"}
    assert set(ROLES) == {"in", "out", "row"}
