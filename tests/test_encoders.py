"""Any encoder goes through the same code: data, training, checkpoint, prediction."""

import json

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from conftest import REVIEWS
from encoder_families import MAX_LENGTH, SIZES, make_family
from torch.utils.data import DataLoader, RandomSampler
from transformers import AutoModelForSequenceClassification, BertConfig, FNetConfig, XLNetConfig

from nlpbook_helpers import Classifier, KlueNLICorpus, NsmcCorpus
from nlpbook_helpers.features import ClassificationDataset, data_collator
from nlpbook_helpers.task import ClassificationTask
from nlpbook_helpers.trainer import get_trainer

FAMILIES = ("bert", "roberta", "electra", "distilbert", "xlm-roberta")
TEXTS = [text for _, text, _ in REVIEWS if text]
PAIRS = [
    ("정말 재미있는 영화", "재미있는 영화", "entailment"),
    ("정말 재미있는 영화", "지루한 이야기", "contradiction"),
    ("시간이 아까운 영화", "돈이 아까운 영화", "neutral"),
    ("배우가 정말 좋았다", "배우가 좋았다", "entailment"),
    ("배우가 정말 좋았다", "배우가 지루한 영화", "contradiction"),
    ("다시 보고 싶다", "최고의 영화", "neutral"),
]


@pytest.fixture(params=FAMILIES)
def family(request, tokenizer):
    """Configuration and tokenizer of one family."""
    texts = [*TEXTS, *(text for pair in PAIRS for text in pair[:2])]
    if request.param == "bert":
        return BertConfig(vocab_size=len(tokenizer), **SIZES), tokenizer
    return make_family(request.param, tokenizer, texts)


@pytest.fixture
def pair_args(make_args, corpora_root):
    folder = corpora_root / "klue-nli"
    folder.mkdir()
    rows = [dict(zip(("premise", "hypothesis", "gold_label"), pair, strict=True)) for pair in PAIRS]
    for mode in ("train", "dev"):
        (folder / f"klue_nli_{mode}.json").write_text(json.dumps(rows), encoding="utf-8")
    return make_args(
        downstream_corpus_name="klue-nli", downstream_task_name="pair-classification", epochs=40, learning_rate=1e-2
    )


def train(args, corpus, config, tokenizer) -> tuple[np.ndarray, ClassificationTask]:
    """Train as the notebooks do; return the validation loss of each epoch and the task."""
    pl.seed_everything(args.seed, verbose=False)
    config.num_labels = corpus.num_labels
    model = AutoModelForSequenceClassification.from_config(config)
    data = [ClassificationDataset(args, corpus, tokenizer, mode) for mode in ("train", "test")]
    train_loader = DataLoader(data[0], args.batch_size, sampler=RandomSampler(data[0]), collate_fn=data_collator)
    val_loader = DataLoader(data[1], args.batch_size, collate_fn=data_collator)
    task, trainer = ClassificationTask(model, args), get_trainer(args)
    trainer.fit(task, train_loader, val_loader)
    return pd.read_csv(f"{trainer.log_dir}/metrics.csv")["val_loss"].dropna().to_numpy(), task


def check_answers(classifier: Classifier, texts: list, labels: list[int]) -> None:
    """Most of what was learned is known, and a text's answer does not depend on its neighbours' padding."""
    together = classifier.predict(texts)
    assert together.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (together.argmax(axis=1) == labels).mean() > 0.7
    alone = np.concatenate([classifier.predict([text]) for text in texts])
    assert together == pytest.approx(alone, abs=0.02)  # bfloat16


def test_documents_are_learned_saved_and_answered(family, make_args):
    args = make_args(epochs=20, learning_rate=1e-2)
    losses, _ = train(args, NsmcCorpus(), *family)
    assert losses[-1] < losses[0] * 0.7
    classifier = Classifier.from_checkpoint(args.downstream_model_dir)
    rows = [(text, int(label)) for _, text, label in REVIEWS]
    check_answers(classifier, [text for text, _ in rows], [label for _, label in rows])
    assert type(classifier.model.config) is type(family[0])
    assert classifier.inference_fn("정말 재미있는 영화")["prediction"] in classifier.labels


def test_pairs_are_learned_saved_and_answered(family, pair_args):
    losses, _ = train(pair_args, KlueNLICorpus(), *family)
    assert losses[-1] < losses[0] * 0.7
    classifier = Classifier.from_checkpoint(pair_args.downstream_model_dir)
    order = KlueNLICorpus().get_labels()
    check_answers(classifier, [pair[:2] for pair in PAIRS], [order.index(pair[2]) for pair in PAIRS])


def test_a_text_of_the_full_length_is_read(family, make_args):
    """RoBERTa's positions begin after its padding id: the last tokens must still have one."""
    args = make_args(max_seq_length=MAX_LENGTH, epochs=1)
    _, task = train(args, NsmcCorpus(), *family)
    classifier = Classifier.from_checkpoint(args.downstream_model_dir)
    long_text = "정말 재미있는 영화 " * MAX_LENGTH
    assert len(classifier.tokenizer(long_text, truncation=True, max_length=MAX_LENGTH)["input_ids"]) == MAX_LENGTH
    assert np.isfinite(classifier.predict([long_text])).all()
    assert next(task.model.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    "config",
    [
        XLNetConfig(vocab_size=200, d_model=32, n_layer=1, n_head=2, d_inner=64),
        FNetConfig(vocab_size=200, hidden_size=32, num_hidden_layers=1, intermediate_size=64),
    ],
    ids=["xlnet", "fnet"],
)
def test_encoders_that_cannot_ignore_padding_are_refused(config, make_args):
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(
        ValueError, match="expected an encoder that takes an attention_mask and answers at its first token"
    ):
        ClassificationTask(model, make_args())


@pytest.mark.parametrize(
    ("names", "inputs"),
    [
        (["경제", "스포츠", "과학"], ("sentence",)),
        (["entailment", "contradiction", "neutral"], ("premise", "hypothesis")),
        (["LABEL_0", "LABEL_1", "LABEL_2"], ("premise", "hypothesis")),  # bare, as the book's
    ],
)
def test_a_folder_of_three_labels_takes_a_pair_only_if_they_are_of_pairs(
    names, inputs, make_model, tokenizer, tmp_path
):
    model = make_model(num_labels=3)
    model.config.id2label = dict(enumerate(names))
    model.save_pretrained(tmp_path / "three")
    tokenizer.save_pretrained(tmp_path / "three")
    assert Classifier.from_checkpoint(tmp_path / "three").input_names == inputs
