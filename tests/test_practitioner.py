"""A practitioner's day: from a lopsided CSV of one's own to a page, corrections, and a model on the Hub."""

import csv
import random
import re

import pandas as pd
import pytest
from sklearn.metrics import f1_score
from transformers import pipeline
from web_client import call

import nlpbook_helpers as nlpbook
from nlpbook_helpers.__main__ import main
from nlpbook_helpers.runtime import lock

COUNTS = {"배송": 397, "가격": 99, "품질": 50, "교환": 20, "칭찬": 5}
WORDS = dict(zip(COUNTS, ["영화", "이야기", "배우", "시간", "최고"], strict=True))  # what tells the labels apart
FILLERS = ["정말", "다시", "있는", "좋았다", "아까운", "지루한", "재미"]


def write_csv(path, header, rows, encoding="utf-8"):
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder with reviews in five classes, in the encoding that Korean Excel writes, with stray spaces."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(7)
    rows = [
        (f" {' '.join(draw.sample(FILLERS, 3))} {WORDS[label]} {number}", f"{label}{' ' * (number % 3)}")
        for label, count in COUNTS.items()
        for number in range(count)
    ]
    draw.shuffle(rows)
    write_csv(tmp_path / "reviews.csv", [" 리뷰", "감정 "], rows, "cp949")
    return tmp_path


def test_a_practitioners_day(shop, encoder_dir, serve_app, capsys):
    columns = ["--text", "리뷰", "--label", "감정", "--pretrained_model_name", encoder_dir, "--max_seq_length", "32"]
    plain = ["--epochs", "2", "--learning_rate", "5e-5", "--downstream_model_dir", "nlpbook/plain"]
    assert main(["train", "reviews.csv", *columns, *plain]) == 0
    said = capsys.readouterr().out
    assert "reviews.csv: encoding cp949, texts in '리뷰', labels in '감정'" in said
    assert "labels in '감정': 배송 397, 가격 99, 품질 50, 교환 20, 칭찬 5" in said
    assert "4 of 5 classes are never predicted: 가격, 교환, 칭찬, 품질: " in said

    better = ["--class_weights", "balanced", "--early_stopping_patience", "4", "--learning_rate", "3e-3"]
    assert main(["train", "reviews.csv", *columns, *better, "--epochs", "30"]) == 0
    said = capsys.readouterr().out
    assert "stopped early: 4 epochs in a row have not improved on 'max val_macro_f1'" in said
    assert "recall" in said
    table = nlpbook.compare_runs("nlpbook")
    assert list(table.index) == ["plain/logs/version_0", "reviews/logs/version_0"]
    assert table["val_macro_f1"].iloc[0] < 0.2 < 0.55 < table["val_macro_f1"].iloc[1]

    classifier = nlpbook.Classifier.from_checkpoint("nlpbook/reviews")
    feedback = shop / "nlpbook" / "reviews" / "feedback" / "train.csv"  # where `nlpbook serve` keeps it
    served = serve_app(nlpbook.get_web_service_app(classifier.inference_fn, feedback_file=feedback))
    answers = [call(f"{served.url}/api", {"sentence": text}).json for (text,) in classifier.examples]
    assert len({answer["label"] for answer in answers}) == 4  # of five: a page's buttons show one each

    wrong, *others = [f"{WORDS['배송']} {filler}" for filler in FILLERS]
    for text, label in [(wrong, "가격"), *((text, "배송") for text in others)]:
        assert call(f"{served.url}/api/feedback", {"input": {"sentence": text}, "label": label}).status == 200
    assert main(["train", "reviews.csv", str(feedback), *columns, *better]) == 0
    said = capsys.readouterr().out
    assert "train.csv: encoding utf-8, texts in 'text', labels in 'label'" in said
    assert "578 rows, 7 of them from later files; labels in '감정': 배송 403, 가격 100" in said
    assert list(nlpbook.compare_runs("nlpbook").index)[2:] == ["reviews-2/logs/version_0"]

    scored = ["--input", "reviews.csv", "--output", "scored.csv", "--encoding", "cp949"]
    assert main(["predict", "--checkpoint", "nlpbook/reviews-2", *scored]) == 0
    assert main(["export", "--checkpoint", "nlpbook/reviews-2", "--output", "for-the-hub"]) == 0
    frame = pd.read_csv("scored.csv")
    assert f1_score(frame["감정"].str.strip(), frame["predicted_name"], average="macro") > 0.55
    answers = pipeline("text-classification", "for-the-hub", truncation=True)(frame["리뷰"].str.strip().tolist())
    assert [answer["label"] for answer in answers] == frame["predicted_name"].tolist()
    card = (shop / "for-the-hub" / "README.md").read_text(encoding="utf-8")
    assert "validation macro F1" in card
    assert re.search(r"\| label \| precision \|.*\n.*\n\| 가격 \| [01]\.\d{4} \|.* \| 20 \|\n(\| .*\n){4}\n", card)
    assert classifier.examples[0][0] in card or 'classifier("' in card


