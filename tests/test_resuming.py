"""A training that is killed and started again ends as one that was not, in one process and in two."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
import training_process
from conftest import REVIEWS, write_reviews

from nlpbook_helpers.checkpoints import find_best_checkpoint, load_checkpoint

SCRIPT = training_process.__file__
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
STEPS = 7  # of an epoch: 26 rows, 4 a batch
STATE_NAME = "interrupted.state"
HOOKS = {  # where a process is killed, and how often it gets there before
    "inside an epoch": ("on_train_batch_start", STEPS + 3),
    "before validation": ("on_validation_start", 2),
    "after validation": ("on_validation_end", 2),
    "after an epoch's checkpoint": ("on_train_epoch_start", 3),
}


def run(settings: dict, hook: str = "", count: int = 0, processes: int = 1, dropout: float = 0.1) -> int | None:
    """Train in processes of their own; return the exit status."""
    if processes == 1:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["transformers.models.bert.modeling_bert", "nlpbook_helpers.trainer"])
        process = context.Process(target=training_process.train, args=(settings, hook, count, dropout))
        process.start()
        process.join(timeout=120)
        return process.exitcode
    job = json.dumps({"settings": settings, "hook": hook, "count": count, "dropout": dropout})
    command = [sys.executable, *TORCHRUN, SCRIPT, job]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert hook or not done.returncode, done.stderr[-3000:]
    return done.returncode


@pytest.fixture
def settings(make_args, corpora_root, tmp_path):
    """A function that describes a training on some rows in a folder of its own."""

    def make(name: str, rows: int = 26, **changes) -> dict:
        texts = [(str(n), f"{text} {'정말 ' * (n % 5)}{n}", label) for n, (_, text, label) in enumerate(REVIEWS * 4)]
        write_reviews(corpora_root / "nsmc", texts[:rows])
        folder = str(tmp_path / name)
        return vars(make_args(epochs=3, resume_minutes=0, downstream_model_dir=folder, **changes))

    return make


def check_equal(one: dict, other: dict) -> None:
    """Compare what two trainings left: names, losses and weights."""
    folders = [Path(settings["downstream_model_dir"]) for settings in (one, other)]
    names = [sorted(path.name for path in folder.glob("*.ckpt")) for folder in folders]
    assert names[0] == names[1]
    assert find_best_checkpoint(folders[0]).name == find_best_checkpoint(folders[1]).name
    for name in names[0]:
        first, second = (load_checkpoint(folder / name)["state_dict"] for folder in folders)
        assert all(torch.equal(first[key], second[key]) for key in first), name
    assert not (folders[1] / STATE_NAME).exists()


@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
def test_a_killed_training_ends_like_one_that_was_not(settings, hook, capfd):
    for changes in ({"save_top_k": -1, "learning_rate": 0.1}, {"learning_rate": 0.1, "cpu_workers": 1}):
        whole, killed = settings("whole" + str(len(changes)), **changes), settings("killed", **changes)
        assert run(whole) == 0
        assert run(killed, *hook) == -signal.SIGKILL
        assert run(killed) == 0
        check_equal(whole, killed)
