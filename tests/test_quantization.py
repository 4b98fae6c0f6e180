"""The 8-bit graph answers as its model does, or PyTorch answers."""

import logging

import numpy as np
import pytest
import torch
from conftest import REVIEWS
from encoder_families import MAX_LENGTH, SIZES, make_family, needs_exporter
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

from nlpbook_helpers import Classifier
from nlpbook_helpers.exporting import onnx as quantization
from nlpbook_helpers.exporting.onnx import QuantizationError, QuantizedModel, choose_scorer, quantize

pytestmark = needs_exporter
TEXTS = [text for _, text, _ in REVIEWS if text] + ["영화 " * 40]


def make_classifier(model, tokenizer, backend):
    return Classifier(model, tokenizer, ["부정", "긍정"], ["sentence"], MAX_LENGTH, backend=backend)


@pytest.mark.parametrize("name", ["bert", "roberta", "electra", "distilbert", "xlm-roberta"])
def test_the_graph_of_any_encoder_answers_as_the_encoder(name, tokenizer):
    config = BertConfig(vocab_size=len(tokenizer), **SIZES)
    if name != "bert":
        config, tokenizer = make_family(name, tokenizer, TEXTS)
    torch.manual_seed(7)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    quantized = make_classifier(model, tokenizer, "onnx")
    assert isinstance(quantized.scorer, QuantizedModel)
    expected = make_classifier(model, tokenizer, "torch").predict(TEXTS)
    assert quantized.predict(TEXTS) == pytest.approx(expected, abs=0.03)
    alone = np.concatenate([quantized.predict([text]) for text in TEXTS])
    assert quantized.predict(TEXTS) == pytest.approx(alone, abs=0.03)


def test_the_rounded_weights_are_not_the_exact_ones(make_model):
    """Else nothing is rounded, and the backend would be slower than what it replaces."""
    model = make_model().eval()
    inputs = quantization._make_inputs(model, 2, 20)
    with torch.inference_mode():
        change = (quantize(model)(**inputs).logits - model(**inputs).logits).abs().max()
    assert 0 < change < 0.1


def test_auto_leaves_a_small_encoder_to_pytorch(make_model, monkeypatch):
    model = make_model()
    assert choose_scorer(model, "auto") is choose_scorer(model, "torch") is model
    monkeypatch.setattr(quantization, "LEAST_PARAMETERS", 1)
    monkeypatch.setattr(quantization, "supports_int8", lambda: True)
    assert isinstance(choose_scorer(model, "auto"), QuantizedModel)
    monkeypatch.setattr(quantization, "supports_int8", lambda: False)
    assert choose_scorer(model, "auto") is model
    monkeypatch.setattr(quantization, "supports_int8", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_scorer(model, "auto") is model


def test_auto_does_without_packages_that_are_not_installed(make_model, monkeypatch):
    monkeypatch.setattr(quantization, "LEAST_PARAMETERS", 1)
    monkeypatch.setattr(quantization, "find_spec", lambda name: None if name == "onnx" else name)
    model = make_model()
    assert choose_scorer(model, "auto") is model
    with pytest.raises(ValueError, match=r"backend='onnx' needs .*not found: \['onnx'\]: pip install onnx"):
        choose_scorer(model, "onnx")


def test_an_unknown_backend_is_refused(make_model):
    with pytest.raises(ValueError, match="backend: expected 'auto', 'torch' or 'onnx', got 'tensorrt'"):
        choose_scorer(make_model(), "tensorrt")  # type: ignore[arg-type]


def test_the_graph_is_made_once_and_again_for_other_weights(make_model, tmp_path, monkeypatch, caplog):
    quantize(make_model())
    (graph,) = (tmp_path / "cache").iterdir()
    assert graph.name.startswith("int8-")
    quantize(make_model(seed=1))
    assert len(list((tmp_path / "cache").iterdir())) == 2
    graph.write_bytes(graph.read_bytes()[:1_000])
    with caplog.at_level(logging.WARNING, "nlpbook_helpers.exporting.onnx"):
        quantize(make_model())
    assert f"{graph.name} is damaged" in caplog.text
    monkeypatch.setattr(quantization, "_export_graph", None)
    quantize(make_model())


class Branching(BertForSequenceClassification):
    """A model whose way depends on its input, which no graph can express."""

    def forward(self, input_ids, attention_mask):
        if input_ids.sum().item() > 1_000:
            attention_mask = attention_mask.clone()
        return super().forward(input_ids=input_ids, attention_mask=attention_mask)


def test_where_no_graph_can_be_made_pytorch_answers(make_model, monkeypatch, caplog):
    monkeypatch.setattr(quantization, "LEAST_PARAMETERS", 1)
    monkeypatch.setattr(quantization, "supports_int8", lambda: True)
    model = Branching(make_model().config)
    with caplog.at_level(logging.WARNING, "nlpbook_helpers.exporting.onnx"):
        assert choose_scorer(model, "auto") is model
    assert "answering with PyTorch: Branching has no ONNX graph" in caplog.text
    with pytest.raises(QuantizationError, match="Branching has no ONNX graph .*: use backend='torch'"):
        choose_scorer(model, "onnx")


class Forgetful(BertForSequenceClassification):
    """A model whose answer changes after the exporter has seen it."""

    def forward(self, input_ids, attention_mask):
        if not torch.compiler.is_compiling():
            attention_mask = torch.ones_like(attention_mask)
        return super().forward(input_ids=input_ids, attention_mask=attention_mask)


def test_a_graph_that_answers_otherwise_is_refused(make_model, tmp_path):
    model = Forgetful(make_model(initializer_range=0.5).config)
    with pytest.raises(QuantizationError, match="expected an ONNX graph of Forgetful that answers like it, got logits"):
        quantize(model)
    assert not list((tmp_path / "cache").iterdir())
