"""Text becomes the right numbers, once."""

import json

import numpy as np
import pytest
import torch
from conftest import REVIEWS
from transformers import BertTokenizer, RobertaConfig, RobertaForSequenceClassification

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.corpora import ClassificationExample, CsvCorpus, KlueNLICorpus, NsmcCorpus
from nlpbook_helpers.features import (
    ClassificationDataset,
    data_collator,
    encode_examples,
    iterate_batches,
    predict_probabilities,
    select_model_inputs,
)

NSMC_GOLDEN = [2, 2170, 832, 5045, 17, 17, 7992, 29734, 4040, 10720, 3]
KLUE_GOLDEN = [2, 8327, 15760, 2483, 4260, 8446, 1895, 5623, 5969, 10319, 21, 4213, 10172, 3, 8327, 15760, 2491, 4020,
               17, 3]  # fmt: skip


@pytest.mark.corpora
def test_golden_ids_of_real_nsmc(corpus_dir, kcbert_dir):
    args = ClassificationTrainArguments(str(kcbert_dir), downstream_corpus_root_dir=str(corpus_dir))
    dataset = ClassificationDataset(args, NsmcCorpus(), BertTokenizer.from_pretrained(kcbert_dir), "train")
    assert len(dataset) == 150_000
    assert dataset[0]["input_ids"] == NSMC_GOLDEN
    assert (dataset[0]["label"], dataset[0]["token_type_ids"]) == (0, [0] * 11)
    assert dataset.features.input_ids.nbytes + dataset.features.offsets.nbytes < 10e6


@pytest.mark.corpora
def test_golden_ids_of_real_klue_nli(corpus_dir, kcbert_dir):
    args = ClassificationTrainArguments(
        str(kcbert_dir),
        "pair-classification",
        "klue-nli",
        downstream_corpus_root_dir=str(corpus_dir),
        max_seq_length=64,
    )
    dataset = ClassificationDataset(args, KlueNLICorpus(), BertTokenizer.from_pretrained(kcbert_dir), "train")
    rows = [row for row in range(len(dataset)) if dataset[row]["input_ids"] == KLUE_GOLDEN]
    assert len(rows) == 1
    assert dataset[rows[0]]["token_type_ids"] == [0] * 14 + [1] * 6
    assert KlueNLICorpus().get_labels()[dataset[rows[0]]["label"]] == "contradiction"


def test_an_item_is_what_the_tokenizer_says(make_args, tokenizer):
    dataset = ClassificationDataset(make_args(), NsmcCorpus(), tokenizer, "train")
    for item, (_, text, label) in zip(dataset, REVIEWS, strict=True):  # type: ignore[call-overload]
        expected = tokenizer(text, truncation=True, max_length=32)
        assert item == {**expected, "label": int(label)}


def test_a_batch_is_what_the_tokenizer_pads(make_args, tokenizer):
    dataset = ClassificationDataset(make_args(), NsmcCorpus(), tokenizer, "train")
    rows = [3, 0, 5]
    expected = tokenizer([REVIEWS[row][1] for row in rows], padding=True, return_tensors="pt")
    batches = [data_collator(dataset.__getitems__(rows)), data_collator([dataset[row] for row in rows])]
    for batch in batches:
        assert batch["labels"].tolist() == [0, 1, 0]
        for name in expected:
            assert torch.equal(batch[name], expected[name]), name


@pytest.mark.parametrize("long_one", [0, 1])
def test_truncating_a_pair_empties_neither_text(tokenizer, long_one):
    texts = ["영화", "영화"]
    texts[long_one] = "이야기 " * 100
    features = encode_examples(tokenizer, [ClassificationExample(*texts, "0")], {"0": 0}, 16)
    batch = features.make_batch([0])
    assert batch["input_ids"].shape == (1, 16)
    first = int((batch["token_type_ids"][0] == 0).sum())
    assert first == (14 if long_one == 0 else 3)
    assert torch.equal(batch["token_type_ids"][0], torch.tensor([0] * first + [1] * (16 - first)))


def test_an_encoder_without_token_types_gets_none(tokenizer):
    tokenizer = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, pad_token="[PAD]", unk_token="[UNK]",
                                model_input_names=["input_ids", "attention_mask"], model_max_length=64)  # fmt: skip
    features = encode_examples(tokenizer, [ClassificationExample("영화", "이야기", "0")], {"0": 0}, 16)
    assert set(features.make_batch([0])) == {"input_ids", "attention_mask", "labels"}


