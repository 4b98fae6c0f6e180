"""Fine-tune an encoder as a shipped classifier: `python checkpoints/finetune.py doccls|paircls LARGE ENCODER OUTPUT`.

First some large encoders learn from the labels, each from other random numbers. What they answer together, to the same
texts and to further ones without a label, is what the shipped one learns (Hinton et al., 2015): it says more than a
label, and there is more of it.

`doccls`: the teachers read NSMC's training reviews among other reviews and their stars, then NSMC's alone. Stars say
more than the two labels: a 6 teaches where praise and blame balance. NSMC has no such review, and nearly every bad one
that there is, so the others are mostly middling or good. Further texts: all other reviews.
`paircls`: 23,994 of KLUE-NLI's training pairs, the others held out, and XNLI's 2,490 Korean ones. Further texts: pairs
made of their sentences.

Nothing is chosen on the official test files, which `make.py` scores once, at the end. Held-out examples are printed,
nothing more. Minutes on a GPU, a day on two CPU cores; interrupted, it goes on.
"""

import csv
import gzip
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from learning import DEVICE, SEED, Schedule, Store, Text, learn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

POOLS = 20  # parts of an epoch whose batches are put together by length
HELD_OUT = {"doccls": 5_000, "paircls": 1_000}
ANSWERED = 65_536  # tokens at once, where nothing is learned
# stars: the share of reviews with so many that is read, and how likely such a review is called positive
STARS = {
    1: (1.0, 0.0), 2: (1.0, 0.03), 3: (1.0, 0.05), 4: (1.0, 0.1), 5: (0.6, 0.3),
    6: (0.6, 0.42), 7: (0.4, 0.55), 8: (0.3, 0.75), 9: (0.5, 0.95), 10: (0.3, 1.0),
}  # fmt: skip


Epoch = tuple[float, float, float]


class Example(NamedTuple):
    """A text or a pair, and the probability of each label."""

    text: Text
    target: tuple[float, ...]


class Examples(NamedTuple):
    """What there is to learn from."""

    labelled: list[Example]
    """By the corpus that is scored in the end."""
    others: list[Example]
    """With labels that are less to the point."""
    held_out: list[Example]
    further: list[Text]
    """Without labels."""


@dataclass(frozen=True)
class Recipe:
    """How one classifier is made. An epoch is written as the shares of labelled, other and further texts it reads."""

    read: Callable[[Path], Examples]
    labels: tuple[str, ...]
    max_seq_length: int
    teachers: int
    teachers_batch: int  # tokens, padding included
    teachers_rate: float
    teachers_epochs: tuple[Epoch, ...]
    first_epochs: tuple[Epoch, ...]  # what the shipped one learns from labels, before it learns from the teachers
    first_rate: float
    parts: tuple[tuple[float, tuple[Epoch, ...]], ...]  # learned from the teachers, one after the other: rate, epochs
    batch: int
    gold: float  # what a label counts beside the teachers' answer


def one_hot(position: int, labels: int) -> tuple[float, ...]:
    """Return the probabilities of an example whose label is sure."""
    return tuple(float(label == position) for label in range(labels))


