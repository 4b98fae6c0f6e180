"""A checkpoint becomes a classifier, or one clear sentence."""

import copy
import inspect
import json
import pickle
import re
import socket
import threading
import time
import unicodedata
from typing import Any

import huggingface_hub
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from reviews import REVIEWS
from safetensors.torch import save_file
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    T5Config,
    T5ForSequenceClassification,
)

from nlpbook_helpers import CheckpointError, Classifier, NsmcCorpus, check_tokenizer, export, load_tokenizer
from nlpbook_helpers.classifier import make_answer_keys
from nlpbook_helpers.corpora import ClassificationExample

TEXTS = [text for _, text, _ in REVIEWS if text]
LABELS = ["부정 (negative)", "긍정 (positive)"]
NAN = float("nan")


@pytest.fixture
def make_classifier(make_model, tokenizer):
    """A function that makes a classifier of untrained weights."""

    def make(num_labels=2, labels=None, texts=1, model=None, **settings) -> Classifier:
        names = (("sentence",), ("premise", "hypothesis"))[texts - 1]
        model = model or make_model(num_labels=num_labels, initializer_range=0.3)
        return Classifier(model, tokenizer, labels or LABELS, names, **{"max_seq_length": 32, **settings})

    return make


def change(folder, key="nlpbook", **entries):
    """Write other entries into the checkpoint of a folder."""
    (path,) = folder.glob("*.ckpt")
    content = torch.load(path)
    content[key] |= entries
    torch.save(content, path)
    return path


