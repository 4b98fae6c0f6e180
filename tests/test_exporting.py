"""An exported classifier answers as before, wherever it is loaded; its 8-bit graph answers as its model does."""

import json
import logging
import re
import sys
from importlib.metadata import version

import numpy as np
import pytest
import torch
import yaml
from encoder_families import needs_exporter
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertForSequenceClassification, pipeline

from nlpbook_helpers import CheckpointError, Classifier, QuantizationError, export, get_embedded_path, load_checkpoint
from nlpbook_helpers.exporting.onnx import QuantizedModel, choose_scorer, quantize
from nlpbook_helpers.restoring import restore

REVIEWS = ["정말 재미있는 영화", "시간이 아까웠다", "", "!?", "다시 " * 400]
PAIRS = [("비가 온다", "날씨가 맑다"), ("아이가 웃는다", "누군가 웃는다"), ("길다 " * 300, "짧다"), ("", "")]
LABELS = ["부정 (negative)", "긍정 (positive)"]


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


@pytest.mark.parametrize(
    ("name", "texts", "licence"), [("doccls", REVIEWS, "cc0-1.0"), ("paircls", PAIRS, "cc-by-sa-4.0")]
)
def test_a_shipped_classifier_leaves_and_its_cards_examples_run(name, texts, licence, tmp_path, monkeypatch, capsys):
    checkpoint = get_embedded_path(name)
    folder = export(checkpoint, tmp_path / 'my "new" model')
    labels = restore(checkpoint).labels
    assert answer_by_pipeline(folder, texts, labels) == pytest.approx(answer_exactly(checkpoint, texts), abs=1e-3)
    before, after = (Classifier.from_checkpoint(place).info for place in (checkpoint, folder))
    assert (before["accuracy"], before["trained_on"]) == (after["accuracy"], after["trained_on"])
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"license: {licence}\n" in card and " Korean text" in card
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    capsys.readouterr()
    for block in blocks:
        exec(block, {})
    printed = capsys.readouterr().out
    assert [printed.count(label) for label in labels] == [2] * len(labels)


def test_what_was_just_trained_leaves_and_answers_alike(trained, tmp_path):
    figures = {"test_corpus": "NSMC test", "test_accuracy": 0.75, "test_examples": 8_000}
    (trained / "figures.json").write_text(json.dumps(figures))
    folder = export(trained, tmp_path / "out" / "reviews")
    assert folder == (tmp_path / "out" / "reviews").resolve()
    before, after = Classifier.from_checkpoint(trained), Classifier.from_checkpoint(folder)
    texts = [text for text in REVIEWS if text.strip()]
    assert after.predict(texts) == pytest.approx(before.predict(texts), abs=1e-6)
    assert (after.labels, after.input_names, after.text_columns) == (before.labels, ("sentence",), ("document",))
    assert after.info | {"checkpoint": ""} == before.info | {"checkpoint": ""}
    assert answer_by_pipeline(folder, REVIEWS, LABELS) == pytest.approx(answer_exactly(trained, REVIEWS), abs=1e-3)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "부정 (negative)", "1": "긍정 (positive)"}
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode
    _, head, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    data = yaml.safe_load(head)
    assert (data["language"], data["license"], data["datasets"]) == ("ko", "cc0-1.0", ["e9t/nsmc"])
    assert data["model-index"][0]["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.75}]
    val_loss = load_checkpoint(next(trained.glob("*.ckpt")))["nlpbook"]["val_loss"]
    for row in (
        "labels | 0 부정 (negative); 1 긍정 (positive)", "accuracy on NSMC test | 75.00% of 8,000",
        f"validation loss | {val_loss:.4f}", "learning_rate | 0.005", f"torch | {version('torch')}",
        "licence | cc0-1.0, that of NSMC; the terms of tiny-bert hold besides",
    ):  # fmt: skip
        assert f"\n| {row} |\n" in text
    assert "downstream_model_dir" not in text
    for file in ("config.json", "README.md", "tokenizer_config.json"):
        assert str(tmp_path) not in (folder / file).read_text(encoding="utf-8")
    again = (export(folder, tmp_path / "again", licence="mit") / "README.md").read_text(encoding="utf-8")
    assert "license: mit" in again
    assert "| learning_rate | 0.005 |" in again


def test_what_another_program_trained_further_is_not_described_by_the_past(trained, tmp_path):
    folder = export(trained, tmp_path / "out")
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3, ignore_mismatched_sizes=True)
    model.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "other")
    assert not Classifier.from_checkpoint(tmp_path / "other").info["accuracy"]


