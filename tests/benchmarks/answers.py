"""P3 and P4: what do one sentence and a whole corpus cost, in the book's way, through `pipeline`, and by ours?

All ways hold the same model and take turns in one process. With one sentence a way answers some in a row before the
next has its turn, as the threads of one way go on spinning for a while and slow whoever comes next.
"""

import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import CHECKPOINTS_DIR, Inputs, Row, compare, find_median, limit
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from nlpbook_helpers import Classifier, NsmcCorpus

TURN, UNTIMED = 10, 2  # sentences
NAMES = {"onnx": "ours in 8 bits", "torch": "ours in PyTorch"}


def make_book_function(inputs: Inputs) -> Callable[[str], Any]:
    """Return the book's function of a sentence: padded to 128, float32."""
    tokenizer: Any = AutoTokenizer.from_pretrained(inputs.model_dir)
    model: Any = AutoModelForSequenceClassification.from_pretrained(inputs.model_dir).eval()

    def answer(sentence: str) -> list[float]:
        encoded = tokenizer([sentence], max_length=128, padding="max_length", truncation=True)
        with torch.no_grad():
            logits = model(**{name: torch.tensor(column) for name, column in encoded.items()}).logits
        return logits.softmax(dim=1)[0].tolist()

    return answer


def make_pipeline(inputs: Inputs) -> Any:
    """Return transformers' own, as it comes: float32."""
    return pipeline("text-classification", inputs.model_dir, device="cpu", truncation=True, max_length=128)


def measure_turns(ways: dict[str, Callable[[str], Any]], sentences: Sequence[str]) -> dict[str, float]:
    """Return each way's median milliseconds per sentence."""
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
    return {name: find_median(values) for name, values in times.items()}


def measure_sentence(inputs: Inputs) -> list[Row]:
    """Measure P3."""
    ways = {"Book": make_book_function(inputs), "pipeline": make_pipeline(inputs)}
    ways |= {backend: inputs.open_classifier(backend).inference_fn for backend in inputs.backends}
    sentences = random.Random(7).sample(inputs.get_texts("test"), inputs.choose(40, 10))
    rounds = [measure_turns(ways, sentences) for _ in range(inputs.choose(3, 1))]
    costs = {name: [medians[name] for medians in rounds] for name in ways}
    note = f"medians of {len(sentences)} sentences a round; float32 in book and pipeline, as they come"
    targets = {("onnx", "Book"): 25, ("onnx", "pipeline"): 7}
    return [
        compare(
            "P3", f"one sentence (ms), {other}; {NAMES[backend]}", costs[other], costs[backend],
            targets.get((backend, other)), note,
        )
        for backend in inputs.backends for other in ("Book", "pipeline")
    ] + [measure_accuracy(inputs, "P3", inputs.backends[0])]  # fmt: skip


def measure_corpus(inputs: Inputs) -> list[Row]:
    """Measure P4."""
    count, few = inputs.choose(1_024, 64), inputs.choose(96, 32)  # the pipeline's take much longer each
    texts = (inputs.get_texts("train") * count)[:count]
    some, pipe = texts[:: len(texts) // few][:few], make_pipeline(inputs)
    ways: dict[str, tuple[Callable[[], Any], int]] = {"pipeline": (lambda: pipe(some, batch_size=32), len(some))}
    for backend in inputs.backends:
        classifier = inputs.open_classifier(backend)
        ways[backend] = (lambda classifier=classifier: classifier.predict(texts), len(texts))
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for name, (work, documents) in list(ways.items()) * inputs.choose(3, 1):
        begin = time.perf_counter()
        work()
        costs[name].append(1e3 * (time.perf_counter() - begin) / documents)
    note = f"{count:,} documents through Classifier.predict, {few} of them through pipeline, in turns"
    what = "a corpus (ms per document), pipeline(batch_size=32)"
    rows = [compare("P4", f"{what}; {NAMES[one]}", costs["pipeline"], costs[one], 12, note) for one in inputs.backends]
    return [*rows, measure_accuracy(inputs, "P4", "torch")]


def measure_accuracy(inputs: Inputs, id: str, backend: Any) -> Row:
    """Compare a trained classifier as it is served with itself in float32, on every tenth test document.

    NLPBOOK_BENCH_EVERY=1 takes them all, which takes eight minutes.
    """
    folder = Path(os.environ.get("NLPBOOK_BENCH_CHECKPOINT", CHECKPOINTS_DIR / "doccls"))
    examples = NsmcCorpus().get_examples(str(Path(inputs.corpus_dir, inputs.corpus_name)), "test")
    every = int(os.environ.get("NLPBOOK_BENCH_EVERY", "10"))
    examples = [example for example in examples if example.text_a.strip()][::every]
    served = Classifier.from_checkpoint(folder, backend=backend)
    exact = Classifier.from_checkpoint(folder, backend="torch")
    exact.model.float()
    answers = [classifier.predict([example.text_a for example in examples]) for classifier in (served, exact)]
    labels = np.array([int(str(example.label)) for example in examples])
    ours, reference = (float((answer.argmax(axis=1) == labels).mean()) for answer in answers)
    change = np.abs(answers[0] - answers[1])[:, 1]
    note = (
        f"{folder.name} on {len(examples):,} test documents: accuracy {ours:.4f}, in float32 {reference:.4f} (may "
        f"lose 0.1 point: {'yes' if reference - ours <= 0.001 else 'no'}); largest change {change.max():.4f}"
    )
    return limit(id, f"{backend}: mean change of a probability", [float(change.mean())], 0.005, note=note)
