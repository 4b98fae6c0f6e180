"""How does text reach the model? A corpus tokenized once and cached, in padded batches; and what the model answers."""

import hashlib
import inspect
import logging
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Subset

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.checkpoints import CheckpointError
from nlpbook_helpers.corpora import ClassificationExample, CsvCorpus, KlueNLICorpus, NsmcCorpus
from nlpbook_helpers.runtime import get_cache_dir, is_first_here, lock
from nlpbook_helpers.tokenizing import Features, check_unknown_share, encode_examples, read_cache, write_cache

logger = logging.getLogger(__name__)

CODE_VERSION = 5  # raise it when the same text would become other numbers
SPLIT_SEED = 42  # apart from args.seed: runs with different seeds are judged on the same held-out slice
BATCH_TOKENS = 4_096  # padded tokens at once: enough to fill two cores, small enough for 2 GB of memory
LENGTH_MULTIPLE = 8  # on a CPU a kernel is compiled and kept for each shape of a batch: few shapes, less memory
PADDING_TOKENS = {"cpu": 64}  # of a batch: what reading a model's weights once more costs, in tokens


def data_collator(examples: Sequence[dict[str, Any]] | Subset) -> dict[str, torch.Tensor]:
    """Turn examples of a `ClassificationDataset` into one padded batch (`collate_fn` of a `DataLoader`).

    A plain list of examples works too, and is padded with 0, which the mask hides.
    """
    if isinstance(examples, Subset):
        dataset: Any = examples.dataset
        return dataset.features.make_batch(dataset.rows[np.asarray(examples.indices)])
    columns = {name: [torch.tensor(example[name]) for example in examples] for name in examples[0]}
    labels = torch.stack(columns.pop("label"))
    pad = torch.nn.utils.rnn.pad_sequence
    return {name: pad(column, batch_first=True) for name, column in columns.items()} | {"labels": labels}


