"""Tiny encoders of every family, with tokenizers of their kind, built in code."""

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch.torch_version import TorchVersion
from transformers import (
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
