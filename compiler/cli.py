"""The command line. Every failure is one message on standard error and a code: 2 for bad input, 3 for a machine that cannot."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from ..ir.errors import StratacError
from .layout import STRING_BYTES

_EPILOG = """\
examples:
  stratac compile model.onnx -o model.plan --dim batch=1:8:32 --dim seq=1:128:512
  stratac inspect model.plan
  stratac verify model.plan --against model.onnx
  stratac bench model.plan --against onnxruntime
  stratac run model.plan -i inputs.npz -o outputs.npz
  stratac estimate model.onnx --target h200-server
"""


_EXAMPLES = {
    "ops": """\
examples:
  stratac ops
  stratac ops --json
""",
    "compile": """\
examples:
  stratac compile resnet50.onnx -o r50.plan
  stratac compile minilm.onnx --dim batch=1:8:32 --dim seq=1:128:512 --budget ram=1GiB
  stratac compile model.onnx --target generic-x86_64-avx2 --threads 4
  stratac compile model.onnx --tune 20
  stratac compile hf:models/llama -o llama.plan --dim batch=1 --dim seq=1:128:2048
  stratac compile model.onnx --target raspberry-pi-5 --cc aarch64-linux-gnu-gcc

The C compiler is that of --cc, else $CC, else cc, gcc or clang; for a machine of another architecture ARCH it is
ARCH-linux-gnu-gcc, or clang where that finds a C library for it. Compiled kernels are kept in $STRATAC_CACHE, else in the user's
cache folder; an empty STRATAC_CACHE keeps none.
""",
    "run": """\
examples:
  stratac run model.plan -i inputs.npz -o outputs.npz
  stratac run model.plan --random 1 --dim batch=4 --profile
  stratac run model.plan --random 1 --profile ledger.json --trace trace.json
""",
    "verify": """\
examples:
  stratac verify model.plan --static
  stratac verify model.plan --against model.onnx --tolerance 1e-5

The exit code is 0 if every check holds and 2 if one does not.
""",
    "inspect": """\
examples:
  stratac inspect model.plan
  stratac inspect model.plan --level plan
  stratac inspect model.plan --html report.html
  stratac inspect model.plan --compare ledger.json
  stratac inspect model.plan --json | python -m json.tool
""",
    "explain": """\
examples:
  stratac explain model.plan node_MatMul_98
  stratac explain model.plan 'layers.3.*weight'
  stratac explain model.plan --what-if ram=+1GiB
""",
    "diff": """\
examples:
  stratac diff before.plan after.plan
  stratac diff before.plan after.plan --exit-code --json
""",
    "bench": """\
examples:
  stratac bench model.plan --against onnxruntime,openvino
  stratac bench model.plan --dim batch=8 --threads 1,2
""",
    "probe": """\
examples:
  stratac probe                       measure this machine; `--target native` uses the result from then on
  stratac probe -o server.toml        write the profile elsewhere: compile for this machine on another one
  stratac probe --disk /data --quick  measure the disk of that folder, and everything with fewer takes

It takes about a minute and wants an otherwise idle machine. A temporary file is written to measure the disk.
""",
    "estimate": """\
examples:
  stratac estimate model.onnx --dim batch=1:8:32
  stratac estimate llama70b-decode.onnx --target h200-server --dim batch=1:16:64 --dim past=0:2048:8192
  stratac estimate llama70b-decode.onnx --all-targets --dim past=2048
  stratac estimate model.onnx --target laptop-8gb --budget ram=4GiB --hosts 4

What can be compiled today is placed as `compile` would place it, and its time is the plan's. The rest (16-bit floats, GPUs, several
hosts) is a roofline over the machine's profile: docs/estimate.md says how far to trust it. The exit code is 0 if the model fits
every target asked for and 2 if it does not.
""",
    "doctor": """\
