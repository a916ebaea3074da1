"""Options and fixtures of all tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


#: a profile that the user's own `stratac probe` wrote must not change what tests see, in child processes neither
os.environ["XDG_CONFIG_HOME"] = str(Path(tempfile.gettempdir()) / "stratac-tests-without-config")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden instead of comparing with it")
    parser.addoption("--rounds", type=int, default=1, metavar="N", help="random graphs: N times as many")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of random graphs that take `round_` run once for each round, every round with graphs of its own."""
    if "round_" in metafunc.fixturenames:
        metafunc.parametrize("round_", range(metafunc.config.getoption("--rounds")))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """golden(name, text): `text` is what tests/golden/<name>.txt says; `--update-golden` writes it there."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"there is no {path}; run pytest --update-golden"
        assert text == path.read_text(encoding="utf-8"), f"{path} differs; run pytest --update-golden and read the diff"

    return check
