"""How do files of one's own become a training? Columns, encoding and labels are found, and shown before it begins."""

import csv
import filecmp
from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.checkpoints import CheckpointError
from nlpbook_helpers.corpora import ClassificationExample, CsvCorpus
from nlpbook_helpers.decoding import SAMPLE_BYTES, guess_encoding
from nlpbook_helpers.embedded import expand_home
from nlpbook_helpers.encoders import check_model_name
from nlpbook_helpers.reading import find_file, read_rows
from nlpbook_helpers.resuming import BUSY, STATE_NAME
from nlpbook_helpers.runtime import create, get_profile, lock
from nlpbook_helpers.values import FIRST, USUAL_COLUMNS, CorpusError

USUAL_LABELS = [
    "label", "gold_label", "category", "class", "sentiment", "레이블", "라벨", "감정", "감성", "분류", "정답",
]  # fmt: skip
LARGE, EMBEDDED = "beomi/kcbert-base", "nlpbook-mini"
# What a first training without any option should have; rare classes count as much as frequent ones.
MONITOR = "max val_macro_f1"
DEFAULTS = {"validation_size": 0.2, "epochs": 10, "early_stopping_patience": 3, "monitor": MONITOR, "seed": 7}
# a small encoder learns from larger steps, if they begin small
FOR_EMBEDDED = {"learning_rate": 2e-4, "batch_size": 16, "scheduler": "linear", "warmup_ratio": 0.1}


def prepare_training(files: Sequence[str | Path], **given: Any) -> ClassificationTrainArguments:
    """Return arguments of a training on files of one's own, having said what was found in them.

    Args:
        files: The first is the corpus; the others, such as a page's corrections, add to it and replace what it says of
            the same texts. Where they lack its columns, the usual ones are read.
        given: Arguments of the training; what is missing is found out.

    Returns:
        Arguments whose corpus is a copy of all rows, in `downstream_model_dir`: `nlpbook/` and the first file's name
        (of a `train.csv`, its folder's), or the next such folder in which no training has ended.

    Raises:
        CorpusError: A file is not there, its columns or encoding are unclear, or a row is malformed.
        BlockingIOError: Another training, of other rows, is writing into `downstream_model_dir`.
    """
    named = [files] if isinstance(files, str | Path) else files
    if far := [file for file in named if "://" in str(file)]:
        raise CorpusError(f"files: expected some on this machine, got {far[0]}: download it, and name the copy")
    paths = [*map(find_file, named)]
    if not paths:
        raise CorpusError("files: expected one at least, got none: name a labelled file")
    _check_given(given)
    name, model_dir = _choose_place(paths[0], given.get("downstream_model_dir"))
    header, rows = _gather(paths, given)
    _write(model_dir, model_dir / "corpus" / name / "train.csv", header, rows)
    encoder = given.get("pretrained_model_name") or _choose_encoder()
    settings: dict[str, Any] = DEFAULTS | (FOR_EMBEDDED if encoder == EMBEDDED else {}) | given
    settings |= {
        "pretrained_model_name": encoder,
        "downstream_task_name": f"{'pair' if len(header) == 3 else 'document'}-classification",
        "downstream_corpus_name": name,
        "downstream_corpus_root_dir": str(model_dir / "corpus"),
        "downstream_model_dir": str(model_dir),
        "text_columns": header[:-1],
        "label_column": header[-1],
        "encoding": "utf-8",
        "quoting": True,
    }
    return ClassificationTrainArguments(**settings)


def _check_given(given: dict[str, Any]) -> None:
    """Refuse what is of the wrong type before it is used, and name what the files decide."""
    # with a folder of corpora, which is not used: without a home there is no usual one
    needed: dict[str, Any] = {"pretrained_model_name": EMBEDDED, "downstream_corpus_root_dir": "."}
    ClassificationTrainArguments(**needed | given)
    for name in given.keys() & {"downstream_corpus_name", "downstream_corpus_root_dir", "downstream_task_name"}:
        print(f"{name}: follows from the file, {given[name]!r} is not used")


def _gather(paths: Sequence[Path], given: dict[str, Any]) -> tuple[list[str], list[ClassificationExample]]:
    """Read all files, and say what is in them; returns the first one's column names and the rows."""
    first = _open(paths[0], given)
    rows, columns, later = first.get_examples(paths[0].parent, "train"), first.text_columns, []
    for path in paths[1:]:
        corpus = _open(path, given, first.get_labels())
        if len(corpus.text_columns) != len(columns):
            expected = f"expected {len(columns)} columns of texts, as {paths[0].name} has them"
            raise CorpusError(f"{path}: {expected}, got {list(corpus.text_columns)}: leave the file out")
        later += corpus.get_examples(path.parent, "train")
    corrected = {_strip(row) for row in later}
    rows = [*(row for row in rows if _strip(row) not in corrected), *later]
    header = [*columns, first.label_column]
    counts = ", ".join(f"{label} {number:,}" for label, number in Counter(row.label for row in rows).most_common())
    print(f"{len(rows):,} rows, {len(later):,} of them from later files; labels in {header[-1]!r}: {counts}")
    return header, rows


