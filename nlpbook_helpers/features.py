"""How does text become tensors? Columns of integers, cached, cut into padded batches without Python per example."""

import hashlib
import inspect
import json
import logging
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nlpbook_helpers.corpora import ClassificationExample, CorpusError
from nlpbook_helpers.runtime import get_cache_dir

logger = logging.getLogger(__name__)

CODE_VERSION = 2  # raise it when the same text would become other numbers
CHUNK_SIZE = 2_000  # examples tokenized at once; bounds the memory of Python lists
MOST_SPARE_ROWS = 1_024  # of an embedding beyond the tokenizer's ids: rounded up, or kept free for additions


class Features:
    """Tokenized examples as columns; nothing in it grows with Python objects per example.

    Attributes:
        input_ids: uint16 or int32, (total tokens,): the ids of all examples, one after another.
        offsets: int64, (examples + 1,): example `i` is `input_ids[offsets[i]:offsets[i + 1]]`.
        first_lengths: int32, (examples,): tokens of the first segment; the rest have token type 1.
        labels: int16, (examples,): positions in the corpus's labels; -1 if unknown.
        groups: uint32, (examples,): equal where the first texts are equal (their CRC-32).
        pad_token_id: What fills up shorter rows of a batch.
        has_token_types: Whether the tokenizer gives `token_type_ids`.
        documents: int64, (examples,): which document an example is a window of; None where every example is whole.
    """

    columns = ("input_ids", "offsets", "first_lengths", "labels", "groups")

    def __init__(self, arrays: dict[str, np.ndarray], pad_token_id: int, has_token_types: bool) -> None:
        self.input_ids, self.offsets, self.first_lengths, self.labels, self.groups = (
            arrays[name] for name in self.columns
        )
        self.pad_token_id = pad_token_id
        self.has_token_types = has_token_types
        self.documents = arrays.get("documents")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """int64, (examples,): tokens per example."""
        return np.diff(self.offsets)

    def make_batch(self, rows: Sequence[int] | np.ndarray, length: int = 0) -> dict[str, torch.Tensor]:
        """Pad the rows to the longest of them, or to `length` tokens if that is more.

        Returns:
            `input_ids`, `attention_mask`, `token_type_ids` (if the encoder has them): int64, (batch, longest);
            `labels`: int64, (batch,).
        """
        rows = np.asarray(rows)
        starts, lengths = self.offsets[rows], self.lengths_of(rows)
        positions = np.arange(lengths.max(initial=length))
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
    tokenizer: Any,
    examples: Iterable[ClassificationExample],
    label_ids: dict[str, int],
    max_seq_length: int,
    stride: int | None = None,
) -> Features:
    """Tokenize examples into columns, `CHUNK_SIZE` at a time, so that a stream is never held whole.

    Pairs are cut longest first, so that neither text is emptied.

    Args:
        tokenizer: A Hugging Face tokenizer.
        examples: Texts and labels; a label of None becomes -1.
        label_ids: Label → position.
        max_seq_length: Tokens per example at most, special tokens included.
        stride: None cuts longer texts; a number makes windows of them that overlap by so many tokens, each an
            example of its own (see `Features.documents`). Pairs are cut all the same.

    Raises:
        ValueError: The tokenizer's limit is lower.
        CorpusError: A label is not one of `label_ids`.
    """
    limit = tokenizer.model_max_length
    if max_seq_length > limit:
        raise ValueError(
            f"max_seq_length: expected at most {limit}, the encoder's limit, got {max_seq_length}: lower it, or, if "
            f"the encoder reads more than its tokenizer says, load that with model_max_length={max_seq_length}"
        )
    types = {
        "input_ids": np.uint16 if len(tokenizer) <= 2**16 else np.int32,
        "lengths": np.int64,
        "first_lengths": np.int32,
        "labels": np.int16,
        "groups": np.uint32,
        "documents": np.int64,
    }
    parts = {name: [np.zeros(0, kind)] for name, kind in types.items()}
    stream, count = iter(examples), 0
    while chunk := list(islice(stream, CHUNK_SIZE)):
        ids, first_lengths, owners = _encode_chunk(tokenizer, chunk, max_seq_length, stride)
        values = {
            "input_ids": chain.from_iterable(ids),
            "lengths": map(len, ids),
            "first_lengths": first_lengths,
            "labels": (_get_label_id(chunk[owner].label, label_ids) for owner in owners),
            "groups": (zlib.crc32(chunk[owner].text_a.encode("utf-8", "surrogatepass")) for owner in owners),
            "documents": (count + owner for owner in owners),
        }
        for name, column in values.items():
            parts[name].append(np.fromiter(column, types[name]))
        count += len(chunk)
    arrays: dict[str, np.ndarray] = {name: np.concatenate(columns) for name, columns in parts.items()}
    arrays["offsets"] = np.concatenate([[0], np.cumsum(arrays.pop("lengths"))]).astype(np.int64)
    if stride is None:
        del arrays["documents"]
    return Features(arrays, *_get_padding(tokenizer))


