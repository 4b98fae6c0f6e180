"""Which rows are scored, and where do their answers go? All that can be refused is refused before the first row."""

import codecs
import hashlib
import json
import os
import reprlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nlpbook_helpers import reading
from nlpbook_helpers.classifier import SURROGATE, Classifier, name_added
from nlpbook_helpers.corpora import ClassificationExample
from nlpbook_helpers.reading import BadRow, NumberedRows, Row
from nlpbook_helpers.values import FIRST, USUAL_COLUMNS, CorpusError, is_blank

OUTPUT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
INPUT_SUFFIXES = (*OUTPUT_SUFFIXES, ".json")
MOST_NAME_BYTES = 255  # what most disks allow
BATCH_ROWS = 4_096  # sorted by length together: more would hardly save padding, and their texts are held in memory
BATCH_CHARACTERS = 2_000_000  # the same bound for long texts


class ScoringError(ValueError):
    """A file cannot be scored as asked: the output exists, an interrupted run was another one, columns collide."""


@dataclass(frozen=True)
class Job:
    """One file to score.

    Attributes:
        source: Where it is.
        output: Where it goes.
        folder: Where answers grow, and all else is written before it moves to its place.
        text_columns: Names of the texts' columns.
        labels: Names of the model's outputs, in their order.
        schema: Of the output: the input's columns, all of them text unless it is Parquet, and those that are added.
        encoding: Of the output, if it is CSV or TSV.
        read: `read_rows`, told how to read.
    """

    source: Path
    output: Path
    folder: Path
    text_columns: tuple[str, ...]
    labels: tuple[str, ...]
    schema: pa.Schema
    encoding: str
    read: Callable[..., NumberedRows]

    @property
    def answers(self) -> Path:
        """Records of float32: a row's probabilities, and whether its text is mostly unknown; nan if it is refused."""
        return self.folder / "answers"

    @property
    def record_bytes(self) -> int:
        """Length of one of them."""
        return 4 * (len(self.labels) + 1)

    @cached_property
    def added(self) -> set[str]:
        """Names of the columns that are added."""
        return {*name_added(self.labels)}

    @property
    def is_table(self) -> bool:
        """Whether all rows of the output have the same columns; objects may have fields of their own."""
        return self.output.suffix.lower() != ".jsonl"

    def read_checked(self) -> Iterator[tuple[int, Row, ClassificationExample | str]]:
        """Yield line, row, and the row's texts or why it cannot be scored."""
        for line, row in self.read(self.source, self.text_columns):
            yield line, row, _check_row(self, row)

    def count_done(self) -> int:
        """Return how many rows have an answer, refused ones included."""
        return self.answers.stat().st_size // self.record_bytes

    def read_answers(self) -> Iterator[list[float]]:
        """Yield the records, in the order of the rows."""
        with self.answers.open("rb") as file:
            while record := file.read(self.record_bytes):
                yield np.frombuffer(record, np.float32).tolist()


class Batch(NamedTuple):
    """Rows that are scored together: of each its texts, or why it is refused."""

    job: Job
    rows: list[ClassificationExample | str]

    @property
    def examples(self) -> list[ClassificationExample]:
        """The texts to score."""
        return [row for row in self.rows if not isinstance(row, str)]


def plan_jobs(
    classifier: Classifier, source: Path, output: Path, folder: Path, text_columns: Sequence[str] | None, read: Any
) -> list[Job]:
    """Look at every file of the input, and say where its answers go; all that can be refused is refused now.

    Args:
        classifier: What will score them.
        source: A file, or a folder of files.
        output: A file for a file, a folder for a folder.
        folder: Where answers are kept until all are there.
        text_columns: Names of the texts' columns, or the only one's; default: see `score_file`.
        read: `read_rows`, told how to read.
    """
    is_folder, text_columns = source.is_dir(), [text_columns] if isinstance(text_columns, str) else text_columns
    source = source if is_folder else reading.find_file(source)
    if is_folder == (output.suffix.lower() in OUTPUT_SUFFIXES):
        expected = "a folder, as the input is one" if is_folder else f"a file, one of {OUTPUT_SUFFIXES}"
        raise ScoringError(f"output: expected {expected}, got {output}: name another")
    if source.resolve() in (output.resolve(), *output.resolve().parents):
        raise ScoringError(f"output: expected another place than the input {source}, got {output}: name another")
    paths = _find_files(source) if is_folder else [source]
    columns = tuple(text_columns or _find_text_columns(classifier, paths, read))
    if columns != tuple(text_columns or classifier.text_columns):
        print(f"texts in {', '.join(map(repr, columns))}; --text-columns (text_columns=[…]) names others")
    if len(columns) != len(classifier.input_names):
        raise ScoringError(f"text columns: expected one for each of {classifier.input_names}, got {list(columns)}")
    jobs = []
    for path in paths:
        name = path.relative_to(source).as_posix() if is_folder else ""
        target = output / name if name else output
        if target.suffix.lower() not in OUTPUT_SUFFIXES:
            target = target.with_name(f"{target.name}.jsonl")
        schema = _make_schema(path, columns, classifier.labels, read)
        encoding = "utf-8-sig" if _begins_with_mark(path) else "utf-8"
        jobs.append(Job(path, target, folder / name, columns, tuple(classifier.labels), schema, encoding, read))
    written = Counter(chain.from_iterable((job.output, get_refused_path(job.output)) for job in jobs))
    if twice := [str(path) for path, times in written.items() if times > 1]:
        raise ScoringError(f"output: expected a file for each input, got {twice} for two: rename one of the inputs")
    if len(os.fsencode(get_refused_path(output).name)) > MOST_NAME_BYTES or not is_folder and output.is_dir():
        raise ScoringError(f"output: expected the name of a file, at most 240 bytes long, got {output}: name another")
    return jobs


