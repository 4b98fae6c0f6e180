"""How is a whole file scored? Row by row in bounded memory, nothing lost, going on where it stopped."""

import json
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch

from nlpbook_helpers.cluster import map_on_cluster
from nlpbook_helpers.corpora import ClassificationExample
from nlpbook_helpers.evaluation import predict_probabilities
from nlpbook_helpers.inference import Classifier
from nlpbook_helpers.parts import Answers, Block, cut_batches, read_blocks
from nlpbook_helpers.planning import describe_state, plan_jobs
from nlpbook_helpers.rows import BadRow, CorpusError, Row, find_path, get_values
from nlpbook_helpers.writing import Counts, Job, NumberedRow, ScoredBatch, ScoringError, write_part

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
