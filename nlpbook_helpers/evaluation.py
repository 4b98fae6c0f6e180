"""How good is it? Probabilities, metrics, plots, the mistakes worth reading, and a table of trainings."""

import logging
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nlpbook_helpers.arguments import PLACES
from nlpbook_helpers.embedded import expand_home
from nlpbook_helpers.features import ClassificationDataset, predict_probabilities
from nlpbook_helpers.values import get_short_names

if TYPE_CHECKING:  # both take a second to import, which a deployed classifier need not spend
    import pandas as pd
    from matplotlib.figure import Figure
    from pytorch_lightning import Trainer

logger = logging.getLogger(__name__)

LOGS_NAME = "logs"
KOREAN_FONTS = {"NanumGothic", "Noto Sans CJK KR", "Noto Sans KR", "Malgun Gothic", "Apple SD Gothic Neo"}


@dataclass(frozen=True, repr=False)
class EvaluationReport:
    """What a classifier answered on a dataset, and how right that was.

    Attributes:
        probabilities: float32, (examples, labels).
        per_class: Precision, recall, F1 and number of examples, a row per label.
        confusion: int64, (labels, labels): rows are true labels, columns predictions.
    """

    dataset: ClassificationDataset
    label_names: list[str]
    probabilities: np.ndarray
    accuracy: float
    macro_f1: float
    per_class: "pd.DataFrame"
    confusion: np.ndarray

    def __repr__(self) -> str:
        return f"accuracy {self.accuracy:.4f}, macro F1 {self.macro_f1:.4f}, {len(self.probabilities):,} examples"

    def _repr_html_(self) -> str:
        return f"<p>{self}</p>{self.per_class.round(4).to_html()}"

    def make_threshold_table(self) -> "pd.DataFrame":
        """Say of two labels what becomes of the second if it is answered from another probability than 0.5 on.

        Returns:
            A row per probability: precision and recall of that label, and how many examples are `predicted` to have it.

        Raises:
            ValueError: There are not two labels.
        """
        import pandas as pd

        if len(self.label_names) != 2:
            raise ValueError(f"expected a report of two labels, got {self.label_names}: see per_class")
        thresholds = np.arange(1, 10) / 10
        predicted, is_second = self.probabilities[:, [1]] >= thresholds, self.dataset.labels[:, None] == 1
        right, count = (predicted & is_second).sum(axis=0), predicted.sum(axis=0)
        columns = {"precision": right / count.clip(1), "recall": right / max(1, is_second.sum()), "predicted": count}
        return pd.DataFrame(columns, pd.Index(thresholds, name=f"{self.label_names[1]} from"))

    def describe(self) -> str:
        """Return what a shell shows: the figures, those of each label, and which labels are never predicted."""
        import pandas as pd

        tables = [self.per_class, *([self.make_threshold_table()] if len(self.label_names) == 2 else [])]
        with pd.option_context("display.unicode.east_asian_width", True):
            lines = [str(self), *(table.round(4).to_string() for table in tables)]
        if never := list(self.per_class.index[self.confusion.sum(axis=0) == 0]):
            found = f"{len(never)} of {len(self.label_names)} classes are never predicted: {', '.join(never)}"
            lines.append(f"{found}: train longer, with class_weights='balanced', or on more of them")
        return "\n".join(lines)


def evaluate(model: Any, dataset: ClassificationDataset) -> EvaluationReport:
    """Measure a model on a dataset.

    Args:
        model: A `…ForSequenceClassification` of the dataset's labels.
        dataset: Of any mode; the test split should be touched once, at the end.

    Returns:
        Probabilities, accuracy, per-class metrics and the confusion matrix (scikit-learn's).
    """
    import pandas as pd
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    names = list(getattr(dataset.corpus, "label_names", dataset.corpus.get_labels()))
    home = model.device
    if torch.cuda.is_available():  # Lightning puts a model back onto the CPU after training
        model.to("cuda")
    probabilities = predict_probabilities(model, dataset.features)[dataset.rows]
    model.to(home)
    predicted, labels, known = probabilities.argmax(axis=1), dataset.labels, range(len(names))
    figures: Any = precision_recall_fscore_support(labels, predicted, labels=known, zero_division=0)  # type: ignore
    per_class = pd.DataFrame(dict(zip(("precision", "recall", "f1", "examples"), figures, strict=True)), index=names)
    accuracy, macro_f1 = float((predicted == labels).mean()), float(per_class["f1"].to_numpy().mean())
    confusion = confusion_matrix(labels, predicted, labels=known)
    return EvaluationReport(dataset, names, probabilities, accuracy, macro_f1, per_class, confusion)


def find_worst_mistakes(report: EvaluationReport, count: int = 10) -> "pd.DataFrame":
    """Return the wrong answers the model was surest of: text, true label, predicted label, probability."""
    import pandas as pd

    names, predicted = np.array(report.label_names), report.probabilities.argmax(axis=1)
    columns = {"label": names[report.dataset.labels], "prediction": names[predicted]}
    table = pd.DataFrame({**columns, "probability": report.probabilities.max(axis=1)})
    wrong = table.loc[predicted != report.dataset.labels]
    worst = wrong.sort_values(by="probability", ascending=False, kind="stable").head(count)
    examples = report.dataset.get_examples(worst.index)
    worst.insert(0, "text", [" / ".join(filter(None, example[:2])) for example in examples])
    return worst.round(4).reset_index(drop=True)


