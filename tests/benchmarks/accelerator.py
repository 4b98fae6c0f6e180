"""P2: how long does an epoch of NSMC take on a GPU, and what share of the GPU's matrix peak is that?

What is measured is what `train` does, Lightning, its logs and the recording of CUDA graphs included: one whole epoch of
each way, after some steps that do not count, since the first training of a process reads PyTorch's programs for the GPU
from the disk. Validation and checkpoint come on top.
"""

import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from measuring import Inputs, Row, count_flops, limit
from pytorch_lightning import Callback
from torch.utils.benchmark import Timer
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.trainer_pt_utils import LengthGroupedSampler

import nlpbook_helpers as nlpbook

BATCH_SIZES, TOY_BATCH_SIZES = (32, 64, 128, 256, 512, 1_024), (256, 512)
SECONDS_AT_FIRST, SECONDS_AT_BEST = 60, 20  # promised of an epoch, at the first batch size and at the fastest
PEAK_SIZE, TOY_PEAK_SIZE = 8_192, 64  # rows and columns of a matrix
DTYPES = {"16-mixed": torch.float16, "32-true": torch.float32}  # bfloat16 in all others
WARM_UP_STEPS, SEED = 30, 7


@dataclass(frozen=True)
class Speed:
    """What one way to train reached."""

    name: str
    """Batch size and precision."""
    seconds: float
    """Of an epoch."""
    useful: float
    """TFLOP/s of the model, without padding."""
    peak: float
    """TFLOP/s of a square matrix product in the same precision, measured just after it."""
    note: str


class Clock(Callback):
    """Takes the time that the steps of an epoch take, until the GPU has done the last of them."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.is_last_batch:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds = time.perf_counter() - self.began


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

    def train(self, batch_size: int, fp16: bool = False, max_steps: int = -1) -> tuple[Any, Clock]:
        """Train an epoch through the package, or so many steps; return the trainer, and the clock that it kept."""
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            args = self.make_arguments(folder, batch_size, fp16, max_steps)
            model = AutoModelForSequenceClassification.from_pretrained(self.inputs.model_dir)
            trainer = nlpbook.get_trainer(args, callbacks=[clock])
            grouped = LengthGroupedSampler(batch_size, lengths=self.dataset.lengths)
            settings: Any = {"num_workers": args.cpu_workers, "collate_fn": nlpbook.data_collator}
            loader = DataLoader(self.dataset, batch_size=batch_size, sampler=grouped, **settings)
            trainer.fit(nlpbook.ClassificationTask(model, args), loader)
        return trainer, clock

    def measure(self, batch_size: int, fp16: bool = False) -> Speed:
        """Measure one way to train."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        trainer, clock = self.train(batch_size, fp16)
        steps, tokens, seconds = trainer.global_step, int(self.lengths.sum()), clock.seconds
        memory = torch.cuda.max_memory_reserved() / 2**30 if torch.cuda.is_available() else 0
        note = (
            f"{steps:,} steps, {1e3 * seconds / steps:.2f} ms each, {tokens:,} real tokens, {tokens / seconds:,.0f} a "
            f"second, {memory:.1f} GiB"
        )
        dtype = DTYPES.get(str(trainer.precision), torch.bfloat16)
        peak = measure_matrix_peak(dtype, self.inputs.choose(PEAK_SIZE, TOY_PEAK_SIZE))
        work = float(count_flops(trainer.lightning_module.model.config, self.lengths))
        return Speed(f"batch {batch_size:,}, {trainer.precision}", seconds, 1e-12 * work / seconds, peak, note)


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
    bench.train(sizes[0], max_steps=WARM_UP_STEPS)
    for batch_size, fp16 in [*((size, False) for size in sizes), (sizes[0], True)]:
        try:
            speeds.append(bench.measure(batch_size, fp16))
        except Exception as error:  # such as too little memory: the other ways are still worth knowing
            traceback.print_exc()
            rows.append(Row("P2", "failed", note=f"batch {batch_size:,}, fp16={fp16}: {error}"))
        else:
            print("P2", speeds[-1], file=sys.stderr, flush=True)
    return [*make_rows(speeds), *rows]


def make_rows(speeds: Sequence[Speed]) -> list[Row]:
    """Make two rows of each way: the seconds of an epoch, and the share of the peak."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    best, rows = min((speed.seconds for speed in speeds), default=0), []
    for speed in speeds:
        what, note = f"epoch of NSMC, {speed.name} (s)", f"{gpu}: {speed.note}"
        most = SECONDS_AT_FIRST if speed is speeds[0] else SECONDS_AT_BEST if speed.seconds == best else None
        seconds = (speed.seconds,)
        rows.append(limit("P2", what, seconds, most, note=note) if most else Row("P2", what, seconds, note=note))
        share, what = speed.useful / speed.peak, f"useful TFLOP/s of the matrix peak, {speed.name}"
        rows.append(Row("P2", what, (speed.useful,), (speed.peak,), share))
    return rows
