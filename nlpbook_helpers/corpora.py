"""What is read? Texts, labels and label names, from files that are checked row by row."""

import logging
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.reading import BadRow, Row, get_values, read_rows
from nlpbook_helpers.values import (
    CODED,
    GARBLED,
    MAX_INFERRED_LABELS,
    MISSING_LABEL,
    NO_VALUE,
    NUMBER,
    CorpusError,
    MissingColumnsError,
    check_that_classes,
    find_doubt,
    is_blank,
    normalize_label,
    show_label,
    sort_numbers_first,
    warn_of_odd,
)

logger = logging.getLogger(__name__)

CONTRADICTED = "there before, with another label"
LEAKED = "in the training file too"
# share of texts that are so, until it is said; people write alike ("최고"): 3 % of NSMC's test texts are leaked
TOLERATED = {"empty": 0, NO_VALUE: 0, CONTRADICTED: 0, "numbers": 0.5, "": 1}
TOLERATED |= dict.fromkeys((GARBLED, CODED, LEAKED), 0.05)
SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
MODES = {"train": ["train"], "val": ["val", "dev", "valid", "validation"], "test": ["test"]}  # as files are called


class ClassificationExample(NamedTuple):
    """One example; a pair is a document with a second text."""

    text_a: str
    text_b: str | None = None
    label: str | None = None


