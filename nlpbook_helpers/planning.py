"""Which files are scored, and where do their answers go? All that can be refused is refused before the first row."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nlpbook_helpers.formats import OUTPUT_SUFFIXES
from nlpbook_helpers.inference import Classifier
from nlpbook_helpers.rows import BadRow, CorpusError, Row, read_rows
from nlpbook_helpers.writing import Job, ScoringError, get_parts_path, make_added_columns

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
