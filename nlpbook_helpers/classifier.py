"""How does a checkpoint become a model? Weights, tokenizer, labels and length, whoever wrote the file.

How is it used? A checkpoint becomes predict(texts) and the inference function of the book.
"""

import copy
import inspect
import json
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from nlpbook_helpers.checkpoints import (
    METADATA_KEY,
    CheckpointError,
    find_best_checkpoint,
    is_same_encoder,
    load_checkpoint,
)
from nlpbook_helpers.corpora import ClassificationExample, KlueNLICorpus, NsmcCorpus, get_short_names
from nlpbook_helpers.explaining import explain_window, find_spans, merge_spans
from nlpbook_helpers.exporting.onnx import Backend, choose_scorer
from nlpbook_helpers.features import Features, check_tokenizer, encode_examples, predict_probabilities
from nlpbook_helpers.runtime import supports_bfloat16

INPUT_NAMES = {1: ("sentence",), 2: ("premise", "hypothesis")}
DEFAULT_MAX_SEQ_LENGTH = 128
FIGURES_NAME = "figures.json"


class Restored(NamedTuple):
    """All that a classifier is made of."""

    model: Any
    """A `…ForSequenceClassification` in float32, on the CPU."""
    tokenizer: Any
    labels: list[str]
    """What readers see, in the order of the model's outputs."""
    input_names: tuple[str, ...]
    max_seq_length: int
    """Tokens per text."""
    info: dict[str, str]
    """What a page's footer says: `model`, `checkpoint`, and `score` where one is known."""
    text_columns: tuple[str, ...]
    """What the texts' columns were called in training; empty if that is not known."""
    path: Path
    """The checkpoint file that was chosen, or the Hugging Face folder."""
    metadata: dict[str, Any]
    """What the checkpoint records of its training; empty for one of another program."""


def load_tokenizer(pretrained_model_name: str | Path, trust_remote_code: bool = False) -> Any:
    """Load a tokenizer, also one that comes as Python code, as KoBERT's does, if that is asked for.

    transformers alone would quietly take another tokenizer class where the code is not trusted.

    Args:
        pretrained_model_name: A Hugging Face name or a local folder.
        trust_remote_code: Run the code that lies there.

    Raises:
        ValueError: The tokenizer comes as code and `trust_remote_code` is false.
    """
    code = get_tokenizer_config(pretrained_model_name).get("auto_map")
    if code and not trust_remote_code:
        raise ValueError(
            f"trust_remote_code: the tokenizer of {Path(pretrained_model_name).name} comes as Python code, which would "
            "run here: read that code, and pass trust_remote_code=True if you trust it"
        )
    return AutoTokenizer.from_pretrained(pretrained_model_name, trust_remote_code=trust_remote_code)


def restore(
    checkpoint: str | Path,
    pretrained_model_name: str | None = None,
    max_seq_length: int | None = None,
    trust_remote_code: bool = False,
) -> Restored:
    """Load what a classifier is made of; the arguments are those of `Classifier.from_checkpoint`.

    Raises:
        CheckpointError: Nothing there, unreadable, unsafe, of another encoder, or weights that do not fit.
        ValueError: Tokenizer and model do not belong together.
    """
    path = Path(checkpoint).expanduser()
    if path.is_dir() and not list(path.glob("*.ckpt")) and (path / "config.json").is_file():
        parts = _restore_hugging_face(path, trust_remote_code)
    else:
        if path.is_dir() or not path.exists():
            path = find_best_checkpoint(path, pretrained_model_name)
        parts = _restore_lightning(path, pretrained_model_name, trust_remote_code)
    model, tokenizer, metadata = parts
    check_tokenizer(model, tokenizer)
    labels, input_names = _get_names(path, metadata, model.config)
    length = max_seq_length or metadata.get("max_seq_length", DEFAULT_MAX_SEQ_LENGTH)
    encoder = metadata.get("pretrained_model_name") or pretrained_model_name or model.config.model_type
    is_local = Path(encoder).is_absolute() or Path(encoder).is_dir()
    info = {"model": Path(encoder).name if is_local else encoder, "checkpoint": path.name}
    if score := _describe_score(path, metadata):
        info["score"] = score
    columns = tuple(metadata.get("text_columns") or ())
    length = min(length, tokenizer.model_max_length)
    return Restored(model, tokenizer, labels, input_names, length, info, columns, path, metadata)


def _restore_lightning(
    path: Path, pretrained_model_name: str | None, trust_remote_code: bool
) -> tuple[Any, Any, dict[str, Any]]:
    """Return model, tokenizer and metadata of a checkpoint file."""
    content = load_checkpoint(path)
    metadata = content.get(METADATA_KEY, {})
    encoder = metadata.get("pretrained_model_name")
    if encoder and pretrained_model_name and not is_same_encoder(encoder, pretrained_model_name):
        raise CheckpointError(
            f"{path} was trained from {encoder}, got pretrained_model_name={pretrained_model_name!r}: leave it "
            "out, or choose a checkpoint of that encoder"
        )
    weights = {name.removeprefix("model."): tensor for name, tensor in content["state_dict"].items()}
    config, tokenizer = _restore_encoder(path, metadata, pretrained_model_name, trust_remote_code)
    config.num_labels = _count_labels(path, weights)
    return _build_model(path, config, weights), tokenizer, metadata