def _begins_with_mark(path: Path) -> bool:
    """Say whether a file begins as Excel's UTF-8 does, which shows Korean wrongly without the mark."""
    with path.open("rb") as file:
        return file.read(3) == codecs.BOM_UTF8


def get_refused_path(output: Path) -> Path:
    """Return where the rows are written that could not be scored."""
    return output.with_name(f"{output.name}.refused.jsonl")


def _find_files(folder: Path) -> list[Path]:
    """Return the files that can be read, hidden ones left out."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    names = [name for name in sorted(found) if name.lower().removesuffix(".gz").endswith(INPUT_SUFFIXES)]
    if not (paths := [found[name] for name in names if "/." not in f"/{name}"]):
        raise CorpusError(f"expected files that end with one of {INPUT_SUFFIXES} in {folder}, found none")
    if others := sorted(name for name in found if name not in names and "/." not in f"/{name}"):
        print(f"passed over {len(others):,} files that do not end with one of {INPUT_SUFFIXES}: {reprlib.repr(others)}")
    return paths


def _find_text_columns(classifier: Classifier, paths: Sequence[Path], read: Any) -> tuple[str, ...]:
    """Choose the columns that hold the texts: those of the training if they are there, else usual names."""
    usual = [classifier.text_columns, classifier.input_names, *USUAL_COLUMNS[len(classifier.input_names)]]
    row = next(filter(None, (_read_first_row(path, (), read) for path in paths)), {})
    if not row:
        raise CorpusError(f"{paths[0]}: expected rows below the line that names the columns, found none")
    for names in usual:
        if names and set(names) <= row.keys():
            return tuple(names)
    known = ", ".join(dict.fromkeys("+".join(names) for names in usual if names))
    expected = f"expected rows with text columns of a usual name ({known}), found {list(row)}"
    nested = [name for name, value in row.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    remedy = f"; write each object of {nested[0]!r} as a row" if nested else FIRST
    raise CorpusError(f"{paths[0]}: {expected}: name them (text_columns=[…], --text-columns){remedy}")


def _read_first_row(path: Path, columns: Sequence[str], read: Callable[..., NumberedRows]) -> Row | None:
    """Return the first row that can be read, None if there is none at all; refuse a file of bad rows only."""
    rows = read(path, columns)
    line, first = next(rows, (0, None))
    row = next((row for _, row in chain([(line, first)], rows) if not isinstance(row, BadRow)), None)
    if row is None and isinstance(first, BadRow):
        raise CorpusError(f"{path}: no row can be read; line {line}: {first.reason}")
    return row


def _make_schema(path: Path, columns: Sequence[str], labels: Sequence[str], read: Any) -> pa.Schema:
    """Return the output's columns; reading a row of the input also refuses a file that lacks the texts' columns."""
    fields = [pa.field(name, pa.string()) for name in _read_first_row(path, columns, read) or columns]
    if path.suffix.lower() == ".parquet":
        with path.open("rb") as file:
            fields = [field.with_name(reading.normalize_text(field.name)) for field in pq.read_schema(file)]
    added = name_added(labels)
    if taken := [field.name for field in fields if field.name in added]:
        raise ScoringError(f"{path}: expected no columns {taken}, which are added: rename them")
    return pa.schema([*fields, *pa.schema(added)])


def look_at(path: Path) -> tuple[str, int]:
    """Return what tells a file's content from another, and about how many rows it has; 0 if nobody knows.

    A time stamp would tell less: a copied or restored file has another, a file written anew may have the same.
    """
    if not isinstance(path, Path):  # far away: the store's own sign, such as an ETag
        return str(path.fs.ukey(path.path)), 0
    digest, lines = hashlib.blake2b(digest_size=8), 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
            lines += block.count(b"\n")
    return digest.hexdigest(), lines if path.suffix.lower() in (".csv", ".tsv", ".jsonl") else 0


def read_batches(job: Job) -> Iterator[Batch]:
    """Read a file's rows in batches, from the first one that has no answer yet."""
    rows, characters = [], 0
    for _, _, found in islice(job.read_checked(), job.count_done(), None):
        rows.append(found)
        characters += 0 if isinstance(found, str) else len(found.text_a) + len(found.text_b or "")
        if len(rows) == BATCH_ROWS or characters > BATCH_CHARACTERS:
            yield Batch(job, rows)
            rows, characters = [], 0
    if rows:
        yield Batch(job, rows)


def _check_row(job: Job, row: Row) -> ClassificationExample | str:
    """Return the row's texts, or why it cannot be scored."""
    if isinstance(row, BadRow):
        return row.reason
    try:
        texts = reading.get_values(row, job.text_columns)
        json.dumps(row, ensure_ascii=False, default=str).encode()  # the other columns are to be written too
    except UnicodeEncodeError:
        name = next(name for name, value in row.items() if not str(value).isascii() and SURROGATE.search(str(value)))
        return (
            f"column {name!r} holds bytes of another encoding, or half a character: name it (encoding=…), or clean it"
        )
    except CorpusError as error:
        return str(error)
    if all(str(value).strip(" \ufeff") == name for name, value in row.items()):
        return "the header stands here once more, as where files were pasted together"
    if empty := [name for name, text in zip(job.text_columns, texts, strict=True) if is_blank(text)]:
        return f"{empty[0]}: expected a text, got an empty one"
    if taken := row.keys() & job.added:  # which the first row may not have
        return f"columns {sorted(taken)} are added: rename them"
    if job.is_table and (other := row.keys() - {*job.schema.names}):
        return f"columns {sorted(other)} are not in the first row: write to a .jsonl file to keep them"
    return ClassificationExample(*texts)
