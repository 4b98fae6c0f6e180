"""Why this answer? What each piece of the text added to a label's log-odds, by integrated gradients."""

import copy
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


def explain(classifier: "Classifier", texts: Sequence[str]) -> dict[str, Any]:
    """Say which pieces of a text, or of a pair, drove a classifier's answer.

    Of a text longer than one window, the window is explained that speaks most for the answer.

    Args:
        classifier: With a fast tokenizer; others do not know where their tokens stand in the text.
        texts: As many as the classifier compares.

    Returns:
        `prediction`; `tokens`, see `merge_pieces`; `completeness`: the `sum` of all scores and the `difference` of
        log-odds between the text and padding, which are equal up to a few percent.

    Raises:
        ValueError: The number of texts is wrong, one cannot be read, the tokenizer is slow, or the encoder reads no
            embeddings.
    """
    if not classifier.tokenizer.is_fast:
        kind = type(classifier.tokenizer).__name__
        raise ValueError(f"expected a fast tokenizer, which knows where its tokens stand, got {kind}: use another")
    example = classifier.make_example(texts)
    features = classifier.encode([example])
    features.documents = np.arange(len(features))  # each window for itself
    probabilities = predict_probabilities(classifier.model, features)
    predicted = int(probabilities.mean(axis=0).argmax())
    window = int(probabilities[:, predicted].argmax())
    encoding = classifier.locate_tokens(example, window)
    try:
        scores, difference = attribute(
            classifier, features.make_batch([window]), encoding.special_tokens_mask, predicted
        )
    except (TypeError, AttributeError, NotImplementedError) as error:  # such as I-BERT and Longformer
        expected = "expected an encoder that reads embeddings in place of tokens, as BERT and RoBERTa do"
        raise ValueError(f"{expected}, got {type(classifier.model).__name__}: use another to explain") from error
    places = zip(encoding.sequence_ids, encoding.offsets, scores.tolist(), strict=True)
    return {
        "prediction": classifier.labels[predicted],
        "tokens": merge_pieces(dict(zip(classifier.input_names, map(str, example), strict=False)), places),
        "completeness": {"sum": float(scores.sum()), "difference": difference},
    }


def attribute(
    classifier: "Classifier", batch: dict[str, torch.Tensor], special_tokens_mask: Sequence[int], label: int
) -> tuple[np.ndarray, float]:
    """Attribute one label's log-odds to the tokens of one example.

    Integrated gradients from a text of padding to the text itself, special tokens kept. The served model may be
    bfloat16, whose gradients are coarser (their sum misses the difference by 1 % in the median and 75 % at worst,
    against 0.01 % and 0.7 %): its weights are copied to float32 for the time of the call. Captum's
    LayerIntegratedGradients gives the same numbers, through a hook on the model, which other threads would run into.

    Args:
        classifier: Its model and its tokenizer's padding.
        batch: int64, (1, tokens) each.
        special_tokens_mask: 1 for tokens that belong to no text, (tokens,).
        label: Position of the label that is spoken for or against.

    Returns:
        Contributions, float64, (tokens,), and the difference of log-odds between text and padding, which is their sum
        up to the error of the integral.

    Source: Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, 2017, https://arxiv.org/abs/1703.01365
    """
    model = classifier.model
    if model.dtype != torch.float32:
        model = copy.deepcopy(model).float()
    inputs = {name: column.to(model.device) for name, column in select_model_inputs(model, batch).items()}
    ids, _ = inputs.pop("input_ids"), inputs.pop("labels")
    is_special = torch.tensor(special_tokens_mask, dtype=torch.bool, device=model.device)

    def get_log_odds(points: torch.Tensor) -> torch.Tensor:
        repeated = {name: column.expand(len(points), -1) for name, column in inputs.items()}
        logits = model(inputs_embeds=points, **repeated).logits
        others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
        return logits[:, label] - others.logsumexp(dim=1)

    with torch.no_grad():
        embed = model.get_input_embeddings()
        baseline = embed(torch.where(is_special, ids, classifier.tokenizer.pad_token_id))
        change = embed(ids) - baseline
    return _integrate(get_log_odds, baseline, change)


def _integrate(function: Any, start: torch.Tensor, change: torch.Tensor) -> tuple[np.ndarray, float]:
    """Share what a function gains from `start` to `start + change`, float32, (1, tokens, width) each, among the tokens.

    By Gauss and Legendre, whose nodes and weights are those of [-1, 1], for a path that is 1 long.
    """
    with torch.no_grad():
        empty, full = function(torch.cat([start, start + change])).tolist()
    scores, difference = np.zeros(0), full - empty
    for steps in (STEPS, 4 * STEPS):
        rule = torch.tensor(np.stack(np.polynomial.legendre.leggauss(steps))).to(change)[:, :, None, None]
        mean = torch.zeros_like(change[0])
        for node, weight in rule.split(max(1, BATCH_TOKENS // change.shape[1]), dim=1):
            points = (start + (node + 1) / 2 * change).requires_grad_()
            (gradients,) = torch.autograd.grad(function(points).sum(), points)
            mean += (weight / 2 * gradients).sum(dim=0)
        scores = (mean * change[0]).sum(dim=1).double().cpu().numpy()
        if abs(scores.sum() - difference) <= TOLERANCE * (1 + abs(difference)):
            break
    return scores, difference


def merge_pieces(fields: Mapping[str, str], tokens: Iterable[tuple[Any, tuple[int, int], float]]) -> list[dict]:
    """Return what a page highlights: pieces of text in order, those of one character (bytes of it) added up.

    Args:
        fields: Field name → text.
        tokens: Of each token: which field (None for special tokens), where it begins and ends there, and its score.

    Returns:
        Dicts of `field`, `text`, `start`, `end` (characters of the field's text in Unicode's form NFC) and `score`, in
        log-odds: positive speaks for the label.
    """
    names, pieces = list(fields), [{"field": "", "text": "", "start": 0, "end": 0, "score": 0.0}]
    carried = 0.0  # of a space that is a token of its own: it belongs to the word after it
    for number, (start, end), score in tokens:
        if number is None:
            continue
        name, carried = names[number], carried + score
        text = fields[name][start:end]
        start, end = start + len(text) - len(text.lstrip()), start + len(text.rstrip())  # the space before a word
        if start >= end:
            continue
        if pieces[-1]["field"] != name or start >= pieces[-1]["end"]:
            pieces.append({"field": name, "text": "", "start": start, "end": end, "score": 0.0})
        piece = pieces[-1]
        piece["end"] = max(end, piece["end"])
        piece["text"] = fields[name][piece["start"] : piece["end"]]
        piece["score"], carried = piece["score"] + carried, 0.0
    pieces[-1]["score"] += carried
    return pieces[1:]
