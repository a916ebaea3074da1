"""Rules of optimisers: one step for each of several tensors."""

from __future__ import annotations

from ....ir.types import DType
from ..unsupported import Unsupported
from .registry import Result, rule
from .site import Site

_DOMAIN = "ai.onnx.preview.training"


class _Step:
    """Arithmetic on one tensor in its element type, with numbers where values may stand."""

    def __init__(self, site: Site, dtype: DType) -> None:
        self.site, self.dtype = site, dtype

    def __call__(self, op: str, *values: str | float) -> str:
        return self.site.emit(op, *(v if isinstance(v, str) else self.site.scalar(v, self.dtype) for v in values))

    def input(self, index: int) -> str:
        return self.site.cast(self.site.x(index), self.dtype)

    def regularised(self, x: str, gradient: str) -> str:
        """The gradient with that of norm_coefficient / 2 * |x|^2."""
        factor = self.site.get_float("norm_coefficient", 0.0)
        return self("add", self("mul", x, factor), gradient) if factor else gradient

    def later(self) -> str:
        """Whether this is not the first step."""
        t = self.site.x(1)
        return self.site.emit("gt", t, self.site.scalar(0, self.site.type_of(t).dtype))


def _tensors(site: Site, kinds: int) -> int:
    """How many tensors are optimised: behind R and T stand all of a kind, then all of the next."""
    count, rest = divmod(site.count - 2, kinds)
    if rest or count < 1:
        raise Unsupported(f"takes R, T and {kinds} inputs for each tensor, got {site.count}")
    return count


@rule("Adagrad", domain=_DOMAIN)
def adagrad(site: Site) -> list[Result]:
    n = _tensors(site, 3)
    new_x: list[Result] = []
    new_h: list[Result] = []
    for i in range(n):
        s = _Step(site, site.type(2 + i).dtype)
        x, g, h = (s.input(2 + i + k * n) for k in range(3))
        rate = s("div", s.input(0), s("add", s("mul", s.input(1), site.get_float("decay_factor")), 1.0))
        g = s.regularised(x, g)
        h = s("add", h, s("mul", g, g))
        root = s("add", s("sqrt", h), site.get_float("epsilon", 1e-6))
        new_x.append(s("sub", x, s("div", s("mul", rate, g), root)))
        new_h.append(h)
    return [*new_x, *new_h]


@rule("Adam", domain=_DOMAIN)
def adam(site: Site) -> list[Result]:
    n = _tensors(site, 4)
    alpha, beta = site.get_float("alpha", 0.9), site.get_float("beta", 0.999)
    outputs: list[list[Result]] = [[], [], []]
    for i in range(n):
        s = _Step(site, site.type(2 + i).dtype)
        x, g, v, h = (s.input(2 + i + k * n) for k in range(4))
        rate, t = s.input(0), s.input(1)
        g = s.regularised(x, g)
        v = s("add", s("mul", v, alpha), s("mul", g, 1 - alpha))
        h = s("add", s("mul", h, beta), s("mul", s("mul", g, g), 1 - beta))
        root = s("add", s("sqrt", h), site.get_float("epsilon", 1e-6))
        bias = s("div", s("sqrt", s("sub", 1.0, s("pow", beta, t))), s("sub", 1.0, s("pow", alpha, t)))
        rate = s("where", s.later(), s("mul", rate, bias), rate)
        x = s("sub", x, s("mul", rate, s("div", v, root)))
        shrink = site.get_float("norm_coefficient_post", 0.0)
        outputs[0].append(s("mul", x, 1 - shrink) if shrink else x)
        outputs[1].append(v)
        outputs[2].append(h)
    return [value for kind in outputs for value in kind]


@rule("Momentum", domain=_DOMAIN)
def momentum(site: Site) -> list[Result]:
    n, mode = _tensors(site, 3), site.get_str("mode", "standard")
    if mode not in ("standard", "nesterov"):
        raise Unsupported(f"mode {mode!r} is not known")
    alpha, beta = site.get_float("alpha"), site.get_float("beta")
    new_x: list[Result] = []
    new_v: list[Result] = []
    for i in range(n):
        s = _Step(site, site.type(2 + i).dtype)
        x, g, v = (s.input(2 + i + k * n) for k in range(3))
        g = s.regularised(x, g)
        share = s("mul", s("where", s.later(), beta, 1.0), g)
        v = s("add", s("mul", v, alpha), share)
        step = s("add", g, s("mul", v, alpha)) if mode == "nesterov" else v
        new_x.append(s("sub", x, s("mul", s.input(0), step)))
        new_v.append(v)
    return [*new_x, *new_v]
