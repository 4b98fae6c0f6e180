"""What does a file of answers look like? CSV, TSV, JSONL or Parquet, written in parts and put together.

How are answers written? In parts, each of them whole or not there, that are put together to one file.

What if scoring stops? What is written stays beside the output, and the next run scores what is missing.

Which files are scored, and where do their answers go? All that can be refused is refused before the first row.

What if one machine is too slow? Ray Data spreads the same work over the processors and GPUs of many.

How is a whole file scored? Row by row in bounded memory, nothing lost, going on where it stopped.
"""

import atexit
import csv
import io
import json
import logging
import os
import pickle
import shutil
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple
from uuid import uuid4

import numpy as np
import torch

from nlpbook_helpers.classifier import Classifier
from nlpbook_helpers.corpora import (
    BadRow,
    ClassificationExample,
    CorpusError,
    Row,
    find_path,
    get_short_names,
    get_values,
    read_rows,
)
from nlpbook_helpers.features import predict_probabilities

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


NumberedRow = tuple[int, Row]


class ScoringError(ValueError):
    """A file cannot be scored as asked: the output exists, an interrupted run was another one, columns collide."""


class ScoredBatch(NamedTuple):
    """Some rows of a file and what the classifier says about them."""

    rows: list[NumberedRow]
    """Line numbers and rows, as they were read."""
    probabilities: np.ndarray
    """float32, (rows without a reason, labels)."""
    reasons: list[str | None]
    """Why a row was refused; None for scored ones."""


@dataclass(frozen=True)
class Job:
    """One file to score, as it is sent to whoever reads it, scores it or writes its answers."""

    name: str
    """Of the file, below the input folder."""
    source: Path
    output: Path
    parts: Path
    """Folder of its answers, until all are there."""
    text_columns: tuple[str, ...]
    columns: tuple[str, ...]
    """Of the input's first row."""
    labels: tuple[str, ...]
    """Names of the model's outputs, in their order."""
    schema: Any = None
    """pyarrow's, of a Parquet file; None for others."""

    @property
    def layout(self) -> Columns:
        """What the output holds."""
        return Columns(self.output.suffix.lower(), self.columns, make_added_columns(self.labels), self.schema)


@dataclass
class Counts:
    """What became of some rows."""

    read: int = 0
    """Rows, refused ones included."""
    refused: int = 0
    lines: int = 0
    """Of the file, for the progress."""
    labels: dict[str, int] = field(default_factory=dict)
    """Label → rows."""

    def add(self, other: "Counts") -> None:
        """Count other rows too."""
        self.read += other.read
        self.refused += other.refused
        self.lines += other.lines
        self.labels = dict(Counter(self.labels) + Counter(other.labels))


def make_added_columns(labels: Sequence[str]) -> list[str]:
    """Return the names of the columns that an output has beyond its input's."""
    return ["predicted_label", "predicted_name", *(f"probability_{get_short_names(label)[1]}" for label in labels)]


def get_refused_path(output: Path) -> Path:
    """Return where the rows go that cannot be scored."""
    return output.with_name(f"{output.name}.refused.jsonl")


def get_parts_path(output: Path) -> Path:
    """Return the folder of what is known of an output's answers until all are there."""
    return output.with_name(f"{output.name}.parts")


