"""P1: what does a training step cost per real token, in the book's way, in Hugging Face's, and in ours?

All ways train one model in one process and take turns, so that whatever else the machine does falls on all of them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from measuring import Inputs, Row, compare, find_median
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding
from transformers.trainer_pt_utils import LengthGroupedSampler

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.corpora import NsmcCorpus
from nlpbook_helpers.features import ClassificationDataset, data_collator
from nlpbook_helpers.runtime import choose_precision
from nlpbook_helpers.task import ClassificationTask

BATCH_SIZE = 32
MAX_SEQ_LENGTH = 128
ROUNDS = 3
MAX_GRAD_NORM = 1.0  # what the HF Trainer clips to unless told otherwise

MakeBatch = Callable[[np.ndarray], dict[str, torch.Tensor]]


@dataclass
class Way:
    """One way of making a training step."""

    step: Callable[[np.ndarray], None]
    """Takes the rows of a batch."""
    is_grouped: bool
    """Whether its batches come from a length-grouped epoch."""
    steps: int
    """Per round; a way whose batches differ in length needs more of them."""
    costs: list[float] = field(default_factory=list)
    """Milliseconds per real token, one per round."""
    cores: list[float] = field(default_factory=list)
    """Cores that the step really had, one per round: fewer than the threads if other programs took some."""


class Bench:
    """A model, a corpus and the batches of one epoch, random and length-grouped.

    Args:
        inputs: Corpus and encoder.
        seed: Of the weights and of the batches.
    """

    def __init__(self, inputs: Inputs, seed: int = 7) -> None:
        torch.manual_seed(seed)
        self.args = ClassificationTrainArguments(
            inputs.encoder_dir, downstream_corpus_name=inputs.corpus_name, max_seq_length=MAX_SEQ_LENGTH,
            downstream_corpus_root_dir=inputs.corpus_dir, batch_size=BATCH_SIZE,
        )  # fmt: skip
        self.tokenizer: Any = AutoTokenizer.from_pretrained(inputs.encoder_dir)
        self.dataset = ClassificationDataset(self.args, NsmcCorpus(), self.tokenizer, "train")
        config = AutoConfig.from_pretrained(inputs.encoder_dir, num_labels=2)
        self.model: Any = AutoModelForSequenceClassification.from_config(config).train()
        self.lengths = np.array(self.dataset.lengths)
        self.random = np.random.default_rng(seed)
        grouped = LengthGroupedSampler(BATCH_SIZE, lengths=self.dataset.lengths)
        orders = {False: self.random.permutation(len(self.dataset)), True: np.array(list(grouped))}
        self.epochs = {key: self._cut(order) for key, order in orders.items()}

    def _cut(self, order: np.ndarray) -> list[np.ndarray]:
        """Cut an epoch into full batches, those with the fewest tokens first."""
        count = len(order) // BATCH_SIZE
        batches = order[: count * BATCH_SIZE].reshape(count, BATCH_SIZE)
        return list(batches[np.argsort(self.lengths[batches].sum(axis=1), kind="stable")])

    def draw_batches(self, is_grouped: bool, count: int) -> list[np.ndarray]:
        """Draw batches that stand for the epoch: one at random from each of `count` equal parts, short to long."""
        epoch = self.epochs[is_grouped]
        edges = np.linspace(0, len(epoch), count + 1).astype(int)
        return [epoch[self.random.integers(low, high)] for low, high in zip(edges, edges[1:], strict=False)]

    def count_flops(self, rows: np.ndarray) -> float:
        """Return the useful floating-point operations of a step: 6 per matrix weight and real token, and attention."""
        config, lengths = self.model.config, self.lengths[rows].astype(float)
        weights = config.num_hidden_layers * (
            4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
        )
        attention = 12 * config.num_hidden_layers * config.hidden_size * (lengths**2).sum()
        return 6 * weights * lengths.sum() + attention


def measure_ways(bench: Bench, ways: dict[str, Way], rounds: int = ROUNDS) -> None:
    """Let the ways take turns; ways with the same batches and number of steps get the same ones."""
    for way in ways.values():
        way.step(bench.epochs[False][0][:2])  # allocates gradients and the optimizer's state
    for _ in range(rounds):
        kinds = {(way.is_grouped, way.steps) for way in ways.values()}
        drawn = {kind: bench.draw_batches(*kind) for kind in sorted(kinds)}
        for way in ways.values():
            batches = drawn[way.is_grouped, way.steps]
            begin, cpu_begin = time.perf_counter(), time.process_time()
            for rows in batches:
                way.step(rows)
            seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
            way.costs.append(1e3 * seconds / float(sum(bench.lengths[rows].sum() for rows in batches)))
            way.cores.append(cpu_seconds / seconds)


def describe_cores(ways: dict[str, Way]) -> str:
    """Say how much of the machine each way had: a ratio of a round that other programs disturbed proves nothing."""
    had = (f"{name} {' '.join(f'{cores:.1f}' for cores in way.cores)}" for name, way in ways.items())
    return f"cores that each way had, of {torch.get_num_threads()}, round by round: {', '.join(had)}"


def make_step(
    model: Any, make_batch: MakeBatch, is_bfloat16: bool, fused: bool | None, max_grad_norm: float | None
) -> Callable[[np.ndarray], None]:
    """Return a plain PyTorch step on the rows of a batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=fused)

    def step(rows: np.ndarray) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16):
            loss = model(**make_batch(rows)).loss
        loss.backward()
        if max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


