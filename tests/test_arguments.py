"""What a reader may set, and what they are told when it is wrong."""

import sys
import tempfile
from pathlib import Path

import pytest

from nlpbook_helpers import Classifier, load_tokenizer, prepare_training, read_rows
from nlpbook_helpers.arguments import ClassificationDeployArguments, ClassificationTrainArguments
from nlpbook_helpers.checkpoints import CheckpointError
from nlpbook_helpers.runtime import get_cache_dir


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected a whole number from 1 to .*got 0"),
        ({"batch_size": 3.5}, "batch_size: expected a whole number .*got 3.5"),
        ({"batch_size": True}, "batch_size: expected a whole number .*got True"),
        ({"epochs": -1}, "epochs: expected a whole number from 1"),
        ({"learning_rate": 5}, "learning_rate: expected a number from 1e-10 to 1.0, got 5"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a number .*got nan"),
        ({"max_seq_length": 2}, "max_seq_length: expected a whole number from 5"),
        ({"monitor": "max val_f1"}, "monitor: expected one of min val_loss, max val_loss, .*got 'max val_f1'"),
        ({"save_top_k": 0}, "save_top_k: expected a number from 1, or -1 for all, got 0: nothing would be saved"),
        ({"validation_size": 1}, "validation_size: expected a share below 1, or rows, got 1"),
        ({"validation_size": -0.1}, "validation_size: expected a number from 0"),
        ({"downstream_task_name": "ner"}, "downstream_task_name: expected one of .*document-classification"),
        ({"pretrained_model_name": " "}, "pretrained_model_name: expected a name or path"),
        ({"pretrained_model_name": "/not/there"}, "expected a Hugging Face name or .*folder, got '/not/there', where"),
        ({"pretrained_model_name": "./bert"}, "expected .* got './bert', where there is nothing: correct the path"),
        ({"pretrained_model_name": "m/val_loss=0.28.ckpt"}, "got 'm/val_.*', where there is nothing: correct the path"),
        ({"pretrained_model_name": "/"}, "got '/', which has no config.json: of a checkpoint, nlpbook.export"),
        ({"pretrained_model_name": "nobody/a name"}, "got 'nobody/a name', where there is nothing"),
        ({"seed": -1}, "seed: expected a whole number from 0 to 4,294,967,295, got -1"),
        ({"seed": "x"}, "seed: expected a whole number .*got 'x'"),
        ({"quoting": "no"}, "quoting: expected True or False, got 'no'"),
        ({"resume": "no"}, "resume: expected True or False, got 'no'"),
        ({"resume_minutes": -1}, "resume_minutes: expected a number from 0"),
        ({"cpu_workers": -1}, "cpu_workers: expected a whole number from 0"),
        ({"class_weights": [1, 0]}, r"class_weights: expected 'balanced', or a list of a number .*, got \[1, 0"),
        ({"class_weights": "even"}, "class_weights: expected 'balanced', or a list of a number from .*got 'even'"),
        ({"class_weights": [1e300, 1]}, r"class_weights: .* from 1e-9 to 1e9 for each label, got \[1e\+300"),
        ({"class_weights": [1e-300, 1]}, r"class_weights: .* from 1e-9 to 1e9 for each label, got \[1e-300"),
        ({"scheduler": "step"}, "scheduler: expected one of exponential, linear, cosine, got 'step'"),
        ({"early_stopping_patience": 0}, "early_stopping_patience: expected a whole number from 1 to 10,000, got 0"),
        ({"warmup_ratio": 1}, "warmup_ratio: expected a number from 0.0 to 0.9, got 1"),
        ({"downstream_model_dir": __file__}, "downstream_model_dir: expected a folder, got a file: .*test_arguments"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_allowed(changes, message):
    with pytest.raises(ValueError, match=message):
        ClassificationTrainArguments(**changes)


def test_an_explicit_corpus_folder_wins_over_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("NLPBOOK_CORPUS_DIR", str(tmp_path))
    assert ClassificationTrainArguments(downstream_corpus_root_dir="here").downstream_corpus_root_dir == "here"
    assert ClassificationTrainArguments().downstream_corpus_root_dir == str(tmp_path)
    sample = ClassificationTrainArguments(downstream_corpus_name="nsmc-sample")
    assert Path(str(sample.downstream_corpus_root_dir)).name == "samples"
    monkeypatch.delenv("NLPBOOK_CORPUS_DIR")
    assert ClassificationTrainArguments().downstream_corpus_root_dir == str(Path.home() / "Korpora")
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    assert ClassificationTrainArguments().downstream_corpus_root_dir == "/content/Korpora"


@pytest.mark.skipif(sys.platform == "win32", reason="there is always a home")
def test_a_user_without_a_home_is_told_what_to_set(tmp_path, monkeypatch):
    def no_home(*_):
        raise KeyError("no entry")

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("NLPBOOK_CORPUS_DIR", raising=False)
    monkeypatch.delenv("NLPBOOK_CACHE_DIR")
    monkeypatch.setattr("pwd.getpwuid", no_home)
    with pytest.raises(ValueError, match="downstream_corpus_root_dir: this user has no home .*NLPBOOK_CORPUS_DIR"):
        ClassificationTrainArguments()
    for name in ("NLPBOOK_CACHE_DIR", "NLPBOOK_CORPUS_DIR"):
        monkeypatch.setenv(name, "")  # as if it were not set
    assert get_cache_dir() == Path(tempfile.gettempdir()) / "nlpbook"
    with pytest.raises(ValueError, match="downstream_corpus_root_dir: this user has no home"):
        ClassificationTrainArguments()
    (tmp_path / "mine.csv").write_text("text,label\n" + "영화,1\n배우,0\n" * 5, encoding="utf-8")
    prepare_training(tmp_path / "mine.csv", downstream_model_dir=tmp_path)  # which needs no folder of corpora
    for refused in (
        lambda: Classifier.from_checkpoint("~/x"),
        lambda: ClassificationTrainArguments("~/x", downstream_corpus_root_dir="."),
        lambda: ClassificationTrainArguments(downstream_corpus_root_dir=".", downstream_model_dir="~"),
        lambda: list(read_rows("~/x", [])),
        lambda: load_tokenizer("~no-such-user/x"),
    ):
        with pytest.raises(ValueError, match="expected a path whose home folder is known, got '~.*': give the whole"):
            refused()
    with pytest.raises(ValueError, match="expected a file at ~x.csv, found none"):
        list(read_rows("~x.csv", []))
    monkeypatch.setenv("NLPBOOK_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("NLPBOOK_CORPUS_DIR", str(tmp_path))
    assert get_cache_dir() == tmp_path
    assert ClassificationTrainArguments().downstream_corpus_root_dir == str(tmp_path)


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("adapter_config.json", "an adapter: merge it with its model"),
        ("modules.json", "a model of sentence-transformers: give the folder"),
        ("model.pt", "a pickle of weights alone: write them with model.save_pretrained"),
        ("pytorch_model.bin", "a pickle of weights alone: write them with model.save_pretrained"),
    ],
)
def test_a_folder_of_another_program_is_called_what_it_is(file, sentence, tmp_path):
    (tmp_path / file).touch()
    with pytest.raises(CheckpointError, match=f"an encoder's folder, got .*: it holds {sentence}"):
        ClassificationTrainArguments(str(tmp_path))
    with pytest.raises(CheckpointError, match=f"no checkpoint .* found in .*: it holds {sentence}"):
        Classifier.from_checkpoint(tmp_path)


def test_deploying_needs_a_folder_or_a_file(tmp_path):
    with pytest.raises(ValueError, match="expected downstream_model_dir or downstream_model_checkpoint_fpath, got nei"):
        ClassificationDeployArguments()
    with pytest.raises(CheckpointError, match=r"expected a checkpoint file, got .*lost\.ckpt"):
        ClassificationDeployArguments(downstream_model_checkpoint_fpath=str(tmp_path / "lost.ckpt"))
    with pytest.raises(CheckpointError, match="no checkpoint .* found in .*run the training notebook first"):
        ClassificationDeployArguments(downstream_model_dir=str(tmp_path))
    with pytest.raises(CheckpointError, match="which is not there: run the training notebook first"):
        ClassificationDeployArguments(downstream_model_dir=str(tmp_path / "nowhere"))


def test_a_checkpoint_whose_folder_holds_its_encoders_files_needs_nothing_else(trained):
    assert ClassificationDeployArguments(downstream_model_dir=str(trained)).pretrained_model_name == "tiny-bert"
    for name in ("config.json", "tokenizer.json"):
        (trained / name).write_text("{}")
    assert ClassificationDeployArguments(downstream_model_dir=str(trained)).pretrained_model_name == str(trained)
