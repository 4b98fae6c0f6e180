"""How is a file read? Row by row, whatever its format; what is wrong is named with its line."""

import codecs
import csv
import gzip
import io
import json
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
NumberedRows = Iterator[tuple[int, Row]]

# Number of texts → what their columns are usually called.
USUAL_COLUMNS: dict[int, list[tuple[str, ...]]] = {
    1: [*zip(["document", "sentence", "text", "review", "comment", "문장", "내용", "리뷰", "댓글", "제목"])],
    2: [("premise", "hypothesis"), ("sentence1", "sentence2"), ("text_a", "text_b"), ("전제", "가설")],
}
SAMPLE_BYTES = 2**16  # of a file's beginning, to see what it is
UNQUOTED = "if the file is written without quotes, read it with quoting=False"
PARQUET_ROWS = 1_024  # turned into Python objects at once
# The process's limit of a text, which bounds what an open quote takes in: raised once, for long documents.
csv.field_size_limit(max(2**24, csv.field_size_limit()))
# Letters and marks by name, but nothing to see: Hangul fillers, an empty Braille cell, joiners, variation selectors.
UNSEEN = {*"\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0", *map(chr, range(0xFE00, 0xFE10))}


class CorpusError(ValueError):
    """A corpus file is missing, empty or malformed; the message names file and line."""


class MissingColumnsError(CorpusError):
    """A file lacks a column that was asked for; `columns` are its own."""

    def __init__(self, place: str, missing: Sequence[str], columns: Sequence[str]) -> None:
        usual = set(chain(*chain(*USUAL_COLUMNS.values())))
        likely = [name for name in columns if name.lower() in usual] or list(columns)
        super().__init__(f"{place}: expected columns {missing}, found {columns}: name those to read, perhaps {likely}")
        self.columns = list(columns)


class BadRow(dict):
    """What is known of a row that could not be read: why (`reason`), and what stands in the file (`raw`)."""

    def __init__(self, reason: str, row: Row | None = None, raw: str = "") -> None:
        super().__init__(row or {})
        self.reason, self.raw = reason, raw


def normalize_text(text: str) -> str:
    """Compose what macOS writes in pieces (NFC): to a tokenizer, a syllable in pieces is unknown."""
    return unicodedata.normalize("NFC", text)


def is_blank(text: str) -> bool:
    """Say whether there is nothing to see: white space, control and zero-width characters and fillers only."""
    return all(unicodedata.category(char) in ("Cc", "Cf", "Zs", "Zl", "Zp") or char in UNSEEN for char in text)


def find_path(address: str | Path) -> Path:
    """Return the path of an address: a local one, or one that fsspec reaches (`s3://…`, `gs://…`, `https://…`)."""
    if not isinstance(address, str):
        return address
    if "://" not in address:
        return Path(address)
    try:
        from upath import UPath  # type: ignore[import-not-found]

        path: Any = UPath(address)
        return Path(path.path) if "file" in path.fs.protocol else path  # `fs` needs the package that reaches it
    except (ImportError, ValueError) as error:  # its package is missing, or nobody knows such addresses
        raise CorpusError(f"{address}: {error}; install what is missing, or correct the address") from error


def read_rows(
    path: str | Path, columns: Sequence[str], delimiter: str | None = None, keep_errors: bool = False,
    encoding: str = "utf-8", quoting: bool = True,
) -> NumberedRows:  # fmt: skip
    """Yield line number (from 1, with the header) and row; only of an array in JSON are all in memory at a time.

    The suffix tells the format, `.gz` may follow: `.json` and `.jsonl` hold an array of objects or an object a line,
    `.parquet` needs pyarrow, anything else is text with a header. `get_values` takes the texts out of a row.

    Args:
        path: The file, or its address.
        columns: Names that the file must have; there may be more.
        delimiter: Between columns of text files; default: a comma, a semicolon or a tab, as the header shows.
        keep_errors: Go on past a row that cannot be read: a `BadRow` stands in its place.
        encoding: Of text; single bytes that are not in it are refused by `get_values`.
        quoting: False takes quotes as they stand; else texts with delimiters are quoted and their quotes doubled.

    Raises:
        CorpusError: There is no such file, it is of another encoding or format, or a row cannot be read.
    """
    path = find_path(path)
    if not path.is_file():
        raise CorpusError(f"expected a file at {path}, found none: correct the path")
    with path.open("rb") as opened:
        try:
            for number, row in _read(path, opened, columns, delimiter, encoding, quoting):
                if isinstance(row, BadRow) and not keep_errors:
                    raise CorpusError(f"{path}, line {number}: {row.reason}")
                yield number, row
        except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError, csv.Error) as error:
            raise CorpusError(f"{path}: {error}: expected a whole file with a header, write it again") from error