def test_a_card_calls_korean_what_was_learned_from_korean(save_bare, tmp_path, encoder_dir):
    for name, example in (("english", "a good film"), ("korean", "좋은 영화")):
        metadata = {"corpus": "mine", "label_names": ["bad", "good"], "examples": [[example]]}
        folder = export(save_bare(nlpbook=metadata), tmp_path / name, pretrained_model_name=encoder_dir)
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert ("Korean" in card, "language: ko" in card) == (name == "korean",) * 2


def test_a_bare_checkpoint_leaves_with_the_encoder_that_is_named(save_bare, tmp_path, encoder_dir):
    metadata = {"corpus": "mine", "label_names": ["가|나", "다", "라"], "text_columns": ["text"]}
    path = save_bare(3, nlpbook=metadata)
    with pytest.raises(CheckpointError, match="holds weights only.*pass pretrained_model_name"):
        export(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    folder = export(path, tmp_path / "out", pretrained_model_name=encoder_dir)
    assert Classifier.from_checkpoint(folder).labels == metadata["label_names"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "license: unknown" in card
    assert "datasets" not in card
    assert "가\\|나" in card, "a bar in a label must not break the table"


@pytest.mark.parametrize(
    ("examples", "labels", "language"),
    [([["good film"]], ["나쁨", "좋음"], None), ([["좋은 film"]], ["bad", "good"], "ko"), ([], ["bad", "good"], None)],
)
def test_only_what_was_learned_from_korean_is_called_korean(
    save_bare, tmp_path, encoder_dir, examples, labels, language
):
    path = save_bare(nlpbook={"corpus": "mine.csv", "examples": examples, "label_names": labels})
    assert Classifier.from_checkpoint(path, encoder_dir).info["language"] == language
    card = (export(path, tmp_path / "out", pretrained_model_name=encoder_dir) / "README.md").read_text("utf-8")
    assert ("language: ko" in card, "Korean text" in card) == (language == "ko",) * 2


def test_a_folder_that_holds_something_is_left_alone(trained, tmp_path):
    out, letters = tmp_path / "out", tmp_path / "letters"
    out.mkdir()
    export(trained, out)
    with pytest.raises(FileExistsError, match="folder: expected .*overwrite=True, got .*out, which holds README.md: "):
        export(trained, out)
    (out / "model.safetensors").write_text("damaged")
    export(export(trained, out, overwrite=True), out, overwrite=True)
    assert Classifier.from_checkpoint(out).labels
    with pytest.raises(FileExistsError, match="expected a new .*, got .*models, which holds .*ckpt"):
        export(trained, trained, overwrite=True)
    letters.mkdir()
    (letters / "mother.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="got .*letters, which holds mother.txt: choose another"):
        export(trained, letters, overwrite=True)
    with pytest.raises(FileExistsError, match="expected a new .*, got .*mother.txt, a file: choose another"):
        export(trained, letters / "mother.txt", overwrite=True)
    assert not list(tmp_path.glob(".*")), "nothing half-written stays"


def test_a_full_disk_leaves_nothing(trained, tmp_path, full_disk):
    with pytest.raises(CheckpointError, match="could not write .*out .*free some space"):
        export(trained, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


@needs_exporter
def test_the_graph_answers_like_the_model(trained, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = export(trained, tmp_path / "out", onnx=True)
    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = AutoTokenizer.from_pretrained(folder)(REVIEWS[:2], padding=True, return_tensors="np")
    (logits,) = session.run(["logits"], {entry.name: inputs[entry.name] for entry in session.get_inputs()})
    expected = answer_exactly(folder, REVIEWS[:2])
    assert torch.tensor(logits).softmax(-1).numpy() == pytest.approx(expected, abs=1e-4)
    assert "onnx/model.onnx" in (folder / "README.md").read_text(encoding="utf-8")
    export(folder, folder, overwrite=True)
    assert not (folder / "onnx").exists()


@needs_exporter
@pytest.mark.parametrize("family", ["bert", "xlm-roberta"], indirect=True)
def test_the_8_bit_graph_of_any_encoder_answers_as_the_encoder(family, tmp_path):
    config, tokenizer = family
    torch.manual_seed(7)
    model = AutoModelForSequenceClassification.from_config(config)
    quantized, exact = (
        Classifier(model, tokenizer, LABELS, ("sentence",), 64, backend=backend) for backend in ("onnx", "torch")
    )
    assert isinstance(quantized.scorer, QuantizedModel)
    texts = [text for text in REVIEWS if text]
    answers = quantized.predict(texts)
    assert answers == pytest.approx(exact.predict(texts), abs=0.03)
    assert answers == pytest.approx(np.concatenate([quantized.predict([text]) for text in texts]), abs=0.03)
    (graph,) = (tmp_path / "cache").glob("int8-*.onnx")  # made once
    made = graph.stat().st_mtime_ns
    quantize(AutoModelForSequenceClassification.from_config(config))  # other weights, another graph
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert graph.stat().st_mtime_ns == made


def test_a_small_encoder_is_left_to_pytorch_and_an_unknown_backend_refused(make_model, monkeypatch):
    model = make_model()
    assert choose_scorer(model, "auto") is choose_scorer(model, "torch") is model
    with pytest.raises(ValueError, match="backend: expected 'auto', 'torch' or 'onnx', got 'tensorrt'"):
        choose_scorer(model, "tensorrt")
    monkeypatch.setitem(sys.modules, "onnx", None)  # as if it were not installed
    with pytest.raises(ValueError, match=r"has no ONNX graph .*pip install 'nlpbook_helpers\[onnx\]'"):
        choose_scorer(model, "onnx")


class Large(BertForSequenceClassification):
    """Says that it is large enough for 8 bits to pay; its way depends on its input, which no graph can express."""

    def num_parameters(self):
        return 10**8

    def forward(self, input_ids, attention_mask):
        if input_ids.sum().item() > 1_000:
            attention_mask = attention_mask.clone()
        return super().forward(input_ids=input_ids, attention_mask=attention_mask)


class Forgetful(BertForSequenceClassification):
    """A model whose answer changes after the exporter has seen it."""

    def forward(self, input_ids, attention_mask):
        if not torch.compiler.is_compiling():
            attention_mask = torch.ones_like(attention_mask)
        return super().forward(input_ids=input_ids, attention_mask=attention_mask)


@needs_exporter
def test_where_no_graph_can_be_made_pytorch_answers(make_model, tmp_path, caplog):
    model = Large(make_model().config)
    with caplog.at_level(logging.WARNING, "nlpbook_helpers.exporting.onnx"):
        assert choose_scorer(model, "auto") is model  # with a warning where 8 bits would have been tried
    assert not caplog.text or "answering with PyTorch: Large has no ONNX graph" in caplog.text
    with pytest.raises(QuantizationError, match="Large has no ONNX graph .*: use backend='torch'"):
        choose_scorer(model, "onnx")
    with pytest.raises(QuantizationError, match="expected an ONNX graph of Forgetful that answers like it, got logits"):
        quantize(Forgetful(make_model(initializer_range=0.5).config))
    assert not list((tmp_path / "cache").iterdir())
