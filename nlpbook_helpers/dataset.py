"""Which examples does the model see? A corpus's rows of one mode, fetched a padded batch at a time."""

import logging
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.corpora import ClassificationExample, CsvCorpus
from nlpbook_helpers.features import Features, encode_examples, get_cache_path, read_cache, write_cache
from nlpbook_helpers.runtime import is_first_here, lock

logger = logging.getLogger(__name__)

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
