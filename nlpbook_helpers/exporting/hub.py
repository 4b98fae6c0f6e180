"""How does a classifier leave? As a folder that every Hugging Face program reads, with a model card."""

import json
import logging
import os
import shutil
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from safetensors import SafetensorError
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from nlpbook_helpers.checkpoints import METADATA_KEY, CheckpointError
from nlpbook_helpers.embedded import expand_home
from nlpbook_helpers.exporting.onnx import write_graph
from nlpbook_helpers.restoring import FIGURES, Restored, restore
from nlpbook_helpers.runtime import create

logger = logging.getLogger(__name__)

TEMPLATE = Path(__file__).parent / "card.md.jinja"
KNOWN_CORPORA = Path(__file__).parent / "corpora.json"  # what can be said about the data from a corpus's name alone
GRAPH_NAME = "onnx/model.onnx"


def export(
    checkpoint: str | Path, folder: str | Path, onnx: bool = False, licence: str | None = None,
    overwrite: bool = False, pretrained_model_name: str | None = None, trust_remote_code: bool = False,
) -> Path:  # fmt: skip
    """Write a classifier in Hugging Face layout: weights in float32 as safetensors, labels, tokenizer and model card.

    `pipeline("text-classification", folder, truncation=True)` loads it and answers alike, `Classifier.from_checkpoint`
    serves it, and as a `pretrained_model_name` it is fine-tuned again.

    Args:
        checkpoint: What `Classifier.from_checkpoint` takes.
        folder: Where to write, whole or not at all.
        onnx: Also write `onnx/model.onnx`, which answers like the model within 0.001 (of a logit).
        licence: For the card, as the Hub spells it, "cc-by-sa-4.0"; default: that of the corpus, if it is known.
        overwrite: Replace what was exported to `folder` before.
        pretrained_model_name: The encoder; needed only for a bare `{"state_dict": …}` file.
        trust_remote_code: Run the tokenizer code of `pretrained_model_name`, and take it along.

    Returns:
        `folder`, absolute.

    Raises:
        CheckpointError: Nothing there, unreadable, unsafe, or of another encoder; or the disk is full.
        FileExistsError: The folder is not empty, or with `overwrite` holds more than an export.
        QuantizationError: The model has no ONNX graph that answers alike.
    """
    folder = Path(expand_home(folder)).resolve()
    _check_target(folder, overwrite)
    parts = restore(checkpoint, pretrained_model_name, trust_remote_code=trust_remote_code)
    try:
        with create(folder) as written:
            _write_model(parts, written, onnx)
            make_card(parts, folder.name, written, licence).save(written / "README.md")
            if folder.exists():
                os.replace(folder, written.with_name("earlier"))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"could not write {folder} ({error}): free some space, or choose another") from error
    logger.info("%s: %s", folder.name, ", ".join(sorted(path.name for path in folder.iterdir())))
    return folder


def _check_target(folder: Path, overwrite: bool) -> None:
    """Refuse to delete what this function has not written."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    foreign = [name for name in names if name != "onnx" and (name.endswith(".ckpt") or (folder / name).is_dir())]
    is_export = "config.json" in names and not foreign
    if folder.is_file() or names and not (is_export and overwrite):
        found = f"which holds {(foreign or names)[0]}" if names else "a file"
        expected = "expected a new or empty folder, or an earlier export and overwrite=True"
        raise FileExistsError(f"folder: {expected}, got {folder}, {found}: choose another")


def _write_model(parts: Restored, folder: Path, onnx: bool) -> None:
    """Write weights, configuration, tokenizer and figures."""
    config = parts.model.eval().config
    config.id2label = dict(enumerate(parts.labels))
    config.label2id = {label: index for index, label in enumerate(parts.labels)}
    known = {**parts.metadata, "label_names": parts.labels, "max_seq_length": parts.max_seq_length}
    setattr(config, METADATA_KEY, known)
    parts.model.save_pretrained(folder)
    parts.tokenizer.model_max_length = parts.max_seq_length  # where `pipeline(…, truncation=True)` cuts
    parts.tokenizer.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):  # written through a temporary file, which its owner alone may read
        shutil.copymode(folder / "config.json", weights)
    if parts.figures:
        (folder / FIGURES).write_text(parts.figures.model_dump_json(), encoding="utf-8")
    if onnx:
        (folder / GRAPH_NAME).parent.mkdir()
        write_graph(parts.model, folder / GRAPH_NAME)


def make_card(parts: Restored, name: str, folder: Path, licence: str | None = None) -> ModelCard:
    """Return a model card: YAML that the Hub reads, then Markdown; both are laid out in `card.md.jinja`.

    Args:
        parts: The classifier; what its checkpoint does not record is left out.
        name: Of the folder, as it will be called.
        folder: Where the rest has been written.
        licence: Default: that of the corpus, else "unknown".
    """
    metadata, encoder, figures = parts.metadata, parts.info["model"], parts.figures
    corpus = json.loads(KNOWN_CORPORA.read_text(encoding="utf-8")).get(metadata.get("corpus"), {})
    licence = licence or corpus.get("licence", "unknown")
    dataset, hub_name = corpus.get("title") or metadata.get("corpus", "unknown"), corpus.get("hub_name")
    measured = {"accuracy": metadata.get("val_acc"), "f1": metadata.get("val_macro_f1")}
    if figures:
        measured = {"accuracy": figures.test_accuracy, "f1": figures.test_macro_f1}
    results = [
        EvalResult("text-classification", hub_name or dataset, dataset, metric, round(value, 4),
                   dataset_split="test" if figures else "validation")
        for metric, value in measured.items() if value is not None
    ]  # fmt: skip
    card_data = ModelCardData(
        language="ko" if corpus else parts.info["language"], license=licence, library_name="transformers",
        pipeline_tag="text-classification", tags=[metadata["task"]] if "task" in metadata else None,
        base_model=encoder if "/" in encoder else None,  # else it is a folder that only its owner has
        datasets=[hub_name] if hub_name else None, metrics=[one.metric_type for one in results] or None,
        model_name=name if results else None, eval_results=results or None,
    )  # fmt: skip
    return ModelCard.from_template(
        card_data, str(TEMPLATE), parts=parts, name=name, corpus=corpus, figures=figures, licence=licence,
        has_code="auto_map" in get_tokenizer_config(folder), has_graph=(folder / GRAPH_NAME).is_file(),
        parameters=parts.model.num_parameters(), quote=lambda value: json.dumps(value, ensure_ascii=False),
    )  # fmt: skip