class _Doubts:
    """What is odd about the texts of a file: counted while they are read, said at the end."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self.texts, self.examples = array("q"), array("q")  # hashes: 16 bytes a row, where texts may be gigabytes

    def look_at(self, example: ClassificationExample) -> None:
        texts = [text for text in example[:2] if text is not None]
        self.counts.update(empty=any(map(is_blank, texts)), numbers=all(map(NUMBER.fullmatch, texts)))
        self.counts[find_doubt(texts)] += 1
        self.texts.append(hash(example[:2]))
        self.examples.append(hash(example))

    def say(self, name: str, kept: int, learned: array) -> None:
        self.counts[CONTRADICTED] = len(np.unique(self.examples)) - len(np.unique(self.texts))
        self.counts[LEAKED] = np.isin(self.texts, learned).sum()
        remedy = "see whether these are the texts (text_columns), or delete the rows"
        for kind, count in self.counts.items():
            if count > kept * TOLERATED[kind]:
                logger.warning("%s: %s of %s texts are %s: %s", name, f"{count:,}", f"{kept:,}", kind, remedy)


class CsvCorpus:
    """Documents or pairs in files with named columns, see `read_rows`.

    Args:
        text_columns: One column name for documents, two for pairs; also the names of the inference inputs.
        label_column: The column of the label, see `normalize_label`.
        labels: Every label, in the order of the model's outputs. Or a mapping, label in the file → label of the model,
            which may merge some. Or None: the labels of the training file, sorted, for every mode.
        label_names: What readers see, "한국어 (english)", in the order of the labels; default: the labels.
        files: Mode → file names, the first that exists is read.
        delimiter: Between columns of text files; default: what the header shows.
        skip_bad_rows: Leave out rows that cannot be read or have an unknown label, and say how many.
    """

    undecided_label: str | None = None
    """Of rows whose annotators did not agree; such rows are skipped and counted aloud."""

    def __init__(
        self, text_columns: Sequence[str] = ("text",), label_column: str = "label",
        labels: Sequence[str] | Mapping[str, str] | None = ("0", "1"), label_names: Sequence[str] | None = None,
        files: Mapping[str, Sequence[str]] | None = None, delimiter: str | None = None, skip_bad_rows: bool = False,
        encoding: str = "utf-8", quoting: bool = True,
    ) -> None:  # fmt: skip
        if isinstance(text_columns, str) or len(text_columns) not in (1, 2):
            raise ValueError(f"text_columns: expected one column name or two in a list, got {text_columns!r}")
        if len({*text_columns, label_column}) != len(text_columns) + 1:
            raise ValueError(f"expected different columns, got text_columns {text_columns} and label {label_column!r}")
        self.text_columns, self.label_column = tuple(text_columns), label_column
        if isinstance(label_names, str):
            raise ValueError(f"label_names: expected a list of names, got {label_names!r}")
        files = {mode: [names] if isinstance(names, str) else names for mode, names in (files or {}).items()}
        self.files = files or {
            mode: [name + suffix for name in names for suffix in SUFFIXES] for mode, names in MODES.items()
        }
        self.reading = {"delimiter": delimiter, "encoding": encoding, "quoting": quoting}
        self.skip_bad_rows = skip_bad_rows
        self.labels, self.learned = list[str](), array("q")  # hashes of the training file's texts
        self.label_names = list(label_names or [])
        if labels is not None:
            self._set_labels(labels)

    def _set_labels(self, labels: Sequence[str] | Mapping[str, str]) -> None:
        if not isinstance(labels, Sequence | Mapping) or isinstance(labels, str):  # a set's order is another every time
            raise ValueError(f"labels: expected a list, in the order of the model's outputs, got {labels!r}")
        pairs = labels.items() if isinstance(labels, Mapping) else [(label, label) for label in labels]
        self.label_of = {normalize_label(in_file): show_label(label) for in_file, label in pairs}
        if "" in self.label_of or "" in self.label_of.values():
            raise ValueError(f"labels: expected each to be a text, got {labels!r}")
        self.labels = list(dict.fromkeys(self.label_of.values()))
        if len(self.label_of) != len(pairs) or len(self.labels) < 2:
            raise ValueError(f"labels: expected at least two different ones, got {[label for _, label in pairs]}")
        self.label_names = self.label_names or self.labels
        names = {str(name).strip() for name in self.label_names}
        if not len(names) == len(self.label_names) == len(self.labels):
            raise ValueError(f"label_names: expected {len(self.labels)} different ones, got {self.label_names}")

    def get_labels(self) -> list[str]:
        """Return the labels in the order of the model's outputs."""
        if not self.labels:
            raise ValueError("labels are not known yet: call get_examples(folder, 'train') first, or give labels=[…]")
        return self.labels

    @property
    def num_labels(self) -> int:
        """Number of labels."""
        return len(self.get_labels())

    def has_file(self, folder: str | Path, mode: str) -> bool:
        """Say whether a mode has a file of its own."""
        return self._look_for_file(folder, mode) is not None

    def find_file(self, folder: str | Path, mode: str) -> Path:
        """Return the file of a mode; labels that are to be inferred are read from the training file now."""
        if mode not in self.files:
            raise ValueError(f"mode: expected one of {list(self.files)}, got {mode!r}")
        if not (path := self._look_for_file(folder, mode)):
            there = sorted(file.name for file in Path(folder).glob("*")) or "nothing"
            raise CorpusError(
                f"expected {' or '.join(self.files[mode])} in {folder}, found {there}: call "
                "download_downstream_dataset(args), or put the file there (a workbook saved as 'CSV UTF-8')"
            )
        if not self.labels and mode == "train":
            self._infer_labels(path)
        elif not self.labels:
            self.find_file(folder, "train")
        return path

    def _look_for_file(self, folder: str | Path, mode: str) -> Path | None:
        exact = [Path(folder) / name for name in self.files.get(mode, ())]
        others = [(path.with_suffix(path.suffix.upper()), Path(f"{path}.gz")) for path in exact]
        path, *more = [*filter(Path.is_file, chain(exact, *others))] or [None]
        for other in more:
            logger.warning("%s is passed over, since %s is there: name it in `files` to read it", other, path)
        return path

    def _infer_labels(self, path: Path) -> None:
        counts, names, row, columns = Counter[str](), dict[str, str](), {}, [*self.text_columns, self.label_column]
        for line, row in read_rows(path, columns, keep_errors=self.skip_bad_rows, **self.reading):
            try:
                label = normalize_label(row.get(self.label_column))
            except CorpusError as error:
                if self.skip_bad_rows:
                    continue
                raise CorpusError(f"{path}, line {line}: {error}") from None
            # whoever reads the rows is told of those without a label, or of a header among them
            if not MISSING_LABEL.fullmatch(label) and label != self.undecided_label and not self._is_header(row):
                counts[label] += 1
                names.setdefault(label, show_label(row.get(self.label_column)))
            if len(counts) > MAX_INFERRED_LABELS:
                break
        if row and not counts and self.label_column not in row:  # of JSON, whose rows may differ
            raise MissingColumnsError(str(path), [self.label_column], list(row), columns)
        place = f"{path}, column {self.label_column!r}"
        check_that_classes(place, counts)
        warn_of_odd(place, counts)
        self._set_labels([names[label] for label in sorted(counts, key=sort_numbers_first)])

    def _is_header(self, row: Row) -> bool:
        """Whether a row is the header once more, as where files were pasted together."""
        names = (*self.text_columns, self.label_column)
        return all(str(row.get(name)).strip(" \ufeff\t").casefold() == name.casefold() for name in names)

    def get_examples(self, folder: str | Path, mode: str, check_labels: bool = True) -> list[ClassificationExample]:
        """Read every row of a mode's file, in file order; see `iterate_examples`."""
        return list(self.iterate_examples(folder, mode, check_labels))

    def iterate_examples(self, folder: str | Path, mode: str, check_labels: bool = True) -> Iterator:
        """Yield a mode's examples, in file order; what is malformed is a `CorpusError` that names file and line.

        Args:
            folder: Where the corpus's files are.
            mode: One of `files`.
            check_labels: False lets unknown labels through, to be counted.
        """
        path, columns = self.find_file(folder, mode), (*self.text_columns, self.label_column)
        counts, doubts, first_reason = Counter[str](), _Doubts(), ""
        for line, row in read_rows(path, columns, keep_errors=self.skip_bad_rows, **self.reading):
            if not isinstance(row, BadRow) and all(value in ("", None) for value in row.values()):
                counts["empty rows"] += 1  # as Excel leaves them at the end
                continue
            try:
                example = self._make_example(row, check_labels)
            except CorpusError as error:
                if not self.skip_bad_rows:
                    raise CorpusError(f"{path}, line {line}: {error}; correct it, or set skip_bad_rows=True") from None
                first_reason = first_reason or f"malformed rows (line {line}: {error})"
                counts[first_reason] += 1
                continue
            counts["" if example else "rows without an agreed label"] += 1
            if example:
                doubts.look_at(example)
                yield example
        kept = counts.pop("", 0)
        for kind, count in counts.items():
            logger.warning("%s: skipped %s %s, kept %s", path.name, f"{count:,}", kind, f"{kept:,}")
        doubts.say(path.name, kept, array("q") if mode == "train" else self.learned)
        self.learned = doubts.texts if mode == "train" else self.learned
        if not kept:
            why = f"skipped {', '.join(counts)}" if counts else "expected a header and rows, fetch or write it again"
            raise CorpusError(f"{path} holds no row to learn from: {why}")

    def _make_example(self, row: Row, check_labels: bool) -> ClassificationExample | None:
        """Turn a row into an example, None if nobody agreed on its label; or say what is wrong with it."""
        if isinstance(row, BadRow):
            raise CorpusError(row.reason)
        label = normalize_label(row.get(self.label_column))
        if label == self.undecided_label:
            return None
        texts = get_values(row, self.text_columns)
        if self._is_header(row):
            raise CorpusError("the header stands here once more, as where files were pasted together: delete the line")
        if check_labels and label not in self.label_of:
            got = "no label" if MISSING_LABEL.fullmatch(label) else repr(label)
            got += f" ({label}; if that is a class, give labels)" if label and got == "no label" else ""
            raise CorpusError(f"{self.label_column}: expected one of {list(self.label_of)}, got {got}")
        return ClassificationExample(texts[0], texts[1] if len(texts) == 2 else None, self.label_of.get(label, label))


