"""How does a checkpoint become a model? Weights, tokenizer, labels and length, whoever wrote the file.

Two kinds of places hold a classifier: a Lightning file, as training writes it, and a Hugging Face folder. Both may come
from strangers, so a configuration is first built without memory (on torch's "meta" device) and compared with the
weights that are really there.
"""

import logging
import os
import re
import reprlib
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from pydantic import BaseModel
from torch.nn.modules.module import register_module_module_registration_hook
from transformers import AutoConfig, AutoModelForSequenceClassification

from nlpbook_helpers.checkpoints import (
    METADATA_KEY,
    CheckpointError,
    check_metadata,
    check_sound,
    load_checkpoint,
)
from nlpbook_helpers.choosing import find_best_checkpoint, is_same_encoder
from nlpbook_helpers.corpora import KlueNLICorpus, NsmcCorpus
from nlpbook_helpers.embedded import expand_home, find_embedded
from nlpbook_helpers.encoders import MOST_LABELS, check_model_name, check_weights, open_tokenizer, read_config
from nlpbook_helpers.features import check_direction, count_positions
from nlpbook_helpers.tokenizing import check_tokenizer
from nlpbook_helpers.values import is_blank

logger = logging.getLogger(__name__)

INPUT_NAMES = {1: ("sentence",), 2: ("premise", "hypothesis")}
DEFAULT_MAX_SEQ_LENGTH = 128
LEAST_SEQ_LENGTH = 5
MOST_MODULES = 3_000  # of an encoder
FIGURES = "figures.json"
LAYER = re.compile(r"\.layers?\.\d+\.")
HANGUL = re.compile("[가-힣]")


class Figures(BaseModel):
    """What a checkpoint scored on a test file, as a .json of its name beside it says, or `figures.json`."""

    test_accuracy: float
    test_macro_f1: float | None = None
    test_examples: int
    test_corpus: str = ""
    train_examples: int = 0


@dataclass(eq=False, repr=False)  # a model has no equal, and would fill the screen
class Restored:
    """All that a classifier is made of.

    Attributes:
        model: A `…ForSequenceClassification`; as restored, in float32 and on the CPU.
        labels: What readers see, "긍정 (positive)", in the order of the model's outputs.
        input_names: Names of the texts that one answer needs.
        max_seq_length: Tokens that the model reads at once.
        info: What a page says of it: `model`, `checkpoint`, and where they are known the `corpus`, its `language`
            ("ko"), how many examples of it it was `trained_on`, and its `accuracy` (0 to 1) on how many it was
            `tested_on`.
        metadata: What the checkpoint records of its training; empty for one of another program.
        figures: What it scored on a test file, if that is known.
    """

    model: Any
    tokenizer: Any
    labels: list[str]
    input_names: tuple[str, ...]
    max_seq_length: int
    info: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    figures: Figures | None = None

    @property
    def text_columns(self) -> tuple[str, ...]:
        """What the texts' columns were called in training; empty if that is not known."""
        return tuple(self.metadata.get("text_columns", ()))


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
    if not str(checkpoint).strip():  # which would be the working folder
        raise CheckpointError(f"checkpoint: expected a file, a folder or a shipped name, as doccls, got {checkpoint!r}")
    path = Path(expand_home(find_embedded(str(checkpoint))))
    try:
        if (path / "config.json").is_file() and not list(path.glob("*.ckpt")):
            model, tokenizer, metadata = _restore_hugging_face(path, trust_remote_code)
        else:
            path = path if path.is_file() else find_best_checkpoint(path, name)
            model, tokenizer, metadata = _restore_lightning(path, name, trust_remote_code)
    except CheckpointError:
        raise
    except Exception as error:  # what tokenizers raises over a damaged file has no other class
        problem = shorten(str(error) or type(error).__name__, 300, placeholder=" …")
        own = f"the encoder that it was trained from, if that is not {name}" if name else "the one it was trained from"
        remedy = f"pass as pretrained_model_name {own}, or copy, export or train it once more"
        raise CheckpointError(f"{path} does not make a classifier ({problem}): {remedy}") from error
    check_sound(path, metadata, model.state_dict())
    check_tokenizer(model, tokenizer)
    labels, input_names = _get_names(path, metadata, model.config)
    length = _choose_length(metadata.get("max_seq_length") if length is None else length, model, tokenizer)
    encoder, figures = metadata.get("pretrained_model_name") or name or model.config.model_type, _read_figures(path)
    info = _describe(path, encoder, metadata, figures)
    # what was read in training says the language; where nothing of it is recorded, the labels may
    info["language"] = "ko" if HANGUL.search(str(metadata.get("examples") or labels)) else None
    return Restored(model, tokenizer, labels, input_names, length, info, metadata, figures)


