"""What if it stops?

The order of batches is a function of seed and epoch, and dropout one of seed, epoch, batch and process. So an
interrupted training goes on from two numbers, the epoch and the batch, and no random state has to be kept or replayed.
"""

import logging
import math
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.accelerators import CUDAAccelerator, XLAAccelerator
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader, Dataset

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.checkpoints import CheckpointError, load_checkpoint
from nlpbook_helpers.features import ClassificationDataset
from nlpbook_helpers.ordering import BatchOrder, find_order
from nlpbook_helpers.tpu import pad_to_bucket

logger = logging.getLogger(__name__)

STATE_NAME = "interrupted.state"
BUSY = "downstream_model_dir: another training is writing into {}: wait for its end, or choose another"
SILENT_SECONDS, SECONDS_BETWEEN_LINES = 2, 30  # of a training without a bar, as in a log
STEPS_BETWEEN_QUESTIONS = 16  # with several processes, each of which has to agree that the time to save has come
FIXED_ARGUMENTS = (  # with another value it would be neither the old training nor a new one
    "pretrained_model_name", "downstream_task_name", "downstream_corpus_name", "max_seq_length", "batch_size",
    "learning_rate", "validation_size", "seed", "class_weights", "label_smoothing", "scheduler", "warmup_ratio",
    "weight_decay", "accumulate_grad_batches", "gradient_clip_val", "monitor",
)  # fmt: skip
LOADER_SETTINGS = (
    "dataset", "num_workers", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context", "generator",
    "prefetch_factor", "persistent_workers",
)  # fmt: skip


def _is_ending(trainer: Trainer) -> bool:
    """Say whether this is the last epoch by what was learned or done, as max_steps; a state would have it go on."""
    return trainer.should_stop and trainer.fit_loop._can_stop_early


