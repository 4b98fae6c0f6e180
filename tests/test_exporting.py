"""An exported classifier answers as before, wherever it is loaded, and can be trained further."""

import json
import re
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
import torch
import yaml
from encoder_families import needs_exporter
from test_inference import save_bare, trained  # noqa: F401
from test_training import fit
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from nlpbook_helpers.arguments import get_embedded_path
from nlpbook_helpers.checkpoints import CheckpointError, load_checkpoint
from nlpbook_helpers.classifier import Classifier, restore
from nlpbook_helpers.corpora import CsvCorpus, NsmcCorpus
from nlpbook_helpers.exporting import onnx as quantization
from nlpbook_helpers.exporting.hub import export
from nlpbook_helpers.exporting.onnx import QuantizationError
from nlpbook_helpers.features import ClassificationDataset, data_collator
from nlpbook_helpers.task import ClassificationTask
from nlpbook_helpers.trainer import get_trainer

REVIEWS = ["정말 재미있는 영화", "시간이 아까웠다", "", "!?", "다시 " * 400]
PAIRS = [("비가 온다", "날씨가 맑다"), ("아이가 웃는다", "누군가 웃는다"), ("길다 " * 300, "짧다"), ("", "")]


def answer_exactly(checkpoint, texts) -> np.ndarray:
    """Score texts in float32, one by one, cut as in training."""
    parts, rows = restore(checkpoint), []
    for text in texts:
        columns = (text,) if isinstance(text, str) else text
        inputs = parts.tokenizer(*columns, truncation=True, max_length=parts.max_seq_length, return_tensors="pt")
        with torch.inference_mode():
            rows.append(parts.model.eval()(**inputs).logits.softmax(-1)[0].numpy())
    return np.stack(rows)


def answer_by_pipeline(folder, texts, labels) -> np.ndarray:
    classifier = pipeline("text-classification", str(folder), truncation=True, device="cpu")
    inputs = [text if isinstance(text, str) else {"text": text[0], "text_pair": text[1]} for text in texts]
    answers = [{score["label"]: score["score"] for score in classifier(one, top_k=None)} for one in inputs]
    return np.array([[answer[label] for label in labels] for answer in answers])


@pytest.mark.parametrize(("name", "texts"), [("doccls", REVIEWS), ("paircls", PAIRS)])
def test_a_pipeline_answers_like_the_shipped_classifier(name, texts, tmp_path):
    checkpoint = get_embedded_path(name)
    folder = export(checkpoint, tmp_path / name)
    expected = answer_exactly(checkpoint, texts)
    found = answer_by_pipeline(folder, texts, restore(checkpoint).labels)
    print(f"{name}: largest difference {np.abs(found - expected).max():.2g}")
    assert found == pytest.approx(expected, abs=1e-3)
    assert Classifier.from_checkpoint(folder).info["score"] == Classifier.from_checkpoint(checkpoint).info["score"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "## Training arguments" not in card, "it was trained before arguments were recorded"
    assert {"doccls": "license: cc0-1.0", "paircls": "license: cc-by-sa-4.0"}[name] in card


def test_what_was_just_trained_leaves_and_answers_alike(trained, tmp_path):  # noqa: F811
    folder = export(tmp_path / "models", tmp_path / "out" / "reviews")
    assert folder == (tmp_path / "out" / "reviews").resolve()
    before, after = Classifier.from_checkpoint(tmp_path / "models"), Classifier.from_checkpoint(folder)
    texts = [text for text in REVIEWS if text.strip()]
    assert after.predict(texts) == pytest.approx(before.predict(texts), abs=1e-6)
    assert (after.labels, after.input_names, after.text_columns) == (before.labels, ("sentence",), ("document",))
    assert after.max_seq_length == before.max_seq_length == 32
    assert after.info | {"checkpoint": ""} == before.info | {"checkpoint": ""}
    assert answer_by_pipeline(folder, REVIEWS, after.labels) == pytest.approx(
        answer_exactly(tmp_path / "models", REVIEWS), abs=1e-3
    )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "부정 (negative)", "1": "긍정 (positive)"}
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode
    for file in ("config.json", "README.md", "tokenizer_config.json"):
        assert str(tmp_path) not in (folder / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["doccls", "paircls"])
def test_the_cards_examples_run(name, tmp_path, monkeypatch, capsys):
    folder = export(get_embedded_path(name), tmp_path / 'my "new" model')
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, {})
    printed = capsys.readouterr().out
    assert [printed.count(label) for label in restore(folder).labels] == [2] * len(restore(folder).labels)


