"""How does text become tensors? Columns of integers, cached, cut into padded batches without Python per example."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nlpbook_helpers.corpora import ClassificationExample

logger = logging.getLogger(__name__)

CODE_VERSION = 1  # raise it when the same text would become other numbers
CHUNK_SIZE = 10_000  # examples tokenized at once; bounds the memory of Python lists
MAX_UNKNOWN_SHARE = 0.3


class Features:
    """Tokenized examples as columns; nothing in it grows with Python objects per example.

    Attributes:
        input_ids: uint16 or int32, (total tokens,): the ids of all examples, one after another.
        offsets: int64, (examples + 1,): example `i` is `input_ids[offsets[i]:offsets[i + 1]]`.
        first_lengths: int32, (examples,): tokens of the first segment; the rest have token type 1.
        labels: int16, (examples,): positions in the corpus's labels; -1 if unknown.
        pad_token_id: What fills up shorter rows of a batch.
        has_token_types: Whether the encoder takes `token_type_ids`.
    """

    columns = ("input_ids", "offsets", "first_lengths", "labels")

    def __init__(self, arrays: dict[str, np.ndarray], pad_token_id: int, has_token_types: bool) -> None:
        self.input_ids, self.offsets, self.first_lengths, self.labels = (arrays[name] for name in self.columns)
        self.pad_token_id = pad_token_id
        self.has_token_types = has_token_types

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """int64, (examples,): tokens per example."""
        return np.diff(self.offsets)

    def make_batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        """Pad the rows to the longest of them.

        Returns:
            `input_ids`, `attention_mask`, `token_type_ids` (if the encoder has them): int64, (batch, longest);
            `labels`: int64, (batch,).
        """
        rows = np.asarray(rows)
        starts, lengths = self.offsets[rows], self.lengths_of(rows)
        positions = np.arange(lengths.max(initial=0))
        is_token = positions < lengths[:, None]
        flat = np.minimum(starts[:, None] + positions, len(self.input_ids) - 1)
        batch = {
            "input_ids": np.where(is_token, self.input_ids[flat], self.pad_token_id),
            "attention_mask": is_token,
        }
        if self.has_token_types:
            batch["token_type_ids"] = is_token & (positions >= self.first_lengths[rows][:, None])
        batch["labels"] = self.labels[rows]
        return {name: torch.from_numpy(column.astype(np.int64)) for name, column in batch.items()}

    def lengths_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the tokens of some examples: int64, (rows,)."""
        return self.offsets[rows + 1] - self.offsets[rows]


def encode_examples(
    tokenizer: Any, examples: Sequence[ClassificationExample], label_ids: dict[str, int], max_seq_length: int
) -> Features:
    """Tokenize examples into columns, `CHUNK_SIZE` at a time.

    Pairs are cut longest first, so that neither text is emptied.

    Args:
        tokenizer: A Hugging Face tokenizer.
        examples: Texts and labels; a label of None becomes -1.
        label_ids: Label → position.
        max_seq_length: Tokens per example at most, special tokens included.

    Raises:
        ValueError: The tokenizer's limit is lower, or it does not know the script of the texts.
    """
    limit = tokenizer.model_max_length
    if max_seq_length > limit:
        raise ValueError(
            f"max_seq_length: expected at most {limit}, the encoder's limit, got {max_seq_length}: lower it"
        )
    ids, lengths, first_lengths = [], [], []
    dtype = np.uint16 if len(tokenizer) <= 2**16 else np.int32
    for start in range(0, len(examples), CHUNK_SIZE):
        chunk = examples[start : start + CHUNK_SIZE]
        pairs = [example.text_b for example in chunk] if chunk[0].text_b is not None else None
        encoded = tokenizer(
            [example.text_a for example in chunk], pairs, truncation=True, max_length=max_seq_length,
            return_attention_mask=False, return_token_type_ids=pairs is not None,
        )  # fmt: skip
        lengths += map(len, encoded["input_ids"])
        flat = np.fromiter(chain.from_iterable(encoded["input_ids"]), dtype)
        if start == 0:
            _check_unknown_share(tokenizer, flat)
        ids.append(flat)
        types = encoded.get("token_type_ids")
        first_lengths += map(len, encoded["input_ids"]) if types is None else (row.count(0) for row in types)
    arrays = {
        "input_ids": np.concatenate(ids) if ids else np.zeros(0, dtype),
        "offsets": np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        "first_lengths": np.array(first_lengths, np.int32),
        "labels": np.array([label_ids.get(example.label, -1) for example in examples], np.int16),  # type: ignore[arg-type]
    }
    return Features(arrays, *_get_padding(tokenizer))