def test_a_checkpoint_needs_nothing_but_itself(trained, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    classifier = Classifier.from_checkpoint(trained)
    answers = classifier.predict(TEXTS)
    assert answers.dtype == np.float32
    assert answers.argmax(axis=1).tolist() == [int(label) for _, text, label in REVIEWS if text]
    alone = np.concatenate([classifier.predict([text]) for text in TEXTS])
    assert answers == pytest.approx(alone, abs=0.01)  # whatever stands beside it
    assert (classifier.labels, classifier.max_seq_length, classifier.text_columns) == (LABELS, 32, ("document",))
    assert classifier.info["checkpoint"] == next(trained.glob("*.ckpt")).name
    assert (classifier.info["max_seq_length"], classifier.info["longer_texts"]) == (32, "windows")
    figures = {name: classifier.info[name] for name in ("accuracy", "tested_on", "trained_on")}
    assert figures == {"accuracy": 1, "tested_on": len(REVIEWS), "trained_on": len(REVIEWS)}
    arrived = pickle.loads(pickle.dumps(classifier))
    assert np.array_equal(arrived.predict(TEXTS), answers)
    assert arrived.scorer is arrived.model


def test_the_answer_has_the_books_fields(trained):
    answer = Classifier.from_checkpoint(trained).inference_fn("정말 재미있는 영화")
    names = ["sentence", "prediction", "positive_data", "negative_data", "positive_width", "negative_width"]
    assert list(answer) == [*names, "label", "probabilities"]
    p, q = (float(answer[f"{key}_data"].split()[1]) for key in ("positive", "negative"))
    assert answer["positive_width"] == f"{round(p * 100, 2)}%"
    assert answer["prediction"] == ("긍정 (positive)" if p >= 0.5 else "부정 (negative)")
    assert p + q == pytest.approx(1, abs=2e-4)
    assert answer["label"] == answer["prediction"]
    assert answer["probabilities"] == pytest.approx({"부정 (negative)": q, "긍정 (positive)": p}, abs=1e-4)


def test_widths_carry_no_float_noise(make_classifier, make_model):
    model = make_model()
    torch.nn.init.zeros_(model.classifier.weight)
    for p in (0.87, 0.9876, 0.29, 0.57):
        model.classifier.bias.data = torch.tensor([0.0, float(np.log(p / (1 - p)))])
        answer = make_classifier(model=model.float()).inference_fn("영화")
        assert re.fullmatch(r"\d+\.\d{1,2}%", answer["positive_width"])


def test_pairs_answer_with_three_labels_and_two_decimals(save_bare, encoder_dir):
    classifier = Classifier.from_checkpoint(save_bare(3), pretrained_model_name=encoder_dir)
    assert list(inspect.signature(classifier.inference_fn).parameters) == ["premise", "hypothesis"]
    answer = classifier.inference_fn("다시 보고 싶다", hypothesis="정말 좋았다")
    names = [f"{label}_{kind}" for kind in ("data", "width") for label in ("entailment", "contradiction", "neutral")]
    assert list(answer) == ["premise", "hypothesis", "prediction", *names, "label", "probabilities"]
    assert re.fullmatch(r"참 \d\.\d{1,2}", answer["entailment_data"])
    assert classifier.info["accuracy"] is None
    assert (classifier.info["max_seq_length"], classifier.info["longer_texts"]) == (128, "cut")
    assert classifier.encode([ClassificationExample("정말 " * 200, "영화")]).lengths.tolist() == [128]
    with pytest.raises(
        ValueError, match=r"texts\[0\]: expected something to read as premise and hypothesis, .* got \('비',\)"
    ):
        classifier.predict(["비"])


def test_the_web_service_is_answered_as_one_is(make_classifier):
    inference_fn: Any = make_classifier().inference_fn
    answers = inference_fn.batch_fn([{"sentence": text} for text in TEXTS])
    singles = [inference_fn(text) for text in TEXTS]
    assert [(list(one), one["sentence"]) for one in answers] == [(list(one), one["sentence"]) for one in singles]
    assert inference_fn.batch_fn([]) == []
    for text in ("", " \n\t", "\u200b", "\ufeff\u3164"):
        for call in (
            inference_fn,
            lambda text: inference_fn.explain_fn(sentence=text),
            lambda text: inference_fn.batch_fn([{"sentence": text}]),
        ):
            with pytest.raises(ValueError, match=r"texts\[0\]: expected something to read as sentence"):
                call(text)
    with pytest.raises(TypeError, match="missing a required argument: 'sentence'"):
        inference_fn.batch_fn([{"premise": "정말"}])


def test_a_text_in_pieces_is_the_same_text(make_classifier):
    classifier, apart = make_classifier(), [unicodedata.normalize("NFD", text) for text in TEXTS]
    assert np.array_equal(classifier.predict(apart), classifier.predict(TEXTS))
    assert classifier.inference_fn(apart[0]) == classifier.inference_fn(TEXTS[0])
    assert classifier.explain(apart[0])["tokens"] == classifier.explain(TEXTS[0])["tokens"]


def test_a_text_that_is_mostly_unknown_is_answered_with_that_remark(make_classifier):
    inference_fn: Any = make_classifier().inference_fn
    inputs = [{"sentence": text} for text in ("ㅋ" * 500, "정말 재미있는 영화 ㅋ", "龍 龍 龍 영화")]
    answers = inference_fn.batch_fn(inputs)
    assert [("remark" in answer) for answer in answers] == [True, False, True]
    assert answers[0]["remark"] == "글의 대부분이 이 모델이 모르는 글자여서, 이 답은 믿기 어렵습니다."


@pytest.mark.parametrize(
    ("labels", "keys"),
    [
        (["부정 (negative)", "긍정 (positive)"], [("부정", "negative"), ("긍정", "positive")]),
        (["긍정 (movie)", "부정 (movie)"], [("긍정", "긍정"), ("부정", "부정")]),
        (["긍정 (a)", "긍정 (b)"], [("긍정 (a)", "a"), ("긍정 (b)", "b")]),
        (["가 (a)", "가 (b)", "나 (a)"], [("가 (a)", "가 (a)"), ("가 (b)", "가 (b)"), ("나 (a)", "나 (a)")]),
        (["경제", "사회"], [("경제", "경제"), ("사회", "사회")]),
    ],
)
def test_no_label_vanishes_from_an_answer(labels, keys, make_classifier):
    assert make_answer_keys(labels) == keys
    answer = make_classifier(len(labels), labels).inference_fn("영화")
    assert {f"{key}_{kind}" for _, key in keys for kind in ("data", "width")} <= answer.keys()
    assert len(answer["probabilities"]) == len(labels)
    assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)


