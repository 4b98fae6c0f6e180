"""How is a whole file scored? Row by row in bounded memory, nothing lost, going on where it stopped."""

import json
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from nlpbook_helpers.corpora import ClassificationExample
from nlpbook_helpers.evaluation import predict_probabilities
from nlpbook_helpers.inference import Classifier
from nlpbook_helpers.rows import BadRow, CorpusError, Row, get_values, read_rows
from nlpbook_helpers.writing import NumberedRow, RowWriter, ScoredBatch, ScoringError, check_paths, resume

BATCH_ROWS = 8_192  # sorted by length together: more would hardly save padding, and they are all held in memory
BATCH_CHARACTERS = 2_000_000  # the same bound for long texts
USUAL_COLUMNS = {
    1: [("document",), ("sentence",), ("text",), ("review",), ("comment",)],
    2: [("premise", "hypothesis"), ("sentence1", "sentence2"), ("text_a", "text_b")],
}


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
    stream = iter(rows)

    def prepare() -> tuple[list[NumberedRow], list[str | None], Any]:
        batch = _take_batch(stream, text_columns)
        checked = [_check_row(row, text_columns) for _, row in batch]
        examples = [example for example in checked if not isinstance(example, str)]
        return batch, [reason if isinstance(reason, str) else None for reason in checked], classifier.encode(examples)

    with ThreadPoolExecutor(max_workers=1) as executor:
        prepared = executor.submit(prepare)
        while (result := prepared.result())[0]:
            prepared = executor.submit(prepare)
            batch, reasons, features = result
            yield ScoredBatch(batch, predict_probabilities(classifier.scorer, features), reasons)


def _take_batch(stream: Iterator[NumberedRow], text_columns: Sequence[str]) -> list[NumberedRow]:
    batch, characters = [], 0
    for line, row in islice(stream, BATCH_ROWS):
        batch.append((line, row))
        characters += sum(len(str(row.get(name, ""))) for name in text_columns)
        if characters > BATCH_CHARACTERS:
            break
    return batch


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
) -> str:
    """Score every row of a CSV, TSV, JSONL, JSON or Parquet file.

    The output holds every input column and `predicted_label` (position in the classifier's labels),
    `predicted_name` and a `probability_…` per label, in input order. Rows that cannot be scored (malformed, not
    UTF-8, an empty text) go to `….refused.jsonl` beside it, with line and reason. It is written under another name
    and renamed at the end; interrupted, the same call goes on where it stopped.

    Args:
        classifier: What scores.
        input_path: The file; see `read_rows`.
        output_path: A `.csv`, `.tsv` or `.jsonl` file.
        text_columns: Names of the texts' columns; default: those of the training, else usual ones that are there.
        overwrite: Replace an output that exists.

    Returns:
        One line: rows, rate, labels, refused rows, where.

    Raises:
        CorpusError: The input is missing or its columns are.
        ScoringError: The output exists, cannot be of that kind, or an interrupted run was of something else.
    """
    source, output = Path(input_path), Path(output_path)
    check_paths(source, output, overwrite)
    columns = tuple(text_columns or _find_text_columns(classifier, source))
    if len(columns) != len(classifier.input_names):
        raise ScoringError(
            f"text columns: expected {len(classifier.input_names)}, one for each of {classifier.input_names}, got "
            f"{list(columns)}"
        )
    progress = resume(output, _describe_run(classifier, source, columns))
    row = _get_first_row(source, columns)
    writer = RowWriter(output, classifier.labels, [name for name in row if name is not None], progress)
    _score_into(writer, classifier, source, columns)
    return writer.finish()


def _score_into(writer: RowWriter, classifier: Classifier, source: Path, columns: Sequence[str]) -> None:
    from tqdm import tqdm

    progress = writer.progress
    bar = tqdm(total=_count_lines(source), initial=progress.line, unit=" lines", unit_scale=True, disable=None)
    begin = time.perf_counter() - progress.seconds
    # a file is read much faster than it is scored: what an earlier run has done is read over
    rows = islice(read_rows(source, columns, keep_errors=True), progress.read, None)
    with writer, bar:
        for batch in score_batches(classifier, rows, columns):
            writer.write(batch, time.perf_counter() - begin)
            bar.update(progress.line - bar.n)


def _describe_run(classifier: Classifier, source: Path, columns: Sequence[str]) -> dict[str, Any]:
    """Name all that the output depends on."""
    weights = 0
    for tensor in classifier.model.state_dict().values():
        weights = zlib.crc32(tensor.contiguous().cpu().flatten().view(torch.uint8).numpy(), weights)
    about = source.stat()
    return {
        "input size": about.st_size,
        "input time": about.st_mtime_ns,
        "checkpoint": f"{classifier.info.get('checkpoint', '')} {weights:08x}",
        "backend": type(classifier.scorer).__name__,
        "text columns": list(columns),
        "max_seq_length": classifier.max_seq_length,
        "stride": classifier.stride,
    }


def _find_text_columns(classifier: Classifier, source: Path) -> tuple[str, ...]:
    """Choose the columns that hold the texts: those of the training if they are there, else usual names."""
    usual = [classifier.text_columns, classifier.input_names, *USUAL_COLUMNS[len(classifier.input_names)]]
    for names in filter(None, usual):
        try:
            row = _get_first_row(source, names)
        except CorpusError as error:
            if not str(error).startswith(f"{source}, line 1: expected columns"):
                raise
        else:
            if set(names) <= row.keys():
                return tuple(names)
    raise CorpusError(
        f"{source}: expected text columns of a usual name, {[list(names) for names in usual if names]}, found none of "
        "them: name its text columns (--text-columns)"
    )


def _get_first_row(source: Path, columns: Sequence[str]) -> Row:
    rows = (row for _, row in read_rows(source, columns, keep_errors=True) if not isinstance(row, BadRow) or row)
    row = next(rows, None)
    if row is None:
        raise CorpusError(f"{source} holds no row to score: expected a header and rows")
    return row


def _count_lines(source: Path) -> int | None:
    """Return the lines of a text file, for the time left; None where rows are not on lines."""
    if source.suffix.lower() in (".parquet", ".json"):
        return None
    with source.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b""))
