"""Hardware that is asked for is used if it is there; else a sentence says what is used instead."""

import sys

import pytest
import torch

from nlpbook_helpers import get_trainer, tpu
from nlpbook_helpers.runtime import choose_hardware, choose_precision

SRUN = {"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_STEP_ID": "0"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6", "RANK": "0", "LOCAL_RANK": "0"}


@pytest.fixture(autouse=True)
def nobody_has_launched(monkeypatch):
    for name in ("TPU_ACCELERATOR_TYPE", "TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_JOB_NAME", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def launch(monkeypatch):
    """A function that sets what a launcher leaves in the environment."""
    return lambda environment: [monkeypatch.setenv(*one) for one in environment.items()]


@pytest.fixture
def gpus(monkeypatch):
    """Four GPUs that multiply bfloat16, as far as choosing goes."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "H100")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)


def count(args) -> tuple[int, int]:
    settings, _ = choose_hardware(args)
    return settings["devices"], settings["num_nodes"]


def test_precision_follows_the_hardware(gpus, monkeypatch):
    assert choose_precision("cuda")[0] == "bf16-mixed"
    assert choose_precision("cuda", fp16=True)[0] == "16-mixed"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert [choose_precision(name)[0] for name in ("cpu", "cuda")] == ["32-true", "16-mixed"]


def test_the_choice_is_said_in_one_line_and_so_is_what_is_not_there(make_args, capsys, caplog):
    assert get_trainer(make_args(tpu_cores=8, fp16=True)).num_devices == 1
    assert capsys.readouterr().out.startswith("training on CPU in ")
    assert "tpu_cores=8, but there is no TPU here" in caplog.text
    assert "fp16=True, but there is no GPU here" in caplog.text


def test_several_gpus_are_taken_where_they_are_asked_for(make_args, gpus, monkeypatch, caplog):
    line = "training on GPU (H100) in bf16-mixed (this hardware multiplies bfloat16)"
    assert choose_hardware(make_args())[1] == line
    assert count(make_args(devices=4)) == (4, 1)
    assert not caplog.text
    assert choose_hardware(make_args(devices=8))[1].startswith("training on 4 × GPU (H100) in")
    assert "devices=8, but there are 4 GPUs here: using those" in caplog.text
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert count(make_args(devices=2)) == (1, 1)
    assert "devices=2, but a notebook trains on one" in caplog.text


@pytest.mark.parametrize(("environment", "expected"), [(TORCHRUN, (2, 3)), (SRUN, (4, 2))], ids=["torchrun", "srun"])
def test_whoever_launches_says_how_many_there_are(make_args, gpus, launch, environment, expected):
    launch(environment)
    assert count(make_args(devices=1)) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "a"}, "RANK: expected a whole number from 0, as torchrun and srun set it, got 'a': unset it"),
        ({"RANK": "1"}, "RANK: expected a number below WORLD_SIZE, which is 1, got 1: unset it"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK: expected a whole number from 0"),
        (TORCHRUN | {"RANK": "6"}, "RANK: expected a number below WORLD_SIZE, which is 6, got 6"),
        (TORCHRUN | {"WORLD_SIZE": "two"}, "WORLD_SIZE: expected a whole number from 1, .*got 'two'"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE: expected a whole number from 1, .*got '0'"),
        (
            TORCHRUN | {"WORLD_SIZE": "3"},
            "WORLD_SIZE: expected a multiple of LOCAL_WORLD_SIZE, which is 2, got 3: start",
        ),
        (
            SRUN | {"SLURM_NTASKS": "3"},
            "SLURM_NTASKS: expected a multiple of SLURM_NNODES, which is 2, got 3: start as",
        ),
        (
            {"RANK": "1", "WORLD_SIZE": "2"},
            "expected all that torchrun sets, or none, got only RANK, WORLD_SIZE: start",
        ),
        (SRUN | {"SLURM_NNODES": "1-2"}, "SLURM_NNODES: expected a whole number from 1, .*got '1-2'"),
    ],
)
def test_what_no_launcher_would_say_is_refused_before_it_silences_a_training(make_args, launch, environment, message):
    launch(environment)
    with pytest.raises(ValueError, match=message):
        choose_hardware(make_args())


@pytest.mark.parametrize("where", ["script", "notebook"])
def test_in_a_slurm_job_nobody_waits_for_what_srun_has_not_started(make_args, fit, launch, monkeypatch, where):
    launch(SRUN)
    if where == "script":
        monkeypatch.delenv("SLURM_STEP_ID")
    else:
        monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    assert fit(make_args(test_mode=True)).world_size == 1


def test_cores_of_a_tpu_are_taken_as_xla_takes_them(make_args, monkeypatch, caplog):
    monkeypatch.setattr(tpu, "count_tpu_cores", lambda: 8)
    assert [count(make_args(tpu_cores=cores)) for cores in (1, 8)] == [(1, 1), (8, 1)]
    assert not caplog.text
    assert choose_hardware(make_args(tpu_cores=4))[1].startswith("training on 8 × TPU core in 32-true")
    assert "tpu_cores=4, but XLA takes one core or all 8 of this machine: using all" in caplog.text


def test_lengths_become_few_shapes():
    lengths = {1: 16, 16: 16, 17: 32, 40: 64, 65: 100, 100: 100}
    for length, padded in lengths.items():
        batch = {"input_ids": torch.ones(2, length), "labels": torch.ones(2)}
        shapes = [column.shape for column in tpu.pad_to_bucket(batch, dict, 100).values()]
        assert shapes == [(2, padded), (2,)]


@pytest.mark.parametrize("left", ["RANK", "WORLD_SIZE"])
def test_what_torchrun_left_in_the_environment_starts_no_processes(make_args, launch, monkeypatch, left):
    launch({**TORCHRUN, "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train"})
    monkeypatch.delenv(left)
    assert get_trainer(make_args()).world_size == 1
