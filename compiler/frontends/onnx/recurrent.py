"""Rules of recurrent layers: what the inputs bring is one product over all steps, the rest a row of its own."""

from __future__ import annotations

import onnx

from ....ir.dims import ceildiv
from ....ir.ops_recurrent import ACTIVATIONS, PANEL, Activation, text_of
from ....ir.types import f32, f64, i32
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site

_NAMES = {name.replace("_", ""): name for name in ACTIVATIONS}
#: Parameters where the model gives none.
_DEFAULTS = {
    "affine": (1.0, 0.0),
    "leaky_relu": (0.01,),
    "thresholded_relu": (1.0,),
    "scaled_tanh": (1.0, 1.0),
    "hard_sigmoid": (0.2, 0.5),
    "elu": (1.0,),
}
_USUAL = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
#: Inputs behind X, W, R.
_BIAS, _LENGTHS, _H0, _C0, _PEEPHOLES = range(3, 8)


def _list(site: Site, name: str, kind: int) -> list[float] | list[bytes]:
    attribute = site.attribute(name)
    if attribute is None:
        return []
    if attribute.type != kind:
        raise Unsupported(f"attribute {name} must be of type {onnx.AttributeProto.AttributeType.Name(kind).lower()}")
    return list(attribute.floats) if kind == onnx.AttributeProto.FLOATS else list(attribute.strings)


def _activations(site: Site, directions: int) -> str:
    """In ONNX each parameter goes to the next function that takes one."""
    given = [n.decode("utf-8", "replace") for n in _list(site, "activations", onnx.AttributeProto.STRINGS)]  # type: ignore[union-attr]
    usual = _USUAL[site.op] * directions
    names = given or usual
    if len(names) != len(usual):
        raise Unsupported(f"{len(names)} activations for {len(usual)} functions")
    pools = [[float(v) for v in _list(site, f"activation_{n}", onnx.AttributeProto.FLOATS)] for n in ("alpha", "beta")]
    found = []
    for spelled in names:
        name = _NAMES.get(spelled.lower())
        if name is None:
            raise Unsupported(f"activation {spelled!r} is not supported")
        numbers = _DEFAULTS.get(name, ())
        found.append(Activation(name, *(pool.pop(0) if pool else v for v, pool in zip(numbers, pools, strict=False))))
    return text_of(tuple(found))


@rule("RNN", "GRU", "LSTM")
def recurrent(site: Site) -> list[Result]:
    """X [T, B, I], W [D, G * H, I], R [D, G * H, H]; with layout 1 the batch stands first."""
    kind, direction = site.type(0), site.get_str("direction", "forward").lower()
    directions, across, hidden = site.shape(2, 3)
    if direction not in ("forward", "reverse", "bidirectional") or directions != 1 + (direction == "bidirectional"):
        raise Unsupported(f"direction {direction!r} does not fit matrices {site.type(2)}")
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[site.op]
    if (
        not isinstance(hidden, int)
        or hidden < 1
        or across != gates * hidden
        or site.get_int("hidden_size", hidden) != hidden
    ):
        raise Unsupported(f"matrices {site.type(2)} are not {gates} of {hidden} hidden units")
    batch_first, cell = bool(site.get_int("layout")), site.op.lower()
    wide = f64 if kind.dtype == f64 else f32
    linear, coupled = bool(site.get_int("linear_before_reset")), bool(site.get_int("input_forget"))
    cell += "_linear" if linear else "_coupled" if coupled else ""

    def state(index: int) -> str:
        if not site.has(index):
            return ""
        site.shape(index, 3)
        return site.transpose(site.cast(site.x(index), wide), (1, 0, 2) if batch_first else (0, 1, 2))

    inputs, width = site.shape(0, 3)[2], directions * gates * hidden
    x = site.cast(site.transpose(site.x(0), (1, 0, 2) if batch_first else (0, 1, 2)), wide)
    w = site.reshape(site.cast(site.x(1), wide), (width, inputs))
    projected = site.emit("matmul", x, site.transpose(w, (1, 0)))
    apart = ""
    if site.has(_BIAS):
        both = site.reshape(site.cast(site.x(_BIAS), wide), (directions, 2, gates, hidden))
        of_w, of_r = (site.reshape(site.slice(both, 1, i, 1), (directions, gates, hidden)) for i in (0, 1))
        if linear:  # the reset gate scales the recurrent bias of the hidden gate
            apart = site.reshape(site.slice(of_r, 1, 2, 1), (directions, hidden))
            zero = site.expand(site.scalar(0.0, wide), (directions, 1, hidden))
            of_r = site.emit("concat", site.slice(of_r, 1, 0, 2), zero, axis=1)
        projected = site.emit("add", projected, site.reshape(site.emit("add", of_w, of_r), (width,)))
    r = site.reshape(site.cast(site.x(2), wide), (directions, gates, hidden, hidden))
    panels = ceildiv(hidden, PANEL)
    if hidden % PANEL:
        r = site.emit("pad", r, pads=(0, 0, 0, 0, 0, 0, panels * PANEL - hidden, 0))
    r = site.transpose(site.reshape(r, (directions, gates, panels, PANEL, hidden)), (0, 1, 2, 4, 3))
    lengths = site.cast(site.x(_LENGTHS), i32) if site.has(_LENGTHS) else ""
    cells = state(_C0) if site.op == "LSTM" else ""
    peepholes = ""
    if site.op == "LSTM" and site.has(_PEEPHOLES):
        peepholes = site.reshape(site.cast(site.x(_PEEPHOLES), wide), (directions, 3, hidden))
    outputs = site.emit_all(
        "recurrent",
        *(projected, r, apart, state(_H0), cells, peepholes, lengths),
        outputs=3 if gates == 4 else 2,
        cell=cell,
        hidden=hidden,
        direction=direction,
        activations=_activations(site, directions),
        clip=site.get_float("clip", float("inf")),
    )
    results = [site.cast(value, kind.dtype) for value in outputs]
    if batch_first:
        results = [site.transpose(results[0], (2, 0, 1, 3)), *(site.transpose(v, (1, 0, 2)) for v in results[1:])]
    return list(results)
