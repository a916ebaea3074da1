"""Prints kernels: `print_kernel`. `%` marks what the kernel binds (axes, folds, lets); bare names are dims and functions.

A scalar expression that a stage uses more than once is printed once, as `let %t0 = ..` in front of the stage: an
abbreviation of the text, not an order of evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .dims import Dim, Expr
from .kernel import (
    Accumulator,
    Apply,
    Attention,
    Axis,
    Const,
    Contraction,
    Conv,
    Dense,
    Folded,
    Guarded,
    Index,
    Kernel,
    Matmul,
    Nest,
    Operand,
    Position,
    Read,
    Reduce,
    Routine,
    Scalar,
    Selection,
    Stage,
    Store,
    Strided,
    children,
    walk,
)
from .scalars import TO_BOOL
from .text import attr_text, attrs_text, dim_text, float_text, value_text
from .types import DType, bool_, f32, i64

#: The left operand of a matmul whose elements the prologue computes.
COMPUTED = Strided(-1, 0, ())


def print_kernel(kernel: Kernel) -> str:
    """The text of a kernel that `verify_kernel` accepts; ends with a newline."""
    return "\n".join(kernel_lines(kernel)) + "\n"


def kernel_lines(kernel: Kernel, indent: str = "") -> Iterator[str]:
    """The lines of a kernel."""
    printer = _Printer(kernel.operands, indent + "  ")
    what = kernel.root if isinstance(kernel, Contraction) else kernel
    yield f"{indent}kernel {type(what).__name__.lower()} {{"
    for number, operand in enumerate(kernel.operands):
        yield printer.indent + operand_text(number, operand)
    if isinstance(kernel, Contraction):
        yield from printer.root(kernel.root)
        yield from printer.stages(kernel.epilogue)
    elif isinstance(kernel, Routine):
        inputs, results = (", ".join(map(dense_text, row)) for row in (kernel.inputs, kernel.results))
        yield f"{printer.indent}{kernel.op}({inputs}) -> ({results}){attrs_text(kernel.attrs)}"
    elif isinstance(kernel, Selection):
        yield f"{printer.indent}axis {axis_text(kernel.axis)}"
        yield from printer.abbreviate([kernel.condition])
        yield f"{printer.indent}condition = {printer.scalar(kernel.condition)}"
        yield f"{printer.indent}count {kernel.count}"
    else:
        for nest in kernel.nests:
            yield from printer.nest(nest)
    yield f"{indent}}}"


def dense_text(dense: Dense | None) -> str:
    """`a0 + 0 : (8, 3)`, or `_` for what is absent."""
    if dense is None:
        return "_"
    return f"a{dense.operand} + {_factor(dense.offset)} : {dims_text(dense.shape)}"


def local_text(name: str) -> str:
    """An axis, a fold or a let: `%name`."""
    return value_text(name) if name else '%""'


def operand_text(number: int, operand: Operand) -> str:
    """`a0 : in f32`, `a2 : row f32[384]`."""
    elements = f"[{dim_text(operand.elements)}]" if operand.elements != 0 else ""
    return f"a{number} : {operand.role} {operand.dtype}{elements}"


def axes_text(axes: Iterable[Axis]) -> str:
    """`(%i0 < 8*batch, %i1 < 384)`."""
    return f"({', '.join(axis_text(axis) for axis in axes)})"


def axis_text(axis: Axis) -> str:
    return f"{local_text(axis.name)} < {dim_text(axis.extent)}"


def dims_text(dims: Iterable[Dim]) -> str:
    return f"({', '.join(map(dim_text, dims))})"


def strided_text(strided: Strided) -> str:
    """`a0 + 16 by (384, 1)`: an operand, where it starts and its strides."""
    if strided == COMPUTED:
        return "computed"
    return f"a{strided.operand} + {_factor(strided.offset)} by {dims_text(strided.strides)}"


def _factor(dim: Dim) -> str:
    """A dim that stands in a product or after a sign."""
    plain = isinstance(dim, int) or (len(dim.terms) == 1 and not dim_text(dim).startswith("-"))
    return dim_text(dim) if plain and not (isinstance(dim, int) and dim < 0) else f"({dim_text(dim)})"


def default_dtype(function: str, args: Sequence[Scalar]) -> DType | None:
    """The type of a function's result that the text leaves out; None where there are no arguments."""
    return bool_ if function in TO_BOOL else args[-1].dtype if args else None