class ClassificationDataset(Dataset):
    """A corpus as the model sees it.

    `mode="val"` is the corpus's own validation file, or else the slice that `args.validation_size` holds out of the
    training file (stratified, the same for every seed, equal first texts on one side); "train" is the training file,
    less that slice; "test" is the test file. An item is a dict of lists (`input_ids`, …) and the int `label`.

    Args:
        args: Corpus name and folder, length, cache and split.
        corpus: Anything with `get_examples(folder, mode)`, `get_labels()` and `num_labels`, as in the book.
        tokenizer: A Hugging Face tokenizer; one that does not know the texts' script is a ValueError.
        mode: `train`, `val` or `test`.

    Attributes:
        folder: Where the corpus's files are.
        rows: int64, (examples,): which rows of the file these are.
        lengths: Tokens per example; what a length-grouping sampler asks for.
        labels: int16, (examples,): positions in `corpus.get_labels()`.
        digest: Eight letters that tell these tokens, labels and rows from others.
    """

    def __init__(self, args: ClassificationTrainArguments, corpus: Any, tokenizer: Any, mode: str = "train") -> None:
        if mode not in ("train", "val", "test"):
            raise ValueError(f"mode: expected 'train', 'val' or 'test', got {mode!r}")
        self.args, self.corpus, self.tokenizer, self.mode = args, corpus, tokenizer, mode
        self.folder = Path(str(args.downstream_corpus_root_dir)) / args.downstream_corpus_name
        if args.skip_bad_rows:
            corpus.skip_bad_rows = True
        has_val_file = hasattr(corpus, "has_file") and corpus.has_file(self.folder, "val")
        self.validation_size = 0 if has_val_file else args.validation_size
        self.file_mode = "train" if mode == "val" and self.validation_size else mode
        if mode == "val" and not self.validation_size and not has_val_file:
            remedy = (
                "set validation_size (0.1 holds out a tenth), add a file of them, or use mode='test' as the book does"
            )
            raise ValueError(f"mode='val' needs held-out rows, got validation_size=0: {remedy}")
        self.features = self._load_or_build()
        self.rows = self._choose_rows()
        self.lengths, self.labels = self.features.lengths[self.rows].tolist(), self.features.labels[self.rows]
        hashed = (self.features.input_ids, self.features.labels, self.rows)
        self.digest = f"{reduce(lambda sum, one: zlib.crc32(np.ascontiguousarray(one).data, sum), hashed, 0):08x}"
        self._log_examples()
        self._log_labels()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> dict[str, Any]:
        item = {name: column[0].tolist() for name, column in self.features.make_batch(self.rows[[position]]).items()}
        return item | {"label": item.pop("labels")}

    def __getitems__(self, positions: Sequence[int]) -> Subset:
        """Fetch a whole batch at once (torch's `DataLoader` calls this), which becomes tensors in one step."""
        return Subset(self, positions)

    def get_examples(self, positions: Iterable[int]) -> list[ClassificationExample]:
        """Return texts and labels of some examples, read again from the file, which is not kept in memory."""
        rows = self.rows[list(positions)].tolist()
        wanted = set(rows)
        stream = enumerate(islice(self._read_examples(), max(rows, default=-1) + 1))
        found = {row: example for row, example in stream if row in wanted}
        return [found[row] for row in rows]

    def _read_examples(self) -> Iterable[ClassificationExample]:
        # a corpus class written as in the book has get_examples only
        read = getattr(self.corpus, "iterate_examples", self.corpus.get_examples)
        return read(self.folder, self.file_mode)

    def _load_or_build(self) -> Features:
        # a corpus class of the reader's own may change while its name and file stay; and what is left out is said
        if type(self.corpus) not in (CsvCorpus, NsmcCorpus, KlueNLICorpus) or self.corpus.skip_bad_rows:
            return self._build()
        path = self._get_cache_path()
        # of several processes on a machine the first tokenizes, the others read what it has written
        with lock(path):
            features = read_cache(path, self.tokenizer) if not (self.args.overwrite_cache and is_first_here()) else None
            if features is None:
                features = self._build()
                write_cache(path, features)
        return features

    def _build(self) -> Features:
        label_ids = {label: index for index, label in enumerate(self.corpus.get_labels())}
        features = encode_examples(self.tokenizer, self._read_examples(), label_ids, self.args.max_seq_length)
        check_unknown_share(self.tokenizer, features.input_ids)
        return features

    def _get_cache_path(self) -> Path:
        """Name a file by all that its numbers depend on."""
        file = self.corpus.find_file(self.folder, self.file_mode)
        reading = (type(self.corpus).__name__, sorted((key, str(value)) for key, value in vars(self.corpus).items()))
        if self.tokenizer.is_fast:
            self.tokenizer("")  # makes it forget the truncation of its last call, which is no part of it
            words: Any = self.tokenizer.backend_tokenizer.to_str()
        else:  # such as KoBERT's
            words = sorted(self.tokenizer.get_vocab().items()), self.tokenizer.all_special_ids
        digest = hashlib.sha256(file.read_bytes())
        kind = (type(self.tokenizer).__name__, self.tokenizer.model_input_names)
        digest.update(repr((CODE_VERSION, kind, words, self.args.max_seq_length, reading)).encode())
        name = f"{self.args.downstream_corpus_name}-{self.file_mode}-{digest.hexdigest()[:16]}.safetensors"
        return get_cache_dir() / name

    def _choose_rows(self) -> np.ndarray:
        """int64, (examples,): rows of the file that belong to this mode, in file order."""
        rows, size = np.arange(len(self.features)), self.validation_size
        if self.file_mode != "train" or not size:
            return rows
        from sklearn.model_selection import train_test_split

        # a premise's other hypotheses, or a review's copy, on the other side would give the answer away
        _, first, group = np.unique(self.features.groups, return_index=True, return_inverse=True)
        share = size / len(rows) if size > 1 else size
        kinds, groups = self.features.labels[first], np.arange(len(first))
        try:
            _, held_out = train_test_split(groups, test_size=share, stratify=kinds, random_state=SPLIT_SEED)
        except ValueError:
            found, counts = np.unique(kinds, return_counts=True)
            rare = [self.corpus.get_labels()[kind] for kind in found[counts == 1]]
            lacking = f", got one of {rare}: add some, or leave that label out" if rare else ""
            expected = f"expected at least {len(found)} different first texts on each side, got {len(first)} in all"
            problem = f"cannot hold out {size} of {len(rows):,} rows: {expected}, and each label in at least two rows"
            raise ValueError(f"validation_size: {problem}{lacking}") from None
        return rows[np.isin(group, held_out) == (self.mode == "val")]

    def _log_examples(self, count: int = 3) -> None:
        for position, example in enumerate(self.get_examples(range(min(count, len(self))))):
            item, sentence = self[position], " + ".join(filter(None, example[:2]))
            tokens = " ".join(self.tokenizer.convert_ids_to_tokens(item["input_ids"]))
            named = f"sentence: {sentence}\ntokens: {tokens}\nlabel: {example.label}\nfeatures: {item}"
            logger.info("*** Example ***\n%s", named)

    def _log_labels(self) -> None:
        names, labels = self.corpus.get_labels(), self.labels
        counts = dict(zip(names, np.bincount(labels[labels >= 0], minlength=len(names)).tolist(), strict=True))
        shown = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        logger.info("%s: %s examples; labels: %s", self.mode, f"{len(self):,}", shown)
        if absent := [name for name, count in counts.items() if not count]:
            logger.warning("%s: no example of label %s, so that nothing can be said of it", self.mode, absent)
        limit, lengths = self.args.max_seq_length, self.features.whole_lengths[self.rows]
        if self.mode == "train" and len(longer := lengths[lengths > limit]):
            logger.warning(
                "train: %s of %s texts are longer than max_seq_length=%s tokens (half of those than %s, one has %s): "
                "only their beginning is learned from; raise max_seq_length if the encoder reads more, or split them",
                f"{len(longer):,}", f"{len(self):,}", limit, f"{int(np.median(longer)):,}", f"{longer.max():,}",
            )  # fmt: skip


