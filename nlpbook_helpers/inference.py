"""How is it used? A checkpoint becomes predict(texts) and the inference function of the book."""

import copy
import inspect
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from nlpbook_helpers.corpora import ClassificationExample, get_short_names
from nlpbook_helpers.evaluation import predict_probabilities
from nlpbook_helpers.explanation import explain_window, find_spans, merge_spans
from nlpbook_helpers.features import Features, encode_examples
from nlpbook_helpers.quantization import Backend, choose_scorer
from nlpbook_helpers.restoring import restore
from nlpbook_helpers.runtime import supports_bfloat16

DECIMALS = {1: 4, 2: 2}  # of the probabilities in the book's answers


class Classifier:
    """A fine-tuned model, its tokenizer and its labels.

    Make one with `Classifier.from_checkpoint`.

    Attributes:
        model: The Hugging Face model.
        scorer: What answers: `model`, or its 8-bit graph in ONNX Runtime; see `choose_scorer`.
        labels: What readers see, "긍정 (positive)", in the order of the model's outputs.
        input_names: Names of the texts that one answer needs.
        max_seq_length: Tokens that the model reads at once.
        stride: Tokens that the windows of a longer text share; None where it is cut.
        info: What a page says below: `model`, `checkpoint`, `score`, `limits`.
        text_columns: What the columns of its training's files were called; empty if that is not known.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        labels: Sequence[str],
        input_names: Sequence[str],
        max_seq_length: int,
        stride: int | None = None,
        info: Mapping[str, str] | None = None,
        text_columns: Sequence[str] = (),
        backend: Backend = "auto",
    ):
        self.model = model.eval()
        self.scorer = choose_scorer(self.model, backend)
        self.tokenizer = tokenizer
        self.labels = list(labels)
        self.input_names = tuple(input_names)
        self.max_seq_length = max_seq_length
        self.stride = stride
        self.text_columns = tuple(text_columns)
        limits = f"한 번에 {max_seq_length}토큰까지 읽고, 더 긴 글은 "
        limits += "뒤를 자릅니다" if stride is None else "창으로 나누어 평균합니다"
        self.info = {**(info or {}), "limits": limits}
        self._settle()

    def _settle(self) -> None:
        """Adapt to the machine."""
        self._tokenizing = threading.Lock()  # a fast tokenizer changes its truncation while it is called
        if torch.cuda.is_available():
            self.model.to("cuda")
        if supports_bfloat16():  # half the memory traffic; probabilities move by less than 0.01
            self.model.to(torch.bfloat16)

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process, or machine, with the weights on the CPU."""
        model = copy.deepcopy(self.model).cpu() if self.model.device.type != "cpu" else self.model
        scorer = model if self.scorer is self.model else self.scorer
        return {**vars(self), "model": model, "scorer": scorer, "_tokenizing": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if torch.cuda.is_available():  # here the model is faster than its 8-bit graph
            self.scorer = self.model
        if not supports_bfloat16():
            self.model.float()
        self._settle()

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: str | Path,
        pretrained_model_name: str | None = None,
        max_seq_length: int | None = None,
        stride: int | Literal["auto"] | None = "auto",
        trust_remote_code: bool = False,
        backend: Backend = "auto",
    ) -> "Classifier":
        """Load a classifier.

        Args:
            checkpoint: A Lightning checkpoint file, a folder of them (the best is chosen), or a Hugging Face folder.
            pretrained_model_name: The encoder; needed only for a bare `{"state_dict": …}` file.
            max_seq_length: Tokens per text; default: as in training.
            stride: A longer text is read in windows whose probabilities are averaged; this many tokens of overlap,
                "auto" for a quarter of `max_seq_length`, None to cut the text as the book does. Pairs are always
                cut, longest text first.
            trust_remote_code: Run the tokenizer code of `pretrained_model_name`, or of the Hugging Face folder.
            backend: "torch"; "onnx" for 8-bit products, which need the extra `onnx`; or "auto": "onnx" if that is
                installed and pays here (see `choose_scorer`).

        Raises:
            CheckpointError: Nothing there, unreadable, unsafe, of another encoder, or weights that do not fit.
            QuantizationError: `backend` is "onnx", and the model cannot be expressed so.
            ValueError: `max_seq_length`, `stride` or `backend` is out of range, or tokenizer and model do not match.
        """
        if max_seq_length is not None and max_seq_length < 5:
            raise ValueError(f"max_seq_length: expected at least 5 tokens, got {max_seq_length}")
        parts = restore(checkpoint, pretrained_model_name, max_seq_length, trust_remote_code)
        length = parts.max_seq_length
        most = length - parts.tokenizer.num_special_tokens_to_add() - 1
        if stride == "auto":
            stride = min(length // 4, most)
        if stride is not None and not 0 <= stride <= most:
            raise ValueError(f"stride: expected 0 to {most} tokens for max_seq_length={length}, got {stride!r}")
        stride = stride if len(parts.input_names) == 1 else None
        return cls(
            parts.model, parts.tokenizer, parts.labels, parts.input_names, length, stride, parts.info,
            parts.text_columns, backend,
        )  # fmt: skip

    def predict(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> np.ndarray:
        """Score many texts.

        Args:
            texts: Strings, or pairs of strings if the classifier compares two.

        Returns:
            float32, (texts, labels): probabilities in the order of `labels`.

        Raises:
            ValueError: A text is not a string, or the number of texts per input is wrong.
        """
        is_list = isinstance(texts, Iterable) and not isinstance(texts, str | bytes | Mapping | Set)
        if not is_list or hasattr(texts, "columns"):  # a DataFrame would give its column names
            raise ValueError(f"texts: expected a list of texts, got {type(texts).__name__}: put them into a list")
        examples = [
            self._make_example(text if isinstance(text, tuple | list) else (text,), row)
            for row, text in enumerate(texts)
        ]
        if not examples:
            return np.zeros((0, len(self.labels)), np.float32)
        return predict_probabilities(self.scorer, self.encode(examples))

    def encode(self, examples: Iterable[ClassificationExample]) -> Features:
        """Tokenize examples as `predict` does: cut, or in windows if there is a `stride`."""
        with self._tokenizing:
            return encode_examples(self.tokenizer, examples, {}, self.max_seq_length, self.stride)

    def explain(self, texts: str | Sequence[str], label: str | None = None) -> dict[str, Any]:
        """Say which pieces of a text, or of a pair, drove the answer; see `explain_window` for how.

        Of a text longer than one window, the window is explained that speaks most for the label.

        Args:
            texts: A text, or two if the classifier compares two.
            label: One of `labels`; default: the predicted one.

        Returns:
            `prediction`; `tokens`, dicts of `field`, `text`, `start`, `end` (positions in the field's text) and `score`
            (positive: speaks for the label, in log-odds); `completeness`, the `sum` of all scores and the `difference`
            of log-odds between the text and padding, which are equal up to a few percent.

        Raises:
            ValueError: The number of texts is wrong, one is not a string, or there is no such label.
        """
        if label is not None and label not in self.labels:
            raise ValueError(f"label: expected one of {self.labels}, got {label!r}")
        texts = (texts,) if isinstance(texts, str) else tuple(texts)
        features = self.encode([self._make_example(texts, 0)])
        features.documents = None  # each window for itself
        probabilities = predict_probabilities(self.model, features)
        predicted = int(probabilities.mean(axis=0).argmax())
        spoken_for = predicted if label is None else self.labels.index(label)
        window = int(probabilities[:, spoken_for].argmax())
        scores, difference = explain_window(self.model, self.tokenizer, features, window, spoken_for)
        fields = dict(zip(self.input_names, texts, strict=True))
        with self._tokenizing:
            place = (self.max_seq_length, self.stride)
            spans = find_spans(self.tokenizer, list(fields.values()), features, window, *place)
        return {
            "prediction": self.labels[predicted],
            "tokens": merge_spans(fields, spans, scores),
            "completeness": {"sum": float(scores.sum()), "difference": difference},
        }

    def _make_example(self, texts: Sequence[str], row: int) -> ClassificationExample:
        expected = len(self.input_names)
        if len(texts) != expected or not all(isinstance(text, str) for text in texts):
            raise ValueError(
                f"texts[{row}]: expected {expected} text{'s' if expected > 1 else ''} ({', '.join(self.input_names)}), "
                f"got {texts!r}"
            )
        if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
            raise ValueError(f"texts[{row}]: expected whole characters, got half a surrogate pair: clean the text")
        return ClassificationExample(*texts)

    @property
    def inference_fn(self) -> Callable[..., dict[str, str]]:
        """The book's inference function: `inference_fn(sentence)` or `inference_fn(premise, hypothesis)`.

        It returns its inputs, the `prediction`, and for each label `…_data` ("긍정 0.9876") and `…_width`
        ("98.76%"). Its signature names the inputs; the web page makes its form from it.

        Attributes of the function, for a web service: `batch_fn(inputs)` answers many inputs, dicts by input name, at
        once; `explain_fn(sentence=…)` is `explain`; `info` is the classifier's.
        """
        parameters = [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str)
            for name in self.input_names
        ]
        signature = inspect.Signature(parameters)

        def inference_fn(*args: str, **kwargs: str) -> dict[str, str]:
            (answer,) = self._answer([signature.bind(*args, **kwargs).arguments])
            return answer

        def batch_fn(inputs: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
            return self._answer([signature.bind(**fields).arguments for fields in inputs])

        def explain_fn(*args: str, **kwargs: str) -> dict[str, Any]:
            fields = signature.bind(*args, **kwargs).arguments
            _check_texts(fields)
            return self.explain(tuple(fields.values()))

        for name, value in (("batch_fn", batch_fn), ("explain_fn", explain_fn), ("info", dict(self.info))):
            setattr(inference_fn, name, value)
        inference_fn.__signature__ = explain_fn.__signature__ = signature  # type: ignore[attr-defined]
        return inference_fn

    def _answer(self, inputs: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        for fields in inputs:
            _check_texts(fields)
        probabilities = self.predict([tuple(fields.values()) for fields in inputs])  # type: ignore[misc]
        return [self._format_answer(fields, row) for fields, row in zip(inputs, probabilities, strict=True)]

    def _format_answer(self, fields: Mapping[str, str], probabilities: np.ndarray) -> dict[str, str]:
        decimals = DECIMALS[len(fields)]
        answer = {**fields, "prediction": self.labels[int(probabilities.argmax())]}
        shown = [
            (*get_short_names(label), round(float(p), decimals))
            for label, p in zip(self.labels, probabilities, strict=True)
        ]
        if len(shown) == 2:  # the book names the positive class first
            shown.reverse()
        answer |= {f"{english}_data": f"{korean} {p}" for korean, english, p in shown}
        return answer | {f"{english}_width": f"{round(p * 100, 2)}%" for _, english, p in shown}


def _check_texts(fields: Mapping[str, str]) -> None:
    for name, text in fields.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name}: 내용이 있는 문장을 기대했지만 비어 있습니다. 문장을 입력해 주세요.")
