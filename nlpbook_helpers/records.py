"""What did earlier runs do? Each training writes down its arguments and versions, and a table compares them."""

import platform
from dataclasses import asdict
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.runtime import find_version

if TYPE_CHECKING:  # it takes a second to import, which training need not spend
    import pandas as pd

LOGS_NAME = "logs"
PACKAGES = ("torch", "transformers", "pytorch-lightning", "nlpbook_helpers")
PLACES = ("downstream_corpus_root_dir", "downstream_model_dir")


def describe_arguments(args: ClassificationTrainArguments) -> dict[str, Any]:
    """Return the arguments of a training as primitives; local folders by their last part alone."""
    described = {name: _simplify(value) for name, value in asdict(args).items()}
    for name in ("pretrained_model_name", *PLACES):
        if name in PLACES or Path(described[name]).is_dir():
            described[name] = Path(described[name]).name  # where it lies on this machine is nobody's business
    return described


def _simplify(value: Any) -> Any:
    """Return NumPy's numbers, which a sweep yields, as Python's primitives: a checkpoint holds nothing else."""
    if isinstance(value, list | tuple):
        return [_simplify(one) for one in value]
    kinds = (kind for kind in (bool, int, float, str) if isinstance(value, kind))
    return None if value is None else next(kinds, str)(value)


def find_versions() -> dict[str, str]:
    """Return the versions that a training's result depends on: Python's and those of `PACKAGES`."""
    found = {name: find_version(name) for name in PACKAGES}
    return {"python": platform.python_version()} | {name: version for name, version in found.items() if version}


class RunRecorder(Callback):
    """Writes `hparams.yaml` into the folder of a run's logs, and logs for TensorBoard where that is installed.

    Args:
        args: What to record.
    """

    def __init__(self, args: ClassificationTrainArguments) -> None:
        self._args, self._has_begun = args, False

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Add TensorBoard's log; not sooner, since only now the folder of this run is known."""
        first = trainer.logger
        if isinstance(first, CSVLogger) and len(trainer.loggers) == 1 and find_spec("tensorboard"):
            trainer.loggers.append(TensorBoardLogger(first.save_dir, first.name, first.version))

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Write down what is about to happen."""
        self._has_begun = True
        device = trainer.strategy.root_device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        self._write(
            trainer,
            started=_get_time(),
            hardware=f"{trainer.num_devices} x {name} in {trainer.precision}",
            arguments=describe_arguments(self._args),
            versions=find_versions(),
        )

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write down that it is over."""
        self._write(trainer, finished=_get_time())

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Write down that it came to nothing, or not to its end."""
        if self._has_begun:
            self._write(trainer, stopped=_get_time())

    def _write(self, trainer: Trainer, **facts: Any) -> None:
        if isinstance(trainer.logger, CSVLogger):
            trainer.logger.log_hyperparams(facts)


def compare_runs(folder: str | Path) -> "pd.DataFrame":
    """Put the trainings of a folder side by side, in the order in which they started.

    Args:
        folder: A `downstream_model_dir`, or a folder that holds several of them.

    Returns:
        A row per run (`logs/version_0`, …): when it `started`, `minutes` (NaN if it was killed), `epochs_done`, its
        lowest `val_loss` and highest `val_acc`, the arguments that are not the same in all runs, and `state`:
        "finished", "stopped" (by the reader or by an error), "unfinished", or what is missing or damaged.

    Raises:
        FileNotFoundError: No training has written its logs there.
    """
    import pandas as pd

    folder = Path(folder).expanduser().resolve()
    logs = sorted(path for path in folder.rglob("version_*") if path.is_dir() and path.parent.name == LOGS_NAME)
    if not logs:
        raise FileNotFoundError(
            f"folder: expected the logs of trainings ({LOGS_NAME}/version_0, …) below {folder}, found none: train "
            "first, or give the downstream_model_dir of a training"
        )
    rows, arguments = {}, {}
    for path in logs:
        name = path.relative_to(folder).as_posix()
        record, complaint = _read_record(path / "hparams.yaml")
        metrics, other = _read_metrics(path / "metrics.csv")
        times, state = _describe_times(record)
        rows[name] = times | metrics | {"state": ", ".join(filter(None, (complaint, other))) or state}
        arguments[name] = {key: record["arguments"][key] for key in record["arguments"] if key not in PLACES}
    table = pd.DataFrame.from_dict(rows, orient="index")
    for key in dict.fromkeys(key for given in arguments.values() for key in given):
        if len({str(given[key]) for given in arguments.values() if key in given}) > 1:
            column = pd.Series({name: given.get(key) for name, given in arguments.items()}, dtype=object)
            table.insert(len(table.columns) - 1, key, column)
    table = table.rename_axis("run").sort_values("started", kind="stable")
    return table.assign(started=table["started"].dt.floor("s"))


def _get_time() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def _read_record(path: Path) -> tuple[dict[str, Any], str]:
    """Return what a run wrote down, and what is wrong with it: nothing, or a few words."""
    nothing: dict[str, Any] = {"arguments": {}}
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return nothing, f"no {path.name}"
    except (OSError, ValueError, yaml.YAMLError):
        return nothing, f"damaged {path.name}"
    if not isinstance(record, dict) or not isinstance(record.get("arguments"), dict):
        return nothing, f"damaged {path.name}"
    return record, ""


def _describe_times(record: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return when a run started and how long it took, and how it ended."""
    import pandas as pd

    times: list[Any] = [
        pd.to_datetime(str(record.get(name)), errors="coerce", utc=True) for name in ("started", "finished", "stopped")
    ]
    started, finished, stopped = times
    end = stopped if pd.isna(finished) else finished
    state = "unfinished" if pd.isna(end) else "stopped" if pd.isna(finished) else "finished"
    local = started if pd.isna(started) else started.tz_convert(datetime.now().astimezone().tzinfo).tz_localize(None)
    return {"started": local, "minutes": round((end - started).total_seconds() / 60, 1)}, state


def _read_metrics(path: Path) -> tuple[dict[str, Any], str]:
    """Return epochs, loss and accuracy of a run, and what is wrong with its log."""
    import pandas as pd

    nothing = {"epochs_done": 0, "val_loss": float("nan"), "val_acc": float("nan")}
    try:
        metrics = pd.read_csv(path)
        done = _get_column(metrics, "epoch")[_get_column(metrics, "train_loss_epoch").notna()].nunique()
        loss, accuracy = _get_column(metrics, "val_loss").min(), _get_column(metrics, "val_acc").max()
    except FileNotFoundError:
        return nothing, "nothing logged"
    except (OSError, ValueError, KeyError):  # pandas' own are ValueErrors
        return nothing, f"damaged {path.name}"
    return {"epochs_done": done, "val_loss": loss, "val_acc": accuracy}, ""


def _get_column(metrics: "pd.DataFrame", name: str) -> Any:
    """Return numbers; all of them missing where nothing of that name was logged."""
    import pandas as pd

    return pd.to_numeric(metrics.reindex(columns=[name])[name])
