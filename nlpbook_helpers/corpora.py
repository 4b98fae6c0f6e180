"""What is read? Texts, labels and label names, from files that are checked row by row."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.rows import CorpusError, Row, get_values, read_rows

logger = logging.getLogger(__name__)

MODES = ("train", "val", "test")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
MAX_INFERRED_LABELS = 1_000  # a column with more different values holds texts or numbers, not labels


class ClassificationExample(NamedTuple):
    """One example as it stands in the file; a pair is a document with a second text."""

    text_a: str
    text_b: str | None = None
    label: str | None = None


class CsvCorpus:
    """Documents or pairs in a file with named columns: CSV, TSV, JSONL, JSON or Parquet (see `read_rows`).

    The book's own corpus classes (with `get_examples`, `get_labels`, `num_labels`) work wherever this one does.

    Args:
        text_columns: One column name for documents, two for pairs; also the names of the inference inputs.
        label_column: The column of the label; numbers are read as their digits.
        labels: Every label as it stands in the file, in the order of the model's outputs. Or a mapping, label in the
            file → label of the model, which may merge some. Or None: the different labels of the training file,
            sorted, for every mode; they are known once a file has been read.
        label_names: What readers see, "한국어 (english)", in the order of the labels; default: the labels.
        files: Mode → file names, the first that exists is read.
        delimiter: Between columns of text files; default: what the header shows.
        skip_bad_rows: Leave out rows with a missing column or an unknown label, and say how many.
    """

    def __init__(
        self,
        text_columns: Sequence[str] = ("text",),
        label_column: str = "label",
        labels: Sequence[str] | Mapping[str, str] | None = ("0", "1"),
        label_names: Sequence[str] | None = None,
        files: Mapping[str, Sequence[str]] | None = None,
        delimiter: str | None = None,
        skip_bad_rows: bool = False,
    ) -> None:
        if isinstance(text_columns, str) or len(text_columns) not in (1, 2):
            raise ValueError(f"text_columns: expected one column name or two in a list, got {text_columns!r}")
        if len({*text_columns, label_column}) != len(text_columns) + 1:
            raise ValueError(f"expected different columns, got text_columns {text_columns} and label {label_column!r}")
        self.text_columns = tuple(text_columns)
        self.label_column = label_column
        self.files = files or {mode: tuple(f"{mode}{suffix}" for suffix in SUFFIXES) for mode in MODES}
        self.delimiter = delimiter
        self.skip_bad_rows = skip_bad_rows
        self.labels: list[str] = []
        self.label_names = list(label_names or [])
        if labels is not None:
            self._set_labels(labels)

    def _set_labels(self, labels: Sequence[str] | Mapping[str, str]) -> None:
        pairs = labels.items() if isinstance(labels, Mapping) else ((label, label) for label in labels)
        pairs = [(str(in_file), str(label)) for in_file, label in pairs]
        self.label_of = dict(pairs)
        self.labels = list(dict.fromkeys(self.label_of.values()))
        if len(self.label_of) != len(pairs) or len(self.labels) < 2:
            raise ValueError(f"labels: expected at least two different ones, got {[label for _, label in pairs]}")
        self.label_names = self.label_names or self.labels
        if len(self.label_names) != len(self.labels):
            raise ValueError(f"label_names: expected {len(self.labels)}, one per label, got {len(self.label_names)}")
        if len({get_short_names(name)[1] for name in self.label_names}) != len(self.labels):
            raise ValueError(f"label_names: expected a different English name for each label, got {self.label_names}")

    undecided_label: str | None = None
    """The label of rows whose annotators did not agree; such rows are skipped and counted aloud."""

    def get_labels(self) -> list[str]:
        """Return the labels in the order of the model's outputs.

        Raises:
            ValueError: They are to be inferred and no file has been read yet.
        """
        if not self.labels:
            raise ValueError("labels are not known yet: call get_examples(folder, 'train') first, or give labels=[…]")
        return self.labels

    @property
    def num_labels(self) -> int:
        """Number of labels."""
        return len(self.get_labels())

    def find_file(self, folder: str | Path, mode: str) -> Path:
        """Return the file of a mode; labels that are to be inferred are read from the training file now.

        Raises:
            ValueError: The corpus has no such mode.
            CorpusError: None of the mode's files is there, or it is empty.
        """
        if not self.labels:
            self._infer_labels(self._find_file(folder, "train"))
        return self._find_file(folder, mode)

    def _find_file(self, folder: str | Path, mode: str) -> Path:
        if mode not in self.files:
            raise ValueError(f"mode: expected one of {list(self.files)}, got {mode!r}")
        path = self._look_for_file(folder, mode)
        if path is None:
            raise CorpusError(
                f"expected {' or '.join(self.files[mode])} in {folder}, found none of them: call "
                "download_downstream_dataset(args), or put the file there"
            )
        if path.stat().st_size == 0:
            raise CorpusError(
                f"{path} is empty: write it again, or delete it and call download_downstream_dataset(args)"
            )
        return path

    def has_file(self, folder: str | Path, mode: str) -> bool:
        """Say whether a mode has a file of its own."""
        return self._look_for_file(folder, mode) is not None

    def _look_for_file(self, folder: str | Path, mode: str) -> Path | None:
        exact = [Path(folder) / name for name in self.files.get(mode, ())]
        candidates = [*exact, *(path.with_suffix(path.suffix.upper()) for path in exact)]
        return next((path for path in candidates if path.is_file()), None)

    def _infer_labels(self, path: Path) -> None:
        found: dict[str, None] = {}
        for _, row in read_rows(path, [self.label_column], self.delimiter):
            try:
                found.setdefault(get_values(row, [self.label_column])[0])
            except CorpusError:
                continue  # whoever reads the examples is told, or has asked to skip such rows
            if len(found) > MAX_INFERRED_LABELS:
                break
        labels = sorted(found.keys() - {"", self.undecided_label}, key=_sort_numbers_first)
        if not 2 <= len(labels) <= MAX_INFERRED_LABELS:
            raise CorpusError(
                f"{path}: expected 2 to {MAX_INFERRED_LABELS:,} different labels in column {self.label_column!r}, "
                f"got {len(labels):,}: choose another label_column, or give labels=[…]"
            )
        self._set_labels(labels)
        logger.info("%s: labels %s", path.name, labels)

    def get_examples(self, folder: str | Path, mode: str, check_labels: bool = True) -> list[ClassificationExample]:
        """Read every row of a mode's file, in file order; see `iterate_examples`."""
        return list(self.iterate_examples(folder, mode, check_labels))

    def iterate_examples(
        self, folder: str | Path, mode: str, check_labels: bool = True
    ) -> Iterator[ClassificationExample]:
        """Yield a mode's examples, in file order.

        Args:
            folder: Where the corpus's files are.
            mode: One of `files`.
            check_labels: False lets unknown labels through, so that they can be counted.

        Raises:
            CorpusError: The file is missing, empty, not UTF-8, or a row is malformed (file and line are named).
        """
        path = self.find_file(folder, mode)
        read, skipped, undecided = 0, 0, 0
        for line, row in read_rows(path, (*self.text_columns, self.label_column), self.delimiter):
            if self.undecided_label is not None and row.get(self.label_column) == self.undecided_label:
                undecided += 1
                continue
            try:
                example = self._make_example(row, check_labels)
            except CorpusError as error:
                if not self.skip_bad_rows:
                    raise CorpusError(f"{path}, line {line}: {error}; correct it, or set skip_bad_rows=True") from None
                skipped += 1
                continue
            read += 1
            yield example
        if undecided:
            logger.warning("%s: skipped %s rows without an agreed label", path.name, f"{undecided:,}")
        if skipped:
            logger.warning("%s: skipped %s malformed rows, kept %s", path.name, f"{skipped:,}", f"{read:,}")
        if not read:
            raise CorpusError(f"{path} holds no row to learn from: expected a header and rows, fetch or write it again")

    def _make_example(self, row: Row, check_labels: bool) -> ClassificationExample:
        """Turn a row into an example, or say what is wrong with it."""
        *texts, label = get_values(row, (*self.text_columns, self.label_column))
        if check_labels and label not in self.label_of:
            raise CorpusError(f"{self.label_column}: expected one of {list(self.label_of)}, got {label!r}")
        text_b = texts[1] if len(texts) == 2 else None
        return ClassificationExample(texts[0], text_b, self.label_of.get(label, label))


