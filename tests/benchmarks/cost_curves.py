"""PLOT: how does the cost grow with documents, with tokens per document, with documents per batch?

Of the shipped document classifier. Each curve is drawn into `results/cost_curves.png`, beside a straight line through
its largest point: cost in proportion to size.
"""

import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from measuring import BENCHMARKS_DIR, CHECKPOINTS_DIR, Inputs, Row, find_median

from nlpbook_helpers.classifier import Classifier
from nlpbook_helpers.corpora import NsmcCorpus
from nlpbook_helpers.features import Features, predict_probabilities
from nlpbook_helpers.scoring import score_batches

DOCUMENTS = (1_000, 5_000, 20_000, 50_000, 150_000)
LENGTHS = (8, 16, 32, 64, 128, 256)
BATCH_SIZES = (1, 4, 16, 64, 256)
USUAL_LENGTH, USUAL_BATCH = 24, 32
REPEATS = 5
OUTPUT = BENCHMARKS_DIR / "results" / "cost_curves.png"

Curve = dict[int, float]
"""Size → seconds."""


def measure_curve(sizes: Sequence[int], make_work: Callable[[int], Callable[[], object]], repeats: int) -> Curve:
    """Return the median seconds of each size's work; what is done once has only the smallest before it."""
    curve = {}
    make_work(sizes[0])()
    for size in sizes:
        work, times = make_work(size), []
        if repeats > 1:
            work()
        for _ in range(repeats):
            begin = time.perf_counter()
            work()
            times.append(time.perf_counter() - begin)
        curve[size] = find_median(times)
    return curve


def make_features(batch: int, tokens: int) -> Features:
    """Return documents of so many tokens, whatever they mean."""
    arrays = {
        "input_ids": np.full(batch * tokens, 7, np.int32), "offsets": np.arange(batch + 1) * tokens,
        "first_lengths": np.full(batch, tokens, np.int32), "labels": np.zeros(batch, np.int16),
        "groups": np.zeros(batch, np.uint32),
    }  # fmt: skip
    return Features(arrays, pad_token_id=0, has_token_types=True)


def find_exponent(curve: Curve, least: int = 0) -> float:
    """Return the slope of the curve in logarithms from a size on: 1 is proportional, 2 is quadratic."""
    sizes = [size for size in curve if size >= least]
    return float(np.polyfit(np.log(sizes), np.log([curve[size] for size in sizes]), 1)[0])


def draw(curves: dict[str, Curve]) -> None:
    """Draw the curves side by side, in logarithms."""
    figure, places = plt.subplots(1, len(curves), figsize=(4 * len(curves), 3.5), layout="constrained")
    for axes, (name, curve) in zip(places, curves.items(), strict=True):
        sizes, largest = np.array(list(curve)), max(curve)
        axes.loglog(sizes, list(curve.values()), marker="o")
        axes.loglog(sizes, sizes * curve[largest] / largest, linestyle=":", color="gray", label="in proportion")
        axes.set(xlabel=name, ylabel="seconds")
        axes.legend()
    OUTPUT.parent.mkdir(exist_ok=True)
    figure.savefig(OUTPUT, dpi=80)


def run(inputs: Inputs) -> Sequence[Row]:
    """Measure and draw the curves."""
    examples = NsmcCorpus().get_examples(str(Path(inputs.corpus_dir) / inputs.corpus_name), "train")
    texts = [example.text_a for example in examples if example.text_a.strip()]
    classifier = Classifier.from_checkpoint(CHECKPOINTS_DIR / "doccls", max_seq_length=max(LENGTHS), backend="torch")

    def score_documents(count: int) -> Callable[[], object]:
        rows: list[Any] = [(line, {"text": text}) for line, text in enumerate(islice(cycle(texts), count))]
        return lambda: sum(len(batch.probabilities) for batch in score_batches(classifier, rows, ["text"]))

    def score_batch(batch: int, tokens: int) -> Callable[[], object]:
        features = make_features(batch, tokens)
        return lambda: predict_probabilities(classifier.model, features, batch_tokens=batch * tokens)

    curves = {
        "documents of NSMC, text to probabilities": measure_curve(DOCUMENTS, score_documents, 1),
        f"tokens of each of {USUAL_BATCH} documents": measure_curve(
            LENGTHS, lambda tokens: score_batch(USUAL_BATCH, tokens), REPEATS
        ),
        f"documents of {USUAL_LENGTH} tokens in a batch": measure_curve(
            BATCH_SIZES, lambda batch: score_batch(batch, USUAL_LENGTH), REPEATS
        ),
    }
    draw(curves)
    return [
        Row("PLOT", f"cost of {name}, exponent (1: in proportion)", (find_exponent(curve),), note=_describe(curve))
        for name, curve in curves.items()
    ]


def _describe(curve: Curve) -> str:
    return "; ".join(f"{size:,}: {1e3 * seconds:,.1f} ms" for size, seconds in curve.items())
