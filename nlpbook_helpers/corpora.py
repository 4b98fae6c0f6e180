"""How is a file read? Row by row, from CSV, TSV, JSON, JSONL or Parquet, with the line of whatever is wrong.

What is read? Texts, labels and label names, from files that are checked row by row.
"""

import csv
import json
import logging
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from nlpbook_helpers.arguments import ClassificationTrainArguments

logger = logging.getLogger(__name__)


Row = Mapping[str | None, Any]
NumberedRows = Iterator[tuple[int, Row]]

PARQUET_ROWS = 1_024  # turned into Python objects at once
MAX_FIELD = 2**24  # characters of a text of a file that is read on past bad rows: an open quote costs no more


class CorpusError(ValueError):
    """A corpus file is missing, empty or malformed; the message names file and line."""


class BadRow(dict):
    """What stands in the place of a row that could not be read.

    Args:
        reason: What is wrong with it.
        row: As much of it as is known.
        raw: Its text in the file, where it could not be taken apart.
    """

    def __init__(self, reason: str, row: Row | None = None, raw: str = "") -> None:
        super().__init__(row or {})
        self.reason, self.raw = reason, raw


def find_path(address: str | Path) -> Path:
    """Turn an address into a path: a local one, or one of any place that fsspec reaches.

    Args:
        address: A path; or `s3://…`, `gs://…`, `https://…`, for which fsspec may ask for a package of its own.

    Raises:
        CorpusError: A package for this kind of address is missing, or nobody knows it.
    """
    if "://" not in str(address) or not isinstance(address, str):
        return Path(address) if isinstance(address, str) else address
    try:
        from upath import UPath  # type: ignore[import-not-found]

        path: Any = UPath(address)
        return Path(path.path) if path.protocol == "file" else path
    except (ImportError, ValueError) as error:
        raise CorpusError(f"{address}: {error}; install what is missing, or correct the address") from error


def read_rows(
    path: str | Path, columns: Sequence[str], delimiter: str | None = None, keep_errors: bool = False
) -> NumberedRows:
    """Yield line number and row of a file of any supported format, one row in memory at a time.

    The suffix tells the format, in upper or lower case: `.jsonl` has an object on each line, `.json` is an array
    of objects (and is read whole), `.parquet` needs pyarrow, anything else is text with a header row and quotes
    doubled inside quoted texts, as RFC 4180 says. Take the texts out of a row with `get_values`.

    Args:
        path: The file, UTF-8 if it is text; or an address, see `find_path`.
        columns: Names that the header must hold; there may be more.
        delimiter: Between columns of text files; default: a comma, a semicolon or a tab, whichever separates
            `columns` in the header.
        keep_errors: Go on past a CSV or JSONL row that cannot be read: a `BadRow` stands in its place. Bytes that are
            not UTF-8 become half surrogates (`surrogateescape`), for the caller to find.

    Yields:
        Line number, counted from 1 with the header, and row (name → value); a text may span lines, then the number is
        that of its last. Objects of a JSON array and rows of Parquet are counted from 1.

    Raises:
        CorpusError: There is no such file, it is not UTF-8, a column is missing, or a row cannot be read.
    """
    path = find_path(path)
    if not path.is_file():
        raise CorpusError(f"expected a file at {path}, found none: correct the path")
    if path.suffix.lower() == ".parquet":
        yield from _read_parquet(path, columns)
        return
    with path.open("rb") as file:
        lines = _decode_lines(path, file, keep_errors)
        if path.suffix.lower() == ".json":
            yield from _read_json_array(path, lines)
        elif path.suffix.lower() == ".jsonl":
            yield from _read_json_lines(path, lines, keep_errors)
        else:
            yield from _read_separated(path, lines, columns, delimiter, keep_errors)


def get_values(row: Row, columns: Sequence[str]) -> list[str]:
    """Take some columns out of a row as strings; numbers are written without a needless `.0`.

    Raises:
        CorpusError: A value is missing or not a text, or the row is longer than the header; the caller adds the line.
    """
    values = [_to_text(row.get(name)) for name in columns]
    absent = [name for name, value in zip(columns, values, strict=True) if value is None]
    if absent:
        raise CorpusError(f"expected a value in {absent}, the row has none: it is cut short")
    if None in row:
        raise CorpusError(f"expected {len(row) - 1} columns, got {len(row) - 1 + len(row[None])}")
    return [str(value) for value in values]


def _to_text(value: Any) -> str | None:
    if isinstance(value, float):  # Parquet and JSON write whole numbers so when a value of the column is missing
        return None if value != value else str(int(value)) if value.is_integer() else str(value)
    return str(value) if isinstance(value, str | int) else None


def _decode_lines(path: Path, file: BinaryIO, keep_errors: bool = False) -> Iterator[str]:
    """Decode UTF-8 line by line, so that a bad byte is reported with its line."""
    for number, line in enumerate(file, start=1):
        try:
            encoding, errors = "utf-8-sig" if number == 1 else "utf-8", "surrogateescape" if keep_errors else "strict"
            text = line.decode(encoding, errors)
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"{path}, line {number}: byte {error.object[error.start]:#04x} is not UTF-8; "
                "save the file as UTF-8 (Excel: 'CSV UTF-8')"
            ) from None
        yield text


