"""P1: what does a training step cost per real token, in the book's way, in Hugging Face's, and in ours?

All ways train one model in one process and take turns, so that whatever else the machine does falls on all of them.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measuring import Inputs, Row, compare, count_flops, find_median
from pytorch_lightning import Trainer
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding
from transformers.trainer_pt_utils import LengthGroupedSampler

from nlpbook_helpers import (
    ClassificationDataset,
    ClassificationTask,
    ClassificationTrainArguments,
    NsmcCorpus,
    data_collator,
)  # fmt: skip
from nlpbook_helpers.runtime import supports_bfloat16

BATCH_SIZE, MAX_SEQ_LENGTH = 32, 128
MAX_GRAD_NORM = 1.0  # what the HF Trainer clips to unless told otherwise
Step = Callable[[np.ndarray], None]  # takes the rows of a batch


class Bench:
    """A model, a corpus and the batches of one epoch, random and length-grouped.

    Args:
        inputs: Corpus and model.
        seed: Of the batches.
    """

    def __init__(self, inputs: Inputs, seed: int = 7) -> None:
        self.args = ClassificationTrainArguments(
            inputs.model_dir, downstream_corpus_name=inputs.corpus_name, downstream_corpus_root_dir=inputs.corpus_dir,
            max_seq_length=MAX_SEQ_LENGTH, batch_size=BATCH_SIZE, monitor="min train_loss",
        )  # fmt: skip
        self.tokenizer: Any = AutoTokenizer.from_pretrained(inputs.model_dir)
        self.dataset = ClassificationDataset(self.args, NsmcCorpus(), self.tokenizer, "train")
        self.model: Any = AutoModelForSequenceClassification.from_pretrained(inputs.model_dir).train()
        self.lengths, self.random = np.array(self.dataset.lengths), np.random.default_rng(seed)
        grouped = np.array(list(LengthGroupedSampler(BATCH_SIZE, lengths=self.dataset.lengths)))
        self.epochs = {False: self._cut(self.random.permutation(len(self.dataset))), True: self._cut(grouped)}

    def _cut(self, order: np.ndarray) -> np.ndarray:
        """Cut an epoch into full batches, those with the fewest tokens first."""
        batches = order[: len(order) // BATCH_SIZE * BATCH_SIZE].reshape(-1, BATCH_SIZE)
        return batches[np.argsort(self.lengths[batches].sum(axis=1), kind="stable")]

    def draw_batches(self, is_grouped: bool, count: int) -> list[np.ndarray]:
        """Draw batches that stand for the epoch: one at random from each of `count` equal parts, short to long."""
        return [self.random.choice(part) for part in np.array_split(self.epochs[is_grouped], count)]

    def make_plain_step(self, collate: Callable, is_bfloat16: bool, fused: bool, max_grad_norm: float = 0) -> Step:
        """Return a step in plain PyTorch, over examples that are Python objects."""
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-5, fused=fused)

        def step(rows: np.ndarray) -> None:
            batch = collate([self.dataset[int(row)] for row in rows])
            with torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16):
                loss = self.model(**batch).loss
            loss.backward()
            if max_grad_norm:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()

        return step

    def make_our_step(self) -> Step:
        """Return the package's step: its collator, task, optimizer and precision."""
        task = ClassificationTask(self.model, self.args)
        task.trainer = Trainer(barebones=True, accelerator="cpu")  # which logs nothing: that is a cost of its own
        optimizer = task.configure_optimizers()["optimizer"]

        def step(rows: np.ndarray) -> None:
            batch = data_collator(self.dataset.__getitems__(rows.tolist()))  # type: ignore[arg-type]
            with torch.autocast("cpu", torch.bfloat16, enabled=supports_bfloat16()):
                loss = task.training_step(batch, 0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step


def measure_peak(repeats: int = 20) -> float:
    """Return the best bf16 matrix product of this machine, GFLOP/s, over shapes like a step's and a square one."""
    best = 0.0
    for rows, inputs, outputs in ((2_048, 2_048, 2_048), (4_096, 768, 3_072), (1_024, 3_072, 768)):
        left, right = (torch.randn(size, inputs, dtype=torch.bfloat16) for size in (rows, outputs))
        for _ in range(repeats):
            begin = time.perf_counter()
            torch.nn.functional.linear(left, right)
            best = max(best, 2e-9 * rows * inputs * outputs / (time.perf_counter() - begin))
    return best


def measure_steps(inputs: Inputs) -> list[Row]:
    """Measure P1."""
    bench = Bench(inputs)
    padded = DataCollatorWithPadding(bench.tokenizer)
    to_128 = DataCollatorWithPadding(bench.tokenizer, padding="max_length", max_length=MAX_SEQ_LENGTH)
    ways = {  # the step, whether its batches are grouped by length, and steps a round: more where batches differ
        "book": (bench.make_plain_step(to_128, is_bfloat16=False, fused=False), False, 1),
        "default": (bench.make_plain_step(padded, False, True, MAX_GRAD_NORM), False, 1),
        "grouped": (bench.make_plain_step(padded, True, True, MAX_GRAD_NORM), True, 8),
        "ours": (bench.make_our_step(), True, 8),
    }
    costs: dict[str, list[float]] = {name: [] for name in ways}
    peaks, speeds = [], []
    for step, _, _ in ways.values():
        step(bench.epochs[False][0][:2])  # allocates gradients and the optimizer's state
    for _ in range(inputs.choose(3, 1)):
        drawn = {kind: bench.draw_batches(*kind) for kind in ((False, 1), (True, 8))}
        for name, (step, *kind) in ways.items():
            batches = drawn[tuple(kind)]  # type: ignore[index]
            begin = time.perf_counter()
            for rows in batches:
                step(rows)
            seconds = time.perf_counter() - begin
            costs[name].append(1e3 * seconds / float(sum(bench.lengths[rows].sum() for rows in batches)))
        work = sum(count_flops(bench.model.config, bench.lengths[rows]) for rows in batches)
        speeds.append(work / seconds / 1e9)  # of the last way, ours
        peaks.append(measure_peak(inputs.choose(20, 1)))
    share = find_median([speed / peak for peak, speed in zip(peaks, speeds, strict=True)])
    unit, note = "ms per real token", "plain step with the HF Trainer's optimizer, clipping and collator"
    ours = costs["ours"]
    return [
        compare("P1", f"step, Book: padded to 128, float32 ({unit})", costs["book"], ours, 25),
        compare("P1", f"step, HF defaults: padded to longest, float32 ({unit})", costs["default"], ours, 10, note),
        compare("P1", f"step, HF bf16, grouped by length ({unit})", costs["grouped"], ours, 1),
        Row("P1", "step, useful GFLOP/s of the bf16 matrix peak", tuple(speeds), tuple(peaks), share, "0.55 of peak",
            share >= 0.55),
    ]  # fmt: skip
