"""How do answers become the output? A record for each row of the input, and one pass at the end that joins the two."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nlpbook_helpers.reading import Row
from nlpbook_helpers.scoring.inputs import Batch, Job, ScoringError, get_refused_path
from nlpbook_helpers.values import find_doubt

WRITTEN_ROWS = 1_024  # held at once while Parquet is written; they may be long


@contextmanager
def explain_failure(output: Path) -> Iterator[None]:
    """Say of which output it is that the disk is full, or that there can be no such file."""
    try:
        yield
    except OSError as error:
        remedy = "make room, then the same call goes on (without overwrite, --overwrite); or name another place"
        raise ScoringError(f"{output} cannot be written ({error.strerror or error}): {remedy}") from error


def write_answers(batch: Batch, answers: np.ndarray) -> None:
    """Append a record for each row of a batch; that of a refused row holds no number.

    Args:
        batch: What was scored.
        answers: float32, (examples, labels + 1), records as in `Job.answers`.
    """
    job, records = batch.job, np.full((len(batch.rows), answers.shape[1]), np.nan, np.float32)
    records[[not isinstance(row, str) for row in batch.rows]] = answers
    with explain_failure(job.output), job.answers.open("ab") as file:
        file.truncate(job.count_done() * job.record_bytes)  # a kill may have cut the last one
        file.write(records.tobytes())
        file.flush()
        os.fsync(file.fileno())  # a power cut must not leave zeros


def join_answers(job: Job) -> Counter[str]:
    """Read the input once more, and write its rows with their answers, and the refused ones, to the job's folder.

    Returns:
        Rows by label, without the refused ones.
    """
    counts: Counter[str] = Counter()
    rows, refused = (job.folder / name for name in ("rows", "refused"))
    with explain_failure(job.output), rows.open("wb") as file, refused.open("wb") as refused_file:
        _write_rows(job, file, _join_rows(job, refused_file, counts))
    return counts


def _join_rows(job: Job, refused: BinaryIO, counts: Counter[str]) -> Iterator[dict[str, Any]]:
    """Yield rows with their answers, and write the refused ones; one without the other is an error of `zip`."""
    for (line, row, found), answer in zip(job.read_checked(), job.read_answers(), strict=True):
        if isinstance(found, str):
            entry = {"line": line, "reason": found, "row": getattr(row, "raw", "") or row}
            refused.write(f"{_to_json(entry)}\n".encode(errors="backslashreplace"))
            continue
        *probabilities, is_unknown = answer
        best = probabilities.index(max(probabilities))
        counts[job.labels[best]] += 1
        values = [
            best,
            job.labels[best],
            *(round(value, 6) for value in probabilities),
            find_doubt([text for text in found[:2] if text], bool(is_unknown)),
        ]
        yield {**_make_cells(job, row), **dict(zip(job.schema.names[-len(values) :], values, strict=True))}


def _make_cells(job: Job, row: Row) -> Row:
    """Return a row's values as its output takes them: text alone, unless it is JSON, or Parquet of Parquet."""
    if not job.is_table or job.source.suffix.lower() == job.output.suffix.lower() == ".parquet":
        return row
    cells = ((name, _to_json(value) if isinstance(value, dict | list) else value) for name, value in row.items())
    return {name: None if value is None else _to_text(value) for name, value in cells}


def _to_text(value: Any) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _to_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=_to_text, allow_nan=False)
    except ValueError:  # JSON has no number that is none
        return json.dumps(
            json.loads(json.dumps(value, default=_to_text), parse_constant=lambda _: None), ensure_ascii=False
        )


def _write_rows(job: Job, file: BinaryIO, rows: Iterator[dict[str, Any]]) -> None:
    """Write rows as they come, in any format."""
    suffix = job.output.suffix.lower()
    if suffix == ".parquet":
        with pq.ParquetWriter(file, job.schema) as parquet:
            while some := list(islice(rows, WRITTEN_ROWS)):
                parquet.write_table(pa.Table.from_pylist(some, job.schema))
    elif suffix == ".jsonl":
        file.writelines(f"{_to_json(row)}\n".encode() for row in rows)
    else:
        with io.TextIOWrapper(file, job.encoding, newline="") as text:
            dialect = "excel-tab" if suffix == ".tsv" else "excel"
            table = csv.DictWriter(text, job.schema.names, dialect=dialect, lineterminator="\n")
            table.writeheader()
            table.writerows(rows)


def publish(job: Job) -> None:
    """Move what `join_answers` has written to its place, where it replaces what an earlier run has left."""
    with explain_failure(job.output):
        for name, target in (("rows", job.output), ("refused", get_refused_path(job.output))):
            path = job.folder / name
            if name == "refused" and not path.stat().st_size:
                target.unlink(missing_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(target, Path):
                with path.open("rb+") as file:
                    os.fsync(file.fileno())  # a power cut must not leave a name without its content
                os.replace(path, target)
            else:
                target.fs.put_file(str(path), target.path)
