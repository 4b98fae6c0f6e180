"""Which batch goes where? A loader's batches dealt out to processes, and cut to the shapes that a device wants."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Trainer
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from nlpbook_helpers.tpu import choose_bucket


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
