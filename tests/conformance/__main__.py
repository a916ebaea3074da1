"""Run the official ONNX suite over compiled plans: `python -m tests.conformance [--filter REGEX] [--jobs N]`."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path

from stratac.compiler.options import default_cache

from .page import write_page
from .peers import onnxruntime_backend
from .record import DOCS, read_record, record, regressions, updated, write_record
from .suite import Outcome, Suite, compiled, read_skips
from .workers import run_cases


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--filter", default="", metavar="REGEX", help="only cases whose kind/test_name matches")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--share", default="1/1", metavar="I/N", help="the I-th of N equal shares, by the cases' names")
    parser.add_argument(
        "--failing", action="store_true", help="only cases that did not pass when docs/conformance.json was written"
    )
    parser.add_argument("--cold", action="store_true", help="with an empty cache of compiled objects")
    parser.add_argument("--skipped", action="store_true", help="run the cases of the skip list too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every outcome")
    parser.add_argument("--system", choices=("stratac", "onnxruntime"), default="stratac", help="what runs the cases")
    parser.add_argument("--against", type=Path, metavar="FILE", help="fail where a case passed when this was written")
    parser.add_argument(
        "--write", action="store_true", help="of a whole run: write docs/conformance*, never with fewer passes"
    )
    parser.add_argument("--quiet", action="store_true", help="the counts alone")
    return parser.parse_args()


def chosen(names: list[str], pattern: str, share: str) -> list[str]:
    """The cases that a filter and a share leave."""
    which, _, of = share.partition("/")
    return [n for n in names if re.search(pattern, n) and zlib.crc32(n.encode()) % int(of) == int(which) - 1]


def main() -> int:
    args = _arguments()
    started = time.monotonic()
    ours = args.system == "stratac"
    skips = read_skips() if ours and not args.skipped else {}
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="stratac-conformance-") as folder:
        cache = Path(folder) / "cache" if args.cold else default_cache()
        suite = Suite(compiled(cache) if ours else onnxruntime_backend(), Path(folder) / "models")
        wanted = chosen(list(suite.cases), args.filter, args.share)
        if args.failing:
            wanted = [name for name in wanted if name in read_record(_path(args.system)).others]
        outcomes += [Outcome(name, "skip", 0.0, "skip list", skips[name]) for name in wanted if name in skips]
        for outcome in run_cases(suite.run, [n for n in wanted if n not in skips], args.jobs):
            outcomes.append(outcome)
            if outcome.result != "pass" and not args.quiet:
                first = outcome.message.splitlines() or [""]
                text = " ".join(line.strip() for line in first)[:200]
                print(f"{outcome.result}  {outcome.case}  {outcome.cause}: {text}", flush=True)
    outcomes.sort(key=lambda o: o.case)
    counts = Counter(o.result for o in outcomes)
    if args.json:
        args.json.write_text(json.dumps([o.facts() for o in outcomes], indent=1) + "\n")
    told = ", ".join(f"{counts[kind]} {kind}" for kind in ("pass", "fail", "died", "skip"))
    print(f"{len(outcomes)} cases: {told}; {time.monotonic() - started:.0f} s")
    if args.write:
        return _write(args, outcomes, len(wanted) == len(suite.cases))
    if args.against is not None:
        lost = regressions(read_record(args.against), outcomes)
        for outcome in lost:
            print(f"passed before: {outcome.case}")
        return 1 if lost else 0
    return 0 if not counts["fail"] and not counts["died"] else 1


def _path(system: str) -> Path:
    return DOCS / ("conformance.json" if system == "stratac" else f"conformance-{system}.json")


def _write(args: argparse.Namespace, outcomes: list[Outcome], whole: bool) -> int:
    path = _path(args.system)
    if args.failing:
        found = updated(read_record(path), outcomes)
    elif whole:
        found = record(args.system, outcomes)
    else:
        print("not written: only a whole run is, or one of the cases that failed", file=sys.stderr)
        return 2
    if path.exists() and args.system == "stratac" and read_record(path).passed > found.passed:
        print(f"not written: {read_record(path).passed} cases passed before, {found.passed} do now", file=sys.stderr)
        return 1
    write_record(path, found)
    write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main())
