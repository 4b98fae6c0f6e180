"""A checkpoint becomes a classifier, or one clear sentence."""

import inspect
import json
import pickle
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from test_training import fit
from transformers import AutoConfig, AutoTokenizer

from nlpbook_helpers.arguments import get_embedded_path
from nlpbook_helpers.checkpoints import CheckpointError
from nlpbook_helpers.classifier import Classifier
from nlpbook_helpers.corpora import ClassificationExample, NsmcCorpus, get_short_names
from nlpbook_helpers.evaluation import (
    evaluate,
    find_worst_mistakes,
    plot_confusion_matrix,
    plot_learning_curve,
)
from nlpbook_helpers.features import ClassificationDataset, check_tokenizer, predict_probabilities


@pytest.fixture
def trained(make_args, tokenizer, make_model):
    """A task trained for an epoch; its checkpoint lies in args.downstream_model_dir."""
    return fit(make_args(), tokenizer, make_model())


def save_bare(path, num_labels, make_model):
    """Write a checkpoint as the book's helper did: weights and nothing else."""
    model = make_model(num_labels=num_labels)
    torch.save({"state_dict": {f"model.{name}": tensor for name, tensor in model.state_dict().items()}}, path)
    return model


def test_a_checkpoint_needs_nothing_but_itself(trained, tmp_path, monkeypatch, tokenizer):
    task, _ = trained
    (tmp_path / "tiny-bert").rename(tmp_path / "gone")
    monkeypatch.chdir("/")
    classifier = Classifier.from_checkpoint(tmp_path / "models")
    texts = ["정말 재미있는 영화", "지루한 이야기"]
    with torch.no_grad():
        logits = task.model.eval()(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    assert classifier.predict(texts) == pytest.approx(logits.softmax(-1).numpy(), abs=0.01)
    assert classifier.predict(texts).dtype == np.float32
    assert classifier.labels == ["부정 (negative)", "긍정 (positive)"]
    assert classifier.max_seq_length == 32


def test_the_order_of_predictions_is_that_of_the_texts(trained, tmp_path):
    classifier = Classifier.from_checkpoint(tmp_path / "models")
    texts = ["영화 " * (n % 13) + "이야기" for n in range(50)]
    alone = np.concatenate([classifier.predict([text]) for text in texts])
    assert classifier.predict(texts) == pytest.approx(alone, abs=0.01)


def test_the_answer_has_the_books_fields(trained, tmp_path):
    answer = Classifier.from_checkpoint(tmp_path / "models").inference_fn("정말 재미있는 영화")
    assert list(answer) == [
        "sentence",
        "prediction",
        "positive_data",
        "negative_data",
        "positive_width",
        "negative_width",
    ]
    p = float(answer["positive_data"].removeprefix("긍정 "))
    assert answer["positive_width"] == f"{round(p * 100, 2)}%"
    assert answer["prediction"] == ("긍정 (positive)" if p >= 0.5 else "부정 (negative)")
    assert p + float(answer["negative_data"].removeprefix("부정 ")) == pytest.approx(1, abs=2e-4)


def test_pairs_answer_with_three_labels_and_two_decimals(tmp_path, make_model, encoder_dir):
    save_bare(tmp_path / "bare.ckpt", 3, make_model)
    classifier = Classifier.from_checkpoint(tmp_path / "bare.ckpt", pretrained_model_name=encoder_dir)
    assert list(inspect.signature(classifier.inference_fn).parameters) == ["premise", "hypothesis"]
    answer = classifier.inference_fn("다시 보고 싶다", hypothesis="정말 좋았다")
    assert set(answer) == {"premise", "hypothesis", "prediction"} | {
        f"{label}_{kind}" for label in ("entailment", "contradiction", "neutral") for kind in ("data", "width")
    }
    assert answer["entailment_data"].startswith("참 0.")
    assert len(answer["entailment_data"]) <= len("참 0.87")


def test_documents_and_pairs_are_not_mistaken_for_each_other(trained, tmp_path, make_model, encoder_dir):
    documents = Classifier.from_checkpoint(tmp_path / "models")
    save_bare(tmp_path / "bare.ckpt", 3, make_model)
    pairs = Classifier.from_checkpoint(tmp_path / "bare.ckpt", pretrained_model_name=encoder_dir)
    with pytest.raises(ValueError, match=r"texts\[0\]: expected 1 text \(sentence\), got \('비', '눈'\)"):
        documents.predict([("비", "눈")])
    with pytest.raises(ValueError, match=r"texts\[0\]: expected 2 texts \(premise, hypothesis\), got \('비',\)"):
        pairs.predict(["비"])
    with pytest.raises(ValueError, match="hypothesis: 내용이 있는 문장을"):
        pairs.inference_fn("비가 온다", " ")


def test_widths_carry_no_float_noise(trained, tmp_path, monkeypatch):
    classifier = Classifier.from_checkpoint(tmp_path / "models")
    for p in (0.87, 0.9876, 0.29, 1.0, 0.57):
        monkeypatch.setattr(classifier, "predict", lambda texts, p=p: np.array([[1 - p, p]], np.float32))
        assert classifier.inference_fn("영화")["positive_width"] == f"{round(p * 100, 2)}%"


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_an_empty_sentence_is_refused(trained, tmp_path, text):
    with pytest.raises(ValueError, match="sentence: 내용이 있는 문장을 기대했지만 비어 있습니다"):
        Classifier.from_checkpoint(tmp_path / "models").inference_fn(text)


def test_texts_of_the_wrong_shape_are_named(trained, tmp_path):
    classifier = Classifier.from_checkpoint(tmp_path / "models")
    for wrong in ("정말", {"a": "b"}, {"a"}, None, pd.DataFrame({"text": ["a"]})):
        with pytest.raises(ValueError, match="texts: expected a list of texts, got (str|dict|set|NoneType|DataFrame)"):
            classifier.predict(wrong)  # type: ignore[arg-type]
    for wrong in (None, 3, float("nan")):
        with pytest.raises(ValueError, match=r"texts\[0\]: expected 1 text \(sentence\), got"):
            classifier.predict([wrong])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"texts\[1\]: expected whole characters, got half a surrogate pair"):
        classifier.predict(["정말", "\ud800"])
    with pytest.raises(ValueError, match="max_seq_length: expected at least 5 tokens, got -5"):
        Classifier.from_checkpoint(tmp_path / "models", max_seq_length=-5)
    assert classifier.predict(pd.Series(["정말", "영화"])).shape == (2, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"texts\[1\]: expected 1 text \(sentence\), got \('a', 'b'\)"):
        classifier.predict(["a", ("a", "b")])  # type: ignore[list-item]
    assert classifier.predict([]).shape == (0, 2)


