"""What drove an answer: contributions that add up, at their places in the text."""

import threading
import unicodedata

import numpy as np
import pytest
import torch
from conftest import REVIEWS
from encoder_families import make_family
from test_inference import save_bare, trained  # noqa: F401
from transformers import AutoModelForSequenceClassification, BertConfig, BertTokenizerLegacy

from nlpbook_helpers import Classifier
from nlpbook_helpers import explaining as explanation
from nlpbook_helpers.corpora import ClassificationExample
from nlpbook_helpers.explaining import Span, explain_window, find_spans, merge_spans

TEXTS = [text for _, text, _ in REVIEWS if text]
FAMILIES = ("bert", "roberta", "electra", "distilbert", "xlm-roberta")


@pytest.fixture(params=FAMILIES)
def family(request, tokenizer):
    """A classifier of one family with weights of some size, so that an answer depends on the text."""
    if request.param == "bert":
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        config = BertConfig(vocab_size=len(tokenizer), **sizes)
    else:
        config, tokenizer = make_family(request.param, tokenizer, TEXTS)
    torch.manual_seed(3)
    config.num_labels, config.initializer_range = 3, 0.3
    model = AutoModelForSequenceClassification.from_config(config)
    return model, tokenizer


def make_classifier(family, texts: int, **changes) -> Classifier:
    names = ("sentence",) if texts == 1 else ("premise", "hypothesis")
    return Classifier(*family, ["가", "나", "다"], names, **{"max_seq_length": 32, **changes})


def check(answer: dict, fields: dict[str, str]) -> None:
    """Contributions add up to the difference, and every piece is where it says."""
    total, difference = answer["completeness"]["sum"], answer["completeness"]["difference"]
    assert total == pytest.approx(difference, rel=0.05, abs=0.02)
    assert answer["tokens"]
    last = {}
    for token in answer["tokens"]:
        assert fields[token["field"]][token["start"] : token["end"]] == token["text"]
        assert token["text"] == token["text"].strip() != ""
        assert token["start"] >= last.get(token["field"], 0)  # in order, none over another
        last[token["field"]] = token["end"]
    assert sum(token["score"] for token in answer["tokens"]) == pytest.approx(total, rel=0.02, abs=0.02)


def test_any_encoder_explains_a_text(family):
    classifier = make_classifier(family, 1)
    for text in ("정말  재미있는 영화", "배우가 정말 좋았다!", " 다시 보고 싶다"):
        answer = classifier.explain(text)
        check(answer, {"sentence": text})
        covered = {n for token in answer["tokens"] for n in range(token["start"], token["end"])}
        assert {text[n] for n in range(len(text)) if n not in covered} <= {" "}
        assert answer["prediction"] == classifier.labels[int(classifier.predict([text]).argmax())]


def test_any_encoder_explains_a_pair(family):
    fields = {"premise": "정말 재미있는 영화", "hypothesis": "지루한 이야기"}
    answer = make_classifier(family, 2).explain(tuple(fields.values()))
    check(answer, fields)
    assert {token["field"] for token in answer["tokens"]} == set(fields)


def test_the_word_that_was_learned_speaks_loudest(trained, tmp_path, make_args, tokenizer, make_model):  # noqa: F811
    from test_training import fit

    args = make_args(epochs=30, learning_rate=3e-3, downstream_model_dir=str(tmp_path / "long"))
    fit(args, tokenizer, make_model())
    classifier = Classifier.from_checkpoint(tmp_path / "long")
    answer = classifier.explain("지루한 이야기")
    check(answer, {"sentence": "지루한 이야기"})
    assert answer["prediction"] == "부정 (negative)"
    other = classifier.explain("지루한 이야기", label="긍정 (positive)")
    assert other["completeness"]["difference"] == pytest.approx(-answer["completeness"]["difference"], abs=1e-3)
    changes = {}
    for word, rest in (("지루한", "이야기"), ("이야기", "지루한")):  # what taking a word out changes
        p, q = classifier.predict(["지루한 이야기", rest])[:, 0]
        changes[word] = np.log(p / (1 - p)) - np.log(q / (1 - q))
    loudest = max(answer["tokens"], key=lambda token: token["score"])
    assert loudest["text"] == max(changes, key=lambda word: changes[word])
    with pytest.raises(ValueError, match="label: expected one of .*, got '중립'"):
        classifier.explain("지루한 이야기", label="중립")


def test_of_a_long_text_the_window_that_speaks_most_is_explained(family):
    classifier = make_classifier(family, 1, max_seq_length=16, stride=4)
    text = "정말 재미있는 영화 " * 5 + "지루한 이야기 " * 5
    check(classifier.explain(text), {"sentence": text})


