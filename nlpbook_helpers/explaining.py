"""Why this answer? What each piece of the text added to a label's log-odds, by integrated gradients."""

import copy
import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import torch

from nlpbook_helpers.features import Features, select_model_inputs

STEPS = 32  # of the integral: 16 miss the difference by up to 18 %, 32 by 0.7 % (30 reviews, embedded encoder)
TOLERANCE = 0.03  # of completeness, in log-odds and relative to them; missed, the integral is taken again, finer
BATCH_TOKENS = 1_024  # tokens differentiated at once: bounds the memory of activations
SEARCH_WIDTH = 40  # characters within which a piece must be found, so that one that was normalized loses no others

_copying = threading.Lock()  # one float32 copy of a served model at a time


class Span(NamedTuple):
    """Where a token stands in the original texts."""

    text: int
    """0 or 1: which of the texts."""
    start: int
    """Of its first character."""
    end: int
    """After its last character."""


def explain_window(
    model: Any, tokenizer: Any, features: Features, window: int, label: int, steps: int = STEPS
) -> tuple[np.ndarray, float]:
    """Attribute one label's log-odds to the tokens of one example.

    Integrated gradients from a text of padding to the text itself, special tokens kept. The served model may be
    bfloat16, whose gradients are coarser (their sum misses the difference by 1 % in the median and 75 % at worst,
    against 0.01 % and 0.7 %): its weights are copied to float32 for the time of the call. Captum's
    LayerIntegratedGradients gives the same numbers, through a hook on the model, which other threads would run into.

    Args:
        model: A `…ForSequenceClassification`.
        tokenizer: Its tokenizer.
        features: Encoded examples.
        window: Which of them.
        label: Position of the label that is spoken for or against.
        steps: Points on the path, Gauss-Legendre; four times as many where these are not enough.

    Returns:
        Contributions, float64, (tokens,), and the difference of log-odds between text and padding, which is their sum
        up to the error of the integral.

    Source: Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, 2017, https://arxiv.org/abs/1703.01365
    """
    inputs = select_model_inputs(model, features.make_batch([window]))
    inputs = {name: column.to(model.device) for name, column in inputs.items() if name != "labels"}
    ids = inputs.pop("input_ids")
    with ExitStack() as stack:
        if next(model.parameters()).dtype != torch.float32:
            stack.enter_context(_copying)
            model = copy.deepcopy(model).float()
        scores, difference = _integrate(model, tokenizer, ids, inputs, label, steps)
        if abs(scores.sum() - difference) > TOLERANCE * abs(difference) + TOLERANCE:
            return _integrate(model, tokenizer, ids, inputs, label, 4 * steps)
        return scores, difference