@contextmanager
def create(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write that has its name only when it is whole, and on the disk.

    Elsewhere than on a disk it is uploaded at the end, which object stores do at once or not at all.

    Args:
        path: A local path, or universal_pathlib's of another place.

    Raises:
        ScoringError: The disk is full, or the file cannot be written there.
    """
    if not isinstance(path, Path):
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "whole"
            with local.open("wb") as file:
                yield file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.fs.put_file(str(local), path.path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid4().hex[:8]}.part")  # two may write the same: one seemed to be dead
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        reason = error.strerror or error
        raise ScoringError(f"{path} cannot be written ({reason}): make room, then the same call goes on") from error
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write a small file of facts."""
    with create(path) as file:
        file.write(json.dumps(content, ensure_ascii=False).encode())


def write_part(job: Job, number: int, batch: ScoredBatch, lines: int) -> Counts:
    """Write what is known about some rows: answers, refused rows, and last the counts, which make the part valid.

    Args:
        job: The file they are of.
        number: Of the part, from 0.
        batch: Its rows.
        lines: How many lines of the file they take.

    Raises:
        ScoringError: The disk is full, or the folder cannot be written to.
    """
    scored, refused = [], []
    probabilities = iter(batch.probabilities)
    for (line, row), reason in zip(batch.rows, batch.reasons, strict=True):
        values = None if reason else next(probabilities)
        reason = reason or _find_misfit(job, row)
        if reason or values is None:
            known = {str(name): value for name, value in row.items()}
            refused.append({"line": line, "reason": reason, "row": known or getattr(row, "raw", known)})
            continue
        best = int(values.argmax())
        scored.append((row, [best, job.labels[best], *(round(float(value), 6) for value in values)]))
    labels = Counter(added[1] for _, added in scored)
    counts = Counts(len(batch.rows), len(refused), lines, dict(labels))
    if scored:
        with create(_get_part(job, number, job.layout.suffix)) as file:
            write_rows(job.layout, scored, file)
    if refused:
        with create(_get_part(job, number, ".refused.jsonl")) as file:
            file.writelines(json.dumps(entry, default=str).encode() + b"\n" for entry in refused)
    write_json(_get_part(job, number, ".json"), asdict(counts))
    return counts


def merge_parts(job: Job, count: int) -> None:
    """Put the parts of a file together, in their order, to its output and its refused rows.

    Args:
        job: The file.
        count: How many parts there are.

    Raises:
        ScoringError: The disk is full, or the folder cannot be written to.
    """
    refused, target = _find_parts(job, count, ".refused.jsonl"), get_refused_path(job.output)
    if refused:
        with create(target) as file:
            concatenate(refused, file)
    else:
        target.unlink(missing_ok=True)
    with create(job.output) as file:
        merge_files(job.layout, _find_parts(job, count, job.layout.suffix), file)


def _get_part(job: Job, number: int, suffix: str) -> Path:
    return job.parts / f"{number:06d}{suffix}"


def _find_parts(job: Job, count: int, suffix: str) -> list[Path]:
    there = {path.name for path in job.parts.glob(f"*{suffix}")}
    paths = (_get_part(job, number, suffix) for number in range(count))
    return [path for path in paths if path.name in there]


def _find_misfit(job: Job, row: Row) -> str | None:
    other = [name for name in row if name not in job.columns] if job.layout.suffix in DELIMITERS else []
    return f"columns {other} are not in the first row: write to a .jsonl file to keep them" if other else None


MERGING_THREADS = 8  # of a store far away; on a disk the first one does nearly all of it
FINISHED = "finished.json"  # what is left of a file's parts when they have become its output


class Block(NamedTuple):
    """Rows that are scored together and become one part of a file's answers."""

    job: Job
    """The file."""
    number: int
    """Of the block in its file; without rows: how many there are."""
    rows: list[NumberedRow]
    lines: int
    """How many lines of the file they take."""


def cut_batches(
    rows: Iterable[NumberedRow], text_columns: Sequence[str], most: tuple[int, int]
) -> Iterator[list[NumberedRow]]:
    """Cut rows into batches of so many rows or characters: the same rows always into the same batches."""
    batch, characters = [], 0
    for line, row in rows:
        batch.append((line, row))
        characters += sum(len(str(row.get(name, ""))) for name in text_columns)
        if len(batch) == most[0] or characters > most[1]:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def read_blocks(item: tuple[Job, frozenset[int]], most: tuple[int, int]) -> Iterator[Block]:
    """Read a file's blocks except those that are done, and last an empty one that says how many there are."""
    job, done = item
    number, last = -1, 0
    rows = read_rows(job.source, job.text_columns, keep_errors=True)
    for number, batch in enumerate(cut_batches(rows, job.text_columns, most)):
        line = batch[-1][0]
        if number not in done:
            yield Block(job, number, batch, line - last)
        last = line
    yield Block(job, number + 1, [], 0)


class Answers:
    """All that is known about the files of a run: earlier runs' parts, this one's, and what is finished.

    Args:
        output: A file or a folder; the parts are beside it.
        jobs: The files.
        run: What the answers depend on, in primitives; what is named in two runs must be the same in both.
        overwrite: Replace outputs that exist.

    Attributes:
        known: Counts of parts that are there, by file and number.
        counts: Of all files together.
        earlier: Rows that earlier runs had read.

    Raises:
        ScoringError: An interrupted run differs in something, which is named; or an output is there already.
    """

    def __init__(self, output: Path, jobs: Sequence[Job], run: dict[str, Any], overwrite: bool = False) -> None:
        self.output, self.folder = output, get_parts_path(output)
        self.jobs = {job.name: job for job in jobs}
        self.counts = Counts()
        self.known: dict[str, dict[int, Counts]] = {job.name: {} for job in jobs}
        self._sizes: dict[str, int] = {}
        self._merges: list[Future[None]] = []
        self._pool = ThreadPoolExecutor(MERGING_THREADS)
        self._finished: set[str] = set()
        earlier_run = _check_run(self.folder, run)
        self._find_parts()
        self.earlier = self.counts.read
        for path in () if overwrite else (job.output for job, _ in self.missing if job.output.exists()):
            raise ScoringError(f"output: {path} is there already: choose another name, or ask for it to be overwritten")
        write_json(self.folder / "run.json", earlier_run | run)

    def _find_parts(self) -> None:
        names = {path: path.parent.relative_to(self.folder).as_posix() for path in self.folder.rglob("*.json")}
        paths = sorted(path for path, name in names.items() if name in self.jobs)  # the numbered ones first
        for path, counts in zip(paths, self._pool.map(_read_counts, paths), strict=True):
            name = names[path]
            if path.name != FINISHED:
                self.known[name][int(path.stem)] = counts
            elif self.jobs[name].output.exists():
                self._finished.add(name)
                self.known[name] = {0: counts}
            else:  # somebody deleted it: what lies here may have lost its answers already
                self.known[name] = {}
        for counts in (counts for parts in self.known.values() for counts in parts.values()):
            self.counts.add(counts)

    def __enter__(self) -> "Answers":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    @property
    def missing(self) -> list[tuple[Job, frozenset[int]]]:
        """The files that are not finished, with the numbers of their parts that are there."""
        return [(job, frozenset(self.known[name])) for name, job in self.jobs.items() if name not in self._finished]

    def add(self, name: str, number: int, counts: Counts | None) -> None:
        """Note that a part has been written.

        Args:
            name: Of the file.
            number: Of the part.
            counts: What is in it; None says instead that the file has so many parts and no more.

        Raises:
            ScoringError: An output cannot be written.
        """
        if counts is None:
            self._sizes[name] = number
        elif number not in self.known[name]:
            self.known[name][number] = counts
            self.counts.add(counts)
        if len(self.known[name]) == self._sizes.get(name):
            self._merges.append(self._pool.submit(self._merge, self.jobs[name]))
        while self._merges and self._merges[0].done():
            self._merges.pop(0).result()

    def _merge(self, job: Job) -> None:
        merge_parts(job, self._sizes[job.name])
        total = Counts()
        for counts in self.known[job.name].values():
            total.add(counts)
        write_json(job.parts / FINISHED, vars(total))
        _remove(path for path in job.parts.glob("*") if path.name != FINISHED)

    def finish(self) -> None:
        """Wait for the outputs; remove what was kept beside them.

        Raises:
            ScoringError: An output cannot be written.
        """
        for merge in self._merges:
            merge.result()
        if isinstance(self.folder, Path):
            shutil.rmtree(self.folder)
        else:
            self.folder.rmdir(recursive=True)

    def describe_refused(self) -> str:
        """Say how many rows were refused and where they are."""
        is_file = any(job.output == self.output for job in self.jobs.values())
        place = get_refused_path(self.output if is_file else self.output / "*")
        return f"{self.counts.refused:,} refused" + (f" (see {place})" if self.counts.refused else "")


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink()


def _read_counts(path: Path) -> Counts:
    try:
        return Counts(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ScoringError(f"{path} cannot be read ({error}): delete it to score its rows again") from error


def _check_run(folder: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Refuse to mix the answers of two runs; return what the earlier one was."""
    path, earlier = folder / "run.json", {}
    if path.exists():
        try:
            earlier = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ScoringError(f"{path} cannot be read ({error}): delete {folder} to start again") from error
    changed = [f"{name} ({earlier[name]} → {run[name]})" for name in run if earlier.get(name, run[name]) != run[name]]
    if changed:
        raise ScoringError(
            f"expected the same run that was interrupted, got another {', '.join(changed[:3])}: delete {folder} to "
            "start again"
        )
    return earlier


INPUT_SUFFIXES = (*OUTPUT_SUFFIXES, ".json")
LOOKING_THREADS = 16  # of a store far away, each answer of which takes its time
SAMPLE_BYTES = 2**20  # of a text file, to guess how many lines it has
USUAL_COLUMNS = {
    1: [("document",), ("sentence",), ("text",), ("review",), ("comment",)],
    2: [("premise", "hypothesis"), ("sentence1", "sentence2"), ("text_a", "text_b")],
}


def plan_jobs(
    classifier: Classifier, source: Path, output: Path, text_columns: Sequence[str] | None = None
) -> tuple[list[Job], int | None]:
    """Look at every file of the input, and say where its answers go.

    Args:
        classifier: What will score them.
        source: A file, or a folder of files.
        output: A file; or, if its suffix is none of `OUTPUT_SUFFIXES`, a folder.
        text_columns: Names of the texts' columns; default: see `score_file`.

    Returns:
        The files, sorted by name, and about how many lines they have together; None if nobody knows.

    Raises:
        CorpusError: A file is missing, cannot be read or has not the columns, or there is no row in any.
        ScoringError: An output cannot be of that kind or lie there, or columns collide.
    """
    _check_output(source, output)
    files = _find_files(source)
    columns = tuple(text_columns or _find_text_columns(classifier, source, files.values()))
    if len(columns) != len(classifier.input_names):
        raise ScoringError(
            f"text columns: expected {len(classifier.input_names)}, one for each of {classifier.input_names}, got "
            f"{list(columns)}"
        )
    with ThreadPoolExecutor(LOOKING_THREADS) as pool:
        looks = list(pool.map(lambda path: _look_at(path, columns), files.values()))
    if all(row is None for row, _, _ in looks):
        raise CorpusError(f"{source} holds no row to score: expected a header and rows")
    jobs = []
    for (name, path), (row, schema, _) in zip(files.items(), looks, strict=True):
        names = tuple(schema.names) if schema else tuple(name for name in row or columns if name is not None)
        target, parts = output, get_parts_path(output) / name
        if output.suffix.lower() not in OUTPUT_SUFFIXES:
            target = output / (name if path.suffix.lower() in OUTPUT_SUFFIXES else f"{name}.jsonl")
        jobs.append(Job(name, path, target, parts, columns, names, tuple(classifier.labels), schema))
        if taken := [added for added in make_added_columns(classifier.labels) if added in names]:
            raise ScoringError(f"{path}: expected no columns {taken}, which are added: rename them")
    lines = [look[2] for look in looks]
    return jobs, None if None in lines else sum(filter(None, lines))


def describe_state(path: Path) -> str:
    """Say what a file is like, so that a changed one is recognized: size and time, or what a store says of it."""
    about = path.stat()
    state = about.st_mtime_ns if isinstance(path, Path) else path.fs.ukey(path.path)
    return f"{about.st_size} bytes, {state}"


def _check_output(source: Path, output: Path) -> None:
    is_file = output.suffix.lower() in OUTPUT_SUFFIXES
    if source.is_dir():
        if is_file:
            raise ScoringError(f"output: expected a folder, as the input {source} is one, got {output}: name a folder")
        if _resolve(source) in (_resolve(output), *_resolve(output).parents):
            raise ScoringError(f"output: expected a folder outside the input {source}, got {output}: name another")
    elif not is_file and output.suffix and not output.is_dir():
        raise ScoringError(
            f"output: expected a file that ends with one of {OUTPUT_SUFFIXES}, or a folder, got {output.name!r}"
        )
    elif _resolve(source) == _resolve(output):
        raise ScoringError(f"output: expected another file than the input, got {output} for both: choose another name")
    if isinstance(output, Path) and not output.parent.is_dir():  # an object store has no folders
        raise ScoringError(f"output: expected a folder at {output.parent}, found none: make it first")


def _resolve(path: Path) -> Path:
    return path.resolve() if isinstance(path, Path) else path


def _find_files(source: Path) -> dict[str, Path]:
    """Return the files by their names below the input folder; a file is alone."""
    if not source.is_dir():
        return {source.name: source}
    files = {path.relative_to(source).as_posix(): path for path in source.rglob("*")}
    found = {
        name: path
        for name, path in sorted(files.items())
        if path.suffix.lower() in INPUT_SUFFIXES and not f"/{name}".count("/.") and path.is_file()
    }
    if not found:
        raise CorpusError(f"expected files that end with one of {INPUT_SUFFIXES} in {source}, found none")
    return found


def _find_text_columns(classifier: Classifier, source: Path, files: Any) -> tuple[str, ...]:
    """Choose the columns that hold the texts: those of the training if they are there, else usual names."""
    usual = [classifier.text_columns, classifier.input_names, *USUAL_COLUMNS[len(classifier.input_names)]]
    usual = [tuple(names) for names in usual if names]
    for path in files:
        rows = _get_first_rows(path, usual)
        found = {names: row for names, row in zip(usual, rows, strict=True) if row is not None}
        for names, row in found.items():
            if set(names) <= row.keys():
                return names
        if found:
            break
    raise CorpusError(
        f"{source}: expected text columns of a usual name, {[list(names) for names in usual]}, found none of them: "
        "name its text columns (--text-columns)"
    )


def _get_first_rows(path: Path, usual: Sequence[tuple[str, ...]]) -> Iterator[Row | None]:
    """Return the first row as it is read for different columns; an empty one where they are not in the header."""
    for names in usual:
        try:
            yield _get_first_row(path, names)
        except CorpusError as error:
            if "expected columns" not in str(error):
                raise
            yield {}


def _get_first_row(path: Path, columns: Sequence[str]) -> Row | None:
    rows = (row for _, row in read_rows(path, columns, keep_errors=True) if not isinstance(row, BadRow) or row)
    return next(rows, None)


def _look_at(path: Path, columns: Sequence[str]) -> tuple[Row | None, Any, int | None]:
    """Return the first row, the schema of a Parquet file, and about how many lines there are."""
    row, suffix = _get_first_row(path, columns), path.suffix.lower()
    if suffix == ".json":  # read whole, and on one line perhaps
        return row, None, None
    with path.open("rb") as file:
        if suffix == ".parquet":
            from pyarrow.parquet import ParquetFile

            parquet = ParquetFile(file)
            return row, parquet.schema_arrow, parquet.metadata.num_rows
        sample = file.read(SAMPLE_BYTES)
    size = path.stat().st_size
    return row, None, round(sample.count(b"\n") * max(1, size / max(1, len(sample))))


STORE_BYTES = 2**29  # what a cluster of one machine keeps between its processes, beside the worker itself
WORKERS_PER_READER = 8  # a file is read many times faster than it is scored


# Of PyTorch on a CPU, which reads it at its first product: as fast as the 1,024 it keeps else, a gigabyte less
KEPT_KERNELS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
SETTINGS = {  # of Ray, which reads them when it is imported; whoever has set them keeps them
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # else a warning about each worker; what is wrong comes as an exception
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # else a paragraph about each worker that died, whose work another does
}


class Failure:
    """What comes back in the place of a result, for the user to read.

    Args:
        error: An error whose message says it all.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Reader:
    """Cuts items into blocks, pickled so that Ray need not understand them."""

    def __init__(self, cut: Callable[[Any], Iterable[Any]]) -> None:
        self.cut = cut

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[bytes]]]:
        for item in batch["item"]:
            try:
                for block in self.cut(pickle.loads(item)):  # noqa: S301 - made by the driver
                    yield {"block": [pickle.dumps(block)]}
            except (ValueError, OSError) as error:
                yield {"block": [pickle.dumps(Failure(error))]}


class _Worker:
    """Works on one block after another; made once in each process.

    Args:
        work: Ray's reference of a function of a block, sent once and not with each block.
        threads: Of PyTorch; None leaves them as they are.
    """

    def __init__(self, work: Any, threads: int | None) -> None:
        os.environ.setdefault(*KEPT_KERNELS)
        import ray  # type: ignore[import-not-found]
        import torch

        if threads:
            torch.set_num_threads(threads)
        # Ray 2.60 may wait for itself in its last breath, with all the memory: leave before that
        atexit.register(os._exit, 0)
        self.work: Any = ray.get(work)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        (content,) = batch["block"]
        block = pickle.loads(content)  # noqa: S301 - made by a reader
        try:
            result = block if isinstance(block, Failure) else self.work(block)
        except (ValueError, OSError) as error:
            result = Failure(error)
        return {"result": [pickle.dumps(result)]}


def map_on_cluster(
    items: Sequence[Any],
    cut: Callable[[Any], Iterable[Any]],
    work: Callable[[Any], Any],
    address: str | None = None,
    gpus_per_worker: float = 1,
) -> Iterator[Any]:
    """Cut items into blocks and work on these, on every processor or, where there are GPUs, on those.

    A block whose worker dies is worked on again; what `work` does to the outside must bear that.

    Args:
        items: What `cut` takes; one of them is cut by one process.
        cut: Yields the blocks of an item, always the same ones.
        work: Takes a block; is loaded once by each worker. Both are sent to other machines, errors come back.
        address: Of a cluster ("auto", "ray://host:10001"); default: `RAY_ADDRESS`, else this machine alone.
        gpus_per_worker: 0.5 lets two workers share a GPU.

    Yields:
        Results, in no order.

    Raises:
        ScoringError: Ray is not installed, or gave up.
        ValueError, OSError: What `cut` or `work` raised first.
    """
    ray = _import_ray()
    with _connect(address, len(pickle.dumps(work))):
        try:
            for row in _build(items, cut, work, gpus_per_worker).iter_rows():
                result = pickle.loads(row["result"])  # noqa: S301 - made by a worker
                if isinstance(result, Failure):
                    raise result.error
                yield result
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            lines = str(cause).strip().splitlines() or [type(cause).__name__]
            raise ScoringError(f"Ray gave up: {lines[-1]}; once that is repaired, the same call goes on") from error


def _import_ray() -> Any:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray  # type: ignore[import-not-found]
        import ray.data  # type: ignore[import-not-found]
        import ray.exceptions  # type: ignore[import-not-found]
    except ImportError as error:
        raise ScoringError(f'engine "ray": {error}: pip install "ray[data]"') from error
    return ray


def _build(items: Sequence[Any], cut: Any, work: Any, gpus_per_worker: float) -> Any:
    """Describe the stream items → blocks → results; it runs when it is iterated."""
    ray = _import_ray()
    there = ray.cluster_resources()
    with_gpus = there.get("GPU", 0) > 0
    workers = int(there["GPU"] / gpus_per_worker) if with_gpus else int(there.get("CPU", 1))
    resources = {"num_gpus": gpus_per_worker} if with_gpus else {"num_cpus": 1}
    rows = [{"item": pickle.dumps(item)} for item in items]
    dataset: Any = ray.data.from_items(rows, override_num_blocks=min(len(rows), 1_000))
    context: Any = dataset.context
    context.target_max_block_size = 1  # bytes: each block is sent on at once, to whoever is free
    context.target_min_block_size = 1
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context.enable_progress_bars = context.print_on_execution_start = False
    # readers ask for no processor: the workers have them all, and reading takes little
    blocks = dataset.map_batches(
        _Reader(cut).__call__,
        batch_size=1,
        num_cpus=0,
        compute=ray.data.TaskPoolStrategy(1 + workers // WORKERS_PER_READER),
    )
    return blocks.map_batches(
        _Worker,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=max(workers, 1), max_tasks_in_flight_per_actor=2),
        fn_constructor_args=(ray.put(work), None if with_gpus else 1),
        **resources,
    )


@contextmanager
def _connect(address: str | None, work_bytes: int) -> Iterator[None]:
    """Join a cluster, or start one of this machine that nobody else reaches; leave it at the end."""
    ray = _import_ray()
    if ray.is_initialized():  # a notebook's, say
        yield
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    address = address or os.environ.get("RAY_ADDRESS")
    try:
        with _silence():
            if address:
                import nlpbook_helpers

                ray.init(address, runtime_env={"py_modules": [nlpbook_helpers]}, **quiet)
            else:  # it listens to the network, but answers only who knows a token that Ray makes
                ray.init("local", include_dashboard=False, object_store_memory=STORE_BYTES + 2 * work_bytes, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        raise ScoringError(f"Ray cannot start ({error}): correct the address, {address or 'local'}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _silence() -> Iterator[None]:
    """Keep to itself that Ray's C++ part has been told to be quiet; what is wrong comes as an exception."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


BATCH_ROWS = 4_096  # sorted by length together: more would hardly save padding, and they are all held in memory
BATCH_CHARACTERS = 2_000_000  # the same bound for long texts

Engine = Literal["local", "ray"]
Result = tuple[str, int, Counts | None]  # file, part, and what `Answers.add` takes


def score_batches(
    classifier: Classifier, rows: Iterable[NumberedRow], text_columns: Sequence[str]
) -> Iterator[ScoredBatch]:
    """Score a stream of rows, the next batch read and tokenized while the model computes.

    Args:
        classifier: What scores.
        rows: Line numbers and rows, of any source; read `BATCH_ROWS` at a time.
        text_columns: Where the texts are, as many as the classifier reads.

    Yields:
        Batches in the order of the rows; every row is in one of them.
    """
    batches = cut_batches(rows, text_columns, (BATCH_ROWS, BATCH_CHARACTERS))
    for _, batch in _score_named(classifier, ((n, batch) for n, batch in enumerate(batches)), text_columns):
        yield batch


def _score_named(
    classifier: Classifier, batches: Iterator[tuple[Any, list[NumberedRow]]], text_columns: Sequence[str]
) -> Iterator[tuple[Any, ScoredBatch]]:
    """Score batches that somebody has given names, and call them so."""

    def prepare() -> tuple[Any, list[NumberedRow], list[str | None], Any] | None:
        following = next(batches, None)
        if following is None:
            return None
        name, batch = following
        checked = [_check_row(row, text_columns) for _, row in batch]
        examples = [example for example in checked if not isinstance(example, str)]
        reasons = [reason if isinstance(reason, str) else None for reason in checked]
        return name, batch, reasons, classifier.encode(examples)

    with ThreadPoolExecutor(max_workers=1) as executor:
        prepared = executor.submit(prepare)
        while (result := prepared.result()) is not None:
            prepared = executor.submit(prepare)
            name, batch, reasons, features = result
            yield name, ScoredBatch(batch, predict_probabilities(classifier.scorer, features), reasons)


def _check_row(row: Row, text_columns: Sequence[str]) -> ClassificationExample | str:
    """Return the row's texts, or why it cannot be scored."""
    if isinstance(row, BadRow):
        return row.reason
    try:
        texts = get_values(row, text_columns)
        json.dumps(row, ensure_ascii=False, default=str).encode()
    except CorpusError as error:
        return str(error)
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        byte = f"byte {code - 0xDC00:#04x} is not UTF-8" if 0xDC80 <= code <= 0xDCFF else "half a surrogate pair"
        return f"{byte}; save the file as UTF-8"
    empty = [name for name, text in zip(text_columns, texts, strict=True) if not text.strip()]
    return f"{empty[0]}: expected a text, got an empty one" if empty else ClassificationExample(*texts)


def score_file(
    classifier: Classifier,
    input_path: str | Path,
    output_path: str | Path,
    text_columns: Sequence[str] | None = None,
    overwrite: bool = False,
    engine: Engine = "local",
    address: str | None = None,
    gpus_per_worker: float = 1,
) -> str:
    """Score every row of a CSV, TSV, JSONL, JSON or Parquet file, or of all such files in a folder.

    The output holds every input column and `predicted_label` (position in the classifier's labels),
    `predicted_name` and a `probability_…` per label, in input order. Rows that cannot be scored (malformed, not
    UTF-8, an empty text) go to `….refused.jsonl` beside it, with line and reason. Answers are kept in a folder
    `….parts` beside the output, which appears when it is whole; interrupted, the same call goes on where it stopped,
    with either engine.

    Args:
        classifier: What scores.
        input_path: A file, see `read_rows`, or a folder; local or any address of fsspec (`s3://…`, `memory://…`).
        output_path: A `.csv`, `.tsv`, `.jsonl` or `.parquet` file; any other name is a folder, which gets a file of
            the same name and format for each file of the input.
        text_columns: Names of the texts' columns; default: those of the training, else usual ones that are there.
        overwrite: Replace outputs that exist.
        engine: "local", this process; or "ray", all processors or GPUs of this machine or of a Ray cluster, which
            needs the extra `ray`. On a cluster of several machines all of them must reach the two paths.
        address: Of the Ray cluster; see `map_on_cluster`.
        gpus_per_worker: For Ray, 0.5 lets two workers share a GPU.

    Returns:
        One line: rows, rate, labels, refused rows, where.

    Raises:
        CorpusError: The input is missing or its columns are.
        ScoringError: The output exists, cannot be of that kind, or an interrupted run was of something else; the disk
            is full; Ray is missing or gave up.
    """
    if engine not in ("local", "ray"):
        raise ScoringError(f"engine: expected 'local' or 'ray', got {engine!r}")
    source, output = find_path(input_path), find_path(output_path)
    jobs, lines = plan_jobs(classifier, source, output, text_columns)
    with Answers(output, jobs, _describe_run(classifier, jobs), overwrite) as answers:
        begin = time.perf_counter()
        cut = partial(read_blocks, most=(BATCH_ROWS, BATCH_CHARACTERS))
        if engine == "ray":
            results = map_on_cluster(answers.missing, cut, partial(_score_block, classifier), address, gpus_per_worker)
        else:
            results = _score_blocks(classifier, chain.from_iterable(map(cut, answers.missing)), jobs[0].text_columns)
        _collect(answers, results, lines)
        answers.finish()
        return _summarize(answers, classifier.labels, time.perf_counter() - begin)


def _score_blocks(classifier: Classifier, blocks: Iterator[Block], text_columns: Sequence[str]) -> Iterator[Result]:
    for block, batch in _score_named(classifier, ((block, block.rows) for block in blocks), text_columns):
        counts = write_part(block.job, block.number, batch, block.lines) if block.rows else None
        yield block.job.name, block.number, counts


def _score_block(classifier: Classifier, block: Block) -> Result:
    (result,) = _score_blocks(classifier, iter([block]), block.job.text_columns)
    return result


def _collect(answers: Answers, results: Iterable[Result], lines: int | None) -> None:
    """Take results as they come, with a bar of lines, rate and time left."""
    from tqdm import tqdm

    with tqdm(total=lines, initial=answers.counts.lines, unit=" lines", unit_scale=True, disable=None) as bar:
        for result in results:
            answers.add(*result)
            bar.update(answers.counts.lines - bar.n)


def _summarize(answers: Answers, labels: Sequence[str], seconds: float) -> str:
    counts = answers.counts
    files = f" of {len(answers.jobs):,} files" if len(answers.jobs) > 1 else ""
    rate = f"{seconds:,.1f} s, {(counts.read - answers.earlier) / max(seconds, 1e-9):,.0f} rows/s"
    rate += f" ({answers.earlier:,} rows were done before)" if answers.earlier else ""
    found = ", ".join(f"{name} {counts.labels.get(name, 0):,}" for name in labels)
    refused = answers.describe_refused()
    return (
        f"scored {counts.read - counts.refused:,} rows{files} in {rate}: {found}; {refused}; written: {answers.output}"
    )


def _describe_run(classifier: Classifier, jobs: Sequence[Job]) -> dict[str, Any]:
    """Name all that the answers depend on."""
    weights = 0
    for tensor in classifier.model.state_dict().values():
        weights = zlib.crc32(tensor.contiguous().cpu().flatten().view(torch.uint8).numpy(), weights)
    return {
        "checkpoint": f"{classifier.info.get('checkpoint', '')} {weights:08x}",
        "backend": type(classifier.scorer).__name__,
        "text columns": list(jobs[0].text_columns),
        "max_seq_length": classifier.max_seq_length,
        "stride": classifier.stride,
        "part": [BATCH_ROWS, BATCH_CHARACTERS],
        **{f"input {job.name}": describe_state(job.source) for job in jobs},
    }
