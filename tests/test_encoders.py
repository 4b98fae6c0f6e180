"""Any encoder goes through the same code, from data to prediction; also KoBERT, whose tokenizer is code."""

import json

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from encoder_families import MAX_LENGTH, PAIRS, write_kobert
from reviews import REVIEWS
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModelForSequenceClassification, pipeline

import nlpbook_helpers as nlpbook
from nlpbook_helpers import CheckpointError, ClassificationDataset, Classifier, KlueNLICorpus, NsmcCorpus, data_collator


def train(args, corpus, config, tokenizer) -> None:
    """Train as the notebooks do."""
    pl.seed_everything(args.seed, verbose=False)
    config.num_labels = corpus.num_labels
    model = AutoModelForSequenceClassification.from_config(config)
    data = [ClassificationDataset(args, corpus, tokenizer, mode) for mode in ("train", "test")]
    loaders = [DataLoader(one, args.batch_size, one is data[0], collate_fn=data_collator) for one in data]
    nlpbook.get_trainer(args).fit(nlpbook.ClassificationTask(model, args), *loaders)


def check_answers(classifier: Classifier, texts: list, labels: list[int]) -> None:
    """Most of what was learned is known, and a text's answer does not depend on its neighbours' padding."""
    together = classifier.predict(texts)
    assert (together.argmax(axis=1) == labels).mean() > 0.6
    alone = np.concatenate([classifier.predict([text]) for text in texts])
    assert together == pytest.approx(alone, abs=0.02)  # bfloat16


def test_documents_are_learned_saved_and_answered(family, make_args):
    args = make_args(epochs=20, learning_rate=1e-2, max_seq_length=MAX_LENGTH)
    train(args, NsmcCorpus(), *family)
    classifier = Classifier.from_checkpoint(args.downstream_model_dir, max_seq_length=600)
    answered = [(text, int(label)) for _, text, label in REVIEWS if text]
    check_answers(classifier, *map(list, zip(*answered, strict=True)))
    # RoBERTa's positions begin after its padding id: the last tokens must still have one, and no more are promised
    assert classifier.max_seq_length == classifier.tokenizer.model_max_length
    assert np.isfinite(classifier.predict(["정말 재미있는 영화 " * 999])).all()
    classifier.tokenizer.model_max_length = 10**9  # some tokenizers do not say
    classifier.model.save_pretrained(args.downstream_model_dir + "-hf")
    classifier.tokenizer.save_pretrained(args.downstream_model_dir + "-hf")
    again = Classifier.from_checkpoint(args.downstream_model_dir + "-hf", max_seq_length=600)
    assert np.isfinite(again.predict(["정말 재미있는 영화 " * 999])).all()


# with token types, and without: the other families go the way of one of these
@pytest.mark.parametrize("family", ["bert", "roberta"], indirect=True)
def test_pairs_are_learned_saved_and_answered(family, make_args, corpora_root):
    folder = corpora_root / "klue-nli"
    folder.mkdir()
    rows = [dict(zip(("premise", "hypothesis", "gold_label"), pair, strict=True)) for pair in PAIRS]
    for mode, repeated in (("train", 40 * rows), ("dev", rows)):
        (folder / f"klue_nli_{mode}.json").write_text(json.dumps(repeated), encoding="utf-8")
    args = make_args(
        downstream_corpus_name="klue-nli", downstream_task_name="pair-classification", epochs=1, learning_rate=3e-3,
        batch_size=1, scheduler="linear",
    )  # fmt: skip
    train(args, KlueNLICorpus(), *family)
    order = KlueNLICorpus().get_labels()
    classifier = Classifier.from_checkpoint(args.downstream_model_dir)
    check_answers(classifier, [pair[:2] for pair in PAIRS], [order.index(pair[2]) for pair in PAIRS])


@pytest.fixture(scope="module")
def kobert(tmp_path_factory) -> str:
    """The folder of a tiny KoBERT: SentencePiece, `[UNK]` 0, `[PAD]` 1, and a tokenizer that is Python code."""
    rows = NsmcCorpus().get_examples(nlpbook.get_embedded_path("nsmc-sample"), "train")
    return write_kobert(
        tmp_path_factory.mktemp("repository") / "tiny-kobert", [row.text_a for row in rows if row.text_a]
    )


def test_kobert_is_trained_and_leaves_with_its_tokenizers_code_if_that_is_trusted(kobert, make_args, tmp_path):
    with pytest.raises(ValueError, match="trust_remote_code: the tokenizer of tiny-kobert comes as Python code"):
        nlpbook.load_tokenizer(kobert)
    tokenizer = nlpbook.load_tokenizer(kobert, trust_remote_code=True)
    args = make_args(
        pretrained_model_name=kobert, downstream_corpus_name="nsmc-sample", downstream_corpus_root_dir=None,
        max_seq_length=48, batch_size=32, trust_remote_code=True, epochs=1,
    )  # fmt: skip
    data = ClassificationDataset(args, NsmcCorpus(), tokenizer)
    shortest, longest = int(np.argmin(data.lengths)), int(np.argmax(data.lengths))
    batch = data_collator(data.__getitems__([shortest, longest]))
    assert batch["input_ids"][0, data.lengths[shortest] :].unique().tolist() == [1]  # its padding, which hides no word:
    assert batch["attention_mask"].sum(dim=1).tolist() == [data.lengths[shortest], data.lengths[longest]]
    train(args, NsmcCorpus(), AutoConfig.from_pretrained(kobert), tokenizer)
    (path,) = (tmp_path / "models").glob("*.ckpt")
    for name, trust in ((None, True), (kobert, False), (None, False)):  # what the checkpoint says does not run code
        with pytest.raises(CheckpointError, match=r"needs the tokenizer of .*tiny-kobert, which is Python code"):
            Classifier.from_checkpoint(path, name, trust_remote_code=trust)
    stayed = Classifier.from_checkpoint(path, kobert, trust_remote_code=True)
    folder = nlpbook.export(path, tmp_path / "out", pretrained_model_name=kobert, trust_remote_code=True)
    with pytest.raises(CheckpointError, match="trust_remote_code: the tokenizer of out comes as Python code"):
        Classifier.from_checkpoint(folder)
    assert (folder / "README.md").read_text(encoding="utf-8").count("trust_remote_code=True") == 2
    left, texts = Classifier.from_checkpoint(folder, trust_remote_code=True), ["다시 보고 싶은 영화", "시간이 아까웠다"]
    assert left.predict(texts) == pytest.approx(stayed.predict(texts), abs=1e-6)
    answers = pipeline("text-classification", str(folder), trust_remote_code=True, device="cpu", truncation=True)(texts)
    assert [answer["label"] for answer in answers] == [left.labels[row.argmax()] for row in left.predict(texts)]


def test_code_inside_a_checkpoint_is_never_run(kobert, trained, tmp_path):
    (path,) = trained.glob("*.ckpt")
    content, marker = torch.load(path), tmp_path / "code-was-run"
    settings = {"auto_map": {"AutoTokenizer": ["tokenization_kobert.KoBertTokenizer", None]}}
    files = {"tokenizer_config.json": json.dumps(settings), "tokenization_kobert.py": f"open({str(marker)!r}, 'w')"}
    content["nlpbook"] |= {
        "pretrained_model_name": "tiny-kobert",
        "tokenizer_files": {
            name: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8) for name, text in files.items()
        },
    }
    torch.save(content, path)
    for trust in (False, True):
        with pytest.raises(ValueError, match="comes as Python code"):
            Classifier.from_checkpoint(path, kobert, trust_remote_code=trust)
    assert not marker.exists()