def test_texts_of_the_wrong_shape_are_named(make_classifier):
    classifier = make_classifier()
    for wrong in ("정말", {"a": "b"}, {"a"}, None):
        with pytest.raises(ValueError, match="texts: expected a list of texts, got (str|dict|set|NoneType)"):
            classifier.predict(wrong)  # type: ignore[arg-type]
    for wrong in (None, 3, NAN, ("a", "b"), "\ud800", "", " \n", "\u200b"):
        with pytest.raises(
            ValueError, match=r"texts\[1\]: expected something to read as sentence, in whole char.*, got"
        ):
            classifier.predict(["a", wrong])  # type: ignore[list-item]
    assert classifier.predict(pd.Series(["정말", "영화"])).shape == (2, 2)  # type: ignore[arg-type]
    assert classifier.predict([]).shape == (0, 2)


def test_a_table_comes_back_with_its_answers(trained):
    classifier = Classifier.from_checkpoint(trained)
    for column in ("document", "sentence"):  # as in training, or as the input is called
        frame = pd.DataFrame({column: TEXTS, "id": range(len(TEXTS))}, index=range(5, 5 + len(TEXTS)))
        answered = classifier.predict(frame)
        names = ["predicted_label", "predicted_name", "probability_negative", "probability_positive", "remark"]
        assert list(answered.columns) == [column, "id", *names]
        assert answered.index.equals(frame.index)
        assert answered[names[2:4]].to_numpy() == pytest.approx(classifier.predict(TEXTS))
        assert answered["predicted_name"].tolist() == [LABELS[best] for best in answered["predicted_label"]]
    with pytest.raises(
        ValueError, match=r"texts: expected columns \['document'\] or \['sentence'\], got \['text'\]: rename"
    ):
        classifier.predict(pd.DataFrame({"text": TEXTS}))
    with pytest.raises(ValueError, match=r"expected no columns \['predicted_label'\], which are added: rename them"):
        classifier.predict(pd.DataFrame({"sentence": ["정말"], "predicted_label": [7]}))
    for missing in (None, NAN, pd.NA, 3, " "):
        frame = pd.DataFrame({"sentence": ["정말", missing, missing]}, index=["a", "b", "c"])
        with pytest.raises(
            ValueError, match=r"in each row of column 'sentence', got .* in row 'b', of 2 such rows: fill"
        ):
            classifier.predict(frame)
    remarks = classifier.predict(pd.DataFrame({"sentence": ["정말", "龘龘 靐靐", "nan"]}))["remark"].tolist()
    # as in the file that `nlpbook predict` writes
    assert remarks == ["", "mostly unknown to the tokenizer", "words for a missing value (nan, NULL …)"]
    answered = classifier.predict(pa.table({"sentence": ["정말", "영화"]}))
    assert list(answered["predicted_name"]) == [classifier.labels[one] for one in answered["predicted_label"]]
    with pytest.raises(ValueError, match=r"texts\[0\]: expected something to read as sentence"):
        classifier.explain(None)
    assert list(classifier.predict(pd.DataFrame({"sentence": []}))["remark"]) == []


def test_a_classifier_is_shown_by_what_it_is(trained):
    classifier = Classifier.from_checkpoint(trained)
    assert repr(classifier).startswith(
        "Classifier(labels: 부정 (negative), 긍정 (positive); texts: sentence; model: tiny-bert;"
    )
    assert len(repr(classifier)) < 300
    classifier.info["model"] = "<script>"
    assert "&lt;script&gt;" in classifier._repr_html_()


