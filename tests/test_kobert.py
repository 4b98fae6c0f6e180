"""KoBERT's layout, whose own files need the network: `[UNK]` 0, `[PAD]` 1, SentencePiece, a tokenizer that is code."""

import json

import numpy as np
import pytest
import torch
from kobert_files import TOKENIZER_CODE, write_kobert
from test_encoders import train
from transformers import AutoTokenizer, BertForSequenceClassification, pipeline

from nlpbook_helpers import (
    CheckpointError,
    ClassificationDeployArguments,
    Classifier,
    KlueNLICorpus,
    NsmcCorpus,
    check_tokenizer,
    export,
    get_embedded_path,
    load_tokenizer,
)
from nlpbook_helpers.features import ClassificationDataset, data_collator

UNKNOWN = "영화 뷁"  # a syllable that the samples do not have


@pytest.fixture(scope="module")
def kobert(tmp_path_factory) -> str:
    """The folder of a tiny KoBERT whose pieces come from the sample corpora."""
    rows = [
        *NsmcCorpus().get_examples(get_embedded_path("nsmc-sample"), "train"),
        *KlueNLICorpus().get_examples(get_embedded_path("klue-nli-sample"), "train"),
    ]
    texts = [text for row in rows for text in row[:2] if text]
    return write_kobert(tmp_path_factory.mktemp("repository") / "tiny-kobert", texts)


@pytest.fixture
def make_kobert_args(make_args, kobert):
    def make(**changes):
        settings = {
            "pretrained_model_name": kobert, "downstream_corpus_name": "nsmc-sample", "max_seq_length": 48,
            "downstream_corpus_root_dir": None, "batch_size": 32, "epochs": 2, "learning_rate": 3e-3,
            "trust_remote_code": True,
        }  # fmt: skip
        return make_args(**settings | changes)

    return make


def test_code_is_run_only_if_it_is_asked_for(kobert, tmp_path, make_kobert_args):
    with pytest.raises(ValueError, match="trust_remote_code: the tokenizer of tiny-kobert comes as Python code"):
        load_tokenizer(kobert)
    marker = tmp_path / "code-was-run"
    trap = f"open({str(marker)!r}, 'w').close()\n" + TOKENIZER_CODE
    folder = write_kobert(tmp_path / "trap", ["가 나 다 라"] * 99, vocab_size=20, code=trap)
    with pytest.raises(ValueError, match="read that code, and pass trust_remote_code=True if you trust it"):
        load_tokenizer(folder, make_kobert_args(trust_remote_code=False).trust_remote_code)
    assert not marker.exists()
    load_tokenizer(folder, make_kobert_args().trust_remote_code)
    assert marker.exists()


