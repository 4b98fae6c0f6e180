"""P6: what does it cost to turn NSMC's training file into features, and to have them again the next time?

Each measurement is a process of its own: `python feature_building.py WAY CORPUS_DIR CORPUS ENCODER_DIR` prints it.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import Inputs, Row, compare, limit, run_python

MAX_SEQ_LENGTH = 128
BOOK_ROWS = 15_000  # the book's way on all of NSMC wants more memory than many machines have
ROUNDS = 3


def measure_memory() -> float:
    """Return this process's peak memory, MB.

    Linux hands a parent's `ru_maxrss` down through exec, so there the process's own high-water mark is read.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def build_book_features(args: Any, corpus: Any, tokenizer: Any) -> tuple[Any, int, int]:
    """Build the book's features: a Python object with padded lists per example, from one call for all of them."""

    @dataclass
    class BookFeatures:
        input_ids: list[int]
        attention_mask: list[int]
        token_type_ids: list[int]
        label: int

    examples = corpus.get_examples(Path(args.downstream_corpus_root_dir) / args.downstream_corpus_name, "train")
    total, examples = len(examples), examples[:BOOK_ROWS]
    encoding = tokenizer(
        [example.text_a for example in examples], max_length=MAX_SEQ_LENGTH, padding="max_length", truncation=True
    )
    labels = {label: index for index, label in enumerate(corpus.get_labels())}
    features = [
        BookFeatures(**{name: encoding[name][row] for name in encoding}, label=labels[example.label])
        for row, example in enumerate(examples)
    ]
    return features, len(features), total


def measure_way(way: str, corpus_dir: str, corpus_name: str, encoder_dir: str) -> dict[str, float]:
    """Build features in this process; seconds and MB are of the building alone, imports and tokenizer not counted."""
    from transformers import AutoTokenizer

    from nlpbook_helpers.arguments import ClassificationTrainArguments
    from nlpbook_helpers.corpora import NsmcCorpus
    from nlpbook_helpers.features import ClassificationDataset, Features

    args = ClassificationTrainArguments(
        encoder_dir, downstream_corpus_root_dir=corpus_dir, downstream_corpus_name=corpus_name,
        max_seq_length=MAX_SEQ_LENGTH,
    )  # fmt: skip
    tokenizer, corpus = AutoTokenizer.from_pretrained(encoder_dir), NsmcCorpus()
    tokenizer(["예열"])  # the first call starts the threads
    before, begin = measure_memory(), time.perf_counter()
    if way == "book":
        kept, rows, total = build_book_features(args, corpus, tokenizer)
        columns = 0.0
    else:
        kept = ClassificationDataset(args, corpus, tokenizer, "train")
        rows = total = len(kept)
        columns = sum(getattr(kept.features, name).nbytes for name in Features.columns) / 1e6
    seconds = time.perf_counter() - begin
    scale = total / rows
    return {"seconds": seconds * scale, "memory": (measure_memory() - before) * scale, "columns": columns, "rows": rows}


def run(inputs: Inputs) -> Sequence[Row]:
    """Measure P6."""
    found: dict[str, list[dict[str, float]]] = {"book": [], "build": [], "reload": []}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as cache:
            for way, measured in found.items():
                arguments = (way, inputs.corpus_dir, inputs.corpus_name, inputs.encoder_dir)
                output = run_python(__file__, *arguments, environment={"NLPBOOK_CACHE_DIR": cache})
                measured.append(json.loads(output))

    def get(way: str, name: str) -> list[float]:
        return [measured[name] for measured in found[way]]

    rows = f"{found['build'][0]['rows']:,} rows"
    scaled = f"Book measured on {found['book'][0]['rows']:,} rows and scaled to {rows}"
    return [
        compare("P6", "features, peak extra memory (MB)", get("book", "memory"), get("build", "memory"), 20, scaled),
        compare("P6", "features, building (s)", get("book", "seconds"), get("build", "seconds"), note=scaled),
        compare(
            "P6", "features, reload (ours) against building (s)", get("build", "seconds"), get("reload", "seconds"), 20
        ),
        compare("P6", "features, peak extra memory of a reload (MB)", get("build", "memory"), get("reload", "memory")),
        limit("P6", "features, size of the columns (MB)", get("build", "columns")[:1], 40),
    ]


if __name__ == "__main__":
    print(json.dumps(measure_way(*sys.argv[1:])))