@pytest.mark.parametrize(
    "examples",
    ["정말", [["정말"]] * 5, [["정말" * 101]], [[1]], ["정말"], [{"text": "정말"}]],
    ids=["no list", "too many", "too long", "no text", "no lists", "no lists but dicts"],
)
def test_examples_of_a_stranger_s_checkpoint_are_bounded(trained, examples):
    (path,) = trained.glob("*.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    assert all(len(texts) == 1 for texts in Classifier.from_checkpoint(path).examples)
    checkpoint["nlpbook"]["examples"] = examples
    torch.save(checkpoint, path)
    with pytest.raises(CheckpointError, match="expected nlpbook.examples.* as a training writes it, got"):
        Classifier.from_checkpoint(path)


def test_a_checkpoint_may_lack_counts_but_not_hold_what_is_none(trained):
    (path,) = trained.glob("*.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    for name in ("train_examples", "val_per_class"):  # as before they were recorded
        del checkpoint["nlpbook"][name]
    torch.save(checkpoint, path)
    info = Classifier.from_checkpoint(path).info
    assert (info["accuracy"], info["tested_on"], info["trained_on"]) == (1, 0, None)
    checkpoint["nlpbook"]["val_per_class"] = [[1.0, 1.0, 1.0, NAN]]
    torch.save(checkpoint, path)
    with pytest.raises(CheckpointError, match="expected nlpbook.val_per_class.* as a training writes it, got nan"):
        Classifier.from_checkpoint(path)


def test_long_texts_are_read_in_windows_and_short_ones_as_before(trained, caplog):
    windows, cut = (Classifier.from_checkpoint(trained, max_seq_length=16, stride=stride) for stride in (4, None))
    assert Classifier.from_checkpoint(trained, max_seq_length=16).stride == 4
    assert np.array_equal(windows.predict(["지루한 이야기"]), cut.predict(["지루한 이야기"]))
    # 40 words of one token each: 14 fit beside [CLS] and [SEP], and each window begins 10 after the last
    words = ["정말"] * 13 + ["지루한", "시간", "아까운"] * 9
    texts = [" ".join(words[start : start + 14]) for start in (0, 10, 20, 30)]
    expected = cut.predict(texts).mean(axis=0)
    assert windows.predict(["정말", " ".join(words)])[1] == pytest.approx(expected, abs=0.01)
    assert cut.predict([" ".join(words)])[0] == pytest.approx(cut.predict(texts[:1])[0], abs=1e-6)
    for wrong in (-1, 14, 200):
        with pytest.raises(ValueError, match=f"stride: expected 0 to 13 tokens for max_seq_length=16, got {wrong}"):
            Classifier.from_checkpoint(trained, max_seq_length=16, stride=wrong)
    for wrong in (-5, 0):
        with pytest.raises(ValueError, match=f"max_seq_length: expected at least 5 tokens, got {wrong}"):
            Classifier.from_checkpoint(trained, max_seq_length=wrong)
    assert Classifier.from_checkpoint(trained, max_seq_length=5).predict(["정말 지루한 " * 50]).shape == (1, 2)
    assert not caplog.messages
    assert Classifier.from_checkpoint(trained, max_seq_length=600).max_seq_length == 128
    assert "the encoder reads at most 128 tokens at once, got 600: reading 128" in caplog.text
    for wrong in ({"stride": 1.5}, {"stride": True}, {"max_seq_length": "64"}, {"max_seq_length": 12.5}):
        with pytest.raises(ValueError, match=r": expected a whole number of tokens, got "):
            Classifier.from_checkpoint(trained, **wrong)


def test_a_bare_checkpoint_asks_for_its_encoder(save_bare, encoder_dir):
    with pytest.raises(CheckpointError, match="holds weights only.*pass pretrained_model_name"):
        Classifier.from_checkpoint(save_bare())
    classifier = Classifier.from_checkpoint(save_bare(), pretrained_model_name=encoder_dir)
    assert classifier.labels == NsmcCorpus().label_names
    assert classifier.info["model"] == "tiny-bert"


def test_an_empty_or_missing_folder_says_what_to_do(tmp_path, trained):
    with pytest.raises(CheckpointError, match="no checkpoint .* found in .*run the training notebook first"):
        Classifier.from_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="nowhere, which is not there"):
        Classifier.from_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="was trained from tiny-bert, got pretrained_model_name='other/bert'"):
        Classifier.from_checkpoint(next(trained.glob("*.ckpt")), pretrained_model_name="other/bert")