def _check_columns(place: str, found: Sequence[str], columns: Sequence[str]) -> None:
    if len(set(found)) != len(found):
        raise CorpusError(f"{place}: expected different column names, found {list(found)}")
    missing = [name for name in columns if name not in found]
    if missing:
        raise CorpusError(f"{place}: expected columns {missing}, found {list(found)}; correct the header")


def _read_separated(
    path: Path, lines: Iterator[str], columns: Sequence[str], delimiter: str | None, keep_errors: bool
) -> NumberedRows:
    csv.field_size_limit(MAX_FIELD if keep_errors else 2**31 - 1)
    header, held = next(lines, ""), []
    if "\r" in header.rstrip("\r\n"):
        raise CorpusError(f"{path}, line 1: expected lines that end in \\n, got \\r alone; save the file again")
    delimiter = delimiter or _find_delimiter(header, columns, "\t" if path.suffix.lower() == ".tsv" else ",")
    reader = csv.DictReader(chain([header], _hold(lines, held)), delimiter=delimiter, strict=True)
    try:
        _check_columns(f"{path}, line 1", reader.fieldnames or [], columns)
    except csv.Error as error:
        raise CorpusError(f"{path}, line 1: {error}; expected a header") from None
    while True:
        held.clear()
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # an open quote swallows the lines below it, so the row's first line is the one to look at
            reason = f"{error}; expected quotes inside a quoted text to be doubled"
            if not keep_errors:
                raise CorpusError(f"{path}, line {reader.line_num + 1}: {reason}") from None
            yield reader.line_num + 1, BadRow(reason, raw="".join(held))
            reader.line_num = reader.reader.line_num
            continue
        if keep_errors and (None in row or None in row.values()):
            width = len(reader.fieldnames or ())
            got = width + len(row.get(None, ())) - sum(value is None for value in row.values())  # type: ignore[call-overload]
            row = BadRow(f"expected {width} columns, got {got}", row)
        yield reader.line_num, row


def _hold(lines: Iterator[str], held: list[str]) -> Iterator[str]:
    """Pass lines on and keep them too, for whoever has to show what a row was made of."""
    for line in lines:
        held.append(line)
        yield line


def _find_delimiter(header: str, columns: Sequence[str], usual: str) -> str:
    """Return the delimiter that separates the columns; Excel writes semicolons where the comma is a decimal sign."""
    for delimiter in (usual, ",", ";", "\t"):
        if set(columns) <= set(next(csv.reader([header], delimiter=delimiter), [])):
            return delimiter
    return usual


def _read_json_lines(path: Path, lines: Iterator[str], keep_errors: bool) -> NumberedRows:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            reason = None if isinstance(row, dict) else f"expected a JSON object, got {type(row).__name__}"
        except (ValueError, RecursionError) as error:
            row, reason = {}, f"{getattr(error, 'msg', error)}; expected one JSON object on each line"
        if reason and not keep_errors:
            raise CorpusError(f"{path}, line {number}: {reason}") from None
        yield number, BadRow(reason, raw=line) if reason else row


def _read_json_array(path: Path, lines: Iterator[str]) -> NumberedRows:
    try:
        rows = json.loads("".join(lines))
    except json.JSONDecodeError as error:
        raise CorpusError(
            f"{path}, line {error.lineno}: {error.msg}; expected a JSON array of objects (objects on lines of "
            "their own are a .jsonl file)"
        ) from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CorpusError(f"{path}: expected a JSON array of objects, got {type(rows).__name__}")
    yield from enumerate(rows, start=1)


def _read_parquet(path: Path, columns: Sequence[str]) -> NumberedRows:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise CorpusError(f"{path}: Parquet needs pyarrow: pip install pyarrow, or save the file as CSV") from None
    try:
        with path.open("rb") as opened, ParquetFile(opened) as file:
            _check_columns(str(path), file.schema_arrow.names, columns)
            batches = (batch.to_pylist() for batch in file.iter_batches(PARQUET_ROWS))
            yield from enumerate(chain.from_iterable(batches), start=1)
    except ArrowException as error:
        raise CorpusError(f"{path}: {error}; expected a Parquet file, write it again") from None


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


UNSEEN = "\u115f\u1160\u3164\uffa0\u2800"  # letters by category, but nothing to see


def normalize_text(text: str) -> str:
    """Compose what macOS writes in pieces (Unicode's NFC): to a model a syllable in pieces is another one."""
    return unicodedata.normalize("NFC", text)


def is_blank(text: str) -> bool:
    """Say whether there is nothing to see: white space, control characters, zero-width ones and fillers only."""
    return all(unicodedata.category(char) in ("Cc", "Cf", "Zs", "Zl", "Zp") or char in UNSEEN for char in text)


def get_short_names(label_name: str) -> tuple[str, str]:
    """Split "긍정 (positive)" into ("긍정", "positive"); a name without brackets is both."""
    korean, bracket, english = label_name.partition(" (")
    return (korean, english.removesuffix(")")) if bracket else (label_name, label_name)


def _sort_numbers_first(label: str) -> tuple[bool, float, str]:
    """Sort "2" before "10", and numbers before words."""
    return (False, float(label), label) if label.isdecimal() else (True, 0.0, label)
