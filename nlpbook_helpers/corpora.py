"""What is read? Texts, labels and label names, from files that are checked row by row."""

import csv
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

Row = Mapping[str | None, Any]


class CorpusError(ValueError):
    """A corpus file is missing, empty or malformed; the message names file and line."""


class ClassificationExample(NamedTuple):
    """One example as it stands in the file; a pair is a document with a second text."""

    text_a: str
    text_b: str | None = None
    label: str | None = None


class CsvCorpus:
    """Documents or pairs in a file with a header row, found by column names.

    The book's own corpus classes (with `get_examples`, `get_labels`, `num_labels`) work wherever this one does.

    Args:
        text_columns: One column name for documents, two for pairs; also the names of the inference inputs.
        label_column: The column of the label.
        labels: Every label as it stands in the file, in the order of the model's outputs.
        label_names: What readers see, "한국어 (english)", in the order of `labels`; default: the labels.
        files: Mode → file names, the first that exists is read.
        delimiter: Between columns; default: a tab in `.tsv` files, else a comma. Quotes are doubled inside quoted
            texts, as RFC 4180 says.
        skip_bad_rows: Leave out rows with a missing column or an unknown label, and say how many.
    """

    def __init__(
        self,
        text_columns: Sequence[str] = ("text",),
        label_column: str = "label",
        labels: Sequence[str] = ("0", "1"),
        label_names: Sequence[str] | None = None,
        files: Mapping[str, Sequence[str]] | None = None,
        delimiter: str | None = None,
        skip_bad_rows: bool = False,
    ) -> None:
        if isinstance(text_columns, str) or len(text_columns) not in (1, 2):
            raise ValueError(f"text_columns: expected one column name or two in a list, got {text_columns!r}")
        if len({*text_columns, label_column}) != len(text_columns) + 1:
            raise ValueError(f"expected different columns, got text_columns {text_columns} and label {label_column!r}")
        labels = [str(label) for label in labels]
        if len(set(labels)) != len(labels) or len(labels) < 2:
            raise ValueError(f"labels: expected at least two different ones, got {labels}")
        label_names = list(label_names or labels)
        if len(label_names) != len(labels):
            raise ValueError(f"label_names: expected {len(labels)}, one per label, got {len(label_names)}")
        if len({get_short_names(name)[1] for name in label_names}) != len(labels):
            raise ValueError(f"label_names: expected a different English name for each label, got {label_names}")
        self.text_columns = tuple(text_columns)
        self.label_column = label_column
        self.labels = labels
        self.label_names = label_names
        self.files = files or {mode: (f"{mode}.csv", f"{mode}.tsv") for mode in ("train", "val", "test")}
        self.delimiter = delimiter
        self.skip_bad_rows = skip_bad_rows

    undecided_label: str | None = None
    """The label of rows whose annotators did not agree; such rows are skipped and counted aloud."""

    def get_labels(self) -> list[str]:
        """Return the labels in the order of the model's outputs."""
        return self.labels

    @property
    def num_labels(self) -> int:
        """Number of labels."""
        return len(self.labels)

    def find_file(self, folder: str | Path, mode: str) -> Path:
        """Return the file of a mode.

        Raises:
            ValueError: The corpus has no such mode.
            CorpusError: None of the mode's files is there, or it is empty.
        """
        if mode not in self.files:
            raise ValueError(f"mode: expected one of {list(self.files)}, got {mode!r}")
        candidates = [Path(folder) / name for name in self.files[mode]]
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            raise CorpusError(
                f"expected {' or '.join(path.name for path in candidates)} in {folder}, found neither: call "
                "download_downstream_dataset(args), or put the file there"
            )
        if path.stat().st_size == 0:
            raise CorpusError(
                f"{path} is empty: delete it and call download_downstream_dataset(args) to fetch it again"
            )
        return path

    def get_examples(self, folder: str | Path, mode: str) -> list[ClassificationExample]:
        """Read every row of a mode's file, in file order; see `iterate_examples`."""
        return list(self.iterate_examples(folder, mode))

    def iterate_examples(self, folder: str | Path, mode: str) -> Iterator[ClassificationExample]:
        """Yield a mode's examples, in file order.

        Raises:
            CorpusError: The file is missing, empty, not UTF-8, or a row is malformed (file and line are named).
        """
        path = self.find_file(folder, mode)
        read, skipped, undecided = 0, 0, 0
        for line, row in self._read_rows(path):
            if self.undecided_label is not None and row.get(self.label_column) == self.undecided_label:
                undecided += 1
                continue
            try:
                example = self._make_example(row)
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

    def _read_rows(self, path: Path) -> Iterator[tuple[int, Row]]:
        """Yield line number and row; texts may span lines, then the number is that of the row's last line."""
        csv.field_size_limit(2**31 - 1)
        with path.open("rb") as file:
            lines = _decode_lines(path, file)
            delimiter = self.delimiter or ("\t" if path.suffix == ".tsv" else ",")
            reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
            try:
                columns = reader.fieldnames or []
                missing = [name for name in (*self.text_columns, self.label_column) if name not in columns]
                if len(set(columns)) != len(columns):
                    raise CorpusError(f"{path}, line 1: expected different column names, found {list(columns)}")
                if missing:
                    raise CorpusError(
                        f"{path}, line 1: expected columns {missing}, found {list(columns)}; correct the header"
                    )
                for row in reader:
                    yield reader.line_num, row
            except csv.Error as error:
                # an open quote swallows the lines below it, so the row's first line is the one to look at
                raise CorpusError(
                    f"{path}, line {reader.line_num + 1}: {error}; expected quotes inside a quoted text to be doubled"
                ) from None

    def _make_example(self, row: Row) -> ClassificationExample:
        """Turn a row into an example, or say what is wrong with it."""
        values = [row.get(name) for name in (*self.text_columns, self.label_column)]
        if any(not isinstance(value, str) for value in values):
            absent = [name for name, value in zip((*self.text_columns, self.label_column), values, strict=True)
                      if not isinstance(value, str)]  # fmt: skip
            raise CorpusError(f"expected a value in {absent}, the row has none: it is cut short")
        if None in row:
            raise CorpusError(f"expected {len(row) - 1} columns, got {len(row) - 1 + len(row[None])}")
        *texts, label = values
        if label not in self.labels:
            raise CorpusError(f"{self.label_column}: expected one of {self.labels}, got {label!r}")
        return ClassificationExample(str(texts[0]), texts[1] if len(texts) == 2 else None, label)


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

    def _read_rows(self, path: Path) -> Iterator[tuple[int, Row]]:
        """Yield the position in the array, counted from 1, and the object."""
        with path.open("rb") as file:
            text = "".join(_decode_lines(path, file))
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise CorpusError(f"{path}, line {error.lineno}: {error.msg}; expected a JSON array of objects") from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise CorpusError(f"{path}: expected a JSON array of objects, got {type(rows).__name__}")
        yield from enumerate(rows, start=1)


def get_short_names(label_name: str) -> tuple[str, str]:
    """Split "긍정 (positive)" into ("긍정", "positive"); a name without brackets is both."""
    korean, bracket, english = label_name.partition(" (")
    return (korean, english.removesuffix(")")) if bracket else (label_name, label_name)


def _decode_lines(path: Path, file: Any) -> Iterator[str]:
    """Decode UTF-8 line by line, so that a bad byte is reported with its line."""
    for number, line in enumerate(file, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"{path}, line {number}: byte {error.object[error.start]:#04x} is not UTF-8; "
                "save the file as UTF-8 (Excel: 'CSV UTF-8')"
            ) from None
        yield text