def test_a_bare_checkpoint_asks_for_its_encoder(tmp_path, make_model, encoder_dir):
    model = save_bare(tmp_path / "bare.ckpt", 2, make_model)
    with pytest.raises(CheckpointError, match="holds weights only.*pass pretrained_model_name"):
        Classifier.from_checkpoint(tmp_path / "bare.ckpt")
    classifier = Classifier.from_checkpoint(tmp_path / "bare.ckpt", pretrained_model_name=encoder_dir)
    assert classifier.labels == NsmcCorpus().label_names
    assert torch.allclose(classifier.model.classifier.bias.float(), model.classifier.bias, atol=0.01)


def test_another_encoder_is_refused_by_name(trained, tmp_path):
    file = next((tmp_path / "models").glob("*.ckpt"))
    with pytest.raises(CheckpointError, match="was trained from tiny-bert, got pretrained_model_name='other/bert'"):
        Classifier.from_checkpoint(file, pretrained_model_name="other/bert")


def test_weights_that_do_not_fit_are_named(tmp_path, make_model, tokenizer):
    save_bare(tmp_path / "bare.ckpt", 2, make_model)
    make_model(hidden_size=16).bert.save_pretrained(tmp_path / "small")
    tokenizer.save_pretrained(tmp_path / "small")
    with pytest.raises(CheckpointError, match="do not fit the encoder .*size mismatch.*pass the pretrained_model_name"):
        Classifier.from_checkpoint(tmp_path / "bare.ckpt", pretrained_model_name=str(tmp_path / "small"))
    torch.save({"state_dict": make_model().bert.state_dict()}, tmp_path / "encoder.ckpt")
    with pytest.raises(CheckpointError, match=r"found no classifier\.bias: it is a bare encoder"):
        Classifier.from_checkpoint(tmp_path / "encoder.ckpt", pretrained_model_name=str(tmp_path / "small"))