def _read(
    path: Path, file: Any, columns: Sequence[str], delimiter: str | None, encoding: str, quoting: bool
) -> NumberedRows:
    name = path.name.lower()
    file = gzip.GzipFile(fileobj=file) if name.endswith(".gz") else file
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix == ".parquet":
        return _read_parquet(path, file, columns)
    lines = _decode(path, file, encoding)
    if suffix in (".json", ".jsonl"):
        return _read_json(lines)
    return _read_separated(path, lines, columns, delimiter, "\t" if suffix == ".tsv" else ",", quoting)


def get_values(row: Row, columns: Sequence[str]) -> list[str]:
    """Take some columns out of a row as strings in NFC, or raise a `CorpusError`, to which the caller adds the line."""
    return [_to_text(name, row.get(normalize_text(name))) for name in columns]


def _to_text(name: str, value: Any) -> str:
    if value is None or value != value:  # not a number: so pandas and Parquet write that there is none
        raise CorpusError(f"expected a value in {name!r}, the row has none")
    if not isinstance(value, str | int | float):
        raise CorpusError(f"expected a text in {name!r}, got {type(value).__name__}")
    # whole numbers get a point when a value of the column is missing
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) - 0xDC00  # so `surrogateescape` hides it
        found = f"byte {byte:#04x} is not UTF-8" if 0x80 <= byte <= 0xFF else "half a surrogate pair"
        raise CorpusError(f"{name}: {found}; save the file as UTF-8, or name its encoding (encoding=…)") from None
    return normalize_text(text)


def _decode(path: Path, opened: Any, encoding: str) -> Iterator[str]:
    """Yield lines; refuse a file that is no text or surely in another encoding. What is likely is said, not assumed."""
    file = io.BufferedReader(opened, SAMPLE_BYTES)
    sample = file.peek(SAMPLE_BYTES)
    if not sample:
        raise CorpusError(f"{path} is empty: write it again, or delete it and call download_downstream_dataset(args)")
    if sample.startswith((b"PK\3\4", b"\xd0\xcf\x11\xe0")):
        raise CorpusError(f"{path} is a workbook, expected text: save it as 'CSV UTF-8' in Excel")
    likely = guess_encoding(sample)
    try:
        is_utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
        fits = likely and _decode_sample(sample, encoding) == _decode_sample(sample, likely)
    except LookupError:
        raise CorpusError(f"encoding: expected a name like 'utf-8' or 'cp949', got {encoding!r}") from None
    # UTF can be told from others; what else a reader names is believed, since many encodings take any byte
    if not fits and (is_utf8 or str(likely).startswith("utf")):
        found = f"it looks like {likely}: encoding={likely!r}" if likely else "encoding=…"
        raise CorpusError(f"{path} is not in the encoding {encoding!r}; {found} names its own, or save it as UTF-8")
    yield from io.TextIOWrapper(file, "utf-8-sig" if is_utf8 else encoding, errors="surrogateescape", newline="")


def guess_encoding(sample: bytes) -> str | None:
    """Return the encoding that bytes are most likely in; None if it is none that Korean files usually have."""
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-32" if sample.startswith(codecs.BOM_UTF32_LE) else "utf-16"
    if sample.count(0) > len(sample) / 50:
        return "utf-16-le" if sample[1::2].count(0) > sample[::2].count(0) else "utf-16-be"
    text = _decode_sample(sample, "utf-8")
    if 2 * text.count("\ufffd") <= sum(not char.isascii() for char in text):  # single bad bytes are their rows' fault
        return "utf-8"
    return None if "\ufffd" in _decode_sample(sample, "cp949") else "cp949"


def _decode_sample(sample: bytes, encoding: str) -> str:
    decoder = codecs.getincrementaldecoder(encoding)("replace")  # leaves out a character that is cut at the end
    return decoder.decode(sample).removeprefix("\ufeff")