REVIEWS = [(f"{word} {number}", label, str(number)) for label, word in WORDS.items() for number in range(4)]


@pytest.mark.parametrize(
    ("header", "given", "sentence"),
    [
        (
            ["리뷰", "종류", "번호"],
            {},
            r"one of labels among them, found \['리뷰', '종류', '번호'\]: name it with --label",
        ),
        (["글", "감정", "번호"], {}, r"expected a column of texts, found \['글', '번호'\]: name it with --text"),
        (
            ["리뷰", "감정", "번호"],
            {"text_columns": ["글"]},
            r"expected columns \['글'\], found \['리뷰', '감정', '번호'\]",
        ),
        (["리뷰", "감정", "번호"], {"text_columns": ["감정"], "label_column": "감정"}, "expected different columns"),
        (["리뷰", "감정", "번호"], {"label_column": "종류"}, r"expected columns \['종류'\], found"),
        (
            ["리뷰", "감정", "번호"],
            {"encoding": "utf-16-le"},
            "is not in the encoding 'utf-16-le'; it looks like utf-8",
        ),
    ],
)
def test_what_is_unclear_in_a_file_is_asked_for(shop, header, given, sentence):
    write_csv(shop / "own.csv", header, REVIEWS)
    with pytest.raises(ValueError, match=sentence):
        nlpbook.prepare_training("own.csv", **given)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "own.csv is empty"),
        ("리뷰,감정\n", "own.csv: expected rows below the line that names the columns, found none"),
        ('리뷰,감정\n"좋아요,칭찬\n나빠요,불만\n', "own.csv, line 2: .*--no-quoting"),
        ("좋아요,칭찬\n나빠요,불만\n", r"expected a first line that names the columns.*found \['좋아요', '칭찬'\]"),
    ],
)
def test_a_file_without_a_row_to_learn_from_is_one_sentence(shop, content, sentence):
    (shop / "own.csv").write_text(content, encoding="utf-8")
    with pytest.raises(nlpbook.CorpusError, match=sentence):
        nlpbook.prepare_training(["own.csv"])


def test_what_is_found_in_files_is_shown_and_what_is_given_wins(shop, capsys):
    write_csv(shop / "own.csv", ["글", "감정"], [row[:2] for row in REVIEWS])
    write_csv(shop / "feedback.csv", ["sentence", "label"], [("  영화 0", "칭찬"), ("영화 9", "가격")])
    args = nlpbook.prepare_training(["own.csv", "feedback.csv"], epochs=2)
    assert "own.csv: encoding utf-8, texts in '글', labels in '감정'" in capsys.readouterr().out
    assert (args.pretrained_model_name, args.epochs) == (nlpbook.get_embedded_path("nlpbook-mini"), 2)
    rows = nlpbook.make_corpus(args).get_examples(f"{args.downstream_corpus_root_dir}/own.csv", "train")
    labels = {row.text_a.strip(): row.label for row in rows}
    assert len(rows) == len(labels) == 21
    assert (labels["영화 0"], labels["영화 1"], labels["영화 9"]) == ("칭찬", "배송", "가격")
    write_csv(shop / "feedback.csv", ["sentence", "label"], [("영화", "환불")])
    with pytest.raises(nlpbook.CorpusError, match="feedback.csv, line 2: label: expected one of .*got '환불'"):
        nlpbook.prepare_training(["own.csv", "feedback.csv"])
    with pytest.raises(nlpbook.CorpusError, match="expected a file at gone.csv, found none"):
        nlpbook.prepare_training(["own.csv", "gone.csv"])
    with pytest.raises(nlpbook.CorpusError, match="files: expected one at least, got none"):
        nlpbook.prepare_training([])


