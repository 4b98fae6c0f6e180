"""How does text become numbers? Columns of token ids, without a Python object per example."""

import logging
import re
import time
import zlib
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nlpbook_helpers.corpora import ClassificationExample
from nlpbook_helpers.runtime import create
from nlpbook_helpers.values import CorpusError, normalize_text

logger = logging.getLogger(__name__)

SILENT_SECONDS, SECONDS_BETWEEN_LINES = 2, 10  # before whoever waits is told, and then between the lines
CHUNK_SIZE = 2_000  # examples tokenized at once; bounds the memory of Python lists
MOST_SPARE_ROWS = 1_024  # of an embedding beyond the tokenizer's ids: rounded up, or kept free for additions
KOREAN_WORD = re.compile("[가-힣]{2,}")
MAX_UNKNOWN_SHARE = 0.3  # of a corpus's tokens
KINDS = {
    "input_ids": np.uint16, "lengths": np.int64, "first_lengths": np.int32, "whole_lengths": np.int32,
    "labels": np.int16, "groups": np.uint32, "documents": np.int64,
}  # fmt: skip


class Features:
    """Tokenized examples as columns; nothing in it grows with Python objects per example.

    Attributes:
        columns: The seven that follow, by name.
        input_ids: uint16 or int32, (total tokens,): the ids of all examples, one after another.
        lengths: int64, (examples,): tokens per example.
        first_lengths: int32, (examples,): tokens of the first segment; the rest have token type 1.
        whole_lengths: int32, (examples,): tokens of what an example was cut from.
        labels: int16, (examples,): positions in the corpus's labels; -1 if unknown.
        groups: uint32, (examples,): equal where the first texts are equal (their CRC-32).
        documents: int64, (examples,): which document an example is, or is a window of.
        pad_token_id: What fills up shorter rows of a batch.
        has_token_types: Whether the tokenizer gives `token_type_ids`.
    """

    def __init__(self, columns: dict[str, np.ndarray], tokenizer: Any) -> None:
        self.columns = columns
        self.input_ids, self.lengths, self.labels = columns["input_ids"], columns["lengths"], columns["labels"]
        self.first_lengths, self.whole_lengths = columns["first_lengths"], columns["whole_lengths"]
        self.groups, self.documents = columns["groups"], columns["documents"]
        self._starts = np.cumsum(self.lengths) - self.lengths
        self.pad_token_id = tokenizer.pad_token_id
        # a slow tokenizer, such as KoBERT's, tells segments apart without naming token types among its outputs
        self.has_token_types = "token_type_ids" in tokenizer.model_input_names or not tokenizer.is_fast

    def __len__(self) -> int:
        return len(self.labels)

    def make_batch(self, rows: Sequence[int] | np.ndarray, length: int = 0) -> dict[str, torch.Tensor]:
        """Pad the rows to the longest of them, or to `length` tokens if that is more.

        Returns:
            `input_ids`, `attention_mask`, `token_type_ids` (if the encoder has them): int64, (batch, longest);
            `labels`: int64, (batch,).
        """
        rows = np.asarray(rows)
        starts, lengths = self._starts[rows], self.lengths[rows]
        positions = np.arange(lengths.max(initial=length))
        is_token = positions < lengths[:, None]
        flat = np.minimum(starts[:, None] + positions, len(self.input_ids) - 1)
        ids = np.where(is_token, self.input_ids[flat], self.pad_token_id)
        batch = {"input_ids": ids, "attention_mask": is_token}
        if self.has_token_types:
            batch["token_type_ids"] = is_token & (positions >= self.first_lengths[rows][:, None])
        batch["labels"] = self.labels[rows]
        return {name: torch.from_numpy(column.astype(np.int64)) for name, column in batch.items()}