def _encode_chunk(
    tokenizer: Any, chunk: list[ClassificationExample], max_seq_length: int, stride: int | None
) -> tuple[list[list[int]], Iterable[int], Sequence[int]]:
    """Return ids, tokens of the first segment, and position in the chunk of each example or window."""
    texts = [example.text_a for example in chunk]
    arguments = {"truncation": True, "max_length": max_seq_length, "return_attention_mask": False}
    if chunk[0].text_b is not None:
        pairs = [example.text_b for example in chunk]
        encoded = tokenizer(texts, pairs, return_token_type_ids=True, **arguments)
        return encoded["input_ids"], (row.count(0) for row in encoded["token_type_ids"]), range(len(chunk))
    arguments["return_token_type_ids"] = False
    if stride is None:
        ids, owners = tokenizer(texts, **arguments)["input_ids"], range(len(chunk))
    elif tokenizer.is_fast:
        encoded = tokenizer(texts, stride=stride, return_overflowing_tokens=True, **arguments)
        ids, owners = encoded["input_ids"], encoded["overflow_to_sample_mapping"]
    else:  # a slow tokenizer returns what overflows, but not as windows
        body = max_seq_length - tokenizer.num_special_tokens_to_add()
        whole = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        starts = [range(0, max(1, len(row) - stride), body - stride) for row in whole]
        owners = [owner for owner, own in enumerate(starts) for _ in own]
        cut = [row[start : start + body] for row, own in zip(whole, starts, strict=True) for start in own]
        ids = [tokenizer.build_inputs_with_special_tokens(row) for row in cut]
    return ids, map(len, ids), owners


def _get_label_id(label: str | None, label_ids: dict[str, int]) -> int:
    if label is None:
        return -1
    if label not in label_ids:
        raise CorpusError(
            f"expected labels {list(label_ids)}, got {label!r}: correct the rows or the corpus's get_labels()"
        )
    return label_ids[label]


def _get_padding(tokenizer: Any) -> tuple[int, bool]:
    # a slow tokenizer, such as KoBERT's, tells segments apart without naming token types among its outputs
    return tokenizer.pad_token_id, "token_type_ids" in tokenizer.model_input_names or not tokenizer.is_fast


def iterate_batches(lengths: np.ndarray, batch_tokens: int, padding_tokens: int | None = None) -> Iterator[np.ndarray]:
    """Yield positions of similar length, longest first.

    Longest first, so that a batch that does not fit into memory fails at once and not at the end.

    Args:
        lengths: Tokens of each example.
        batch_tokens: At most so many in a batch, padding included.
        padding_tokens: At most so many of them padding; None: any.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        size = max(1, batch_tokens // longest)
        if padding_tokens is not None:
            padding = np.cumsum(longest - lengths[order[start : start + size]])
            size = max(1, int(np.searchsorted(padding, padding_tokens, side="right")))
        yield order[start : start + size]
        start += size


def select_model_inputs(model: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Leave out token types where the encoder has none (DistilBERT) or one segment only (KLUE's RoBERTa)."""
    takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
    if takes_types and getattr(model.config, "type_vocab_size", 2) >= 2:
        return batch
    return {name: column for name, column in batch.items() if name != "token_type_ids"}


def check_tokenizer(model_or_config: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer of another encoder: its ids would mean other words, and a training would end at chance.

    An embedding may have a few rows more than the tokenizer has ids, as many encoders do. A padding id of 0 in the
    configuration is what it holds when nobody has set it, so only another number contradicts the tokenizer.

    Args:
        model_or_config: A Hugging Face model or its configuration.
        tokenizer: A Hugging Face tokenizer.

    Raises:
        ValueError: More ids than embeddings, far fewer, or special tokens with other ids.
    """
    config = getattr(model_or_config, "config", model_or_config)
    rows, ids = getattr(config, "vocab_size", None) or len(tokenizer), len(tokenizer)
    names = (
        getattr(config, "name_or_path", "") or config.model_type,
        tokenizer.name_or_path or type(tokenizer).__name__,
    )
    # a folder by its last part: where it lies on this machine is nobody's business
    model_name, tokenizer_name = (Path(name).name if Path(name).is_absolute() else name for name in names)
    remedy = f"load model ({model_name}) and tokenizer ({tokenizer_name}) from the same name"
    if not ids <= rows <= ids + max(MOST_SPARE_ROWS, rows // 100):
        raise ValueError(
            f"expected a tokenizer that belongs to the model, got {ids:,} token ids for {rows:,} embeddings: {remedy}"
        )
    for name in ("pad", "unk", "cls", "sep", "mask"):
        expected, got = getattr(config, f"{name}_token_id", None), getattr(tokenizer, f"{name}_token_id")
        if expected and expected < rows and got is not None and expected != got:
            raise ValueError(
                f"expected a tokenizer that belongs to the model, whose {name}_token_id is {expected}, got one whose "
                f"{name}_token_id is {got}: {remedy}"
            )


def get_cache_path(name: str, file: Path, tokenizer: Any, max_seq_length: int, corpus: Any) -> Path:
    """Name a cache file by all that its numbers depend on: content, tokenizer, length, reading and this code.

    Args:
        name: What a person recognizes the file by, for example "nsmc-train".
        file: The corpus file.
        tokenizer: A Hugging Face tokenizer.
        max_seq_length: Tokens per example at most.
        corpus: The corpus that reads the file; its attributes say how.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a slow tokenizer, such as KoBERT's
        content: Any = (type(tokenizer).__name__, sorted(tokenizer.get_vocab().items()), tokenizer.all_special_ids)
    else:
        content = json.loads(backend.to_str())
        for name_of_setting in ("truncation", "padding"):  # left there by the last call, not part of the tokenizer
            del content[name_of_setting]
    reading = (type(corpus).__name__, sorted((key, str(value)) for key, value in vars(corpus).items()))
    digest = hashlib.sha256(file.read_bytes())
    digest.update(repr((CODE_VERSION, content, tokenizer.model_input_names, max_seq_length, reading)).encode())
    return get_cache_dir() / f"{name}-{digest.hexdigest()[:16]}.safetensors"


def read_cache(path: Path, tokenizer: Any) -> Features | None:
    """Return cached features, memory-mapped, not copied; None if the file is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        arrays = {name: tensor.numpy() for name, tensor in load_file(path).items()}
    except SafetensorError as error:
        logger.warning("%s is damaged (%s): tokenizing again", path.name, error)
        return None
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