def test_weights_that_do_not_fit_are_named(save_bare, tmp_path, make_model, tokenizer):
    make_model(hidden_size=16).bert.save_pretrained(tmp_path / "small")
    tokenizer.save_pretrained(tmp_path / "small")
    with pytest.raises(
        CheckpointError,
        match=r"bare\.ckpt .*size mismatch.*the encoder that it was trained from, if that is not .*small, or",
    ):
        Classifier.from_checkpoint(save_bare(), pretrained_model_name=str(tmp_path / "small"))
    torch.save({"state_dict": make_model().bert.state_dict()}, tmp_path / "encoder.ckpt")
    with pytest.raises(CheckpointError, match=r"does not make a classifier .*Missing key.*or copy, export or train it"):
        Classifier.from_checkpoint(tmp_path / "encoder.ckpt", pretrained_model_name=str(tmp_path / "small"))


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"label_names": ["하나"]}, "expected 2 label names to read, one per output, found"),
        ({"label_names": ["하나", "하나"]}, "expected 2 label names to read, one per output, found"),
        ({"label_names": ["하나", "하나 "]}, "expected 2 label names to read, one per output, found"),
        ({"labels": ["0"], "label_names": ["하나", "둘"]}, r"found .* of labels \['0'\]"),
        ({"label_names": ["하나", " "]}, "expected 2 label names to read, one per output, found"),
        ({"label_names": ["\u200b", "둘"]}, "expected 2 label names to read, one per output, found"),
        ({"text_columns": ["a", "b", "c"]}, "expected one text_column or two"),
        ({"config": "{}"}, "does not make a classifier"),
        ({"config": "no json"}, "does not make a classifier"),
        ({"config": '["bert"]'}, "does not make a classifier"),
        ({"config": '{"model_type": "bert", "num_hidden_layers": 1000000000}'}, "num_hidden_layers of at most 1,000"),
        ({"config": '{"model_type": "bert", "vocab_size": 1000000000000}'}, "vocab_size of at most"),
        ({"config": '{"model_type": "bert", "vocab_size": 100000000}'}, "numbers of BertForSequenceCl"),
        ({"config": '{"model_type": "bert", "num_labels": 1000000000}'}, "num_labels of at most"),
        ({"config": '{"model_type": "bert", "num_attention_heads": 0}'}, "does not make a classifier"),
        ({"config": '{"model_type": "bert", "num_hidden_layers": 999}'}, "got over 3,000 parts"),
        ({"config": '{"model_type": "funnel", "block_sizes": [1000000, 1000000]}'}, "got over 3,000 parts"),
        ({"config": '{"model_type": "bert", "x": {"y": [{"num_layers": 1000000000}]}}'}, "num_layers of at most 1,000"),
        ({"config": '{"model_type": "convbert"}'}, "expected the .* numbers of ConvBertForSequenceCl"),
        ({"text_columns": ["a"] * 10**5}, "expected one text_column or two"),
        ({"tokenizer_files": {"tokenizer.json": torch.zeros(9, dtype=torch.uint8)}}, "does not make a classifier"),
        ({"tokenizer_files": {}}, "does not make a classifier"),
        ({"max_seq_length": -3}, "max_seq_length: expected at least 5 tokens, got -3"),
    ],
)  # fmt: skip
def test_metadata_made_by_hand_or_by_an_enemy_ends_in_a_sentence(entries, sentence, trained):
    change(trained, **entries)
    resource = pytest.importorskip("resource")
    begin, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=sentence) as caught:
        Classifier.from_checkpoint(trained)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    # of the processor, since others may be at work here; in KiB, and macOS counts bytes
    assert time.process_time() - begin < 2 and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_a_model_of_more_labels_than_there_can_be_takes_no_memory(trained):
    change(trained, "state_dict", **{"model.classifier.bias": torch.zeros(10_000_000)})
    with pytest.raises(CheckpointError, match="size mismatch for classifier.bias"):
        Classifier.from_checkpoint(trained)