def test_an_encoder_of_one_segment_takes_pairs(tokenizer):
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=66, type_vocab_size=1, pad_token_id=0,
    )  # fmt: skip
    model = RobertaForSequenceClassification(config)
    features = encode_examples(tokenizer, [ClassificationExample("영화", "이야기", "0")] * 3, {"0": 0}, 16)
    assert predict_probabilities(model, features).shape == (3, 2)
    batch = features.make_batch([0, 1])
    assert model(**select_model_inputs(model, batch)).loss.isfinite()


def test_the_encoders_limit_is_named(make_args, tokenizer):
    with pytest.raises(
        ValueError, match="max_seq_length: expected at most 128, the encoder's limit, got 129: lower it"
    ):
        ClassificationDataset(make_args(max_seq_length=129), NsmcCorpus(), tokenizer, "train")


@pytest.mark.corpora
def test_a_tokenizer_that_takes_hangul_apart_is_refused(kcbert_dir, corpora_root, make_args):
    lower = BertTokenizer.from_pretrained(kcbert_dir, do_lower_case=True)
    with pytest.raises(ValueError, match=r"got \d+% \[UNK\] from .*do_lower_case=False"):
        ClassificationDataset(make_args(), NsmcCorpus(), lower, "train")


def test_features_are_read_from_the_cache_and_equal(make_args, tokenizer, caplog, tmp_path):
    caplog.set_level("INFO", "nlpbook_helpers")
    first = ClassificationDataset(make_args(), NsmcCorpus(), tokenizer, "train")
    assert "loaded features from cache" not in caplog.text
    again = ClassificationDataset(make_args(), NsmcCorpus(), tokenizer, "train")
    assert "loaded features from cache nsmc-train-" in caplog.text
    for name in first.features.columns:
        assert np.array_equal(getattr(first.features, name), getattr(again.features, name))
    assert len(list((tmp_path / "cache").glob("*.*"))) == 1  # no leftovers beside it


def test_the_cache_knows_content_length_and_tokenizer(make_args, tokenizer, corpora_root, caplog):
    caplog.set_level("INFO", "nlpbook_helpers")
    ClassificationDataset(make_args(), NsmcCorpus(), tokenizer, "train")
    ClassificationDataset(make_args(max_seq_length=8), NsmcCorpus(), tokenizer, "train")
    path = corpora_root / "nsmc" / "ratings_train.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("다시", "또"), encoding="utf-8")
    ClassificationDataset(make_args(), NsmcCorpus(), tokenizer, "train")
    other = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, pad_token="[PAD]", unk_token="[UNK]",
                            model_input_names=["input_ids", "attention_mask"], model_max_length=64)  # fmt: skip
    ClassificationDataset(make_args(), NsmcCorpus(), other, "train")
    ClassificationDataset(make_args(overwrite_cache=True), NsmcCorpus(), tokenizer, "train")
    assert "loaded features from cache" not in caplog.text


def test_a_damaged_cache_is_made_again(make_args, tokenizer, tmp_path, caplog):
    whole = ClassificationDataset(make_args(), NsmcCorpus(), tokenizer)
    (file,) = (tmp_path / "cache").glob("*.safetensors")
    content = file.read_bytes()
    file.unlink()  # the first dataset still reads the file through its memory map
    file.write_bytes(content[:100])
    again = ClassificationDataset(make_args(), NsmcCorpus(), tokenizer)
    assert "is damaged" in caplog.text
    assert np.array_equal(whole.features.input_ids, again.features.input_ids)


