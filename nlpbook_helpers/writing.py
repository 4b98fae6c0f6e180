"""How are a file's answers kept? Beside what it will replace, with how far it has come, renamed at the end."""

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nlpbook_helpers.corpora import get_short_names
from nlpbook_helpers.rows import Row

DELIMITERS = {".csv": ",", ".tsv": "\t"}
OUTPUT_SUFFIXES = (*DELIMITERS, ".jsonl")

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


@dataclass
class Progress:
    """How far a run has come; what is written beside its output, so that the next one goes on from there."""

    run: dict[str, Any]
    """What the numbers depend on; a run that differs in any of it starts anew."""
    read: int = 0
    """Rows read, refused ones included."""
    line: int = 0
    """Of the last row read."""
    refused: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """Label → rows."""
    sizes: list[int] = field(default_factory=lambda: [0, 0])
    """Bytes written: output, refused rows."""
    seconds: float = 0.0


class RowWriter:
    """Writes scored and refused rows under temporary names, and after each batch how far it has come.

    Args:
        output: What the file will be called.
        labels: Names of the model's outputs, in their order.
        columns: Of the input.
        progress: Where to go on.

    Raises:
        ScoringError: The input has a column of a name that is added.
    """

    def __init__(self, output: Path, labels: Sequence[str], columns: Sequence[str], progress: Progress) -> None:
        names = [get_short_names(label)[1] for label in labels]
        self.added = ["predicted_label", "predicted_name", *(f"probability_{name}" for name in names)]
        if taken := [name for name in self.added if name in columns]:
            raise ScoringError(f"expected an input without the columns {taken}, which are added: rename them")
        self.output, self.labels, self.columns, self.progress = output, labels, list(columns), progress
        self.is_json = output.suffix.lower() == ".jsonl"
        self.paths = [_get_part(output), _get_part(_get_refused(output))]
        self.files: list[Any] = []

    def __enter__(self) -> "RowWriter":
        for path, size in zip(self.paths, self.progress.sizes, strict=True):
            file = path.open("r+b" if size else "wb")
            file.truncate(size)  # what a killed run wrote after it last said how far it was
            file.seek(size)
            self.files.append(file)
        return self

    def __exit__(self, *error: object) -> None:
        for file in self.files:
            file.close()

    def write(self, batch: ScoredBatch, seconds: float) -> None:
        """Write a batch through to the disk, then the progress."""
        progress, probabilities = self.progress, iter(batch.probabilities)
        texts, refused = io.StringIO(), io.StringIO()
        for (line, row), reason in zip(batch.rows, batch.reasons, strict=True):
            values = None if reason else next(probabilities)
            reason = reason or self._find_misfit(row)
            if reason or values is None:
                known = {str(name): value for name, value in row.items()}
                entry = {"line": line, "reason": reason, "row": known or getattr(row, "raw", known)}
                print(json.dumps(entry, default=str), file=refused)
                progress.refused += 1
                continue
            best = int(values.argmax())
            name = self.labels[best]
            progress.counts[name] = progress.counts.get(name, 0) + 1
            self._write_row(texts, row, [best, name, *(round(float(value), 6) for value in values)])
        for number, text in enumerate((texts, refused)):
            progress.sizes[number] += self.files[number].write(text.getvalue().encode())
            self.files[number].flush()
            os.fsync(self.files[number].fileno())
        progress.read += len(batch.rows)
        progress.line, progress.seconds = batch.rows[-1][0], seconds
        _write_state(self.output, progress)

    def _find_misfit(self, row: Row) -> str | None:
        other = [] if self.is_json else [name for name in row if name not in self.columns]
        return f"columns {other} are not in the first row: write to a .jsonl file to keep them" if other else None

    def _write_row(self, file: io.StringIO, row: Row, added: Sequence[Any]) -> None:
        if self.is_json:
            scored = {**row, **dict(zip(self.added, added, strict=True))}
            print(json.dumps(scored, ensure_ascii=False, default=str), file=file)
            return
        writer = csv.writer(file, delimiter=DELIMITERS[self.output.suffix.lower()], lineterminator="\n")
        if not self.progress.sizes[0] and not file.tell():
            writer.writerow([*self.columns, *self.added])
        cells = [row.get(name) for name in self.columns]
        plain = [json.dumps(cell, ensure_ascii=False) if isinstance(cell, dict | list) else cell for cell in cells]
        writer.writerow([*plain, *added])

    def finish(self) -> str:
        """Give the files their names; return the summary."""
        progress, refused = self.progress, _get_refused(self.output)
        refused.unlink(missing_ok=True)
        if progress.refused:
            os.replace(self.paths[1], refused)
        else:
            self.paths[1].unlink()
        os.replace(self.paths[0], self.output)
        _get_state(self.output).unlink(missing_ok=True)
        scored = progress.read - progress.refused
        labels = ", ".join(f"{name} {progress.counts.get(name, 0):,}" for name in self.labels)
        rest = f"{progress.refused:,} refused" + (f" (see {refused})" if progress.refused else "")
        rate = f"{progress.seconds:,.1f} s, {progress.read / max(progress.seconds, 1e-9):,.0f} rows/s"
        return f"scored {scored:,} rows in {rate}: {labels}; {rest}; written: {self.output}"


def _get_refused(output: Path) -> Path:
    return output.with_name(f"{output.name}.refused.jsonl")


def _get_part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _get_state(output: Path) -> Path:
    return output.with_name(f"{output.name}.state.json")


def _write_state(output: Path, progress: Progress) -> None:
    partial = _get_part(_get_state(output))
    partial.write_text(json.dumps(asdict(progress), ensure_ascii=False), encoding="utf-8")
    os.replace(partial, _get_state(output))


def resume(output: Path, run: dict[str, Any]) -> Progress:
    """Return how far an interrupted run has come, or a new start.

    Args:
        output: What the file will be called.
        run: What its content depends on, in primitives.

    Raises:
        ScoringError: The interrupted run differs in something, which is named.
    """
    state = _get_state(output)
    if not state.is_file() or not _get_part(output).is_file():
        return Progress(run)
    try:
        progress = Progress(**json.loads(state.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ScoringError(f"{state} cannot be read ({error}): delete it to start again") from error
    changed = [
        f"{name} ({progress.run.get(name)} → {run[name]})" for name in run if progress.run.get(name) != run[name]
    ]
    if changed:
        raise ScoringError(
            f"expected the same run that was interrupted after {progress.read:,} rows, got another "
            f"{', '.join(changed)}: delete {state} to start again"
        )
    return progress


def check_paths(source: Path, output: Path, overwrite: bool) -> None:
    """Refuse an output that cannot or must not be written.

    Raises:
        ScoringError: Of another kind, the input itself, there already, or in no folder.
    """
    if output.suffix.lower() not in OUTPUT_SUFFIXES:
        raise ScoringError(f"output: expected a file that ends with one of {OUTPUT_SUFFIXES}, got {output.name!r}")
    if output.exists() and source.exists() and output.samefile(source):
        raise ScoringError(f"output: expected another file than the input, got {output} for both: choose another name")
    if output.exists() and not overwrite:
        raise ScoringError(f"output: {output} is there already: choose another name, or ask for it to be overwritten")
    if not output.parent.is_dir():
        raise ScoringError(f"output: expected a folder at {output.parent}, found none: make it first")