def test_file_names_inside_a_checkpoint_cannot_leave_their_folder(trained, tmp_path):
    (path,) = trained.glob("*.ckpt")
    files = torch.load(path)["nlpbook"]["tokenizer_files"]
    change(trained, tokenizer_files={**files, "../../escaped.json": torch.zeros(3, dtype=torch.uint8)})
    Classifier.from_checkpoint(trained)
    assert not list(tmp_path.parent.rglob("escaped.json"))


def test_weights_that_are_no_numbers_are_not_served(trained):
    path = change(trained, "state_dict", **{"model.classifier.bias": torch.tensor([0.0, NAN])})
    for checkpoint in (trained, path):
        with pytest.raises(CheckpointError, match=r"are not numbers \(nan\)"):
            Classifier.from_checkpoint(checkpoint)
    signs = torch.tensor([1.0, -1.0] * 16)
    weights = {"model.bert.pooler.dense.bias": 1e30 * signs, "model.classifier.bias": torch.zeros(2)}
    weights |= {"model.classifier.weight": 2e37 * torch.stack([signs, -signs])}  # numbers; a product of 32 is none
    with pytest.raises(CheckpointError, match=r"the model's answer is not a number \(nan\): choose another"):
        Classifier.from_checkpoint(change(trained, "state_dict", **weights)).predict(["영화"])


def test_a_hugging_face_folder_is_a_classifier(tmp_path, make_model, tokenizer, encoder_dir):
    model = make_model(id2label={0: "나쁨 (bad)", 1: "좋음 (good)"}, label2id={"나쁨 (bad)": 0, "좋음 (good)": 1})
    folder = tmp_path / "hf"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert "good_data" in Classifier.from_checkpoint(folder).inference_fn("정말 재미있는 영화")
    with pytest.raises(CheckpointError, match=r"expected a …ForSequenceClassification, got \['BertModel'\]: fine"):
        Classifier.from_checkpoint(encoder_dir)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1_000])
    with pytest.raises(CheckpointError, match="hf does not make a classifier"):
        Classifier.from_checkpoint(folder)
    settings = json.loads((folder / "config.json").read_text()) | {"vocab_size": 100_000_000}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="hf: expected the .* numbers of BertForSequenceClassification, got"):
        Classifier.from_checkpoint(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="hf does not make a classifier"):
        Classifier.from_checkpoint(folder)


@pytest.mark.parametrize(
    ("names", "inputs"),
    [
        (["경제", "스포츠", "과학"], ("sentence",)),
        (["스포츠", "entailment 아님", "과학"], ("sentence",)),
        (["entailment", "contradiction", "neutral"], ("premise", "hypothesis")),
        (["LABEL_0", "LABEL_1", "LABEL_2"], ("premise", "hypothesis")),  # bare, as the book's
    ],
)
def test_a_folder_of_three_labels_takes_a_pair_only_if_they_are_of_pairs(
    names, inputs, make_model, tokenizer, tmp_path
):
    model = make_model(num_labels=3)
    model.config.id2label = dict(enumerate(names))
    model.save_pretrained(tmp_path / "three")
    tokenizer.save_pretrained(tmp_path / "three")
    assert Classifier.from_checkpoint(tmp_path / "three").input_names == inputs


def test_a_folder_without_its_tokenizer_is_refused(make_model, tmp_path):
    make_model(num_labels=2).save_pretrained(tmp_path / "bare")
    with pytest.raises(CheckpointError, match="bare: expected the files of a tokenizer beside the model's, found none"):
        Classifier.from_checkpoint(tmp_path / "bare")