def _restore_hugging_face(folder: Path, trust_remote_code: bool) -> tuple[Any, Any, dict[str, Any]]:
    """Return model, tokenizer and metadata of a Hugging Face folder."""
    try:
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
        )
        tokenizer = load_tokenizer(folder, trust_remote_code)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} is not a classifier in Hugging Face layout: {error}") from error
    if loaded["missing_keys"]:
        raise CheckpointError(
            f"expected a fine-tuned classifier in {folder}, found no {sorted(loaded['missing_keys'])}: it is a "
            "bare encoder; fine-tune it first"
        )
    metadata = getattr(model.config, METADATA_KEY, {})
    # fine-tuned again by another program, which keeps what it does not know: then it speaks of the training before
    is_stale = metadata.get("label_names") not in (None, list(model.config.id2label.values()))
    return model, tokenizer, {} if is_stale else metadata


class Figures(NamedTuple):
    """What a checkpoint scored on a test file."""

    corpus: str
    accuracy: float
    examples: int


def read_figures(path: Path) -> Figures | None:
    """Return what `figures.json` beside a checkpoint says; None if there is none, or one of another program."""
    try:
        known = json.loads(((path if path.is_dir() else path.parent) / FIGURES_NAME).read_text(encoding="utf-8"))
        return Figures(str(known.get("test_corpus", "")), float(known["test_accuracy"]), int(known["test_examples"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _describe_score(path: Path, metadata: dict[str, Any]) -> str | None:
    """Say how good a checkpoint is, from the figures beside it, else from its own validation loss; Korean."""
    corpus = metadata.get("corpus", "")
    if figures := read_figures(path):
        return f"{figures.corpus or corpus} 정확도 {100 * figures.accuracy:.1f} % ({figures.examples:,}건)".strip()
    loss = metadata.get("val_loss")
    return None if loss is None else f"{corpus} 검증 손실 {loss:.2f}".strip()


def _restore_encoder(
    path: Path, metadata: dict[str, Any], pretrained_model_name: str | None, trust_remote_code: bool
) -> tuple[Any, Any]:
    """Return configuration and tokenizer: from inside the checkpoint, else from the named encoder.

    Code is never taken from a checkpoint, nor from a repository that only the checkpoint names.
    """
    name = pretrained_model_name or metadata.get("pretrained_model_name")
    if not name:
        raise CheckpointError(
            f"{path} holds weights only, not the encoder's name: pass pretrained_model_name='beomi/kcbert-base', "
            "or whichever encoder it was trained from"
        )
    if "config" in metadata:
        fields = json.loads(metadata["config"])
        config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    else:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    if files := metadata.get("tokenizer_files"):
        with tempfile.TemporaryDirectory() as folder:
            for file, content in files.items():
                # a checkpoint may come from anybody: its file names must stay inside the folder
                (Path(folder) / Path(file).name).write_bytes(content.numpy().tobytes())
            return config, load_tokenizer(folder)
    if metadata.get("tokenizer_is_code") and not (pretrained_model_name and trust_remote_code):
        raise CheckpointError(
            f"{path} needs the tokenizer of {name}, which is Python code, and a checkpoint carries none: pass "
            f"pretrained_model_name={name!r} (or its folder here) and trust_remote_code=True, if you trust that code"
        )
    return config, load_tokenizer(name, trust_remote_code and pretrained_model_name is not None)


def _count_labels(path: Path, weights: dict[str, torch.Tensor]) -> int:
    """Read the number of labels off the classification layer: `classifier.bias`, or `classifier.out_proj.bias`."""
    biases = [tensor for name, tensor in weights.items() if name.startswith("classifier.") and name.endswith("bias")]
    if not biases:
        raise CheckpointError(
            f"expected a fine-tuned classifier in {path}, found no classifier.bias: it is a bare encoder"
        )
    return biases[-1].numel()


def _get_names(path: Path, metadata: dict[str, Any], config: Any) -> tuple[list[str], tuple[str, ...]]:
    """Return label names and input names; a bare checkpoint gets the book's, by its number of labels."""
    book = {2: NsmcCorpus(), 3: KlueNLICorpus()}.get(config.num_labels)
    own = [config.id2label.get(index, f"LABEL_{index}") for index in range(config.num_labels)]
    is_named = not all(name.startswith("LABEL_") for name in own)
    labels = metadata.get("label_names") or (own if is_named or book is None else book.label_names)
    if len(labels) != config.num_labels:
        raise CheckpointError(f"{path}: expected {config.num_labels} label names, one per output, found {labels}")
    if columns := metadata.get("text_columns"):
        texts = len(columns)
    elif is_named:  # three labels alone do not make a pair: a topic classifier has them too
        texts = 2 if any("entailment" in name.lower() for name in own) else 1
    else:
        texts = len(book.text_columns) if book and not metadata else 1
    return list(labels), INPUT_NAMES[texts]


def _build_model(path: Path, config: Any, weights: dict[str, torch.Tensor]) -> Any:
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(
            f"the weights in {path} do not fit the encoder ({first}): pass the pretrained_model_name that it was "
            "trained from"
        ) from error
    return model


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
