"""What makes the shipped checkpoints: its loop goes on where it was stopped, and batches hold each text once."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

import nlpbook_helpers as nlpbook

sys.path.insert(0, str(Path(__file__).parents[1] / "checkpoints"))
import learning

TEXTS = [
    *((f"영화 {number}번은 볼만했다",) for number in range(20)),
    *(("비가 온다", "날이 " * n) for n in range(1, 21)),
]


@pytest.fixture
def store():
    return learning.Store(TEXTS, AutoTokenizer.from_pretrained(nlpbook.get_embedded_path("nlpbook-mini")), most=16)


def test_a_batch_is_what_the_tokenizer_makes_of_its_texts(store):
    tokenizer = AutoTokenizer.from_pretrained(nlpbook.get_embedded_path("nlpbook-mini"))
    for rows in (np.array([3, 0]), np.array([39, 20])):
        columns = zip(*(TEXTS[row] for row in rows), strict=True)
        settings = {"padding": True, "pad_to_multiple_of": 8, "truncation": True, "max_length": 16}
        wanted = tokenizer(*map(list, columns), return_tensors="pt", **settings)
        found = store.make_batch(rows)
        assert all(torch.equal(found[name], wanted[name]) for name in found)


def test_each_row_is_dealt_once_and_batches_are_bounded(store):
    batches = store.deal(np.arange(40), 64, np.random.default_rng(7), pools=2)
    assert sorted(np.concatenate(batches)) == list(range(40))
    assert all(store.lengths[rows].max() * len(rows) <= 64 for rows in batches)


def test_a_stopped_training_ends_with_the_same_weights(store, tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "SAVE_EVERY", -1)  # at every step
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}

    def train(state: Path, stop_at: int | None) -> dict[str, torch.Tensor]:
        torch.manual_seed(7)
        model = BertForSequenceClassification(BertConfig(vocab_size=9_000, **shape))
        steps = []

        def compute_loss(rows: np.ndarray) -> torch.Tensor:
            steps.append(rows)
            if len(steps) == stop_at:
                raise KeyboardInterrupt
            return model(**store.make_batch(rows), labels=torch.from_numpy(rows % 2)).loss

        batches = store.deal(np.arange(40), 64, np.random.default_rng(7))
        learning.learn(model, iter(batches), compute_loss, learning.Schedule(len(batches), 1e-2), state)
        return model.state_dict()

    whole = train(tmp_path / "whole.pt", None)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped.pt", 4)
    went_on = train(tmp_path / "stopped.pt", None)
    assert all(torch.equal(whole[name], went_on[name]) for name in whole)
    assert not list(tmp_path.iterdir())
