"""How is a file read? Row by row, whatever its format; what is wrong is named with its line."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from textwrap import shorten
from typing import Any

from nlpbook_helpers.arguments import make_object
from nlpbook_helpers.decoding import SAMPLE_BYTES, decode
from nlpbook_helpers.embedded import expand_home
from nlpbook_helpers.values import FIRST, NUMBERED, QUOTED, SPACED, CorpusError, MissingColumnsError, normalize_text

Row = Mapping[str, Any]
NumberedRows = Iterator[tuple[int, Row]]
UNQUOTED = "if the file is written without quotes, read it with quoting=False (--no-quoting)"
ESCAPED = "quotes with a backslash before them, as MySQL writes them, are to be doubled"
NO_UTF8 = "is not UTF-8, or not of the encoding named; save the file as UTF-8, or name its encoding (encoding=…)"
# The process's limit of a text, which bounds what an open quote takes in: raised once, for long documents.
csv.field_size_limit(max(2**24, csv.field_size_limit()))


class BadRow(dict):
    """What is known of a row that could not be read: why (`reason`), and what stands in the file (`raw`)."""

    def __init__(self, reason: str, row: Row | None = None, raw: str = "") -> None:
        super().__init__(row or {})
        self.reason, self.raw = reason, raw


def find_path(address: str | Path) -> Path:
    """Return the path of an address: a local one, or one that fsspec reaches (`s3://…`, `gs://…`, `https://…`)."""
    if not isinstance(address, str):
        if not hasattr(address, "is_file"):
            raise CorpusError(f"expected a path, got {type(address).__name__}: write it to a file, and name that")
        return address
    if "://" not in address:
        return Path(expand_home(address))
    try:
        from upath import UPath  # type: ignore[import-not-found]

        path: Any = UPath(address)
        return Path(path.path) if "file" in path.fs.protocol else path  # `fs` needs the package that reaches it
    except (ImportError, ValueError, OSError) as error:  # its package is missing, or nobody knows such addresses
        problem = shorten(str(error), 200, placeholder=" …")
        raise CorpusError(f"{address}: {problem}; install what is missing, or correct the address") from error


def find_file(address: str | Path) -> Path:
    """Return the path of a file that is there."""
    if not (path := find_path(address)).is_file():
        found = "a pipe, which can be read only once: write it to a file" if path.exists() else "none: correct the path"
        found = "a folder: name a file in it" if path.is_dir() else found
        raise CorpusError(f"expected a file at {path}, found {found}")
    return path


def read_rows(
    path: str | Path, columns: Sequence[str], delimiter: str | None = None, keep_errors: bool = False,
    encoding: str = "utf-8", quoting: bool = True,
) -> NumberedRows:  # fmt: skip
    """Yield line number (from 1, with the header) and row; only of an array in JSON are all in memory at a time.

    The suffix tells the format, and text may be packed (gzip): `.json`, `.jsonl` and `.ndjson` hold an array of
    objects, or one a line, `.parquet` needs pyarrow, all else is text with a header.

    Args:
        path: The file, or its address.
        columns: Names that the file must have; there may be more.
        delimiter: Between columns of text; default: a comma, a semicolon, a tab or a bar, as the header shows.
        keep_errors: Go on past a row that cannot be read: a `BadRow` stands in its place.
        encoding: Of text; `get_values`, which takes texts out of a row, refuses single bytes that are not in it.
        quoting: False takes quotes as they stand; else texts with delimiters are quoted and their quotes doubled.

    Raises:
        CorpusError: There is no such file, it is of another encoding or format, or a row cannot be read.
    """
    path = find_file(path)
    with path.open("rb") as opened:
        try:
            for number, row in _read(path, opened, columns, delimiter, encoding, quoting):
                if isinstance(row, BadRow) and not keep_errors:
                    raise CorpusError(f"{path}, line {number}: {row.reason}")
                yield number, row
        except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeError, csv.Error) as error:
            raise CorpusError(f"{path}: {error}: expected a whole file with a header, write it again") from error


def _read(
    path: Path, file: Any, columns: Sequence[str], delimiter: str | None, encoding: str, quoting: bool
) -> NumberedRows:
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path, file, columns)
    file = io.BufferedReader(file, SAMPLE_BYTES)
    if file.peek(2).startswith(b"\x1f\x8b"):  # gzip, whatever its name says
        file = io.BufferedReader(gzip.GzipFile(fileobj=file), SAMPLE_BYTES)  # type: ignore[type-var]
    if delimiter is not None and len(delimiter) != 1:
        raise CorpusError(f"delimiter: expected one character, got {delimiter!r}: write the file with one")
    lines, suffix = decode(path, file, encoding), Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix in (".json", ".jsonl", ".ndjson"):
        return _read_json(lines)
    return _read_separated(path, lines, columns, delimiter, "\t" if suffix == ".tsv" else ",", quoting)


def get_values(row: Row, columns: Sequence[str]) -> list[str]:
    """Take some columns out of a row as strings in NFC, or raise a `CorpusError`, to which the caller adds the line."""
    if missing := [name for name in columns if normalize_text(name) not in row]:  # as rows of JSON may
        raise CorpusError(f"expected columns {missing}, found {list(row)}")
    return [_to_text(name, row[normalize_text(name)]) for name in columns]


def _to_text(name: str, value: Any) -> str:
    if value is None or value != value:  # not a number: so pandas and Parquet write that there is none
        raise CorpusError(f"expected a value in {name!r}, the row has none")
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise CorpusError(f"expected a text in {name!r}, got {type(value).__name__}: name another column")
    # whole numbers get a point when a value of the column is missing
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) - 0xDC00  # so `surrogateescape` hides it
        found = f"byte {byte:#04x} {NO_UTF8}" if 0x80 <= byte <= 0xFF else "half a surrogate pair; clean the text"
        raise CorpusError(f"{name}: {found}") from None
    return normalize_text(text)


def _read_separated(
    path: Path, lines: Iterator[str], columns: Sequence[str], delimiter: str | None, usual: str, quoting: bool
) -> NumberedRows:
    header, held = next(lines, ""), []
    if header.lstrip("\ufeff ")[:1] in ("{", "["):
        raise CorpusError(f"{path} is JSON, expected a table: end its name with .jsonl")
    delimiter = delimiter or _choose_delimiter(header, columns, usual)
    how = csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE
    reader = csv.reader(_hold(chain([header], lines), held), delimiter=delimiter, strict=True, quoting=how)
    names, marks = [normalize_text(name).strip(" \ufeff") for name in next(reader, [])], (set[str](), set[str]())
    while names and not names[-1]:  # Excel's empty columns at the end
        names.pop()
    _check_columns(f"{path}, line 1", names, columns, SPACED if quoting else QUOTED)
    while True:
        held.clear()
        first = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:  # an open quote takes in the lines below it: the first is the one to look at
            remedy = ESCAPED if '\\"' in "".join(held) else UNQUOTED
            reason = f"{error}; expected a text with quotes to be quoted and they doubled; {remedy}"
            yield first, BadRow(reason, raw="".join(held))
            continue
        if values is None:
            return
        if not values:  # an empty line
            continue
        row = dict(zip(names, values, strict=False))
        if len(row) < len(names) or any(values[len(names) :]):
            remedy = SPACED if f'{delimiter} "' in "".join(held) else f": quote texts that hold {delimiter!r}"
            remedy += ", or correct the row" if len(names) > 1 else FIRST
            remedy = QUOTED if not quoting and any(value[:1] == '"' for value in values) else remedy
            row = BadRow(f"expected {len(names)} columns, got {len(values)}{remedy}", row, "".join(held))
        if len(held) == 1 and min(map(len, marks)) < 1_000:
            marks[0].add(values[0].strip())
            marks[1].add(values[-1].strip())
        elif len(held) > 1 and _are_whole_rows(held, delimiter, len(names), marks):
            reason = f"expected a row, got several from line {first} on between two quotes; {UNQUOTED}"
            row = BadRow(reason, raw="".join(held))
        yield reader.line_num, row


def _choose_delimiter(header: str, columns: Sequence[str], usual: str) -> str:
    """Return what separates the columns asked for, or else most: where commas are decimal, Excel writes semicolons."""
    kinds = {mark: next(csv.reader([header], delimiter=mark), []) for mark in (usual, ",", ";", "\t", "|")}
    found = {mark: {normalize_text(name).strip(" \ufeff") for name in names} for mark, names in kinds.items()}
    return max(found, key=lambda mark: (found[mark] >= set(columns), len(kinds[mark])))


def _hold(lines: Iterator[str], held: list[str]) -> Iterator[str]:
    """Pass lines on and keep them too, to show what a row was made of."""
    for line in lines:
        held.append(line)
        yield line


def _check_columns(place: str, found: Sequence[str], columns: Sequence[str], unquote: str = ": rename them") -> None:
    if len(set(found)) != len(found):
        raise CorpusError(f"{place}: expected different column names, found {list(found)}: rename one")
    if quoted := [name for name in found if len(name) > 1 and name[0] == name[-1] == '"']:
        raise CorpusError(f"{place}: expected names of columns, found {quoted}{unquote}")
    if missing := [name for name in columns if normalize_text(name) not in found]:
        raise MissingColumnsError(place, missing, found, columns)
    if bad := [name for name in found if any("\ud800" <= char <= "\udfff" for char in name)]:
        raise CorpusError(f"{place}: column {bad[0]!r} {NO_UTF8}")


def _are_whole_rows(lines: Sequence[str], delimiter: str, width: int, marks: tuple[set[str], set[str]]) -> bool:
    """Say whether the lines of a text have as many columns each as the file.

    Without quoting, a quote that begins a text and one that ends another below take in all rows between. Commas stand
    in texts too: of two columns, one has to hold numbers like a7, `marks` of the rows before, or the same word twice.
    """
    pieces = [[value.strip() for value in line.strip().split(delimiter)] for line in lines if line.strip()]
    ends = [[row[position] for row in pieces] for position in (0, -1)]
    are_marks = any(len(set(end)) < len(end) or known.issuperset(end) for end, known in zip(ends, marks, strict=True))
    proves = delimiter == "\t" or width > 2 or are_marks or any(all(map(NUMBERED.fullmatch, end)) for end in ends)
    return proves and all(len(row) == width for row in pieces)


def _read_json(lines: Iterator[str]) -> NumberedRows:
    """Read an array of objects, which begins with a bracket, or an object on each line."""
    make = lambda pairs: make_object([(normalize_text(key), one) for key, one in pairs])  # noqa: E731
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    begin, text = next(numbered, (1, ""))
    is_array = text.lstrip().startswith("[")
    text = "".join([text, *lines]) if is_array else text.lstrip("\ufeff")
    for line, value in chain([(begin, text)], numbered):
        try:
            found = json.loads(value, object_pairs_hook=make)
        except (ValueError, RecursionError) as error:
            reason = f"{getattr(error, 'msg', error)}; expected an array of JSON objects, or one on each line"
            yield line - 1 + getattr(error, "lineno", 1), BadRow(reason, raw=value)
            continue
        for number, row in enumerate(found, start=1) if is_array else [(line, found)]:
            kinds = {type(one).__name__ for one in (row.values() if isinstance(row, dict) else [row])}
            if not isinstance(row, dict) or row and kinds <= {"dict", "list"}:  # columns, as pandas writes them
                got = f"{'columns of ' if isinstance(row, dict) else ''}{' and '.join(sorted(kinds))}"
                remedy = "write one for each row (orient='records' in pandas)"
                row = BadRow(f"expected a JSON object, got {got}: {remedy}", raw=str(row))
            yield number, row


def _read_parquet(path: Path, file: Any, columns: Sequence[str]) -> NumberedRows:
    from pyarrow import ArrowException  # a fifth of a second that other formats need not spend
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file) as opened:
            names = [normalize_text(name) for name in opened.schema_arrow.names]
            _check_columns(str(path), names, columns)
            batches = (batch.rename_columns(names).to_pylist() for batch in opened.iter_batches(1_024))
            yield from enumerate(chain.from_iterable(batches), start=1)
    except (ArrowException, OverflowError) as error:  # the latter of a date that Python cannot hold
        raise CorpusError(f"{path}: {error}; expected a Parquet file, write it again") from None