def _get_padding(tokenizer: Any) -> tuple[int, bool]:
    return tokenizer.pad_token_id, "token_type_ids" in tokenizer.model_input_names


def _check_unknown_share(tokenizer: Any, ids: np.ndarray) -> None:
    """Stop when the tokenizer turns much of the text into its unknown token: nothing could be learned from it."""
    if tokenizer.unk_token_id is None or not len(ids):
        return
    unknown = float((ids == tokenizer.unk_token_id).mean())
    if unknown > MAX_UNKNOWN_SHARE:
        raise ValueError(
            f"expected a tokenizer that knows this text, got {unknown:.0%} {tokenizer.unk_token} from "
            f"{tokenizer.name_or_path}: load it with do_lower_case=False (lower-casing takes Hangul apart), or "
            "choose an encoder of the text's language"
        )


def iterate_batches(lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:
    """Yield positions of similar length, longest first, each batch at most `batch_tokens` padded tokens.

    Longest first, so that a batch that does not fit into memory fails at once and not at the end.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size


def get_cache_path(name: str, file: Path, tokenizer: Any, max_seq_length: int, corpus: Any) -> Path:
    """Name a cache file by all that its numbers depend on: content, tokenizer, length, reading and this code.

    Args:
        name: What a person recognizes the file by, for example "nsmc-train".
        file: The corpus file.
        tokenizer: A Hugging Face tokenizer.
        max_seq_length: Tokens per example at most.
        corpus: The corpus that reads the file; its attributes say how.
    """
    import pooch

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a slow tokenizer, such as KoBERT's
        content: Any = (
            type(tokenizer).__name__,
            sorted(tokenizer.get_vocab().items()),
            tokenizer.all_special_ids,
        )
    else:
        content = json.loads(backend.to_str())
        del (
            content["truncation"],
            content["padding"],
        )  # left there by the last call, not part of the tokenizer
    reading = sorted((key, str(value)) for key, value in vars(corpus).items())
    digest = hashlib.sha256(file.read_bytes())
    digest.update(repr((CODE_VERSION, content, tokenizer.model_input_names, max_seq_length, reading)).encode())
    folder = Path(os.environ.get("NLPBOOK_CACHE_DIR", pooch.os_cache("nlpbook")))
    return folder / f"{name}-{digest.hexdigest()[:16]}.safetensors"


def read_cache(path: Path, tokenizer: Any) -> Features:
    """Return cached features; the columns are memory-mapped, not copied."""
    from safetensors.torch import load_file

    arrays = {name: tensor.numpy() for name, tensor in load_file(path).items()}
    return Features(arrays, *_get_padding(tokenizer))


def write_cache(path: Path, features: Features) -> None:
    """Write beside and rename, so that an interrupted run leaves no half a cache; a full disk only costs the cache."""
    from safetensors.torch import save_file

    tensors = {name: torch.from_numpy(np.ascontiguousarray(getattr(features, name))) for name in Features.columns}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
            partial = Path(temporary) / path.name
            save_file(tensors, partial)
            os.replace(partial, path)
    except OSError as error:
        logger.warning("features are not cached: %s", error)
