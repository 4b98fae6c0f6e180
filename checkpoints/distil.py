"""Make a small encoder that answers like the large one: `python checkpoints/distil.py TEACHER OUTPUT`.

First the student, every other layer of `convert.py`'s encoder, learns to have the teacher's hidden states on Korean
text; then a head on top learns to guess hidden words. No label and no star is read. About 70 minutes on one CPU core;
interrupted, it goes on from `OUTPUT/state.pt`.

Every batch is a function of its number, so an interrupted run sees the texts that an uninterrupted one sees.

Source: hidden states of matching layers as in TinyBERT (Jiao et al., 2020), without its attention matrices.
"""

import collections
import csv
import gzip
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
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForMaskedLM
from wordpieces import POSITIONS, make_word_pieces

LAYERS = (1, 3, 5, 7, 9, 11)  # of the teacher's twelve, counted from 0
STEPS, LEARNING_RATE = 3_600, 5e-4  # of matching hidden states
WORD_STEPS, WORD_LEARNING_RATE = 600, 1e-3  # of guessing hidden words
WARM_UP, LAST_RATE = 300, 0.02  # steps; share of the rate that is left at the end
BATCH_TOKENS, MAX_SEQ_LENGTH = 1_100, 72
POOL = 640  # texts whose batches are made together, so that a batch is of one length
SHARES = {"pairs": 0.35, "reviews": 0.45, "others": 0.2}
WORD_SHARES = {"pairs": 0.15, "reviews": 0.75, "others": 0.1}
HIDDEN_SHARE = 0.15
SAVE_EVERY = 200  # steps
DROPOUT = 0.1  # for whoever fine-tunes; nothing drops out here

Text = tuple[str, ...]  # one text, or the two of a pair
Batch = dict[str, torch.Tensor]


def read_texts(corpora: Path) -> dict[str, list[Text]]:
    """Return pairs, film reviews and other texts."""

    def read_lines(name: str) -> list[str]:
        with gzip.open(corpora / name, "rt", encoding="utf-8") as file:
            return [line for line in file.read().split("\n") if line.strip()]

    klue = json.loads((corpora / "klue-nli/klue_nli_train.json").read_text(encoding="utf-8"))
    with open(corpora / "korean-text/xnli.dev.ko.tsv", encoding="utf-8", newline="") as file:
        xnli = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    pairs = [(pair["premise"], pair["hypothesis"]) for pair in klue] + [(row[0], row[1]) for row in xnli]
    pairs += [tuple(line.split("\t")[-2:]) for line in read_lines("korean-text/korsts.tsv.gz")]
    reviews = [(line.split("\t")[1],) for line in read_lines("nsmc-raw/reviews.tsv.gz") if "\t" in line]
    others = [
        (line,)
        for name in ("news_titles.txt", "news_comments.txt", "react_docs.txt")
        for line in read_lines(f"korean-text/{name}.gz")
    ]
    others += [(text,) for row in csv.reader(read_lines("korean-text/chatbot.csv.gz")) for text in row[:2]]
    return {
        kind: [text for text in texts if all(part.strip() for part in text)]
        for kind, texts in (("pairs", pairs), ("reviews", reviews), ("others", others))
    }


def deal_batches(texts: dict[str, list[Text]], shares: dict[str, float], tokenizer: Any, pool: int) -> list[Batch]:
    """Return the batches of one pool: of about BATCH_TOKENS tokens and similar lengths, in a random order."""
    generator = random.Random(1_000 + pool)  # noqa: S311 - an order, not a secret
    chosen = [text for kind, share in shares.items() for text in generator.choices(texts[kind], k=int(POOL * share))]
    encoded = [tokenizer(*text, truncation=True, max_length=MAX_SEQ_LENGTH) for text in chosen]
    encoded.sort(key=lambda text: len(text["input_ids"]))
    batches, batch = [], []
    for text in encoded:
        batch.append(text)
        if len(batch) * len(text["input_ids"]) >= BATCH_TOKENS:
            batches.append(batch)
            batch = []
    batches += [batch] if batch else []
    generator.shuffle(batches)
    return [dict(tokenizer.pad(batch, pad_to_multiple_of=4, return_tensors="pt")) for batch in batches]


def iterate_batches(
    texts: dict[str, list[Text]], shares: dict[str, float], tokenizer: Any, start: int
) -> Iterator[Batch]:
    """Yield batches from number `start` on; a batch's number says its texts."""
    pool = passed = 0
    while True:
        batches = deal_batches(texts, shares, tokenizer, pool)
        yield from batches[max(0, start - passed) :]
        pool, passed = pool + 1, passed + len(batches)


def match_hidden_states(student: Any, teacher: Any, batch: Batch) -> torch.Tensor:
    """Return the mean squared difference of the hidden states in units of the teacher's variance, () float32.

    The last layer counts twice: what is fine-tuned later stands on it.
    """
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            wanted = teacher(**batch, output_hidden_states=True).hidden_states
        found = student(**batch, output_hidden_states=True).hidden_states
    real, total, weights = batch["attention_mask"].bool(), torch.zeros(()), len(LAYERS) + 1
    for place, layer in enumerate(LAYERS, start=1):
        target = wanted[layer + 1][real].float()
        difference = ((found[place][real].float() - target) ** 2).mean() / target.var()
        total = total + difference * (2 if place == len(LAYERS) else 1) / weights
    return total