class NsmcCorpus(CsvCorpus):
    """Naver sentiment movie corpus: 150,000 film reviews to learn from, 50,000 to test on.

    Tab-separated, quoted as CSV is. Source: https://github.com/e9t/nsmc (CC0).
    """

    def __init__(self, skip_bad_rows: bool = False) -> None:
        files = {"train": ["ratings_train.txt"], "test": ["ratings_test.txt"]}
        names = ["부정 (negative)", "긍정 (positive)"]
        super().__init__(["document"], "label", ["0", "1"], names, files, "\t", skip_bad_rows)


class KlueNLICorpus(CsvCorpus):
    """KLUE natural language inference: does the hypothesis follow from the premise? 24,998 + 3,000 pairs.

    The official test labels are secret, so `mode="test"` is the official dev file.
    Source: https://github.com/KLUE-benchmark/KLUE (CC BY-SA 4.0).
    """

    undecided_label = "-"  # SNLI's sign, which other NLI sets took over

    def __init__(self, skip_bad_rows: bool = False) -> None:
        names = ["참 (entailment)", "거짓 (contradiction)", "중립 (neutral)"]
        labels = ["entailment", "contradiction", "neutral"]
        files = {mode: [f"klue_nli_{name}.json", f"klue-nli-v1.1_{name}.json"]
                 for mode, name in (("train", "train"), ("test", "dev"))}  # fmt: skip
        super().__init__(["premise", "hypothesis"], "gold_label", labels, names, files, skip_bad_rows=skip_bad_rows)


def make_corpus(args: ClassificationTrainArguments) -> CsvCorpus:
    """Return the corpus that the arguments name: NSMC, KLUE-NLI, one of their samples, or a reader's own files."""
    known = {"nsmc": NsmcCorpus, "klue-nli": KlueNLICorpus}.get(args.downstream_corpus_name.removesuffix("-sample"))
    is_pair = args.downstream_task_name == "pair-classification"
    if known and not (args.text_columns or args.labels):
        corpus = known(args.skip_bad_rows)
    else:
        columns = args.text_columns or (["premise", "hypothesis"] if is_pair else ["text"])
        corpus = CsvCorpus(columns, args.label_column, args.labels, skip_bad_rows=args.skip_bad_rows)
    corpus.reading |= {"encoding": args.encoding, "quoting": args.quoting}
    if (len(corpus.text_columns) == 2) != is_pair:
        raise ValueError(
            f"downstream_task_name: expected {'document' if is_pair else 'pair'}-classification for the text columns "
            f"{list(corpus.text_columns)}, got {args.downstream_task_name!r}: change it, or text_columns"
        )
    return corpus
