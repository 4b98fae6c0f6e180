"""Why this answer? What each piece of the text added to a label's log-odds, by integrated gradients."""

import copy
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nlpbook_helpers.features import predict_probabilities, select_model_inputs

if TYPE_CHECKING:
    from nlpbook_helpers.classifier import Classifier

STEPS = 32  # of the integral: 16 miss the difference by up to 18 %, 32 by 0.7 % (30 reviews, embedded encoder)
TOLERANCE = 0.03  # of completeness, in log-odds and relative to them; missed, the integral is taken again, finer
BATCH_TOKENS = 1_024  # tokens differentiated at once: bounds the memory of activations

_copying = threading.Lock()  # one float32 copy of a served model at a time


def explain(classifier: "Classifier", texts: Sequence[str], label: str | None = None) -> dict[str, Any]:
    """Say which pieces of a text, or of a pair, drove a classifier's answer.

    Of a text longer than one window, the window is explained that speaks most for the label.

    Args:
        classifier: With a fast tokenizer; others do not know where their tokens stand in the text.
        texts: As many as the classifier compares.
        label: One of its `labels`; default: the predicted one.

    Returns:
        `prediction`; `tokens`, dicts of `field`, `text`, `start`, `end` (positions in the field's text, in Unicode's
        form NFC) and `score` (positive: speaks for the label, in log-odds); `completeness`, the `sum` of all scores and
        the `difference` of log-odds between the text and padding, which are equal up to a few percent.

    Raises:
        ValueError: The number of texts is wrong, one is not a string, there is no such label, or the tokenizer is slow.
    """
    if label is not None and label not in classifier.labels:
        raise ValueError(f"label: expected one of {classifier.labels}, got {label!r}")
    if not classifier.tokenizer.is_fast:
        raise ValueError(
            f"expected a fast tokenizer, which knows where its tokens stand, got {type(classifier.tokenizer).__name__}: "
            "explain with an encoder whose tokenizer is a tokenizer.json"
        )
    example = classifier.make_example(texts)
    features = classifier.encode([example])
    features.documents = None  # each window for itself
    probabilities = predict_probabilities(classifier.model, features)
    predicted = int(probabilities.mean(axis=0).argmax())
    spoken_for = predicted if label is None else classifier.labels.index(label)
    window = int(probabilities[:, spoken_for].argmax())
    encoding = classifier.locate_tokens(example, window)
    inputs = features.make_batch([window])
    scores, difference = attribute(
        classifier.model, inputs, encoding.special_tokens_mask, classifier.tokenizer.pad_token_id, spoken_for
    )
    fields = dict(zip(classifier.input_names, example, strict=False))
    places = zip(encoding.sequence_ids, encoding.offsets, scores.tolist(), strict=True)
    return {
        "prediction": classifier.labels[predicted],
        "tokens": merge_pieces(fields, places),
        "completeness": {"sum": float(scores.sum()), "difference": difference},
    }


def attribute(
    model: Any, inputs: dict[str, torch.Tensor], is_special: Sequence[int], pad_token_id: int, label: int
) -> tuple[np.ndarray, float]:
    """Attribute one label's log-odds to the tokens of one example.

    Integrated gradients from a text of padding to the text itself, special tokens kept. The served model may be
    bfloat16, whose gradients are coarser (their sum misses the difference by 1 % in the median and 75 % at worst,
    against 0.01 % and 0.7 %): its weights are copied to float32 for the time of the call. Captum's
    LayerIntegratedGradients gives the same numbers, through a hook on the model, which other threads would run into.

    Args:
        model: A `…ForSequenceClassification`.
        inputs: A batch of one: int64, (1, tokens) each.
        is_special: 1 for tokens that belong to no text.
        pad_token_id: What the path begins at.
        label: Position of the label that is spoken for or against.

    Returns:
        Contributions, float64, (tokens,), and the difference of log-odds between text and padding, which is their sum
        up to the error of the integral.

    Source: Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, 2017, https://arxiv.org/abs/1703.01365
    """
    inputs = {name: column.to(model.device) for name, column in select_model_inputs(model, inputs).items()}
    ids = inputs.pop("input_ids")
    del inputs["labels"]
    with ExitStack() as stack:
        if next(model.parameters()).dtype != torch.float32:
            stack.enter_context(_copying)
            model = copy.deepcopy(model).float()
        with torch.no_grad():
            embed = model.get_input_embeddings()
            baseline = embed(torch.where(torch.tensor(is_special, device=ids.device) == 1, ids, pad_token_id))
            change = embed(ids) - baseline
        for steps in (STEPS, 4 * STEPS):
            scores, difference = _integrate(model, inputs, baseline, change, label, steps)
            if abs(scores.sum() - difference) <= TOLERANCE * abs(difference) + TOLERANCE:
                break
    return scores, difference


def _integrate(
    model: Any, inputs: dict[str, torch.Tensor], baseline: torch.Tensor, change: torch.Tensor, label: int, steps: int
) -> tuple[np.ndarray, float]:
    """Integrate gradients from `baseline` to `baseline + change`, float32, (1, tokens, width), by Gauss-Legendre."""

    def get_log_odds(points: torch.Tensor) -> torch.Tensor:
        repeated = {name: column.expand(len(points), -1) for name, column in inputs.items()}
        logits = model(inputs_embeds=points, **repeated).logits
        others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
        return logits[:, label] - others.logsumexp(dim=1)

    nodes, weights = np.polynomial.legendre.leggauss(steps)
    shares = torch.tensor((nodes + 1) / 2, dtype=change.dtype, device=change.device)[:, None, None]
    parts = torch.tensor(weights / 2, dtype=change.dtype, device=change.device)[:, None, None]
    total = torch.zeros_like(change[0])
    size = max(1, BATCH_TOKENS // change.shape[1])
    for share, part in zip(shares.split(size), parts.split(size), strict=True):
        points = (baseline + share * change).requires_grad_()
        (gradients,) = torch.autograd.grad(get_log_odds(points).sum(), points)
        total += (part * gradients).sum(dim=0)
    with torch.no_grad():
        empty, full = get_log_odds(torch.cat([baseline, baseline + change])).tolist()
    return (total * change[0]).sum(dim=1).double().cpu().numpy(), full - empty


def merge_pieces(
    fields: Mapping[str, str], tokens: Iterable[tuple[int | None, tuple[int, int], float]]
) -> list[dict[str, Any]]:
    """Return what a page highlights: pieces of text in order, those of one character (bytes of it) added up.

    Args:
        fields: Field name → text.
        tokens: Of each token: which field (None for special tokens), where it begins and ends there, and its score.

    Returns:
        Dicts of `field`, `text`, `start`, `end` (characters) and `score`.
    """
    names, pieces = list(fields), []
    carried = 0.0  # of a space that is a token of its own: it belongs to the word after it
    for number, (start, end), score in tokens:
        if number is None:
            continue
        name, carried = names[number], carried + score
        text = fields[name][start:end]
        start, end = start + len(text) - len(text.lstrip()), start + len(text.rstrip())  # the space before a word
        if start >= end:
            continue
        if not pieces or pieces[-1]["field"] != name or start >= pieces[-1]["end"]:
            pieces.append({"field": name, "text": "", "start": start, "end": end, "score": 0.0})
        piece = pieces[-1]
        piece["end"] = max(end, piece["end"])
        piece["text"] = fields[name][piece["start"] : piece["end"]]
        piece["score"], carried = piece["score"] + carried, 0.0
    if pieces:
        pieces[-1]["score"] += carried
    return pieces