def test_label_names_that_do_not_fit_are_named(trained, tmp_path):
    file = next((tmp_path / "models").glob("*.ckpt"))
    checkpoint = torch.load(file)
    checkpoint["nlpbook"]["label_names"] = ["하나"]
    torch.save(checkpoint, file)
    with pytest.raises(CheckpointError, match="expected 2 label names, one per output, found"):
        Classifier.from_checkpoint(file)


def test_file_names_inside_a_checkpoint_cannot_leave_their_folder(trained, tmp_path):
    file = next((tmp_path / "models").glob("*.ckpt"))
    checkpoint = torch.load(file)
    checkpoint["nlpbook"]["tokenizer_files"]["../../escaped.json"] = torch.zeros(3, dtype=torch.uint8)
    torch.save(checkpoint, file)
    Classifier.from_checkpoint(file)
    assert not list(tmp_path.parent.rglob("escaped.json"))


def test_a_hugging_face_folder_is_a_classifier(tmp_path, make_model, tokenizer, encoder_dir):
    model = make_model(id2label={0: "나쁨 (bad)", 1: "좋음 (good)"}, label2id={"나쁨 (bad)": 0, "좋음 (good)": 1})
    model.save_pretrained(tmp_path / "hf")
    tokenizer.save_pretrained(tmp_path / "hf")
    classifier = Classifier.from_checkpoint(tmp_path / "hf")
    assert "good_data" in classifier.inference_fn("정말 재미있는 영화")
    with pytest.raises(CheckpointError, match=r"found no \['classifier.bias', 'classifier.weight'\]: it is a bare enc"):
        Classifier.from_checkpoint(encoder_dir)
    (tmp_path / "hf" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="hf is not a classifier in Hugging Face layout"):
        Classifier.from_checkpoint(tmp_path / "hf")


def test_an_empty_or_missing_folder_says_what_to_do(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint .* found in .*run the training notebook first"):
        Classifier.from_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="which is not there"):
        Classifier.from_checkpoint(tmp_path / "nowhere")


def test_evaluation_agrees_with_scikit_learn_and_shows_the_worst(trained, make_args, tokenizer, tmp_path):
    task, trainer = trained
    dataset = ClassificationDataset(make_args(validation_size=4), NsmcCorpus(), tokenizer, "val")
    report = evaluate(task.model, dataset)
    predicted = report.probabilities.argmax(1)
    assert report.accuracy == pytest.approx((predicted == dataset.labels).mean())
    assert report.confusion.sum() == 4
    assert report.probabilities.sum(1) == pytest.approx(np.ones(4))
    assert list(report.per_class.index) == ["부정 (negative)", "긍정 (positive)"]
    assert "accuracy" in str(report)
    mistakes = find_worst_mistakes(report)
    assert len(mistakes) == (predicted != dataset.labels).sum()
    assert (mistakes["label"] != mistakes["prediction"]).all()
    assert mistakes["probability"].is_monotonic_decreasing
    for name, figure in (("curve", plot_learning_curve(trainer)), ("confusion", plot_confusion_matrix(report))):
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000


def test_without_a_korean_font_the_labels_are_english(trained, make_args, tokenizer, monkeypatch):
    from nlpbook_helpers import evaluation

    report = evaluate(trained[0].model, ClassificationDataset(make_args(), NsmcCorpus(), tokenizer, "test"))
    monkeypatch.setattr(evaluation, "_find_korean_font", lambda: None)
    labels = [text.get_text() for text in plot_confusion_matrix(report).axes[0].get_xticklabels()]
    assert labels == ["negative", "positive"]


