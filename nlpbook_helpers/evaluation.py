"""How good is it? Probabilities, metrics, plots and the mistakes worth reading."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nlpbook_helpers.corpora import get_short_names
from nlpbook_helpers.features import (
    ClassificationDataset,
    predict_probabilities,
)

if TYPE_CHECKING:  # both take a second to import, which a deployed classifier need not spend
    import pandas as pd
    from matplotlib.figure import Figure
    from pytorch_lightning import Trainer

KOREAN_FONTS = (
    "NanumGothic",
    "Noto Sans CJK KR",
    "Noto Sans KR",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
)


@dataclass(frozen=True)
class EvaluationReport:
    """What a classifier answered on a dataset, and how right that was."""

    dataset: ClassificationDataset
    label_names: list[str]
    probabilities: np.ndarray
    """float32, (examples, labels)."""
    accuracy: float
    macro_f1: float
    per_class: "pd.DataFrame"
    """Precision, recall, F1 and number of examples, a row per label."""
    confusion: np.ndarray
    """int64, (labels, labels): rows are true labels, columns predictions."""

    def __str__(self) -> str:
        return f"accuracy {self.accuracy:.4f}, macro F1 {self.macro_f1:.4f}, {len(self.probabilities):,} examples"


def evaluate(model: Any, dataset: ClassificationDataset) -> EvaluationReport:
    """Measure a model on a dataset.

    Args:
        model: A `…ForSequenceClassification` of the dataset's labels.
        dataset: Of any mode; the test split should be touched once, at the end.

    Returns:
        Probabilities, accuracy, per-class metrics and the confusion matrix (scikit-learn's).
    """
    import pandas as pd
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

    names = list(getattr(dataset.corpus, "label_names", dataset.corpus.get_labels()))
    home = model.device
    if torch.cuda.is_available():  # Lightning puts a model back onto the CPU after training
        model.to("cuda")
    probabilities = predict_probabilities(model, dataset.features)[dataset.rows]
    model.to(home)
    predicted, labels, known = probabilities.argmax(axis=1), dataset.labels, range(len(names))
    columns = precision_recall_fscore_support(labels, predicted, labels=known, zero_division=0)  # type: ignore[arg-type]
    return EvaluationReport(
        dataset=dataset,
        label_names=names,
        probabilities=probabilities,
        accuracy=float(accuracy_score(labels, predicted)),
        macro_f1=float(np.mean(columns[2])),
        per_class=pd.DataFrame(dict(zip(("precision", "recall", "f1", "examples"), columns, strict=True)), index=names),
        confusion=confusion_matrix(labels, predicted, labels=known),
    )


def find_worst_mistakes(report: EvaluationReport, count: int = 10) -> "pd.DataFrame":
    """Return the wrong answers the model was surest of: text, true label, predicted label, probability."""
    import pandas as pd

    predicted = report.probabilities.argmax(axis=1)
    confidence = report.probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != report.dataset.labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    examples = report.dataset.get_examples(worst)
    return pd.DataFrame(
        {
            "text": [" / ".join(text for text in example[:2] if text is not None) for example in examples],
            "label": [report.label_names[label] for label in report.dataset.labels[worst]],
            "prediction": [report.label_names[label] for label in predicted[worst]],
            "probability": confidence[worst].round(4),
        }
    )


def plot_learning_curve(trainer: "Trainer") -> "Figure":
    """Draw training loss per step and validation loss per epoch from the Trainer's CSV log."""
    import pandas as pd

    metrics = pd.read_csv(Path(str(trainer.log_dir)) / "metrics.csv")
    figure, axes = _make_figure()
    for column, style in (("train_loss_step", {"marker": ".", "alpha": 0.6}), ("val_loss", {"marker": "o"})):
        if column in metrics:
            rows = metrics.dropna(subset=[column])
            axes.plot(rows["step"], rows[column], label=column.removesuffix("_step"), **style)
    axes.set(xlabel="step", ylabel="loss")
    axes.legend()
    return figure


def plot_confusion_matrix(report: EvaluationReport) -> "Figure":
    """Draw the confusion matrix, with Korean label names where a Korean font is found, English ones elsewhere."""
    from sklearn.metrics import ConfusionMatrixDisplay

    figure, axes = _make_figure()
    font = _find_korean_font()
    names = report.label_names if font else [get_short_names(name)[1] for name in report.label_names]
    ConfusionMatrixDisplay(report.confusion, display_labels=names).plot(ax=axes, cmap="Blues", colorbar=False)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set_fontproperties(font)
    axes.set(xlabel="prediction", ylabel="label")
    return figure


def _make_figure() -> tuple["Figure", Any]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    plt.close(figure)  # it is returned to be shown once, by whoever asked for it
    return figure, axes


def _find_korean_font() -> Any:
    """Return a font with Hangul from the system or the font package; None if there is none."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    for name in KOREAN_FONTS:
        if name in installed:
            return font_manager.FontProperties(family=name)
    package = find_spec("koreanize_matplotlib")
    if package is None or package.origin is None:
        return None
    return font_manager.FontProperties(fname=str(Path(package.origin).parent / "fonts" / "NanumGothic.ttf"))