def test_a_cache_that_cannot_be_written_costs_only_the_cache(make_args, tokenizer, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NLPBOOK_CACHE_DIR", str(tmp_path / "file"))
    assert len(ClassificationDataset(make_args(), NsmcCorpus(), tokenizer, "train")) == len(REVIEWS)
    assert "features are not cached" in caplog.text


def test_the_held_out_slice_is_fixed_stratified_and_apart(make_args, tokenizer):
    args, other_seed = make_args(validation_size=4), make_args(validation_size=4, seed=99)
    train, val = (ClassificationDataset(args, NsmcCorpus(), tokenizer, mode) for mode in ("train", "val"))
    assert sorted([*train.rows, *val.rows]) == list(range(8))
    assert sorted(val.labels) == [0, 0, 1, 1]
    assert np.array_equal(ClassificationDataset(other_seed, NsmcCorpus(), tokenizer, "val").rows, val.rows)
    assert [example.text_a for example in val.get_examples(range(4))] == [REVIEWS[row][1] for row in val.rows]
    share = ClassificationDataset(make_args(validation_size=0.25), NsmcCorpus(), tokenizer, "val")
    assert len(share) == 2
    assert len(ClassificationDataset(args, NsmcCorpus(), tokenizer, "test")) == 8


def test_a_premise_and_all_its_hypotheses_stay_on_one_side(make_args, tokenizer, corpora_root):
    pairs = [
        {"premise": f"영화 {chr(0xAC00 + number)}", "hypothesis": text, "gold_label": label}
        for number in range(20)
        for text, label in (("배우", "entailment"), ("지루한", "contradiction"), ("정말", "neutral"))
    ]
    (corpora_root / "klue-nli").mkdir()
    (corpora_root / "klue-nli" / "klue_nli_train.json").write_text(json.dumps(pairs), encoding="utf-8")
    args = make_args(downstream_corpus_name="klue-nli", validation_size=0.25)
    train, val = (ClassificationDataset(args, KlueNLICorpus(), tokenizer, mode) for mode in ("train", "val"))
    assert (len(train), len(val)) == (45, 15)
    assert np.bincount(val.labels).tolist() == [5, 5, 5]
    sides = [{example.text_a for example in data.get_examples(range(len(data)))} for data in (train, val)]
    assert not sides[0] & sides[1]


def test_a_validation_file_of_ones_own_is_used_and_nothing_held_out(make_args, corpora_root, tokenizer, caplog):
    folder = corpora_root / "mine"
    folder.mkdir()
    for mode, rows in (("train", 20), ("val", 3)):
        lines = [f"영화 {number},{number % 2 if mode == 'train' else 1}" for number in range(rows)]
        (folder / f"{mode}.csv").write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    args = make_args(downstream_corpus_name="mine", validation_size=0.25)
    train, val = (ClassificationDataset(args, CsvCorpus(["text"]), tokenizer, mode) for mode in ("train", "val"))
    assert (len(train), len(val)) == (20, 3)
    assert "val: no example of label ['0']" in caplog.text
    (folder / "val.csv").unlink()
    train, val = (ClassificationDataset(args, CsvCorpus(["text"]), tokenizer, mode) for mode in ("train", "val"))
    assert len(train) + len(val) == 20


def test_val_without_held_out_rows_says_which_argument_to_set(make_args, tokenizer):
    for corpus in (NsmcCorpus(), CsvCorpus(["document"])):
        with pytest.raises(ValueError, match="mode='val' needs held-out rows, got validation_size=0: set validation_"):
            ClassificationDataset(make_args(), corpus, tokenizer, "val")
    with pytest.raises(ValueError, match="validation_size: cannot hold 7 of 8 rows out"):
        ClassificationDataset(make_args(validation_size=7), NsmcCorpus(), tokenizer, "val")
    with pytest.raises(ValueError, match="mode: expected 'train', 'val' or 'test', got 'dev'"):
        ClassificationDataset(make_args(), NsmcCorpus(), tokenizer, "dev")


def test_a_corpus_class_written_as_in_the_book_works(make_args, tokenizer):
    class MyCorpus:
        num_labels = 2

        def get_examples(self, folder, mode):
            return [
                ClassificationExample(text_a="정말 재미", label="나쁨"),
                ClassificationExample(text_a="지루한", label="좋음"),
            ]

        def get_labels(self):
            return ["나쁨", "좋음"]

    dataset = ClassificationDataset(args=make_args(), corpus=MyCorpus(), tokenizer=tokenizer, mode="train")
    assert [item["label"] for item in dataset] == [0, 1]  # type: ignore[attr-defined]


def test_a_corpus_class_of_the_readers_own_is_never_read_from_a_stale_cache(make_args, tokenizer):
    def make_corpus(text):
        class Corpus(NsmcCorpus):
            def iterate_examples(self, folder, mode):
                yield from [ClassificationExample(text, None, "0"), ClassificationExample(text, None, "1")]

        return Corpus()

    items = [ClassificationDataset(make_args(), make_corpus(text), tokenizer)[0] for text in ("영화", "이야기")]
    assert items[0] != items[1]


def test_batches_hold_similar_lengths_within_the_token_budget():
    lengths = np.array([5, 128, 7, 6, 90, 5])
    batches = [batch.tolist() for batch in iterate_batches(lengths, 200)]
    assert sorted(sum(batches, [])) == list(range(6))
    assert batches[0] == [1]
    assert all(lengths[batch].max() * len(batch) <= 200 for batch in batches)


def test_batches_hold_no_more_padding_than_allowed():
    lengths = np.random.default_rng(7).integers(3, 128, 500)
    batches = list(iterate_batches(lengths, 4_096, 64))
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    assert all((lengths[batch].max() - lengths[batch]).sum() <= 64 for batch in batches)
    assert len(batches) < 100 and max(len(batch) for batch in batches) > 5
    assert [batch.tolist() for batch in iterate_batches(np.array([9, 1, 1]), 100, 0)] == [[0], [1, 2]]