def encode_examples(
    tokenizer: Any, examples: Iterable[ClassificationExample], label_ids: dict[str, int], max_seq_length: int,
    stride: int | None = None,
) -> Features:  # fmt: skip
    """Tokenize examples into columns, `CHUNK_SIZE` at a time, so that a stream is never held whole.

    Pairs are cut longest first, so that neither text is emptied. What takes long is logged.

    Args:
        tokenizer: A Hugging Face tokenizer.
        examples: Texts and labels; a label of None becomes -1.
        label_ids: Label → position.
        max_seq_length: Tokens per example at most, special tokens included.
        stride: None cuts longer texts; a number makes windows of them that overlap by so many tokens, each an
            example of its own (see `Features.documents`). Pairs are cut all the same.

    Raises:
        ValueError: The tokenizer's limit is lower, or a label is not one of `label_ids`.
    """
    if max_seq_length > (limit := tokenizer.model_max_length):
        expected = f"expected at most {limit}, the encoder's limit, got {max_seq_length}: lower it"
        raise ValueError(
            f"max_seq_length: {expected}, or load a tokenizer that says too little with model_max_length=…"
        )
    kinds = KINDS if len(tokenizer) <= 2**16 else KINDS | {"input_ids": np.int32}
    parts = [{name: np.zeros(0, kind) for name, kind in kinds.items()}]
    stream, count, due = iter(examples), 0, time.monotonic() + SILENT_SECONDS
    while chunk := list(islice(stream, CHUNK_SIZE)):
        columns = _encode_chunk(tokenizer, chunk, label_ids, max_seq_length, stride)
        parts.append({name: np.fromiter(column, kinds[name]) for name, column in columns.items()})
        parts[-1]["documents"] += count
        count += len(chunk)
        if time.monotonic() > due:
            due = time.monotonic() + SECONDS_BETWEEN_LINES
            logger.info("tokenized %s texts so far", f"{count:,}")
    return Features({name: np.concatenate([part.pop(name) for part in parts]) for name in KINDS}, tokenizer)


def _encode_chunk(
    tokenizer: Any, chunk: list[ClassificationExample], label_ids: dict[str, int], max_seq_length: int,
    stride: int | None,
) -> dict[str, Iterable[int]]:  # fmt: skip
    """Return columns of some examples or their windows; `documents` are positions in the chunk."""
    texts = [normalize_text(example.text_a) for example in chunk]
    pairs = [normalize_text(example.text_b) for example in chunk if example.text_b is not None]
    encode = partial(tokenizer, return_attention_mask=False, return_token_type_ids=bool(pairs), verbose=False)
    encoded, special = encode(texts, pairs or None), encode("")["input_ids"]
    whole_lengths = [*map(len, encoded["input_ids"])]
    for row in [row for row in range(len(pairs)) if whole_lengths[row] > max_seq_length]:
        # once more, since the tokenizer knows which text is the longer one, and where its special tokens belong
        cut = encode(texts[row], pairs[row], truncation="longest_first", max_length=max_seq_length)
        for name, column in encoded.items():
            column[row] = cut[name]
    windows = [_cut_windows(ids, special, max_seq_length, stride) for ids in encoded["input_ids"]]
    ids = [*chain.from_iterable(windows)]
    owners = [row for row, cut in enumerate(windows) for _ in cut]
    return {
        "input_ids": chain.from_iterable(ids),
        "lengths": map(len, ids),
        "first_lengths": (types.count(0) for types in encoded["token_type_ids"]) if pairs else map(len, ids),
        "whole_lengths": (whole_lengths[owner] for owner in owners),
        "labels": (_get_label_id(chunk[owner].label, label_ids) for owner in owners),
        "groups": (zlib.crc32(texts[owner].encode("utf-8", "surrogatepass")) for owner in owners),
        "documents": owners,
    }


def _cut_windows(ids: list[int], special: list[int], most: int, stride: int | None) -> list[list[int]]:
    """Return a text's windows of at most so many tokens, each between its special tokens as the whole text is.

    Args:
        ids: Of the whole text.
        special: Those of an empty text.
        most: Tokens of a window.
        stride: Tokens that two windows share; None for the first window alone.
    """
    if len(ids) <= most:
        return [ids]
    begin = int(ids[:1] == special[:1])  # BERT's [CLS]; a few tokenizers have all of them at the end
    end, size = len(ids) - len(special) + begin, most - len(special)
    starts = [begin] if stride is None else range(begin, end - stride, size - stride)
    return [[*ids[:begin], *ids[start : min(start + size, end)], *ids[end:]] for start in starts]


def _get_label_id(label: str | None, label_ids: dict[str, int]) -> int:
    if label is not None and label not in label_ids:
        expected = f"expected labels {list(label_ids)}, got {label!r}"
        raise CorpusError(f"{expected}: correct the rows or the corpus's get_labels()")
    return -1 if label is None else label_ids[label]


