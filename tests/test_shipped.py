"""What ships works on day one: the encoder, the sample corpora, and classifiers as good as they say."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from encoder_families import needs_exporter
from transformers import AutoModel, AutoTokenizer, BertTokenizer

import nlpbook_helpers as nlpbook

ENCODER = nlpbook.get_embedded_path("nlpbook-mini")
SAMPLES = {"nsmc-sample": nlpbook.NsmcCorpus(), "klue-nli-sample": nlpbook.KlueNLICorpus()}
# corpus, its folder, a sample that the classifier has not seen, the least share of it to be answered rightly, how far
# an 8-bit graph may move a probability on average: each layer rounds, and the second has three times as many
CLASSIFIERS = {
    "doccls": (nlpbook.NsmcCorpus(), "nsmc", "nsmc-sample", 0.75, 0.01),
    "paircls": (nlpbook.KlueNLICorpus(), "klue-nli", "klue-nli-sample", 0.55, 0.02),
}


def read(name: str, mode: str) -> list[nlpbook.ClassificationExample]:
    return SAMPLES[name].get_examples(nlpbook.get_embedded_path(name), mode)


def test_the_encoder_is_small_and_loads_in_float32():
    model, tokenizer = AutoModel.from_pretrained(ENCODER), AutoTokenizer.from_pretrained(ENCODER)
    assert model.dtype == torch.float32
    assert sum(path.stat().st_size for path in Path(ENCODER).iterdir()) <= 16 * 2**20
    assert model.config.max_position_embeddings == tokenizer.model_max_length
    texts = [example.text_a for example in read("nsmc-sample", "train")]
    by_name = BertTokenizer.from_pretrained(ENCODER, do_lower_case=False)  # as the book loads it
    assert tokenizer(texts)["input_ids"] == by_name(texts)["input_ids"]
    ids = [token for row in tokenizer(texts)["input_ids"] for token in row]
    assert ids.count(tokenizer.unk_token_id) / len(ids) < 0.01


@pytest.mark.corpora
def test_the_vocabulary_covers_nsmc_and_no_sentence_of_the_samples_is_copied(corpus_dir):
    rows = [row for mode in ("train", "test") for row in nlpbook.NsmcCorpus().get_examples(corpus_dir / "nsmc", mode)]
    real, mine = (
        {row.text_a for row in rows},
        {row.text_a for mode in ("train", "test") for row in read("nsmc-sample", mode)},
    )
    assert not [text for text in mine & real if len(text) > 8]
    tokenizer = AutoTokenizer.from_pretrained(ENCODER)
    ids = [token for row in tokenizer([row.text_a for row in rows[-50_000:]])["input_ids"] for token in row]
    assert ids.count(tokenizer.unk_token_id) / len(ids) < 0.01


@pytest.mark.parametrize(("name", "sizes"), [("nsmc-sample", (2_558, 690)), ("klue-nli-sample", (1_746, 378))])
def test_the_samples_are_balanced_and_their_splits_apart(name, sizes):
    train, test = read(name, "train"), read(name, "test")
    assert (len(train), len(test)) == sizes
    for examples in (train, test):
        assert len(set(Counter(example.label for example in examples).values())) == 1
    assert not {example[:2] for example in train} & {example[:2] for example in test}


@pytest.fixture(scope="module", params=CLASSIFIERS)
def shipped(request):
    folder = Path(nlpbook.get_embedded_path(request.param))
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    return request.param, folder, figures, nlpbook.Classifier.from_checkpoint(folder)


def answer(classifier, examples) -> tuple:
    """Return probabilities, and the share of examples that they answer rightly."""
    texts = [example.text_a if example.text_b is None else example[:2] for example in examples]
    corpus = SAMPLES["nsmc-sample" if len(classifier.input_names) == 1 else "klue-nli-sample"]
    labels = [corpus.get_labels().index(example.label) for example in examples]
    probabilities = classifier.predict(texts)
    return probabilities, float((probabilities.argmax(axis=1) == labels).mean())


@pytest.mark.corpora
def test_the_recorded_accuracy_is_reproduced_on_a_part_of_the_test_file(shipped, corpus_dir):
    name, _, figures, classifier = shipped
    corpus, folder, *_ = CLASSIFIERS[name]
    examples = corpus.get_examples(corpus_dir / folder, "test")
    assert len(examples) == figures["test_examples"]
    share = examples[:: 25 if len(examples) > 5_000 else 4]
    chance = 2 * (figures["test_accuracy"] * (1 - figures["test_accuracy"]) / len(share)) ** 0.5
    assert answer(classifier, share)[1] == pytest.approx(figures["test_accuracy"], abs=chance)


@needs_exporter
def test_the_sample_is_answered_well_enough_and_in_8_bits_alike(shipped):
    name, folder, _, classifier = shipped
    examples = read(CLASSIFIERS[name][2], "train")[::3]
    exact, accuracy = answer(classifier, examples)
    assert accuracy >= CLASSIFIERS[name][3]
    rounded, _ = answer(nlpbook.Classifier.from_checkpoint(folder, backend="onnx"), examples)
    assert 0 < abs(rounded - exact).mean() < CLASSIFIERS[name][4]
    assert (rounded.argmax(axis=1) == exact.argmax(axis=1)).mean() > 0.95


def test_a_classifier_folder_holds_all_it_needs_and_its_card_says_what_its_figures_say(shipped, tmp_path, monkeypatch):
    _, folder, figures, _ = shipped
    monkeypatch.chdir(tmp_path)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"{figures['test_accuracy']:.2%}".replace("%", " %") in card
    assert f"{figures['test_examples']:,}" in card
    for label, row in figures["per_class"].items():
        assert f"| {label} | {row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} |" in card
    assert "python checkpoints/" in card  # how it was made
    args = nlpbook.ClassificationDeployArguments(downstream_model_dir=str(folder))
    assert args.pretrained_model_name
    content = torch.load(args.downstream_model_checkpoint_fpath, weights_only=True)
    assert "optimizer_states" not in content
    stored = {tensor.dtype for key, tensor in content["state_dict"].items() if not key.endswith(".scale")}
    assert stored <= {torch.int8, torch.float16}


def test_all_checkpoints_together_are_small():
    folders = [Path(ENCODER), *(Path(nlpbook.get_embedded_path(name)) for name in CLASSIFIERS)]
    assert sum(path.stat().st_size for folder in folders for path in folder.iterdir()) < 52 * 2**20
