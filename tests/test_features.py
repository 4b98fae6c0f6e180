"""Text becomes the right numbers, once."""

import json
import unicodedata
from itertools import islice

import numpy as np
import pytest
import torch
from reviews import REVIEWS
from transformers import BertTokenizer, RobertaConfig, RobertaForSequenceClassification

from nlpbook_helpers.corpora import ClassificationExample, CsvCorpus, KlueNLICorpus, NsmcCorpus
from nlpbook_helpers.features import (
    ClassificationDataset,
    data_collator,
    iterate_batches,
    predict_probabilities,
    select_model_inputs,
)
from nlpbook_helpers.tokenizing import encode_examples, find_mostly_unknown

NSMC_GOLDEN = [2, 2170, 832, 5045, 17, 17, 7992, 29734, 4040, 10720, 3]
KLUE_GOLDEN = [2, 8327, 15760, 2483, 4260, 8446, 1895, 5623, 5969, 10319, 21, 4213, 10172, 3, 8327, 15760, 2491, 4020,
               17, 3]  # fmt: skip


@pytest.fixture
def make_dataset(make_args, tokenizer):
    """A function that makes a dataset of the tiny NSMC, or of another corpus, with changed arguments."""

    def make(mode="train", corpus=None, tokenizer=tokenizer, **changes):
        return ClassificationDataset(make_args(**changes), corpus or NsmcCorpus(), tokenizer, mode)

    return make


@pytest.fixture
def bare_tokenizer(tokenizer):
    """A tokenizer without token types."""
    return type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, pad_token="[PAD]", unk_token="[UNK]",
                           model_input_names=["input_ids", "attention_mask"], model_max_length=64)  # fmt: skip


def encode(tokenizer, *texts, length=16, stride=None):
    examples = [ClassificationExample(*([text] if isinstance(text, str) else text)) for text in texts]
    return encode_examples(tokenizer, examples, {"0": 0}, length, stride)


@pytest.mark.corpora
def test_golden_ids_of_the_real_corpora(corpus_dir, kcbert_dir, corpora_root, make_dataset):
    tokenizer = BertTokenizer.from_pretrained(kcbert_dir)
    with open(corpus_dir / "nsmc" / "ratings_train.txt", encoding="utf-8") as file:
        (corpora_root / "nsmc" / "ratings_train.txt").write_text("".join(islice(file, 2_001)), encoding="utf-8")
    dataset = make_dataset(tokenizer=tokenizer, max_seq_length=128)
    assert dataset.features.input_ids.nbytes + dataset.features.lengths.nbytes < 2_000 * 66
    assert dataset[0] == {"input_ids": NSMC_GOLDEN, "attention_mask": [1] * 11, "token_type_ids": [0] * 11, "label": 0}
    pair = ("100분간 잘껄 그래도 소닉붐땜에 2점준다", "100분간 잤다.", None)
    batch = encode(tokenizer, pair, length=64).make_batch([0])
    assert batch["input_ids"].tolist() == [KLUE_GOLDEN]
    assert batch["token_type_ids"].tolist() == [[0] * 14 + [1] * 6]
    texts = ["ㅋ" * 500, "ㅋ" * 500 + " 좋다", "ㅋㅋㅋ", ""]
    unknown = find_mostly_unknown(tokenizer, encode(tokenizer, *texts, length=64))
    assert unknown.tolist() == [True, True, False, False]
    lower = BertTokenizer.from_pretrained(kcbert_dir, do_lower_case=True)
    with pytest.raises(ValueError, match=r"got \d+% \[UNK\] from .*do_lower_case=False"):
        make_dataset("test", tokenizer=lower)