def test_what_is_no_encoder_is_refused_by_its_name(tmp_path, tokenizer):
    gpt = GPT2ForSequenceClassification(GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=1))
    t5 = T5ForSequenceClassification(
        T5Config(vocab_size=len(tokenizer), d_model=8, num_layers=1, num_heads=1, d_kv=8, d_ff=8)
    )
    for model in (gpt, t5):
        folder = tmp_path / type(model).__name__
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        torch.save(
            {"state_dict": {f"model.{k}": v for k, v in model.state_dict().items()}}, folder.with_suffix(".ckpt")
        )
        for arguments in ((folder,), (folder.with_suffix(".ckpt"), str(folder))):
            with pytest.raises(CheckpointError, match=f"expected an encoder .* got {folder.name}: decoders"):
                Classifier.from_checkpoint(*arguments)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (
            {"num_labels": 1, "problem_type": "regression"},
            "got regression with num_labels=1: use transformers' pipeline",
        ),
        ({"num_labels": 1}, "got single_label_classification with num_labels=1"),
        ({"problem_type": "multi_label_classification"}, "got multi_label_classification with num_labels=2"),
        (
            {"architectures": ["BertForTokenClassification"]},
            r"expected a …ForSequenceClassification, got \['BertForTok",
        ),
    ],
)
def test_what_picks_no_label_is_no_classifier(changes, found, make_model, tokenizer, tmp_path):
    model = make_model(**{name: value for name, value in changes.items() if name != "architectures"})
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=found):
        Classifier.from_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({"id2label": None, "label2id": {"neg": 1, "pos": 0}}, ["pos", "neg"]),
        ({"id2label": {"0": 5, "1": 7}, "label2id": None}, ["5", "7"]),
        ({"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 1, "b": 0}}, None),
        ({"id2label": {"1": "a", "2": "b"}, "label2id": None}, None),
        ({"id2label": {"0": None, "1": {}}, "label2id": None}, None),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": None}, None),
        ({"num_hidden_layers": 1}, None),
    ],
)
def test_a_configuration_that_contradicts_itself_or_its_weights_is_refused(
    changes, labels, make_model, tokenizer, tmp_path
):
    for part in (make_model(num_hidden_layers=2), tokenizer):
        part.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps({key: one for key, one in settings.items() if one is not None}))
    if labels:
        assert Classifier.from_checkpoint(tmp_path).labels == labels
    else:
        with pytest.raises(
            CheckpointError, match="expected id2label to name the|expected the weights that config.json"
        ):
            Classifier.from_checkpoint(tmp_path)


def test_names_that_are_assumed_are_said(make_model, tokenizer, tmp_path, caplog):
    for part in (make_model(), tokenizer):
        part.save_pretrained(tmp_path)
    assert Classifier.from_checkpoint(tmp_path).labels == ["부정 (negative)", "긍정 (positive)"]
    assert "names no labels: taken to be 부정 (negative), 긍정 (positive)" in caplog.text


def test_a_shipped_name_is_offered_and_renamed_weights_are_known(make_model, tmp_path):
    with pytest.raises(CheckpointError, match="doccl, which is not there: .*or name a shipped one, as doccls"):
        Classifier.from_checkpoint("doccl")
    make_model().save_pretrained(tmp_path)
    renamed = (tmp_path / "model.safetensors").rename(tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match="got safetensors as model.ckpt: name it model.safetensors, beside"):
        Classifier.from_checkpoint(renamed)


def test_a_tokenizer_without_its_settings_is_refused(tmp_path):
    folder = export("doccls", tmp_path / "copy")
    settings = folder / "tokenizer_config.json"
    changed = json.loads(settings.read_text(encoding="utf-8")) | {"model_max_length": "x"}
    settings.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(ValueError, match="model_max_length: expected a number, got 'x'"):
        Classifier.from_checkpoint(folder)
    settings.unlink()
    with pytest.raises(ValueError, match="words of its own, .*, are unknown: is its tokenizer_config.json there"):
        Classifier.from_checkpoint(folder)


