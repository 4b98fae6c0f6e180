"""How good is it: figures that agree with scikit-learn, and plots that can be read."""

import sys

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from nlpbook_helpers import (
    ClassificationDataset,
    NsmcCorpus,
    evaluate,
    find_worst_mistakes,
    plot_confusion_matrix,
    plot_learning_curve,
)
from nlpbook_helpers.evaluation import KOREAN_FONTS


@pytest.fixture
def report(make_args, tokenizer, make_model):
    return evaluate(make_model(), ClassificationDataset(make_args(), NsmcCorpus(), tokenizer, "test"))


def test_evaluation_agrees_with_scikit_learn_and_shows_the_worst(report):
    predicted, labels = report.probabilities.argmax(1), report.dataset.labels
    assert report.accuracy == accuracy_score(labels, predicted)
    assert report.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert report.confusion.sum() == len(labels) == 8
    assert report.probabilities.sum(1) == pytest.approx(np.ones(8))
    assert list(report.per_class.index) == ["부정 (negative)", "긍정 (positive)"]
    assert list(report.per_class.columns) == ["precision", "recall", "f1", "examples"]
    assert str(report) == f"accuracy {report.accuracy:.4f}, macro F1 {report.macro_f1:.4f}, 8 examples"
    mistakes = find_worst_mistakes(report)
    assert len(mistakes) == (predicted != labels).sum() > 0
    assert (mistakes["label"] != mistakes["prediction"]).all()
    assert mistakes["probability"].is_monotonic_decreasing


def test_two_labels_have_a_table_of_thresholds_and_a_class_that_is_never_predicted_is_named(report):
    table = report.make_threshold_table()
    for threshold, row in table.iterrows():
        predicted = report.probabilities[:, 1] >= threshold
        assert row["predicted"] == predicted.sum()
        assert row["recall"] == pytest.approx(recall_score(report.dataset.labels, predicted))
        assert row["precision"] == pytest.approx(precision_score(report.dataset.labels, predicted, zero_division=0))
    said = report.describe()
    assert "긍정 (positive) from" in said
    (never,) = [name for name, count in zip(report.label_names, report.confusion.sum(0), strict=True) if not count]
    assert f"1 of 2 classes are never predicted: {never}: " in said
    assert "긍정 (positive)</th>" in report._repr_html_()


def test_the_plots_can_be_drawn(report, trained_once, tmp_path):
    (log_dir,) = (trained_once / "logs").rglob("metrics.csv")
    trainer = type("Trainer", (), {"log_dir": log_dir.parent})()
    for name, figure in (("curve", plot_learning_curve(trainer)), ("confusion", plot_confusion_matrix(report))):
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000


def test_without_a_korean_font_the_labels_are_english(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "koreanize_matplotlib", None)  # as if it were not installed
    monkeypatch.setattr("matplotlib.font_manager.fontManager.ttflist", [])
    labels = [text.get_text() for text in plot_confusion_matrix(report).axes[0].get_xticklabels()]
    assert labels == ["negative", "positive"]
    assert "NanumGothic" in KOREAN_FONTS
