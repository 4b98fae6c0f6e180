"""Hardware that is asked for is used if it is there; else a sentence says what is used instead."""

import sys

import pytest
import torch

from nlpbook_helpers import tpu
from nlpbook_helpers import trainer as devices
from nlpbook_helpers.trainer import choose_hardware, choose_precision, get_trainer


@pytest.fixture(autouse=True)
def nobody_has_launched(monkeypatch):
    for name in ("TPU_ACCELERATOR_TYPE", "TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def gpus(monkeypatch):
    """Four GPUs, as far as choosing goes."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "H100")
    monkeypatch.setattr(devices, "supports_bfloat16", lambda: True)


def test_a_tpu_that_is_not_there_is_said_and_replaced(make_args, caplog, monkeypatch):
    monkeypatch.delenv("TPU_ACCELERATOR_TYPE", raising=False)
    trainer = get_trainer(make_args(tpu_cores=8))
    assert "tpu_cores=8, but there is no TPU here" in caplog.text
    assert trainer.num_devices == 1


def test_precision_follows_the_hardware(monkeypatch):
    monkeypatch.setattr(devices, "supports_bfloat16", lambda: True)
    assert [choose_precision(name)[0] for name in ("cpu", "cuda")] == ["bf16-mixed", "bf16-mixed"]
    assert choose_precision("cuda", fp16=True)[0] == "16-mixed"
    monkeypatch.setattr(devices, "supports_bfloat16", lambda: False)
    assert [choose_precision(name)[0] for name in ("cpu", "cuda")] == ["32-true", "16-mixed"]
    assert choose_precision("cpu", fp16=True)[0] == "32-true"


def test_the_choice_is_said_in_one_line(make_args, monkeypatch, capsys):
    monkeypatch.setattr(devices, "supports_bfloat16", lambda: False)
    get_trainer(make_args())
    assert capsys.readouterr().out == "training on CPU in 32-true (no fast 16-bit arithmetic here)\n"


def test_fp16_without_a_gpu_is_said_and_replaced(make_args, caplog):
    assert choose_hardware(make_args(fp16=True)).accelerator == "cpu"
    assert "fp16=True, but there is no GPU here" in caplog.text


def test_several_gpus_are_taken_where_they_are_asked_for(make_args, gpus, caplog):
    assert str(choose_hardware(make_args())) == (
        "training on GPU (H100) in bf16-mixed (this hardware multiplies bfloat16)"
    )
    assert choose_hardware(make_args(devices=4))[1:3] == (4, 1)
    assert not caplog.text
    hardware = choose_hardware(make_args(devices=8, num_nodes=2))
    assert str(hardware).startswith("training on 2 machines, each with 4 × GPU (H100) in")
    assert "devices=8, but there are 4 GPUs here: using those" in caplog.text


def test_a_notebook_trains_on_one_device(make_args, gpus, monkeypatch, caplog):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert choose_hardware(make_args(devices=2))[1:3] == (1, 1)
    assert "devices=2, but a notebook trains on one" in caplog.text


def test_whoever_launches_says_how_many_there_are(make_args, gpus, monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"}.items():
        monkeypatch.setenv(name, value)
    assert choose_hardware(make_args(devices=1))[1:3] == (2, 3)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "6")
    with pytest.raises(ValueError, match="expected at most 4 processes on this machine, .* got 6: start torchrun with"):
        choose_hardware(make_args())
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    for name, value in {"SLURM_NTASKS": "8", "SLURM_NNODES": "2"}.items():
        monkeypatch.setenv(name, value)
    assert choose_hardware(make_args())[1:3] == (4, 2)


def test_cores_of_a_tpu_are_taken_as_xla_takes_them(make_args, monkeypatch, caplog):
    monkeypatch.setattr(tpu, "count_tpu_cores", lambda: 8)
    assert choose_hardware(make_args(tpu_cores=1))[:2] == ("tpu", 1)
    assert choose_hardware(make_args(tpu_cores=8))[:2] == ("tpu", 8)
    assert not caplog.text
    assert str(choose_hardware(make_args(tpu_cores=4))).startswith("training on 8 × TPU core in 32-true")
    assert "tpu_cores=4, but XLA takes one core or all 8 of this machine: using all" in caplog.text


def test_lengths_become_few_shapes():
    assert [tpu.choose_bucket(length, 100) for length in (1, 16, 17, 40, 65, 100)] == [16, 16, 32, 64, 100, 100]
