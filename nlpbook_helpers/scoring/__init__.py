"""How is a whole file scored? Row by row in bounded memory, nothing lost, going on where it stopped.

The input is read twice: its rows are scored in batches, whose answers are appended to a file of records of one length,
so that its size says where a killed run goes on; when all are there, the rows are read again and joined with them.
"""

import json
import math
import shutil
import sys
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

import torch
from tqdm import tqdm

from nlpbook_helpers.classifier import Classifier
from nlpbook_helpers.reading import find_path, read_rows
from nlpbook_helpers.runtime import create, get_cache_dir, lock
from nlpbook_helpers.scoring.answers import explain_failure, join_answers, publish, write_answers
from nlpbook_helpers.scoring.engines import Scored, score_here, score_on_ray
from nlpbook_helpers.scoring.inputs import Job, ScoringError, get_refused_path, look_at, plan_jobs, read_batches

__all__ = ["ScoringError", "score_file"]

SILENT_SECONDS, SECONDS_BETWEEN_LINES = 2, 30  # in a log, where a bar would be thousands of lines


def score_file(
    classifier: Classifier, input_path: str | Path, output_path: str | Path, text_columns: Sequence[str] | None = None,
    overwrite: bool = False, engine: Literal["local", "ray"] = "local", address: str | None = None,
    gpus_per_worker: float = 1, encoding: str = "utf-8", quoting: bool = True,
) -> str:  # fmt: skip
    """Score every row of a file, or of all files in a folder; interrupted, the same call goes on. See `scoring`.

    Args:
        classifier: What scores.
        input_path: CSV, TSV, JSONL, JSON, Parquet (see `read_rows`) or a folder; local, or an address (`s3://…`).
        output_path: A `.csv`, `.tsv`, `.jsonl` or `.parquet` file; for a folder, a folder.
        text_columns: Of the texts; default: those of the training, else usual ones that are there.
        overwrite: Start anew, and replace outputs that exist.
        engine: "local", this process; or "ray", which does not pay on one small machine.
        address: Of a Ray cluster, see `score_on_ray`.
        gpus_per_worker: For Ray, 0.5 lets two workers share a GPU.
        encoding: Of text files, see `read_rows`.
        quoting: Whether quotes enclose texts in CSV and TSV, see `read_rows`.

    Returns:
        One line: rows, rate, labels, refused rows, where.

    Raises:
        CorpusError: The input is missing or its columns are.
        ScoringError: The output exists, an interrupted run differs, no row can be scored, …
        BlockingIOError: Another run is writing the output.
    """
    engines = {"local": score_here, "ray": partial(score_on_ray, address=address, gpus_per_worker=gpus_per_worker)}
    if engine not in engines or engine == "local" and (address or gpus_per_worker != 1):
        expected = f"one of {list(engines)}, 'ray' with an address or gpus_per_worker"
        raise ScoringError(f"engine: expected {expected}, got {engine!r}: name it, or leave those out")
    read = partial(read_rows, keep_errors=True, encoding=encoding, quoting=quoting)
    source, output = find_path(input_path), find_path(output_path)
    folder = _choose_folder(output)
    jobs = plan_jobs(classifier, source, output, folder / "jobs", text_columns, read)
    with explain_failure(output):
        folder.mkdir(parents=True, exist_ok=True)
    with lock(folder, f"{output}: another run is writing it: wait for its end, or name another output"):
        return _score_jobs(classifier, jobs, engines[engine], output, folder, overwrite)


def _choose_folder(output: Path) -> Path:
    """Return where is kept what is known, until all is: beside the output, if that is on this machine."""
    if isinstance(output, Path):
        return output.with_name(f"{output.name}.parts")
    return get_cache_dir() / "scoring" / f"{output.name}-{zlib.crc32(str(output).encode()):08x}.parts"


