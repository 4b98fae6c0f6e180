"""How does it leave? A checkpoint becomes a folder that every Hugging Face program reads, with a model card."""

import logging
import os
import shutil
import tempfile
from pathlib import Path

from safetensors import SafetensorError

from nlpbook_helpers.cards import make_card
from nlpbook_helpers.checkpoints import METADATA_KEY, CheckpointError
from nlpbook_helpers.quantization import write_graph
from nlpbook_helpers.restoring import FIGURES_NAME, Restored, restore

logger = logging.getLogger(__name__)

GRAPH_NAME = "onnx/model.onnx"
NOT_KEPT = ("tokenizer_files", "config")  # of the metadata: they become files of their own


def export(
    checkpoint: str | Path,
    folder: str | Path,
    onnx: bool = False,
    licence: str | None = None,
    overwrite: bool = False,
    pretrained_model_name: str | None = None,
    trust_remote_code: bool = False,
) -> Path:
    """Write a classifier in Hugging Face layout: weights in float32 as safetensors, labels, tokenizer and model card.

    `pipeline("text-classification", folder, truncation=True)` loads it and answers alike, `Classifier.from_checkpoint`
    serves it, and as a `pretrained_model_name` it is fine-tuned again.

    Args:
        checkpoint: What `Classifier.from_checkpoint` takes.
        folder: Where to write; it comes into being whole or not at all.
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
    folder = Path(folder).expanduser().resolve()
    _check_target(folder, overwrite)
    parts = restore(checkpoint, pretrained_model_name, trust_remote_code=trust_remote_code)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as work_dir:
            written = Path(work_dir) / "written"
            _write(parts, written, onnx)
            (written / "README.md").write_text(make_card(parts, folder.name, licence, onnx), encoding="utf-8")
            if folder.exists():
                os.replace(folder, Path(work_dir) / "earlier")
            os.replace(written, folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"could not write {folder} ({error}): free some space, or choose another folder"
        ) from error
    logger.info("%s: %s", folder.name, ", ".join(sorted(path.name for path in folder.iterdir())))
    return folder


def _check_target(folder: Path, overwrite: bool) -> None:
    """Refuse to delete what this function has not written."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"folder: expected a new folder, got the file {folder}: choose another name")
    names = sorted(path.name for path in folder.iterdir())
    foreign = [
        path.name for path in folder.iterdir() if path.suffix == ".ckpt" or path.is_dir() and path.name != "onnx"
    ]
    if names and not overwrite:
        raise FileExistsError(
            f"folder: expected a new or empty folder, got {folder}, which holds {names[0]} and {len(names) - 1} more: "
            "choose another, or replace it with overwrite=True"
        )
    if names and (foreign or "config.json" not in names):
        raise FileExistsError(
            f"folder: overwrite=True replaces an earlier export, but {folder} holds {(foreign or names)[0]}, which no "
            "export writes: choose another folder"
        )


def _write(parts: Restored, folder: Path, onnx: bool) -> None:
    model, tokenizer = parts.model.eval(), parts.tokenizer
    model.config.id2label = dict(enumerate(parts.labels))
    model.config.label2id = {label: index for index, label in enumerate(parts.labels)}
    kept = {name: value for name, value in parts.metadata.items() if name not in NOT_KEPT}
    setattr(model.config, METADATA_KEY, {**kept, "label_names": parts.labels, "max_seq_length": parts.max_seq_length})
    model.save_pretrained(folder)
    tokenizer.model_max_length = parts.max_seq_length  # where `pipeline(…, truncation=True)` cuts
    tokenizer.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):  # written through a temporary file, which its owner alone may read
        shutil.copymode(folder / "config.json", weights)
    figures = (parts.path if parts.path.is_dir() else parts.path.parent) / FIGURES_NAME
    if figures.is_file():
        shutil.copyfile(figures, folder / FIGURES_NAME)
    if onnx:
        (folder / GRAPH_NAME).parent.mkdir()
        write_graph(model, folder / GRAPH_NAME)
