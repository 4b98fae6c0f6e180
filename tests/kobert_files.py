"""A repository of KoBERT's layout: SentencePiece pieces, `[UNK]` 0, `[PAD]` 1, and a tokenizer that comes as code."""

import json
from collections.abc import Iterable
from pathlib import Path

import sentencepiece
import torch
from transformers import BertConfig, BertModel

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
