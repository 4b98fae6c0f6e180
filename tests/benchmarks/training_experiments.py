"""P1X: what else could make a training step faster? Each experiment against the package as it is."""

import copy
import ctypes
import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from measuring import Inputs, Row, compare
from pytorch_lightning import Callback, Trainer
from torch.utils.data import DataLoader, RandomSampler, Subset
from training_step import BATCH_SIZE, Bench, Way, describe_cores, make_our_step, measure_ways
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.trainer_pt_utils import LengthGroupedSampler

from nlpbook_helpers.arguments import ClassificationTrainArguments, get_embedded_path
from nlpbook_helpers.corpora import NsmcCorpus
from nlpbook_helpers.features import ClassificationDataset, data_collator
from nlpbook_helpers.runtime import set_seed
from nlpbook_helpers.task import ClassificationTask
from nlpbook_helpers.trainer import get_trainer

STEPS = 8
LEARNING_ROWS, LEARNING_SEEDS = 4_000, (1, 2, 3)
Step = Callable[[np.ndarray], None]


def with_dropout(bench: Bench, step: Step, hidden: float, attention: float) -> Step:
    """Return the step with other dropout probabilities, which are put back after it."""
    modules = [(name, module) for name, module in bench.model.named_modules() if isinstance(module, torch.nn.Dropout)]

    def changed(rows: np.ndarray) -> None:
        before = [module.p for _, module in modules]
        for name, module in modules:
            module.p = attention if name.endswith("attention.self.dropout") else hidden
        step(rows)
        for (_, module), p in zip(modules, before, strict=True):
            module.p = p

    return changed


