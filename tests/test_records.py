"""Every training leaves a record, and the records make a table."""

import re
from importlib.metadata import version
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import yaml
from pytorch_lightning.callbacks import LambdaCallback

from nlpbook_helpers import compare_runs, load_checkpoint, plot_learning_curve


def test_a_run_records_its_arguments_versions_and_hardware(make_args, fit, tmp_path):
    trainer = fit(make_args(epochs=2, learning_rate=np.float64(1e-3)))
    (folder,) = (tmp_path / "models" / "logs").iterdir()
    record = yaml.safe_load((folder / "hparams.yaml").read_text(encoding="utf-8"))
    assert record["arguments"]["learning_rate"] == 1e-3
    assert record["arguments"]["pretrained_model_name"] == "tiny-bert"
    assert record["versions"]["torch"] == version("torch")
    assert re.fullmatch(r"1 x \S.* in \S+", record["hardware"])
    assert record["started"] <= record["finished"]
    assert str(tmp_path) not in str(record)
    (checkpoint,) = (tmp_path / "models").glob("*.ckpt")
    metadata = load_checkpoint(checkpoint)["nlpbook"]
    assert (metadata["arguments"], metadata["versions"]) == (record["arguments"], record["versions"])
    assert plot_learning_curve(trainer).axes[0].get_lines()
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = events.EventAccumulator(str(folder)).Reload()  # it lies beside the table
    assert {"val_loss", "val_acc", "val_macro_f1", "lr-AdamW"} <= set(log.Tags()["scalars"])


def test_test_mode_records_nothing(make_args, fit, tmp_path):
    fit(make_args(test_mode=True))
    assert not list(tmp_path.glob("**/hparams.yaml"))
    with pytest.raises(FileNotFoundError, match=r"expected the logs of trainings \(logs/version_0, …\).*train first"):
        compare_runs(tmp_path)


def test_runs_are_compared_by_what_differs(make_args, fit, tmp_path):
    fit(make_args(epochs=2))
    other = make_args(epochs=1, seed=None, downstream_model_dir=str(tmp_path / "models" / "b"))
    trainer = fit(other)
    for reason in (KeyboardInterrupt(), ZeroDivisionError("broken")):
        breaking = LambdaCallback(on_train_epoch_end=Mock(side_effect=reason))
        with pytest.raises((KeyboardInterrupt, SystemExit, ZeroDivisionError)):
            fit(other, callbacks=[breaking])
    table = compare_runs(tmp_path / "models")
    assert list(table.index) == ["logs/version_0", *(f"b/logs/version_{number}" for number in range(3))]
    measured = ["started", "minutes", "epochs_done", "val_loss", "val_acc", "val_macro_f1"]
    assert list(table.columns) == [*measured, "epochs", "seed", "state"]
    assert table["epochs_done"].tolist()[:2] == table["epochs"].tolist()[:2] == [2, 1]
    assert table["seed"].tolist() == [7, None, None, None]
    assert table["state"].tolist() == ["finished", "finished", "stopped", "stopped"]
    assert table["val_loss"].iloc[1] == pd.read_csv(Path(trainer.log_dir) / "metrics.csv")["val_loss"].min()
    assert table["started"].is_monotonic_increasing
    assert (table["minutes"] < 5).all()


@pytest.mark.parametrize(
    "content", ["", "batch_size: 3\n", "- 1\n", "started: [\n", "started: 2026-11-01\narguments: 3\n"]
)
def test_records_of_other_programs_are_passed_over(content, make_args, fit, tmp_path, caplog):
    foreign = tmp_path / "other" / "logs" / "version_0"
    foreign.mkdir(parents=True)
    (foreign / "hparams.yaml").write_text(content)
    with pytest.raises(FileNotFoundError, match="found none: train first"):
        compare_runs(tmp_path)
    fit(make_args(downstream_model_dir=str(tmp_path / "mine"), epochs=1))
    assert list(compare_runs(tmp_path).index) == ["mine/logs/version_0"]
    assert "passed over" in caplog.text