def test_the_card_says_what_is_known(trained, tmp_path):  # noqa: F811
    task, _ = trained
    (tmp_path / "models" / "figures.json").write_text(
        json.dumps({"test_corpus": "NSMC test", "test_accuracy": 0.75, "test_examples": 8})
    )
    folder = export(tmp_path / "models", tmp_path / "out")
    assert (folder / "figures.json").is_file()
    _, head, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    data = yaml.safe_load(head)
    assert (data["language"], data["license"], data["datasets"]) == ("ko", "cc0-1.0", ["e9t/nsmc"])
    assert data["pipeline_tag"] == "text-classification"
    assert data["model-index"][0]["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.75}]
    val_loss = float(task.trainer.callback_metrics["val_loss"])
    for row in (
        "| labels | 0 부정 (negative); 1 긍정 (positive) |",
        "| accuracy on NSMC test | 75.00% of 8 |",
        f"| validation loss | {val_loss:.4f} |",
        "| learning_rate | 0.001 |",
        f"| torch | {version('torch')} |",
    ):
        assert row in text
    assert "tiny-bert" in text
    assert "downstream_model_dir" not in text
    again = export(folder, tmp_path / "again", licence="mit")
    assert "license: mit" in (again / "README.md").read_text(encoding="utf-8")
    assert "| learning_rate | 0.001 |" in (again / "README.md").read_text(encoding="utf-8")


def test_a_corpus_of_ones_own_has_an_unknown_licence(make_args, tokenizer, make_model, tmp_path, corpora_root):
    train_topics(make_args(downstream_corpus_name="mine"), tokenizer, make_model(num_labels=3), corpora_root)
    card = (export(tmp_path / "models", tmp_path / "out") / "README.md").read_text(encoding="utf-8")
    assert "license: unknown" in card
    assert "datasets" not in card
    assert "가\\|나" in card, "a bar in a label must not break the table"


def train_topics(args, tokenizer, model, corpora_root) -> None:
    """Train on nine rows with three labels."""
    (corpora_root / "mine").mkdir(exist_ok=True)
    rows = [f"{text},{label}" for text in ("정말 좋았다", "다시 보고", "이야기") for label in ("가|나", "다", "라")]
    (corpora_root / "mine" / "train.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    data = ClassificationDataset(args, CsvCorpus(labels=["가|나", "다", "라"]), tokenizer)
    loader = DataLoader(data, 4, collate_fn=data_collator)
    get_trainer(args).fit(ClassificationTask(model, args), loader, loader)


def test_an_export_is_fine_tuned_again(trained, make_args, tmp_path):  # noqa: F811
    folder = export(tmp_path / "models", tmp_path / "out")
    first = load_checkpoint(next((tmp_path / "models").glob("*.ckpt")))["nlpbook"]
    args = make_args(
        pretrained_model_name=str(folder), downstream_model_dir=str(tmp_path / "second"), max_seq_length=20
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    _, trainer = fit(args, tokenizer, AutoModelForSequenceClassification.from_pretrained(folder))
    again = Classifier.from_checkpoint(export(tmp_path / "second", tmp_path / "out2"))
    loss = float(trainer.callback_metrics["val_loss"])
    assert loss != first["val_loss"]
    assert again.info["score"] == f"nsmc 검증 손실 {loss:.2f}"
    assert (again.info["model"], again.max_seq_length) == ("out", 20)
    with pytest.raises(ValueError, match="max_seq_length: expected at most 32, .*load that with model_max_length=40"):
        ClassificationDataset(make_args(max_seq_length=40), NsmcCorpus(), tokenizer)


def test_an_export_learns_other_labels(trained, make_args, tmp_path, corpora_root):  # noqa: F811
    folder = export(tmp_path / "models", tmp_path / "out")
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3, ignore_mismatched_sizes=True)
    args = make_args(
        pretrained_model_name=str(folder), downstream_corpus_name="mine", downstream_model_dir=str(tmp_path / "topics")
    )
    train_topics(args, AutoTokenizer.from_pretrained(folder), model, corpora_root)
    metadata = load_checkpoint(next((tmp_path / "topics").glob("*.ckpt")))["nlpbook"]
    assert metadata["labels"] == metadata["label_names"] == ["가|나", "다", "라"]
    assert (metadata["corpus"], metadata["arguments"]["downstream_corpus_name"]) == ("mine", "mine")
    assert "부정" not in json.dumps(json.loads(metadata["config"]), ensure_ascii=False)
    classifier = Classifier.from_checkpoint(export(tmp_path / "topics", tmp_path / "topics-out"))
    assert classifier.labels == ["가|나", "다", "라"]
    assert classifier.text_columns == ("text",)


def test_what_another_program_trained_further_is_not_described_by_the_past(trained, tmp_path):  # noqa: F811
    folder = export(tmp_path / "models", tmp_path / "out")
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3, ignore_mismatched_sizes=True)
    model.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "other")
    assert "score" not in Classifier.from_checkpoint(tmp_path / "other").info


