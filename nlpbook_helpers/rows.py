"""How is a file read? Row by row, from CSV, TSV, JSON, JSONL or Parquet, with the line of whatever is wrong."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

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
