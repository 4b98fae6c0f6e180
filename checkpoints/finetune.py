"""Fine-tune an encoder as a shipped classifier: `python checkpoints/finetune.py doccls|paircls ENCODER OUTPUT`.

`paircls`: KLUE-NLI's 24,998 training pairs and XNLI's 2,490 Korean ones, three times; about an hour on one CPU core
with the twelve layers of `convert.py`.
`doccls`: first NSMC's training reviews among other reviews and their stars, then NSMC's alone; about an hour and a half
with `nlpbook-mini`. Stars say more than the two labels: a 6 teaches where praise and blame balance. NSMC has no such
review, and nearly every bad one that there is, so the others are mostly middling or good.

Nothing is chosen on the official test files, which `make.py` scores once, at the end. The 5,000 held-out reviews are
printed, nothing more. Interrupted, it goes on.

The learning rate rises and falls linearly, unlike the book's: over few epochs from a pretrained encoder it is worth
several points.
"""

import csv
import gzip
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

SEED = 7
WARM_UP = 0.08  # share of all steps
MEGABATCH = 50  # batches that are sorted by length together
SAVE_EVERY = 250  # steps
HELD_OUT = 5_000  # of NSMC's training reviews
# stars: the share of reviews with so many that is read, and how likely such a review is called positive
STARS = {
    1: (1.0, 0.0), 2: (1.0, 0.03), 3: (1.0, 0.05), 4: (1.0, 0.1), 5: (0.6, 0.3),
    6: (0.6, 0.42), 7: (0.4, 0.55), 8: (0.3, 0.75), 9: (0.5, 0.95), 10: (0.3, 1.0),
}  # fmt: skip


class Example(NamedTuple):
    """A text or a pair, and the probability of each label."""

    texts: tuple[str, ...]
    target: tuple[float, ...]


class Encoded(NamedTuple):
    """An example as the model reads it."""

    input_ids: list[int]
    token_type_ids: list[int]
    target: tuple[float, ...]


@dataclass(frozen=True)
class Recipe:
    """How one classifier is made."""

    read: Callable[[Path], tuple[list[list[Example]], list[Example]]]  # from the corpora: epochs, held-out examples
    labels: tuple[str, ...]
    batch_size: int
    learning_rate: float
    max_seq_length: int


def one_hot(position: int, labels: int) -> tuple[float, ...]:
    """Return the probabilities of an example whose label is sure."""
    return tuple(float(label == position) for label in range(labels))


