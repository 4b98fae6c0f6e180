"""The headlines that ship: three classes, balanced, apart, and none given away by one word."""

import re
from collections import Counter

import pytest

import nlpbook_helpers as nlpbook

LABELS = ["economy", "sports", "science"]


@pytest.fixture(scope="module")
def splits() -> dict[str, list[nlpbook.ClassificationExample]]:
    corpus = nlpbook.CsvCorpus(["title"], "topic", labels=LABELS)
    return {mode: corpus.get_examples(nlpbook.get_embedded_path("topic-sample"), mode) for mode in ("train", "test")}


def test_the_headlines_are_balanced_distinct_and_their_splits_apart(splits):
    report = nlpbook.make_data_report(splits, LABELS)
    assert report.loc["examples"].tolist() == [252, 63]
    assert report.loc["distinct"].tolist() == [252, 63]
    assert report.loc[["empty", "several labels", "unknown label"]].to_numpy().sum() == 0
    assert report.loc["in train", "test"] == 0
    for mode, count in (("train", 84), ("test", 21)):
        assert report.loc[[f"label {label}" for label in LABELS], mode].tolist() == [count] * 3


def test_no_headline_is_nearly_anothers_copy(splits):
    words = [set(re.findall(r"\w+", example.text_a)) for rows in splits.values() for example in rows]
    pairs = ((a, b) for number, a in enumerate(words) for b in words[:number])
    assert max(len(a & b) / len(a | b) for a, b in pairs) < 0.4


def test_no_word_gives_a_class_away(splits):
    for label in LABELS:
        titles = [example.text_a for rows in splits.values() for example in rows if example.label == label]
        counts = Counter(word for title in titles for word in set(re.findall(r"\w+", title)))
        assert counts.most_common(1)[0][1] <= 0.1 * len(titles), label


def test_the_file_is_quoted_as_csv_is(splits):
    titles = [example.text_a for rows in splits.values() for example in rows]
    assert sum("," in title for title in titles) >= 50
    assert sum('"' in title for title in titles) >= 5
