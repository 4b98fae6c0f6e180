"""How does a checkpoint become a model? Weights, tokenizer, labels and length, whoever wrote the file.

Two kinds of places hold a classifier: a Lightning file, as training writes it, and a Hugging Face folder. Both may come
from strangers, so a configuration is first built without memory (on torch's "meta" device) and compared with the
weights that are really there.
"""

import json
import logging
import reprlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch.nn.modules.module import register_module_module_registration_hook
from transformers import AutoConfig, AutoModelForSequenceClassification

from nlpbook_helpers.arguments import find_embedded
from nlpbook_helpers.checkpoints import (
    METADATA_KEY,
    NO_NUMBERS,
    CheckpointError,
    check_metadata,
    find_best_checkpoint,
    is_same_encoder,
    is_sound,
    load_checkpoint,
)
from nlpbook_helpers.corpora import KlueNLICorpus, NsmcCorpus
from nlpbook_helpers.encoders import check_model_name, open_tokenizer
from nlpbook_helpers.features import count_positions
from nlpbook_helpers.tokenizing import check_tokenizer
from nlpbook_helpers.values import is_blank

logger = logging.getLogger(__name__)

INPUT_NAMES = {1: ("sentence",), 2: ("premise", "hypothesis")}
DEFAULT_MAX_SEQ_LENGTH = 128
LEAST_SEQ_LENGTH = 5
# No encoder is near these numbers; a configuration that is would keep us busy for hours before its weights are missed.
MOST_LAYERS, MOST_LABELS, MOST_MODULES, MOST = 1_000, 2**15, 3_000, 2**27


@dataclass
class Restored:
    """All that a classifier is made of.

    Attributes:
        model: A `…ForSequenceClassification` in float32, on the CPU.
        labels: What readers see, in the order of the model's outputs.
        max_seq_length: Tokens per text.
        info: What a page's footer says: `model`, `checkpoint`, and `score` where one is known.
        text_columns: What the texts' columns were called in training; empty if that is not known.
        path: The checkpoint file that was chosen, or the Hugging Face folder.
        metadata: What the checkpoint records of its training; empty for one of another program.
    """

    model: Any
    tokenizer: Any
    labels: list[str]
    input_names: tuple[str, ...]
    max_seq_length: int
    info: dict[str, str]
    text_columns: tuple[str, ...]
    path: Path
    metadata: dict[str, Any]


def restore(
    checkpoint: str | Path, name: str | None = None, length: int | None = None, trust_remote_code: bool = False
) -> Restored:
    """Load what a classifier is made of.

    Args:
        checkpoint: See `Classifier.from_checkpoint`.
        name: Of the encoder, if it is not recorded.
        length: Tokens per text; default: as recorded.
        trust_remote_code: Run tokenizer code.

    Raises:
        CheckpointError: Nothing there, unreadable, unsafe, of another encoder, or weights that do not fit.
        ValueError: Tokenizer and model do not belong together, or `max_seq_length` is too small.
    """
    path = Path(find_embedded(str(checkpoint))).expanduser()
    try:
        if path.is_dir() and not list(path.glob("*.ckpt")) and (path / "config.json").is_file():
            model, tokenizer, metadata = _restore_hugging_face(path, trust_remote_code)
        else:
            path = path if path.is_file() else find_best_checkpoint(path, name)
            model, tokenizer, metadata = _restore_lightning(path, name, trust_remote_code)
    except CheckpointError:
        raise
    except Exception as error:  # what tokenizers raises over a damaged file has no other class
        problem = shorten(str(error) or type(error).__name__, 300, placeholder=" …")
        remedy = "pass the pretrained_model_name that it was trained from, or copy, export or train it once more"
        raise CheckpointError(f"{path} does not make a classifier ({problem}): {remedy}") from error
    if not is_sound(metadata, model.state_dict()):
        raise CheckpointError(f"{path}: {NO_NUMBERS}")
    check_tokenizer(model, tokenizer)
    labels, input_names = _get_names(path, metadata, model.config)
    encoder = metadata.get("pretrained_model_name") or name or model.config.model_type
    is_local = Path(encoder).is_absolute() or Path(encoder).is_dir()
    info = {"model": Path(encoder).name if is_local else encoder, "checkpoint": path.name}
    info |= _describe_score(path, metadata)
    length = _choose_length(metadata.get("max_seq_length") if length is None else length, model, tokenizer)
    columns = tuple(metadata.get("text_columns", ()))
    return Restored(model, tokenizer, labels, input_names, length, info, columns, path, metadata)