def _restore_lightning(path: Path, name: str | None, trust_remote_code: bool) -> tuple[Any, Any, dict[str, Any]]:
    """Return model, tokenizer and metadata of a checkpoint file.

    Code is never taken from a checkpoint, nor from a repository that only the checkpoint names.
    """
    content = load_checkpoint(path)
    metadata = content.get(METADATA_KEY, {})
    settings, files = metadata.pop("config", None), metadata.pop("tokenizer_files", None)
    recorded = metadata.get("pretrained_model_name")
    encoder, is_trusted = name or recorded, trust_remote_code and name is not None
    if not encoder:
        raise CheckpointError(f"{path} holds weights only: pass pretrained_model_name, such as 'beomi/kcbert-base'")
    if not is_same_encoder(recorded, encoder):
        raise CheckpointError(f"{path} was trained from {recorded}, got pretrained_model_name={name!r}: leave it out")
    if metadata.get("tokenizer_is_code") and not is_trusted:
        how = f"pass pretrained_model_name={encoder!r} (or its folder here) and trust_remote_code=True"
        raise CheckpointError(f"{path} needs the tokenizer of {encoder}, which is Python code: if you trust it, {how}")
    with tempfile.TemporaryDirectory() as own:
        for file, content_of_file in (files or {}).items():  # a stranger's names of files must stay inside the folder
            Path(own, Path(file).name).write_bytes(content_of_file.numpy().tobytes())
        if files is not None:
            place, is_trusted = own, False
        elif (path.parent / "tokenizer.json").is_file():  # as it is beside those that ship
            place, is_trusted = str(path.parent), False
        else:
            place = encoder = find_embedded(encoder)
        if settings is None or place == encoder:
            check_model_name(encoder)
        if settings is None:
            config = AutoConfig.from_pretrained(encoder, trust_remote_code=False)
        else:
            config = read_config(path, settings)
        tokenizer = open_tokenizer(place, is_trusted)
    # whatever a task called its model, as `net`; torch.compile adds a name of its own
    weights = {name.replace("_orig_mod.", ""): tensor for name, tensor in content["state_dict"].items()}
    begin = os.path.commonprefix([*weights]).rfind(".") + 1
    return _build_model(path, config, {name[begin:]: one for name, one in weights.items()}), tokenizer, metadata


def _restore_hugging_face(folder: Path, trust_remote_code: bool) -> tuple[Any, Any, dict[str, Any]]:
    """Return model, tokenizer and metadata of a Hugging Face folder."""
    config = read_config(folder, (folder / "config.json").read_text(encoding="utf-8-sig"))
    # another head's weights may bear the names of a classifier's
    if others := [head for head in config.architectures or () if not head.endswith("ForSequenceClassification")]:
        raise CheckpointError(f"{folder}: expected a …ForSequenceClassification, got {others}: fine-tune one from it")
    size = sum(file.stat().st_size for file in folder.iterdir() if file.suffix in (".safetensors", ".bin"))
    _check_config(folder, config, most_numbers=size)  # a byte for each, at least
    check_weights(folder)
    model, loaded = AutoModelForSequenceClassification.from_pretrained(
        folder, config=config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
    )
    left = [name for name in loaded["unexpected_keys"] if LAYER.search(name)]  # a spare pooler is usual, a layer is not
    if odd := sorted([*left, *(name for name, *_ in loaded["mismatched_keys"])]):
        found = f"found {reprlib.repr(odd)} in another size or besides"
        raise CheckpointError(f"{folder}: expected the weights that config.json describes, {found}: copy it once more")
    if missing := sorted(loaded["missing_keys"]):
        raise CheckpointError(f"expected a fine-tuned classifier in {folder}, found no {missing}: it is a bare encoder")
    metadata = getattr(model.config, METADATA_KEY, {})
    check_metadata(folder, metadata)
    # fine-tuned again by another program, which keeps what it does not know: then it speaks of the training before
    is_stale = metadata.get("label_names") not in (None, list(model.config.id2label.values()))
    return model, open_tokenizer(folder, trust_remote_code), {} if is_stale else metadata


def _check_config(path: Path, config: Any, most_numbers: int) -> None:
    """Refuse a classifier without end, of more numbers than are there, or that does not answer at its first token.

    Encoders call their last layer `classifier`; decoders and encoder-decoders, which answer at a text's end, do not.
    """
    modules = count()

    def stop(*ignored: Any) -> None:  # whatever its numbers are called
        if next(modules) > MOST_MODULES:
            raise CheckpointError(f"{path}: expected an encoder's configuration, got over {MOST_MODULES:,} parts")

    with register_module_module_registration_hook(stop), torch.device("meta"):  # which takes no memory
        empty = AutoModelForSequenceClassification.from_config(config)
    name, kind = type(empty).__name__, config.problem_type or "single_label_classification"
    if kind != "single_label_classification" or config.num_labels < 2:
        found = f"got {kind} with num_labels={config.num_labels}: use transformers' pipeline for it"
        raise CheckpointError(f"{path}: expected a classifier that picks one of two labels or more, {found}")
    if not hasattr(empty, "classifier"):
        raise CheckpointError(
            f"expected an encoder such as BERT, RoBERTa, ELECTRA or DistilBERT in {path}, got {name}: "
            "decoders (GPT-2, Llama) and encoder-decoders (T5, BART) are not served"
        )
    check_direction(path, empty)
    if (wanted := empty.num_parameters()) > most_numbers:
        expected = f"expected the {wanted:,} numbers of {name}, got {most_numbers:,} at most"
        raise CheckpointError(f"{path}: {expected}: copy it once more, or fine-tune it if it is a bare encoder")


