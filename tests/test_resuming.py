"""A training that is killed and started again ends as one that was not, in one process and in two."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import training_process
from pytorch_lightning.callbacks import LambdaCallback
from reviews import REVIEWS, write_reviews
from torch.utils.data import DataLoader, WeightedRandomSampler

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.checkpoints import CheckpointError, load_checkpoint
from nlpbook_helpers.features import data_collator
from nlpbook_helpers.ordering import BatchOrder
from nlpbook_helpers.resuming import STATE_NAME

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
KILLS = {  # where a process is killed that goes on from the one before it, and how often it gets there
    "inside an epoch": ("on_train_batch_start", 10),
    "before validation": ("on_validation_start", 1),
    "after validation": ("on_validation_end", 1),
    "after an epoch's checkpoint": ("on_train_epoch_start", 1),
    "after the last step": ("on_validation_start", 1),
}


def run(settings: dict, *signalled: str | int) -> int | None:
    """Train in a process of its own; return its exit status."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["transformers.models.bert.modeling_bert", "nlpbook_helpers.trainer"])
    process = context.Process(target=training_process.train, args=(settings, *signalled))
    process.start()
    process.join(timeout=120)
    return process.exitcode


def run_two(*jobs: dict) -> int:
    """Train in two processes; return torchrun's exit status."""
    command = [sys.executable, *TORCHRUN, training_process.__file__, json.dumps(jobs)]
    # Lightning draws anew in several processes if some test has called its seed_everything, which leaves PL_GLOBAL_SEED
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PL_")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert "hook" in jobs[-1] or not done.returncode, done.stderr[-3000:]
    return done.returncode


@pytest.fixture
def settings(make_args, corpora_root, tmp_path):
    """A function that describes a training in a folder of its own."""
    texts = [(str(n), f"{text} {'정말 ' * (n % 5)}{n}", label) for n, (_, text, label) in enumerate(REVIEWS * 4)]
    write_reviews(corpora_root / "nsmc", texts[:27])  # 4 a batch, alone: 7 steps; in two processes: 4

    def make(name: str, **changes) -> dict:
        defaults = {"epochs": 3, "resume_minutes": 0, "learning_rate": 0.05}
        return vars(make_args(**defaults | changes, downstream_model_dir=str(tmp_path / name)))

    return make


def read_weights(settings: dict) -> dict[str, dict[str, torch.Tensor]]:
    paths = sorted(Path(settings["downstream_model_dir"]).glob("*.ckpt"))
    return {path.name: load_checkpoint(path)["state_dict"] for path in paths}


def check_equal(one: dict, other: dict) -> None:
    """Compare what two trainings left: names, the best one, and weights bit for bit."""
    first, second = read_weights(one), read_weights(other)
    assert list(first) == list(second)
    for name, weights in first.items():
        assert all(torch.equal(weights[key], second[name][key]) for key in weights), name
    assert not Path(other["downstream_model_dir"], STATE_NAME).exists()


@pytest.mark.parametrize("limit", [{}, {"max_steps": 17, "save_top_k": -1}], ids=["epochs", "steps"])
def test_a_killed_training_ends_like_one_that_was_not(settings, limit):
    whole = settings("whole", **limit)
    assert run(whole) == 0
    names = list(read_weights(whole))  # with so high a rate the last epoch is not the best one
    assert len(names) == 3 if limit else "epoch=2" not in names[0]
    for number, (place, hook) in enumerate(KILLS.items()):
        assert run(settings("killed", cpu_workers=number % 2, **limit), *hook) == -signal.SIGKILL, place
    assert run(killed := settings("killed", **limit)) == 0
    check_equal(whole, killed)


def test_sigterm_is_no_success_and_saves_the_step_it_comes_in(settings):
    whole, ended = settings("whole"), settings("ended", resume_minutes=10)
    assert run(whole) == 0
    told = {"settings": ended, "hook": "on_train_batch_start", "count": 10, "number": signal.SIGTERM}
    stopped, gone_on = (
        subprocess.run(
            [sys.executable, training_process.__file__, json.dumps([job])],
            capture_output=True, text=True, timeout=300, check=False,
        )
        for job in (told, {"settings": ended})
    )  # fmt: skip
    assert stopped.returncode == 128 + signal.SIGTERM
    assert f"stopped: the same code goes on from {ended['downstream_model_dir']}" in stopped.stdout
    assert "1 of 3 epochs and 3 steps are done" in gone_on.stdout
    check_equal(whole, ended)


