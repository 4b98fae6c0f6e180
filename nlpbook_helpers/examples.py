"""Which texts show best what a classifier does? Short ones that it has not learned from, of different labels."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from nlpbook_helpers.checkpoints import MOST_EXAMPLES
from nlpbook_helpers.features import ClassificationDataset, select_model_inputs

SHORT = 60  # characters of all texts of an example together, for a button to show
CANDIDATES = 64  # answered each time that a checkpoint is written: few, since a CPU takes a second for them


def find_candidates(dataset: ClassificationDataset) -> tuple[np.ndarray, list[list[str]]]:
    """Return short examples of every label: their rows in `dataset.features`, and their texts."""
    # a token is at least a character, nearly always, and no text has to be read to count them
    short = pd.DataFrame({"label": dataset.labels}).loc[dataset.features.lengths[dataset.rows] <= SHORT]
    of_each = max(1, CANDIDATES // dataset.corpus.num_labels)
    places = short.groupby("label").head(of_each).index.to_numpy()[:CANDIDATES]
    texts = [[text.strip() for text in example[:2] if text is not None] for example in dataset.get_examples(places)]
    fitting = [number for number, one in enumerate(texts) if all(one) and sum(map(len, one)) <= SHORT]
    return dataset.rows[places[fitting]], [texts[number] for number in fitting]


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
    sureness, guessed = model.eval()(**select_model_inputs(model, batch)).logits.float().softmax(dim=-1).max(dim=-1)
    model.train(was_training)
    answers = pd.DataFrame({"label": labels.cpu(), "is_right": (guessed == labels).cpu(), "sureness": sureness.cpu()})
    right = answers.loc[answers["is_right"]].sort_values(by="sureness", ascending=False)
    in_turn = right.groupby("label").cumcount().sort_values(kind="stable")
    return [texts[number] for number in in_turn.index[:MOST_EXAMPLES]]
