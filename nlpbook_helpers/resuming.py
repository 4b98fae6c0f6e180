"""What if it stops? The state of a training is kept beside its checkpoints, and the same notebook goes on from it."""

import logging
import time
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, Trainer
from torch.utils.data import DataLoader, Sampler

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.batches import copy_settings
from nlpbook_helpers.checkpoints import CheckpointError, load_checkpoint
from nlpbook_helpers.dataset import ClassificationDataset

logger = logging.getLogger(__name__)

STATE_NAME = "interrupted.state"
ARGUMENTS_KEY = "nlpbook_arguments"
LOADER_KEY = "nlpbook_loader"
STEPS_BETWEEN_QUESTIONS = 16  # with several processes, each of which has to agree that the time has come
FIXED_ARGUMENTS = (  # with another value it would be neither the old training nor a new one
    "pretrained_model_name",
    "downstream_task_name",
    "downstream_corpus_name",
    "max_seq_length",
    "batch_size",
    "learning_rate",
    "validation_size",
    "seed",
)


class _LaterBatches(Sampler):
    """The batches of another sampler, less the first ones, whose order is drawn all the same."""

    def __init__(self, batches: Any) -> None:
        self.batches, self.sampler, self.skipped = batches, getattr(batches, "sampler", None), 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return islice(iter(self.batches), self.skipped, None)


class ResumableLoader(DataLoader):
    """A loader that goes on in the middle of an epoch: same order, same random state, no batch twice.

    An epoch's order is a function of the random state at its beginning, whatever the sampler. So two random states are
    kept, and the number of batches: the first draws the order again, and the second is what dropout goes on with.

    Args:
        loader: A loader of a dataset with a length, in batches.
    """

    def __init__(self, loader: DataLoader) -> None:
        self._later = _LaterBatches(loader.batch_sampler)
        super().__init__(**copy_settings(loader), batch_sampler=self._later, collate_fn=loader.collate_fn)
        own = {id(one): one for one in (loader.generator, getattr(loader.sampler, "generator", None)) if one}
        self._own_generators = list(own.values())
        self._begin, self._batches = self._get_random_state(), 0
        self._loaded: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return where the epoch stands: random states at its beginning and now, and its batches so far."""
        return {"begin": self._begin, "now": self._get_random_state(), "batches": self._batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing: Lightning calls this with the first process's state, and in the middle of an epoch only."""

    def go_on_from(self, state: dict[str, Any]) -> None:
        """Make the next iteration go on from a state of `state_dict`."""
        self._loaded = state

    def __iter__(self) -> Iterator[Any]:
        state, self._loaded = self._loaded, {}
        skipped = state.get("batches", 0) % len(self)  # all of them: the next epoch begins
        if state:
            self._set_random_state(state["begin"] if skipped else state["now"])
        self._begin, self._batches, self._later.skipped = self._get_random_state(), skipped, skipped
        for batch in super().__iter__():
            if skipped and self._batches == skipped:
                self._set_random_state(state["now"])
            self._batches += 1
            yield batch

    def _list_generators(self) -> list[torch.Generator]:
        # those of GPUs come into being with the first use of one, and a resumed run may have fewer
        return [torch.default_generator, *self._own_generators, *torch.cuda.default_generators]

    def _get_random_state(self) -> list[torch.Tensor]:
        return [generator.get_state() for generator in self._list_generators()]

    def _set_random_state(self, states: list[torch.Tensor]) -> None:
        for generator, state in zip(self._list_generators(), states, strict=False):
            generator.set_state(state)


def _describe_data(loader: DataLoader) -> dict[str, Any]:
    """Name what a training's batches depend on, besides its arguments."""
    dataset: Any = loader.dataset
    described: dict[str, Any] = {"training examples": len(dataset)}
    sampler = getattr(loader.batch_sampler, "sampler", loader.sampler)
    described["sampler"] = type(sampler).__name__ + " with replacement" * bool(getattr(sampler, "replacement", False))
    if isinstance(dataset, ClassificationDataset):
        digest = 0
        for column in (dataset.features.input_ids, dataset.features.labels, dataset.rows):
            digest = zlib.crc32(np.ascontiguousarray(column).data, digest)
        described["training data"] = f"{digest:08x}"
    return described


