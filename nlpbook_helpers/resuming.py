"""Which batch goes where? A loader's batches dealt out to processes, and cut to the shapes that a device wants.

What if it stops? The state of a training is kept beside its checkpoints, and the same notebook goes on from it.
"""

import logging
import time
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, Trainer
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, Sampler

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.checkpoints import CheckpointError, load_checkpoint
from nlpbook_helpers.features import ClassificationDataset
from nlpbook_helpers.tpu import choose_bucket

logger = logging.getLogger(__name__)


def is_resumable(loader: Any) -> bool:
    """Say whether a loader draws its batches from a dataset whose rows have positions."""
    is_loader = isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)
    return is_loader and loader.batch_sampler is not None


def rebuild(loader: DataLoader, batches: Any, collate_fn: Callable | None = None) -> DataLoader:
    """Return a loader like another, with other batches.

    Args:
        loader: Of a dataset whose rows have positions.
        batches: Iterable of lists of positions.
        collate_fn: If it changes too.
    """
    return DataLoader(**copy_settings(loader), batch_sampler=batches, collate_fn=collate_fn or loader.collate_fn)


def copy_settings(loader: DataLoader) -> dict[str, Any]:
    """Return the arguments that a loader like this one is made with, its batches and their collation aside."""
    names = (
        "dataset", "num_workers", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context", "generator",
        "prefetch_factor", "persistent_workers",
    )  # fmt: skip
    return {name: getattr(loader, name) for name in names}


class RankBatches:
    """One process's share of another sampler's batches: all processes together see each example once.

    With `n` processes a step takes the examples of `n` batches, as they follow each other in the sampler's order, which
    thus may group them by length. The last step deals out what is left, and each process gets one example at least.

    Args:
        batches: A `BatchSampler`.
        trainer: Knows the number of processes and this one's rank, once they have been started.

    Raises:
        ValueError: There are fewer examples than processes, or the batches have no size of their own.
    """

    def __init__(self, batches: Any, trainer: Trainer) -> None:
        if not isinstance(batches, BatchSampler):
            raise ValueError(
                "expected a loader with batch_size and sampler where several processes train, got a batch_sampler of "
                f"class {type(batches).__name__}: pass those two instead"
            )
        self.batches, self.sampler, self._trainer = batches, batches.sampler, trainer
        self.batch_size, self.drop_last = batches.batch_size, batches.drop_last

    def __len__(self) -> int:
        total, step = len(self.sampler), self.batch_size * self._trainer.world_size  # type: ignore[arg-type]
        if total < self._trainer.world_size:
            raise ValueError(
                f"expected at least {self._trainer.world_size} examples, one for each process, got {total}: train with "
                "fewer processes"
            )
        return max(1, total // step + (not self.drop_last and total % step >= self._trainer.world_size))

    def __iter__(self) -> Iterator[list[int]]:
        order, size = self._draw_order(), self.batch_size * self._trainer.world_size
        steps = len(self)
        for step in range(steps):
            is_last = step == steps - 1 and not self.drop_last
            examples = order[step * size : None if is_last else (step + 1) * size]
            yield np.array_split(examples, self._trainer.world_size)[self._trainer.global_rank].tolist()

    def _draw_order(self) -> np.ndarray:
        """Return the order of the first process, from whose random state all of them draw it."""
        own = torch.get_rng_state()
        torch.set_rng_state(self._trainer.strategy.broadcast(own))
        order = np.fromiter(self.sampler, np.int64)
        if self._trainer.global_rank:  # the first goes on from there, as it would alone
            torch.set_rng_state(own)
        return order


class _BucketCollator:
    """Pads batches to a few lengths; a class, since loader processes have to be able to receive it."""

    def __init__(self, collate_fn: Callable, most: int) -> None:
        self.collate_fn, self.most = collate_fn, most

    def __call__(self, examples: Any) -> dict[str, torch.Tensor]:
        batch = self.collate_fn(examples)
        length = batch["input_ids"].shape[1]
        missing = choose_bucket(length, self.most) - length
        # zeros, whatever the tokenizer's padding: the attention mask hides them
        return {
            name: torch.nn.functional.pad(column, (0, missing)) if column.ndim == 2 else column
            for name, column in batch.items()
        }


def cut_to_shapes(loader: DataLoader, most: int, is_training: bool) -> DataLoader:
    """Return a loader whose batches have few different shapes, for a device that compiles a program for each.

    Args:
        loader: Of batches with `input_ids`: int64, (batch, tokens).
        most: Tokens of the longest bucket.
        is_training: Whether a smaller last batch may be left out.

    Raises:
        ValueError: There is no whole batch to train on.
    """
    batches: Any = loader.batch_sampler
    if is_training and isinstance(batches, BatchSampler):
        batches = BatchSampler(batches.sampler, batches.batch_size, drop_last=True)
        if not len(batches):
            raise ValueError(
                f"batch_size: expected at most {len(loader.dataset)}, the number of training examples, since a TPU "  # type: ignore[arg-type]
                f"takes whole batches only, got {batches.batch_size}: lower it"
            )
    return rebuild(loader, batches, _BucketCollator(loader.collate_fn, most))


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