def _strip(row: ClassificationExample) -> tuple[str, ...]:
    return tuple((text or "").strip() for text in row[:2])


def _choose_place(path: Path, given: str | None) -> tuple[str, Path]:
    """Return what to call a file's corpus, and the folder to train in."""
    if (name := path.name).split(".")[0] == "train":  # as many are called, such as a page's corrections
        name = path.resolve().parent.name or name
    model_dir = Path(expand_home(given or _find_free_folder(name.split(".")[0])))
    if model_dir.is_file():
        raise CorpusError(f"downstream_model_dir: expected a folder, got a file: {model_dir}")
    return name, model_dir


def _find_free_folder(name: str) -> Path:
    """Return a folder in which no training has ended: a new one, or that of an interrupted one."""
    folders = (Path("nlpbook") / (name if number == 1 else f"{name}-{number}") for number in count(1))
    return next(one for one in folders if (one / STATE_NAME).exists() or not list(one.glob("*.ckpt")))


def _choose_encoder() -> str:
    """Return the large encoder where it can be trained and had; else the one that ships."""
    try:
        if get_profile() == "full":
            check_model_name(LARGE)
            return LARGE
        reason = "there is no GPU here"
    except CheckpointError:
        reason = "the Hugging Face Hub cannot be reached"
    print(f"encoder: {EMBEDDED}, which ships with this package, since {reason}; --pretrained_model_name names another")
    return EMBEDDED


def _open(path: Path, given: dict[str, Any], labels: list[str] | None = None) -> CsvCorpus:
    """Find out how a file is to be read, and say it; `labels` are those of the first file, if this is a later one."""
    encoding, is_text = None if labels else given.get("encoding"), path.suffix.lower() not in (".gz", ".parquet")
    if not encoding and is_text:
        with path.open("rb") as file:
            encoding = guess_encoding(file.read(SAMPLE_BYTES))
    reading = {"encoding": encoding or "utf-8", "quoting": labels is not None or given.get("quoting", True)}
    named = [*(given.get("text_columns") or ()), *filter(None, [given.get("label_column")])]
    skip, name = given.get("skip_bad_rows", False), {"train": [path.name]}
    rows = (row for _, row in read_rows(path, [] if labels else named, keep_errors=skip, **reading) if row)
    if (row := next(rows, None)) is None:
        raise CorpusError(f"{path}: expected rows below the line that names the columns, found none: add them")
    texts, label = _find_columns(path, list(row), given)
    print(f"{path.name}: encoding {reading['encoding']}, texts in {', '.join(map(repr, texts))}, labels in {label!r}")
    return CsvCorpus(texts, label, labels=labels or given.get("labels"), files=name, skip_bad_rows=skip, **reading)


def _find_columns(path: Path, found: list[str], given: dict[str, Any]) -> tuple[list[str], str]:
    """Return the columns of texts and label: those that were named, else usual ones, else the only one that is left."""
    written = {name.lower(): name for name in found} | dict(zip(found, found, strict=True))  # "Label" is usual too
    usual_labels = [written[name] for name in USUAL_LABELS if name in written]
    labels = [name for name in (given.get("label_column"), *usual_labels) if name in found]
    if not labels:
        expected = "expected a first line that names the columns, and one of labels among them"
        raise CorpusError(f"{path}: {expected}, found {found}: name it with --label (label_column){FIRST}")
    left = [name for name in found if name != labels[0]]
    usual = [[written.get(name, name) for name in names] for names in (*USUAL_COLUMNS[2], *USUAL_COLUMNS[1])]
    named = given.get("text_columns")  # whoever names the label's is told so
    texts = next((list(one) for one in (named, *usual) if one and {*one} <= {*(found if one is named else left)}), left)
    if texts is left and len(left) != 1:
        raise CorpusError(f"{path}: expected a column of texts, found {left}: name it with --text (text_columns)")
    return texts, labels[0]


def _write(model_dir: Path, path: Path, header: Sequence[str], rows: Sequence[ClassificationExample]) -> None:
    """Write a corpus, whole or not at all: of several processes, each writes the same one, and none another's."""
    try:
        # one after another, so that only the first of several finds another's, or none, and asks whether that is in use
        with lock(path), create(path) as partial:
            with partial.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([header, *([text for text in row if text is not None] for row in rows)])
            if not (path.exists() and filecmp.cmp(partial, path, shallow=False)):
                with lock(model_dir, BUSY.format(model_dir)):
                    pass
    except BlockingIOError:
        raise
    except OSError as error:
        raise CorpusError(f"downstream_model_dir: expected a folder to write into, got {path}: {error}") from None
