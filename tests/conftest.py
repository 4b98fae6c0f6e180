"""Shared fixtures: a tiny encoder built in code, three-row corpora, and the real corpora where they are at hand."""

import logging
import os
import shutil
from pathlib import Path

import pytest
import torch
from encoder_families import FAMILIES, PAIRS, make_family
from reviews import REVIEWS, write_reviews
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast
from web_client import serve_app  # noqa: F401  (a fixture of the tests of web service and page)

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.corpora import NsmcCorpus
from nlpbook_helpers.features import ClassificationDataset, data_collator
from nlpbook_helpers.task import ClassificationTask
from nlpbook_helpers.trainer import get_trainer

torch.set_num_threads(1)  # a tiny model is faster on one core than waiting for others

_WORDS = ["영화", "이야기", "배우", "정말", "재미", "있는", "시간", "아까운", "최고", "좋았다", "지루한", "다시"]


@pytest.fixture(autouse=True)
def own_cache_dir(tmp_path, monkeypatch):
    """Every test has a feature cache of its own; no setting of the machine or of another test reaches it."""
    logger = logging.getLogger("nlpbook_helpers")
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setenv("NLPBOOK_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("NLPBOOK_PROFILE", "NLPBOOK_HEADLESS", "NGROK_AUTHTOKEN", "COLAB_RELEASE_TAG", "CI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def full_disk():
    """Files may not grow past 64 KiB: the kernel refuses as a full disk does."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="session")
def corpus_dir() -> Path:
    """The folder of real corpora, or a skip that says what to set."""
    folder = os.environ.get("NLPBOOK_CORPUS_DIR")
    if not folder or not (Path(folder) / "nsmc" / "ratings_train.txt").is_file():
        pytest.skip("real corpora: set NLPBOOK_CORPUS_DIR to a folder with nsmc/ and klue-nli/")
    return Path(folder)


@pytest.fixture(scope="session")
def kcbert_dir(corpus_dir: Path) -> Path:
    """kcbert-base's vocabulary and configuration beside the corpora, or a skip."""
    folder = corpus_dir.parent / "models" / "kcbert-base"
    if not (folder / "vocab.txt").is_file():
        pytest.skip(f"kcbert vocabulary: expected {folder}")
    return folder


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of a few words and all Hangul syllables of the tests."""
    syllables = sorted({char for _, text, _ in REVIEWS for char in text if not char.isspace()} | set("ab.!?"))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_WORDS, *syllables]
    vocabulary = list(dict.fromkeys([*words, *(f"##{syllable}" for syllable in syllables)]))
    backend = Tokenizer(
        models.WordPiece({word: index for index, word in enumerate(vocabulary)}, unk_token="[UNK]")  # noqa: S106
    )
    backend.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=128, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]", model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


@pytest.fixture(scope="session")
def make_model(tokenizer):
    """A function that makes a seeded two-layer BERT classifier."""

    def make(num_labels: int = 2, seed: int = 0, **changes) -> BertForSequenceClassification:
        torch.manual_seed(seed)
        settings = {
            "vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 64, "max_position_embeddings": 128, "num_labels": num_labels,
        }  # fmt: skip
        return BertForSequenceClassification(BertConfig(**settings | changes))

    return make


@pytest.fixture
def encoder_dir(tmp_path, tokenizer, make_model) -> str:
    """The tiny encoder as a Hugging Face folder."""
    folder = tmp_path / "tiny-bert"
    make_model().bert.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def corpora_root(tmp_path) -> Path:
    """A folder of corpora with an NSMC of eight reviews."""
    write_reviews(tmp_path / "corpora" / "nsmc", REVIEWS)
    return tmp_path / "corpora"


@pytest.fixture
def make_args(tmp_path, corpora_root, encoder_dir):
    """A function that makes training arguments for the tiny encoder and corpus."""

    def make(**changes) -> ClassificationTrainArguments:
        settings = {
            "pretrained_model_name": encoder_dir, "downstream_corpus_name": "nsmc", "max_seq_length": 32,
            "downstream_corpus_root_dir": str(corpora_root), "downstream_model_dir": str(tmp_path / "models"),
            "batch_size": 4, "seed": 7, "learning_rate": 1e-3,
        }  # fmt: skip
        return ClassificationTrainArguments(**settings | changes)

    return make


@pytest.fixture
def loaders(tokenizer):
    """A function that makes the loaders of training and validation, as the book's cells do."""

    def make(args, sampler=RandomSampler) -> list[DataLoader]:
        train, test = (ClassificationDataset(args, NsmcCorpus(), tokenizer, mode) for mode in ("train", "test"))
        return [
            DataLoader(train, batch_size=args.batch_size, sampler=sampler(train), collate_fn=data_collator),
            DataLoader(test, batch_size=args.batch_size, sampler=SequentialSampler(test), collate_fn=data_collator),
        ]

    return make


@pytest.fixture
def fit(loaders, make_model):
    """A function that trains as the book's cells do, or with other loaders, and returns the Trainer."""

    def train(args, model=None, train=..., val=..., **settings):
        torch.manual_seed(args.seed or 0)
        own = loaders(args)
        train, val = (ours if given is ... else given for ours, given in zip(own, (train, val), strict=True))
        trainer = get_trainer(args, **settings)
        trainer.fit(ClassificationTask(model or make_model(), args), train_dataloaders=train, val_dataloaders=val)
        return trainer

    return train


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory, tokenizer, make_model) -> Path:
    """The folder of a checkpoint that the tiny encoder was trained to on eight reviews; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    write_reviews(folder / "nsmc", REVIEWS)
    encoder = folder / "tiny-bert"
    make_model().bert.save_pretrained(encoder)
    tokenizer.save_pretrained(encoder)
    args = ClassificationTrainArguments(
        str(encoder), downstream_corpus_root_dir=str(folder), downstream_model_dir=str(folder / "models"),
        max_seq_length=32, batch_size=4, seed=7, learning_rate=5e-3, epochs=20,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPBOOK_CACHE_DIR", str(folder / "cache"))
        data = ClassificationDataset(args, NsmcCorpus(), tokenizer, "train")
        loader = DataLoader(data, args.batch_size, collate_fn=data_collator)
        get_trainer(args).fit(ClassificationTask(make_model(), args), loader, loader)
    return folder / "models"


@pytest.fixture
def trained(trained_once, tmp_path) -> Path:
    """A copy of the trained checkpoint's folder; nothing else of the training is beside it."""
    return Path(shutil.copytree(trained_once, tmp_path / "models", ignore=shutil.ignore_patterns("logs")))


@pytest.fixture
def save_bare(tmp_path, make_model):
    """A function that writes a checkpoint as the book's helper did: weights and nothing else."""

    def save(num_labels: int = 2, name: str = "bare.ckpt", **more) -> Path:
        model = make_model(num_labels=num_labels)
        weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        torch.save({"state_dict": weights, **more}, tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture(params=FAMILIES)
def family(request, tokenizer):
    """Configuration and tokenizer of one family of encoders."""
    texts = [text for _, text, _ in REVIEWS if text] + [text for pair in PAIRS for text in pair[:2]]
    return make_family(request.param, tokenizer, texts)
