"""Let the large encoder read Korean film reviews: `python checkpoints/adapt.py LARGE OUTPUT`.

The encoder of `convert.py`, with BERT's word pieces, learns to guess hidden words of Korean text, above all of film
reviews, which it has seen little of. No label and no star is read. Seventy-five seconds on an H200, more than a day on
two CPU cores; interrupted, it goes on from where it was at most five minutes earlier.

Source: Gururangan et al., 2020, "Don't Stop Pretraining".
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from distil import finish, read_texts
from learning import DEVICE, SEED, Batch, Schedule, Store, Text, learn
from transformers import AutoTokenizer, BertForMaskedLM
from wordpieces import make_word_pieces

SCHEDULE = Schedule(steps=1_200, rate=5e-4)
BATCH_TOKENS, MAX_SEQ_LENGTH = 32_768, 72
POOL = 16_384  # texts whose batches are made together, so that a batch is of one length
SHARES = {"pairs": 0.15, "mixed": 0.15, "reviews": 0.5, "others": 0.2}
MIXED = 200_000  # pairs of sentences that do not belong together, since pairs that do are few
HIDDEN_SHARE = 0.15


def mix_pairs(pairs: list[Text]) -> list[Text]:
    """Return pairs of sentences that were put together by chance."""
    sentences = sorted({part for text in pairs for part in text})
    chosen = np.random.default_rng(SEED).integers(len(sentences), size=(MIXED, 2))
    return [(sentences[first], sentences[second]) for first, second in chosen]


def iterate_batches(store: Store, counts: dict[str, int]) -> Iterator[Batch]:
    """Yield batches without end.

    Args:
        store: Texts, kind after kind.
        counts: How many there are of each kind.
    """
    ends = np.cumsum(list(counts.values())).tolist()
    ranges = {kind: (end - count, end) for (kind, count), end in zip(counts.items(), ends, strict=True)}
    pool = 0
    while True:
        generator = np.random.default_rng([SEED, pool])
        drawn = [generator.integers(*ranges[kind], int(POOL * share)) for kind, share in SHARES.items()]
        yield from map(store.make_batch, store.deal(np.concatenate(drawn), BATCH_TOKENS, generator))
        pool += 1


def guess_hidden_words(model: Any, batch: Batch, tokenizer: Any) -> torch.Tensor:
    """Return the cross entropy of hidden pieces, () float32: 8 in 10 are [MASK], one is another, one stands."""
    ids, specials = batch["input_ids"], len(tokenizer.all_special_ids)
    hidden = (torch.rand(ids.shape, device=DEVICE) < HIDDEN_SHARE) & (ids >= specials)
    fate = torch.rand(ids.shape, device=DEVICE)
    anything = torch.randint(specials, len(tokenizer), ids.shape, device=DEVICE)
    shown = torch.where(hidden & (fate < 0.8), tokenizer.mask_token_id, ids)
    shown = torch.where(hidden & (fate >= 0.9), anything, shown)
    scores = model.cls(model.bert(**{**batch, "input_ids": shown}).last_hidden_state[hidden])
    return torch.nn.functional.cross_entropy(scores.float(), ids[hidden])


def load_large(folder: Path) -> tuple[BertForMaskedLM, Any]:
    """Return the large encoder, with the vectors of BERT's word pieces and an untrained head, and their tokenizer."""
    tokenizer, rows = make_word_pieces(AutoTokenizer.from_pretrained(folder))
    large = BertForMaskedLM.from_pretrained(
        folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, dtype=torch.float32
    )
    words = large.bert.embeddings.word_embeddings.weight.detach()[rows].clone()
    large.resize_token_embeddings(len(rows), mean_resizing=False)
    large.bert.embeddings.word_embeddings.weight.data.copy_(words)
    return large.to(DEVICE).train(), tokenizer


def adapt(large_folder: Path, output: Path) -> None:
    """Write the adapted encoder, with its head for hidden words, in Hugging Face layout."""
    torch.manual_seed(SEED)
    model, tokenizer = load_large(large_folder)
    texts = read_texts(Path(os.environ["NLPBOOK_CORPUS_DIR"]))
    texts["mixed"] = mix_pairs(texts["pairs"])
    store = Store([text for kind in SHARES for text in texts[kind]], tokenizer, MAX_SEQ_LENGTH)
    batches = iterate_batches(store, {kind: len(texts[kind]) for kind in SHARES})
    state = output.with_suffix(".state")
    learn(model, batches, lambda batch: guess_hidden_words(model, batch, tokenizer), SCHEDULE, state)
    finish(model.cpu())
    tokenizer.save_pretrained(output)
    model.save_pretrained(output)


if __name__ == "__main__":
    adapt(*map(Path, sys.argv[1:3]))