def guess_hidden_words(student: Any, batch: Batch, step: int, tokenizer: Any) -> torch.Tensor:
    """Return the cross entropy of hidden pieces, () float32: 8 in 10 are [MASK], one is another, one stands."""
    generator = torch.Generator().manual_seed(step)
    ids = batch["input_ids"]
    hidden = (torch.rand(ids.shape, generator=generator) < HIDDEN_SHARE) & (ids >= len(tokenizer.all_special_ids))
    fate = torch.rand(ids.shape, generator=generator)
    anything = torch.randint(len(tokenizer.all_special_ids), len(tokenizer), ids.shape, generator=generator)
    shown = torch.where(hidden & (fate < 0.8), tokenizer.mask_token_id, ids)
    shown = torch.where(hidden & (fate >= 0.9), anything, shown)
    with torch.autocast("cpu", torch.bfloat16):
        states = student.bert(**{**batch, "input_ids": shown}).last_hidden_state
        scores = student.cls(states[hidden])
    return torch.nn.functional.cross_entropy(scores.float(), ids[hidden])


def make_student(teacher: Any) -> BertForMaskedLM:
    """Return every other layer of the teacher, under a new head for hidden words; nothing drops out."""
    config = BertConfig(**{**teacher.config.to_dict(), "num_hidden_layers": len(LAYERS)})
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    student = BertForMaskedLM(config)
    student.bert.embeddings.load_state_dict(teacher.embeddings.state_dict())
    for layer, place in zip(student.bert.encoder.layer, LAYERS, strict=True):
        layer.load_state_dict(teacher.encoder.layer[place].state_dict())
    return student.train()


def finish(student: BertForMaskedLM) -> None:
    """Keep the vectors of the first POSITIONS places, four times as many as any text had; fine-tuning drops out."""
    embeddings = student.bert.embeddings
    kept = embeddings.position_embeddings.weight.detach()[:POSITIONS].clone()
    embeddings.position_embeddings = torch.nn.Embedding.from_pretrained(kept, freeze=False)
    student.config.max_position_embeddings = POSITIONS
    student.config.hidden_dropout_prob = student.config.attention_probs_dropout_prob = DROPOUT


def find_rate(step: int) -> float:
    """Return the learning rate of a step: in both parts it rises for WARM_UP steps and falls along a cosine."""
    matching = step < STEPS
    place, steps, rate = (step, STEPS, LEARNING_RATE) if matching else (step - STEPS, WORD_STEPS, WORD_LEARNING_RATE)
    fall = 0.5 * (1 + math.cos(math.pi * place / steps)) * (1 - LAST_RATE) + LAST_RATE
    return rate * min((place + 1) / WARM_UP, 1) * fall


def load_teacher(folder: Path) -> tuple[Any, Any]:
    """Return the large encoder, with the vectors of BERT's word pieces, and their tokenizer."""
    tokenizer, rows = make_word_pieces(AutoTokenizer.from_pretrained(folder))
    teacher = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    words = teacher.embeddings.word_embeddings.weight.detach()[rows].clone()
    teacher.resize_token_embeddings(len(rows), mean_resizing=False)
    teacher.embeddings.word_embeddings.weight.data.copy_(words)
    return teacher, tokenizer


def save_state(path: Path, student: Any, optimizer: Any, step: int) -> None:
    """Replace the state by rename, so that a kill leaves the earlier one whole."""
    partial = path.with_suffix(".partial")
    torch.save({"student": student.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, partial)
    os.replace(partial, path)


def load_state(path: Path, student: Any, optimizer: Any) -> int:
    """Return the number of steps done, 0 without a state."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    student.load_state_dict(state["student"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def iterate_losses(student: Any, teacher: Any, tokenizer: Any, start: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield the number of a step and its loss, from step `start` on."""
    texts = read_texts(Path(os.environ["NLPBOOK_CORPUS_DIR"]))
    batches = iterate_batches(texts, SHARES, tokenizer, start)
    for step in range(start, STEPS):
        yield step, match_hidden_states(student.bert, teacher, next(batches))
    # the head alone: 1,200 steps of hidden words for the whole encoder cost it 1.3 points of NSMC
    student.bert.requires_grad_(False)
    batches = iterate_batches(texts, WORD_SHARES, tokenizer, max(0, start - STEPS))
    for step in range(max(STEPS, start), STEPS + WORD_STEPS):
        yield step, guess_hidden_words(student, next(batches), step, tokenizer)


def distil(teacher_folder: Path, output: Path) -> None:
    """Write the small encoder, with its head for hidden words, in Hugging Face layout."""
    torch.manual_seed(7)
    output.mkdir(parents=True, exist_ok=True)
    teacher, tokenizer = load_teacher(teacher_folder)
    tokenizer.save_pretrained(output)  # now: it would keep the last length that a text was cut to
    student = make_student(teacher)
    optimizer = torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), fused=True)
    start = load_state(output / "state.pt", student, optimizer)
    begin, recent = time.monotonic(), collections.deque(maxlen=100)
    for step, loss in iterate_losses(student, teacher, tokenizer, start):
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = find_rate(step)
        optimizer.step()
        optimizer.zero_grad()
        recent.append(loss.item())
        if (step + 1) % 100 == 0:
            mean = sum(recent) / len(recent)
            print(f"step {step + 1:,}: loss {mean:.4f}, {time.monotonic() - begin:.0f} s", flush=True)
        if (step + 1) % SAVE_EVERY == 0:
            save_state(output / "state.pt", student, optimizer, step + 1)
    finish(student)
    student.save_pretrained(output)


if __name__ == "__main__":
    distil(Path(sys.argv[1]), Path(sys.argv[2]))
