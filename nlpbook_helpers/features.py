"""How does text become tensors? Columns of integers, cached, cut into padded batches without Python per example.

Which examples does the model see? A corpus's rows of one mode, fetched a padded batch at a time.
"""

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
from torch.utils.data import Dataset

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.corpora import ClassificationExample, CorpusError, CsvCorpus
from nlpbook_helpers.runtime import get_cache_dir, is_first_here, lock

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


def find_mostly_unknown(tokenizer: Any, features: Features) -> np.ndarray:
    """Return bool, (documents,): whether most of a text is unknown to the tokenizer."""
    is_unknown = features.input_ids == tokenizer.unk_token_id
    is_word = is_unknown | ~np.isin(features.input_ids, tokenizer.all_special_ids)
    starts = features.offsets[:-1]
    if features.documents is not None:
        starts = starts[np.flatnonzero(np.diff(features.documents, prepend=-1))]
    return np.add.reduceat(is_unknown, starts, dtype=np.int64) * 2 > np.add.reduceat(is_word, starts, dtype=np.int64)


MAX_UNKNOWN_SHARE = 0.3
SPLIT_SEED = 42  # apart from args.seed: runs with different seeds are judged on the same held-out slice


class FeatureBatch(Sequence):
    """Some rows of a dataset: reads like a list of examples, becomes a padded batch in one step."""

    def __init__(self, dataset: "ClassificationDataset", positions: Sequence[int] | np.ndarray) -> None:
        self.dataset, self.positions = dataset, positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, position: int) -> dict[str, Any]:  # type: ignore[override]
        return self.dataset[self.positions[position]]

    def to_tensors(self) -> dict[str, torch.Tensor]:
        """Pad to the longest row; see `Features.make_batch`."""
        return self.dataset.features.make_batch(self.dataset.rows[np.asarray(self.positions)])