def test_a_folder_that_holds_something_is_left_alone(trained, tmp_path):  # noqa: F811
    models, out = tmp_path / "models", tmp_path / "out"
    out.mkdir()
    export(models, out)
    with pytest.raises(FileExistsError, match="expected a new or empty folder, got .*out, which holds .*overwrite=Tr"):
        export(models, out)
    (out / "model.safetensors").write_text("damaged")
    export(models, out, overwrite=True)
    assert Classifier.from_checkpoint(out).labels
    export(out, out, overwrite=True)
    assert Classifier.from_checkpoint(out).labels
    with pytest.raises(FileExistsError, match="overwrite=True replaces an earlier export, but .*models holds .*ckpt"):
        export(models, models, overwrite=True)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mother.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="but .*letters holds mother.txt, which no export writes: choose another"):
        export(models, tmp_path / "letters", overwrite=True)
    with pytest.raises(FileExistsError, match="expected a new folder, got the file .*mother.txt: choose another name"):
        export(models, tmp_path / "letters" / "mother.txt", overwrite=True)
    assert list(models.glob("*.ckpt"))
    assert not list(tmp_path.glob(".*")), "nothing half-written stays"


def test_a_full_disk_leaves_nothing(trained, tmp_path):  # noqa: F811
    # A process of its own, whose files may not grow past 64 KiB: the kernel refuses as a full disk does.
    code = (
        "import resource, signal, sys; from nlpbook_helpers.exporting.hub import export\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "export(sys.argv[1], sys.argv[2])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "models"), str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert re.search("CheckpointError: could not write .*out .*free some space", run.stderr), run.stderr
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_bare_checkpoint_leaves_with_the_encoder_that_is_named(tmp_path, make_model, encoder_dir):
    save_bare(tmp_path / "bare.ckpt", 3, make_model)
    with pytest.raises(CheckpointError, match="holds weights only.*pass pretrained_model_name"):
        export(tmp_path / "bare.ckpt", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    classifier = Classifier.from_checkpoint(
        export(tmp_path / "bare.ckpt", tmp_path / "out", pretrained_model_name=encoder_dir)
    )
    assert classifier.input_names == ("premise", "hypothesis")
    assert "license: unknown" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@needs_exporter
def test_the_graph_answers_like_the_model(trained, tmp_path):  # noqa: F811
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = export(tmp_path / "models", tmp_path / "out", onnx=True)
    assert [path.name for path in (folder / "onnx").iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    tokenizer, texts = AutoTokenizer.from_pretrained(folder), REVIEWS[:2]
    inputs = tokenizer(texts, padding=True, return_tensors="np")
    (logits,) = session.run(["logits"], {entry.name: inputs[entry.name] for entry in session.get_inputs()})
    expected = answer_exactly(folder, texts)
    assert torch.tensor(logits).softmax(-1).numpy() == pytest.approx(expected, abs=1e-4)
    assert "onnx/model.onnx" in (folder / "README.md").read_text(encoding="utf-8")
    export(folder, folder, overwrite=True)
    assert not (folder / "onnx").exists()


@needs_exporter
def test_a_graph_that_cannot_be_had_stops_the_export(trained, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(quantization, "TOLERANCE", -1)
    with pytest.raises(QuantizationError, match="answers like it, got logits that differ by .* export without onnx"):
        export(tmp_path / "models", tmp_path / "out", onnx=True)
    monkeypatch.setattr(quantization, "find_spec", lambda name: None if name == "onnx" else name)
    with pytest.raises(ValueError, match=r"an ONNX graph needs .*not found: \['onnx'\]: pip install onnx"):
        export(tmp_path / "models", tmp_path / "out", onnx=True)
    assert not (tmp_path / "out").exists()


def test_the_command_exports(trained, tmp_path):  # noqa: F811
    command = [sys.executable, "-m", "nlpbook_helpers", "export", "--checkpoint", str(tmp_path / "models")]
    command += ["--output", str(tmp_path / "out"), "--licence", "mit"]
    runs = [
        subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        for more in ([], [], ["--overwrite"])
    ]
    assert [run.returncode for run in runs] == [0, 1, 0], runs
    assert runs[0].stdout == f"{(tmp_path / 'out').resolve()}\n"
    assert re.fullmatch("folder: expected a new or empty folder, got .*\n", runs[1].stderr)
    assert "license: mit" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
