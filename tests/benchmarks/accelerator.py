"""P2: how long does an epoch of NSMC take on a GPU, and what share of the GPU's matrix peak is that?

What is measured is what `train` does, Lightning and its logs included: some hundred steps, the first of which do not
count. Their real tokens a second say how long an epoch takes; its validation and its checkpoint come on top.
"""

import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
import torch
from measuring import Inputs, Row, count_flops, find_median, limit
from pytorch_lightning import Callback
from torch.utils.benchmark import Timer
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.trainer_pt_utils import LengthGroupedSampler

import nlpbook_helpers as nlpbook
from nlpbook_helpers.resuming import LEAST_GROUPS, MOST_SORTED, find_order

BATCH_SIZES, TOY_BATCH_SIZES = (32, 64, 128, 256, 512, 1_024), (256, 512)
SECONDS_AT_FIRST, SECONDS_AT_BEST = 60, 20  # promised of an epoch, at the first batch size and at the fastest
WINDOWS, WINDOW_STEPS = 3, 100  # measured one after the other, after as many steps that do not count
PEAK_SIZE, TOY_PEAK_SIZE = 8_192, 64  # rows and columns of a matrix
DTYPES = {"16-mixed": torch.float16, "32-true": torch.float32}  # bfloat16 in all others
SEED = 7


@dataclass(frozen=True)
class Speed:
    """What one way to train reached, a number for each window."""

    name: str
    """Batch size and precision."""
    seconds: tuple[float, ...]
    """Of an epoch."""
    useful: tuple[float, ...]
    """TFLOP/s of the model, without padding."""
    peak: tuple[float, ...]
    """TFLOP/s of a square matrix product in the same precision, measured just after it."""
    note: str


class Clock(Callback):
    """Takes the time after some steps, when the GPU has done them, and waits for nothing in between."""

    def __init__(self, steps: Sequence[int]) -> None:
        self.steps, self.times = set(steps), []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step in self.steps:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.times.append(time.perf_counter())


