"""A training that is killed and started again ends as one that was not."""

import io
import multiprocessing
import signal
from pathlib import Path

import pytest
import torch
from conftest import REVIEWS, write_reviews
from killed_training import train
from test_training import fit
from torch.utils.data import DataLoader
from transformers.trainer_pt_utils import LengthGroupedSampler

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.checkpoints import CheckpointError, find_best_checkpoint, load_checkpoint
from nlpbook_helpers.corpora import NsmcCorpus
from nlpbook_helpers.features import ClassificationDataset, data_collator
from nlpbook_helpers.resuming import STATE_NAME, ResumableLoader
from nlpbook_helpers.task import ClassificationTask
from nlpbook_helpers.trainer import get_trainer

PRELOADED = ["transformers.models.bert.modeling_bert", "nlpbook_helpers.trainer", "nlpbook_helpers.features"]
EPOCHS, STEPS = 3, 7  # 26 rows, 4 a batch


def run(settings: dict, kill_at: int = -1, is_grouped: bool = True) -> int | None:
    """Run `train` in a process; return its exit status."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=train, args=(settings, kill_at, is_grouped))
    process.start()
    process.join(timeout=120)
    return process.exitcode


@pytest.fixture
def settings(make_args, corpora_root, tmp_path):
    rows = [(str(n), f"{text} {'정말 ' * (n % 5)}", label) for n, (_, text, label) in enumerate(REVIEWS * 4) if text][
        :26
    ]
    write_reviews(corpora_root / "nsmc", rows)
    args = make_args(epochs=EPOCHS, save_top_k=-1, resume_minutes=0)
    return {name: value for name, value in vars(args).items() if not name.startswith("_")}


def read_trained(folder: Path) -> dict:
    """Return what a training left: validation loss and weights of every epoch."""
    return {path.name: load_checkpoint(path) for path in sorted(folder.glob("*.ckpt"))}


@pytest.mark.parametrize(
    ("is_grouped", "minutes", "steps"),
    [(True, 0, range(1, EPOCHS * STEPS)), (False, 0, range(1, EPOCHS * STEPS, 2)), (True, 60, (5, 9, 12, 18))],
    ids=["grouped, at each step", "random, at every other step", "state kept between epochs only"],
)
def test_a_killed_training_ends_like_one_that_was_not(settings, tmp_path, is_grouped, minutes, steps):
    assert run(settings | {"downstream_model_dir": str(tmp_path / "whole")}, is_grouped=is_grouped) == 0
    whole = read_trained(tmp_path / "whole")
    assert len(whole) == EPOCHS
    killed = settings | {"downstream_model_dir": str(tmp_path / "killed"), "resume_minutes": minutes}
    for step in steps:
        assert run(killed, step, is_grouped) == -signal.SIGKILL, step
        assert (tmp_path / "killed" / STATE_NAME).exists() == (step > (STEPS if minutes else 1))
    assert run(killed, is_grouped=is_grouped) == 0
    resumed = read_trained(tmp_path / "killed")
    assert list(resumed) == list(whole)
    for name, checkpoint in whole.items():
        assert resumed[name]["nlpbook"]["val_loss"] == pytest.approx(checkpoint["nlpbook"]["val_loss"], abs=1e-6)
        for key, tensor in checkpoint["state_dict"].items():
            assert torch.equal(resumed[name]["state_dict"][key], tensor), (name, key)
    assert not (tmp_path / "killed" / STATE_NAME).exists()
    assert find_best_checkpoint(tmp_path / "killed").name == find_best_checkpoint(tmp_path / "whole").name


def group(data: ClassificationDataset) -> LengthGroupedSampler:
    return LengthGroupedSampler(4, lengths=data.lengths)


def _with_epoch(path: Path, epoch: int) -> bytes:
    buffer = io.BytesIO()
    torch.save({**load_checkpoint(path), "epoch": epoch}, buffer)
    return buffer.getvalue()


def test_another_training_is_refused_by_name(settings, tmp_path, tokenizer, make_model):
    assert run(settings, kill_at=STEPS + 3) == -signal.SIGKILL
    for name, value, before in (("batch_size", 8, "4"), ("learning_rate", 1e-4, "0.001"), ("seed", 8, "7")):
        args = ClassificationTrainArguments(**settings | {name: value})
        with pytest.raises(CheckpointError, match=f"{name}: the training that was interrupted in .* had {before}, got"):
            fit(args, tokenizer, make_model())
    args = ClassificationTrainArguments(**settings)
    with pytest.raises(
        CheckpointError, match="sampler: the training .* had 'LengthGroupedSampler', got 'RandomSampler"
    ):
        fit(args, tokenizer, make_model())
    args = ClassificationTrainArguments(**settings | {"epochs": 1})
    (tmp_path / "models" / STATE_NAME).write_bytes(_with_epoch(tmp_path / "models" / STATE_NAME, 2))
    with pytest.raises(CheckpointError, match="epochs: the training that was interrupted in .* has done 2, got 1"):
        fit(args, tokenizer, make_model(), group)
    reviews = tmp_path / "corpora" / "nsmc" / "ratings_train.txt"
    reviews.write_text(reviews.read_text(encoding="utf-8").replace("정말", "거의"), encoding="utf-8")
    args = ClassificationTrainArguments(**settings)
    with pytest.raises(CheckpointError, match="training data: the training that was interrupted in .* had"):
        fit(args, tokenizer, make_model(), group)


def test_the_state_says_where_it_stands(settings, tokenizer, make_model, capsys):
    assert run(settings, kill_at=STEPS + 3) == -signal.SIGKILL
    args = ClassificationTrainArguments(**settings)
    fit(args, tokenizer, make_model(), group)
    assert f"going on with an interrupted training: epoch 1, 2 of {STEPS} steps done" in capsys.readouterr().out


def test_who_interrupts_a_training_is_told_how_to_go_on(settings, tokenizer, make_model, capsys, monkeypatch):
    monkeypatch.setattr(ClassificationTask, "on_train_batch_end", _interrupt, raising=False)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(ClassificationTrainArguments(**settings), tokenizer, make_model(), group)
    assert f"stopped: the same code goes on from {settings['downstream_model_dir']}" in capsys.readouterr().out


def _interrupt(task, outputs, batch, batch_idx: int) -> None:
    if batch_idx == 2:
        raise KeyboardInterrupt


def test_a_fresh_start_can_be_asked_for(settings, tmp_path, tokenizer, make_model, capsys):
    assert run(settings, kill_at=3) == -signal.SIGKILL
    args = ClassificationTrainArguments(**settings | {"resume": False, "batch_size": 8})
    fit(args, tokenizer, make_model())
    assert "going on" not in capsys.readouterr().out
    assert not (tmp_path / "models" / STATE_NAME).exists()


def test_a_damaged_state_is_refused(settings, tmp_path, tokenizer, make_model):
    (tmp_path / "models").mkdir(exist_ok=True)
    (tmp_path / "models" / STATE_NAME).write_bytes(b"half a file")
    with pytest.raises(
        CheckpointError, match="interrupted.state is not the state of a training, or only a part of it: delete it, or"
    ):
        fit(ClassificationTrainArguments(**settings), tokenizer, make_model())


def test_a_checkpoint_that_is_named_is_gone_on_from_and_not_the_state(
    settings, tmp_path, tokenizer, make_model, capsys
):
    assert run(settings, kill_at=STEPS + 3) == -signal.SIGKILL
    (tmp_path / "models" / STATE_NAME).rename(tmp_path / "named.state")
    (tmp_path / "models" / STATE_NAME).write_bytes(b"of another training")
    args = ClassificationTrainArguments(**settings)
    data = ClassificationDataset(args, NsmcCorpus(), tokenizer, "train")
    loader = DataLoader(data, 4, sampler=group(data), collate_fn=data_collator)
    trainer = get_trainer(args)
    trainer.fit(ClassificationTask(make_model(), args), loader, loader, ckpt_path=tmp_path / "named.state")
    assert trainer.global_step == EPOCHS * STEPS
    assert "going on" not in capsys.readouterr().out


def test_a_loader_goes_on_with_the_batches_that_are_left():
    rows = list(range(20))
    loader = ResumableLoader(DataLoader(rows, 3, shuffle=True))
    torch.manual_seed(7)
    passed = [[batch.tolist() for batch in loader] for _ in range(2)]
    assert sorted(row for batch in passed[0] for row in batch) == rows
    for count in range(1, 7):
        torch.manual_seed(7)
        list(loader)
        halfway = iter(loader)
        for _ in range(count):
            next(halfway)
        state = loader.state_dict()
        torch.manual_seed(99)
        again = ResumableLoader(DataLoader(rows, 3, shuffle=True))
        again.go_on_from(state)
        assert [batch.tolist() for batch in again] == passed[1][count:]
