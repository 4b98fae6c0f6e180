"""How is it used? A classifier becomes `predict(texts)` and the inference function of the book."""

import copy
import inspect
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import InitVar, dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

import numpy as np
import torch
from tqdm.auto import tqdm

from nlpbook_helpers.corpora import ClassificationExample
from nlpbook_helpers.encoders import load_tokenizer as load_tokenizer  # a public name of this room
from nlpbook_helpers.features import predict_probabilities
from nlpbook_helpers.restoring import Restored, restore
from nlpbook_helpers.runtime import supports_bfloat16
from nlpbook_helpers.tokenizing import Features, encode_examples, find_mostly_unknown
from nlpbook_helpers.values import find_doubt, get_short_names, is_blank, normalize_text

Backend = Literal["auto", "torch", "onnx"]
DECIMALS = {1: 4, 2: 2}  # of the probabilities in the book's answers
CHUNK = 2_048  # texts scored at once by `predict`: sorted by length together, and a step of its bar
MOST_SHOWN = 200  # characters of all labels together
NUMBER_DECIMALS = 6  # of those for programs: more would be noise of 32-bit floating point
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which cannot be written anywhere
REMARK = "글의 대부분이 이 모델이 모르는 글자여서, 이 답은 믿기 어렵습니다."

_tokenizing = threading.Lock()  # a fast tokenizer changes its truncation while it is called