def iterate_batches(lengths: np.ndarray, batch_tokens: int, padding_tokens: int | None = None) -> Iterator[np.ndarray]:
    """Yield positions of similar length, longest first: what does not fit into memory fails at once.

    Args:
        lengths: Tokens of each example.
        batch_tokens: At most so many in a batch, padding included.
        padding_tokens: At most so many of them padding, and a power of two of rows, see `LENGTH_MULTIPLE`; None: any.
    """
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        longest = max(1, int(lengths[order[0]]))
        size = min(len(order), max(1, batch_tokens // longest))
        if padding_tokens is not None:
            padding = np.cumsum(longest - lengths[order[:size]])
            size = max(1, int(np.searchsorted(padding, padding_tokens, side="right")))
            size = 2 ** (size.bit_length() - 1)
        yield order[:size]
        order = order[size:]


def select_model_inputs(model: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Leave out token types where the encoder has none (DistilBERT) or one segment only (KLUE's RoBERTa)."""
    takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
    if takes_types and getattr(model.config, "type_vocab_size", 2) >= 2:
        return batch
    return {name: column for name, column in batch.items() if name != "token_type_ids"}


def count_positions(model: Any) -> float:
    """Return how many tokens an encoder has positions for; infinity if it has no such limit.

    RoBERTa and its family number them from the padding id on: of 514 positions, 512 are for tokens.
    """
    positions = getattr(model.config, "max_position_embeddings", None) or math.inf
    embeddings = getattr(getattr(model, "base_model", None), "embeddings", None)
    padding = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    return positions if padding is None else positions - padding - 1


def check_direction(place: str | Path, model: Any) -> None:
    """Refuse an encoder that reads as a decoder does: its first token, which answers, would see no other."""
    if getattr(model.config, "is_decoder", False) or any(
        getattr(part, "is_causal", 0) is True for part in model.modules()
    ):
        got = f"got {type(model).__name__} as a decoder"
        remedy = "set is_decoder to false in its config.json, or take an encoder such as BERT"
        raise CheckpointError(f"{place}: expected an encoder, {got}: {remedy}")


@torch.inference_mode()
def predict_probabilities(model: Any, features: Features, batch_tokens: int = BATCH_TOKENS) -> np.ndarray:
    """Score tokenized examples, in batches of similar length; the order of the result is that of `features`.

    Args:
        model: A `…ForSequenceClassification`, on any device and in any precision.
        features: Tokenized examples.
        batch_tokens: Padded tokens at once.

    Returns:
        float32, (examples, labels), or (documents, labels), averaged over windows; each row sums to one.

    Raises:
        CheckpointError: The model answers something that is not a number.
    """
    was_training = model.training
    if was_training:  # for one sentence the walk through all modules would take an eighth of the time
        model.eval()
    probabilities = np.zeros((len(features), model.config.num_labels), np.float32)
    rounded = -(-features.lengths // (multiple := getattr(model, "length_multiple", LENGTH_MULTIPLE))) * multiple
    lengths = np.where(rounded <= count_positions(model), rounded, features.lengths)
    for rows in iterate_batches(lengths, batch_tokens, PADDING_TOKENS.get(model.device.type)):
        batch = select_model_inputs(model, features.make_batch(rows, int(lengths[rows[0]])))
        del batch["labels"]
        logits = model(**{name: column.to(model.device) for name, column in batch.items()}).logits
        probabilities[rows] = logits.float().softmax(dim=-1).cpu().numpy()
    if was_training:
        model.train()
    if not np.isfinite(probabilities).all():
        raise CheckpointError("the model's answer is not a number (nan): choose another checkpoint")
    starts = np.flatnonzero(np.diff(features.documents, prepend=-1))
    windows = np.diff(starts, append=len(features))
    return np.add.reduceat(probabilities, starts) / windows[:, None].astype(np.float32)
