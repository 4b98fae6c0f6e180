"""Why this answer? What each piece of the text added to a label's log-odds, by integrated gradients."""

import copy
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nlpbook_helpers.features import predict_probabilities, select_model_inputs

if TYPE_CHECKING:
    from nlpbook_helpers.classifier import Classifier

STEPS = 32  # of the integral: 16 miss the difference by up to 18 %, 32 by 0.7 % (30 reviews, embedded encoder)
TOLERANCE = 0.03  # of completeness, in log-odds and relative to them; missed, the integral is taken again, finer
BATCH_TOKENS = 1_024  # tokens differentiated at once: bounds the memory of activations

_explaining = threading.Lock()  # one at a time: it takes a float32 copy of the model


def explain(classifier: "Classifier", texts: Sequence[str], label: str | None = None) -> dict[str, Any]:
    """Say which pieces of a text, or of a pair, drove a classifier's answer.

    Of a text longer than one window, the window is explained that speaks most for the label.

    Args:
        classifier: With a fast tokenizer; others do not know where their tokens stand in the text.
        texts: As many as the classifier compares.
        label: One of its `labels`; default: the predicted one.

    Returns:
        `prediction`; `tokens`, see `merge_pieces`; `completeness`: the `sum` of all scores and the `difference` of
        log-odds between the text and padding, which are equal up to a few percent.

    Raises:
        ValueError: The number of texts is wrong, one is not a string, there is no such label, the tokenizer is slow, or
            the encoder reads no embeddings.
    """
    _check(classifier, label)
    example = classifier.make_example(texts)
    features = classifier.encode([example])
    features.documents = np.arange(len(features))  # each window for itself
    probabilities = predict_probabilities(classifier.model, features)
    predicted = int(probabilities.mean(axis=0).argmax())
    spoken_for = predicted if label is None else classifier.labels.index(label)
    window = int(probabilities[:, spoken_for].argmax())
    encoding = classifier.locate_tokens(example, window)
    special = torch.tensor([encoding.special_tokens_mask], dtype=torch.bool)
    try:
        scores, difference = attribute(classifier, features.make_batch([window]), special, spoken_for)
    except (TypeError, AttributeError, NotImplementedError) as error:  # such as I-BERT and Longformer
        expected = "expected an encoder that reads embeddings in place of tokens, as BERT and RoBERTa do"
        raise ValueError(f"{expected}, got {type(classifier.model).__name__}: use another to explain") from error
    places = zip(encoding.sequence_ids, encoding.offsets, scores.tolist(), strict=True)
    return {
        "prediction": classifier.labels[predicted],
        "tokens": merge_pieces(dict(zip(classifier.input_names, map(str, example), strict=False)), places),
        "completeness": {"sum": float(scores.sum()), "difference": difference},
    }


def _check(classifier: "Classifier", label: str | None) -> None:
    """Refuse what cannot be explained, before anything is computed."""
    if label is not None and label not in classifier.labels:
        raise ValueError(f"label: expected one of {classifier.labels}, got {label!r}")
    if not classifier.tokenizer.is_fast:
        kind = type(classifier.tokenizer).__name__
        raise ValueError(f"expected a fast tokenizer, which knows where its tokens stand, got {kind}: use another")


def attribute(
    classifier: "Classifier", batch: dict[str, torch.Tensor], is_special: torch.Tensor, label: int
) -> tuple[np.ndarray, float]:
    """Attribute one label's log-odds to the tokens of one example.

    Integrated gradients from a text of padding to the text itself, special tokens kept. The served model may be
    bfloat16, whose gradients are coarser (their sum misses the difference by 1 % in the median and 75 % at worst,
    against 0.01 % and 0.7 %): its weights are copied to float32 for the time of the call. Captum's
    LayerIntegratedGradients gives the same numbers, through a hook on the model, which other threads would run into.

    Args:
        classifier: Its model and its tokenizer's padding.
        batch: int64, (1, tokens) each.
        is_special: bool, (1, tokens): tokens that belong to no text.
        label: Position of the label that is spoken for or against.

    Returns:
        Contributions, float64, (tokens,), and the difference of log-odds between text and padding, which is their sum
        up to the error of the integral.

    Source: Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, 2017, https://arxiv.org/abs/1703.01365
    """
    model = classifier.model
    inputs = {name: column.to(model.device) for name, column in select_model_inputs(model, batch).items()}
    ids, _ = inputs.pop("input_ids"), inputs.pop("labels")
    with _explaining:
        if model.dtype != torch.float32:
            model = copy.deepcopy(model).float()
        with torch.no_grad():
            embed = model.get_input_embeddings()
            baseline = embed(torch.where(is_special.to(ids.device), ids, classifier.tokenizer.pad_token_id))
            change = embed(ids) - baseline
        scores, difference = _integrate(model, inputs, baseline, change, label, STEPS)
        if abs(scores.sum() - difference) > TOLERANCE * abs(difference) + TOLERANCE:
            scores, difference = _integrate(model, inputs, baseline, change, label, 4 * STEPS)
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

    rule = torch.tensor(np.stack(np.polynomial.legendre.leggauss(steps))).to(change)[:, :, None, None]
    total = torch.zeros_like(change[0])
    # nodes and weights are those of [-1, 1], for a path that is 1 long
    for node, weight in rule.split(max(1, BATCH_TOKENS // change.shape[1]), dim=1):
        points = (baseline + (node + 1) / 2 * change).requires_grad_()
        (gradients,) = torch.autograd.grad(get_log_odds(points).sum(), points)
        total += (weight / 2 * gradients).sum(dim=0)
    with torch.no_grad():
        empty, full = get_log_odds(torch.cat([baseline, baseline + change])).tolist()
    return (total * change[0]).sum(dim=1).double().cpu().numpy(), full - empty


def merge_pieces(fields: Mapping[str, str], tokens: Iterable[tuple[Any, tuple[int, int], float]]) -> list[dict]:
    """Return what a page highlights: pieces of text in order, those of one character (bytes of it) added up.

    Args:
        fields: Field name → text.
        tokens: Of each token: which field (None for special tokens), where it begins and ends there, and its score.

    Returns:
        Dicts of `field`, `text`, `start`, `end` (characters of the field's text in Unicode's form NFC) and `score`, in
        log-odds: positive speaks for the label.
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
