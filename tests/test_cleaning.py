"""Flawed rows are counted as they are, and removed only when asked for."""

import pytest

from nlpbook_helpers import ClassificationExample as Example
from nlpbook_helpers import KlueNLICorpus, NsmcCorpus, clean_examples, make_data_report

LABELS = ["0", "1", "2"]
TRAIN = [
    Example("좋다", None, "1"),
    Example("좋다", None, "1"),
    Example("좋다", None, "0"),  # the minority
    Example("글쎄", None, "0"),
    Example("글쎄", None, "2"),  # a tie
    Example("", None, "0"),
    Example("\u3164\u200b", None, "0"),
    Example("별점", None, "10"),
    Example("시험에도 나온다", None, "2"),
    Example("나쁘다", None, "0"),
]
TEST = [Example("시험에도 나온다", None, "2"), Example("시험에도 나온다", None, "1"), Example("새 글", None, "1")]


def test_the_report_counts_every_flaw():
    report = make_data_report({"train": TRAIN, "test": TEST}, LABELS)
    assert report["train"].to_dict() == {
        "examples": 10, "distinct": 7, "duplicate": 3, "empty": 2, "several labels": 2, "unknown label": 1,
        "in train": "", "mean length": 2.5, "median length": 2.0, "longest": 8,
        "label 0": 5, "label 1": 2, "label 2": 2,
    }  # fmt: skip
    assert report["test"][["distinct", "duplicate", "in train", "label 2"]].tolist() == [2, 1, 2, 1]


def test_pairs_are_compared_whole():
    pairs = [Example("비", "눈", "0"), Example("비", "해", "1"), Example("비", "눈", "0"), Example("비", "", "2")]
    report = make_data_report({"train": pairs, "test": pairs[:1]}, LABELS)
    counts = report.loc[["distinct", "duplicate", "empty", "several labels", "longest"], "train"]
    assert counts.tolist() == [3, 1, 1, 0, 2]
    assert report.loc["in train", "test"] == 1
    assert clean_examples(pairs, LABELS)[0] == pairs[:2]


def test_cleaning_removes_and_counts_what_is_asked_for():
    kept, counts = clean_examples(TRAIN, LABELS, held_out=TEST)
    assert kept == [TRAIN[0], TRAIN[9]]
    assert counts.to_dict() == {
        "before": 10, "unknown label": 1, "empty": 2, "several labels": 3, "leaked": 1, "duplicate": 1, "after": 2,
    }  # fmt: skip
    kept, counts = clean_examples(TRAIN, LABELS, held_out=TEST, flaws=["duplicate"])
    assert counts.to_dict() == {"before": 10, "duplicate": 3, "after": 7}
    assert clean_examples(TRAIN, LABELS, flaws=[])[0] == TRAIN
    with pytest.raises(ValueError, match="splits: expected a mode at least"):
        make_data_report({}, ["0"])
    with pytest.raises(ValueError, match="labels: expected a list, got '01'"):
        make_data_report({"train": []}, "01")
    with pytest.raises(ValueError, match=r"examples: expected those of corpus.get_examples\(…\), got str"):
        make_data_report({"train": ["text"]}, ["0"])
    example = Example("글", None, "1")
    assert clean_examples([example], [0, 1])[0] == [example]
    with pytest.raises(ValueError, match=r"flaws: expected some of \('unknown label', .*got \['spam'\]"):
        clean_examples(TRAIN, LABELS, flaws=["spam"])


def test_an_unknown_label_does_not_outvote_a_known_one():
    examples = [Example("좋다", None, "좋음"), Example("좋다", None, "1")]
    kept, counts = clean_examples(examples, LABELS)
    assert kept == examples[1:]
    assert counts["unknown label"] == 1
    assert clean_examples(examples, LABELS, flaws=["several labels"])[0] == examples[1:]


def test_an_empty_split_is_reported_and_not_divided_by():
    assert make_data_report({"train": []}, LABELS).loc["mean length", "train"] == 0


@pytest.mark.corpora
def test_the_flaws_of_nsmc(corpus_dir):
    corpus = NsmcCorpus()
    splits = {mode: corpus.get_examples(corpus_dir / "nsmc", mode) for mode in ("train", "test")}
    report = make_data_report(splits, corpus.get_labels())
    rows = ["examples", "distinct", "duplicate", "empty", "several labels", "unknown label"]
    assert report.loc[rows, "train"].tolist() == [150_000, 146_183, 3_817, 5, 158, 0]
    assert report.loc["in train", "test"] == 1_571
    kept, counts = clean_examples(splits["train"], corpus.get_labels(), held_out=splits["test"])
    assert counts["before"] - counts["after"] == counts.drop(["before", "after"]).sum()
    after = make_data_report({"train": kept, "test": splits["test"]}, corpus.get_labels())
    assert after.loc[["duplicate", "empty", "several labels"], "train"].tolist() == [0, 0, 0]
    assert after.loc["in train", "test"] == 0


@pytest.mark.corpora
def test_the_flaws_of_klue_nli(corpus_dir):
    corpus = KlueNLICorpus()
    splits = {mode: corpus.get_examples(corpus_dir / "klue-nli", mode) for mode in ("train", "test")}
    report = make_data_report(splits, corpus.get_labels())
    assert report.loc[["distinct", "empty", "several labels"], "train"].tolist() == [24_996, 0, 0]
    assert report.loc["in train", "test"] == 0
