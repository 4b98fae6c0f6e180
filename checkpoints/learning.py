"""How do the models of this folder learn? Texts on the device, batches of similar length, one loop that goes on.

What a step sees and hides is a function of its number, so an interrupted run sees what an uninterrupted one sees.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nlpbook_helpers.features import iterate_batches

SEED = 7
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LENGTH_MULTIPLE = 8  # tokens; batches of few lengths
SAVE_EVERY = 300  # seconds

Text = tuple[str, ...]  # one text, or the two of a pair
Batch = dict[str, torch.Tensor]


class Store:
    """Texts as word pieces, one behind the other on the device.

    Args:
        texts: Single texts and pairs.
        tokenizer: Hugging Face's.
        most: Tokens of a text; what is longer is cut.
    """

    def __init__(self, texts: list[Text], tokenizer: Any, most: int) -> None:
        pieces: list[list[int]] = [[]] * len(texts)
        firsts = np.zeros(len(texts), np.int64)
        for size in (1, 2):
            rows = [row for row, text in enumerate(texts) if len(text) == size]
            columns = [list(column) for column in zip(*(texts[row] for row in rows), strict=True)]
            encoded = tokenizer(*columns, truncation=True, max_length=most) if rows else {}
            for place, row in enumerate(rows):
                pieces[row] = encoded["input_ids"][place]
                firsts[row] = len(pieces[row])
                if size == 2:  # token types are 0 up to the first separator
                    firsts[row] = pieces[row].index(tokenizer.sep_token_id) + 1
        tokenizer.backend_tokenizer.no_truncation()  # or it would be saved with the length that it was told to cut to
        self.lengths = np.array([len(ids) for ids in pieces], np.int64)
        starts = np.cumsum(self.lengths) - self.lengths
        self._ids = torch.from_numpy(np.concatenate([np.array(ids, np.int32) for ids in pieces])).to(DEVICE)
        self._places = torch.from_numpy(np.stack([starts, self.lengths, firsts])).to(DEVICE)
        self._padding = tokenizer.pad_token_id

    def __len__(self) -> int:
        return len(self.lengths)

    def make_batch(self, rows: np.ndarray) -> Batch:
        """Return some texts as the model reads them, int64, (texts, tokens)."""
        longest = -(-int(self.lengths[rows].max()) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
        starts, lengths, firsts = self._places[:, torch.from_numpy(rows).to(DEVICE), None]
        place = torch.arange(longest, device=DEVICE)
        real = place < lengths
        ids = self._ids[(starts + place).clamp_max(len(self._ids) - 1)].long()
        return {
            "input_ids": torch.where(real, ids, self._padding),
            "token_type_ids": ((place >= firsts) & real).long(),
            "attention_mask": real.long(),
        }

    def deal(self, rows: np.ndarray, tokens: int, generator: np.random.Generator, pools: int = 1) -> list[np.ndarray]:
        """Return rows as batches of at most `tokens`, of similar length within each of `pools` parts, in any order."""
        batches = []
        for part in np.array_split(generator.permutation(rows), pools):
            batches += [part[chosen] for chosen in iterate_batches(self.lengths[part], tokens)]
        return [batches[place] for place in generator.permutation(len(batches))]


@dataclass(frozen=True)
class Schedule:
    """Steps, and a learning rate that rises linearly and falls along a cosine."""

    steps: int
    rate: float
    warm_up: float = 0.06  # share of the steps
    last: float = 0.02  # share of the rate that is left at the end

    def find_rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps)) * (1 - self.last) + self.last
        return self.rate * min((step + 1) / (self.warm_up * self.steps + 1), 1) * fall


def learn(
    model: Any, batches: Iterator[Any], compute_loss: Callable[[Any], torch.Tensor], schedule: Schedule, state: Path
) -> None:
    """Train in place, from `state` on if an interrupted run has left it.

    Args:
        model: On `DEVICE`, in float32; products are made in bfloat16.
        batches: The same in each run; at least `schedule.steps` of them.
        compute_loss: Given a batch, the loss of all of the model's weights that shall learn.
        schedule: How long, how fast.
        state: Where to keep it; removed at the end.
    """
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in learned if weight.ndim > 1], "weight_decay": 0.01},
        {"params": [weight for weight in learned if weight.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    parts = {"model": model, "optimizer": optimizer}
    done = _load(state, parts)
    begin = saved = time.monotonic()
    total = torch.zeros((), device=DEVICE)
    for step, batch in enumerate(islice(batches, done, schedule.steps), start=done):
        torch.manual_seed(SEED + step)  # of dropout and of what is hidden
        for group in optimizer.param_groups:
            group["lr"] = schedule.find_rate(step)
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = compute_loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        total += loss.detach()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1:,} of {schedule.steps:,}: loss {total.item() / 100:.4f}, "
                  f"{time.monotonic() - begin:.0f} s", flush=True)  # fmt: skip
            total.zero_()
        if time.monotonic() - saved > SAVE_EVERY:
            _save(state, parts, step + 1)
            saved = time.monotonic()
    state.unlink(missing_ok=True)


def _save(path: Path, parts: dict[str, Any], step: int) -> None:
    """Replace the state by rename, so that a kill leaves the earlier one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save({name: part.state_dict() for name, part in parts.items()} | {"step": step}, partial)
    os.replace(partial, path)


def _load(path: Path, parts: dict[str, Any]) -> int:
    """Return the number of steps done, 0 without a state."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location=DEVICE)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["step"]