The exit code is 0 if plans can be compiled and run here and 3 if not. Nothing is changed but the cache.
""",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise StratacError(message, hint=f"see `{self.prog} --help`")

    def print_help(self, file: Any = None) -> None:
        print(self.format_help(), end="", file=file)  # argparse would not tell of a full disk


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """An argument type: a whole number within limits."""
    limits = f"a whole number from {least}" + (f" to {most}" if most is not None else "")

    def parse(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() else -1
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{text!r} is not {limits}")
        return number

    return parse


_THREADS = _whole(1, 1024)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


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
        made: argparse.ArgumentParser = sub.add_parser(
            name,
            help=text,
            description=description or f"{text[0].upper()}{text[1:]}.",
            epilog=_EXAMPLES[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        return made

    compile_ = command("compile", "compile a model to a plan", "Compile a model to a plan folder.")
    compile_.add_argument(
        "model",
        type=Path,
        help="the .onnx file (external data beside it is read by reference), or hf:FOLDER for a model folder of Hugging Face: "
        "config.json and safetensors files, which are read by reference too",
    )
    compile_.add_argument(
        "-o", "--output", type=Path, metavar="PLAN", help="the plan folder (default: the model's name with .plan)"
    )
    _compile_options(compile_)
    compile_.add_argument(
        "--cache",
        default="",
        metavar="[BATCHx]LENGTH",
        help="of hf:FOLDER: a decoder that takes the next tokens, each run going on where the one before ended; keys and values of "
        "so many tokens are state of the plan",
    )
    compile_.add_argument(
        "--cc",
        metavar="COMMAND",
        help="the C compiler (default: $CC, else one on PATH that makes code for the target)",
    )
    compile_.add_argument(
        "--tune",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="before compiling, run the model's kernels in every allowed numeric mode for about so long, and keep their times in "
        "the profile of this machine (or the TOML file of --target), where this and later compilations find them",
    )
    compile_.add_argument("--no-cache", action="store_true", help="compile every kernel anew")
    compile_.add_argument("--jobs", type=_whole(1), default=0, help="C compilers at once (default: one for each core)")
    compile_.add_argument("--quiet", action="store_true", help="no progress on standard error")
    compile_.add_argument("--json", action="store_true", help="print what was done as JSON")

    run = command("run", "run a plan on inputs from an .npz file")
    run.add_argument("plan", type=Path, help="a plan folder")
    inputs = run.add_mutually_exclusive_group()
    inputs.add_argument("-i", "--inputs", type=Path, metavar="NPZ", help="an .npz file with one array for each input")
    inputs.add_argument("--random", type=_whole(0), metavar="SEED", help="random inputs instead of a file")
    run.add_argument(
        "--dim",
        action="append",
        default=[],
        metavar="NAME=N",
        help="size of a dim for --random (default: the typical size)",
    )
    run.add_argument("-o", "--outputs", type=Path, metavar="NPZ", help="where to write the outputs as .npz")
    run.add_argument("--threads", type=_THREADS, help="threads (default: as planned)")
    run.add_argument(
        "--profile",
        nargs="?",
        const="-",
        metavar="FILE",
        help="print the ledger: measured beside predicted of calls, reads, memory and opening; FILE gets it as JSON",
    )
    run.add_argument(
        "--trace", type=Path, metavar="FILE", help="write the queues as predicted and measured, for Chrome or Perfetto"
    )
    run.add_argument("--runs", type=_whole(1), default=5, help="runs that --profile and --trace measure (default 5)")

    verify = command(
        "verify",
        "check a plan's integrity and its results",
        "Check every byte of a plan against its digests, its bits over thread counts, and its results against the model.",
    )
    verify.add_argument("plan", type=Path, help="a plan folder")
    verify.add_argument("--static", action="store_true", help="digests only; nothing of the plan is executed")
    verify.add_argument("--against", type=Path, metavar="MODEL", help="compare with onnxruntime (or the interpreter)")
    verify.add_argument(
        "--tolerance",
        type=float,
        help="greatest relative L2 error (default 1e-4, or 20 times what the plan was allowed for one product)",
    )
    verify.add_argument("--json", action="store_true", help="print the findings as JSON")

    inspect = command("inspect", "show what a plan is, needs and costs; executes nothing from it")
    inspect.add_argument("plan", type=Path, help="a plan folder")
    inspect.add_argument(
        "--level", choices=("graph", "placed", "plan"), help="print one IR level as text that parses back"
    )
    inspect.add_argument("--json", action="store_true", help="the whole report as JSON")
    inspect.add_argument("--all", action="store_true", help="every cluster, not only the slowest")
    inspect.add_argument("--html", type=Path, metavar="FILE", help="write the report as one page for a browser")
    inspect.add_argument(
        "--compare",
        type=Path,
        metavar="LEDGER",
        help="show the error of each prediction, from a file of `run --profile`",
    )

    explain = command("explain", "say why a node, a weight or a budget is as it is; executes nothing of the plan")
    explain.add_argument("plan", type=Path, help="a plan folder")
    explain.add_argument(
        "node", nargs="?", help="a node, an output value or a weight by its name, or a regular expression"
    )
    explain.add_argument(
        "--what-if",
        action="append",
        default=[],
        metavar="TIER=+SIZE",
        help="plan again with a change, such as ram=+1GiB, ram=2GiB, threads=4, objective=memory, precision=bf16 or "
        "place=REGEX=ram; several changes count together",
    )
    explain.add_argument("--model", type=Path, help="the model the plan was made from (default: found by its digest)")
    explain.add_argument("--json", action="store_true", help="print the answer as JSON")

    diff = command("diff", "say what two plans differ in; executes nothing of them")
    diff.add_argument("plan", type=Path, help="a plan folder")
    diff.add_argument("other", type=Path, metavar="PLAN", help="another plan folder")
    diff.add_argument("--exit-code", action="store_true", help="exit with 1 where they differ")
    diff.add_argument("--json", action="store_true", help="print the differences as JSON")

    bench = command("bench", "time a plan, interleaved with a peer")
    bench.add_argument("plan", type=Path, help="a plan folder, or an .onnx model to compile first")
    bench.add_argument(
        "--against", default="", help="peers, comma separated: onnxruntime, openvino, openvino-default, iree"
    )
    bench.add_argument("--model", type=Path, help="the model the plan was made from (default: found by its digest)")
    bench.add_argument(
        "--dim", action="append", default=[], metavar="NAME=N", help="sizes to run at (default: typical)"
    )
    bench.add_argument("--threads", default="", help="thread counts, comma separated (default: as planned)")
    bench.add_argument("--rounds", type=int, default=7, help="turns of each side (default 7)")
    bench.add_argument("--json", action="store_true", help="print the figures as JSON")

    probe = command("probe", "measure this machine and write its profile")
    probe.add_argument(
        "-o", "--output", type=Path, metavar="FILE.toml", help="the profile (default: the user's own, see below)"
    )
    probe.add_argument(
        "--disk", type=Path, metavar="FOLDER", help="measure the disk of this folder (default: the output's)"
    )
    probe.add_argument("--quick", action="store_true", help="fewer takes and samples: rougher figures")
    probe.add_argument("--quiet", action="store_true", help="no progress on standard error")
    probe.add_argument("--json", action="store_true", help="print what was measured as JSON")

    estimate = command(
        "estimate",
        "say what a model would need and take on a machine, without either",
        "Say whether a model fits a machine, how long a run takes there, what binds, and what several machines would give. "
        "Nothing is compiled; neither the machine nor the files of the weights need to be there.",
    )
    estimate.add_argument("model", type=Path, help="the .onnx file; its external data may be missing")
    _layout_options(estimate)
    estimate.add_argument(
        "--dim",
        action="append",
        default=[],
        metavar="NAME=MIN:TYPICAL:MAX",
        help="bounds of a symbolic dim; memory is counted at MAX, time at TYPICAL; NAME=N fixes it (a batch without bounds is 1)",
    )
    estimate.add_argument(
        "--target",
        default="native",
        help="the machine: native, a name that `stratac doctor` lists or a TOML file; several with commas (default native)",
    )
    estimate.add_argument("--all-targets", action="store_true", help="every machine that is shipped, one line each")
    estimate.add_argument(
        "--threads", type=_THREADS, default=0, help="threads on the processor (default: the target's cores)"
    )
    estimate.add_argument(
        "--budget",
        default="",
        metavar="ram=2GiB",
        help="bytes the model may take in each tier (default: what the target has)",
    )
    estimate.add_argument(
        "--hosts",
        type=_whole(1, 1024),
        default=0,
        metavar="N",
        help="split over up to N equal hosts, in powers of two and N itself (default: what the profile's network has)",
    )
    estimate.add_argument(
        "--json", action="store_true", help="print the answers as JSON: a list with one for each target"
    )

    ops = command("ops", "list the operators that compile, with their opsets and element types")
    ops.add_argument("--json", action="store_true", help="print them as JSON, those that are not taken too")

    doctor = command("doctor", "say what this machine has and whether stratac works on it")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    return parser


def _layout_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sequence",
        action="append",
        default=[],
        metavar="NAME=LENGTH",
        help="the length of an input that is a sequence, or the shape of each element, such as [2,3],[n]; "
        "none for an optional input without a value",
    )
    parser.add_argument(
        "--string-bytes",
        type=int,
        default=STRING_BYTES,
        metavar="N",
        help=f"how many bytes of UTF-8 strings in inputs may have (default {STRING_BYTES})",
    )
    parser.add_argument(
        "--state",
        action="append",
        default=[],
        metavar="INPUT=OUTPUT",
        help="keep an output from one run as an input of the next, as caches are (past_key=present_key): neither is asked for or "
        "given any more; it starts as zeros",
    )
    parser.add_argument(
        "--trips",
        type=int,
        default=0,
        metavar="N",
        help="how often loops may run of which only the data says how often; a run that needs more fails",
    )


def _compile_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dim",
        action="append",
        default=[],
        metavar="NAME=MIN:TYPICAL:MAX",
        help="bounds of a symbolic dim; memory is planned for MAX, time predicted for TYPICAL; NAME=N fixes it "
        "(a batch without bounds is 1)",
    )
    parser.add_argument(
        "--constant",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="the value of an input, which is compiled in: a number, a list such as 0,1 (one element: 0,) or @FILE.npy; "
        "for inputs that decide shapes",
    )
    _layout_options(parser)
    parser.add_argument(
        "--target",
        default="native",
        help="the machine to compile for: native, a name that `stratac doctor` lists or a TOML file (default native)",
    )
    parser.add_argument("--threads", type=_THREADS, default=0, help="planned threads (default: the target's cores)")
    parser.add_argument(
        "--budget",
        default="",
        metavar="ram=2GiB",
        help="bytes the plan may take in each tier, such as ram=2GiB,disk=50GB: weights that do not fit are streamed from storage "
        "(default: what the target has; for native also the memory limit of the control group)",
    )
    parser.add_argument(
        "--objective",
        choices=("latency", "throughput", "memory"),
        default="latency",
        help="what to make least: the time of one run, the time of runs back to back, or memory (default latency)",
    )
    parser.add_argument(
        "--precision",
        choices=("faithful", "exact", "bf16x3", "bf16"),
        default="faithful",
        help="numeric modes that products may use: faithful, none less exact than f32; exact, f32 alone; bf16x3, on matrix units "
        "with about 16 bits of each operand; bf16, weights and inputs of products rounded to 8 bits, and stored so, where that is "
        "faster or saves memory (default faithful)",
    )
    parser.add_argument(
        "--max-error",
        type=float,
        metavar="E",
        help="instead of --precision: any mode whose products are within E of those in f32, in relative L2 "
        "(bf16x3: 1e-5, bf16: 2.5e-3)",
    )
    parser.add_argument(
        "--ragged",
        default="",
        metavar="INPUT",
        help="the input that is the mask of valid tokens (1) and padding (0), such as attention_mask: padded rows are then not "
        "computed, and outputs are zeros there (without it that is done where no output tells the difference)",
    )
    parser.add_argument(
        "--place",
        action="append",
        default=[],
        metavar="REGEX=WHERE",
        help="pin the nodes and weights that match to a device or tier (cpu, ram, disk), or keep them away from it (!disk)",
    )


@contextmanager
def _stoppable() -> Iterator[None]:
    """The first Ctrl-C, SIGTERM or SIGHUP raises KeyboardInterrupt; further ones do not break into the cleanup."""
    before: dict[int, Any] = {}

    def stop(signum: int, frame: FrameType | None) -> None:
        for number in before:
            signal.signal(number, lambda *_: None)  # Python reports it if a signal that came is SIG_IGN by now
        raise KeyboardInterrupt

    number: int
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) not in (signal.SIG_IGN, None):  # nohup and background jobs stay as they are
            with suppress(ValueError):  # not in the main thread
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _discard_output() -> None:
    """What is still buffered for standard output cannot be written; do not try again at exit."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _command(argv: Sequence[str] | None) -> int:
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as done:  # --help has printed
        return int(done.code or 0)
    from . import commands  # after parsing: help needs no compiler, and Ctrl-C is answered while this loads

    if args.version:
        return commands.version(args)
    if args.command is None:
        parser.print_help()
        return 2
    return int(getattr(commands, args.command)(args))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names of a model may not be printable everywhere
            stream.reconfigure(errors="backslashreplace")
    message, code = "", 3
    with _stoppable():
        try:
            done = _command(argv)
            if sys.stdout is not None:
                sys.stdout.flush()
            return done
        except StratacError as error:
            message, code = str(error), error.exit_code
        except KeyboardInterrupt:
            message = "interrupted; nothing was written"
        except BrokenPipeError:
            _discard_output()
        except OSError as error:
            message = f"{error.filename or 'cannot write the output'}: {error.strerror or error}"
            if error.filename is None:
                _discard_output()
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] == "stratac":
                raise
            message = f"the Python package {error.name!r} is not installed; pip install 'stratac[compile]'"
        except MemoryError:
            message = "out of memory; give the process more or compile for smaller dims"
        if message:
            print(f"stratac: error: {message}", file=sys.stderr)
        return code


if __name__ == "__main__":
    sys.exit(main())
