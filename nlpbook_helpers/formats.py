"""What does a file of answers look like? CSV, TSV, JSONL or Parquet, written in parts and put together."""

import csv
import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from nlpbook_helpers.rows import Row

DELIMITERS = {".csv": ",", ".tsv": "\t"}
OUTPUT_SUFFIXES = (*DELIMITERS, ".jsonl", ".parquet")


class Columns(NamedTuple):
    """What a file of answers holds, and in which format."""

    suffix: str
    """One of `OUTPUT_SUFFIXES`."""
    names: Sequence[str]
    """Of the input."""
    added: Sequence[str]
    """After them."""
    schema: Any = None
    """pyarrow's, of an input in Parquet; None for others."""


Scored = list[tuple[Row, list[Any]]]


def write_rows(columns: Columns, scored: Scored, file: BinaryIO) -> None:
    """Write some rows with what is added to each, without a header."""
    encoders: dict[str, Callable[[Columns, Scored, BinaryIO], None]] = {
        ".jsonl": _encode_json,
        ".parquet": _encode_parquet,
    }
    encoders.get(columns.suffix, _encode_separated)(columns, scored, file)


def merge_files(columns: Columns, parts: list[Path], file: BinaryIO) -> None:
    """Put files that `write_rows` wrote together, with a header where the format has one."""
    if columns.suffix == ".parquet":
        _merge_parquet(columns, parts, file)
        return
    if columns.suffix in DELIMITERS:
        _write_separated(columns, [[*columns.names, *columns.added]], file)
    concatenate(parts, file)


def concatenate(paths: list[Path], file: BinaryIO) -> None:
    """Copy files one after another."""
    for path in paths:
        with path.open("rb") as part:
            shutil.copyfileobj(part, file)


def _encode_separated(columns: Columns, scored: Scored, file: BinaryIO) -> None:
    cells = ([to_text(row.get(name), keep=True) for name in columns.names] + added for row, added in scored)
    _write_separated(columns, cells, file)


def _write_separated(columns: Columns, lines: Any, file: BinaryIO) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    csv.writer(text, delimiter=DELIMITERS[columns.suffix], lineterminator="\n").writerows(lines)
    text.detach()  # the file stays open


def _encode_json(columns: Columns, scored: Scored, file: BinaryIO) -> None:
    for row, added in scored:
        answer = {**row, **dict(zip(columns.added, added, strict=True))}
        file.write(json.dumps(answer, ensure_ascii=False, default=str).encode() + b"\n")


def to_text(value: Any, keep: bool = False) -> Any:
    """Write a value of a row into one cell: lists and objects as JSON; with `keep` all else stays as it is."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value if keep or value is None else str(value)


def _encode_parquet(columns: Columns, scored: Scored, file: BinaryIO) -> None:
    """Write a table whose columns have the input's types where they are known, else those that the values have."""
    import pyarrow
    from pyarrow.parquet import write_table

    names = dict.fromkeys([*columns.names, *(name for row, _ in scored for name in row if name is not None)])
    table: dict[str, Any] = {}
    for name in names:
        values, kind = [row.get(name) for row, _ in scored], columns.schema and columns.schema.field(name).type
        try:
            table[name] = pyarrow.array(values, kind)
        except pyarrow.ArrowException:  # values of different types, in JSONL
            table[name] = pyarrow.array(map(to_text, values), pyarrow.string())
    added = zip(*(values for _, values in scored), strict=True)
    table |= {name: pyarrow.array(values) for name, values in zip(columns.added, added, strict=True)}
    write_table(pyarrow.table(table), file)


def _merge_parquet(columns: Columns, parts: list[Path], file: BinaryIO) -> None:
    """Write parts one after another; a column whose type changes gets one that holds all of them, at worst text."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter, read_schema, read_table

    kinds: dict[str, list[Any]] = {name: [] for name in columns.names}
    for name in columns.names if columns.schema else ():
        kinds[name].append(columns.schema.field(name).type)
    for part in parts:
        with part.open("rb") as opened:
            for column in read_schema(opened):
                kinds.setdefault(column.name, []).append(column.type)
    order = [*(name for name in kinds if name not in columns.added), *columns.added]  # later parts may have more
    schema = pyarrow.schema([(name, _unify(kinds.get(name, []))) for name in order])
    with ParquetWriter(file, schema) as writer:
        for part in parts:
            with part.open("rb") as opened:
                table = read_table(opened)
            absent = pyarrow.nulls(len(table))
            found = [table[name] if name in table.column_names else absent for name in order]
            arrays = [_convert(column, kind) for column, kind in zip(found, schema.types, strict=True)]
            writer.write_table(pyarrow.table(arrays, schema=schema))


def _unify(kinds: list[Any]) -> Any:
    import pyarrow

    try:
        schemas = [pyarrow.schema([("column", kind)]) for kind in dict.fromkeys(kinds)]
        kind = pyarrow.unify_schemas(schemas, promote_options="permissive").field(0).type if kinds else pyarrow.null()
    except pyarrow.ArrowException:
        return pyarrow.string()
    return pyarrow.string() if pyarrow.types.is_null(kind) else kind


def _convert(column: Any, kind: Any) -> Any:
    import pyarrow

    try:
        return column.cast(kind)
    except pyarrow.ArrowException:
        return pyarrow.array(map(to_text, column.to_pylist()), kind)