def _restore_lightning(path: Path, name: str | None, trust_remote_code: bool) -> tuple[Any, Any, dict[str, Any]]:
    """Return model, tokenizer and metadata of a checkpoint file.

    Code is never taken from a checkpoint, nor from a repository that only the checkpoint names.
    """
    content = load_checkpoint(path)
    metadata = content.get(METADATA_KEY, {})
    recorded, files = metadata.get("pretrained_model_name"), metadata.get("tokenizer_files")
    beside = files is None and (path.parent / "tokenizer.json").is_file()  # as it is with those that ship
    encoder = name or recorded
    if not encoder:
        raise CheckpointError(f"{path} holds weights only: pass pretrained_model_name, such as 'beomi/kcbert-base'")
    if recorded and not is_same_encoder(recorded, encoder):
        raise CheckpointError(f"{path} was trained from {recorded}, got pretrained_model_name={name!r}: leave it out")
    if metadata.get("tokenizer_is_code") and files is None and not (name and trust_remote_code):
        how = f"pass pretrained_model_name={encoder!r} (or its folder here) and trust_remote_code=True"
        raise CheckpointError(f"{path} needs the tokenizer of {encoder}, which is Python code: if you trust it, {how}")
    if "config" not in metadata or (files is None and not beside):
        check_model_name(encoder)
    if "config" in metadata:
        config = _make_config(path, json.loads(metadata["config"]))
    else:
        config = AutoConfig.from_pretrained(encoder, trust_remote_code=False)
    with tempfile.TemporaryDirectory() as folder:
        for file, bytes_of_file in (files or {}).items():
            # a checkpoint may come from anybody: its file names must stay inside the folder
            (Path(folder) / Path(file).name).write_bytes(bytes_of_file.numpy().tobytes())
        known = path.parent if beside else encoder
        place, trusted = (known, trust_remote_code and name is not None) if files is None else (folder, False)
        tokenizer = open_tokenizer(place, trusted)
    weights = {name.removeprefix("model."): tensor for name, tensor in content["state_dict"].items()}
    return _build_model(path, config, weights), tokenizer, metadata


def _restore_hugging_face(folder: Path, trust_remote_code: bool) -> tuple[Any, Any, dict[str, Any]]:
    """Return model, tokenizer and metadata of a Hugging Face folder."""
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    empty = _make_empty_model(folder, _make_config(folder, settings))
    heads = [head for head in settings.get("architectures") or [] if "For" in str(head)]
    if heads and not all(
        str(head).endswith("ForSequenceClassification") for head in heads
    ):  # theirs may bear its names
        raise CheckpointError(f"{folder}: expected a …ForSequenceClassification, got {heads}: fine-tune one from it")
    size = sum(file.stat().st_size for file in folder.iterdir() if file.suffix in (".safetensors", ".bin"))
    if size < empty.num_parameters():  # not even a byte for each
        raise CheckpointError(f"{folder}: expected the weights that config.json describes, found {size:,} bytes")
    model, loaded = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
    )
    if missing := sorted(loaded["missing_keys"]):
        raise CheckpointError(f"expected a fine-tuned classifier in {folder}, found no {missing}: it is a bare encoder")
    tokenizer, metadata = open_tokenizer(folder, trust_remote_code), getattr(model.config, METADATA_KEY, {})
    check_metadata(folder, metadata)
    # fine-tuned again by another program, which keeps what it does not know: then it speaks of the training before
    is_stale = metadata.get("label_names") not in (None, list(model.config.id2label.values()))
    return model, tokenizer, {} if is_stale else metadata


def _make_config(path: Path, settings: Mapping[str, Any]) -> Any:
    """Return a configuration, if its numbers are those of an encoder."""
    for name, number in _find_numbers("", settings):
        limit = MOST_LABELS if name == "num_labels" else MOST_LAYERS if "layer" in name else MOST
        if abs(number) > limit:
            raise CheckpointError(f"{path}: expected a configuration with {name} of at most {limit:,}, got {number:,}")
    return AutoConfig.for_model(**settings)


def _find_numbers(name: str, value: Any) -> Iterator[tuple[str, int]]:
    """Yield the whole numbers of a configuration, however deep they are, and the names that they stand under."""
    if isinstance(value, int):
        yield name, value
    elif isinstance(value, Mapping | list):
        for key, one in value.items() if isinstance(value, Mapping) else ((name, one) for one in value):
            yield from _find_numbers(key, one)


def _make_empty_model(path: Path, config: Any) -> Any:
    """Return a classifier that takes no memory; refuse one without end, or that does not answer at its first token.

    Encoders call their last layer `classifier`; decoders and encoder-decoders, which answer at a text's end, do not.
    """
    modules = count()

    def stop(*ignored: Any) -> None:  # whatever its numbers are called
        if next(modules) > MOST_MODULES:
            raise CheckpointError(f"{path}: expected an encoder's configuration, got over {MOST_MODULES:,} parts")

    with register_module_module_registration_hook(stop), torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    kind = config.problem_type or "single_label_classification"
    if kind != "single_label_classification" or config.num_labels < 2:
        expected = "expected a classifier that picks one of two labels or more"
        found = f"got {kind} with num_labels={config.num_labels}"
        raise CheckpointError(f"{path}: {expected}, {found}: use transformers' pipeline for it")
    if not hasattr(model, "classifier"):
        raise CheckpointError(
            f"expected an encoder such as BERT, RoBERTa, ELECTRA or DistilBERT in {path}, got {type(model).__name__}: "
            "decoders (GPT-2, Llama) and encoder-decoders (T5, BART) are not served"
        )
    return model


