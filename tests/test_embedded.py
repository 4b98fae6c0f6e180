"""What ships with the project works on day one: the encoder and the sample corpora."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, BertTokenizer

import nlpbook_helpers as nlpbook

ENCODER = nlpbook.get_embedded_path("nlpbook-mini")


def read_sample(corpus, name: str, mode: str) -> list[nlpbook.ClassificationExample]:
    return corpus.get_examples(nlpbook.get_embedded_path(name), mode)


def test_the_encoder_is_small_and_loads_in_float32():
    model = AutoModel.from_pretrained(ENCODER)
    assert model.dtype == torch.float32
    assert sum(parameter.numel() for parameter in model.parameters()) <= 8_000_000
    assert sum(path.stat().st_size for path in Path(ENCODER).iterdir()) <= 16 * 2**20
    assert model.config.max_position_embeddings == AutoTokenizer.from_pretrained(ENCODER).model_max_length


def test_both_ways_to_load_the_tokenizer_agree():
    texts = [example.text_a for example in read_sample(nlpbook.NsmcCorpus(), "nsmc-sample", "train")]
    automatic, by_name = (
        AutoTokenizer.from_pretrained(ENCODER),
        BertTokenizer.from_pretrained(ENCODER, do_lower_case=False),
    )
    assert automatic(texts)["input_ids"] == by_name(texts)["input_ids"]
    ids = [token for row in automatic(texts)["input_ids"] for token in row]
    assert ids.count(automatic.unk_token_id) / len(ids) < 0.01


def test_a_hidden_word_is_filled_with_a_likely_one():
    tokenizer, model = AutoTokenizer.from_pretrained(ENCODER), AutoModelForMaskedLM.from_pretrained(ENCODER).eval()
    inputs = tokenizer("정말 재미있는 [MASK] 였다", return_tensors="pt")
    with torch.no_grad():
        scores = model(**inputs).logits[0, inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)]
    assert "영화" in tokenizer.convert_ids_to_tokens(scores.topk(20).indices)


@pytest.mark.corpora
def test_the_vocabulary_covers_nsmc(corpus_dir):
    tokenizer = AutoTokenizer.from_pretrained(ENCODER)
    texts = [example.text_a for example in nlpbook.NsmcCorpus().get_examples(corpus_dir / "nsmc", "test")]
    ids = [token for row in tokenizer(texts)["input_ids"] for token in row]
    assert ids.count(tokenizer.unk_token_id) / len(ids) < 0.01


@pytest.mark.parametrize(
    ("corpus", "name", "sizes"),
    [(nlpbook.NsmcCorpus(), "nsmc-sample", (452, 116)), (nlpbook.KlueNLICorpus(), "klue-nli-sample", (270, 72))],
)
def test_the_samples_are_balanced_and_their_splits_apart(corpus, name, sizes):
    train, test = (read_sample(corpus, name, mode) for mode in ("train", "test"))
    assert (len(train), len(test)) == sizes
    for examples in (train, test):
        assert len(set(Counter(example.label for example in examples).values())) == 1
    assert not {example[:2] for example in train} & {example[:2] for example in test}


def test_the_review_sample_has_the_quirks_of_the_real_one():
    texts = [example.text_a for example in read_sample(nlpbook.NsmcCorpus(), "nsmc-sample", "train")]
    assert texts.count("") == 1
    assert len(texts) - len(set(texts)) == 1
    assert sum('"' in text for text in texts) >= 8
    assert sum("ㅋㅋ" in text or "ㅠㅠ" in text for text in texts) >= 20


@pytest.mark.corpora
def test_no_sentence_of_the_samples_is_copied(corpus_dir):
    real = {example.text_a for mode in ("train", "test")
            for example in nlpbook.NsmcCorpus().get_examples(corpus_dir / "nsmc", mode)}  # fmt: skip
    mine = {example.text_a for mode in ("train", "test")
            for example in read_sample(nlpbook.NsmcCorpus(), "nsmc-sample", mode)}  # fmt: skip
    assert not [text for text in mine & real if len(text) > 8]
