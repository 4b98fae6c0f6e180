"""What if scoring stops? What is written stays beside the output, and the next run scores what is missing."""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from nlpbook_helpers.rows import read_rows
from nlpbook_helpers.writing import (
    Counts,
    Job,
    NumberedRow,
    ScoringError,
    get_parts_path,
    get_refused_path,
    merge_parts,
    write_json,
)

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
