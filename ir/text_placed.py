"""The text of a placed graph: `print_placed` and `parse_placed`. The clusters, then each decision with its reason."""

from __future__ import annotations

from collections.abc import Iterator

from .candidate import Candidate, Priced, Work
from .lexer import Lexer, parse
from .parse import read_graph
from .placed import Choice, Home, Placed, Transfer, home_key
from .text import float_text, graph_lines, name_text, string_text, value_text


def print_placed(placed: Placed) -> str:
    """The text of a placed graph whose keys `verify_placed` accepts; ends with a newline."""
    return "\n".join(_placed_lines(placed)) + "\n"


def _placed_lines(placed: Placed) -> Iterator[str]:
    yield f"placed {name_text(placed.machine)} {{"
    yield from graph_lines(placed.graph, "  ")
    for choice in placed.choices.values():
        yield f"  choice {value_text(choice.cluster)} {string_text(choice.why)} {{"
        yield f"    chosen {_priced_text(choice.chosen)}"
        if choice.runner_up is not None:
            yield f"    runner_up {_priced_text(choice.runner_up)}"
        yield "  }"
    for home in placed.homes.values():
        place = f"{string_text(home.format)} in {string_text(home.tier)} + {home.nbytes}"
        yield f"  home {value_text(home.weight)} = {place}"
    for transfer in placed.transfers:
        where = f"{string_text(transfer.source)} -> {string_text(transfer.target)}"
        yield f"  transfer {value_text(transfer.value)} : {where}"
    yield "}"


def _priced_text(priced: Priced) -> str:
    candidate, work = priced.candidate, priced.candidate.work
    names = " ".join(map(string_text, (candidate.device, candidate.family, candidate.mode)))
    formats = ", ".join(f"{value_text(value)} = {string_text(format)}" for value, format in candidate.formats)
    parts = [
        f"{names} seconds {float_text(priced.seconds)} {string_text(priced.bound)} bound",
        f"flops {float_text(work.flops)} bytes {float_text(work.bytes)} workspace {work.workspace}",
        *(["scalar"] if not work.vector else []),
        *([f"error {float_text(candidate.error)}"] if candidate.error else []),
        *([f"formats ({formats})"] if formats else []),
    ]
    return " ".join(parts)


def parse_placed(text: str, folder: str = "") -> Placed:
    """A placed graph from its text; `folder` is where the files of its weights lie. Raises ParseError."""
    return parse(text, lambda lexer: read_placed(lexer, folder))


def read_placed(lexer: Lexer, folder: str = "") -> Placed:
    """`placed @machine { graph .. }`."""
    lexer.expect_word("placed")
    machine = lexer.global_name()
    lexer.expect("{")
    graph = read_graph(lexer, folder)
    choices: dict[str, Choice] = {}
    homes: dict[str, Home] = {}
    transfers: list[Transfer] = []
    while not lexer.accept("}"):
        position = lexer.token.position
        if lexer.accept_word("choice"):
            choice = _read_choice(lexer)
            if choice.cluster in choices:
                lexer.fail(f"%{choice.cluster} has two choices", position)
            choices[choice.cluster] = choice
        elif lexer.accept_word("home"):
            home = _read_home(lexer)
            if (key := home_key(home.weight, home.format)) in homes:
                lexer.fail(f"%{home.weight} has two homes in format {home.format!r}", position)
            homes[key] = home
        elif lexer.accept_word("transfer"):
            transfers.append(_read_transfer(lexer))
        else:
            lexer.expected("choice, home, transfer or '}'")
    return Placed(graph, machine, choices, homes, tuple(transfers))


def _read_choice(lexer: Lexer) -> Choice:
    cluster = lexer.value("a cluster's first output")
    why = lexer.string("the reason in quotes")
    lexer.expect("{")
    lexer.expect_word("chosen")
    chosen = _read_priced(lexer)
    runner_up = _read_priced(lexer) if lexer.accept_word("runner_up") else None
    lexer.expect("}", "runner_up or '}'")
    return Choice(cluster, chosen, runner_up, why)


def _read_priced(lexer: Lexer) -> Priced:
    device, family, mode = (lexer.string(f"a {what} in quotes") for what in ("device", "kernel family", "numeric mode"))
    lexer.expect_word("seconds")
    seconds = lexer.number()
    bound = lexer.string("what binds it in quotes")
    for word in ("bound", "flops"):
        lexer.expect_word(word)
    flops = lexer.number()
    lexer.expect_word("bytes")
    nbytes = lexer.number()
    lexer.expect_word("workspace")
    workspace = lexer.integer()
    vector = not lexer.accept_word("scalar")
    error = lexer.number() if lexer.accept_word("error") else 0.0
    formats = lexer.list("(", _read_format, ")") if lexer.accept_word("formats") else ()
    candidate = Candidate(device, family, mode, Work(flops, nbytes, workspace, vector), formats, error)
    return Priced(candidate, seconds, bound)


def _read_format(lexer: Lexer) -> tuple[str, str]:
    value = lexer.value("a weight")
    lexer.expect("=")
    return value, lexer.string("a packing format in quotes")


def _read_home(lexer: Lexer) -> Home:
    weight = lexer.value("a weight")
    lexer.expect("=")
    format = lexer.string("a packing format in quotes")
    lexer.expect_word("in")
    tier = lexer.string("a tier in quotes")
    lexer.expect("+", "'+' and a number of bytes")
    return Home(weight, tier, format, lexer.integer("a number of bytes"))


def _read_transfer(lexer: Lexer) -> Transfer:
    value = lexer.value()
    lexer.expect(":")
    source = lexer.string("a tier in quotes")
    lexer.expect("->")
    return Transfer(value, source, lexer.string("a tier in quotes"))