def _read_separated(
    path: Path, lines: Iterator[str], columns: Sequence[str], delimiter: str | None, usual: str, quoting: bool
) -> NumberedRows:
    header, held = next(lines, ""), []

    def count_fields(delimiter: str) -> tuple[bool, int]:
        found = [_clean_name(name) for name in next(csv.reader([header], delimiter=delimiter), [])]
        return set(columns) <= set(found), len(found)

    # Excel writes semicolons where the comma is a decimal sign
    delimiter = delimiter or max((usual, ",", ";", "\t"), key=count_fields)
    how = csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE
    reader = csv.reader(_hold(chain([header], lines), held), delimiter=delimiter, strict=True, quoting=how)
    names = [_clean_name(name) for name in next(reader, [])]
    while names and not names[-1]:  # Excel's empty columns at the end
        names.pop()
    _check_columns(f"{path}, line 1", names, columns)
    while True:
        held.clear()
        first = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:  # an open quote takes in the lines below it: the first is the one to look at
            reason = f"{error}; expected a text with quotes to be quoted and they doubled; {UNQUOTED}"
            yield first, BadRow(reason, raw="".join(held))
            continue
        if values is None:
            return
        if not values:  # an empty line
            continue
        row = dict(zip(names, values, strict=False))
        if len(row) < len(names) or any(values[len(names) :]):
            row = BadRow(f"expected {len(names)} columns, got {len(values)}", row)
        if len(held) > 1 and _are_whole_rows(held, delimiter, len(names)):
            reason = f"expected a row, got several from line {first} on between two quotes; {UNQUOTED}"
            row = BadRow(reason, raw="".join(held))
        yield reader.line_num, row


def _clean_name(name: str) -> str:
    return normalize_text(name).strip(" \ufeff")


def _hold(lines: Iterator[str], held: list[str]) -> Iterator[str]:
    """Pass lines on and keep them too, to show what a row was made of."""
    for line in lines:
        held.append(line)
        yield line


def _check_columns(place: str, found: Sequence[str], columns: Sequence[str]) -> None:
    if len(set(found)) != len(found):
        raise CorpusError(f"{place}: expected different column names, found {list(found)}")
    if missing := [name for name in columns if normalize_text(name) not in found]:
        raise MissingColumnsError(place, missing, found)


def _are_whole_rows(lines: Sequence[str], delimiter: str, width: int) -> bool:
    """Say whether the lines of a text have as many columns each as the file.

    In a file without quotes, one that begins a text and one that ends another below take in all rows between. Commas
    stand in texts too, so that two columns divided by one prove nothing unless the second is a number.
    """
    pieces = [line.strip().split(delimiter) for line in lines if line.strip()]
    proves = delimiter == "\t" or width > 2 or all(row[-1].strip().isdecimal() for row in pieces)
    return proves and all(len(row) == width for row in pieces)


def _read_json(lines: Iterator[str]) -> NumberedRows:
    """Read an array of objects, which begins with a bracket, or an object on each line."""
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    begin, text = next(numbered, (1, ""))
    is_array = text.lstrip().startswith("[")
    if is_array:
        text = "".join([text, *lines])
    for line, value in chain([(begin, text)], numbered):
        try:
            found = json.loads(value, object_pairs_hook=_name_values)
        except (ValueError, RecursionError) as error:
            reason = f"{getattr(error, 'msg', error)}; expected an array of JSON objects, or one on each line"
            yield line - 1 + getattr(error, "lineno", 1), BadRow(reason, raw=value)
            continue
        for number, row in enumerate(found, start=1) if is_array else [(line, found)]:
            is_row = isinstance(row, dict)
            yield number, row if is_row else BadRow(f"expected a JSON object, got {type(row).__name__}", raw=str(row))


def _name_values(pairs: list[tuple[str, Any]]) -> Row:
    return {normalize_text(name): value for name, value in pairs}


def _read_parquet(path: Path, file: Any, columns: Sequence[str]) -> NumberedRows:
    from pyarrow import ArrowException  # a fifth of a second that other formats need not spend
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file) as opened:
            names = [normalize_text(name) for name in opened.schema_arrow.names]
            _check_columns(str(path), names, columns)
            batches = (batch.rename_columns(names).to_pylist() for batch in opened.iter_batches(PARQUET_ROWS))
            yield from enumerate(chain.from_iterable(batches), start=1)
    except ArrowException as error:
        raise CorpusError(f"{path}: {error}; expected a Parquet file, write it again") from None
