"""How is it used? A classifier becomes `predict(texts)` and the inference function of the book."""

import copy
import inspect
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

import numpy as np
import torch
from tqdm.auto import tqdm

from nlpbook_helpers.corpora import ClassificationExample, get_short_names
from nlpbook_helpers.encoders import load_tokenizer as load_tokenizer  # a public name of this room
from nlpbook_helpers.features import predict_probabilities
from nlpbook_helpers.restoring import restore
from nlpbook_helpers.runtime import supports_bfloat16
from nlpbook_helpers.tokenizing import Features, encode_examples, find_mostly_unknown
from nlpbook_helpers.values import is_blank, normalize_text

Backend = Literal["auto", "torch", "onnx"]
DECIMALS = {1: 4, 2: 2}  # of the probabilities in the book's answers
CHUNK = 2_048  # texts scored at once by `predict`: sorted by length together, and a step of its bar
MOST_SHOWN = 200  # characters of all labels together
NUMBER_DECIMALS = 6  # of those for programs: more would be noise of 32-bit floating point
REMARK = "글의 대부분이 이 모델이 모르는 글자여서, 이 답은 믿기 어렵습니다."

_tokenizing = threading.Lock()  # a fast tokenizer changes its truncation while it is called


def make_answer_keys(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Return what an answer calls each label: a name to show, and a word to begin keys with, no two alike.

    "긍정 (positive)" gives ("긍정", "positive"). Where several labels share the word in brackets, the word before it
    tells them apart, else the whole label, else its position.

    Args:
        labels: As readers see them.

    Returns:
        (name, key) of each label, in order.
    """
    short = [get_short_names(label) for label in labels]
    names = [name for name, _ in short]
    shown = names if len(set(names)) == len(names) else list(labels)
    for keys in ([key for _, key in short], names, labels):
        if len(set(keys)) == len(keys):
            return list(zip(shown, keys, strict=True))
    return [(label, f"{label} {position}") for position, label in enumerate(labels)]


@dataclass(eq=False, repr=False)  # a model has no equal, and would fill the screen
class Classifier:
    """A fine-tuned model, its tokenizer and its labels; made by `Classifier.from_checkpoint`.

    Attributes:
        model: The Hugging Face model, in the precision of this machine.
        scorer: What answers: `model`, or its 8-bit graph in ONNX Runtime; see `choose_scorer`.
        labels: What readers see, "긍정 (positive)", in the order of the model's outputs.
        input_names: Names of the texts that one answer needs.
        max_seq_length: Tokens that the model reads at once.
        stride: Tokens that the windows of a longer text share; None where it is cut.
        info: What a page says below: `model`, `checkpoint`, `score`, `limits`.
        text_columns: What the columns of its training's files were called; empty if that is not known.
        examples: Texts to try it on, a tuple of as many as it reads: of its validation data, answered rightly.
    """

    model: Any
    tokenizer: Any
    labels: list[str]
    input_names: tuple[str, ...]
    max_seq_length: int
    stride: int | None = None
    info: dict[str, str] = field(default_factory=dict)
    text_columns: tuple[str, ...] = ()
    backend: InitVar[Backend] = "auto"
    examples: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self, backend: Backend) -> None:
        self.model.eval()
        self.scorer = self.model
        if backend != "torch":
            from nlpbook_helpers.exporting.onnx import choose_scorer  # optional: PyTorch answers without it

            self.scorer = choose_scorer(self.model, backend)
        longer = "뒤를 자릅니다" if self.stride is None else "창으로 나누어 평균합니다"
        self.info = {**self.info, "limits": f"한 번에 {self.max_seq_length}토큰까지 읽고, 더 긴 글은 {longer}"}
        self._settle()

    def _settle(self) -> None:
        """Adapt to the machine: bfloat16 is half the memory traffic, and moves probabilities by less than 0.01."""
        dtype = torch.bfloat16 if supports_bfloat16() else torch.float32
        self.model.to("cuda" if torch.cuda.is_available() else self.model.device, dtype)

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process, or machine, with the weights on the CPU."""
        model = copy.deepcopy(self.model).cpu() if self.model.device.type != "cpu" else self.model
        return {**vars(self), "model": model, "scorer": model if self.scorer is self.model else self.scorer}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if torch.cuda.is_available():  # here the model is faster than its 8-bit graph
            self.scorer = self.model
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
        for name, value in (("max_seq_length", max_seq_length), ("stride", stride)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) and value not in (None, "auto"):
                raise ValueError(f"{name}: expected a whole number of tokens, got {value!r}")
        parts = restore(checkpoint, pretrained_model_name, max_seq_length, trust_remote_code)
        names, length = parts.input_names, parts.max_seq_length
        most = length - parts.tokenizer.num_special_tokens_to_add() - 1
        stride = min(length // 4, most) if stride == "auto" else stride
        if stride is not None and not 0 <= stride <= most:
            raise ValueError(f"stride: expected 0 to {most} tokens for max_seq_length={length}, got {stride!r}")
        stride = stride if len(names) == 1 else None
        examples = tuple(tuple(one) for one in parts.metadata.get("examples", ()) if len(one) == len(names))
        own = (parts.model, parts.tokenizer, parts.labels, names, length, stride, parts.info, parts.text_columns)
        return cls(*own, backend, examples)

    def predict(self, texts: Any) -> Any:
        """Score many texts.

        Args:
            texts: Strings, pairs of strings for two inputs, or a DataFrame with columns as in training or the inputs'.

        Returns:
            float32, (texts, labels): probabilities in the order of `labels`. For a DataFrame a copy of it with the
            columns that `nlpbook predict` adds: `predicted_label`, `predicted_name` and `probability_…`.

        Raises:
            ValueError: A text is no string or an empty one, the number of texts is wrong, or a column is missing.
            CheckpointError: The model answers something that is not a number.
        """
        if hasattr(texts, "columns"):
            return self._predict_frame(texts)
        if not isinstance(texts, Iterable) or isinstance(texts, str | bytes | Mapping | Set):
            raise ValueError(f"texts: expected a list of texts, got {type(texts).__name__}: put them into a list")
        rows = (text if isinstance(text, tuple | list) else (text,) for text in texts)
        examples = [self.make_example(row, position) for position, row in enumerate(rows)]
        # all are checked before the first is scored; the bar is for those who would wait longer than a moment
        starts = tqdm(range(0, len(examples), CHUNK), "predict", delay=2, leave=False, unit_scale=CHUNK, unit="text")
        answers = [predict_probabilities(self.scorer, self.encode(examples[start : start + CHUNK])) for start in starts]
        return np.concatenate([np.zeros((0, len(self.labels)), np.float32), *answers])

    def _predict_frame(self, frame: Any) -> Any:
        known = [list(names) for names in (self.text_columns, self.input_names) if names]
        if not (columns := next((names for names in known if set(names) <= set(frame.columns)), None)):
            wanted = " or ".join(map(str, known))
            raise ValueError(f"texts: expected columns {wanted}, got {list(frame.columns)}: rename them")
        rows = list(frame[columns].itertuples(index=False, name=None))
        probabilities, keys = self.predict(rows), make_answer_keys(self.labels)
        best = probabilities.argmax(axis=1)
        added = {"predicted_label": best, "predicted_name": [self.labels[one] for one in best]}
        added |= {f"probability_{key}": column for (_, key), column in zip(keys, probabilities.T, strict=True)}
        if taken := [name for name in added if name in frame]:
            raise ValueError(f"texts: expected no columns {taken}, which are added: rename them")
        return frame.assign(**added)

    def _list_facts(self) -> dict[str, str]:
        labels = shorten(", ".join(self.labels), MOST_SHOWN, placeholder=f" … ({len(self.labels)})")
        return {"labels": labels, "texts": ", ".join(self.input_names), **self.info}

    def __repr__(self) -> str:
        return f"Classifier({'; '.join(f'{name}: {value}' for name, value in self._list_facts().items())})"

    def _repr_html_(self) -> str:
        import pandas as pd  # a second, which a server need not spend

        return pd.Series(self._list_facts()).to_frame().to_html(header=False)

    def make_example(self, texts: Sequence[str], row: int = 0) -> ClassificationExample:
        """Return the texts of one input, checked and in one Unicode form.

        Raises:
            ValueError: The number of texts is wrong, or one is no string or an empty one; the message says which row.
        """
        expected = len(self.input_names)
        if len(texts) != expected or not all(isinstance(text, str) for text in texts):
            wanted = f"{expected} text{'s' if expected > 1 else ''} ({', '.join(self.input_names)})"
            raise ValueError(f"texts[{row}]: expected {wanted}, got {texts!r}")
        if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
            raise ValueError(f"texts[{row}]: expected whole characters, got half a surrogate pair: clean the text")
        if any(map(is_blank, texts)):
            raise ValueError(f"texts[{row}]: expected something to read, got {texts!r}: leave it out")
        return ClassificationExample(*map(normalize_text, texts))

    def encode(self, examples: Iterable[ClassificationExample]) -> Features:
        """Tokenize examples as `predict` does: cut, or in windows if there is a `stride`."""
        with _tokenizing:
            return encode_examples(self.tokenizer, examples, {}, self.max_seq_length, self.stride)

    def locate_tokens(self, example: ClassificationExample, window: int) -> Any:
        """Return the tokenizers library's own encoding of one window: its offsets, its sequence_ids and more."""
        texts = [[text] for text in (example.text_a, example.text_b) if text is not None]
        windows = {} if self.stride is None else {"stride": self.stride, "return_overflowing_tokens": True}
        with _tokenizing:
            encoded = self.tokenizer(*texts, truncation=True, max_length=self.max_seq_length, **windows)
        return encoded.encodings[window]

    def explain(self, texts: str | Sequence[str], label: str | None = None) -> dict[str, Any]:
        """Say which pieces of a text, or of a pair, drove the answer; see `explaining.explain`."""
        from nlpbook_helpers.explaining import explain

        return explain(self, (texts,) if isinstance(texts, str) else tuple(texts), label)

    @property
    def inference_fn(self) -> Callable[..., dict[str, Any]]:
        """The book's inference function: `inference_fn(sentence)` or `inference_fn(premise, hypothesis)`.

        It returns its inputs (in Unicode's form NFC), the `prediction`, and for each label `…_data` ("긍정 0.9876") and
        `…_width` ("98.76%"); for programs the same as numbers, `label` and `probabilities` ({label: float}); a text
        that the tokenizer hardly knows is answered with a `remark`. Its signature names the inputs; the web page makes
        its form from it.

        Attributes of the function, for a web service: `batch_fn(inputs)` answers many inputs, dicts by input name, at
        once; `explain_fn(sentence=…)` is `explain`, where there is one; `info` is the classifier's.
        """
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        signature = inspect.Signature([inspect.Parameter(name, kind, annotation=str) for name in self.input_names])

        def bind(*args: str, **kwargs: str) -> tuple[str, ...]:
            fields = signature.bind(*args, **kwargs).arguments
            for name, text in fields.items():
                if not isinstance(text, str) or is_blank(text):
                    raise ValueError(f"{name}: 내용이 있는 문장을 기대했지만 비어 있습니다. 문장을 입력해 주세요.")
            return tuple(fields.values())

        def inference_fn(*args: str, **kwargs: str) -> dict[str, Any]:
            return self._answer([bind(*args, **kwargs)])[0]

        def batch_fn(inputs: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
            return self._answer([bind(**fields) for fields in inputs])

        def explain_fn(*args: str, **kwargs: str) -> dict[str, Any]:
            return self.explain(bind(*args, **kwargs))

        known: dict[str, Any] = {"batch_fn": batch_fn, "info": dict(self.info), "examples": self.examples}
        # what a tokenizer and an encoder must be able to do for it
        if self.tokenizer.is_fast and "inputs_embeds" in inspect.signature(self.model.forward).parameters:
            known["explain_fn"] = explain_fn
        vars(explain_fn)["__signature__"] = signature
        vars(inference_fn).update(known, __signature__=signature)
        return inference_fn

    def _answer(self, inputs: Sequence[tuple[str, ...]]) -> list[dict[str, Any]]:
        examples = [self.make_example(texts, row) for row, texts in enumerate(inputs)]
        features = self.encode(examples)
        probabilities = predict_probabilities(self.scorer, features)
        answers = [self._format_answer(*answer) for answer in zip(examples, probabilities, strict=True)]
        for row in np.flatnonzero(find_mostly_unknown(self.tokenizer, features)):
            answers[row]["remark"] = REMARK
        return answers

    def _format_answer(self, example: ClassificationExample, probabilities: np.ndarray) -> dict[str, Any]:
        fields, best = dict(zip(self.input_names, example, strict=False)), int(probabilities.argmax())
        rounded = [round(float(p), DECIMALS[len(fields)]) for p in probabilities]
        keys = make_answer_keys(self.labels)
        shown = list(zip(keys, rounded, strict=True))
        if len(shown) == 2:  # the book names the positive class first
            shown.reverse()
        answer: dict[str, Any] = {**fields, "prediction": self.labels[best]}
        answer |= {f"{key}_data": f"{name} {p}" for (name, key), p in shown}
        answer |= {f"{key}_width": f"{round(p * 100, 2)}%" for (_, key), p in shown}
        # labels that read alike would be one key, and their probabilities not sum to one
        is_clear = len(set(self.labels)) == len(self.labels)
        names = self.labels if is_clear else [key for _, key in keys]
        numbers = [round(float(p), NUMBER_DECIMALS) for p in probabilities]
        return answer | {"label": names[best], "probabilities": dict(zip(names, numbers, strict=True))}
