"""Which texts show best what a classifier does? Short ones that it has not learned from, of different labels."""

from collections import defaultdict
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import torch

from nlpbook_helpers.features import ClassificationDataset, select_model_inputs

MOST_EXAMPLES = 4
SHORT = 60  # characters of all texts of an example together, for a button to show
CANDIDATES = 64  # answered each time that a checkpoint is written: few, since a CPU takes a second for them


def find_candidates(dataset: ClassificationDataset) -> tuple[np.ndarray, list[list[str]]]:
    """Return short examples of every label: their rows in `dataset.features`, and their texts."""
    # a token is at least a character, nearly always, and no text has to be read to count them
    is_short, labels = dataset.features.lengths[dataset.rows] <= SHORT, dataset.labels
    each = max(1, CANDIDATES // dataset.corpus.num_labels)
    groups = [np.flatnonzero(is_short & (labels == label))[:each] for label in range(dataset.corpus.num_labels)]
    places = np.concatenate(groups)[:CANDIDATES]
    texts = [[text.strip() for text in example[:2] if text is not None] for example in dataset.get_examples(places)]
    fits = np.array([all(one) and sum(map(len, one)) <= SHORT for one in texts], dtype=bool)
    return dataset.rows[places[fits]], [one for one, is_fitting in zip(texts, fits, strict=True) if is_fitting]


@torch.no_grad()
def choose_examples(
    model: Any, dataset: ClassificationDataset, rows: np.ndarray, texts: list[list[str]]
) -> list[list[str]]:
    """Return those that are answered rightly, the surest first, and one of each label before a second of any.

    Args:
        model: A `…ForSequenceClassification`.
        dataset: Of the examples.
        rows: Of the candidates, see `find_candidates`.
        texts: Theirs.
    """
    if not texts:
        return []
    batch = {name: column.to(model.device) for name, column in dataset.features.make_batch(rows).items()}
    labels, was_training = batch.pop("labels"), model.training
    sureness, guessed = model.eval()(**select_model_inputs(model, batch)).logits.softmax(dim=-1).max(dim=-1)
    model.train(was_training)
    by_label: dict[int, list[int]] = defaultdict(list)
    for place in sureness.argsort(descending=True).tolist():
        if guessed[place] == labels[place]:
            by_label[int(labels[place])].append(place)
    in_turn = chain.from_iterable(zip_longest(*by_label.values()))
    return [texts[place] for place in in_turn if place is not None][:MOST_EXAMPLES]
