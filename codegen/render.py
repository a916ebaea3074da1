"""The only place that knows jinja2: templates hold text layout, every number arrives named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

_environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader([Path(__file__).parent / folder for folder in ("families", "routines")]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def render(template: str, **values: Any) -> str:
    """The text of a template beside the families or routines. An undefined name is an error."""
    return _environment.get_template(template).render(**values)
