"""Checkpoints are chosen by what they record and never trusted."""

import pickle
import zipfile

import pytest
import torch

from nlpbook_helpers import CheckpointError, ClassificationDeployArguments, Classifier, get_embedded_path
from nlpbook_helpers.checkpoints import load_checkpoint, pack_weights, save_checkpoint
from nlpbook_helpers.choosing import find_best_checkpoint

NAN = float("nan")


def save(path, weights=None, **metadata):
    weights = {"model.classifier.bias": torch.zeros(2)} if weights is None else weights
    torch.save({"state_dict": weights, **({"nlpbook": metadata} if metadata else {})}, path)


def test_the_recorded_loss_chooses_not_the_file_name(tmp_path, capsys):
    save(tmp_path / "epoch=0-val_loss=0.10.ckpt", val_loss=0.9, pretrained_model_name="klue/bert-base")
    save(tmp_path / "epoch=1-val_loss=0.50.ckpt", val_loss=0.3, pretrained_model_name="klue/bert-base")
    save(tmp_path / "epoch=2-val_loss=0.00.ckpt", task="document-classification")  # nothing was validated
    args = ClassificationDeployArguments(downstream_model_dir=str(tmp_path))
    assert args.downstream_model_checkpoint_fpath == str(tmp_path / "epoch=1-val_loss=0.50.ckpt")
    assert args.pretrained_model_name == "klue/bert-base"
    assert capsys.readouterr().out == f"downstream_model_checkpoint_fpath: {args.downstream_model_checkpoint_fpath}\n"


def test_a_checkpoint_of_the_book_is_judged_by_its_name(tmp_path):
    for name in (
        "x-val_loss=0.00",
        "y-val_loss=0.00-v1",
        "last",
    ):  # nothing was validated: chosen if nothing else is there
        save(tmp_path / f"{name}.ckpt")
        assert find_best_checkpoint(tmp_path)
    for name in ("epoch=0-val_loss=0.31", "epoch=1-val_loss=0.28", "epoch=2-val_loss=0.28-v1"):
        save(tmp_path / f"{name}.ckpt")
    assert find_best_checkpoint(tmp_path).name == "epoch=1-val_loss=0.28.ckpt"


@pytest.mark.parametrize(
    "names",
    [
        ["epoch=1-val_acc=0.90", "epoch=0-val_acc=0.80", "epoch=2-val_acc=0.00"],
        ["epoch=1-val_loss=0.20 (1)", "epoch=0-val_loss=0.30", "epoch=2-val_loss=0.25 - Copy"],
        ["val_loss=0.20-val_acc=0.50", "val_loss=0.30-val_acc=0.90"],
        ["b-val_macro_f1=0.5-v1", "a-val_macro_f1=0.4"],
    ],
    ids=["accuracy", "copies", "loss first", "F1"],
)
def test_any_figure_in_a_name_is_read_also_of_a_copy(tmp_path, names):
    for name in names:
        save(tmp_path / f"{name}.ckpt")
    assert find_best_checkpoint(tmp_path).name == f"{names[0]}.ckpt"


@pytest.mark.parametrize(
    ("monitors", "best"),
    [
        (["min val_loss"] * 3, "a"), (["max val_acc"] * 3, "b"), (["max val_macro_f1"] * 3, "c"),
        (["min train_loss"] * 3, "b"), (["max val_acc", "max val_acc", "min val_loss"], "a"),
        ([None] * 3, "a"), (["max luck"] * 3, "a"), ([["max val_acc"]] * 3, "a"),
    ],
)  # fmt: skip
def test_what_the_training_monitored_chooses(tmp_path, monitors, best):
    figures = {
        "a": {"val_loss": 0.3, "val_acc": 0.80, "val_macro_f1": 0.5, "train_loss": 0.3},
        "b": {"val_loss": 0.4, "val_acc": 0.90, "val_macro_f1": 0.6, "train_loss": 0.2},
        "c": {"val_loss": 0.5, "val_acc": 0.85, "val_macro_f1": 0.7, "train_loss": 0.3},
    }
    for (name, found), monitor in zip(figures.items(), monitors, strict=True):
        save(tmp_path / f"{name}.ckpt", arguments={"monitor": monitor}, **found)
    save(tmp_path / "unvalidated.ckpt", arguments={"monitor": monitors[0]}, task="document-classification")
    assert find_best_checkpoint(tmp_path).name == f"{best}.ckpt"