@pytest.mark.parametrize("prefix", ["", "model.", "module.model.", "net.", "model._orig_mod.", "_orig_mod.model."])
def test_weights_are_known_whatever_a_task_called_its_model(prefix, make_model, encoder_dir, tmp_path):
    model = make_model()
    torch.save({"state_dict": {prefix + name: one for name, one in model.state_dict().items()}}, tmp_path / "a.ckpt")
    weights = Classifier.from_checkpoint(tmp_path / "a.ckpt", encoder_dir).model.state_dict()
    assert weights.keys() == model.state_dict().keys()


def test_complex_weights_are_refused(make_model, tokenizer, tmp_path):
    model = make_model()
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path)
    weights = model.state_dict() | {"classifier.weight": model.classifier.weight.data.to(torch.complex64)}
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"expected real .* complex ones in classifier\.weight"):
        Classifier.from_checkpoint(tmp_path)


def test_added_tokens_without_embeddings_are_said_to_be_so(make_model, tokenizer):
    longer = copy.deepcopy(tokenizer)
    longer.add_tokens(["새말"])
    with pytest.raises(ValueError, match=r"tokens were added to it: model\.resize_token_embeddings"):
        check_tokenizer(make_model(), longer)


def test_a_tokenizer_of_another_encoder_is_refused(make_model, tokenizer, tmp_path):
    model = make_model(vocab_size=30_000)
    model.save_pretrained(tmp_path / "mixed")
    tokenizer.save_pretrained(tmp_path / "mixed")
    with pytest.raises(ValueError, match="expected a tokenizer that belongs to the model"):
        Classifier.from_checkpoint(tmp_path / "mixed")


def test_a_name_that_cannot_be_an_encoder_is_refused_at_once(trained, save_bare, tmp_path, monkeypatch):
    (path,) = trained.glob("*.ckpt")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    for name, sentence in (
        (path, "which has no config.json: of a checkpoint, nlpbook.export makes"),
        (trained, "which has no config.json"),
        (tmp_path / "nowhere", "where there is nothing: correct the path"),
        ("./nowhere", "where there is nothing: correct the path"),
        ("beomi/kcbert-bsae", "was never downloaded and which the Hub does not give .*: correct the name, connect"),
    ):
        with pytest.raises(
            CheckpointError, match=f"pretrained_model_name: expected .* encoder's folder, got .*{sentence}"
        ):
            load_tokenizer(name)
        with pytest.raises(CheckpointError, match=sentence):
            Classifier.from_checkpoint(save_bare(), str(name))


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "does not give .Server error '500 Oops'"),
        (b"", "does not give .Server disconnected"),
        (None, r"does not give \(timed out\): correct the name, connect"),
    ],
)
def test_a_hub_that_answers_not_or_wrongly_is_waited_for_a_moment(monkeypatch, answer, sentence):
    monkeypatch.setattr("nlpbook_helpers.encoders.PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"http://127.0.0.1:{server.getsockname()[1]}/{{repo_id}}/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", place)

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.recv(9_999)
                if answer is None:
                    connection.recv(9_999)  # until who asks has gone
                else:
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(CheckpointError, match=sentence):
            load_tokenizer("beomi/kcbert-slow")


@pytest.mark.parametrize("content", ["{}", "[]", "no json", '{"test_accuracy": "high", "test_examples": 1}'])
def test_the_accuracy_comes_from_the_figures_beside_a_checkpoint(trained, content):
    figures = '{"test_corpus": "NSMC test", "test_accuracy": 0.8837, "test_examples": 50000, "train_examples": 9}'
    (trained / "figures.json").write_text(figures, encoding="utf-8")
    info = Classifier.from_checkpoint(trained).info
    assert (info["accuracy"], info["tested_on"], info["trained_on"]) == (0.8837, 50_000, 9)
    (trained / "figures.json").write_text(content, encoding="utf-8")
    assert Classifier.from_checkpoint(trained).info["accuracy"] == 1