def default_const_dtype(value: object) -> DType:
    return bool_ if isinstance(value, bool) else f32 if isinstance(value, float) else i64


class _Printer:
    """One kernel under way: the operands' types and the names in use."""

    def __init__(self, operands: Sequence[Operand], indent: str) -> None:
        self.operands, self.indent = operands, indent
        self.folded: dict[str, DType] = {}
        self.lets: dict[str, str] = {}  # full text of a subexpression -> its let's name
        self.count = 0

    # -- stages and roots ------------------------------------------------------------------------------------------

    def nest(self, nest: Nest) -> Iterator[str]:
        self.folded = {}
        yield f"{self.indent}nest {axes_text(nest.outer)} {{"
        outside, self.indent = self.indent, self.indent + "  "
        yield from self.stages(nest.stages)
        self.indent = outside
        yield f"{self.indent}}}"

    def stages(self, stages: Iterable[Stage]) -> Iterator[str]:
        for stage in stages:
            gathers = [e for e, _ in stage.index.gathers] if isinstance(stage, Store) else []
            yield from self.abbreviate([*gathers, stage.value])
            value = self.scalar(stage.value)
            loop = f"for {axes_text(stage.axes)} " if stage.axes else ""
            if isinstance(stage, Reduce):
                self.folded[stage.name] = stage.value.dtype
                verb = "scan" if stage.running else "fold"
                yield f"{self.indent}{loop}{verb} {local_text(stage.name)} = {stage.function} {value}"
            else:
                yield f"{self.indent}{loop}store a{stage.operand}[{self.index(stage.index)}] = {value}"

    def root(self, root: Matmul | Conv | Attention) -> Iterator[str]:
        last: dict[str, Scalar | None]
        match root:
            case Matmul():
                fields: dict[str, str] = {"loops": axes_text(root.loops)} if root.loops else {}
                fields |= {"batch": axis_text(root.batch), "rows": axes_text(root.rows)}
                fields |= {"column": axis_text(root.column), "depth": axis_text(root.depth)}
                fields |= {"a =": strided_text(root.a), "b =": strided_text(root.b)}
                last = {"zero =": root.zero, "prologue =": root.prologue}
            case Conv():
                pairs = [f"({root.window[k]}, {root.window[k + 1]})" for k in (0, 2, 4, 6)]
                window = "{} stride {} dilation {} padding {}".format(*pairs)
                fields = {"rows": axes_text(root.rows), "column": axis_text(root.column)}
                fields |= {"size": dims_text(root.size), "out_size": dims_text(root.out_size)}
                fields |= {"window": window, "groups": str(root.groups)}
                fields |= {"x =": strided_text(root.x), "filter =": strided_text(root.filter)}
                last = {"zero =": root.zero}
            case Attention():
                fields = {"batch": axis_text(root.batch), "heads": axis_text(root.heads)}
                fields |= {"row": axis_text(root.row), "column": axis_text(root.column)}
                fields |= {"keys": dim_text(root.keys), "kv_heads": str(root.kv_heads), "width": dim_text(root.width)}
                fields |= {"scale": float_text(root.scale)} | ({"causal": ""} if root.causal else {})
                fields |= {f"{name} =": strided_text(getattr(root, name)) for name in "qkv"}
                if root.ragged is not None:
                    fields |= {"ends =": strided_text(root.ragged.ends), "longest": dim_text(root.ragged.longest)}
                last = {"score =": root.score}
        for name, text in fields.items():
            yield f"{self.indent}{name} {text}".rstrip()
        for name, value in last.items():
            if value is not None:
                yield from self.abbreviate([value])
                yield f"{self.indent}{name} {self.scalar(value)}"

    # -- lets ------------------------------------------------------------------------------------------------------

    def abbreviate(self, expressions: Sequence[Scalar]) -> Iterator[str]:
        """The lets of one stage: its shared subexpressions, inner ones first, by text: 0.0 and -0.0 are not the same."""
        self.lets = {}
        self.seen: dict[int, str] = {}
        uses: dict[str, int] = {}
        met: dict[str, Scalar] = {}

        def visit(expression: Scalar) -> None:
            text = self.whole(expression)
            uses[text] = uses.get(text, 0) + 1
            if text not in met:
                for child in children(expression):
                    visit(child)
                met[text] = expression

        for expression in expressions:
            visit(expression)
        taken = {e.name for whole in expressions for e in walk(whole) if isinstance(e, Folded)} | set(self.folded)
        for text, expression in met.items():
            plain = isinstance(expression, Const | Folded | Accumulator | Position)
            if uses[text] < 2 or (plain and not children(expression)):
                continue
            value = self.scalar(expression)
            while (name := f"t{self.count}") in taken:
                self.count += 1
            self.count += 1
            self.lets[text] = name
            yield f"{self.indent}let {local_text(name)} = {value}"

    def whole(self, expression: Scalar) -> str:
        """The text without lets: what makes two subexpressions the same. Shared objects are printed once."""
        text = self.seen.get(id(expression))
        if text is None:
            parts = [self.whole(child) for child in children(expression)]
            text = self.seen[id(expression)] = self._text(expression, parts)
        return text

    # -- expressions -----------------------------------------------------------------------------------------------

    def scalar(self, expression: Scalar) -> str:
        if self.lets and (name := self.lets.get(self.whole(expression))) is not None:
            return local_text(name)
        return self._text(expression, [self.scalar(child) for child in children(expression)])

    def _text(self, expression: Scalar, parts: Sequence[str]) -> str:
        """An expression whose children have the texts `parts`."""
        default: DType | None
        match expression:
            case Const(value):
                text, default = attr_text(value), default_const_dtype(value)
            case Position(index):
                text, default = f"at[{self.index(index, parts)}]", i64
            case Read(operand, index):
                known = 0 <= operand < len(self.operands)
                text = f"a{operand}[{self.index(index, parts)}]"
                default = self.operands[operand].dtype if known else None
            case Apply(function, args):
                text, default = f"{function}({', '.join(parts)})", default_dtype(function, args)
            case Guarded():
                return f"guard({', '.join(parts)})"
            case Folded(name):
                text, default = local_text(name), self.folded.get(name)
            case Accumulator():
                text, default = "acc", f32
        return text if expression.dtype == default else f"{text}:{expression.dtype}"

    def index(self, index: Index, gathered: Sequence[str] | None = None) -> str:
        """`384*%i0 + %i1 + 8*{..} - 3`; braces hold the integer value of a scalar expression."""
        if gathered is None:
            gathered = [self.scalar(expression) for expression, _ in index.gathers]
        factors = [(local_text(name), coefficient) for name, coefficient in index.terms]
        factors += [(f"{{{text}}}", c) for text, (_, c) in zip(gathered, index.gathers, strict=True)]
        terms = [_term(text, coefficient) for text, coefficient in factors]
        if index.base != 0 or not terms:
            terms.append(dim_text(index.base))
        text = terms[0]
        for term in terms[1:]:
            text += f" - {term[1:]}" if term.startswith("-") else f" + {term}"
        return text


def _term(name: str, coefficient: Dim) -> str:
    if isinstance(coefficient, int):
        return name if coefficient == 1 else f"-{name}" if coefficient == -1 else f"{coefficient}*{name}"
    assert isinstance(coefficient, Expr)
    text = dim_text(coefficient)
    return f"{text}*{name}" if len(coefficient.terms) == 1 else f"({text})*{name}"
