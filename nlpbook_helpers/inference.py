"""How is it used? A checkpoint becomes predict(texts) and the inference function of the book."""

import inspect
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from nlpbook_helpers.checkpoints import (
    METADATA_KEY,
    CheckpointError,
    find_best_checkpoint,
    is_same_encoder,
    load_checkpoint,
)
from nlpbook_helpers.corpora import ClassificationExample, KlueNLICorpus, NsmcCorpus, get_short_names
from nlpbook_helpers.evaluation import predict_probabilities
from nlpbook_helpers.features import encode_examples
from nlpbook_helpers.runtime import supports_bfloat16

INPUT_NAMES = {1: ("sentence",), 2: ("premise", "hypothesis")}
DECIMALS = {1: 4, 2: 2}  # of the probabilities in the book's answers
DEFAULT_MAX_SEQ_LENGTH = 128


class Classifier:
    """A fine-tuned model, its tokenizer and its labels.

    Make one with `Classifier.from_checkpoint`.

    Attributes:
        labels: What readers see, "긍정 (positive)", in the order of the model's outputs.
        input_names: Names of the texts that one answer needs.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        labels: Sequence[str],
        input_names: Sequence[str],
        max_seq_length: int,
    ):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.labels = list(labels)
        self.input_names = tuple(input_names)
        self.max_seq_length = max_seq_length
        if torch.cuda.is_available():
            self.model.to("cuda")
        if supports_bfloat16():  # half the memory traffic; probabilities move by less than 0.01
            self.model.to(torch.bfloat16)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: str | Path,
        pretrained_model_name: str | None = None,
        max_seq_length: int | None = None,
    ) -> "Classifier":
        """Load a classifier.

        Args:
            checkpoint: A Lightning checkpoint file, a folder of them (the best is chosen), or a Hugging Face folder.
            pretrained_model_name: The encoder; needed only for a bare `{"state_dict": …}` file.
            max_seq_length: Tokens per text; default: as in training.

        Raises:
            CheckpointError: Nothing there, unreadable, unsafe, of another encoder, or weights that do not fit.
        """
        path = Path(checkpoint).expanduser()
        if max_seq_length is not None and max_seq_length < 5:
            raise ValueError(f"max_seq_length: expected at least 5 tokens, got {max_seq_length}")
        if path.is_dir() and not list(path.glob("*.ckpt")) and (path / "config.json").is_file():
            return cls._from_hugging_face(path, max_seq_length)
        if path.is_dir() or not path.exists():
            path = find_best_checkpoint(path, pretrained_model_name)
        content = load_checkpoint(path)
        metadata = content.get(METADATA_KEY, {})
        encoder = metadata.get("pretrained_model_name")
        if encoder and pretrained_model_name and not is_same_encoder(encoder, pretrained_model_name):
            raise CheckpointError(
                f"{path} was trained from {encoder}, got pretrained_model_name={pretrained_model_name!r}: leave it "
                "out, or choose a checkpoint of that encoder"
            )
        weights = {name.removeprefix("model."): tensor for name, tensor in content["state_dict"].items()}
        config, tokenizer = _restore_encoder(path, metadata, pretrained_model_name)
        config.num_labels = _count_labels(path, weights)
        labels, input_names = _get_names(path, metadata, config)
        model = _build_model(path, config, weights)
        length = max_seq_length or metadata.get("max_seq_length", DEFAULT_MAX_SEQ_LENGTH)
        return cls(model, tokenizer, labels, input_names, min(length, tokenizer.model_max_length))

    @classmethod
    def _from_hugging_face(cls, folder: Path, max_seq_length: int | None) -> "Classifier":
        try:
            model, loaded = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=torch.float32, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder} is not a classifier in Hugging Face layout: {error}") from error
        if loaded["missing_keys"]:
            raise CheckpointError(
                f"expected a fine-tuned classifier in {folder}, found no {sorted(loaded['missing_keys'])}: it is a "
                "bare encoder; fine-tune it first"
            )
        labels, input_names = _get_names(folder, getattr(model.config, "nlpbook", {}), model.config)
        length = max_seq_length or DEFAULT_MAX_SEQ_LENGTH
        return cls(model, tokenizer, labels, input_names, min(length, tokenizer.model_max_length))

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
        return predict_probabilities(self.model, encode_examples(self.tokenizer, examples, {}, self.max_seq_length))

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
        """
        parameters = [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str)
            for name in self.input_names
        ]
        signature = inspect.Signature(parameters)

        def inference_fn(*args: str, **kwargs: str) -> dict[str, str]:
            return self._answer(signature.bind(*args, **kwargs).arguments)

        inference_fn.__signature__ = signature  # type: ignore[attr-defined]
        return inference_fn

    def _answer(self, inputs: dict[str, str]) -> dict[str, str]:
        for name, text in inputs.items():
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"{name}: 내용이 있는 문장을 기대했지만 비어 있습니다. 문장을 입력해 주세요.")
        decimals = DECIMALS[len(inputs)]
        (probabilities,) = self.predict([tuple(inputs.values())])  # type: ignore[list-item]
        answer = {**inputs, "prediction": self.labels[int(probabilities.argmax())]}
        shown = [
            (*get_short_names(label), round(float(p), decimals))
            for label, p in zip(self.labels, probabilities, strict=True)
        ]
        if len(shown) == 2:  # the book names the positive class first
            shown.reverse()
        answer |= {f"{english}_data": f"{korean} {p}" for korean, english, p in shown}
        return answer | {f"{english}_width": f"{round(p * 100, 2)}%" for _, english, p in shown}


def _restore_encoder(path: Path, metadata: dict[str, Any], pretrained_model_name: str | None) -> tuple[Any, Any]:
    """Return configuration and tokenizer: from inside the checkpoint, else from the named encoder."""
    if "config" in metadata and "tokenizer_files" in metadata:
        fields = json.loads(metadata["config"])
        with tempfile.TemporaryDirectory() as folder:
            for name, content in metadata["tokenizer_files"].items():
                # a checkpoint may come from anybody: its file names must stay inside the folder
                (Path(folder) / Path(name).name).write_bytes(content.numpy().tobytes())
            tokenizer = AutoTokenizer.from_pretrained(folder)
        return AutoConfig.for_model(fields.pop("model_type"), **fields), tokenizer
    name = pretrained_model_name or metadata.get("pretrained_model_name")
    if not name:
        raise CheckpointError(
            f"{path} holds weights only, not the encoder's name: pass pretrained_model_name='beomi/kcbert-base', "
            "or whichever encoder it was trained from"
        )
    return AutoConfig.from_pretrained(name), AutoTokenizer.from_pretrained(name)


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
    columns = metadata.get("text_columns")
    texts = len(columns) if columns else len(book.text_columns) if book and not metadata else 1
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