def test_scoring_leaves_a_model_in_the_mode_it_was_in(trained, make_args, tokenizer):
    dataset = ClassificationDataset(make_args(), NsmcCorpus(), tokenizer, "test")
    model = trained[0].model.train()
    once = predict_probabilities(model, dataset.features)
    assert model.training
    assert np.array_equal(once, predict_probabilities(model, dataset.features))  # dropout is off while scoring


def test_label_names_split_into_both_languages():
    assert get_short_names("긍정 (positive)") == ("긍정", "positive")
    assert get_short_names("경제") == ("경제", "경제")


def test_the_configuration_in_a_checkpoint_is_plain_json(trained, tmp_path):
    checkpoint = torch.load(next((tmp_path / "models").glob("*.ckpt")))
    assert json.loads(checkpoint["nlpbook"]["config"])["model_type"] == "bert"


def test_the_inference_function_carries_what_a_web_service_asks_for(trained, tmp_path):
    inference_fn: Any = Classifier.from_checkpoint(tmp_path / "models").inference_fn
    texts = ["정말 재미있는 영화", "지루한 이야기", "다시 보고 싶다"]
    answers = inference_fn.batch_fn([{"sentence": text} for text in texts])
    for text, answer in zip(texts, answers, strict=True):
        single = inference_fn(text)
        assert list(answer) == list(single)
        assert answer["sentence"] == text
        assert answer["prediction"] == single["prediction"]
        p, q = (float(one["positive_data"].removeprefix("긍정 ")) for one in (answer, single))
        assert p == pytest.approx(q, abs=0.01)  # bfloat16 rounds otherwise when rows are padded
    assert inference_fn.batch_fn([]) == []
    with pytest.raises(ValueError, match="sentence: 내용이 있는 문장을"):
        inference_fn.batch_fn([{"sentence": "정말"}, {"sentence": " "}])
    with pytest.raises(TypeError, match="missing a required argument: 'sentence'"):
        inference_fn.batch_fn([{"premise": "정말"}])
    info = inference_fn.info
    assert info["model"] == "tiny-bert"
    assert info["checkpoint"] == next((tmp_path / "models").glob("*.ckpt")).name
    assert re.fullmatch(r"nsmc 검증 손실 \d\.\d\d", info["score"])
    assert info["limits"] == "한 번에 32토큰까지 읽고, 더 긴 글은 창으로 나누어 평균합니다"


@pytest.mark.parametrize("content", ["{}", "[]", "no json", '{"test_accuracy": "high", "test_examples": 1}'])
def test_the_score_comes_from_the_figures_beside_a_checkpoint(trained, tmp_path, content):
    figures = tmp_path / "models" / "figures.json"
    figures.write_text(
        '{"test_corpus": "NSMC test", "test_accuracy": 0.8837, "test_examples": 50000}', encoding="utf-8"
    )
    assert Classifier.from_checkpoint(tmp_path / "models").info["score"] == "NSMC test 정확도 88.4 % (50,000건)"
    figures.write_text(content, encoding="utf-8")
    assert Classifier.from_checkpoint(tmp_path / "models").info["score"].startswith("nsmc 검증 손실")


def test_a_bare_checkpoint_has_no_score(tmp_path, make_model, encoder_dir):
    save_bare(tmp_path / "bare.ckpt", 3, make_model)
    info = Classifier.from_checkpoint(tmp_path / "bare.ckpt", pretrained_model_name=encoder_dir).info
    assert info == {
        "model": "tiny-bert", "checkpoint": "bare.ckpt",
        "limits": "한 번에 128토큰까지 읽고, 더 긴 글은 뒤를 자릅니다",
    }  # fmt: skip