def test_items_and_batches_are_what_the_tokenizer_says(make_dataset, tokenizer):
    dataset = make_dataset()
    for item, (_, text, label) in zip(dataset, REVIEWS, strict=True):
        assert item == {**tokenizer(text, truncation=True, max_length=32), "label": int(label)}
    rows = [3, 0, 5]
    expected = tokenizer([REVIEWS[row][1] for row in rows], padding=True, return_tensors="pt")
    for batch in (data_collator(dataset.__getitems__(rows)), data_collator([dataset[row] for row in rows])):
        assert batch["labels"].tolist() == [0, 1, 0]
        assert all(torch.equal(batch[name], expected[name]) for name in expected)


def test_decomposed_hangul_becomes_the_same_numbers(tokenizer):
    texts = [form for text in ("정말 재미있는 영화", "최고") for form in (text, unicodedata.normalize("NFD", text))]
    ids = encode(tokenizer, *texts).make_batch(range(4))["input_ids"]
    assert torch.equal(ids[0], ids[1]) and torch.equal(ids[2], ids[3])


@pytest.mark.parametrize("long_one", [0, 1])
def test_truncating_a_pair_empties_neither_text(tokenizer, long_one):
    texts = ["영화", "영화"]
    texts[long_one] = "이야기 " * 100
    types = encode(tokenizer, (*texts, "0")).make_batch([0])["token_type_ids"][0].tolist()
    first = 14 if long_one == 0 else 3
    assert types == [0] * first + [1] * (16 - first)


def test_windows_hold_every_token_and_know_their_document(tokenizer):
    long = " ".join(f"영화 {word}" for word in ("배우", "정말", "시간") * 8)
    features = encode(tokenizer, "배우", long, "", length=16, stride=4)
    assert features.documents[0] == 0 and features.documents[-1] == 2
    batch = features.make_batch(np.flatnonzero(features.documents == 1))
    masks = batch["attention_mask"] == 1
    windows = [row[mask].tolist()[1:-1] for row, mask in zip(batch["input_ids"], masks, strict=True)]
    joined = windows[0] + [token for window in windows[1:] for token in window[4:]]
    assert joined == tokenizer(long, add_special_tokens=False)["input_ids"]


def test_an_encoder_without_token_types_or_with_one_segment_gets_none(tokenizer, bare_tokenizer):
    features = encode(bare_tokenizer, ("영화", "이야기", "0"))
    assert set(features.make_batch([0])) == {"input_ids", "attention_mask", "labels"}
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=66, type_vocab_size=1, pad_token_id=0,
    )  # fmt: skip
    model = RobertaForSequenceClassification(config)
    features = encode(tokenizer, *[("영화", "이야기", "0")] * 3)
    assert predict_probabilities(model, features).shape == (3, 2)
    assert model(**select_model_inputs(model, features.make_batch([0, 1]))).loss.isfinite()


def test_a_text_that_is_mostly_unknown_is_found(tokenizer, bare_tokenizer):
    texts = ["영화", "龍龍龍", "龍 영화", "龍 영화 배우", "", "龍 " * 40 + "영화"]
    expected = [False, True, True, False, False, True]
    assert find_mostly_unknown(tokenizer, encode(tokenizer, *texts)).tolist() == expected
    assert find_mostly_unknown(tokenizer, encode(tokenizer, *texts, stride=4)).tolist() == expected
    assert find_mostly_unknown(bare_tokenizer, encode(bare_tokenizer)).tolist() == []


def test_the_encoders_limit_is_named(make_dataset):
    with pytest.raises(ValueError, match="max_seq_length: expected at most 128, the encoder's limit, got 129: lower"):
        make_dataset(max_seq_length=129)


def test_features_are_read_from_a_cache_that_knows_content_length_and_tokenizer(
    make_dataset, corpora_root, bare_tokenizer, caplog, tmp_path
):
    caplog.set_level("INFO", "nlpbook_helpers")
    first = make_dataset()
    make_dataset(max_seq_length=8)
    path = corpora_root / "nsmc" / "ratings_train.txt"
    content = path.read_text(encoding="utf-8")
    path.write_text(content.replace("다시", "또"), encoding="utf-8")
    make_dataset()
    make_dataset(tokenizer=bare_tokenizer)
    path.write_text(content, encoding="utf-8")
    make_dataset(overwrite_cache=True)
    assert "loaded features from cache" not in caplog.text
    again = make_dataset()
    assert "loaded features from cache nsmc-train-" in caplog.text
    for name, column in first.features.columns.items():
        assert np.array_equal(column, again.features.columns[name])
    assert len(list((tmp_path / "cache").glob("*.*"))) == 4  # no leftovers beside them


