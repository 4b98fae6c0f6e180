"""Every training leaves a record, and the records make a table."""

import os
import re
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from test_training import fit
from torch.utils.data import DataLoader

from nlpbook_helpers.checkpoints import load_checkpoint
from nlpbook_helpers.corpora import NsmcCorpus
from nlpbook_helpers.evaluation import plot_learning_curve
from nlpbook_helpers.features import ClassificationDataset, data_collator
from nlpbook_helpers.task import ClassificationTask
from nlpbook_helpers.trainer import compare_runs, get_trainer


def read_record(folder: Path) -> dict:
    return yaml.safe_load((folder / "hparams.yaml").read_text(encoding="utf-8"))


def test_a_run_records_its_arguments_versions_and_hardware(make_args, tokenizer, make_model, tmp_path):
    _, trainer = fit(make_args(epochs=2, learning_rate=np.float64(1e-3)), tokenizer, make_model())
    (folder,) = (tmp_path / "models" / "logs").iterdir()
    record = read_record(folder)
    assert record["arguments"]["learning_rate"] == 1e-3
    assert record["arguments"]["pretrained_model_name"] == "tiny-bert"
    assert record["versions"]["torch"] == version("torch")
    assert set(record["versions"]) == {"python", "torch", "transformers", "pytorch-lightning", "nlpbook_helpers"}
    assert re.fullmatch(r"1 x \S.* in \S+", record["hardware"])
    assert record["started"] <= record["finished"]
    assert str(tmp_path) not in str(record)
    assert list(folder.glob("events.out.tfevents.*")), "TensorBoard's log lies beside the table"
    (checkpoint,) = (tmp_path / "models").glob("*.ckpt")
    metadata = load_checkpoint(checkpoint)["nlpbook"]
    assert (metadata["arguments"], metadata["versions"]) == (record["arguments"], record["versions"])
    assert plot_learning_curve(trainer).axes[0].get_lines()


def test_tensorboard_reads_what_was_logged(make_args, tokenizer, make_model, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    fit(make_args(), tokenizer, make_model())
    log = events.EventAccumulator(str(tmp_path / "models" / "logs" / "version_0")).Reload()
    assert {"val_loss", "val_acc", "lr-AdamW"} <= set(log.Tags()["scalars"])


def test_without_tensorboard_the_table_is_written_all_the_same(make_args, tokenizer, make_model, tmp_path, monkeypatch):
    monkeypatch.setattr("nlpbook_helpers.trainer.find_spec", lambda name: None)
    fit(make_args(), tokenizer, make_model())
    names = {path.name for path in (tmp_path / "models" / "logs" / "version_0").iterdir()}
    assert names == {"hparams.yaml", "metrics.csv"}


def test_test_mode_records_nothing(make_args, tokenizer, make_model, tmp_path):
    fit(make_args(test_mode=True), tokenizer, make_model())
    assert not list(tmp_path.glob("**/hparams.yaml"))
    with pytest.raises(FileNotFoundError, match=r"expected the logs of trainings \(logs/version_0, …\).*train first"):
        compare_runs(tmp_path)


def test_runs_are_compared_by_what_differs(make_args, tokenizer, make_model, tmp_path):
    fit(make_args(epochs=2), tokenizer, make_model())
    second = make_args(epochs=1, seed=None, downstream_model_dir=str(tmp_path / "models" / "b"))
    _, trainer = fit(second, tokenizer, make_model())
    table = compare_runs(tmp_path / "models")
    assert list(table.index) == ["logs/version_0", "b/logs/version_0"]
    measured = ["started", "minutes", "epochs_done", "val_loss", "val_acc"]
    assert list(table.columns) == [*measured, "epochs", "seed", "state"]
    assert table["epochs_done"].tolist() == table["epochs"].tolist() == [2, 1]
    assert table["seed"].tolist() == [7, None]
    assert table["state"].tolist() == ["finished", "finished"]
    metrics = pd.read_csv(os.path.join(trainer.log_dir, "metrics.csv"))
    assert table["val_loss"].iloc[1] == metrics["val_loss"].min()
    assert table["started"].is_monotonic_increasing
    assert (table["minutes"] < 5).all()


class Breaking(ClassificationTask):
    """A training that comes to nothing."""

    def on_train_epoch_end(self) -> None:
        raise self.reason


@pytest.mark.parametrize("reason", [KeyboardInterrupt(), ZeroDivisionError("broken")])
def test_a_run_that_stopped_is_called_so(make_args, tokenizer, make_model, tmp_path, reason):
    data = ClassificationDataset(make_args(), NsmcCorpus(), tokenizer)
    args = make_args(monitor="min train_loss")
    task = Breaking(make_model(), args)
    task.reason = reason
    with pytest.raises((ZeroDivisionError, KeyboardInterrupt, SystemExit)):
        get_trainer(args).fit(task, DataLoader(data, 4, collate_fn=data_collator))
    (row,) = compare_runs(tmp_path / "models").to_dict(orient="records")
    assert row["state"] == "stopped"
    assert row["minutes"] < 5


def test_damaged_and_empty_logs_are_named_in_the_table(make_args, tokenizer, make_model, tmp_path):
    fit(make_args(), tokenizer, make_model())
    logs = tmp_path / "models" / "logs"
    good = (logs / "version_0" / "hparams.yaml").read_text(encoding="utf-8")
    metrics = (logs / "version_0" / "metrics.csv").read_text(encoding="utf-8")
    broken = {
        "version_1": {},
        "version_2": {"hparams.yaml": "arguments: [", "metrics.csv": metrics},
        "version_3": {"hparams.yaml": good, "metrics.csv": ""},
        "version_4": {"hparams.yaml": good, "metrics.csv": "epoch,val_loss\n0,zero"},
        "version_5": {"hparams.yaml": re.sub("(started|finished): .*", r"\1: gone", good), "metrics.csv": metrics},
        "version_6": {"hparams.yaml": "a sentence", "metrics.csv": metrics},
        "version_7": {"metrics.csv": metrics},
    }
    for name, files in broken.items():
        (logs / name).mkdir()
        for file, content in files.items():
            (logs / name / file).write_text(content, encoding="utf-8")
    table = compare_runs(tmp_path / "models")
    states = table["state"].rename(lambda name: name.removeprefix("logs/")).to_dict()
    assert states == {
        "version_0": "finished",
        "version_1": "no hparams.yaml, nothing logged",
        "version_2": "damaged hparams.yaml",
        "version_3": "damaged metrics.csv",
        "version_4": "damaged metrics.csv",
        "version_5": "unfinished",
        "version_6": "damaged hparams.yaml",
        "version_7": "no hparams.yaml",
    }
    assert table["val_loss"].notna().sum() == 5
    assert table["started"].iloc[0] == pd.to_datetime(table["started"]).min()