class TrainingState(Checkpoint):
    """Seeds each step, and writes every few minutes and after each epoch what an interrupted training goes on from.

    A `Checkpoint`, since Lightning calls those last: the checkpoint of an epoch has been written by then, and which is
    the best one so far is part of the state. (Lightning's own `ModelCheckpoint(train_time_interval=…)` also saves at an
    epoch's last batch, before the learning rate has fallen, and a training that goes on from there ends elsewhere.)

    Args:
        args: `downstream_model_dir`, `resume`, `resume_minutes`, `seed`, and what must not change until it goes on.
        is_kept: Whether to write the file at all.

    Attributes:
        path: The file.
        orders: Of the loaders of this training.
        suffix: Of the names of its checkpoints, "-v1", where others lie in its folder; else "".
    """

    def __init__(self, args: ClassificationTrainArguments, is_kept: bool = True) -> None:
        self.path, self.seed = Path(args.downstream_model_dir) / STATE_NAME, args.seed
        self.is_to_resume, self.is_kept, self.suffix = args.resume, is_kept, ""
        ends = () if args.scheduler == "exponential" else ("epochs", "max_steps")  # towards which the others fall
        self.arguments: dict[str, Any] = {name: getattr(args, name) for name in (*FIXED_ARGUMENTS, *ends)}
        self.orders: dict[str, BatchOrder] = {}
        self._seconds, self._saved, self._place = 60 * args.resume_minutes, time.monotonic(), (0, 0)
        self._due = math.inf  # of the next line

    def deal_out(self, name: str, loader: Any, trainer: Trainer) -> Any:
        """Return a loader like another, of this process's share, in the order that seed and epoch decide.

        Args:
            name: `train` or `val`.
            loader: As the reader made it. One with a sampler of the reader's own is returned as it is.
            trainer: Knows the processes and the device.

        Raises:
            ValueError: It is no loader, or several, or the sampler is the reader's own, and several processes train.
        """
        kind = type(loader).__name__
        if isinstance(loader, list | tuple | dict):  # one loss has to choose the checkpoint
            remedy = "join their data sets with torch.utils.data.ConcatDataset, or call trainer.validate afterwards"
            raise ValueError(f"{name}_dataloaders: expected a loader, got {kind} of them: {remedy}")
        # a dataset has examples and no batches; an iterator has nothing more after its first epoch
        if isinstance(loader, Dataset | Iterator):
            remedy = "pass DataLoader(dataset, args.batch_size, collate_fn=data_collator)"
            raise ValueError(f"{name}_dataloaders: expected a DataLoader, got {kind}: {remedy}")
        if (order := find_order(loader)) is None:
            if name == "train" and trainer.world_size > 1:
                expected = "expected a loader with shuffle=True or LengthGroupedSampler where several processes train"
                raise ValueError(f"{expected}, got a sampler of your own: pass one of those, or train in one process")
            if name == "train":
                trainer.print("a sampler of your own orders the batches: an interruption costs the epoch it happens in")
            return loader
        collate_fn = loader.collate_fn
        if isinstance(trainer.accelerator, XLAAccelerator):  # which compiles a program for each shape
            collate_fn = partial(pad_to_bucket, collate_fn=collate_fn, most=self.arguments["max_seq_length"])
            order.drop_last |= name == "train"
        self.orders[name] = order
        settings = {key: getattr(loader, key) for key in LOADER_SETTINGS}
        settings["pin_memory"] |= isinstance(trainer.accelerator, CUDAAccelerator)  # or each step waits for the last
        return DataLoader(**settings, batch_sampler=order, collate_fn=collate_fn)

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Tell the loaders which process this is; without a seed draw one, which is kept in the state."""
        self._due, self._has_trained = time.monotonic() + SILENT_SECONDS, False
        if self.seed is None:
            self.seed = trainer.strategy.broadcast(int(torch.randint(2**31, ())))
        for order in self.orders.values():
            order.seed, order.rank, order.world = self.seed, trainer.global_rank, trainer.world_size

    def state_dict(self) -> dict[str, Any]:
        """Return where the training stands; Lightning puts it into the file, beside weights and optimizer."""
        epoch, batch = self._place
        return {"epoch": epoch, "batch": batch, "seed": self.seed, "suffix": self.suffix, "arguments": self.arguments}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there; here and not when an epoch starts, since Lightning skips that hook inside an epoch."""
        self.seed = state_dict["seed"]
        if order := self.orders.get("train"):
            order.seed, order.epoch, order.start = self.seed, state_dict["epoch"], state_dict["batch"]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Begin this epoch's order, of which nothing is done yet; a reader's own sampler draws from the seed."""
        self._seed(trainer, 0)
        if order := self.orders.get("train"):
            order.epoch, order.start = trainer.current_epoch, 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Make dropout a function of the step."""
        self._seed(trainer, batch_idx)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Write the state if the minutes are over; after the last batch of an epoch, or of all, validation comes."""
        self._has_trained = True
        if trainer.global_step == trainer.max_steps:
            trainer.should_stop = True  # so Lightning validates inside an epoch too, and no earlier loss is recorded
        self._tell(trainer, "training", batch_idx, trainer.num_training_batches)
        is_due = trainer.received_sigterm or time.monotonic() - self._saved >= self._seconds
        if trainer.world_size > 1:  # the clocks differ, and all have to write at the same step
            is_due = batch_idx % STEPS_BETWEEN_QUESTIONS == 0 and trainer.strategy.broadcast(is_due)
        has_stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        is_inside = not trainer.is_last_batch and not _is_ending(trainer)
        if is_due and has_stepped and "train" in self.orders and is_inside:
            self._save(trainer, trainer.current_epoch, batch_idx + 1)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Say how far it is."""
        self._tell(trainer, "validation", batch_idx, trainer.num_val_batches[dataloader_idx])

    def _tell(self, trainer: Trainer, stage: str, batch_idx: int, total: float) -> None:
        """Say now and then how far it is, where no bar does."""
        if trainer.progress_bar_callback is None and time.monotonic() > self._due:
            self._due = time.monotonic() + SECONDS_BETWEEN_LINES
            trainer.print(f"epoch {trainer.current_epoch}: {batch_idx + 1:,} of {total:,} {stage} steps", flush=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the state when an epoch is over, validation and its checkpoint included; the last needs none."""
        if trainer.current_epoch + 1 != trainer.max_epochs and not _is_ending(trainer):
            self._save(trainer, trainer.current_epoch + 1, 0)

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Refuse to call it a success if nothing was trained, or nothing is left of it.

        Raises:
            ValueError: No step was done, or no checkpoint was written.
        """
        if not self._has_trained:
            limits = "max_epochs, max_steps, max_time or limit_train_batches"
            raise ValueError(f"fit: expected a training step, got none: raise that of {limits} which allows none")
        if self.is_kept and not getattr(trainer.checkpoint_callback, "best_model_path", ""):
            remedy = "lower check_val_every_n_epoch or val_check_interval and run again"
            raise ValueError(f"fit: expected a validation before the end, got none, so no checkpoint: {remedy}")

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Say what an interrupted reader can do, and to the shell that this is no success."""
        if isinstance(exception, SIGTERMException):  # of `kill`, or of a cluster that wants its machine back
            exception.code = 128 + signal.SIGTERM  # Lightning leaves it at 0
        elif not isinstance(exception, KeyboardInterrupt):
            return
        is_there = self.is_kept and self.path.exists()
        rest = f"the same code goes on from {self.path}" if is_there else "nothing was kept to go on from"
        trainer.print(f"\nstopped: {rest}")

    def _seed(self, trainer: Trainer, batch_idx: int) -> None:
        place = [self.seed or 0, trainer.current_epoch, batch_idx, trainer.global_rank]
        seed = int(np.random.SeedSequence(place).generate_state(1)[0])
        # torch.manual_seed would keep a note, stack and all, for each kind of device that is not in use: every step
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed(seed)

    def _save(self, trainer: Trainer, epoch: int, batch: int) -> None:
        if not self.is_kept:
            return
        self._place = epoch, batch
        try:
            trainer.save_checkpoint(self.path)
        except CheckpointError as error:  # a full disk costs the state, not the training
            logger.warning("an interruption could not be gone on from: %s", error)
        self._saved = time.monotonic()

    def find(self, loader: Any, trainer: Trainer) -> dict[str, Any]:
        """Return what `Trainer.fit` takes to go on with an interrupted training, having said so; {} if there is none.

        Args:
            loader: Of the training examples, as the reader made it.
            trainer: Knows how many processes train together, and how many epochs and steps are to be done in all.

        Raises:
            CheckpointError: The interrupted training was another one, or the file cannot be read.
        """
        sampler, data = (getattr(loader, name, None) for name in ("sampler", "dataset"))
        self.arguments |= {"processes": trainer.world_size, "sampler": type(sampler).__name__}
        self.arguments |= {"training data": data.digest} if isinstance(data, ClassificationDataset) else {}
        if not self.is_to_resume:
            self.path.unlink(missing_ok=True)
        if not self.path.exists():
            return {}
        state = load_checkpoint(self.path)
        before = state["callbacks"][self.state_key]
        had, epochs = before["arguments"], trainer.max_epochs
        changes = {name: (had[name], value) for name, value in self.arguments.items() if had.get(name, value) != value}
        limits = {"epochs": (before["epoch"], epochs), "max_steps": (state["global_step"], trainer.max_steps)}
        changes |= {name: (f"{done} done", limit) for name, (done, limit) in limits.items() if -1 != limit <= done}
        for name, (old, new) in changes.items():
            expected = f"the training that was interrupted in {self.path.parent} had {old}, got {new}"
            raise CheckpointError(f"{name}: {expected}: change it to go on, or set resume=False to start anew")
        done = f"{before['epoch']} of {epochs} epochs and {before['batch']:,} steps"
        self.suffix = before.get("suffix", "")
        print(f"going on with an interrupted training: {done} are done")
        return {"ckpt_path": self.path, "weights_only": True}
