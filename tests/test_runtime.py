"""Facts about the machine, seeds and logs."""

import random
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import nlpbook_helpers as nlpbook
from nlpbook_helpers import tpu
from nlpbook_helpers.embedded import PACKAGE_DIR


def test_importing_the_package_does_not_import_torch():
    code = "import sys, nlpbook_helpers; dir(nlpbook_helpers); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_every_public_name_is_there_and_others_are_named():
    for name in nlpbook.__all__:
        assert getattr(nlpbook, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'NsmcCorpsu'; it has: .*NsmcCorpus"):
        _ = nlpbook.NsmcCorpsu


ROOMS = (
    "checkpoints", "choosing", "arguments", "tpu", "runtime", "download", "corpora", "cleaning", "features", "task",
    "evaluation", "classifier", "ordering", "resuming", "trainer",
)  # fmt: skip


def test_rooms_import_only_rooms_before_them():
    for position, room in enumerate(ROOMS):
        code = (PACKAGE_DIR / f"{room}.py").read_text(encoding="utf-8")
        for later in ROOMS[position + 1 :]:
            assert not re.search(rf"^from nlpbook_helpers\.{later} ", code, re.MULTILINE), f"{room} → {later}"


def test_the_seed_is_said_and_set(capsys):
    def draw():
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    nlpbook.set_seed(SimpleNamespace(seed=7))
    first = draw()
    nlpbook.set_seed(SimpleNamespace(seed=7))
    assert draw() == first
    nlpbook.set_seed(SimpleNamespace(seed=None))
    assert capsys.readouterr().out == "set seed: 7\nset seed: 7\nnot fixed seed\n"


def test_the_logger_writes_to_standard_output_once_and_hides_paths(capsys, make_args, tmp_path):
    args = make_args()
    capsys.readouterr()  # of the fixture, which may have made the encoder just now
    nlpbook.set_logger(args)
    nlpbook.set_logger(args)
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count("INFO:nlpbook_helpers:arguments") == 2
    assert "…/tiny-bert" in captured.out
    assert str(tmp_path) not in captured.out


def test_the_environment_forces_a_profile(monkeypatch):
    for profile in ("full", "quick"):
        monkeypatch.setenv("NLPBOOK_PROFILE", profile)
        assert nlpbook.get_profile() == profile
    monkeypatch.setenv("NLPBOOK_PROFILE", "fast")
    with pytest.raises(ValueError, match="NLPBOOK_PROFILE: expected 'full' or 'quick', got 'fast'"):
        nlpbook.get_profile()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has an accelerator")
def test_without_an_accelerator_the_profile_is_quick():
    assert nlpbook.get_profile() == "quick"
    assert "profile: quick" in nlpbook.describe_runtime()


def test_what_ships_is_found_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("nlpbook-mini", "nsmc-sample", "klue-nli-sample"):
        assert nlpbook.get_embedded_path(name).endswith(name)
    with pytest.raises(FileNotFoundError, match=r"expected one of \[.*'nlpbook-mini'.*\], got 'bert'"):
        nlpbook.get_embedded_path("bert")


def test_a_torch_xla_of_another_torch_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "v5litepod-1")
    monkeypatch.setattr(tpu, "find_spec", lambda name: object())
    monkeypatch.setattr(tpu, "version", {"torch": "2.13.0+cpu", "torch_xla": "2.9.0"}.__getitem__)
    with pytest.raises(RuntimeError, match="expected torch and torch_xla of one minor version, got torch 2.13 and"):
        nlpbook.count_tpu_cores()
