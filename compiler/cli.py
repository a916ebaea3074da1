"""The command line. Every failure is one message on standard error and a code: 2 for bad input, 3 for a machine that cannot."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ..ir.errors import StratacError
from . import commands

_EPILOG = """\
examples:
  stratac compile model.onnx -o model.plan --dim batch=1:8:32 --dim seq=1:128:512
  stratac inspect model.plan
  stratac verify model.plan --against model.onnx
  stratac bench model.plan --against onnxruntime
  stratac run model.plan -i inputs.npz -o outputs.npz
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise StratacError(message, hint=f"see `{self.prog} --help`")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="stratac",
        description="Compile a model ahead of time to a plan whose memory and time are known before it runs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    sub = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, text: str, description: str = "") -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = sub.add_parser(name, help=text, description=description or text)
        made.set_defaults(run=getattr(commands, name))
        return made

    compile_ = command("compile", "compile an ONNX model to a plan", "Compile an ONNX model to a plan folder.")
    compile_.add_argument("model", type=Path, help="the .onnx file (external data beside it is read by reference)")
    compile_.add_argument("-o", "--output", type=Path, help="the plan folder (default: the model's name with .plan)")
    _compile_options(compile_)
    compile_.add_argument("--no-cache", action="store_true", help="compile every kernel anew")
    compile_.add_argument("--jobs", type=int, default=0, help="C compilers at once (default: one for each core)")
    compile_.add_argument("--quiet", action="store_true", help="no progress")
    compile_.add_argument("--json", action="store_true", help="print what was done as JSON")

    run = command("run", "run a plan on inputs from an .npz file")
    run.add_argument("plan", type=Path)
    run.add_argument("-i", "--inputs", type=Path, help="an .npz file with one array for each input")
    run.add_argument("-o", "--outputs", type=Path, help="where to write the outputs as .npz")
    run.add_argument("--random", type=int, metavar="SEED", help="random inputs instead of a file")
    run.add_argument("--dim", action="append", default=[], metavar="NAME=N", help="size of a dim for --random")
    run.add_argument("--threads", type=int, help="threads (default: as planned)")
    run.add_argument("--profile", action="store_true", help="print measured beside predicted time of each cluster")

    verify = command(
        "verify",
        "check a plan's integrity and its results",
        "Check every byte of a plan against its digests, its bits over thread counts, and its results against the model.",
    )
    verify.add_argument("plan", type=Path)
    verify.add_argument("--static", action="store_true", help="digests only; nothing of the plan is executed")
    verify.add_argument("--against", type=Path, metavar="MODEL", help="compare with onnxruntime (or the interpreter)")
    verify.add_argument("--tolerance", type=float, default=1e-4, help="greatest relative L2 error (default 1e-4)")
    verify.add_argument("--json", action="store_true", help="print the findings as JSON")

    inspect = command("inspect", "show what a plan is, needs and costs; executes nothing from it")
    inspect.add_argument("plan", type=Path)
    inspect.add_argument("--level", choices=("graph", "placed", "plan"), help="print one IR level as text that parses back")
    inspect.add_argument("--json", action="store_true", help="the whole report as JSON")
    inspect.add_argument("--all", action="store_true", help="every cluster, not only the slowest")

    bench = command("bench", "time a plan, interleaved with a peer")
    bench.add_argument("plan", type=Path, help="a plan folder, or an .onnx model to compile first")
    bench.add_argument("--against", default="", help="peers, comma separated: onnxruntime")
    bench.add_argument("--model", type=Path, help="the model the plan was made from (default: found by its digest)")
    bench.add_argument("--dim", action="append", default=[], metavar="NAME=N", help="sizes to run at (default: typical)")
    bench.add_argument("--threads", default="", help="thread counts, comma separated (default: as planned)")
    bench.add_argument("--rounds", type=int, default=7, help="turns of each side (default 7)")
    bench.add_argument("--json", action="store_true", help="print the figures as JSON")

    doctor = command("doctor", "say what this machine has and whether stratac works on it")
    doctor.add_argument("--json", action="store_true")
    return parser


def _compile_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dim",
        action="append",
        default=[],
        metavar="NAME=MIN:TYPICAL:MAX",
        help="bounds of a symbolic dim; memory is planned for MAX, time predicted for TYPICAL; NAME=N fixes it",
    )
    parser.add_argument("--target", default="native", help="native, a shipped machine or a TOML profile (default native)")
    parser.add_argument("--threads", type=int, default=0, help="planned threads (default: the target's cores)")
    parser.add_argument("--budget", default="", metavar="ram=2GiB", help="refuse a plan that needs more than this")


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        signal.signal(signal.SIGTERM, _terminate)
    except ValueError:
        pass  # not in the main thread
    try:
        parser = build_parser()
        args = parser.parse_args(argv)
        if args.version:
            return commands.version(args)
        if args.command is None:
            parser.print_help()
            return 2
        return int(args.run(args))
    except StratacError as error:
        print(f"stratac: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stratac: interrupted; nothing was written", file=sys.stderr)
        return 3
    except BrokenPipeError:
        return 3
    except MemoryError:
        print("stratac: error: out of memory; give the process more or compile for smaller dims", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
