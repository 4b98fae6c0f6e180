"""Fine-tune the encoder of `convert.py` on inference pairs: `python checkpoints/finetune_pairs.py ENCODER OUTPUT`.

KLUE-NLI's 24,998 training pairs and XNLI's 2,490 Korean ones, three epochs, all twelve layers; about an hour on one CPU
core. Nothing is chosen on KLUE-NLI's dev file, which `make.py paircls` scores once, at the end. Interrupted, it begins
anew.

The learning rate rises and falls linearly, unlike the book's: over three epochs from a pretrained encoder it is worth
several points.
"""

import csv
import json
import math
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

LABELS = ("entailment", "contradiction", "neutral")
SEED, EPOCHS, BATCH_SIZE, LEARNING_RATE, MAX_SEQ_LENGTH = 7, 3, 32, 1e-4, 96
WARM_UP = 0.08  # share of all steps
MEGABATCH = 50  # batches that are sorted by length together

Pair = tuple[str, str, int]
Encoded = tuple[list[int], list[int], int]


def read_pairs(corpora: Path) -> list[Pair]:
    """Return premise, hypothesis and position of the label."""
    klue = json.loads((corpora / "klue-nli/klue_nli_train.json").read_text(encoding="utf-8"))
    pairs = [(pair["premise"], pair["hypothesis"], LABELS.index(pair["gold_label"])) for pair in klue]
    with open(corpora / "korean-text/xnli.dev.ko.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    return pairs + [(row[0], row[1], LABELS.index(row[2])) for row in rows if len(row) == 3 and row[2] in LABELS]


def deal_batches(examples: list[Encoded], generator: random.Random) -> list[list[Encoded]]:
    """Return an epoch's batches, of similar length, in a random order."""
    order, batches = list(range(len(examples))), []
    generator.shuffle(order)
    for start in range(0, len(order), BATCH_SIZE * MEGABATCH):
        group = sorted(order[start : start + BATCH_SIZE * MEGABATCH], key=lambda row: len(examples[row][0]))
        batches += [group[begin : begin + BATCH_SIZE] for begin in range(0, len(group), BATCH_SIZE)]
    generator.shuffle(batches)
    return [[examples[row] for row in batch] for batch in batches]


def collate(batch: list[Encoded]) -> dict[str, torch.Tensor]:
    """Pad to a multiple of 4 tokens: int64, (batch, tokens), and labels (batch,)."""
    longest = math.ceil(max(len(ids) for ids, _, _ in batch) / 4) * 4
    columns = {name: torch.zeros((len(batch), longest), dtype=torch.long) for name in ("input_ids", "token_type_ids")}
    mask = torch.zeros((len(batch), longest), dtype=torch.long)
    for row, (ids, segments, _) in enumerate(batch):
        columns["input_ids"][row, : len(ids)] = torch.tensor(ids)
        columns["token_type_ids"][row, : len(ids)] = torch.tensor(segments)
        mask[row, : len(ids)] = 1
    return {**columns, "attention_mask": mask, "labels": torch.tensor([label for _, _, label in batch])}


def make_optimizer(model: Any, steps: int) -> tuple[torch.optim.Optimizer, Any]:
    """AdamW without decay of biases and norms, and a rate that rises and falls linearly."""
    groups = [
        {"params": [weight for weight in model.parameters() if weight.ndim > 1], "weight_decay": 0.01},
        {"params": [weight for weight in model.parameters() if weight.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, fused=True)
    rise = steps * WARM_UP
    return optimizer, torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(step / rise, max(0.0, (steps - step) / (steps - rise)))
    )


def iterate_steps(examples: list[Encoded]) -> Iterator[tuple[int, list[Encoded]]]:
    """Yield the batches of all epochs with the number of their epoch."""
    generator = random.Random(SEED)  # noqa: S311 - an order, not a secret
    for epoch in range(EPOCHS):
        for batch in deal_batches(examples, generator):
            yield epoch, batch


def finetune(encoder: Path, output: Path) -> None:
    """Write the fine-tuned classifier in Hugging Face layout."""
    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=len(LABELS)).train()
    premises, hypotheses, labels = zip(*read_pairs(Path(os.environ["NLPBOOK_CORPUS_DIR"])), strict=True)
    encoded = tokenizer(list(premises), list(hypotheses), truncation=True, max_length=MAX_SEQ_LENGTH)
    examples = list(zip(encoded["input_ids"], encoded["token_type_ids"], labels, strict=True))
    steps = EPOCHS * math.ceil(len(examples) / BATCH_SIZE)
    optimizer, scheduler = make_optimizer(model, steps)
    begin, mean = time.monotonic(), 0.0
    for step, (epoch, batch) in enumerate(iterate_steps(examples), start=1):
        inputs = collate(batch)
        labels = inputs.pop("labels")
        with torch.autocast("cpu", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(**inputs).logits.float(), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        mean = loss.item() if step == 1 else 0.99 * mean + 0.01 * loss.item()
        if step % 100 == 0:
            print(f"epoch {epoch}, step {step:,} of {steps:,}: loss {mean:.3f}, {time.monotonic() - begin:.0f} s")
    model.config.id2label = dict(enumerate(LABELS))
    model.config.label2id = {label: position for position, label in enumerate(LABELS)}
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


if __name__ == "__main__":
    finetune(Path(sys.argv[1]), Path(sys.argv[2]))