def _score_jobs(
    classifier: Classifier, jobs: list[Job], score: Any, output: Path, folder: Path, overwrite: bool
) -> str:
    """Score the rows that have no answer yet, write the outputs, and say what was done."""
    looks = [look_at(job.source) for job in jobs]
    with explain_failure(output):
        _begin(folder, jobs, _describe_run(classifier, jobs, looks), overwrite)
    begin, earlier = time.perf_counter(), sum(job.count_done() for job in jobs)
    total = sum(rows for _, rows in looks) if all(rows for _, rows in looks) else None
    _keep_answers(score(classifier, chain.from_iterable(map(read_batches, jobs))), total, earlier)
    if changed := [job.source for job, look in zip(jobs, looks, strict=True) if look_at(job.source) != look]:
        raise ScoringError(f"{changed[0]} has changed while it was scored: overwrite=True (--overwrite) starts anew")
    counts = sum(map(join_answers, jobs), Counter())
    if not counts:
        shutil.rmtree(folder, ignore_errors=True)  # there is nothing to go on with
        refused = (f"line {line}: {reason}" for job in jobs for line, _, reason in job.read_checked())
        found = next(refused, "there is none")
        raise ScoringError(f"{jobs[0].source}: expected rows to score, got none that can be scored ({found})")
    for job in jobs:
        publish(job)
    seconds, rows = time.perf_counter() - begin, sum(job.count_done() for job in jobs)
    shutil.rmtree(folder, ignore_errors=True)
    files = f" of {len(jobs):,} files" if len(jobs) > 1 else ""
    before = f" ({earlier:,} rows were done before)" if earlier else ""
    found = ", ".join(f"{label} {counts[label]:,}" for label in classifier.labels)
    refused = rows - counts.total()
    place = f" (see {get_refused_path(output if jobs[0].output == output else output / '*')})" if refused else ""
    return (
        f"scored {counts.total():,} rows{files} in {seconds:,.1f} s, {(rows - earlier) / seconds:,.0f} rows/s{before}: "
        f"{found}; {refused:,} refused{place}; written: {output}"
    )


def _describe_run(classifier: Classifier, jobs: list[Job], looks: list[tuple[str, int]]) -> dict[str, Any]:
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
        "reading": str(jobs[0].read.keywords),
        **{f"input {job.source}": content for job, (content, _) in zip(jobs, looks, strict=True)},
    }


def _begin(folder: Path, jobs: list[Job], run: dict[str, Any], overwrite: bool) -> None:
    """Go on with the same run that was interrupted, or start a new one; refuse to mix the answers of two."""
    path, earlier = folder / "run.json", {}
    if path.exists() and not overwrite:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if changed := [f"{key} ({earlier[key]} → {run[key]})" for key in run if earlier.get(key, run[key]) != run[key]]:
            remedy = "repeat it as it was, or overwrite=True (--overwrite) starts anew"
            found = f"got another {', '.join(changed)}"
            raise ScoringError(f"{folder}: expected the run that was interrupted, {found}: {remedy}")
    elif taken := [job.output for job in jobs if job.output.exists() and not overwrite]:
        shutil.rmtree(folder, ignore_errors=True)
        raise ScoringError(f"output: {taken[0]} is there already: name another, or overwrite=True (--overwrite)")
    else:
        shutil.rmtree(folder / "jobs", ignore_errors=True)
    with create(path) as partial_path:
        partial_path.write_text(json.dumps(earlier | run), encoding="utf-8")  # names of files may be no UTF-8
    for job in jobs:
        job.folder.mkdir(parents=True, exist_ok=True)
        job.answers.touch()


def _keep_answers(scored: Scored, total: int | None, done: int) -> None:
    """Write answers as they come, with a bar on a terminal; in a log or a notebook with a line of it now and then."""
    is_seen, ended = sys.stderr.isatty(), Event()
    with closing(scored), tqdm(total=total, initial=done, unit=" rows", delay=0 if is_seen else math.inf) as bar:
        if not is_seen:
            Thread(target=_say_now_and_then, args=(bar, ended), daemon=True).start()
        try:
            for batch, answers in scored:
                write_answers(batch, answers)
                bar.update(len(batch.rows))
        finally:
            ended.set()


def _say_now_and_then(bar: tqdm, ended: Event) -> None:
    """Print how far it is, also while a batch takes long; nothing of what is short."""
    wait = SILENT_SECONDS
    while not ended.wait(wait):
        wait = SECONDS_BETWEEN_LINES
        print(bar, file=sys.stderr, flush=True)