def test_a_later_file_is_quoted_and_has_as_many_texts_and_arguments_are_checked_first(shop, capsys):
    (shop / "own.tsv").write_text(
        "text\tlabel\n" + "".join(f'"글 {n}\t{"ab"[n % 2]}\n' for n in range(8)), encoding="utf-8"
    )
    write_csv(shop / "feedback.csv", ["text", "label"], [('"글 0', "b"), ("새, 글", "a")])
    given = {"quoting": False, "downstream_corpus_name": "mine", "pretrained_model_name": "nlpbook-mini"}
    args = nlpbook.prepare_training(["own.tsv", "feedback.csv"], **given)
    assert "downstream_corpus_name: follows from the file, 'mine' is not used" in capsys.readouterr().out
    rows = nlpbook.make_corpus(args).get_examples(f"{args.downstream_corpus_root_dir}/own.tsv", "train")
    assert {row.text_a: row.label for row in rows}['"글 0'] == "b" and len(rows) == 9
    write_csv(shop / "pairs.csv", ["premise", "hypothesis", "label"], [(*row[:2], row[1]) for row in REVIEWS])
    with pytest.raises(nlpbook.CorpusError, match="feedback.csv: expected 2 columns of texts, as pairs.csv has them"):
        nlpbook.prepare_training(["pairs.csv", "feedback.csv"])
    with pytest.raises(ValueError, match="downstream_model_dir: expected a name or path, got 7"):
        nlpbook.prepare_training("own.tsv", downstream_model_dir=7)
    with pytest.raises(nlpbook.CorpusError, match="downstream_model_dir: expected a folder to write into, got"):
        nlpbook.prepare_training("feedback.csv", downstream_model_dir="own.tsv/below")


def test_pairs_are_known_by_their_columns(shop):
    write_csv(shop / "pairs.csv", ["Premise", "Hypothesis", "Label"], [(*row[:2], row[1]) for row in REVIEWS])
    args = nlpbook.prepare_training(["pairs.csv"], pretrained_model_name="nlpbook-mini")
    assert (args.downstream_task_name, args.text_columns) == ("pair-classification", ["Premise", "Hypothesis"])


def test_a_file_called_train_is_named_after_its_folder(shop, monkeypatch):
    (shop / "feedback").mkdir()
    write_csv(shop / "feedback" / "train.csv", ["text", "label"], [row[:2] for row in REVIEWS])
    for place in (shop, shop / "feedback"):
        monkeypatch.chdir(place)
        args = nlpbook.prepare_training(next(place.rglob("train.csv")).relative_to(place))
        assert (args.downstream_model_dir, args.downstream_corpus_name) == ("nlpbook/feedback", "feedback")


def test_of_columns_that_differ_in_case_the_usual_one_is_read_and_a_wrong_profile_is_refused(shop, capsys, monkeypatch):
    write_csv(shop / "own.csv", ["text", "Text", "label"], [(*row[:1], "", row[1]) for row in REVIEWS])
    assert nlpbook.prepare_training("own.csv").text_columns == ["text"]
    monkeypatch.setenv("NLPBOOK_PROFILE", "fast")
    with pytest.raises(ValueError, match="NLPBOOK_PROFILE: expected 'full' or 'quick', got 'fast'"):
        nlpbook.prepare_training("own.csv")


def test_a_training_under_way_keeps_its_corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"pretrained_model_name": "nlpbook-mini", "downstream_model_dir": "models"}
    for word in ("비", "눈"):  # by one name, from two folders
        (tmp_path / word).mkdir()
        write_csv(tmp_path / word / "own.csv", ["text", "label"], [(f"{word} {n}", "ab"[n % 2]) for n in range(4)])
    nlpbook.prepare_training("비/own.csv", **given)
    corpus = next((tmp_path / "models").rglob("train.csv"))
    with lock(tmp_path / "models", "busy"):
        nlpbook.prepare_training("비/own.csv", **given)  # as each of its processes does
        with pytest.raises(BlockingIOError, match="downstream_model_dir: another training is writing into models"):
            nlpbook.prepare_training("눈/own.csv", **given)
    assert "비 0" in corpus.read_text(encoding="utf-8")
    nlpbook.prepare_training("눈/own.csv", **given)
    assert "눈 0" in corpus.read_text(encoding="utf-8")