class Bench:
    """The corpus, tokenized once, and the model, loaded anew for each way.

    Args:
        inputs: Corpus and model.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.inputs, self.tokenizer = inputs, AutoTokenizer.from_pretrained(inputs.model_dir)
        args = self.make_arguments("unused", BATCH_SIZES[0])
        self.dataset = nlpbook.ClassificationDataset(args, nlpbook.NsmcCorpus(), self.tokenizer, "train")
        self.lengths = np.array(self.dataset.lengths)

    def make_arguments(self, model_dir: str, batch_size: int, fp16: bool = False, max_steps: int = -1) -> Any:
        """Return a training's arguments; what is not said here is as it comes."""
        return nlpbook.ClassificationTrainArguments(
            self.inputs.model_dir, downstream_corpus_name=self.inputs.corpus_name, downstream_model_dir=model_dir,
            downstream_corpus_root_dir=self.inputs.corpus_dir, max_seq_length=128, batch_size=batch_size, epochs=1,
            monitor="min train_loss", seed=SEED, fp16=fp16, max_steps=max_steps,
        )  # fmt: skip

    def make_loader(self, args: Any, **settings: Any) -> DataLoader:
        """Return the loader that `train` makes, or one with other settings."""
        grouped = LengthGroupedSampler(args.batch_size, lengths=self.dataset.lengths)
        settings = {"num_workers": args.cpu_workers, "collate_fn": nlpbook.data_collator} | settings
        return DataLoader(self.dataset, batch_size=args.batch_size, sampler=grouped, **settings)

    def draw_batches(self, batch_size: int, count: int) -> list[list[int]]:
        """Return the rows of a training's first batches, in the order in which the trainer deals them out."""
        order: Any = find_order(self.make_loader(self.make_arguments("unused", batch_size)))
        order.seed = SEED
        return list(islice(order, count))

    def plan_steps(self, batch_size: int) -> list[int]:
        """Return the steps between which a window lies.

        The order is made of groups, in each of which the texts become shorter: a window is a whole number of groups.
        """
        steps = len(self.dataset) // batch_size
        group = max(1, min(MOST_SORTED, steps // LEAST_GROUPS))
        window = max(1, min(WINDOW_STEPS, steps // (WINDOWS + 1)) // group) * group
        return [window * number for number in range(1, WINDOWS + 2)]

    def train(self, batch_size: int, fp16: bool = False, loading: Any = None, **settings: Any) -> tuple[Any, Clock]:
        """Train through the package until the last window is over; return the trainer, and the clock that it kept.

        Args:
            batch_size: Examples of a step.
            fp16: As in the arguments of a training.
            loading: Other settings of the loader.
            settings: Other settings of the trainer.
        """
        steps = self.plan_steps(batch_size)
        clock = Clock(steps)
        callbacks = [clock, *settings.pop("callbacks", ())]
        with tempfile.TemporaryDirectory() as folder:
            args = self.make_arguments(folder, batch_size, fp16, steps[-1])
            model = AutoModelForSequenceClassification.from_pretrained(self.inputs.model_dir)
            trainer = nlpbook.get_trainer(args, callbacks=callbacks, **settings)
            trainer.fit(nlpbook.ClassificationTask(model, args), self.make_loader(args, **(loading or {})))
        return trainer, clock

    def measure(self, batch_size: int, fp16: bool = False) -> Speed:
        """Measure one way to train."""
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        trainer, clock = self.train(batch_size, fp16)
        seconds = np.diff(clock.times)
        steps = self.plan_steps(batch_size)
        batches = self.draw_batches(batch_size, steps[-1])
        windows = [[self.lengths[rows] for rows in batches[start:end]] for start, end in pairwise(steps)]
        tokens = np.array([sum(int(lengths.sum()) for lengths in window) for window in windows])
        config = trainer.lightning_module.model.config
        work = np.array([sum(count_flops(config, lengths) for lengths in window) for window in windows])
        epoch = int(self.lengths.sum())
        memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0
        count, rate = steps[-1] - steps[0], find_median(tokens / seconds)
        note = (
            f"{count} steps after {steps[0]}: {rate:,.0f} real tokens a second, {1e3 * seconds.sum() / count:.2f} ms "
            f"a step, {memory:.1f} GiB; an epoch has {epoch:,} tokens"
        )
        dtype = DTYPES.get(str(trainer.precision), torch.bfloat16)
        peak = measure_matrix_peak(dtype, self.inputs.choose(PEAK_SIZE, TOY_PEAK_SIZE))
        name = f"batch {batch_size:,}, {trainer.precision}"
        return Speed(name, tuple(epoch * seconds / tokens), tuple(1e-12 * work / seconds), (peak,), note)


def measure_matrix_peak(dtype: torch.dtype, size: int) -> float:
    """Return the TFLOP/s of a product of two square random matrices: the median over half a second."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    timer = Timer("left @ right", globals={"left": left, "right": right})  # which waits for the GPU
    timer.timeit(3)
    return 2e-12 * size**3 / timer.blocked_autorange(min_run_time=0.5).median


def measure_epochs(inputs: Inputs) -> list[Row]:
    """Measure P2."""
    if not (torch.cuda.is_available() or inputs.is_toy):
        return [Row("P2", "an epoch on a GPU: there is none here")]
    bench, speeds, rows = Bench(inputs), [], []
    sizes = TOY_BATCH_SIZES if inputs.is_toy else BATCH_SIZES
    for batch_size, fp16 in [*((size, False) for size in sizes), (sizes[0], True)]:
        try:
            speeds.append(bench.measure(batch_size, fp16))
        except Exception as error:  # such as too little memory: the other ways are still worth knowing
            traceback.print_exc()
            rows.append(Row("P2", "failed", note=f"batch {batch_size:,}, fp16={fp16}: {error}"))
        else:
            print(f"P2 {speeds[-1].name}: {speeds[-1].note}", file=sys.stderr, flush=True)
    return [*make_rows(speeds), *rows]


def make_rows(speeds: Sequence[Speed]) -> list[Row]:
    """Make two rows of each way: the seconds of an epoch, and the share of the peak."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    best = min(speeds, key=lambda speed: find_median(speed.seconds), default=None)
    rows = []
    for speed in speeds:
        what, note = f"epoch of NSMC, {speed.name} (s)", f"{gpu}: {speed.note}"
        most = SECONDS_AT_FIRST if speed is speeds[0] else SECONDS_AT_BEST if speed is best else None
        rows.append(
            limit("P2", what, speed.seconds, most, note=note) if most else Row("P2", what, speed.seconds, note=note)
        )
        share = find_median(speed.useful) / find_median(speed.peak)
        rows.append(Row("P2", f"useful TFLOP/s of the matrix peak, {speed.name}", speed.useful, speed.peak, share))
    return rows
