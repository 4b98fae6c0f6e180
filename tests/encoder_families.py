"""Tiny encoders of every family, with tokenizers of their kind, built in code."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch.torch_version import TorchVersion
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    ElectraConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    XLMRobertaConfig,
)

needs_exporter = pytest.mark.skipif(
    torch.__version__ < TorchVersion("2.10"), reason="torch 2.9 cannot export an encoder for any length: install 2.10"
)
MAX_LENGTH = 64
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "initializer_range": 0.1,  # so small a model learns nothing from 0.02 in a few steps
}
# as RoBERTa counts: positions begin after the padding id, and there is one segment
ROBERTA: dict[str, Any] = {**SIZES, "type_vocab_size": 1, "max_position_embeddings": MAX_LENGTH + 2, "pad_token_id": 1}
SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}


PAIRS = [
    ("정말 재미있는 영화", "재미있는 영화", "entailment"),
    ("정말 재미있는 영화", "지루한 이야기", "contradiction"),
    ("시간이 아까운 영화", "돈이 아까운 영화", "neutral"),
    ("배우가 정말 좋았다", "배우가 좋았다", "entailment"),
    ("배우가 정말 좋았다", "배우가 지루한 영화", "contradiction"),
    ("다시 보고 싶다", "최고의 영화", "neutral"),
]
FAMILIES = ("bert", "roberta", "electra", "distilbert", "xlm-roberta")


def make_bpe_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte pairs as in RoBERTa: `<s>` 0, `<pad>` 1, `</s>` 2, and no token types."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return _wrap(backend)


def make_unigram_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Pieces as SentencePiece cuts them for XLM-R: a mark at each word's beginning."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=list(SPECIAL.values()), unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return _wrap(backend)


def _wrap(backend: Tokenizer) -> PreTrainedTokenizerFast:
    """Add what both have: two `</s>` between the texts of a pair."""
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=MAX_LENGTH, cls_token="<s>", sep_token="</s>", **SPECIAL
    )


def make_family(name: str, wordpiece: PreTrainedTokenizerFast, texts: list[str]) -> tuple[Any, PreTrainedTokenizerFast]:
    """Return configuration and tokenizer of one family.

    ELECTRA and DistilBERT come with BERT's WordPiece, token types included, which DistilBERT does not take.
    """
    if name == "bert":
        return BertConfig(vocab_size=len(wordpiece), **SIZES), wordpiece
    if name == "electra":
        return ElectraConfig(vocab_size=len(wordpiece), embedding_size=16, **SIZES), wordpiece
    if name == "distilbert":
        config = DistilBertConfig(
            vocab_size=len(wordpiece), dim=32, n_layers=2, n_heads=2, hidden_dim=64, initializer_range=0.1
        )
        return config, wordpiece
    if name == "roberta":
        tokenizer = make_bpe_tokenizer(texts)
        return RobertaConfig(vocab_size=len(tokenizer), **ROBERTA), tokenizer
    if name == "xlm-roberta":
        tokenizer = make_unigram_tokenizer(texts)
        return XLMRobertaConfig(vocab_size=len(tokenizer), **ROBERTA), tokenizer
    raise ValueError(name)


# What stands in the repository beside the weights: a class that nobody has installed.
TOKENIZER_CODE = """
import shutil
from pathlib import Path

import sentencepiece
from transformers import PreTrainedTokenizer


class KoBertTokenizer(PreTrainedTokenizer):
    vocab_files_names = {"vocab_file": "tokenizer.model"}

    def __init__(self, vocab_file, **kwargs):
        self.vocab_file = vocab_file
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=vocab_file)
        tokens = {name: f"[{name[:-6].upper()}]" for name in (
            "unk_token", "pad_token", "cls_token", "sep_token", "mask_token")}
        super().__init__(**{**tokens, "special_tokens_pattern": "cls_sep", **kwargs})

    @property
    def vocab_size(self):
        return self.pieces.get_piece_size()

    def get_vocab(self):
        return {self.pieces.id_to_piece(i): i for i in range(self.vocab_size)} | self.added_tokens_encoder

    def _tokenize(self, text):
        return self.pieces.encode(text, out_type=str)

    def _convert_token_to_id(self, token):
        return self.pieces.piece_to_id(token)

    def _convert_id_to_token(self, index):
        return self.pieces.id_to_piece(index)

    def save_vocabulary(self, save_directory, filename_prefix=None):
        target = Path(save_directory) / "tokenizer.model"
        if target != Path(self.vocab_file):
            shutil.copy(self.vocab_file, target)
        return (str(target),)
"""


def write_kobert(folder: Path, texts: Iterable[str], vocab_size: int = 800, code: str = TOKENIZER_CODE) -> str:
    """Write configuration, random weights, SentencePiece model and tokenizer code; return the folder's path."""
    folder.mkdir(parents=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(folder / "tokenizer"), vocab_size=vocab_size,
        unk_id=0, unk_piece="[UNK]", pad_id=1, pad_piece="[PAD]", bos_id=-1, eos_id=-1,
        control_symbols=["[CLS]", "[SEP]", "[MASK]"], character_coverage=0.98, hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.vocab").unlink()
    (folder / "tokenization_kobert.py").write_text(code, encoding="utf-8")
    settings = {"auto_map": {"AutoTokenizer": ["tokenization_kobert.KoBertTokenizer", None]}, "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=pieces.get_piece_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, pad_token_id=1, initializer_range=0.1,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return str(folder)
