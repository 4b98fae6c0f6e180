"""The shipped classifiers are as good as their cards say, and a card says what its figures say."""

import json
from pathlib import Path

import pytest
from encoder_families import needs_exporter

import nlpbook_helpers as nlpbook

# corpus, its folder, a sample that the classifier has not seen, and the least share of it to be answered rightly
CLASSIFIERS = {
    "doccls": (nlpbook.NsmcCorpus(), "nsmc", "nsmc-sample", 0.9),
    "paircls": (nlpbook.KlueNLICorpus(), "klue-nli", "klue-nli-sample", 0.4),
}


@pytest.fixture(scope="module", params=CLASSIFIERS)
def shipped(request):
    folder = Path(nlpbook.get_embedded_path(request.param))
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    return request.param, folder, figures, nlpbook.Classifier.from_checkpoint(folder)


def measure_accuracy(classifier, corpus, folder: Path, *modes: str) -> tuple[float, int]:
    examples = [example for mode in modes for example in corpus.get_examples(folder, mode)]
    texts = [example.text_a if example.text_b is None else example[:2] for example in examples]
    labels = [corpus.get_labels().index(example.label) for example in examples]
    return float((classifier.predict(texts).argmax(axis=1) == labels).mean()), len(labels)


@pytest.mark.corpora
def test_the_recorded_accuracy_is_reproduced_on_every_test_row(shipped, corpus_dir):
    name, _, figures, classifier = shipped
    corpus, corpus_name, _, _ = CLASSIFIERS[name]
    accuracy, rows = measure_accuracy(classifier, corpus, corpus_dir / corpus_name, "test")
    assert rows == figures["test_examples"]
    assert accuracy == pytest.approx(figures["test_accuracy"], abs=0.004)


def test_the_sample_is_answered_well_enough(shipped):
    name, _, _, classifier = shipped
    corpus, _, sample, floor = CLASSIFIERS[name]
    accuracy, _ = measure_accuracy(classifier, corpus, Path(nlpbook.get_embedded_path(sample)), "train", "test")
    assert accuracy >= floor


@needs_exporter
def test_the_8_bit_graph_answers_like_the_model(shipped):
    name, folder, _, classifier = shipped
    corpus, _, sample, _ = CLASSIFIERS[name]
    examples = corpus.get_examples(Path(nlpbook.get_embedded_path(sample)), "train")
    texts = [example.text_a if example.text_b is None else example[:2] for example in examples]
    exact = classifier.predict(texts)
    rounded = nlpbook.Classifier.from_checkpoint(folder, backend="onnx").predict(texts)
    assert 0 < abs(rounded - exact).mean() < 0.01
    assert (rounded.argmax(axis=1) == exact.argmax(axis=1)).mean() > 0.97


def test_the_card_says_what_the_figures_say(shipped):
    name, folder, figures, _ = shipped
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"{figures['test_accuracy']:.2%}".replace("%", " %") in card
    assert f"{figures['test_examples']:,}" in card
    for label, row in figures["per_class"].items():
        assert f"| {label} | {row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} |" in card
    assert f"python checkpoints/make.py {name}" in card


def test_a_classifier_folder_holds_all_it_needs(shipped, tmp_path, monkeypatch):
    name, folder, _, _ = shipped
    monkeypatch.chdir(tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "tokenizer.json", "tokenizer_config.json", "README.md", "figures.json"} <= names
    (checkpoint,) = folder.glob("*.ckpt")
    content = nlpbook.load_checkpoint(checkpoint)
    assert "optimizer_states" not in content
    assert {str(tensor.dtype) for tensor in content["state_dict"].values()} == {"torch.float16"}
    args = nlpbook.ClassificationDeployArguments(downstream_model_dir=str(folder))
    assert Path(args.pretrained_model_name).name == "nlpbook-mini"


def test_all_checkpoints_together_are_small():
    folder = Path(nlpbook.get_embedded_path("doccls")).parent
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 52 * 2**20