class NsmcCorpus(CsvCorpus):
    """Naver sentiment movie corpus: 150,000 film reviews to learn from, 50,000 to test on.

    Tab-separated with a header `id document label`; texts with quotes are quoted and their quotes doubled.
    Source: https://github.com/e9t/nsmc (CC0).
    """

    def __init__(self, skip_bad_rows: bool = False) -> None:
        super().__init__(
            text_columns=("document",),
            labels=("0", "1"),
            label_names=("부정 (negative)", "긍정 (positive)"),
            files={"train": ("ratings_train.txt",), "test": ("ratings_test.txt",)},
            delimiter="\t",
            skip_bad_rows=skip_bad_rows,
        )


class KlueNLICorpus(CsvCorpus):
    """KLUE natural language inference: does the hypothesis follow from the premise? 24,998 + 3,000 pairs.

    A JSON array of objects with `premise`, `hypothesis` and `gold_label`; other fields are ignored. The official
    test labels are secret, so `mode="test"` is the official dev file.
    Source: https://github.com/KLUE-benchmark/KLUE (CC BY-SA 4.0).
    """

    undecided_label = "-"  # SNLI's sign, which other NLI sets took over

    def __init__(self, skip_bad_rows: bool = False) -> None:
        super().__init__(
            text_columns=("premise", "hypothesis"),
            label_column="gold_label",
            labels=("entailment", "contradiction", "neutral"),
            label_names=("참 (entailment)", "거짓 (contradiction)", "중립 (neutral)"),
            files={
                mode: (f"klue_nli_{name}.json", f"klue-nli-v1.1_{name}.json")
                for mode, name in (("train", "train"), ("test", "dev"))
            },
            skip_bad_rows=skip_bad_rows,
        )