def data_collator(examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Turn examples of a `ClassificationDataset` into one padded batch (`collate_fn` of a `DataLoader`).

    Args:
        examples: What a loader fetched; a plain list of examples works too, and is padded with 0, which the
            attention mask hides.

    Returns:
        int64 tensors: `input_ids`, `attention_mask`, `token_type_ids` (batch, longest), `labels` (batch,).
    """
    if isinstance(examples, FeatureBatch):
        return examples.to_tensors()
    batch = {
        name: torch.nn.utils.rnn.pad_sequence([torch.tensor(example[name]) for example in examples], batch_first=True)
        for name in examples[0]
        if name != "label"
    }
    return {**batch, "labels": torch.tensor([example["label"] for example in examples])}


class ClassificationDataset(Dataset):
    """A corpus as the model sees it.

    `mode="val"` is the corpus's own validation file if it has one, else the slice that `args.validation_size` holds out
    of the training file (stratified, the same for every seed, equal first texts on one side); `mode="train"` is the
    training file, less that slice; `mode="test"` is the test file. Item `i` is a dict of lists (`input_ids`,
    `attention_mask`, `token_type_ids`) and the int `label`.

    Args:
        args: Corpus name and folder, length, cache and split.
        corpus: Anything with `get_examples(folder, mode)`, `get_labels()` and `num_labels`.
        tokenizer: A Hugging Face tokenizer.
        mode: `train`, `val` or `test`.

    Raises:
        ValueError: Unknown mode, `val` without `validation_size`, or a tokenizer that does not know the texts' script.
        CorpusError: The file is missing or malformed.
    """

    def __init__(self, args: ClassificationTrainArguments, corpus: Any, tokenizer: Any, mode: str = "train") -> None:
        if mode not in ("train", "val", "test"):
            raise ValueError(f"mode: expected 'train', 'val' or 'test', got {mode!r}")
        self.args, self.corpus, self.tokenizer, self.mode = args, corpus, tokenizer, mode
        if args.skip_bad_rows:
            corpus.skip_bad_rows = True
        has_val_file = hasattr(corpus, "has_file") and corpus.has_file(self.folder, "val")
        self.validation_size = 0 if has_val_file else args.validation_size
        self.file_mode = "train" if mode == "val" and self.validation_size else mode
        if mode == "val" and not self.validation_size and not has_val_file:
            raise ValueError(
                "mode='val' needs held-out rows, got validation_size=0: set validation_size (0.1 holds out a tenth "
                "of the training data), or use mode='test' as the book does"
            )
        self.features = self._load_or_build()
        self.rows = self._choose_rows()
        self._log_examples()

    @property
    def folder(self) -> Path:
        """The corpus's folder."""
        return Path(str(self.args.downstream_corpus_root_dir)) / self.args.downstream_corpus_name

    @property
    def lengths(self) -> list[int]:
        """Tokens per example; what a length-grouping sampler asks for."""
        return self.features.lengths_of(self.rows).tolist()

    @property
    def labels(self) -> np.ndarray:
        """int16, (examples,): positions in `corpus.get_labels()`."""
        return self.features.labels[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> dict[str, Any]:
        if position >= len(self):
            raise IndexError(f"expected a position below {len(self)}, got {position}")
        batch = self.features.make_batch(self.rows[[position]])
        return {name: column[0].tolist() for name, column in batch.items() if name != "labels"} | {
            "label": int(batch["labels"][0])
        }

    def __getitems__(self, positions: Sequence[int]) -> FeatureBatch:
        """Fetch a whole batch at once (torch's `DataLoader` calls this if it is there)."""
        return FeatureBatch(self, positions)

    def get_examples(self, positions: Iterable[int]) -> list[ClassificationExample]:
        """Return texts and labels of some examples, read again from the file, which is not kept in memory."""
        rows = self.rows[list(positions)]
        examples = list(islice(self._read_examples(), int(rows.max(initial=-1)) + 1))
        return [examples[row] for row in rows]

    def _read_examples(self) -> Iterable[ClassificationExample]:
        # a corpus class written as in the book has get_examples only
        read = getattr(self.corpus, "iterate_examples", self.corpus.get_examples)
        return read(self.folder, self.file_mode)

    def _load_or_build(self) -> Features:
        # a corpus class of the reader's own may change while its name and file stay: it is not cached
        if type(self.corpus).__module__ != CsvCorpus.__module__:
            return self._build()
        file = self.corpus.find_file(self.folder, self.file_mode)
        name = f"{self.args.downstream_corpus_name}-{self.file_mode}"
        path = get_cache_path(name, file, self.tokenizer, self.args.max_seq_length, self.corpus)
        # of several processes on a machine the first tokenizes, the others read what it has written
        overwrites = self.args.overwrite_cache and is_first_here()
        with lock(path):
            cached = read_cache(path, self.tokenizer) if path.exists() and not overwrites else None
            if cached is not None:
                logger.info("loaded features from cache %s", path.name)
                return cached
            features = self._build()
            write_cache(path, features)
        return features

    def _build(self) -> Features:
        label_ids = {label: index for index, label in enumerate(self.corpus.get_labels())}
        examples = self._read_examples()
        features = encode_examples(self.tokenizer, examples, label_ids, self.args.max_seq_length)
        _check_unknown_share(self.tokenizer, features.input_ids)
        return features

    def _choose_rows(self) -> np.ndarray:
        """int64, (examples,): rows of the file that belong to this mode, in file order."""
        rows = np.arange(len(self.features))
        if self.file_mode != "train" or not self.validation_size:
            return rows
        from sklearn.model_selection import train_test_split

        size = self.validation_size
        # Rows with the same first text stay together: a premise's other hypotheses, or a review's copy, on the other
        # side would give the answer away, or a wrong hint.
        _, first, group = np.unique(self.features.groups, return_index=True, return_inverse=True)
        try:
            _, held_out = train_test_split(
                np.arange(len(first)),
                test_size=size / len(rows) if size > 1 else size,
                stratify=self.features.labels[first],
                random_state=SPLIT_SEED,
            )
        except ValueError:
            raise ValueError(
                f"validation_size: cannot hold {size} of {len(rows):,} rows out with every label on both sides (rows "
                f"with equal first texts stay together: {len(first):,} groups): choose another size, or add rows"
            ) from None
        return rows[np.isin(group, held_out) == (self.mode == "val")]

    def _log_examples(self, count: int = 3) -> None:
        for position, example in enumerate(self.get_examples(range(min(count, len(self))))):
            item = self[position]
            tokens = " ".join(self.tokenizer.convert_ids_to_tokens(item["input_ids"]))
            sentence = " + ".join(text for text in (example.text_a, example.text_b) if text is not None)
            logger.info(
                "*** Example ***\nsentence: %s\ntokens: %s\nlabel: %s\nfeatures: %s",
                sentence,
                tokens,
                example.label,
                item,
            )
        logger.info("%s: %s examples", self.mode, f"{len(self):,}")
        names = self.corpus.get_labels()
        if absent := [names[label] for label in sorted(set(range(len(names))) - set(self.labels.tolist()))]:
            logger.warning("%s: no example of label %s, so that nothing can be said of it", self.mode, absent)


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


BATCH_TOKENS = 4_096  # padded tokens at once: enough to fill two cores, small enough for 2 GB of memory


LENGTH_MULTIPLE = 8  # on a CPU a kernel is compiled and kept for each shape: the fewer, the less time and memory


PADDING_TOKENS = {"cpu": 64}  # of them padding: what reading a model's weights once more costs, in tokens


@torch.inference_mode()
def predict_probabilities(model: Any, features: Features, batch_tokens: int = BATCH_TOKENS) -> np.ndarray:
    """Score tokenized examples in batches of similar length; the order of the result is the order of `features`.

    Args:
        model: A `…ForSequenceClassification`, on any device and in any precision.
        features: Tokenized examples.
        batch_tokens: Padded tokens per batch.

    Returns:
        float32, (examples, labels); each row sums to one. Windows of a long document are averaged: then (documents,
        labels).
    """
    was_training = model.training
    if was_training:  # for one sentence the walk through all modules would take an eighth of the time
        model.eval()
    probabilities = np.zeros((len(features), model.config.num_labels), np.float32)
    for rows in iterate_batches(features.lengths, batch_tokens, PADDING_TOKENS.get(model.device.type)):
        length = _round_length(int(features.lengths[rows[0]]), model)
        batch = select_model_inputs(model, features.make_batch(rows, length))
        del batch["labels"]
        logits = model(**{name: column.to(model.device) for name, column in batch.items()}).logits
        probabilities[rows] = logits.float().softmax(dim=-1).cpu().numpy()
    if was_training:
        model.train()
    if features.documents is None:
        return probabilities
    starts = np.flatnonzero(np.diff(features.documents, prepend=-1))
    windows = np.diff(starts, append=len(features))
    return np.add.reduceat(probabilities, starts) / windows[:, None].astype(np.float32)


def _round_length(length: int, model: Any) -> int:
    """Round a number of tokens up, if the model has positions for so many; RoBERTa's begin at 2."""
    multiple = getattr(model, "length_multiple", LENGTH_MULTIPLE)
    rounded = -(-length // multiple) * multiple
    return rounded if rounded <= getattr(model.config, "max_position_embeddings", 0) - 2 else length