def read_pairs(corpora: Path) -> tuple[list[list[Example]], list[Example]]:
    """Return three epochs of premises and hypotheses; none is held out."""
    labels = RECIPES["paircls"].labels
    klue = json.loads((corpora / "klue-nli/klue_nli_train.json").read_text(encoding="utf-8"))
    pairs = [(pair["premise"], pair["hypothesis"], pair["gold_label"]) for pair in klue]
    with open(corpora / "korean-text/xnli.dev.ko.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    pairs += [(row[0], row[1], row[2]) for row in rows if len(row) == 3 and row[2] in labels]
    examples = [Example(pair[:2], one_hot(labels.index(pair[2]), len(labels))) for pair in pairs]
    return [examples] * 3, []


def read_reviews(corpora: Path) -> tuple[list[list[Example]], list[Example]]:
    """Return an epoch of NSMC among reviews with stars and one of NSMC alone, and what of NSMC is held out."""
    generator = random.Random(SEED)  # noqa: S311 - an order, not a secret
    with open(corpora / "nsmc/ratings_train.txt", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    # one of each text: a review that stands in both parts would be measured with what was learned by heart
    reviews = {row[1]: Example((row[1],), one_hot(int(row[2]), 2)) for row in rows if row[1].strip()}
    nsmc = list(reviews.values())
    generator.shuffle(nsmc)
    starred = []
    with gzip.open(corpora / "nsmc-raw/reviews.tsv.gz", "rt", encoding="utf-8", newline="\n") as lines:
        next(lines)
        for line in lines:
            star, text = line.rstrip("\n").split("\t", maxsplit=1)
            share, positive = STARS[int(star)]
            if text.strip() and text not in reviews and generator.random() < share:
                starred.append(Example((text,), (1 - positive, positive)))
    learned = nsmc[HELD_OUT:]
    return [learned + starred, learned], nsmc[:HELD_OUT]


RECIPES = {
    "doccls": Recipe(read_reviews, ("0", "1"), batch_size=64, learning_rate=3e-4, max_seq_length=128),
    "paircls": Recipe(read_pairs, ("entailment", "contradiction", "neutral"), 32, 1e-4, max_seq_length=96),
}


def encode(examples: list[Example], tokenizer: Any, max_seq_length: int) -> list[Encoded]:
    """Return examples as word pieces, cut to `max_seq_length`."""
    columns = zip(*(example.texts for example in examples), strict=True)
    pieces = tokenizer(*map(list, columns), truncation=True, max_length=max_seq_length)
    segments = pieces.get("token_type_ids") or [[0] * len(ids) for ids in pieces["input_ids"]]
    targets = (example.target for example in examples)
    return [Encoded(*row) for row in zip(pieces["input_ids"], segments, targets, strict=True)]


def deal_batches(examples: list[Encoded], batch_size: int, generator: random.Random) -> list[list[Encoded]]:
    """Return an epoch's batches, of similar length, in a random order."""
    order, batches = list(range(len(examples))), []
    generator.shuffle(order)
    for start in range(0, len(order), batch_size * MEGABATCH):
        group = sorted(order[start : start + batch_size * MEGABATCH], key=lambda row: len(examples[row].input_ids))
        batches += [group[begin : begin + batch_size] for begin in range(0, len(group), batch_size)]
    generator.shuffle(batches)
    return [[examples[row] for row in batch] for batch in batches]


def collate(batch: list[Encoded]) -> dict[str, torch.Tensor]:
    """Pad to a multiple of 4 tokens: int64, (batch, tokens), and targets, float32, (batch, labels)."""
    longest = math.ceil(max(len(example.input_ids) for example in batch) / 4) * 4
    columns = {name: torch.zeros((len(batch), longest), dtype=torch.long) for name in ("input_ids", "token_type_ids")}
    mask = torch.zeros((len(batch), longest), dtype=torch.long)
    for row, example in enumerate(batch):
        columns["input_ids"][row, : len(example.input_ids)] = torch.tensor(example.input_ids)
        columns["token_type_ids"][row, : len(example.input_ids)] = torch.tensor(example.token_type_ids)
        mask[row, : len(example.input_ids)] = 1
    return {**columns, "attention_mask": mask, "labels": torch.tensor([example.target for example in batch])}


def make_optimizer(model: Any, steps: int, learning_rate: float) -> tuple[torch.optim.Optimizer, Any]:
    """AdamW without decay of biases and norms, and a rate that rises and falls linearly."""
    groups = [
        {"params": [weight for weight in model.parameters() if weight.ndim > 1], "weight_decay": 0.01},
        {"params": [weight for weight in model.parameters() if weight.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, fused=True)
    rise = steps * WARM_UP
    return optimizer, torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(step / rise, max(0.0, (steps - step) / (steps - rise)))
    )


def iterate_steps(epochs: list[list[Encoded]], batch_size: int) -> Iterator[tuple[int, list[Encoded]]]:
    """Yield the batches of all epochs with the number of their epoch."""
    generator = random.Random(SEED)  # noqa: S311 - an order, not a secret
    for epoch, examples in enumerate(epochs):
        for batch in deal_batches(examples, batch_size, generator):
            yield epoch, batch


def measure_accuracy(model: Any, examples: list[Encoded]) -> float:
    """Return the share of examples whose likeliest label is the model's."""
    right = 0
    ordered = sorted(examples, key=lambda example: len(example.input_ids))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(ordered), 128):
            inputs = collate(ordered[start : start + 128])
            targets = inputs.pop("labels")
            right += int((model.eval()(**inputs).logits.argmax(1) == targets.argmax(1)).sum())
    return right / len(examples)


def finetune(name: str, encoder: Path, output: Path) -> None:
    """Write the fine-tuned classifier in Hugging Face layout."""
    recipe = RECIPES[name]
    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    model = AutoModelForSequenceClassification.from_pretrained(
        encoder, num_labels=len(recipe.labels), dtype=torch.float32
    )
    epochs, held_out = recipe.read(Path(os.environ["NLPBOOK_CORPUS_DIR"]))
    encoded = {id(examples): encode(examples, tokenizer, recipe.max_seq_length) for examples in epochs}
    epochs = [encoded[id(examples)] for examples in epochs]
    steps = sum(math.ceil(len(examples) / recipe.batch_size) for examples in epochs)
    optimizer, scheduler = make_optimizer(model, steps, recipe.learning_rate)
    output.mkdir(parents=True, exist_ok=True)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    done = load_state(output / "state.pt", parts)
    begin, mean = time.monotonic(), math.nan
    for step, (epoch, batch) in enumerate(iterate_steps(epochs, recipe.batch_size), start=1):
        if step <= done:
            continue
        torch.manual_seed(SEED + step)  # of dropout: the same after an interruption
        loss = learn(model.train(), batch, optimizer)
        scheduler.step()
        mean = loss if math.isnan(mean) else 0.99 * mean + 0.01 * loss
        if step % 100 == 0:
            seconds = time.monotonic() - begin
            print(f"epoch {epoch}, step {step:,} of {steps:,}: loss {mean:.3f}, {seconds:.0f} s", flush=True)
        if step % SAVE_EVERY == 0:
            save_state(output / "state.pt", parts, step)
    if held_out:
        accuracy = measure_accuracy(model, encode(held_out, tokenizer, recipe.max_seq_length))
        print(f"{accuracy:.4f} of {len(held_out):,} held-out examples are right")
    model.config.id2label = dict(enumerate(recipe.labels))
    model.config.label2id = {label: position for position, label in enumerate(recipe.labels)}
    model.save_pretrained(output)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(output)  # anew: the one above keeps what it was told to cut
    (output / "state.pt").unlink(missing_ok=True)


def learn(model: Any, batch: list[Encoded], optimizer: torch.optim.Optimizer) -> float:
    """Take one step and return its loss."""
    inputs = collate(batch)
    targets = inputs.pop("labels")
    with torch.autocast("cpu", torch.bfloat16):
        loss = torch.nn.functional.cross_entropy(model(**inputs).logits.float(), targets)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def save_state(path: Path, parts: dict[str, Any], step: int) -> None:
    """Replace the state by rename, so that a kill leaves the earlier one whole."""
    partial = path.with_suffix(".partial")
    torch.save({name: part.state_dict() for name, part in parts.items()} | {"step": step}, partial)
    os.replace(partial, path)


def load_state(path: Path, parts: dict[str, Any]) -> int:
    """Return the number of steps done, 0 without a state."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["step"]


if __name__ == "__main__":
    finetune(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
