"""How does a checkpoint become a model? Weights, tokenizer, labels and length, whoever wrote the file."""

import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

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
from nlpbook_helpers.corpora import KlueNLICorpus, NsmcCorpus
from nlpbook_helpers.features import check_tokenizer

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