def test_a_damaged_cache_is_made_again_and_one_that_cannot_be_written_costs_only_the_cache(
    make_dataset, tmp_path, caplog, monkeypatch
):
    whole = make_dataset()
    (file,) = (tmp_path / "cache").glob("*.safetensors")
    content = file.read_bytes()
    file.unlink()  # the first dataset still reads the file through its memory map
    file.write_bytes(content[:100])
    assert np.array_equal(whole.features.input_ids, make_dataset().features.input_ids)
    assert "is damaged" in caplog.text
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NLPBOOK_CACHE_DIR", str(tmp_path / "file"))
    assert len(make_dataset()) == len(REVIEWS)
    assert "features are not cached" in caplog.text


def test_the_held_out_slice_is_fixed_stratified_and_apart(make_dataset):
    train, val, other = (make_dataset(mode, validation_size=4, seed=seed) for mode, seed in (
        ("train", 7), ("val", 7), ("val", 99)))  # fmt: skip
    assert sorted([*train.rows, *val.rows]) == list(range(8)) and sorted(val.labels) == [0, 0, 1, 1]
    assert np.array_equal(other.rows, val.rows)
    assert [example.text_a for example in val.get_examples([3, 0])] == [REVIEWS[row][1] for row in val.rows[[3, 0]]]
    assert len(make_dataset("val", validation_size=0.25)) == 2
    assert len(make_dataset("test", validation_size=4)) == 8


def test_a_premise_and_all_its_hypotheses_stay_on_one_side(make_dataset, corpora_root):
    pairs = [
        {"premise": f"영화 {chr(0xAC00 + number)}", "hypothesis": text, "gold_label": label}
        for number in range(20)
        for text, label in (("배우", "entailment"), ("지루한", "contradiction"), ("정말", "neutral"))
    ]
    (corpora_root / "klue-nli").mkdir()
    (corpora_root / "klue-nli" / "klue_nli_train.json").write_text(json.dumps(pairs), encoding="utf-8")
    changes = {"corpus": KlueNLICorpus(), "downstream_corpus_name": "klue-nli", "validation_size": 0.25}
    train, val = (make_dataset(mode, **changes) for mode in ("train", "val"))
    assert (len(train), np.bincount(val.labels).tolist()) == (45, [5, 5, 5])
    sides = [{example.text_a for example in data.get_examples(range(len(data)))} for data in (train, val)]
    assert not sides[0] & sides[1]


def test_a_validation_file_of_ones_own_is_used_and_labels_are_counted_aloud(make_dataset, corpora_root, caplog):
    caplog.set_level("INFO", "nlpbook_helpers")
    folder = corpora_root / "mine"
    folder.mkdir()
    for mode, rows in (("train", 20), ("val", 3)):
        lines = [f"영화 {number},{number % 2 if mode == 'train' else 1}" for number in range(rows)]
        (folder / f"{mode}.csv").write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    changes = {"corpus": CsvCorpus(["text"], labels=None), "downstream_corpus_name": "mine", "validation_size": 0.25}
    assert [len(make_dataset(mode, **changes)) for mode in ("train", "val")] == [20, 3]
    assert "train: 20 examples; labels: 0 10, 1 10" in caplog.text
    assert "val: no example of label ['0']" in caplog.text
    (folder / "val.csv").unlink()
    assert [len(make_dataset(mode, **changes)) for mode in ("train", "val")] == [15, 5]


