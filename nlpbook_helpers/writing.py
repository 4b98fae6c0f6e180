"""How are answers written? In parts, each of them whole or not there, that are put together to one file."""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from uuid import uuid4

import numpy as np

from nlpbook_helpers.corpora import get_short_names
from nlpbook_helpers.formats import DELIMITERS, Columns, concatenate, merge_files, write_rows
from nlpbook_helpers.rows import Row

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