def _integrate(
    model: Any, tokenizer: Any, ids: torch.Tensor, inputs: dict[str, torch.Tensor], label: int, steps: int
) -> tuple[np.ndarray, float]:
    special = torch.tensor([_is_special(tokenizer, int(token)) for token in ids[0]], device=ids.device)
    with torch.no_grad():
        embed = model.get_input_embeddings()
        baseline = embed(torch.where(special, ids, tokenizer.pad_token_id))
        change = embed(ids) - baseline

    def get_log_odds(points: torch.Tensor) -> torch.Tensor:
        repeated = {name: column.expand(len(points), -1) for name, column in inputs.items()}
        logits = model(inputs_embeds=points, **repeated).logits
        others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
        return logits[:, label] - others.logsumexp(dim=1)

    nodes, weights = np.polynomial.legendre.leggauss(steps)
    shares = torch.tensor((nodes + 1) / 2, dtype=change.dtype, device=ids.device)
    parts = torch.tensor(weights / 2, dtype=change.dtype, device=ids.device)
    total = torch.zeros_like(change[0])
    size = max(1, BATCH_TOKENS // ids.shape[1])
    for share, part in zip(shares.split(size), parts.split(size), strict=True):
        points = (baseline + share[:, None, None] * change).requires_grad_()
        (gradients,) = torch.autograd.grad(get_log_odds(points).sum(), points)
        total += (part[:, None, None] * gradients).sum(dim=0)
    scores = (total * change[0]).sum(dim=1).double().cpu().numpy()
    with torch.no_grad():
        empty, full = get_log_odds(torch.cat([baseline, baseline + change])).tolist()
    return scores, full - empty


def _is_special(tokenizer: Any, token: int) -> bool:
    return token in tokenizer.all_special_ids and token != tokenizer.unk_token_id


def find_spans(
    tokenizer: Any, texts: Sequence[str], features: Features, window: int, max_seq_length: int, stride: int | None
) -> list[Span | None]:
    """Say where each token of an example stands in the original texts; None for special tokens.

    Args:
        tokenizer: A Hugging Face tokenizer; a slow one does not know, and its pieces are searched for in the text.
        texts: One text or two.
        features: What `encode_examples` made of this one example.
        window: Which of its windows.
        max_seq_length: As given to `encode_examples`.
        stride: As given to `encode_examples`.
    """
    if tokenizer.is_fast:
        windows = {} if stride is None or len(texts) == 2 else {"stride": stride, "return_overflowing_tokens": True}
        encoded = tokenizer(
            *([text] for text in texts), truncation=True, max_length=max_seq_length, return_offsets_mapping=True,
            **windows,
        ).encodings[window]  # fmt: skip
        places = zip(encoded.sequence_ids, encoded.offsets, strict=True)
        return [None if number is None else Span(number, *place) for number, place in places]
    step = max_seq_length - tokenizer.num_special_tokens_to_add() - (stride or 0)
    streams = [iter(_search(tokenizer.tokenize(text), text)[window * step :]) for text in texts]
    spans: list[Span | None] = []
    specials = 0  # [CLS] first [SEP] second [SEP]
    for token in features.make_batch([window])["input_ids"][0].tolist():
        is_special = _is_special(tokenizer, token)
        specials += is_special
        number = min(max(specials - 1, 0), len(texts) - 1)
        place = None if is_special else next(streams[number], None)
        spans.append(place and Span(number, *place))
    return spans


def _search(pieces: Sequence[str], text: str) -> list[tuple[int, int]]:
    """Find pieces in a text from left to right; one that is not there as it stands gets the next word."""
    places, position = [], 0
    for piece in pieces:
        plain = piece.removeprefix("##").lstrip("▁")
        start = text.find(plain, position, position + len(plain) + SEARCH_WIDTH)
        end = start + len(plain)
        if start < 0:
            word = re.compile(r"\S+").search(text, position)
            start, end = word.span() if word else (position, position)
        places.append((start, end))
        position = end
    return places


def merge_spans(
    texts: Mapping[str, str], spans: Sequence[Span | None], scores: np.ndarray
) -> list[dict[str, str | int | float]]:
    """Return what a page highlights: pieces of text in order, those of one character (bytes of it) added up.

    Args:
        texts: Field name → text.
        spans: Of each token.
        scores: float64, (tokens,): of each token.

    Returns:
        Dicts of `field`, `text`, `start`, `end` (characters) and `score`.
    """
    names = list(texts)
    merged: list[dict[str, Any]] = []
    found = [(span, score) for span, score in zip(spans, scores.tolist(), strict=True) if span is not None]
    blank = 0.0  # of a space that is a token of its own: it belongs to the word after it
    for (number, start, end), score in sorted(found, key=lambda pair: pair[0]):
        text, last = texts[names[number]], merged[-1] if merged and merged[-1]["field"] == names[number] else None
        start += len(text[start:end]) - len(text[start:end].lstrip())  # some tokenizers count the space before a word
        end = start + len(text[start:end].rstrip())
        if last is not None and start < last["end"]:
            last["end"], last["score"] = max(end, last["end"]), last["score"] + score
            last["text"] = text[last["start"] : last["end"]]
        elif start < end:
            piece = {"field": names[number], "text": text[start:end], "start": start, "end": end}
            merged.append({**piece, "score": score + blank})
            blank = 0.0
        else:
            blank += score
    if merged:
        merged[-1]["score"] += blank
    return merged
