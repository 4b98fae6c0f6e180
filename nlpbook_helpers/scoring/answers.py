"""How do answers become the output? Parts that are whole or not there, and one merge that misses no row."""

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nlpbook_helpers.reading import Row
from nlpbook_helpers.scoring.inputs import PART, Batch, Job, ScoringError, get_refused_path

WRITTEN_ROWS = 1_024  # held at once while outputs are written; they may be long


@contextmanager
def create(path: Path, folder: Path) -> Iterator[Path]:
    """Give a path to write to; the file moves to `path` when it is whole and on the disk, and never before.

    Args:
        path: A local path, or universal_pathlib's of another place, to which it is uploaded.
        folder: Where to write, on the disk of a local `path`.

    Raises:
        ScoringError: The disk is full, or there can be no such file.
    """
    partial = folder / f"{path.name}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield partial
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(path, Path):
            with partial.open("rb+") as file:
                os.fsync(file.fileno())  # a power cut must not leave a name without its content
            os.replace(partial, path)
        else:
            path.fs.put_file(str(partial), path.path)
    except OSError as error:
        reason = error.strerror or error
        raise ScoringError(f"{path} cannot be written ({reason}): make room, then the same call goes on") from error
    finally:
        partial.unlink(missing_ok=True)


def write_part(batch: Batch, probabilities: np.ndarray, remarks: list[str]) -> None:
    """Keep the answers of a batch.

    Args:
        batch: What was scored.
        probabilities: float32, (examples, labels).
        remarks: One for each example, mostly empty.
    """
    scored = [answer for answer in batch.answers if not answer["reason"]]
    for answer, values, remark in zip(scored, probabilities.tolist(), remarks, strict=True):
        answer |= {"probabilities": values, "remark": remark}
    with create(batch.job.parts / f"{batch.number:06}.parquet", batch.job.parts) as path, path.open("wb") as file:
        pq.write_table(pa.Table.from_pylist(batch.answers, PART), file)


def merge_parts(job: Job) -> Counter[str | None]:
    """Read the input once more, and write its rows with their answers, and the refused ones beside them.

    Returns:
        Rows by label; refused ones have None.

    Raises:
        ScoringError: A row has no answer, the disk is full, or the outputs cannot be written.
    """
    counts: Counter[str | None] = Counter()
    is_table = job.output.suffix.lower() != ".jsonl"  # objects may have fields of their own, rows of tables not
    refused_path = get_refused_path(job.output)
    pairs = zip_longest(job.read(job.source, job.text_columns), job.read_answers())
    with (
        create(refused_path, job.parts) as partial_path,
        partial_path.open("w", encoding="utf-8", errors="backslashreplace") as refused_file,
        create(job.output, job.parts) as path,
        _open_output(job, path) as write,
    ):
        while some := list(islice(pairs, WRITTEN_ROWS)):
            rows = []
            for numbered, answer in some:
                if not numbered or not answer or numbered[0] != answer["line"]:
                    raise ScoringError(f"{job.source}: expected an answer for each row, got {answer} for {numbered}")
                (line, row), reason = numbered, answer["reason"]
                if is_table and not reason and (other := row.keys() - set(job.schema.names)):
                    reason = f"columns {sorted(other)} are not in the first row: write to a .jsonl file to keep them"
                if reason:
                    entry = {"line": line, "reason": reason, "row": getattr(row, "raw", "") or row}
                    refused_file.write(_to_json(entry) + "\n")
                else:
                    rows.append({**_make_cells(job, row), **_make_answer(job, answer)})
                counts[None if reason else rows[-1]["predicted_name"]] += 1
            write(rows)
    if not counts[None]:
        refused_path.unlink()
    return counts


def _make_answer(job: Job, answer: dict[str, Any]) -> dict[str, Any]:
    """Return what is added to a row, by the last names of the output."""
    probabilities = answer["probabilities"]
    best = probabilities.index(max(probabilities))
    values = [best, job.labels[best], *(round(value, 6) for value in probabilities), answer["remark"]]
    return dict(zip(job.schema.names[-len(values) :], values, strict=True))


def _make_cells(job: Job, row: Row) -> Row:
    """Return a row's values as its output takes them: a table of a file that is none itself has text alone."""
    if job.output.suffix.lower() == ".jsonl" or job.source.suffix.lower() == ".parquet":
        return row
    cells = ((name, _to_json(value) if isinstance(value, dict | list) else value) for name, value in row.items())
    return {name: None if value is None else str(value) for name, value in cells}


def _to_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:  # JSON has no number that is none
        return json.dumps(json.loads(json.dumps(value, default=str), parse_constant=lambda _: None), ensure_ascii=False)


@contextmanager
def _open_output(job: Job, path: Path) -> Iterator[Callable[[list[dict[str, Any]]], Any]]:
    """Open an output of any format; yield a function that writes rows to it."""
    suffix = job.output.suffix.lower()
    if suffix == ".parquet":
        with path.open("wb") as file, pq.ParquetWriter(file, job.schema) as parquet:
            yield lambda rows: parquet.write_table(pa.Table.from_pylist(rows, job.schema))
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if suffix == ".jsonl":
            yield lambda rows: file.writelines(_to_json(row) + "\n" for row in rows)
        else:
            dialect = "excel-tab" if suffix == ".tsv" else "excel"
            writer = csv.DictWriter(file, job.schema.names, dialect=dialect, lineterminator="\n")
            writer.writeheader()
            yield writer.writerows
