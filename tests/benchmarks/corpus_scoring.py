"""P4: how many documents a second, by transformers' `pipeline` and by ours, on the same documents in one process?"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import CHECKPOINTS_DIR, Inputs, Row, compare, limit
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from nlpbook_helpers.classifier import Classifier
from nlpbook_helpers.corpora import NsmcCorpus
from nlpbook_helpers.features import predict_probabilities
from nlpbook_helpers.scoring import score_batches

PIPELINE_DOCUMENTS = 96  # fewer than ours, which take much less time each
DOCUMENTS = 1_024
ROUNDS = 3
MAX_SEQ_LENGTH = 128
MAX_MEAN_CHANGE = 0.005  # of a probability, by bfloat16


def make_model(inputs: Inputs) -> Any:
    """Return a classifier with random weights, the same each time."""
    torch.manual_seed(7)
    config = AutoConfig.from_pretrained(inputs.encoder_dir, num_labels=2)
    return AutoModelForSequenceClassification.from_config(config).eval()


def make_ways(inputs: Inputs, texts: Sequence[str]) -> dict[str, tuple[Callable[[], Any], int]]:
    """Return each way's work and its number of documents: the corpus evenly sampled, in the order of the file."""
    tokenizer: Any = AutoTokenizer.from_pretrained(inputs.encoder_dir)
    pipe: Any = pipeline("text-classification", model=make_model(inputs), tokenizer=tokenizer, device="cpu")
    some = list(texts[:: len(texts) // PIPELINE_DOCUMENTS][:PIPELINE_DOCUMENTS])
    rows: list[Any] = [(line, {"text": text}) for line, text in enumerate(texts)]

    def make_ours(backend: Any) -> tuple[Callable[[], Any], int]:
        arguments = (make_model(inputs), tokenizer, ["0", "1"], ["sentence"], MAX_SEQ_LENGTH, MAX_SEQ_LENGTH // 4)
        classifier = Classifier(*arguments, backend=backend)
        return lambda: list(score_batches(classifier, rows, ["text"])), len(rows)

    return {
        "pipeline": (lambda: pipe(some, batch_size=32, truncation=True, max_length=MAX_SEQ_LENGTH), len(some)),
        "torch": make_ours("torch"),
        "onnx": make_ours("onnx"),
    }


def measure_accuracy(inputs: Inputs, id: str, backend: Any) -> Row | None:
    """Compare a trained classifier as it is served with itself in float32; None if there is no trained one."""
    named = os.environ.get("NLPBOOK_BENCH_CHECKPOINT")
    folder = Path(named) if named else CHECKPOINTS_DIR / "doccls"
    if not folder.exists():
        return None
    examples = NsmcCorpus().get_examples(Path(inputs.corpus_dir) / inputs.corpus_name, "test")
    examples = [example for example in examples if example.text_a]
    labels = np.array([int(str(example.label)) for example in examples])
    classifier = Classifier.from_checkpoint(folder, backend=backend)
    features = classifier.encode([example._replace(label=None) for example in examples])
    served = predict_probabilities(classifier.scorer, features)
    exact = Classifier.from_checkpoint(folder, backend="torch").model.float()
    reference = predict_probabilities(exact, features)
    change, loss = np.abs(served - reference)[:, 1], _accuracy(reference, labels) - _accuracy(served, labels)
    note = (
        f"{folder.name} on {len(examples):,} test documents: accuracy {_accuracy(served, labels):.4f}, in float32 "
        f"{_accuracy(reference, labels):.4f} (may lose 0.1 point: {'yes' if loss <= 0.001 else 'no'}); largest "
        f"change of a probability {change.max():.4f}"
    )
    return limit(id, f"{backend}: mean change of a probability", [float(change.mean())], MAX_MEAN_CHANGE, note=note)


def _accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float((probabilities.argmax(axis=1) == labels).mean())


def run(inputs: Inputs) -> Sequence[Row]:
    """Measure P4."""
    examples = NsmcCorpus().get_examples(Path(inputs.corpus_dir) / inputs.corpus_name, "train")
    texts = [example.text_a for example in examples if example.text_a.strip()]
    texts = (texts * (DOCUMENTS // len(texts) + 1))[:DOCUMENTS]
    ways = make_ways(inputs, texts)
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for name, (work, count) in list(ways.items()) * ROUNDS:
        begin = time.perf_counter()
        work()
        costs[name].append(1e3 * (time.perf_counter() - begin) / count)
    note = f"{DOCUMENTS:,} documents through score_batches, {PIPELINE_DOCUMENTS} of them through pipeline, in turns"
    unit = "a corpus (ms per document), pipeline(batch_size=32)"
    rows = [
        compare("P4", f"{unit}; ours in 8 bits", costs["pipeline"], costs["onnx"], 12, note),
        compare("P4", f"{unit}; ours in PyTorch", costs["pipeline"], costs["torch"], 12),
    ]
    return [row for row in (*rows, measure_accuracy(inputs, "P4", "torch")) if row]
