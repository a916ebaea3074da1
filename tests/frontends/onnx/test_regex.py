"""Patterns as automata, against Python's `re` where both mean the same."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stratac.compiler.frontends.onnx.regex import automaton
from stratac.compiler.frontends.unsupported import Unsupported

PATTERNS = (
    *(r"\b\w+\b@\b.*", r"(a\b|\Bb|\b,)+", r"\b", r"a\Bb\b", r"(\b.\b.)*", r"www\.[\w.-]+\.\bcom\b"),
    *("", "a", "abc", "a|b|", "(ab)*c?", "a{2,3}b{0,1}c{2}", "(a|b)+?c", "x{,2}", "a{3,}", "(?:ab|a)(?:bc|c)"),
    *(
        "[a-c]+",
        "[^a-c]*",
        "[]a]+",
        "[^]a]",
        "[a\\-z]+",
        "[-a]+",
        "[a-]+",
        r"[\d\w]+",
        r"\.\*\\",
        "[é-ü]+",
        "[^é]",
        "ß?日本.*",
    ),
    *(
        ".+",
        "^abc$",
        "^(a|^b)*$",
        "a^b",
        "a$b",
        "(a$)*",
        r"\Aa+",
        "(?i)aBc",
        "(?i:a)b",
        "((?i)é)É",
        "(?s).",
        "(?P<name>a)b",
        r"\x41\x{e9}",
    ),
    *(
        r"[[:alpha:]]+@[[:digit:]]{2}",
        r"\Qa.b\E+",
        r"\t[\n]",
        r"[^\W\d]+",
        r"(\w+(\.\w+)*)@(yahoo|gmail)\.com",
        "[\u0001-\U0010ffff]",
    ),
)
TEXTS = (
    *("a,b", "ab,", ",a,b", "a a ", "ab@c", "@", "www.a-b.c.com", "www.acom"),
    *(
        "",
        "a",
        "b",
        "ab",
        "abc",
        "abab",
        "aabc",
        "aabcc",
        "abcabc",
        "x",
        "xx",
        "xxx",
        "aaaa",
        "]",
        "]a",
        "-",
        "a-z",
        "12ab_",
        ".*\\",
    ),
    *(
        "é",
        "É",
        "éü",
        "ß日本語",
        "日本",
        "\n",
        "aBC",
        "ABc",
        "AÉ",
        "Aé",
        "éÉ",
        "\U0001f600",
        "\u07ff\u0800",
        "\t\n",
        "ab@12",
        "a.b",
        "a.bb",
    ),
    *("x.y@gmail.com", "@yahoo.com", "a@gmail_com", "\udbff".encode("utf-8", "replace").decode()),
)


def accepted(table: np.ndarray, text: str) -> bool:
    state = 0
    for byte in text.encode():
        state = int(table[state, byte])
        if state < 0:
            return False
    return bool(table[state, 256])


def python(pattern: str) -> re.Pattern[str]:
    """The same in Python's syntax."""
    for ours, theirs in (
        (r"\z", r"\Z"),
        ("[[:alpha:]]", "[a-zA-Z]"),
        ("[[:digit:]]", "[0-9]"),
        (r"\Qa.b\E", r"a\.b"),
        (r"\x{e9}", "é"),
    ):
        pattern = pattern.replace(ours, theirs)
    pattern = pattern.replace("((?i)é)", "((?i:é))").replace("$", r"\Z")
    return re.compile(pattern.replace("x{,2}", r"x\{,2\}"), 0 if "é" in pattern.lower() else re.ASCII)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(pattern: str) -> None:
    table, reference = automaton(pattern), python(pattern)
    for text in TEXTS:
        assert accepted(table, text) == (reference.fullmatch(text) is not None), text


@settings(max_examples=60, deadline=None)
@given(
    st.from_regex(
        re.compile(r"([abé.]|\(a\|é\)|\[a-c\]|\[\^a\])[*+?]?([abé.]|\(b[*]a\|\))?", re.ASCII), fullmatch=True
    ),
    st.text("abcé\n", max_size=6),
)
def test_random_patterns(pattern: str, text: str) -> None:
    assert accepted(automaton(pattern), text) == (re.compile(pattern).fullmatch(text) is not None)


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        ")",
        "a)",
        "*",
        "a**",
        "[a",
        "[b-a]",
        r"\1",
        r"\pL",
        "(?=a)",
        "(?<!a)b",
        "a{3,2}",
        "a{2000}",
        "\\",
        "[[:nope:]]",
        "(?m)^a",
        "(a|b)*a(a|b){14}",
        *("(?P<abcd", r"\x{41", "[[:alphaX", r"\x{-1}", r"\x{}", r"\x-1"),  # each of which would begin anew
        *(
            "a{99999999999999999999}",
            "(" * 5000,
            "((a{1000}){1000}){1000}",
            "(?i)([^a]{900}){900}",
            "(.{300}|.{299}){3}",
        ),
    ],
)
def test_what_is_no_pattern_or_too_large(pattern: str) -> None:
    with pytest.raises(Unsupported, match="the pattern"):
        automaton(pattern)