def read_pairs(corpora: Path) -> Examples:
    """Return premises and hypotheses; further pairs are the hypotheses of one premise, and pairs turned round."""
    labels = RECIPES["paircls"].labels
    klue = json.loads((corpora / "klue-nli/klue_nli_train.json").read_text(encoding="utf-8"))
    pairs = [(pair["premise"], pair["hypothesis"], pair["gold_label"]) for pair in klue]
    with open(corpora / "korean-text/xnli.dev.ko.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    premises = sorted({premise for premise, *_ in pairs})
    count = round(len(premises) * HELD_OUT["paircls"] / len(pairs))
    held_out = set(np.random.default_rng(SEED).choice(premises, count, replace=False).tolist())
    others = [(row[0], row[1], row[2]) for row in rows if len(row) == 3 and row[2] in labels]
    hypotheses: dict[str, list[str]] = {}
    for premise, hypothesis, _ in (*pairs, *others):
        if premise not in held_out:
            hypotheses.setdefault(premise, []).append(hypothesis)
    further = [
        pair
        for premise, ends in hypotheses.items()
        for pair in (*((end, premise) for end in ends), *((one, two) for one in ends for two in ends if one != two))
    ]
    make = lambda pair: Example(pair[:2], one_hot(labels.index(pair[2]), len(labels)))  # noqa: E731
    return Examples(
        [make(pair) for pair in pairs if pair[0] not in held_out],
        [make(pair) for pair in others],
        [make(pair) for pair in pairs if pair[0] in held_out],
        further,
    )


def read_reviews(corpora: Path) -> Examples:
    """Return NSMC's training reviews, a part of the others with their stars, and those without."""
    generator = np.random.default_rng(SEED)
    with open(corpora / "nsmc/ratings_train.txt", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    # one of each text: a review that stands in both parts would be measured with what was learned by heart
    reviews = {row[1]: Example((row[1],), one_hot(int(row[2]), 2)) for row in rows if row[1].strip()}
    nsmc = list(reviews.values())
    nsmc = [nsmc[place] for place in generator.permutation(len(nsmc))]
    starred, further = [], []
    with gzip.open(corpora / "nsmc-raw/reviews.tsv.gz", "rt", encoding="utf-8", newline="\n") as lines:
        next(lines)
        for line in lines:
            star, text = line.rstrip("\n").split("\t", maxsplit=1)
            if text.strip() and text not in reviews:
                share, positive = STARS[int(star)]
                if generator.random() < share:
                    starred.append(Example((text,), (1 - positive, positive)))
                else:
                    further.append((text,))
    count = HELD_OUT["doccls"]
    return Examples(nsmc[count:], starred, nsmc[:count], further)


ALL, LABELLED = (1.0, 1.0, 0.0), (1.0, 0.0, 0.0)
RECIPES = {
    "doccls": Recipe(
        read_reviews, ("0", "1"), max_seq_length=128,
        teachers=2, teachers_batch=16_384, teachers_rate=1.4e-4, teachers_epochs=(ALL, ALL, ALL, LABELLED),
        first_epochs=(ALL, LABELLED), first_rate=3e-4,
        parts=(
            (1.5e-4, ((0.248, 0.105, 0.138), (0.708, 0.0, 0.0))), (1.2e-4, ((0.425, 0.210, 0.207), (0.850, 0.0, 0.0))),
        ),
        batch=1_400, gold=0.4,
    ),
    "paircls": Recipe(
        read_pairs, ("entailment", "contradiction", "neutral"), max_seq_length=96,
        teachers=5, teachers_batch=3_072, teachers_rate=1e-4, teachers_epochs=(ALL, ALL, ALL),
        first_epochs=(), first_rate=0.0,
        parts=((1e-4, ((1.0, 1.0, 1.0),) * 4 + (LABELLED,)),), batch=3_072, gold=0.5,
    ),
}  # fmt: skip


def draw_rows(epochs: tuple[Epoch, ...], kinds: tuple[np.ndarray, ...], seed: int = SEED) -> list[np.ndarray]:
    """Return the rows of each epoch, drawn from `kinds` by the epoch's shares."""
    generator = np.random.default_rng(seed)
    return [
        np.concatenate(
            [generator.permutation(kind)[: round(share * len(kind))] for kind, share in zip(kinds, epoch, strict=True)]
        )
        for epoch in epochs
    ]


def iterate_epochs(store: Store, epochs: list[np.ndarray], tokens: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the rows of each batch of all epochs."""
    for epoch, rows in enumerate(epochs):
        yield from store.deal(rows, tokens, np.random.default_rng([seed, epoch]), POOLS)


class Lesson(NamedTuple):
    """What is learned, and how fast."""

    targets: torch.Tensor
    """What texts are called: float32, (texts, labels)."""
    epochs: list[np.ndarray]
    """Rows of each."""
    batch_tokens: int
    rate: float


def teach(encoder: Path, store: Store, lesson: Lesson, seed: int, state: Path) -> Any:
    """Return an encoder, or a classifier, fine-tuned on texts of `store`."""
    torch.manual_seed(seed)
    labels = lesson.targets.shape[1]
    model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=labels, dtype=torch.float32)
    model.to(DEVICE).train()

    def compute_loss(rows: np.ndarray) -> torch.Tensor:
        wanted = lesson.targets[torch.from_numpy(rows)].to(DEVICE)
        return torch.nn.functional.cross_entropy(model(**store.make_batch(rows)).logits.float(), wanted)

    batches = list(iterate_epochs(store, lesson.epochs, lesson.batch_tokens, seed))
    learn(model, iter(batches), compute_loss, Schedule(len(batches), lesson.rate), state)
    return model.eval()


@torch.inference_mode()
def answer(model: Any, store: Store, rows: np.ndarray) -> torch.Tensor:
    """Return the probabilities of some rows, float32, (rows, labels)."""
    probabilities = torch.zeros(len(store), model.config.num_labels)
    for batch in store.deal(rows, ANSWERED, np.random.default_rng(SEED)):
        with torch.autocast(DEVICE, torch.bfloat16):
            logits = model(**store.make_batch(batch)).logits
        probabilities[torch.from_numpy(batch)] = logits.float().softmax(dim=-1).cpu()
    return probabilities[torch.from_numpy(rows)]


def finetune(name: str, large: Path, encoder: Path, output: Path) -> None:
    """Write the fine-tuned classifier in Hugging Face layout.

    Args:
        name: `doccls` or `paircls`.
        large: The encoder that teachers begin with.
        encoder: The one that is shipped; both have the same word pieces.
        output: A folder; what an interrupted run has done lies there too.
    """
    recipe = RECIPES[name]
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    examples = recipe.read(Path(os.environ["NLPBOOK_CORPUS_DIR"]))
    known = [*examples.labelled, *examples.others, *examples.held_out]
    store = Store([*(one.text for one in known), *examples.further], tokenizer, recipe.max_seq_length)
    gold = torch.tensor([one.target for one in known])
    ends = np.cumsum([len(part) for part in examples])
    labelled, others, held_out, further = np.split(np.arange(len(store)), ends[:-1])

    draw = partial(draw_rows, kinds=(labelled, others, further))

    def say(what: str, answers: torch.Tensor) -> None:
        right = (answers.argmax(dim=1) == gold[held_out].argmax(dim=1)).float().mean()
        print(f"{what}: {right:.4f} of {len(held_out):,} held-out examples are right", flush=True)

    output.mkdir(parents=True, exist_ok=True)
    state, answers = output / "state.pt", torch.zeros(len(store), len(recipe.labels))
    for number in range(recipe.teachers):
        kept = output / f"teacher-{number}.pt"
        if not kept.exists():
            lesson = Lesson(gold, draw(recipe.teachers_epochs), recipe.teachers_batch, recipe.teachers_rate)
            teacher = teach(large, store, lesson, SEED + number, state)
            torch.save(answer(teacher, store, np.arange(len(store))).half(), kept)
            say(f"teacher {number}", torch.load(kept, weights_only=True)[held_out])
        answers += torch.load(kept, weights_only=True).float() / recipe.teachers
    say("teachers together", answers[held_out])
    if recipe.first_epochs:
        first = output / "first"
        if not first.exists():
            lesson = Lesson(gold, draw(recipe.first_epochs), recipe.batch, recipe.first_rate)
            teach(encoder, store, lesson, SEED, state).save_pretrained(first)
        encoder = first
    answers[labelled] = (1 - recipe.gold) * answers[labelled] + recipe.gold * gold[labelled]
    for number, (rate, epochs) in enumerate(recipe.parts):
        part = output / f"part-{number}"
        if not part.exists():
            lesson = Lesson(answers, draw(epochs, seed=SEED + number), recipe.batch, rate)
            teach(encoder, store, lesson, SEED + number, state).save_pretrained(part)
        encoder = part
    model = AutoModelForSequenceClassification.from_pretrained(encoder).to(DEVICE).eval()
    say(name, answer(model, store, held_out))
    model.config.id2label = dict(enumerate(recipe.labels))
    model.config.label2id = {label: position for position, label in enumerate(recipe.labels)}
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


if __name__ == "__main__":
    finetune(sys.argv[1], *map(Path, sys.argv[2:5]))