def test_texts_that_are_cut_are_counted_aloud(make_dataset, caplog):
    longer = "texts are longer than max_seq_length=%d tokens (half of those than 11, one has 11): only their beginning"
    for limit in (8, 8, 10):  # the second time from the cache
        caplog.clear()
        make_dataset(max_seq_length=limit)
        assert f"train: 1 of 8 {longer % limit}" in caplog.text
    caplog.clear()
    make_dataset(max_seq_length=11)  # it just fits
    make_dataset("test", max_seq_length=8)
    assert "max_seq_length" not in caplog.text


def test_how_long_a_pair_was_is_known(tokenizer):
    pairs = [("영화 배우", "정말", "0"), ("영화 " * 9, "배우 " * 9, "0")]
    assert encode(tokenizer, *pairs, length=10).whole_lengths.tolist() == [6, 21]


@pytest.mark.parametrize(
    ("mode", "changes", "message"),
    [
        ("val", {}, "mode='val' needs held-out rows, got validation_size=0: set validation_"),
        ("val", {"validation_size": 7}, "validation_size: cannot hold out 7 of 8 rows: expected at least 2 different"),
        ("val", {"validation_size": 0.99}, "validation_size: cannot hold out 0.99 of 8 rows: expected at least 2 diff"),
        ("dev", {}, "mode: expected 'train', 'val' or 'test', got 'dev'"),
    ],
)
def test_a_split_that_cannot_be_says_which_argument_to_set(make_dataset, mode, changes, message):
    with pytest.raises(ValueError, match=message):
        make_dataset(mode, **changes)


def test_a_corpus_class_written_as_in_the_book_works_and_is_never_read_from_a_stale_cache(make_dataset):
    class MyCorpus:
        num_labels = 2

        def get_examples(self, folder, mode):
            return [ClassificationExample("정말 재미", label="나쁨"), ClassificationExample("지루한", label="좋음")]

        def get_labels(self):
            return ["나쁨", "좋음"]

    class Own(NsmcCorpus):
        def iterate_examples(self, folder, mode, check_labels=True):
            yield from [ClassificationExample(self.text, None, "0"), ClassificationExample(self.text, None, "1")]

    assert [item["label"] for item in make_dataset(corpus=MyCorpus())] == [0, 1]
    items = []
    for text in ("영화", "이야기"):
        corpus = Own()
        corpus.text = text
        items.append(make_dataset(corpus=corpus)[0])
    assert items[0] != items[1]


def test_batches_hold_similar_lengths_within_the_budgets_of_tokens_and_padding():
    lengths = np.array([5, 128, 7, 6, 90, 5])
    batches = [batch.tolist() for batch in iterate_batches(lengths, 200)]
    assert sorted(sum(batches, [])) == list(range(6)) and batches[0] == [1]
    assert all(lengths[batch].max() * len(batch) <= 200 for batch in batches)
    lengths = np.random.default_rng(7).integers(3, 128, 500)
    batches = list(iterate_batches(lengths, 4_096, 64))
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    assert all((lengths[batch].max() - lengths[batch]).sum() <= 64 for batch in batches)
    sizes = {len(batch) for batch in batches}  # few, as each shape of a batch costs a CPU memory
    assert len(batches) < 150 and sizes <= {1, 2, 4, 8, 16, 32} and max(sizes) > 5
    assert [batch.tolist() for batch in iterate_batches(np.array([9, 1, 1]), 100, 0)] == [[0], [1, 2]]


def test_what_is_left_out_is_said_also_where_features_come_from_the_cache(make_args, corpora_root, tokenizer, caplog):
    path = corpora_root / "nsmc" / "ratings_train.txt"
    path.write_text(path.read_text(encoding="utf-8") + "9\t다른 이름\t7\n", encoding="utf-8")
    for _ in range(2):
        caplog.clear()
        ClassificationDataset(make_args(skip_bad_rows=True), NsmcCorpus(), tokenizer)
        assert caplog.text.count("ratings_train.txt: skipped 1 malformed rows") == 1
