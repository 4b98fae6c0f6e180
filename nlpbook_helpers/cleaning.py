"""Which rows should not be there? A report on what a corpus holds, and the removal of what is asked for."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from nlpbook_helpers.corpora import ClassificationExample

if TYPE_CHECKING:  # half a second to import, which training need not spend
    import pandas as pd

Examples = Sequence[ClassificationExample]
Texts = tuple[str, str | None]

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
    """
    import numpy as np
    import pandas as pd

    first_mode = next(iter(splits))
    learned = {example[:2] for example in splits[first_mode]}
    columns = {}
    for mode, examples in splits.items():
        counts = _count_labels(examples)
        given = [example.label for example in examples]
        lengths = np.array([len(example.text_a) + len(example.text_b or "") for example in examples] or [0])
        facts = {
            "examples": len(examples),
            "distinct": len(counts),
            "duplicate": len(examples) - len(counts),
            "empty": sum(map(_is_empty, examples)),
            "several labels": sum(len(found) > 1 for found in counts.values()),
            "unknown label": sum(label not in labels for label in given),
            f"in {first_mode}": "" if mode == first_mode else sum(example[:2] in learned for example in examples),
            "mean length": round(float(lengths.mean()), 1),
            "median length": float(np.median(lengths)),
            "longest": int(lengths.max()),
        }
        facts |= {f"label {label}": given.count(label) for label in labels}
        columns[mode] = pd.Series(facts, dtype=object)  # whole numbers stay whole beside the mean
    return pd.DataFrame(columns)


def clean_examples(
    examples: Examples, labels: Sequence[str], held_out: Iterable[ClassificationExample] = (),
    flaws: Iterable[str] = FLAWS,
) -> tuple[list[ClassificationExample], "pd.Series"]:  # fmt: skip
    """Remove flawed examples and count them; an example is counted once, under its first flaw of `FLAWS`.

    Of a text with several labels those examples go whose label is not the most frequent, all if there is a tie; of
    duplicates the first stays.

    Args:
        examples: What to clean, in the order of the result.
        labels: The known labels.
        held_out: Examples to be judged on later; whoever has the same texts is `leaked`.
        flaws: Which of `FLAWS` to remove.

    Returns:
        The examples that stay, and the counts: `before`, one per removed flaw, `after`.

    Raises:
        ValueError: `flaws` names something else.
    """
    import pandas as pd

    wanted = set(flaws)
    if wanted - set(FLAWS):
        raise ValueError(f"flaws: expected some of {FLAWS}, got {sorted(wanted - set(FLAWS))}")
    seen: set[Texts] = set()
    tests = _make_tests(examples, labels, held_out, seen)
    removed = {flaw: 0 for flaw in FLAWS if flaw in wanted}
    kept = []
    for example in examples:
        flaw = next((flaw for flaw in removed if tests[flaw](example)), None)
        if flaw is None:
            kept.append(example)
            seen.add(example[:2])
        else:
            removed[flaw] += 1
    return kept, pd.Series({"before": len(examples), **removed, "after": len(kept)})


def _make_tests(
    examples: Examples, labels: Sequence[str], held_out: Iterable[ClassificationExample], seen: set[Texts]
) -> dict[str, Callable[[ClassificationExample], bool]]:
    """Return a test for each of `FLAWS`; `seen` holds the texts that were kept so far."""
    known = [example for example in examples if example.label in labels]
    agreed = {texts: _find_majority(counts) for texts, counts in _count_labels(known).items()}
    judged = {example[:2] for example in held_out}
    return {
        "unknown label": lambda example: example.label not in labels,
        "empty": _is_empty,
        "several labels": lambda example: example.label != agreed.get(example[:2], example.label),
        "leaked": lambda example: example[:2] in judged,
        "duplicate": lambda example: example[:2] in seen,
    }


def _count_labels(examples: Examples) -> dict[Texts, Counter[str | None]]:
    """Count the labels of each text, or pair of texts."""
    counts: dict[Texts, Counter[str | None]] = defaultdict(Counter)
    for text_a, text_b, label in examples:
        counts[text_a, text_b][label] += 1
    return counts


def _find_majority(counts: Counter[str | None]) -> str | None:
    """Return the most frequent label, None if two are equally frequent."""
    (label, most), *others = counts.most_common(2)
    return None if others and others[0][1] == most else label


def _is_empty(example: ClassificationExample) -> bool:
    """Say whether a text holds nothing but white space."""
    return not all(text.strip() for text in example[:2] if text is not None)