def test_long_texts_are_read_in_windows_and_short_ones_as_before(trained, tmp_path):
    windows = Classifier.from_checkpoint(tmp_path / "models", max_seq_length=16, stride=4)
    cut = Classifier.from_checkpoint(tmp_path / "models", max_seq_length=16, stride=None)
    assert Classifier.from_checkpoint(tmp_path / "models", max_seq_length=16).stride == 4
    short = ["정말 재미있는 영화", "지루한 이야기", "다시 보고 싶다"]
    assert np.array_equal(windows.predict(short), cut.predict(short))
    # 40 words of one token each: 14 fit beside [CLS] and [SEP], and each window begins 10 after the last
    words = ["정말"] * 13 + ["지루한", "시간", "아까운"] * 9
    texts = [" ".join(words[start : start + 14]) for start in (0, 10, 20, 30)]
    long_text = " ".join(words)
    expected = np.concatenate([cut.predict([text]) for text in texts]).mean(axis=0)
    assert windows.predict([long_text])[0] == pytest.approx(expected, abs=0.01)
    assert cut.predict([long_text])[0] == pytest.approx(cut.predict([texts[0]])[0], abs=1e-6)
    mixed = windows.predict([short[0], long_text, short[1]])
    assert mixed == pytest.approx(
        np.concatenate([windows.predict([t]) for t in (short[0], long_text, short[1])]), abs=0.01
    )
    answer = windows.inference_fn(long_text)
    assert float(answer["positive_data"].removeprefix("긍정 ")) == pytest.approx(expected[1], abs=0.01)


def test_a_stride_that_leaves_no_window_is_refused(trained, tmp_path):
    for wrong in (-1, 14, 200):
        with pytest.raises(ValueError, match=f"stride: expected 0 to 13 tokens for max_seq_length=16, got {wrong}"):
            Classifier.from_checkpoint(tmp_path / "models", max_seq_length=16, stride=wrong)
    for length in (5, 6, 7):  # the smallest windows still move on
        classifier = Classifier.from_checkpoint(tmp_path / "models", max_seq_length=length)
        assert classifier.predict(["정말 지루한 영화 " * 50]).sum() == pytest.approx(1, abs=1e-3)


def test_pairs_are_cut_longest_first_whatever_the_stride(tmp_path, make_model, encoder_dir):
    save_bare(tmp_path / "bare.ckpt", 3, make_model)
    pairs = Classifier.from_checkpoint(tmp_path / "bare.ckpt", encoder_dir, max_seq_length=16, stride=4)
    assert pairs.stride is None
    features = pairs.encode([ClassificationExample("정말 " * 40, "영화 이야기")])
    assert features.lengths.tolist() == [16]


def test_a_tokenizer_of_another_encoder_is_refused(make_model, tokenizer, tmp_path):
    rows = len(tokenizer)
    for spare in (0, 1, 7, 127, 1_024):  # rounded up, or kept free
        check_tokenizer(make_model(vocab_size=rows + spare), tokenizer)
    for other in (rows - 1, rows + 1_025, 30_000):
        with pytest.raises(
            ValueError, match=f"got {rows} token ids for {other:,} embeddings: load model .* the same na"
        ):
            check_tokenizer(make_model(vocab_size=other).config, tokenizer)
    with pytest.raises(ValueError, match="whose pad_token_id is 1, got one whose pad_token_id is 0: load model"):
        check_tokenizer(make_model(pad_token_id=1), tokenizer)
    with pytest.raises(ValueError, match="whose cls_token_id is 9, got one whose cls_token_id is 2"):
        check_tokenizer(make_model(cls_token_id=9), tokenizer)
    model = make_model(vocab_size=30_000)
    model.save_pretrained(tmp_path / "mixed")
    tokenizer.save_pretrained(tmp_path / "mixed")
    with pytest.raises(ValueError, match="expected a tokenizer that belongs to the model"):
        Classifier.from_checkpoint(tmp_path / "mixed")


def test_encoders_that_belong_together_pass(kcbert_dir):
    for folder in (kcbert_dir, get_embedded_path("nlpbook-mini")):
        check_tokenizer(AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))


def test_a_classifier_travels_to_another_process(trained, tmp_path):
    classifier = Classifier.from_checkpoint(tmp_path / "models")
    arrived = pickle.loads(pickle.dumps(classifier))
    texts = ["정말 재미있는 영화", "지루한 이야기"]
    assert np.array_equal(arrived.predict(texts), classifier.predict(texts))
    assert arrived.scorer is arrived.model
