"""The text of a placed graph: `print_placed` and `parse_placed`. The clusters, then each decision with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .candidate import Candidate, Priced, Work
from .lexer import Lexer, parse
from .parse import read_graph
from .placed import Choice, Home, Placed, Solution, StateHome, Transfer, home_key
from .text import float_text, graph_lines, name_text, string_text, value_text


def print_placed(placed: Placed) -> str:
    """The text of a placed graph whose keys `verify_placed` accepts; ends with a newline."""
    return "\n".join(_placed_lines(placed)) + "\n"


def _placed_lines(placed: Placed) -> Iterator[str]:
    yield f"placed {name_text(placed.machine)} {{"
    yield from graph_lines(placed.graph, "  ")
    for choice in placed.choices.values():
        binding = f" binding {string_text(choice.binding)}" if choice.binding else ""
        yield f"  choice {value_text(choice.cluster)} {string_text(choice.why)}{binding} {{"
        yield f"    chosen {_priced_text(choice.chosen)}"
        if choice.runner_up is not None:
            yield f"    runner_up {_priced_text(choice.runner_up)}"
        yield "  }"
    for home in placed.homes.values():
        kind = " mapped" if home.mapped else ""
        place = f"{string_text(home.format)} in {string_text(home.tier)}{kind} + {home.nbytes}"
        why = f" {string_text(home.why)}" if home.why else ""
        yield f"  home {value_text(home.weight)} = {place}{why}"
    for state in placed.states.values():
        yield f"  state {string_text(state.state)} in {string_text(state.tier)} + {state.nbytes}"
    for transfer in placed.transfers:
        where = f"{string_text(transfer.source)} -> {string_text(transfer.target)}"
        yield f"  transfer {value_text(transfer.value)} : {where}"
    if placed.ring_bytes:
        yield f"  ring {placed.ring_bytes}"
    if placed.solution is not None:
        yield f"  solution {_solution_text(placed.solution)}"
    yield "}"


def _solution_text(solution: Solution) -> str:
    parts = [
        f"{string_text(solution.objective)} {string_text(solution.method)} seconds {float_text(solution.seconds)}",
        f"bound {float_text(solution.lower_bound)}",
        f"budgets ({_tier_bytes(solution.budgets)}) used ({_tier_bytes(solution.used)})",
    ]
    return " ".join(parts)


def _tier_bytes(table: Mapping[str, int]) -> str:
    return ", ".join(f"{string_text(tier)} = {count}" for tier, count in table.items())


def _priced_text(priced: Priced) -> str:
    candidate, work = priced.candidate, priced.candidate.work
    names = " ".join(map(string_text, (candidate.device, candidate.family, candidate.mode)))
    formats = ", ".join(f"{value_text(value)} = {string_text(format)}" for value, format in candidate.formats)
    terms = ", ".join(f"{string_text(name)} = {float_text(amount)}" for name, amount in work.terms)
    parts = [
        f"{names} seconds {float_text(priced.seconds)} {string_text(priced.bound)} bound",
        f"flops {float_text(work.flops)} bytes {float_text(work.bytes)} workspace {work.workspace}",
        *(["scalar"] if not work.vector else []),
        *([f"terms ({terms})"] if work.terms else []),
        *([f"error {float_text(candidate.error)}"] if candidate.error else []),
        *([f"formats ({formats})"] if formats else []),
        *([f"direct ({', '.join(map(value_text, candidate.direct))})"] if candidate.direct else []),
        *([f"sparse ({', '.join(map(value_text, candidate.sparse))})"] if candidate.sparse else []),
        *(["estimate"] if not candidate.executable else []),
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
    states: dict[str, StateHome] = {}
    transfers: list[Transfer] = []
    ring_bytes, solution = 0, None
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
        elif lexer.accept_word("state"):
            state = _read_state(lexer)
            if state.state in states:
                lexer.fail(f"state {state.state!r} has two homes", position)
            states[state.state] = state
        elif lexer.accept_word("transfer"):
            transfers.append(_read_transfer(lexer))
        elif lexer.accept_word("ring"):
            ring_bytes = lexer.integer("a number of bytes")
        elif lexer.accept_word("solution"):
            solution = _read_solution(lexer)
        else:
            lexer.expected("choice, home, state, transfer, ring, solution or '}'")
    return Placed(graph, machine, choices, homes, tuple(transfers), ring_bytes, solution, states)


def _read_choice(lexer: Lexer) -> Choice:
    cluster = lexer.value("a cluster's first output")
    why = lexer.string("the reason in quotes")
    binding = lexer.string("the constraint in quotes") if lexer.accept_word("binding") else ""
    lexer.expect("{")
    lexer.expect_word("chosen")
    chosen = _read_priced(lexer)
    runner_up = _read_priced(lexer) if lexer.accept_word("runner_up") else None
    lexer.expect("}", "runner_up or '}'")
    return Choice(cluster, chosen, runner_up, why, binding)


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
    terms = lexer.list("(", _read_term, ")") if lexer.accept_word("terms") else ()
    error = lexer.number() if lexer.accept_word("error") else 0.0
    formats = lexer.list("(", _read_format, ")") if lexer.accept_word("formats") else ()
    direct = lexer.list("(", lambda inner: inner.value("a weight"), ")") if lexer.accept_word("direct") else ()
    sparse = lexer.list("(", lambda inner: inner.value("a weight"), ")") if lexer.accept_word("sparse") else ()
    executable = not lexer.accept_word("estimate")
    work = Work(flops, nbytes, workspace, vector, terms)
    candidate = Candidate(device, family, mode, work, formats, error, direct, sparse, executable)
    return Priced(candidate, seconds, bound)


def _read_term(lexer: Lexer) -> tuple[str, float]:
    name = lexer.string("a term in quotes")
    lexer.expect("=")
    return name, lexer.number()


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
    mapped = lexer.accept_word("mapped")
    lexer.expect("+", "'+' and a number of bytes")
    nbytes = lexer.integer("a number of bytes")
    return Home(weight, tier, format, nbytes, lexer.string() if lexer.at("string") else "", mapped)


def _read_solution(lexer: Lexer) -> Solution:
    objective, method = lexer.string("the objective in quotes"), lexer.string("the method in quotes")
    lexer.expect_word("seconds")
    seconds = lexer.number()
    lexer.expect_word("bound")
    bound = lexer.number()
    lexer.expect_word("budgets")
    budgets = dict(lexer.list("(", _read_tier_bytes, ")"))
    lexer.expect_word("used")
    used = dict(lexer.list("(", _read_tier_bytes, ")"))
    return Solution(objective, method, seconds, bound, budgets, used)


def _read_tier_bytes(lexer: Lexer) -> tuple[str, int]:
    tier = lexer.string("a tier in quotes")
    lexer.expect("=")
    return tier, lexer.integer("a number of bytes")


def _read_state(lexer: Lexer) -> StateHome:
    name = lexer.string("the state's name in quotes")
    lexer.expect_word("in")
    tier = lexer.string("a tier in quotes")
    lexer.expect("+")
    return StateHome(name, tier, lexer.integer("a number of bytes"))


def _read_transfer(lexer: Lexer) -> Transfer:
    value = lexer.value()
    lexer.expect(":")
    source = lexer.string("a tier in quotes")
    lexer.expect("->")
    return Transfer(value, source, lexer.string("a tier in quotes"))
