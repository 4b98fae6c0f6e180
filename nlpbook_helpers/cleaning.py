"""Which rows should not be there? A report on what a corpus holds, and the removal of what is asked for."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nlpbook_helpers.corpora import ClassificationExample
from nlpbook_helpers.values import is_blank, show_label

if TYPE_CHECKING:  # half a second to import, which training need not spend
    import pandas as pd

Examples = Sequence[ClassificationExample]

FLAWS = ("unknown label", "empty", "several labels", "leaked", "duplicate")


def make_data_report(splits: Mapping[str, Examples], labels: Sequence[str]) -> "pd.DataFrame":
    """Count what a corpus holds; for pairs, "text" means both texts together.

    Args:
        splits: Mode → examples; the first mode is the one to learn from.
        labels: The known labels.

    Returns:
        A column per mode. Rows: `examples`; `distinct` texts; `duplicate` examples, beyond the first of each text;
        `empty` examples; texts with `several labels`; examples with an `unknown label`; examples whose texts are `in`
        the first mode too; length in characters (`mean`, `median`, `longest`); examples per label.

    Raises:
        ValueError: There is no mode.
    """
    import pandas as pd

    if not splits:
        raise ValueError("splits: expected a mode at least, such as {'train': examples}, got none")
    labels = _read_labels(labels)
    frames = {mode: _make_frame(examples) for mode, examples in splits.items()}
    first_mode = next(iter(frames))
    columns = {}
    for mode, frame in frames.items():
        lengths = frame["length"] if len(frame) else pd.Series([0])
        facts = {
            "examples": len(frame),
            "distinct": frame["texts"].nunique(),
            "duplicate": frame["texts"].duplicated().sum(),
            "empty": frame["empty"].sum(),
            "several labels": (frame.groupby("texts")["label"].nunique() > 1).sum(),
            "unknown label": (~frame["label"].isin(labels)).sum(),
            f"in {first_mode}": "" if mode == first_mode else frame["texts"].isin(frames[first_mode]["texts"]).sum(),
            "mean length": round(float(lengths.mean()), 1),
            "median length": float(lengths.median()),
            "longest": int(lengths.max()),
        }
        facts |= {f"label {label}": (frame["label"] == label).sum() for label in labels}
        columns[mode] = pd.Series(facts, dtype=object)  # whole numbers stay whole beside the mean
    return pd.DataFrame(columns)


def _read_labels(labels: Sequence[str]) -> list[str]:
    if isinstance(labels, str):
        raise ValueError(f"labels: expected a list, got {labels!r}")
    return [show_label(label) for label in labels]


def _make_frame(examples: Examples) -> Any:  # a DataFrame, whose stubs know less than it can
    """Return a row per example: its texts as one string, its label, its length and whether a text is empty."""
    import pandas as pd

    if odd := [type(one).__name__ for one in examples if not isinstance(one, tuple) or len(one) != 3][:1]:
        raise ValueError(f"examples: expected those of corpus.get_examples(…), got {odd[0]}")
    rows = [
        ("\0".join(texts := [text for text in example[:2] if text is not None]), example[2],
         sum(map(len, texts)), any(map(is_blank, texts)))
        for example in examples
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["texts", "label", "length", "empty"], dtype=object)
    return frame.astype({"length": int, "empty": bool})


def clean_examples(
    examples: Iterable[ClassificationExample], labels: Sequence[str], held_out: Iterable[ClassificationExample] = (),
    flaws: Iterable[str] = FLAWS,
) -> tuple[list[ClassificationExample], "pd.Series"]:  # fmt: skip
    """Remove flawed examples and count them; an example is counted once, under its first flaw of `FLAWS`.

    Of a text with several labels those examples go whose label is not the most frequent, all if there is a tie; of
    duplicates the first stays.

    Args:
        examples: What to clean, in the order of the result.
        labels: The known labels.
        held_out: Examples to be judged on later; whoever has the same texts is `leaked`.
        flaws: Which of `FLAWS` to remove; anything else is a ValueError.

    Returns:
        The examples that stay, and the counts: `before`, one per removed flaw, `after`.
    """
    import pandas as pd

    wanted = set(flaws)
    if unknown := sorted(wanted - set(FLAWS)):
        raise ValueError(f"flaws: expected some of {FLAWS}, got {unknown}")
    labels = _read_labels(labels)
    frame = _make_frame(examples := list(examples))
    texts, label = frame["texts"], frame["label"]
    majority = _find_majorities(frame[label.isin(labels)])
    tests = {
        "unknown label": ~label.isin(labels),
        "empty": frame["empty"],
        "several labels": texts.isin(majority.index) & (label != texts.map(majority)),
        "leaked": texts.isin(_make_frame(list(held_out))["texts"]),
    }
    counts = {"before": len(frame)}
    for flaw in filter(wanted.__contains__, FLAWS):
        # only of duplicates it depends on what went before whether they are
        is_flawed = tests[flaw][frame.index] if flaw in tests else frame["texts"].duplicated()
        counts[flaw], frame = int(is_flawed.sum()), frame[~is_flawed]
    return [examples[row] for row in frame.index], pd.Series(counts | {"after": len(frame)})


def _find_majorities(frame: Any) -> Any:
    """Return each text's most frequent label, a Series; None where labels tie."""
    votes = frame.value_counts(["texts", "label"]).reset_index()
    leading = votes[votes["count"] == votes.groupby("texts")["count"].transform("max")]
    ties = leading["texts"].duplicated(keep=False)
    return leading.assign(label=leading["label"].mask(ties)).drop_duplicates("texts").set_index("texts")["label"]
