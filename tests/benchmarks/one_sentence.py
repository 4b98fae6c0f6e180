"""P3: how long does one sentence take, in the book's way, through transformers' `pipeline`, and by ours?

All ways hold a model of one shape and random weights, and take turns in one process. A way answers some sentences in a
row before the next has its turn, as the threads of one way go on spinning for a while and slow whoever comes next.
"""

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from corpus_scoring import make_model, measure_accuracy
from measuring import Inputs, Row, compare, find_median
from transformers import AutoTokenizer, pipeline

from nlpbook_helpers.classifier import Classifier
from nlpbook_helpers.corpora import NsmcCorpus

SENTENCES = 40
TURN, UNTIMED = 10, 2
ROUNDS = 3
MAX_SEQ_LENGTH = 128


def make_ways(inputs: Inputs) -> dict[str, Callable[[str], Any]]:
    """Return each way's function of a sentence."""
    tokenizer: Any = AutoTokenizer.from_pretrained(inputs.encoder_dir)
    model = make_model(inputs)
    pipe: Any = pipeline("text-classification", model=make_model(inputs), tokenizer=tokenizer, device="cpu")

    def answer_as_the_book(sentence: str) -> list[float]:
        encoded = tokenizer([sentence], max_length=MAX_SEQ_LENGTH, padding="max_length", truncation=True)
        with torch.no_grad():
            logits = model(**{name: torch.tensor(column) for name, column in encoded.items()}).logits
        return logits.softmax(dim=1)[0].tolist()

    def make_ours(backend: Any) -> Callable[[str], Any]:
        return Classifier(
            make_model(inputs), tokenizer, ["0", "1"], ["sentence"], MAX_SEQ_LENGTH, backend=backend
        ).inference_fn

    return {
        "book": answer_as_the_book,
        "pipeline": lambda sentence: pipe(sentence, truncation=True, max_length=MAX_SEQ_LENGTH),
        "torch": make_ours("torch"),
        "onnx": make_ours("onnx"),
    }


def measure_ways(ways: dict[str, Callable[[str], Any]], sentences: Sequence[str]) -> dict[str, list[float]]:
    """Return milliseconds per sentence: for each way the median of each round."""
    medians: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        times: dict[str, list[float]] = {name: [] for name in ways}
        for start in range(0, len(sentences), TURN):
            turn = sentences[start : start + TURN]
            for name, answer in ways.items():
                for sentence in turn[:UNTIMED]:
                    answer(sentence)
                for sentence in turn:
                    begin = time.perf_counter()
                    answer(sentence)
                    times[name].append(1e3 * (time.perf_counter() - begin))
        for name, values in times.items():
            medians[name].append(find_median(values))
    return medians


def run(inputs: Inputs) -> Sequence[Row]:
    """Measure P3."""
    examples = NsmcCorpus().get_examples(str(Path(inputs.corpus_dir) / inputs.corpus_name), "test")
    texts = [example.text_a for example in examples if example.text_a.strip()]
    costs = measure_ways(make_ways(inputs), random.Random(7).sample(texts, SENTENCES))
    unit = "one sentence (ms)"
    note = f"medians of {SENTENCES} sentences in {ROUNDS} rounds; float32 in book and pipeline, as they come"
    rows = [
        compare("P3", f"{unit}, Book; ours in 8 bits", costs["book"], costs["onnx"], 25, note),
        compare("P3", f"{unit}, pipeline; ours in 8 bits", costs["pipeline"], costs["onnx"], 7),
        compare("P3", f"{unit}, Book; ours in PyTorch", costs["book"], costs["torch"]),
        compare("P3", f"{unit}, pipeline; ours in PyTorch", costs["pipeline"], costs["torch"]),
    ]
    return [row for row in (*rows, measure_accuracy(inputs, "P3", "onnx")) if row]
