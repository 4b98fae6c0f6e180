"""Checkpoints are chosen by what they record and never trusted."""

import pickle
import subprocess
import sys

import pytest
import torch

from nlpbook_helpers.arguments import ClassificationDeployArguments, get_embedded_path
from nlpbook_helpers.checkpoints import CheckpointError, find_best_checkpoint, load_checkpoint, save_checkpoint


def save(path, **metadata):
    torch.save({"state_dict": {"model.classifier.bias": torch.zeros(2)}, "nlpbook": metadata}, path)


def test_the_recorded_loss_chooses_not_the_file_name(tmp_path, capsys):
    save(tmp_path / "epoch=0-val_loss=0.10.ckpt", val_loss=0.9, pretrained_model_name="klue/bert-base")
    save(tmp_path / "epoch=1-val_loss=0.50.ckpt", val_loss=0.3, pretrained_model_name="klue/bert-base")
    assert find_best_checkpoint(tmp_path).name == "epoch=1-val_loss=0.50.ckpt"
    args = ClassificationDeployArguments(downstream_model_dir=str(tmp_path))
    assert args.downstream_model_checkpoint_fpath == str(tmp_path / "epoch=1-val_loss=0.50.ckpt")
    assert capsys.readouterr().out == f"downstream_model_checkpoint_fpath: {args.downstream_model_checkpoint_fpath}\n"


def test_trainings_that_cannot_be_compared_are_refused(tmp_path):
    save(tmp_path / "a.ckpt", val_loss=0.1, corpus="mine", labels=["a", "b"])
    save(tmp_path / "b.ckpt", val_loss=0.2, corpus="mine", labels=["a", "b"])
    assert find_best_checkpoint(tmp_path).name == "a.ckpt"
    save(tmp_path / "c.ckpt", val_loss=0.9, corpus="mine", labels=["a", "b", "c"])
    with pytest.raises(CheckpointError, match=r"different trainings, whose losses cannot be compared: .*c\.ckpt"):
        find_best_checkpoint(tmp_path)


def test_a_loss_that_is_no_number_is_never_the_best(tmp_path):
    save(tmp_path / "a.ckpt", val_loss=float("nan"))
    save(tmp_path / "b.ckpt", val_loss=0.6)
    assert find_best_checkpoint(tmp_path).name == "b.ckpt"


def test_a_checkpoint_of_the_book_is_judged_by_its_name(tmp_path):
    for name in (
        "epoch=0-val_loss=0.31.ckpt",
        "epoch=1-val_loss=0.28.ckpt",
        "epoch=2-val_loss=0.28-v1.ckpt",
        "last.ckpt",
    ):
        torch.save({"state_dict": {}}, tmp_path / name)
    assert find_best_checkpoint(tmp_path).name == "epoch=1-val_loss=0.28.ckpt"


def test_checkpoints_of_another_encoder_are_passed_over(tmp_path):
    save(tmp_path / "a.ckpt", val_loss=0.1, pretrained_model_name="klue/bert-base")
    save(tmp_path / "b.ckpt", val_loss=0.2, pretrained_model_name="beomi/kcbert-base")
    assert find_best_checkpoint(tmp_path, "beomi/kcbert-base").name == "b.ckpt"
    with pytest.raises(CheckpointError, match="expected a checkpoint of roberta .* found only .*klue/bert-base"):
        find_best_checkpoint(tmp_path, "roberta")


def test_a_checkpoint_of_another_task_is_refused_where_the_task_is_given(tmp_path):
    save(tmp_path / "a.ckpt", val_loss=0.1, task="document-classification")
    ClassificationDeployArguments("klue/bert-base", downstream_model_dir=str(tmp_path))
    ClassificationDeployArguments("klue/bert-base", "document-classification", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"a\.ckpt was trained for document-classification, expected pair-class"):
        ClassificationDeployArguments("klue/bert-base", "pair-classification", str(tmp_path))


def test_the_encoder_is_read_off_the_checkpoint_where_none_is_given(tmp_path):
    save(tmp_path / "a.ckpt", val_loss=0.2, pretrained_model_name="klue/bert-base")
    args = ClassificationDeployArguments(downstream_model_dir=str(tmp_path))
    assert args.pretrained_model_name == "klue/bert-base"
    save(tmp_path / "b.ckpt", val_loss=0.1, pretrained_model_name="nsmc-sample")  # any folder that ships
    args = ClassificationDeployArguments(downstream_model_dir=str(tmp_path))
    assert args.pretrained_model_name == get_embedded_path("nsmc-sample")
    torch.save({"state_dict": {}}, tmp_path / "bare.ckpt")
    with pytest.raises(CheckpointError, match=r"bare\.ckpt does not record its encoder: set pretrained_model_name"):
        ClassificationDeployArguments(downstream_model_checkpoint_fpath=str(tmp_path / "bare.ckpt"))


def test_a_truncated_checkpoint_is_named(tmp_path):
    save(tmp_path / "whole.ckpt", val_loss=0.1)
    content = (tmp_path / "whole.ckpt").read_bytes()
    for cut in (0, 10, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.ckpt").write_bytes(content[:cut])
        with pytest.raises(CheckpointError, match=rf"cut\.ckpt \({cut:,} bytes\) cannot be read.*train again"):
            load_checkpoint(tmp_path / "cut.ckpt")


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "attacked"), "w"))

    torch.save({"state_dict": {"x": Attack()}}, tmp_path / "attack.ckpt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps({"state_dict": {"x": Attack()}}))
    for name in ("attack.ckpt", "plain.ckpt"):
        with pytest.raises(CheckpointError, match="refused|cannot be read"):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "attacked").exists()


def test_a_file_without_weights_is_named(tmp_path):
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"expected a Lightning checkpoint with a 'state_dict' in .*other\.ckpt"):
        load_checkpoint(tmp_path / "other.ckpt")


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    path = tmp_path / "epoch=0-val_loss=0.50.ckpt"
    save_checkpoint({"state_dict": {"w": torch.ones(3)}}, path)
    # A process of its own, whose files may not grow past 64 KiB: the kernel refuses as a full disk does.
    code = (
        "import resource, signal, sys, torch; from nlpbook_helpers.checkpoints import save_checkpoint\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "save_checkpoint({'state_dict': {'w': torch.ones(10**6)}}, sys.argv[1])"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "could not write" in run.stderr
    assert "free some space; checkpoints of earlier epochs are untouched" in run.stderr
    assert torch.load(path)["state_dict"]["w"].tolist() == [1, 1, 1]
    assert list(tmp_path.iterdir()) == [path]


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not write .*free some space"):
        save_checkpoint({}, tmp_path / "file" / "x.ckpt")
