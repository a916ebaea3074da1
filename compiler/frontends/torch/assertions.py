"""Rules of assertions about values: where one does not hold, the run fails."""

from __future__ import annotations

from ....ir.dims import symbol_of
from ....ir.types import bool_
from ..known import Known
from ..unsupported import Unsupported
from .registry import Results, rule
from .site import Site


@rule("_assert_async", "_assert_async.msg")
def assert_async(site: Site) -> Results:
    """A run-time dim that is 1 at most counts to 2 where the assertion fails; it is called as the message, if that is a name."""
    message = str(site.get("assert_msg", "assertion"))
    known = site.known("self")
    if isinstance(known, Known) and known.scalar() is not None:
        if not known.scalar():
            raise Unsupported(f"never holds: {message}")
        return []
    holds = site.x("self")
    if site.type_of(holds).dtype != bool_:
        holds = site.emit("ne", holds, site.scalar(0, site.type_of(holds).dtype))
    fails = site.reshape(site.emit("not", holds), (1,))
    count = site.runtime_dim(message if message.isidentifier() else "assertion", 1)
    flags = site.emit("concat", site.reshape(site.scalar(True, bool_), (1,)), fails, axis=0)
    site.emit("nonzero", flags, count=count)
    name = symbol_of(count)
    assert name is not None
    site.importer.checked.append(name)
    return []