def make_answer_keys(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Return what an answer calls each label: a name to show, and a word to begin keys with, no two alike.

    "긍정 (positive)" gives ("긍정", "positive"). Where several labels share the word in brackets, the word before it
    tells them apart, else the whole label.

    Args:
        labels: As readers see them, no two alike.

    Returns:
        (name, key) of each label, in order.
    """
    names, words = zip(*map(get_short_names, labels), strict=True)
    names = names if len(set(names)) == len(names) else labels
    keys = next(keys for keys in (words, names, labels) if len(set(keys)) == len(keys))
    return list(zip(names, keys, strict=True))


def name_added(labels: Sequence[str]) -> dict[str, str]:
    """Return name and type of the columns that a scored table gets."""
    shares = {f"probability_{key}": "float64" for _, key in make_answer_keys(labels)}
    return {"predicted_label": "int64", "predicted_name": "string"} | shares | {"remark": "string"}


@dataclass(eq=False, repr=False)  # a model has no equal, and would fill the screen
class Classifier(Restored):
    """A fine-tuned model, its tokenizer and its labels; made by `Classifier.from_checkpoint`.

    Attributes:
        model: The Hugging Face model, in the precision of this machine.
        scorer: What answers: `model`, or its 8-bit graph in ONNX Runtime; see `choose_scorer`.
        stride: Tokens that the windows of a longer text share; None where it is cut.
        labels, input_names, max_seq_length, info, text_columns: See `Restored`; `info` says how long texts are read.
    """

    stride: int | None = None
    backend: InitVar[Backend] = "auto"

    def __post_init__(self, backend: Backend) -> None:
        self.model.eval()
        self.scorer = self.model
        if backend != "torch":
            from nlpbook_helpers.exporting.onnx import choose_scorer  # optional: PyTorch answers without it

            self.scorer = choose_scorer(self.model, backend)
        longer = "cut" if self.stride is None else "windows"
        self.info = {**self.info, "max_seq_length": self.max_seq_length, "longer_texts": longer}
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
        cls, checkpoint: str | Path, pretrained_model_name: str | None = None, max_seq_length: int | None = None,
        stride: int | Literal["auto"] | None = "auto", trust_remote_code: bool = False, backend: Backend = "auto",
    ) -> "Classifier":  # fmt: skip
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
        length = parts.max_seq_length
        most = length - parts.tokenizer.num_special_tokens_to_add() - 1
        stride = min(length // 4, most) if stride == "auto" else stride
        if stride is not None and not 0 <= stride <= most:
            raise ValueError(f"stride: expected 0 to {most} tokens for max_seq_length={length}, got {stride!r}")
        return cls(**vars(parts), stride=stride if len(parts.input_names) == 1 else None, backend=backend)

    @property
    def examples(self) -> list[list[str]]:
        """Texts to try it on, as many as it reads: of its validation data, answered rightly."""
        return [texts for texts in self.metadata.get("examples", ()) if len(texts) == len(self.input_names)]

    def predict(self, texts: Any) -> Any:
        """Score many texts.

        Args:
            texts: Strings, pairs of strings for two inputs, or a DataFrame (or a table of Arrow or Polars) with columns
                as in training or the inputs'.

        Returns:
            float32, (texts, labels): probabilities in the order of `labels`. For a DataFrame a copy of it with the
            columns that `nlpbook predict` adds: `predicted_label`, `predicted_name`, `probability_…` and `remark`,
            which is empty unless the tokenizer hardly knows a text, or it is garbled or a word such as `nan`.

        Raises:
            ValueError: A text is no string or an empty one, the number of texts is wrong, or a column is missing.
            CheckpointError: The model answers something that is not a number.
        """
        if hasattr(texts, "columns"):
            return self._predict_frame(texts.to_pandas() if hasattr(texts, "to_pandas") else texts)
        if not isinstance(texts, Iterable) or isinstance(texts, str | bytes | Mapping | Set):
            raise ValueError(f"texts: expected a list of texts, got {type(texts).__name__}: put them into a list")
        return self._score(texts)[0]

    def _score(self, texts: Iterable[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities, float32, (texts, labels), and which are mostly unknown: bool, (texts,)."""
        rows = (text if isinstance(text, tuple | list) else (text,) for text in texts)
        examples = [self.make_example(row, position) for position, row in enumerate(rows)]
        # all are checked before the first is scored; the bar is for those who would wait longer than a moment
        answers, unknown = [np.zeros((0, len(self.labels)), np.float32)], [np.zeros(0, bool)]
        with tqdm(desc="predict", total=len(examples), delay=2, leave=False, unit="text") as bar:
            for start in range(0, len(examples), CHUNK):
                features = self.encode(some := examples[start : start + CHUNK])
                answers.append(predict_probabilities(self.scorer, features))
                unknown.append(find_mostly_unknown(self.tokenizer, features))
                bar.update(len(some))
        return np.concatenate(answers), np.concatenate(unknown)

    def _predict_frame(self, frame: Any) -> Any:
        known = [list(names) for names in (self.text_columns, self.input_names) if names]
        columns = next((names for names in known if set(names) <= set(frame.columns)), None)
        if columns is None:
            wanted = " or ".join(map(str, known))
            raise ValueError(f"texts: expected columns {wanted}, got {list(frame.columns)}: rename them")
        for column in columns:
            empty = [not isinstance(text, str) or is_blank(text) for text in frame[column]]
            if any(empty):
                first = empty.index(True)
                got = f"got {frame[column].iloc[first]!r} in row {frame.index[first]!r}, of {sum(empty):,} such rows"
                remedy = f"fill them in, or leave them out, as frame.dropna(subset={columns}) does with missing ones"
                raise ValueError(f"texts: expected a text in each row of column {column!r}, {got}: {remedy}")
        probabilities, unknown = self._score(frame[columns].itertuples(index=False, name=None))
        best = probabilities.argmax(axis=1)
        texts = frame[columns].itertuples(index=False, name=None)
        remarks, names = [*map(find_doubt, texts, unknown)], [self.labels[one] for one in best]
        added = dict(zip(name_added(self.labels), (best, names, *probabilities.T, remarks), strict=True))
        if taken := [name for name in added if name in frame]:
            raise ValueError(f"texts: expected no columns {taken}, which are added: rename them")
        return frame.assign(**added)

    def _list_facts(self) -> dict[str, Any]:
        labels = shorten(", ".join(self.labels), MOST_SHOWN, placeholder=f" … ({len(self.labels)})")
        facts = {"labels": labels, "texts": ", ".join(self.input_names), **self.info}
        return {name: fact for name, fact in facts.items() if fact}

    def __repr__(self) -> str:
        return f"Classifier({'; '.join(f'{name}: {fact}' for name, fact in self._list_facts().items())})"

    def _repr_html_(self) -> str:
        import pandas as pd  # a second, which a server need not spend

        return pd.Series(self._list_facts()).to_frame().to_html(header=False)

    def make_example(self, texts: Sequence[str], row: int = 0) -> ClassificationExample:
        """Return the texts of one input, checked and in one Unicode form.

        Raises:
            ValueError: The number of texts is wrong, or one cannot be read; the message says which row.
        """
        is_readable = [isinstance(text, str) and not (is_blank(text) or SURROGATE.search(text)) for text in texts]
        if len(texts) != len(self.input_names) or not all(is_readable):
            wanted = f"something to read as {' and '.join(self.input_names)}, in whole characters"
            raise ValueError(f"texts[{row}]: expected {wanted}, got {texts!r}: correct it, or leave it out")
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

    def explain(self, texts: str | Sequence[str]) -> dict[str, Any]:
        """Say which pieces of a text, or of a pair, drove the answer; see `explaining.explain`."""
        from nlpbook_helpers.explaining import explain

        return explain(self, (texts,) if isinstance(texts, str) or texts is None else tuple(texts))

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

        def inference_fn(*args: str, **kwargs: str) -> dict[str, Any]:
            return batch_fn([signature.bind(*args, **kwargs).arguments])[0]

        def batch_fn(inputs: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
            return self._answer([signature.bind(**fields).args for fields in inputs])

        def explain_fn(**fields: str) -> dict[str, Any]:
            return self.explain(signature.bind(**fields).args)

        own = {"batch_fn": batch_fn, "info": dict(self.info), "examples": self.examples, "__signature__": signature}
        # what a tokenizer and an encoder must be able to do for it
        if self.tokenizer.is_fast and "inputs_embeds" in inspect.signature(self.model.forward).parameters:
            own["explain_fn"] = explain_fn
        vars(inference_fn).update(own)
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
        fields, keys = dict(zip(self.input_names, example, strict=False)), make_answer_keys(self.labels)
        shown = [(name, key, round(float(p), DECIMALS[len(fields)]))
                 for (name, key), p in zip(keys, probabilities, strict=True)]  # fmt: skip
        if len(shown) == 2:  # the book names the positive class first
            shown.reverse()
        best = self.labels[int(probabilities.argmax())]
        numbers = [round(float(p), NUMBER_DECIMALS) for p in probabilities]
        return {
            **fields,
            "prediction": best,
            **{f"{key}_data": f"{name} {p}" for name, key, p in shown},
            **{f"{key}_width": f"{round(p * 100, 2)}%" for _, key, p in shown},
            "label": best,
            "probabilities": dict(zip(self.labels, numbers, strict=True)),
        }
