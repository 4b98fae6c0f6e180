"""What does scoring a row cost, step by step, on one core? `tests/benchmarks/stages.py [rows]`.

Reads, tokenizes, computes and writes the same rows of NSMC's training file (`NLPBOOK_CORPUS_DIR`; else the embedded
sample) one step after another, in one thread. The plan in docs/billion-reviews.md is made from it.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch
from engines import write_input
from measuring import CHECKPOINTS_DIR, describe_machine

from nlpbook_helpers import Classifier, read_rows, score_batches
from nlpbook_helpers.corpora import ClassificationExample
from nlpbook_helpers.features import predict_probabilities
from nlpbook_helpers.scoring import ScoredBatch, merge_parts, plan_jobs, write_part

PART_ROWS = 4_096


def measure_stages(rows: int, checkpoint: Path, folder: Path) -> dict[str, float]:
    """Return microseconds a row of each step."""
    source = folder / "in.tsv"
    write_input(source, rows)
    classifier = Classifier.from_checkpoint(checkpoint)
    list(score_batches(classifier, list(read_rows(source, ["document"]))[:PART_ROWS], ["document"]))  # warm
    (job,), _ = plan_jobs(classifier, source, folder / "out.tsv", ["document"])
    seconds = dict.fromkeys(("read", "tokenize", "compute", "write"), 0.0)

    def spend(step: str, work):
        begin = time.perf_counter()
        result = work()
        seconds[step] += time.perf_counter() - begin
        return result

    numbered = [one for one in spend("read", lambda: list(read_rows(source, ["document"]))) if one[1]["document"]]
    parts = range(0, len(numbered), PART_ROWS)
    for number, start in enumerate(parts):
        part = numbered[start : start + PART_ROWS]
        examples = [ClassificationExample(str(row["document"])) for _, row in part]
        features = spend("tokenize", lambda examples=examples: classifier.encode(examples))
        scores = spend("compute", lambda features=features: predict_probabilities(classifier.scorer, features))
        batch = ScoredBatch(part, scores, [None] * len(part))
        spend("write", lambda number=number, batch=batch: write_part(job, number, batch, len(batch.rows)))
    spend("write", lambda: merge_parts(job, len(parts)))
    return {step: 1e6 * spent / len(numbered) for step, spent in seconds.items()}


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    with tempfile.TemporaryDirectory() as folder:
        costs = measure_stages(rows, CHECKPOINTS_DIR / "doccls", Path(folder))
    print(", ".join(f"{name} {value}" for name, value in describe_machine().items()))
    print(f"\n| step, one thread, {rows:,} rows | µs a row | rows/s |\n|---|---|---|")
    for step, cost in [*costs.items(), ("all", sum(costs.values()))]:
        print(f"| {step} | {cost:,.1f} | {1e6 / cost:,.0f} |")


if __name__ == "__main__":
    main()