def pad_to_multiple(multiple: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a change that pads a batch's length to a multiple; padding is 0 as in kcbert, and masked."""

    def change(batch: dict[str, Any]) -> dict[str, Any]:
        missing = -batch["input_ids"].shape[1] % multiple
        return {
            name: torch.nn.functional.pad(column, (0, missing)) if column.ndim == 2 else column
            for name, column in batch.items()
        }

    return change


def keep_memory(step: Step) -> Step:
    """Return the step with freed memory kept for the next one: gradients are 436 MB that the kernel zeroes each time.

    glibc only; elsewhere the step is unchanged. The numbers are those of glibc's `malloc.h` and its defaults.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)
    trim_threshold, mmap_max = -1, -4

    def changed(rows: np.ndarray) -> None:
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
        step(rows)
        mallopt(mmap_max, 65_536)
        mallopt(trim_threshold, 64 * 2**20)

    return changed


class BatchClock(Callback):
    """Times a Trainer's batches from the end of the first to the end of the last, loader and logging included."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter())


def measure_lightning(bench: Bench, rounds: int = 2) -> Row:
    """Compare the Trainer of `get_trainer` with plain steps on the same batches, seconds per step."""
    step, plain, trained = make_our_step(bench), [], []
    for _ in range(rounds):
        batches = bench.draw_batches(True, STEPS)
        clock, task = BatchClock(), ClassificationTask(bench.model, bench.args)
        loader = DataLoader(
            bench.dataset, batch_size=BATCH_SIZE, sampler=np.concatenate(batches).tolist(), collate_fn=data_collator
        )
        with tempfile.TemporaryDirectory() as folder:
            bench.args.downstream_model_dir, bench.args.epochs = folder, 1
            trainer = get_trainer(bench.args)
            trainer.callbacks.append(clock)  # type: ignore[attr-defined]
            trainer.fit(task, train_dataloaders=loader)
        trained.append((clock.ends[-1] - clock.ends[0]) / (STEPS - 1))
        begin = time.perf_counter()
        for rows in batches[1:]:
            step(rows)
        plain.append((time.perf_counter() - begin) / (STEPS - 1))
    return compare("P1X", "the same steps in Lightning's Trainer (reference) and plain (s per step)", trained, plain)


def measure_compilation(bench: Bench) -> Row:
    """Compare steps of the model compiled for any length with plain ones; needs a C++ compiler."""
    model = copy.deepcopy(bench.model)
    model.compile(dynamic=True)
    compiled = make_our_step(bench, model)
    batches = bench.draw_batches(True, STEPS)
    begin = time.perf_counter()
    for rows in (batches[0], batches[-1], *batches):
        compiled(rows)
    seconds = time.perf_counter() - begin
    ways = {"plain": Way(make_our_step(bench), True, STEPS), "compiled": Way(compiled, True, STEPS)}
    measure_ways(bench, ways)
    note = f"compiling and the first {STEPS + 2} steps took {seconds:.0f} s; {describe_cores(ways)}"
    return compare("P1X", "step, compiled (ms per real token)", ways["plain"].costs, ways["compiled"].costs, note=note)


def measure_learning(inputs: Inputs) -> Row:
    """Compare validation loss after the same examples: in the book's order and float32, and in ours.

    Of the embedded encoder on `LEARNING_ROWS` reviews, one epoch, validated on others, with several seeds.
    """
    losses: dict[str, list[float]] = {"book": [], "ours": []}
    for seed in LEARNING_SEEDS:
        for way, values in losses.items():
            values.append(_train_once(inputs, seed, is_ours=way == "ours"))
    note = f"{LEARNING_ROWS:,} reviews, one epoch, seeds {LEARNING_SEEDS}; a ratio above 1: ours has learned more"
    return compare("P1X", "val_loss, Book's order and float32", losses["book"], losses["ours"], note=note)


def _train_once(inputs: Inputs, seed: int, is_ours: bool) -> float:
    encoder = get_embedded_path("nlpbook-mini")
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    with tempfile.TemporaryDirectory() as folder:
        args = ClassificationTrainArguments(
            encoder, downstream_corpus_name=inputs.corpus_name, downstream_corpus_root_dir=inputs.corpus_dir,
            downstream_model_dir=folder, epochs=1, learning_rate=4e-4, seed=seed, batch_size=BATCH_SIZE,
        )  # fmt: skip
        set_seed(args)
        data = ClassificationDataset(args, NsmcCorpus(), tokenizer, "train")
        order = np.random.default_rng(7).permutation(len(data))  # the same examples with every seed
        count = min(LEARNING_ROWS, len(data) // 2)
        train, val = (Subset(data, rows.tolist()) for rows in (order[:count], order[count : 2 * count]))
        lengths = [data.lengths[row] for row in train.indices]
        sampler = LengthGroupedSampler(BATCH_SIZE, lengths=lengths) if is_ours else RandomSampler(train)
        loaders = [
            DataLoader(train, BATCH_SIZE, sampler=sampler, collate_fn=data_collator),
            DataLoader(val, 256, collate_fn=data_collator),
        ]
        model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=2)
        trainer = get_trainer(args) if is_ours else Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
        )  # fmt: skip
        trainer.fit(ClassificationTask(model, args), loaders[0], loaders[1])
        return float(trainer.callback_metrics["val_loss"])


def run(inputs: Inputs) -> Sequence[Row]:
    """Measure P1X; the reference is the package as it is, so a ratio above 1 pays."""
    bench = Bench(inputs)
    ours = make_our_step(bench)
    ways = {
        "the package as it is": ours,
        "attention dropout 0": with_dropout(bench, ours, 0.1, 0.0),
        "all dropout 0": with_dropout(bench, ours, 0.0, 0.0),
        "freed memory kept by the process": keep_memory(ours),
        "length a multiple of 8": make_our_step(bench, change_batch=pad_to_multiple(8)),
        "length a multiple of 16": make_our_step(bench, change_batch=pad_to_multiple(16)),
    }
    measured = {name: Way(step, True, STEPS) for name, step in ways.items()}
    measure_ways(bench, measured)
    busy = describe_cores(measured)
    base = measured.pop("the package as it is").costs
    rows = [compare("P1X", f"step, {name} (ms per real token)", base, way.costs) for name, way in measured.items()]
    rows[0] = dataclasses.replace(rows[0], note=busy)
    return [*rows, measure_lightning(bench), measure_compilation(bench), measure_learning(inputs)]