def test_the_pad_id_and_the_mask_are_the_tokenizers(kobert, make_kobert_args):
    tokenizer = load_tokenizer(kobert, trust_remote_code=True)
    special = (tokenizer.unk_token_id, tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert (*special, tokenizer.mask_token_id) == (0, 1, 2, 3, 4)
    data = ClassificationDataset(make_kobert_args(), NsmcCorpus(), tokenizer)
    rows = [int(np.argmin(data.lengths)), int(np.argmax(data.lengths))]
    batch = data_collator(data.__getitems__(rows))
    length = data.lengths[rows[0]]
    assert batch["input_ids"][0, length:].unique().tolist() == [1]
    assert batch["attention_mask"].sum(dim=1).tolist() == [data.lengths[row] for row in rows]
    unknown = tokenizer([UNKNOWN], padding="max_length", max_length=12, return_tensors="pt")
    assert (unknown["input_ids"] == 0).any()
    assert unknown["attention_mask"][unknown["input_ids"] == 0].all()  # which `id > 0` would hide
    assert not torch.equal(unknown["attention_mask"], (unknown["input_ids"] > 0).long())


def test_an_unknown_word_and_neighbours_padding_are_told_apart(kobert, make_kobert_args):
    args = make_kobert_args(epochs=1)
    train(args, NsmcCorpus(), *load_parts(kobert))
    classifier = Classifier.from_checkpoint(args.downstream_model_dir, kobert, trust_remote_code=True)
    alone, together = classifier.predict([UNKNOWN])[0], classifier.predict([UNKNOWN, "정말 재미있는 영화 " * 9])[0]
    assert alone == pytest.approx(together, abs=0.02)


def test_pairs_have_segments_although_the_tokenizer_does_not_name_them(kobert, make_kobert_args):
    tokenizer = load_tokenizer(kobert, trust_remote_code=True)
    assert "token_type_ids" not in tokenizer.model_input_names
    args = make_kobert_args(downstream_corpus_name="klue-nli-sample", downstream_task_name="pair-classification")
    item = ClassificationDataset(args, KlueNLICorpus(), tokenizer)[0]
    second = item["input_ids"].index(tokenizer.sep_token_id) + 1
    assert item["token_type_ids"] == [0] * second + [1] * (len(item["input_ids"]) - second)


def load_parts(kobert: str):
    tokenizer = load_tokenizer(kobert, trust_remote_code=True)
    model = BertForSequenceClassification.from_pretrained(kobert)
    check_tokenizer(model, tokenizer)
    return model.config, tokenizer


def test_it_is_trained_saved_and_deployed(kobert, make_kobert_args, tmp_path):
    args = make_kobert_args(epochs=8)
    losses, _ = train(args, NsmcCorpus(), *load_parts(kobert))
    assert losses.min() < losses[0]
    deployed = ClassificationDeployArguments(
        downstream_model_dir=args.downstream_model_dir, pretrained_model_name=kobert, trust_remote_code=True
    )
    checkpoint = str(deployed.downstream_model_checkpoint_fpath)
    classifier = Classifier.from_checkpoint(
        checkpoint, deployed.pretrained_model_name, trust_remote_code=deployed.trust_remote_code
    )
    examples = NsmcCorpus().get_examples(get_embedded_path("nsmc-sample"), "train")
    right = classifier.predict([row.text_a for row in examples]).argmax(axis=1) == [int(row.label) for row in examples]
    assert right.mean() > 0.6
    assert "tokenizer_files" not in torch.load(checkpoint, weights_only=True)["nlpbook"]
    # what the checkpoint alone says is not enough to run code
    for name, trust in ((None, True), (kobert, False), (None, False)):
        with pytest.raises(
            CheckpointError, match=r"needs the tokenizer of .*tiny-kobert, which is Python code.*trust_remote_code=True"
        ):
            Classifier.from_checkpoint(checkpoint, name, trust_remote_code=trust)


def test_it_leaves_with_its_tokenizers_code(kobert, make_kobert_args, tmp_path):
    train(make_kobert_args(epochs=1), NsmcCorpus(), *load_parts(kobert))
    with pytest.raises(CheckpointError, match="needs the tokenizer of .*trust_remote_code=True"):
        export(tmp_path / "models", tmp_path / "out")
    folder = export(tmp_path / "models", tmp_path / "out", pretrained_model_name=kobert, trust_remote_code=True)
    with pytest.raises(CheckpointError, match="trust_remote_code: the tokenizer of out comes as Python code"):
        Classifier.from_checkpoint(folder)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.count("trust_remote_code=True") == 2
    left = Classifier.from_checkpoint(folder, trust_remote_code=True)
    stayed = Classifier.from_checkpoint(tmp_path / "models", kobert, trust_remote_code=True)
    texts = ["다시 보고 싶은 영화", "시간이 아까웠다"]
    assert left.predict(texts) == pytest.approx(stayed.predict(texts), abs=1e-6)
    answers = pipeline("text-classification", str(folder), trust_remote_code=True, device="cpu", truncation=True)(texts)
    assert [answer["label"] for answer in answers] == [left.labels[row.argmax()] for row in left.predict(texts)]


def test_code_inside_a_checkpoint_is_never_run(kobert, make_kobert_args, tmp_path):
    args = make_kobert_args(epochs=1)
    train(args, NsmcCorpus(), *load_parts(kobert))
    (path,) = (tmp_path / "models").glob("*.ckpt")
    content = torch.load(path, weights_only=True)
    marker = tmp_path / "code-was-run"
    settings = {"auto_map": {"AutoTokenizer": ["tokenization_kobert.KoBertTokenizer", None]}}
    files = {"tokenizer_config.json": json.dumps(settings), "tokenization_kobert.py": f"open({str(marker)!r}, 'w')"}
    content["nlpbook"]["tokenizer_files"] = {
        name: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8) for name, text in files.items()
    }
    torch.save(content, path)
    for trust in (False, True):
        with pytest.raises(ValueError, match="comes as Python code"):
            Classifier.from_checkpoint(path, kobert, trust_remote_code=trust)
    assert not marker.exists()


def test_a_hugging_face_folder_with_code_is_asked_about_too(kobert, tmp_path):
    folder = tmp_path / "classifier"
    BertForSequenceClassification.from_pretrained(kobert).save_pretrained(folder)
    AutoTokenizer.from_pretrained(kobert, trust_remote_code=True).save_pretrained(folder)
    with pytest.raises(CheckpointError, match="trust_remote_code"):
        Classifier.from_checkpoint(folder)
    classifier = Classifier.from_checkpoint(folder, trust_remote_code=True)
    assert classifier.predict(["정말 재미있는 영화"]).shape == (1, 2)


def test_training_with_another_models_tokenizer_is_refused(kobert, make_kobert_args, make_model):
    """The mistake behind many an accuracy of 0.50: all ids are there, and mean other words."""
    tokenizer = load_tokenizer(kobert, trust_remote_code=True)
    with pytest.raises(
        ValueError, match=r"expected a tokenizer that belongs to the model, got 800 token ids for 9,000"
    ):
        train(make_kobert_args(), NsmcCorpus(), make_model(vocab_size=9_000).config, tokenizer)
    with pytest.raises(ValueError, match="whose pad_token_id is 5, got one whose pad_token_id is 1: load model"):
        check_tokenizer(make_model(vocab_size=800, pad_token_id=5), tokenizer)