def test_two_processes_learn_what_one_learns_from_twice_the_batch_and_go_on_after_a_kill(settings):
    pair, alone = settings("pair", learning_rate=1e-3), settings("alone", learning_rate=1e-3, batch_size=8)
    whole, killed = settings("whole"), settings("killed")
    run_two({"settings": pair, "dropout": 0}, {"settings": whole})
    training_process.train(alone, dropout=0)
    said = [json.loads(Path(pair["downstream_model_dir"], f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    expected = json.loads(Path(alone["downstream_model_dir"], "rank-0.json").read_text())
    assert said[0]["metrics"] == said[1]["metrics"]
    for epoch, examples in expected["seen"].items():
        assert sorted(said[0]["seen"][epoch] + said[1]["seen"][epoch]) == sorted(examples)
        assert len(set(examples)) == 27
    for name in ("train_loss_epoch", "train_acc_epoch", "val_loss", "val_acc", "val_macro_f1"):
        assert said[0]["metrics"][name] == pytest.approx(expected["metrics"][name], abs=1e-5), name
    assert run_two({"settings": killed, "hook": "on_train_batch_start", "count": 7}) != 0
    assert Path(killed["downstream_model_dir"], STATE_NAME).exists()
    run_two({"settings": killed})
    check_equal(whole, killed)


@pytest.fixture
def interrupted(settings, fit, capsys):
    """Arguments of a training that was stopped in its second epoch, and how to train with others in its folder."""
    args = ClassificationTrainArguments(**settings("models"))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(args, callbacks=[LambdaCallback(on_train_batch_start=Mock(side_effect=[None] * 10 + [KeyboardInterrupt]))])
    assert f"stopped: the same code goes on from {args.downstream_model_dir}" in capsys.readouterr().out

    def go_on(**changes):
        return fit(ClassificationTrainArguments(**vars(args) | changes))

    return go_on


def test_a_training_says_where_it_goes_on(interrupted, capsys):
    assert interrupted().global_step == 21
    said = capsys.readouterr().out
    assert "going on with an interrupted training: 1 of 3 epochs and 3 steps are done\n" in said


@pytest.mark.parametrize(
    ("name", "value", "before"),
    [
        ("batch_size", 8, "4"),
        ("learning_rate", 1e-4, "0.05"),
        ("seed", 8, "7"),
        ("gradient_clip_val", 1.0, "None"),
        ("monitor", "max val_acc", "min val_loss"),
    ],
)
def test_another_training_is_refused_by_name(interrupted, name, value, before):
    with pytest.raises(CheckpointError, match=f"{name}: the training that was interrupted in .* had {before}, got"):
        interrupted(**{name: value})


def test_other_data_and_fewer_epochs_are_refused_and_a_fresh_start_can_be_asked_for(interrupted, corpora_root, capsys):
    for name, done in (("epochs", 1), ("max_steps", 10)):
        sentence = f"{name}: the training that was interrupted in .* had {done} done, got {done}: change it"
        with pytest.raises(CheckpointError, match=sentence):
            interrupted(**{name: done})
    reviews = corpora_root / "nsmc" / "ratings_train.txt"
    reviews.write_text(reviews.read_text(encoding="utf-8").replace("정말", "지루한"), encoding="utf-8")
    with pytest.raises(CheckpointError, match="training data: the training that was interrupted in .* had"):
        interrupted()
    capsys.readouterr()
    assert interrupted(resume=False, batch_size=8, epochs=1).global_step == 4
    assert "going on" not in capsys.readouterr().out


def test_a_damaged_state_is_refused(settings, fit, tmp_path):
    args = ClassificationTrainArguments(**settings("models"))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / STATE_NAME).write_bytes(b"half a file")
    with pytest.raises(
        CheckpointError, match=r"interrupted.state \(11 bytes\) cannot be read as a checkpoint: .*truncated"
    ):
        fit(args)


def test_several_processes_do_not_take_a_sampler_of_one_s_own(make_args, fit, loaders):
    data = loaders(make_args())[0].dataset
    loader = DataLoader(data, 4, sampler=WeightedRandomSampler([1.0] * len(data), 8), collate_fn=data_collator)
    with pytest.raises(ValueError, match="expected a loader with shuffle=True or LengthGroupedSampler where several"):
        fit(make_args(devices=2), train=loader)


@pytest.mark.parametrize("lengths", [None, range(27)])
@pytest.mark.parametrize(("count", "world", "steps"), [(26, 1, 7), (26, 2, 4), (25, 2, 3), (27, 2, 4), (2, 2, 1)])
def test_each_example_comes_once_an_epoch(count, world, steps, lengths):
    orders = [BatchOrder(count, 4, True, lengths and lengths[:count]) for _ in range(world)]
    epochs = []
    for epoch in range(2):
        for rank, order in enumerate(orders):
            order.seed, order.epoch, order.rank, order.world = 7, epoch, rank, world
        shares = [list(order) for order in orders]
        assert [len(share) for share in shares] == [steps] * world
        assert all(batch for share in shares for batch in share)
        epochs.append([row for batches in zip(*shares, strict=True) for batch in batches for row in batch])
        assert sorted(epochs[-1]) == list(range(count))
    assert epochs[0] != epochs[1] or count == 2
    orders[0].start = 1
    assert list(orders[0]) == shares[0][1:]
    orders[0].world = 30
    with pytest.raises(ValueError, match=f"expected at least 30 examples, one for each process, .*got {count}: lower"):
        len(orders[0])