def test_what_is_not_a_number_is_never_chosen(tmp_path):
    for name, value in (("a", NAN), ("b", float("inf")), ("c", -float("inf"))):
        save(tmp_path / f"{name}.ckpt", val_loss=value)
        save(tmp_path / f"{name}-weights.ckpt", {"model.classifier.bias": torch.tensor([0.0, value])}, val_loss=0.1)
    save(tmp_path / "f1.ckpt", val_loss=0.1, val_macro_f1=NAN)
    save(tmp_path / "complex.ckpt", {"model.classifier.bias": torch.tensor([0j, 1j])}, val_loss=0.1)
    for name in ("nan", "inf"):
        save(tmp_path / f"epoch=0-val_loss={name}.ckpt")
    with pytest.raises(CheckpointError, match=r"\[.*\]: weights or losses are not numbers \(nan\): train"):
        find_best_checkpoint(tmp_path)
    for name in ("a", "b", "a-weights", "b-weights", "f1", "complex"):
        with pytest.raises(CheckpointError, match=rf"{name}.ckpt: weights or losses are not numbers \(nan\): train"):
            ClassificationDeployArguments(downstream_model_checkpoint_fpath=str(tmp_path / f"{name}.ckpt"))
    save(tmp_path / "z.ckpt", val_loss=0.6)
    assert find_best_checkpoint(tmp_path).name == "z.ckpt"


@pytest.mark.parametrize("other", [{"data": "0000ffff"}, {"labels": ["a", "b", "c"]}, {"corpus": "yours"}])
def test_trainings_that_cannot_be_compared_are_refused(tmp_path, other):
    learned = {"corpus": "mine", "labels": ["a", "b"], "data": "1234abcd"}
    for name, loss in (("a", 0.1), ("b", 0.2)):
        save(tmp_path / f"{name}.ckpt", val_loss=loss, **learned)
    assert find_best_checkpoint(tmp_path).name == "a.ckpt"
    save(tmp_path / "c.ckpt", val_loss=0.3, **learned | other)
    with pytest.raises(CheckpointError, match=r"different trainings, whose losses cannot be compared: .*c\.ckpt"):
        find_best_checkpoint(tmp_path)


def test_checkpoints_of_another_encoder_or_task_are_passed_over_or_refused(tmp_path):
    save(tmp_path / "a.ckpt", val_loss=0.1, pretrained_model_name="klue/bert-base", task="document-classification")
    save(tmp_path / "b.ckpt", val_loss=0.2, pretrained_model_name="nsmc-sample")  # any folder that ships
    assert find_best_checkpoint(tmp_path, "nsmc-sample").name == "b.ckpt"
    with pytest.raises(CheckpointError, match="expected a checkpoint of roberta .* found only .*klue/bert-base"):
        find_best_checkpoint(tmp_path, "roberta")
    with pytest.raises(CheckpointError, match=r"a\.ckpt was trained for document-classification, expected pair-class"):
        ClassificationDeployArguments("klue/bert-base", "pair-classification", str(tmp_path))
    args = ClassificationDeployArguments(downstream_model_checkpoint_fpath=str(tmp_path / "b.ckpt"))
    assert args.pretrained_model_name == get_embedded_path("nsmc-sample")