def test_the_served_model_is_left_as_it_is(trained, tmp_path):  # noqa: F811
    classifier = Classifier.from_checkpoint(tmp_path / "models")
    before = {name: tensor.clone() for name, tensor in classifier.model.state_dict().items()}
    expected = classifier.predict(TEXTS)
    answers: list = []
    work = [lambda: answers.append(classifier.predict(TEXTS)), lambda: classifier.explain(TEXTS[0])] * 6
    threads = [threading.Thread(target=target) for target in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert all(np.array_equal(answer, expected) for answer in answers)
    assert all(torch.equal(before[name], tensor) for name, tensor in classifier.model.state_dict().items())
    assert not any(tensor.grad is not None for tensor in classifier.model.parameters())


def test_the_explain_function_refuses_what_the_inference_function_refuses(trained, tmp_path):  # noqa: F811
    explain_fn = Classifier.from_checkpoint(tmp_path / "models").inference_fn.explain_fn  # type: ignore[attr-defined]
    assert explain_fn(sentence="정말 재미있는 영화")["tokens"]
    with pytest.raises(ValueError, match="sentence: 내용이 있는 문장을"):
        explain_fn(sentence=" ")
    with pytest.raises(TypeError, match="missing a required argument: 'sentence'"):
        explain_fn()


def test_more_steps_come_closer(make_model, tokenizer, monkeypatch):
    model = make_model(initializer_range=0.3).eval()
    features = Classifier(model, tokenizer, ["가", "나"], ["sentence"], 32, 4).encode(
        [ClassificationExample("정말 재미있는 영화 배우가 좋았다")]
    )
    model.float()
    errors = []
    monkeypatch.setattr(explanation, "TOLERANCE", np.inf)  # or too few would be taken again
    for steps in (2, 8, 64):
        scores, difference = explain_window(model, tokenizer, features, 0, 1, steps)
        errors.append(abs(scores.sum() - difference))
    assert errors[2] < errors[0]
    assert errors[2] < 0.01 * abs(difference) + 1e-3


def test_pieces_of_one_character_are_added_up():
    spans = [None, Span(0, 0, 1), Span(0, 0, 1), Span(0, 1, 3), Span(1, 0, 2), None]
    merged = merge_spans({"premise": "뷁 가", "hypothesis": "나다"}, spans, np.array([9.0, 1.0, 2.0, 4.0, 8.0, 9.0]))
    assert merged == [
        {"field": "premise", "text": "뷁", "start": 0, "end": 1, "score": 3.0},
        {"field": "premise", "text": "가", "start": 2, "end": 3, "score": 4.0},
        {"field": "hypothesis", "text": "나다", "start": 0, "end": 2, "score": 8.0},
    ]


@pytest.fixture
def slow_tokenizer(tokenizer, tmp_path) -> BertTokenizerLegacy:
    """The tests' WordPiece tokenizer in Python, which knows neither places nor windows."""
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    return BertTokenizerLegacy(str(tmp_path / "vocab.txt"), do_lower_case=False, model_max_length=128)


@pytest.mark.parametrize("text", ["정말 재미있는 영화 " * 9, "정말  좋았다!", "정말 龍 영화 뷁 이야기 " * 6])
def test_a_slow_tokenizer_makes_the_same_windows_at_the_same_places(make_model, tokenizer, slow_tokenizer, text):
    assert not slow_tokenizer.is_fast
    results = []
    for one in (tokenizer, slow_tokenizer):
        classifier = Classifier(make_model(), one, ["가", "나"], ["sentence"], 16, 4)
        features = classifier.encode([ClassificationExample(text)])
        places = [find_spans(one, [text], features, window, 16, 4) for window in range(len(features))]
        results.append((features.input_ids.tolist(), features.documents.tolist(), places))
        check(classifier.explain(text), {"sentence": text})
    assert results[0] == results[1]


def test_a_slow_tokenizer_finds_both_texts_of_a_pair(make_model, tokenizer, slow_tokenizer):
    texts = ["정말 재미있는 영화 " * 5, "지루한 이야기"]
    places = []
    for one in (tokenizer, slow_tokenizer):
        classifier = Classifier(make_model(num_labels=3), one, ["가", "나", "다"], ["premise", "hypothesis"], 16)
        features = classifier.encode([ClassificationExample(*texts)])
        places.append(find_spans(one, texts, features, 0, 16, None))
    assert places[0] == places[1]


def test_a_piece_that_was_normalized_loses_no_others(make_model, slow_tokenizer):
    text = unicodedata.normalize("NFD", "정말") + " 영화 이야기"
    classifier = Classifier(make_model(), slow_tokenizer, ["가", "나"], ["sentence"], 32, 4)
    pieces = [token["text"] for token in classifier.explain(text)["tokens"]]
    assert pieces[-2:] == ["영화", "이야기"]