def make_corpus(args: ClassificationTrainArguments) -> CsvCorpus:
    """Return the corpus that the arguments name: NSMC, KLUE-NLI, one of their samples, or a reader's own files.

    Args:
        args: `downstream_corpus_name`, `downstream_task_name`, `text_columns`, `label_column` and `skip_bad_rows` are
            read.

    Raises:
        ValueError: The task reads another number of texts than there are columns.
    """
    known = {"nsmc": NsmcCorpus, "klue-nli": KlueNLICorpus}.get(args.downstream_corpus_name.removesuffix("-sample"))
    is_pair = args.downstream_task_name == "pair-classification"
    if known and not args.text_columns:
        corpus = known(args.skip_bad_rows)
    else:
        columns = args.text_columns or (KlueNLICorpus().text_columns if is_pair else ("text",))
        corpus = CsvCorpus(columns, args.label_column, labels=None, skip_bad_rows=args.skip_bad_rows)
    if (len(corpus.text_columns) == 2) != is_pair:
        raise ValueError(
            f"downstream_task_name: expected {'document' if is_pair else 'pair'}-classification for the text columns "
            f"{list(corpus.text_columns)}, got {args.downstream_task_name!r}: change it, or text_columns"
        )
    return corpus


def get_short_names(label_name: str) -> tuple[str, str]:
    """Split "긍정 (positive)" into ("긍정", "positive"); a name without brackets is both."""
    korean, bracket, english = label_name.partition(" (")
    return (korean, english.removesuffix(")")) if bracket else (label_name, label_name)


def _sort_numbers_first(label: str) -> tuple[bool, float, str]:
    """Sort "2" before "10", and numbers before words."""
    return (False, float(label), label) if label.isdecimal() else (True, 0.0, label)