def plot_learning_curve(trainer: "Trainer") -> "Figure":
    """Draw training loss per step and validation loss per epoch from the Trainer's CSV log."""
    import pandas as pd

    metrics = pd.read_csv(Path(str(trainer.log_dir)) / "metrics.csv", index_col="step")
    with _draw(("단계", "손실"), ("step", "loss")) as (figure, axes, _):
        for column, marker in (("train_loss_step", "."), ("val_loss", "o")):
            if column in metrics:
                axes.plot(metrics[column].dropna(), marker=marker, label=column.removesuffix("_step"))
        axes.legend()
    return figure


def plot_confusion_matrix(report: EvaluationReport) -> "Figure":
    """Draw the confusion matrix, with Korean label names where a Korean font is found, English ones elsewhere."""
    from sklearn.metrics import ConfusionMatrixDisplay

    with _draw(("예측", "정답"), ("prediction", "label")) as (figure, axes, is_korean):
        names = report.label_names if is_korean else [get_short_names(name)[1] for name in report.label_names]
        ConfusionMatrixDisplay(report.confusion, display_labels=names).plot(ax=axes, cmap="Blues", colorbar=False)
    return figure


@contextmanager
def _draw(korean: tuple[str, str], english: tuple[str, str]) -> Iterator[tuple["Figure", Any, bool]]:
    """Give a figure, its axes, and whether a Korean font writes on them: one of the system, or of the font package."""
    import matplotlib.pyplot as plt
    from matplotlib.font_manager import fontManager

    if package := find_spec("koreanize_matplotlib"):
        fontManager.addfont(Path(str(package.origin)).parent / "fonts" / "NanumGothic.ttf")
    fonts = sorted(KOREAN_FONTS & {font.name for font in fontManager.ttflist})
    with plt.rc_context({"font.family": fonts[:1]} if fonts else {}):
        figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
        yield figure, axes, bool(fonts)
        axes.set(**dict(zip(("xlabel", "ylabel"), korean if fonts else english, strict=True)))
    plt.close(figure)  # it is returned to be shown once, by whoever asked for it


def compare_runs(folder: str | Path) -> "pd.DataFrame":
    """Put the trainings of a folder side by side, in the order in which they started.

    Args:
        folder: A `downstream_model_dir`, or one of several.

    Returns:
        A row per run (`logs/version_0`, …): when it `started`, `minutes` (NaN if it was killed), `epochs_done`, its
        lowest `val_loss`, highest `val_acc` and `val_macro_f1`, the arguments that are not the same in all runs, and
        `state`: "finished", "stopped" (by the reader or an error) or "unfinished" (killed, or not over yet).

    Raises:
        FileNotFoundError: No training has written its logs there.
    """
    import pandas as pd

    folder = Path(expand_home(folder)).resolve()
    paths = sorted(folder.rglob(f"{LOGS_NAME}/version_*/hparams.yaml"))
    runs = {path.parent.relative_to(folder).as_posix(): found for path in paths if (found := _read_run(path))}
    if not runs:
        expected = f"expected the logs of trainings ({LOGS_NAME}/version_0, …) below {folder}"
        raise FileNotFoundError(f"folder: {expected}, found none: train first, or give a training's model folder")
    index, (measured, arguments) = pd.Index(list(runs), name="run"), zip(*runs.values(), strict=True)
    given: Any = pd.DataFrame(arguments, index, dtype=object)
    same = [name for name in given if name in PLACES or given[name].map(repr).nunique() == 1]
    table = pd.DataFrame(measured, index).join(given.drop(columns=same)).sort_values("started", kind="stable")
    return table.assign(state=table.pop("state"), started=table["started"].dt.floor("s"))


def _read_run(path: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return what came of a run, and its arguments, from its `hparams.yaml` and the metrics beside that.

    None, said aloud, if it is not ours or was not written to its end.
    """
    import pandas as pd
    import yaml

    log = path.with_name("metrics.csv")
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
        arguments = dict(record["arguments"])
        metrics: Any = pd.read_csv(log) if log.exists() and log.stat().st_size else pd.DataFrame()
    except (KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        logger.warning("passed over %s: %s", path, reprlib.repr(error))
        return None
    metrics = metrics.reindex(columns=["epoch", "train_loss_epoch", "val_loss", "val_acc", "val_macro_f1"])
    state = next((end for end in ("finished", "stopped") if end in record), "unfinished")
    started, ended = (pd.to_datetime(record.get(key, pd.NaT)) for key in ("started", state))
    measured = {
        "started": started.tz_localize(None),
        "minutes": round((ended - started).total_seconds() / 60, 1),
        "epochs_done": metrics["epoch"][metrics["train_loss_epoch"].notna()].nunique(),
        **metrics.agg({"val_loss": "min", "val_acc": "max", "val_macro_f1": "max"}),
        "state": state,
    }
    return measured, arguments
