"""What drove an answer: contributions that add up, at their places in the text."""

import threading

import numpy as np
import pytest
import torch
from encoder_families import ROBERTA, make_bpe_tokenizer
from reviews import REVIEWS
from transformers import AutoModelForSequenceClassification, BertTokenizerLegacy, IBertConfig

from nlpbook_helpers import Classifier
from nlpbook_helpers.explaining import merge_pieces

TEXTS = [text for _, text, _ in REVIEWS if text]


def check(answer: dict, fields: dict[str, str]) -> None:
    """Contributions add up to the difference, and every piece is where it says."""
    total, difference = answer["completeness"]["sum"], answer["completeness"]["difference"]
    assert total == pytest.approx(difference, rel=0.05, abs=0.02)
    assert sum(token["score"] for token in answer["tokens"]) == pytest.approx(total, rel=0.02, abs=0.02)
    assert {token["field"] for token in answer["tokens"]} == set(fields)
    last = dict.fromkeys(fields, 0)
    for token in answer["tokens"]:
        assert fields[token["field"]][token["start"] : token["end"]] == token["text"].strip() == token["text"] != ""
        assert token["start"] >= last[token["field"]]  # in order, none over another
        last[token["field"]] = token["end"]


def test_any_encoder_explains_texts_pairs_and_windows(family):
    config, tokenizer = family
    config.num_labels, config.initializer_range = 3, 0.3
    torch.manual_seed(3)
    model, labels = AutoModelForSequenceClassification.from_config(config), ["가", "나", "다"]
    classifier = Classifier(model, tokenizer, labels, ("sentence",), 16, stride=4)
    for text in ("정말  재미있는 영화", " 배우가 정말 좋았다!", "정말 재미있는 영화 " * 5 + "지루한 이야기 " * 5):
        answer = classifier.explain(text)
        check(answer, {"sentence": text})
        assert answer["prediction"] == labels[int(classifier.predict([text]).argmax())]
    pair = {"premise": "정말 재미있는 영화", "hypothesis": "지루한 이야기"}
    check(Classifier(model, tokenizer, labels, tuple(pair), 32).explain(tuple(pair.values())), pair)


def test_an_encoder_that_reads_no_embeddings_is_named():
    tokenizer = make_bpe_tokenizer(TEXTS)
    config = IBertConfig(vocab_size=len(tokenizer), **ROBERTA)
    classifier = Classifier(
        AutoModelForSequenceClassification.from_config(config), tokenizer, ["가", "나"], ("글",), 16
    )
    with pytest.raises(ValueError, match="reads embeddings .*, got IBertForSequenceClassification: use another"):
        classifier.explain(TEXTS[0])


def test_what_was_learned_as_bad_speaks_for_bad(trained):
    classifier = Classifier.from_checkpoint(trained)
    answer = classifier.explain("지루한 이야기")
    assert answer["prediction"] == "부정 (negative)"
    mixed = classifier.explain("정말 지루한")
    scores = {token["text"]: token["score"] for token in mixed["tokens"]}
    sign = 1 if mixed["prediction"] == answer["prediction"] else -1
    assert sign * scores["지루한"] > sign * scores["정말"]  # the one stood in a bad review, the other in good ones


def test_the_served_model_is_left_as_it_is(trained):
    classifier = Classifier.from_checkpoint(trained)
    before = {name: tensor.clone() for name, tensor in classifier.model.state_dict().items()}
    expected, answers = classifier.predict(TEXTS), []
    work = [lambda: answers.append(classifier.predict(TEXTS)), lambda: classifier.explain(TEXTS[0])] * 6
    threads = [threading.Thread(target=target) for target in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [np.array_equal(answer, expected) for answer in answers] == [True] * 6
    assert all(torch.equal(before[name], tensor) for name, tensor in classifier.model.state_dict().items())
    assert not any(tensor.grad is not None for tensor in classifier.model.parameters())


def test_pieces_of_one_character_are_added_up_and_spaces_to_their_words():
    tokens = [
        (None, (0, 0), 9.0), (0, (0, 1), 1.0), (0, (0, 1), 2.0), (0, (1, 2), 4.0), (0, (1, 3), 8.0), (1, (0, 2), 16.0),
        (1, (2, 3), 32.0),
    ]  # fmt: skip
    merged = merge_pieces({"premise": "뷁 가", "hypothesis": "나다 "}, tokens)
    assert [tuple(piece.values()) for piece in merged] == [
        ("premise", "뷁", 0, 1, 3.0), ("premise", "가", 2, 3, 12.0), ("hypothesis", "나다", 0, 2, 48.0)
    ]  # fmt: skip


def test_a_slow_tokenizer_answers_without_explaining(tokenizer, make_model, tmp_path):
    """It does not know where its tokens stand in the text, and the page leaves its button out."""
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    slow = BertTokenizerLegacy(str(tmp_path / "vocab.txt"), do_lower_case=False, model_max_length=128)
    classifiers = [
        Classifier(make_model(), one, ["가", "나"], ("sentence",), 16, stride=4) for one in (tokenizer, slow)
    ]
    text = "정말 龍 영화 뷁 이야기 " * 6
    assert np.array_equal(*(classifier.predict([text]) for classifier in classifiers))  # the same windows
    assert [hasattr(classifier.inference_fn, "explain_fn") for classifier in classifiers] == [True, False]
    model = make_model()
    model.forward = lambda input_ids, attention_mask=None: None  # of an encoder that reads tokens only
    assert not hasattr(Classifier(model, tokenizer, ["가", "나"], ("sentence",), 16).inference_fn, "explain_fn")
    with pytest.raises(ValueError, match="expected a fast tokenizer, which knows where its tokens stand, got BertTok"):
        classifiers[1].explain(text)