def _build_model(path: Path, config: Any, weights: Mapping[str, torch.Tensor]) -> Any:
    """Return the classifier with these weights, in float32."""
    # `classifier.bias`, or `classifier.out_proj.bias`
    biases = [tensor for name, tensor in weights.items() if name.startswith("classifier.") and name.endswith("bias")]
    if biases and (labels := biases[-1].numel()) <= MOST_LABELS:  # else they do not fit
        config.num_labels = labels
    empty = _make_empty_model(path, config)
    if not biases:
        raise CheckpointError(f"{path}: found no classifier.bias: it is a bare encoder; fine-tune it first")
    empty.load_state_dict(weights, assign=True)  # compares, before memory is taken
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    model.load_state_dict(weights)
    return model


def _get_names(path: Path, metadata: Mapping[str, Any], config: Any) -> tuple[list[str], tuple[str, ...]]:
    """Return label names and input names; only a checkpoint that records neither gets the book's."""
    book = {2: NsmcCorpus(), 3: KlueNLICorpus()}.get(config.num_labels)
    own = [config.id2label.get(index, f"LABEL_{index}") for index in range(config.num_labels)]
    is_named = not all(name.startswith("LABEL_") for name in own)
    labels = metadata.get("label_names") or (own if is_named or book is None else book.label_names)
    if not len(set(labels)) == len(labels) == config.num_labels or any(map(is_blank, labels)):
        found = f"found {reprlib.repr(labels)}"
        raise CheckpointError(f"{path}: expected {config.num_labels} label names to read, one per output, {found}")
    if columns := metadata.get("text_columns"):
        texts = len(columns)
    elif book and not is_named and not metadata:
        texts = len(book.text_columns)
    else:  # three labels alone do not make a pair: a topic classifier has them too
        is_nli = {name.lower() for name in own} == set(KlueNLICorpus().get_labels())
        texts = 2 if is_nli or metadata.get("task") == "pair-classification" else 1
    if texts not in INPUT_NAMES:
        raise CheckpointError(f"{path}: expected one text_column or two, got {reprlib.repr(columns)}")
    return list(labels), INPUT_NAMES[texts]


def _choose_length(wanted: int | None, model: Any, tokenizer: Any) -> int:
    """Return the tokens per text: as wanted, if model and tokenizer have room for so many; said aloud, if not."""
    room = min(tokenizer.model_max_length, count_positions(model))
    length = int(min(DEFAULT_MAX_SEQ_LENGTH if wanted is None else wanted, room))
    if wanted and length < wanted:
        message = "max_seq_length: the encoder reads at most %d tokens at once, got %d: reading %d"
        logger.warning(message, length, wanted, length)
    if length < LEAST_SEQ_LENGTH:
        raise ValueError(f"max_seq_length: expected at least {LEAST_SEQ_LENGTH} tokens, got {length}")
    return length


def find_figures(path: Path) -> Path:
    """Return where a checkpoint file or folder has its `figures.json`, if it has one."""
    return (path if path.is_dir() else path.parent) / "figures.json"


def read_figures(path: Path) -> dict[str, Any] | None:
    """Return what a checkpoint scored on a test file: `corpus`, `accuracy`, `examples`, and `trained_on` how many.

    None if there is no `figures.json` beside it, or one of another program.
    """
    try:
        known = json.loads(find_figures(path).read_text(encoding="utf-8"))
        return {
            "corpus": str(known.get("test_corpus", "")),
            "accuracy": float(known["test_accuracy"]),
            "examples": int(known["test_examples"]),
            "trained_on": int(known.get("train_examples", 0)),
        }
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None


def _describe_score(path: Path, metadata: Mapping[str, Any]) -> dict[str, str]:
    """Say what a checkpoint learned from and how good it is, from the figures beside it, else from its validation.

    `score` is Korean; `corpus`, `trained_on` (examples) and `accuracy` (0 to 1) are for a page to put into words.
    """
    described = {"corpus": metadata["corpus"]} if "corpus" in metadata else {}
    accuracy, corpus = metadata.get("val_acc"), metadata.get("corpus", "")
    if known := read_figures(path):
        accuracy, corpus = known["accuracy"], known["corpus"] or corpus
        described["score"] = f"{corpus} 정확도 {100 * accuracy:.1f} % ({known['examples']:,}건)".strip()
        described |= {"trained_on": str(known["trained_on"])} if known["trained_on"] else {}
    elif "val_loss" in metadata:
        described["score"] = f"{corpus} 검증 손실 {metadata['val_loss']:.2f}".strip()
    return described | ({} if accuracy is None else {"accuracy": f"{accuracy:.4f}"})
