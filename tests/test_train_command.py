"""`train(args)` and its command: everything from a JSON file, on one device or under torchrun."""

import csv
import json
import re
import subprocess
import sys

import pytest
import yaml

import nlpbook_helpers as nlpbook
from nlpbook_helpers.__main__ import main
from nlpbook_helpers.arguments import read_arguments

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "nlpbook_helpers", "train"]


@pytest.fixture
def arguments(tmp_path, encoder_dir):
    """A function that writes a reader's own corpus and a file of arguments, and returns the file."""
    folder = tmp_path / "corpora" / "mine"
    folder.mkdir(parents=True)
    words = {"영화": "film", "이야기": "story", "배우": "actor"}
    rows = [(f"{word} 정말 {'좋았다 ' * (n % 4)}{n}", label) for n in range(12) for word, label in words.items()]
    for mode, part in (("train", rows), ("test", rows[:9])):
        with (folder / f"{mode}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("review", "kind"), *part])

    def write(**changes):
        settings = {
            "pretrained_model_name": encoder_dir, "downstream_corpus_root_dir": str(tmp_path / "corpora"),
            "downstream_corpus_name": "mine", "text_columns": ["review"], "label_column": "kind",
            "downstream_model_dir": str(tmp_path / "models"), "validation_size": 0.2, "epochs": 2, "batch_size": 4,
            "learning_rate": 3e-3, "max_seq_length": 32, "seed": 7,
        }  # fmt: skip
        path = tmp_path / "args.json"
        path.write_text(json.dumps(settings | changes), encoding="utf-8-sig")  # a mark first, as PowerShell writes it
        return path

    return write


def test_a_file_of_arguments_becomes_a_classifier_and_the_command_line_wins(arguments, tmp_path, capsys):
    given = ["--epochs", "3", "--no_resume", "--no-fp16", "--batch-size=2"]
    assert main(["train", str(arguments(fp16=True)), *given]) == 0
    said = capsys.readouterr().out
    assert "'batch_size': 2" in said and "fp16=True" not in said
    order = ["set seed: 7", "loading tiny-bert", "training on CPU", "best checkpoint: ", "val: acc", "test: acc"]
    assert [said.count(line) for line in order] == [1] * len(order)
    assert sorted(order, key=said.index) == order
    classifier = nlpbook.Classifier.from_checkpoint(tmp_path / "models")
    assert classifier.labels == ["actor", "film", "story"]
    assert classifier.text_columns == ("review",)
    assert nlpbook.compare_runs(tmp_path / "models")["epochs_done"].tolist() == [3]
    scored = re.search(r"test: accuracy ([\d.]+), macro F1 ([\d.]+), 9 examples", said)
    record = yaml.safe_load((tmp_path / "models" / "logs" / "version_0" / "hparams.yaml").read_text(encoding="utf-8"))
    assert scored and scored.groups() == (f"{record['test_accuracy']:.4f}", f"{record['test_macro_f1']:.4f}")
    card = (nlpbook.export(tmp_path / "models", tmp_path / "out") / "README.md").read_text(encoding="utf-8")
    assert f"| macro F1 on the test file of mine | {scored[2]} |" in card and "No figures" not in card


@pytest.mark.parametrize(
    "content", ["review\n좋았다\n", "review,kind\n좋았다,film\n좋았다,opera\n"], ids=["no labels", "an unseen label"]
)
def test_a_test_file_that_cannot_be_scored_is_named_before_the_first_step(arguments, tmp_path, capsys, content):
    path = arguments(epochs=1)
    (tmp_path / "corpora" / "mine" / "test.csv").write_text(content, encoding="utf-8")
    (tmp_path / "corpora" / "mine" / "train.tsv").write_text("review\tkind\n", encoding="utf-8")
    nlpbook.train(nlpbook.ClassificationTrainArguments(**read_arguments(path)))
    said = capsys.readouterr().out
    assert said.index("the test file will not be scored: ") < said.index("training on CPU") < said.index("val: acc")
    assert "test: acc" not in said
    assert "files of mine: reading ['test.csv', 'train.csv'], and not ['train.tsv']" in said


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_arguments_are_read_as_powershell_writes_them(tmp_path, encoding):
    (tmp_path / "args.json").write_text('{"label_column": "감정"}', encoding=encoding)
    assert read_arguments(tmp_path / "args.json") == {"label_column": "감정"}


def test_pairs_and_the_book_s_corpora_are_found_by_name(make_args):
    assert isinstance(nlpbook.make_corpus(make_args()), nlpbook.NsmcCorpus)
    pair = {"downstream_task_name": "pair-classification"}
    sample = make_args(downstream_corpus_name="klue-nli-sample", **pair)
    assert isinstance(nlpbook.make_corpus(sample), nlpbook.KlueNLICorpus)
    usual = nlpbook.make_corpus(make_args(downstream_corpus_name="mine", **pair))
    assert usual.text_columns == ("premise", "hypothesis")
    with pytest.raises(ValueError, match="downstream_task_name: expected pair-classification for the text columns"):
        nlpbook.make_corpus(make_args(downstream_corpus_name="mine", text_columns=["a", "b"]))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "args.json: expected a JSON file of arguments"),
        ("{", "args.json: expected a JSON file of arguments"),
        ("[1]", 'args.json: expected a JSON object, as {"epochs": 3}, got list'),
        ('{"text": "비"}\n{"text": "눈"}', "correct it, or the path; a file of texts: end its name with .jsonl"),
        ('{"epochs": 3, "epochs": 4}', "expected different names in an object, got ['epochs', 'epochs']"),
        ('{"labels": "ab"}', "labels: expected a list of names, got 'ab'"),
        ('{"text_columns": "text"}', "text_columns: expected a list of names, got 'text'"),
        ('{"encoding": 949}', "encoding: expected a name or path, got 949"),
        ('{"downstream_model_dir": ["a"]}', "downstream_model_dir: expected a name or path, got ['a']"),
        ('{"epoch": 3}', "args.json: expected names of arguments, got 'epoch': did you mean 'epochs'?"),
        ('{"data": [{"text": "비"}]}', "Else correct it, or the path; a file of texts: end its name with .jsonl"),
        ('{"epochs": 0}', "epochs: expected a whole number from 1 to 10,000, got 0"),
        ('{"downstream_corpus_name": "nowhere"}', "downstream_corpus_name: expected one of"),
    ],
)
def test_what_is_wrong_with_the_arguments_is_one_sentence(content, sentence, tmp_path, capsys):
    path = tmp_path / "args.json"
    if content is not None:
        path.write_text(content)
    assert main(["train", str(path), "--downstream_corpus_root_dir", str(tmp_path / "none")]) == 1
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1


def test_an_encoder_that_is_nowhere_is_one_sentence_without_a_network(make_args, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="pretrained_model_name: .*got 'nobody/kcbert', .*Cannot reach https://hugg"):
        nlpbook.train(make_args(pretrained_model_name="nobody/kcbert"))


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun on Windows needs another rendezvous")
def test_the_same_command_runs_under_torchrun(arguments, tmp_path):
    command = [sys.executable, *TORCHRUN, str(arguments(batch_size=2))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "training on 2 processes on the CPU" in done.stdout
    for line in ("set seed: 7", "training on", "best checkpoint", "test: accuracy"):
        assert done.stdout.count(line) == 1, line