def _build_model(path: Path, config: Any, weights: Mapping[str, torch.Tensor]) -> Any:
    """Return the classifier with these weights, in float32."""
    bias = weights.get("classifier.bias", weights.get("classifier.out_proj.bias"))
    if bias is not None:
        config.num_labels = min(bias.numel(), MOST_LABELS)  # of more, the weights do not fit
    _check_config(path, config, sum(tensor.numel() for tensor in weights.values()))
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    model.load_state_dict(weights)
    return model


def _get_names(path: Path, metadata: Mapping[str, Any], config: Any) -> tuple[list[str], tuple[str, ...]]:
    """Return label names and input names; only a checkpoint that records neither gets the book's."""
    book = {2: NsmcCorpus(), 3: KlueNLICorpus()}.get(config.num_labels)
    own = [config.id2label.get(index, f"LABEL_{index}") for index in range(config.num_labels)]
    if book and not metadata and all(name.startswith("LABEL_") for name in own):
        logger.warning("%s names no labels: taken to be %s", path, ", ".join(book.label_names))
        return book.label_names, INPUT_NAMES[len(book.text_columns)]
    labels, columns = metadata.get("label_names") or metadata.get("labels") or own, metadata.get("text_columns", ())
    names = {label.strip() for label in labels}
    is_one_each = all(
        len(set(one)) == len(one) == config.num_labels for one in (labels, metadata.get("labels", labels))
    )
    if not is_one_each or len(names) < len(labels) or any(map(is_blank, labels)):
        found = f"found {reprlib.repr(labels)}, of labels {reprlib.repr(metadata.get('labels', labels))}"
        raise CheckpointError(f"{path}: expected {config.num_labels} label names to read, one per output, {found}")
    # three labels alone do not make a pair: a topic classifier has them too
    is_nli = {name.lower() for name in own} == {*KlueNLICorpus().labels}
    # what was read counts, not the task: a pair's task may have read hypotheses alone, as in lesson 03
    texts = len(columns) or (2 if is_nli or metadata.get("task") == "pair-classification" else 1)
    if texts not in INPUT_NAMES:
        raise CheckpointError(f"{path}: expected one text_column or two, got {reprlib.repr(columns)}")
    return labels, INPUT_NAMES[texts]


def _choose_length(wanted: int | None, model: Any, tokenizer: Any) -> int:
    """Return the tokens per text: as wanted, if model and tokenizer have room for so many; said aloud, if not."""
    length = DEFAULT_MAX_SEQ_LENGTH if wanted is None else wanted
    length = int(min(length, tokenizer.model_max_length, count_positions(model)))
    if wanted and length < wanted:
        message = "max_seq_length: the encoder reads at most %d tokens at once, got %d: reading %d"
        logger.warning(message, length, wanted, length)
    if length < LEAST_SEQ_LENGTH:
        raise ValueError(f"max_seq_length: expected at least {LEAST_SEQ_LENGTH} tokens, got {length}")
    return length


def _read_figures(path: Path) -> Figures | None:
    """Return the figures that lie beside a checkpoint file, or in a folder; None if there are none of ours."""
    for place in (path / FIGURES,) if path.is_dir() else (path.with_suffix(".json"), path.with_name(FIGURES)):
        with suppress(OSError, ValueError):
            return Figures.model_validate_json(place.read_bytes())
    return None


def _describe(path: Path, encoder: str, metadata: Mapping[str, Any], figures: Figures | None) -> dict[str, Any]:
    """Say what a checkpoint is, what it learned from and how good that is, by its figures, else by its validation."""
    # a folder by its last part: where it lies on this machine is nobody's business
    is_local = Path(encoder).is_absolute() or Path(encoder).is_dir()
    validated_on = int(sum(examples for *_, examples in metadata.get("val_per_class", ())))
    return {
        "model": Path(encoder).name if is_local else encoder,
        "checkpoint": path.name,
        "corpus": metadata.get("corpus"),
        "accuracy": figures.test_accuracy if figures else metadata.get("val_acc"),
        "tested_on": figures.test_examples if figures else validated_on,
        "trained_on": (figures and figures.train_examples) or metadata.get("train_examples"),
    }