def make_book_step(bench: Bench) -> Callable[[np.ndarray], None]:
    """Return the book's step: every example a Python object of padded lists, float32, plain AdamW."""

    def make_batch(rows: np.ndarray) -> dict[str, torch.Tensor]:
        features = [bench.tokenizer.pad(bench.dataset[int(row)], "max_length", MAX_SEQ_LENGTH) for row in rows]
        names = ("input_ids", "attention_mask", "token_type_ids")
        batch = {name: torch.tensor([feature[name] for feature in features]) for name in names}
        return {**batch, "labels": torch.tensor([feature["label"] for feature in features])}

    return make_step(bench.model, make_batch, is_bfloat16=False, fused=None, max_grad_norm=None)


def make_hugging_face_step(bench: Bench, is_bfloat16: bool) -> Callable[[np.ndarray], None]:
    """Return what the HF Trainer's defaults do: fused AdamW, clipped gradients, padding to the batch's longest."""
    collate = DataCollatorWithPadding(bench.tokenizer)

    def make_batch(rows: np.ndarray) -> dict[str, torch.Tensor]:
        return dict(collate([bench.dataset[int(row)] for row in rows]))

    return make_step(bench.model, make_batch, is_bfloat16, fused=True, max_grad_norm=MAX_GRAD_NORM)


def make_our_step(
    bench: Bench, model: Any = None, change_batch: Callable[[dict[str, Any]], dict[str, Any]] | None = None
) -> Callable[[np.ndarray], None]:
    """Return the package's step, as Lightning takes it: its collator, task, optimizer and precision.

    Args:
        bench: What to train.
        model: The model in another form, compiled for example.
        change_batch: An experiment on the batch.
    """
    task = ClassificationTask(bench.model if model is None else model, bench.args)
    setattr(task, "log_dict", lambda *_, **__: None)  # noqa: B010  needs a Trainer, whose share is a row of its own
    optimizer = task.configure_optimizers()["optimizer"]
    is_bfloat16 = choose_precision("cpu")[0] == "bf16-mixed"

    def step(rows: np.ndarray) -> None:
        batch = data_collator(bench.dataset.__getitems__(rows.tolist()))
        batch = change_batch(batch) if change_batch else batch
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16):
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


def measure_speed(bench: Bench, step: Callable[[np.ndarray], None], steps: int = 6) -> float:
    """Return useful GFLOP/s of some steps."""
    batches = bench.draw_batches(True, steps)
    begin = time.perf_counter()
    for rows in batches:
        step(rows)
    return sum(map(bench.count_flops, batches)) / (time.perf_counter() - begin) / 1e9


def run(inputs: Inputs) -> Sequence[Row]:
    """Measure P1."""
    bench = Bench(inputs)
    ours = make_our_step(bench)
    ways = {
        "book": Way(make_book_step(bench), False, 1),
        "default": Way(make_hugging_face_step(bench, is_bfloat16=False), False, 1),
        "random": Way(make_hugging_face_step(bench, is_bfloat16=True), False, 2),
        "grouped": Way(make_hugging_face_step(bench, is_bfloat16=True), True, 8),
        "ours": Way(ours, True, 8),
    }
    measure_ways(bench, ways)
    costs = {name: way.costs for name, way in ways.items()}
    unit, busy = "ms per real token", describe_cores(ways)
    peaks, speeds = zip(*[(measure_peak(), measure_speed(bench, ours)) for _ in range(ROUNDS)], strict=True)
    share = find_median([speed / peak for peak, speed in zip(peaks, speeds, strict=True)])
    note = "plain step with the HF Trainer's optimizer, clipping and collator"
    return [
        compare("P1", f"step, Book: padded to 128, float32 ({unit})", costs["book"], costs["ours"], 25, busy),
        compare(
            "P1", f"step, HF defaults: padded to longest, float32 ({unit})", costs["default"], costs["ours"], 10, note
        ),
        compare("P1", f"step, HF bf16, random order ({unit})", costs["random"], costs["ours"]),
        compare("P1", f"step, HF bf16, grouped by length ({unit})", costs["grouped"], costs["ours"], 1),
        Row("P1", "step, useful GFLOP/s of the bf16 matrix peak", speeds, peaks, share, "0.55 of peak", share >= 0.55),
    ]
