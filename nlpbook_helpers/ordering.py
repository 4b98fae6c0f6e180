"""Which batch is next? Several processes deal the same order out among themselves."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import BatchSampler, RandomSampler, Sampler, SequentialSampler
from transformers.trainer_pt_utils import LengthGroupedSampler

MOST_SORTED, LEAST_GROUPS = 50, 4  # batches sorted by length together, as transformers' LengthGroupedSampler does


class BatchOrder(Sampler[list[int]]):
    """Positions of each batch, in an order that seed and epoch decide, and one process's share of them.

    With `n` processes a step takes the examples of `n` batches, so that all of them together see each example once.
    The last step deals out what is left, and each process gets one example at least.

    Args:
        count: Examples.
        batch_size: Examples of a step, of each process.
        is_shuffled: Whether each epoch has another order; False for the order of the dataset.
        lengths: Tokens of each example, to put batches together from examples of similar length; None to mix them.
        drop_last: Whether to leave out a last batch that is smaller than the others.

    Attributes:
        seed, epoch: What the order is a function of.
        start: Steps of this epoch that have been done before.
        rank, world: Which process this is, and of how many.
    """

    def __init__(self, count: int, batch_size: int, is_shuffled: bool, lengths: Any = None, drop_last: bool = False):
        self.count, self.batch_size, self.is_shuffled, self.drop_last = count, batch_size, is_shuffled, drop_last
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.seed = self.epoch = self.start = self.rank = 0
        self.world = 1

    def __len__(self) -> int:
        steps, left = divmod(self.count, self.batch_size * self.world)
        needed = self.batch_size * self.world if self.drop_last else self.world
        if self.count < needed:
            expected = f"expected at least {needed} examples, one for each process, or a batch (drop_last, or a TPU)"
            raise ValueError(f"{expected}, got {self.count}: lower batch_size, or train in fewer processes")
        # fewer than one for each process join the step before them
        return steps if self.drop_last else max(1, steps + (left >= self.world))

    def __iter__(self) -> Iterator[list[int]]:
        order, size, steps = self._draw(), self.batch_size * self.world, len(self)
        for step in range(self.start, steps):
            is_rest = step == steps - 1 and not self.drop_last
            examples = order[step * size : None if is_rest else (step + 1) * size]
            yield np.array_split(examples, self.world)[self.rank].tolist()

    def _draw(self) -> np.ndarray:
        """Return all positions in this epoch's order: int64, (count,)."""
        if not self.is_shuffled:
            return np.arange(self.count)
        order, lengths = np.random.default_rng([self.seed, self.epoch]).permutation(self.count), self.lengths
        if lengths is None:
            return order
        # groups of batches, each sorted for itself; not too few, or every epoch would go from long to short alike
        step = self.batch_size * self.world
        size = step * max(1, min(MOST_SORTED, self.count // step // LEAST_GROUPS))
        groups = np.split(order, range(size, self.count, size))
        groups = [group[np.argsort(-lengths[group], kind="stable")] for group in groups]
        # the longest batch comes first: what does not fit into memory fails at once, and not after an hour
        groups.sort(key=lambda group: lengths[group[0]] < lengths.max())
        return np.concatenate(groups)


def find_order(loader: Any) -> BatchOrder | None:
    """Return the order that stands in for that of a loader; None for one whose order is the reader's own.

    Ours are a dataset's own order (as in validation), `shuffle=True` and `LengthGroupedSampler`; the reader's own are
    any other sampler, and these with a generator, whose seed somebody has chosen.
    """
    batches = getattr(loader, "batch_sampler", None)
    if type(batches) is not BatchSampler:
        return None
    sampler: Any = batches.sampler
    is_ours = type(sampler) in (SequentialSampler, RandomSampler, LengthGroupedSampler)
    is_changed = any(vars(sampler).get(name) for name in ("replacement", "generator"))
    if not is_ours or is_changed or len(sampler) != len(loader.dataset):
        return None
    is_shuffled, lengths = type(sampler) is not SequentialSampler, getattr(sampler, "lengths", None)
    return BatchOrder(len(sampler), batches.batch_size, is_shuffled, lengths, batches.drop_last)