def test_a_truncated_checkpoint_is_named(tmp_path):
    save(tmp_path / "whole.ckpt", val_loss=0.1)
    content = (tmp_path / "whole.ckpt").read_bytes()
    for cut in (0, 10, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.ckpt").write_bytes(content[:cut])
        with pytest.raises(CheckpointError, match=rf"cut\.ckpt \({cut:,} bytes\) cannot be read.*train again"):
            load_checkpoint(tmp_path / "cut.ckpt")


class Attack:
    """Opens a file for writing when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


class Callback:
    """What a callback of Lightning 1 leaves in a checkpoint: its class as a key, and objects."""


def test_nothing_in_a_checkpoint_is_run(tmp_path):
    torch.save({"state_dict": {"x": Attack(tmp_path / "attacked")}}, tmp_path / "attack.ckpt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps({"state_dict": {"x": Attack(tmp_path / "attacked")}}))
    for name in ("attack.ckpt", "plain.ckpt"):
        with pytest.raises(CheckpointError, match="expected a tensor .* as 'x'|cannot be read"):
            load_checkpoint(tmp_path / name)
    weights = {"model.w": torch.ones(())}
    strange = {Callback: {"best": Callback()}, "x": Attack(tmp_path / "attacked")}
    torch.save({"state_dict": weights, "callbacks": strange, "epoch": 1}, tmp_path / "old.ckpt")
    assert load_checkpoint(tmp_path / "old.ckpt") == {"state_dict": weights}
    assert not (tmp_path / "attacked").exists()


def test_a_checkpoint_of_the_book_fits_the_cell_that_loads_it(tmp_path, make_model, encoder_dir):
    """Of transformers 4.10 and Lightning 1.3: numbered positions among the weights, a class among the keys."""
    model = make_model()
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    weights["model.bert.embeddings.position_ids"] = torch.arange(128)[None]
    torch.save(
        {"state_dict": weights, "callbacks": {Callback: {"best_model_score": torch.ones(())}}}, tmp_path / "a.ckpt"
    )
    state_dict = load_checkpoint(tmp_path / "a.ckpt")["state_dict"]
    assert str(model.load_state_dict({k.replace("model.", ""): v for k, v in state_dict.items()})).startswith(
        "<All keys"
    )
    assert Classifier.from_checkpoint(tmp_path / "a.ckpt", encoder_dir).predict(["영화"]).shape == (1, 2)


HUGE = torch.zeros(1).expand(2_000_000_000)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"weights": torch.zeros(1)}, "expected a Lightning checkpoint with a 'state_dict'"),
        ({"state_dict": [1]}, "expected a Lightning checkpoint with a 'state_dict'"),
        ({"state_dict": {"w": HUGE}}, "expected a tensor with all its numbers as 'w'"),
        ({"state_dict": {"w": 3}}, "expected a tensor with all its numbers as 'w'"),
        ({"state_dict": {"w": torch.zeros(9, 1, dtype=torch.int8), "w.scale": torch.zeros(1, 9)}}, "one scale per row"),
        ({"state_dict": {}, "nlpbook": ["a"]}, r"expected nlpbook as a training writes it, got \['a'\]"),
        ({"state_dict": {}, "nlpbook": {"val_loss": "low"}}, "expected nlpbook.val_loss as .* got 'low'.*: take"),
        ({"state_dict": {}, "nlpbook": {"label_names": [1, 2]}}, "expected nlpbook.label_names.0 as"),
        ({"state_dict": {}, "nlpbook": {"arguments": []}}, "expected nlpbook.arguments as"),
        ({"state_dict": {}, "nlpbook": {"tokenizer_files": {"a": HUGE}}}, "a tensor with all its numbers as 'a'"),
        ({"state_dict": {}, "nlpbook": {"max_seq_length": "128"}}, "expected nlpbook.max_seq_length as"),
    ],
)  # fmt: skip
def test_what_cannot_be_true_is_named(content, sentence, tmp_path):
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(CheckpointError, match=rf"odd\.ckpt.*{sentence}|{sentence}.*odd\.ckpt"):
        load_checkpoint(tmp_path / "odd.ckpt")


def test_packed_weights_answer_alike_from_a_quarter_of_the_size(trained):
    (path,) = trained.glob("*.ckpt")
    texts, before = ["정말 재미있는 영화", "지루한 이야기"], Classifier.from_checkpoint(path)
    expected, checkpoint = before.predict(texts), torch.load(path)
    save_checkpoint(checkpoint | {"state_dict": pack_weights(checkpoint["state_dict"])}, path)
    with zipfile.ZipFile(path) as file:
        assert sum(entry.file_size for entry in file.infolist() if "/data/" in entry.filename) < 80_000
    restored = load_checkpoint(path)["state_dict"]
    assert restored.keys() == checkpoint["state_dict"].keys()
    assert {tensor.dtype for tensor in restored.values()} == {torch.float32}
    assert Classifier.from_checkpoint(path).predict(texts) == pytest.approx(expected, abs=0.01)
    zeros = pack_weights({"w": torch.zeros(2, 3)})
    assert not zeros["w"].any() and zeros["w.scale"].isfinite().all()  # noqa: PT018


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path, full_disk):
    path = tmp_path / "epoch=0-val_loss=0.50.ckpt"
    save_checkpoint({"state_dict": {"w": torch.ones(3)}}, path)
    with pytest.raises(
        CheckpointError, match="could not write .*free some space; checkpoints of earlier epochs are unt"
    ):
        save_checkpoint({"state_dict": {"w": torch.ones(10**6)}}, path)
    assert torch.load(path)["state_dict"]["w"].tolist() == [1, 1, 1]
    assert list(tmp_path.iterdir()) == [path]