class StateKeeper(Callback):
    """Writes the state of a training every few minutes and after each epoch, over the one before.

    Args:
        args: `downstream_model_dir`, `resume_minutes`, `epochs`, and what must not change until the training goes on.

    Attributes:
        loader: Of the training that it keeps.
    """

    def __init__(self, args: ClassificationTrainArguments) -> None:
        self.path = Path(args.downstream_model_dir) / STATE_NAME
        self.arguments, self.epochs = {name: getattr(args, name) for name in FIXED_ARGUMENTS}, args.epochs
        self.loader: ResumableLoader | None = None
        self._seconds = 60 * args.resume_minutes
        self._saved, self._is_saving = time.monotonic(), False

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Begin to count minutes."""
        self._saved = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Write the state if the minutes are over; after an epoch's last batch validation has yet to come."""
        is_due = time.monotonic() - self._saved >= self._seconds
        if trainer.world_size > 1:  # the clocks differ, and all have to write at the same step
            is_due = batch_idx % STEPS_BETWEEN_QUESTIONS == 0 and trainer.strategy.broadcast(is_due)
        if is_due and not trainer.is_last_batch:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the state when an epoch is over, validation included."""
        # of several processes only the first has a bar, which waits in here for all of them to tell their metrics
        _ = trainer.progress_bar_metrics
        self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Say what an interrupted reader can do."""
        if isinstance(exception, KeyboardInterrupt) and self.path.exists():
            print(f"\nstopped: the same code goes on from {self.path}")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add arguments and loader to the state, not to the checkpoints that are deployed."""
        if self._is_saving and self.loader:
            states = [self.loader.state_dict()] * trainer.world_size
            if trainer.world_size > 1:  # each process has random numbers of its own
                torch.distributed.all_gather_object(states, states[0])
            checkpoint[ARGUMENTS_KEY], checkpoint[LOADER_KEY] = self.arguments, states

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Make the loader go on."""
        if self.loader and LOADER_KEY in checkpoint:
            self.loader.go_on_from(checkpoint[LOADER_KEY][trainer.global_rank])

    def _save(self, trainer: Trainer) -> None:
        self._is_saving = True
        try:
            trainer.save_checkpoint(self.path)
        except CheckpointError as error:  # a full disk costs the state, not the training
            logger.warning("an interruption could not be gone on from: %s", error)
        finally:
            self._is_saving = False
            self._saved = time.monotonic()

    def watch(self, loader: DataLoader, processes: int = 1) -> ResumableLoader:
        """Return the loader to train with; what its batches depend on becomes part of the state."""
        self.loader = ResumableLoader(loader)
        self.arguments |= _describe_data(loader) | {"processes": processes}
        return self.loader

    def find_state(self) -> Path | None:
        """Return the state that an interrupted training left, having said so; None if there is none.

        Raises:
            CheckpointError: The interrupted training was another one, or the file cannot be read.
        """
        if not self.path.exists():
            return None
        remedy = "or set resume=False to start anew"
        try:
            state = load_checkpoint(self.path)
            before, epoch, step = state[ARGUMENTS_KEY], state["epoch"], state["global_step"]
        except (CheckpointError, KeyError):
            raise CheckpointError(
                f"{self.path} is not the state of a training, or only a part of it: delete it, {remedy}"
            ) from None
        for name, value in self.arguments.items():
            if before.get(name) != value:
                raise CheckpointError(
                    f"{name}: the training that was interrupted in {self.path.parent} had {before.get(name)!r}, got "
                    f"{value!r}: put it back to go on, {remedy}"
                )
        if epoch > self.epochs:
            raise CheckpointError(
                f"epochs: the training that was interrupted in {self.path.parent} has done {epoch}, got {self.epochs}: "
                f"raise it to go on, {remedy}"
            )
        total = len(self.loader or ())
        print(f"going on with an interrupted training: epoch {epoch}, {step % total:,} of {total:,} steps done")
        return self.path