def check_unknown_share(tokenizer: Any, ids: np.ndarray) -> None:
    """Stop when the tokenizer turns much of a corpus into its unknown token: nothing could be learned from it."""
    unknown = float((ids == tokenizer.unk_token_id).mean()) if len(ids) and tokenizer.unk_token_id is not None else 0
    if unknown > MAX_UNKNOWN_SHARE:
        found = f"got {unknown:.0%} {tokenizer.unk_token} from {tokenizer.name_or_path}"
        remedy = "do_lower_case=False does not take Hangul apart, another encoder may know the language"
        raise ValueError(f"expected a tokenizer that knows this text, {found}: see whether it is readable; {remedy}")


def find_mostly_unknown(tokenizer: Any, features: Features) -> np.ndarray:
    """Say of which texts the tokenizer does not know half or more: what a model answers to them means nothing.

    A WordPiece tokenizer makes one unknown token of a word of more than 100 letters, as of 500 times "ㅋ".

    Returns:
        bool, (documents,).
    """
    owners = np.repeat(features.documents, features.lengths)
    count = int(features.documents.max(initial=-1)) + 1
    unknown = features.input_ids == (-1 if tokenizer.unk_token_id is None else tokenizer.unk_token_id)
    is_known = ~np.isin(features.input_ids, tokenizer.all_special_ids)
    known, lost = (np.bincount(owners, which, count) for which in (is_known, unknown))
    return (lost > 0) & (lost >= known)


def check_tokenizer(model_or_config: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer of another encoder: its ids would mean other words, and a training would end at chance.

    An embedding may have a few rows more than the tokenizer has ids, as many encoders do. A padding id of 0 in the
    configuration is what it holds when nobody has set it, so only another number contradicts the tokenizer.

    Args:
        model_or_config: A Hugging Face model or its configuration.
        tokenizer: A Hugging Face tokenizer.

    Raises:
        ValueError: More ids than embeddings, far fewer, special tokens with other ids, or own words unknown to it.
    """
    config = getattr(model_or_config, "config", model_or_config)
    rows, ids = getattr(config, "vocab_size", None) or len(tokenizer), len(tokenizer)
    problem = ""
    for name in ("pad", "unk", "cls", "sep", "mask"):
        expected, got = getattr(config, f"{name}_token_id", None), getattr(tokenizer, f"{name}_token_id")
        if expected and expected < rows and got is not None and expected != got:
            problem = f"whose {name}_token_id is {expected}, got one whose {name}_token_id is {got}"
    if not ids <= rows <= ids + max(MOST_SPARE_ROWS, rows // 100):
        problem = f"got {ids:,} token ids for {rows:,} embeddings"
    if not isinstance(tokenizer.model_max_length, int | float):
        raise ValueError(
            f"model_max_length: expected a number, got {tokenizer.model_max_length!r}: correct the tokenizer"
        )
    words = list(islice(filter(KOREAN_WORD.fullmatch, tokenizer.get_vocab()), 20))
    if words and all(tokenizer.unk_token_id in ids for ids in tokenizer(words)["input_ids"]):
        problem = f"got one to which words of its own, {words[0]!r}, are unknown: is its tokenizer_config.json there?"
    if problem:
        # a folder by its last part: where it lies on this machine is nobody's business
        model, own = (Path(one.name_or_path).name or type(one).__name__ for one in (config, tokenizer))
        remedy = f"load model ({model}) and tokenizer ({own}) from the same name"
        if tokenizer.vocab_size <= rows < ids:
            remedy = "tokens were added to it: model.resize_token_embeddings(len(tokenizer)) makes room, then save both"
        raise ValueError(f"expected a tokenizer that belongs to the model, {problem}: {remedy}")


def read_cache(path: Path, tokenizer: Any) -> Features | None:
    """Return cached features, memory-mapped, not copied; None if there are none, or damaged ones."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.exists():
        return None
    try:
        arrays = {name: tensor.numpy() for name, tensor in load_file(path).items()}
    except SafetensorError as error:
        logger.warning("%s is damaged (%s): tokenizing again", path.name, error)
        return None
    logger.info("loaded features from cache %s", path.name)
    return Features(arrays, tokenizer)


def write_cache(path: Path, features: Features) -> None:
    """Write features whole or not at all; a full disk only costs the cache."""
    from safetensors.torch import save_file

    tensors = {name: torch.from_numpy(column) for name, column in features.columns.items()}
    try:
        with create(path) as unfinished:
            save_file(tensors, unfinished)
    except (OSError, UnicodeEncodeError) as error:  # a full disk, or a name that is not UTF-8
        logger.warning("features are not cached: %s", error)
