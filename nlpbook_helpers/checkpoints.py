"""What is in a checkpoint, and can it be trusted?

A checkpoint is a file of tensors and primitives: the `state_dict` that Lightning writes, and under the key
`"nlpbook"` what is needed to use it (see `task.describe_training`). It is read with `weights_only=True`,
so a file that somebody else made cannot run code here.
"""

import contextlib
import logging
import math
import os
import pickle
import re
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

METADATA_KEY = "nlpbook"
_VAL_LOSS_IN_NAME = re.compile(r"val_loss=(\d+(?:\.\d+)?)(?:-v\d+)?\.ckpt$")


class CheckpointError(ValueError):
    """A checkpoint is missing, broken, unsafe, or does not fit what it is loaded into."""


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load one checkpoint file onto the CPU without executing anything in it.

    Args:
        path: A `.ckpt` file.

    Returns:
        The checkpoint: `state_dict` (name → tensor) and, if this package wrote it, `nlpbook` (dict).

    Raises:
        CheckpointError: The file is missing, truncated, holds no `state_dict`, or holds Python objects
            other than tensors and primitives.
    """
    import torch  # here, so that reading arguments does not cost a torch import

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"expected a checkpoint file, got {path}, which is not there: train first or correct the path"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds Python objects besides tensors and primitives, so loading it could run code; it was "
            "refused: save its state_dict alone with torch.save({'state_dict': ...}) where you trust it"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read as a checkpoint: it is truncated or not one; "
            "delete it and train again, or copy it once more"
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(
            f"expected a Lightning checkpoint with a 'state_dict' in {path}, found none: pass the .ckpt file"
        )
    return checkpoint


def save_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint beside its place and rename it: whole or not at all.

    Args:
        checkpoint: Tensors on the CPU or a GPU, and primitives.
        path: Where; folders above it are made.

    Raises:
        CheckpointError: The disk is full or not writable; earlier checkpoints are untouched.
    """
    import torch

    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, partial)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch's zip writer reports a full disk as RuntimeError
        with contextlib.suppress(OSError):
            partial.unlink()
        raise CheckpointError(
            f"could not write {path} ({error}): free some space; checkpoints of earlier epochs are untouched"
        ) from error


def find_best_checkpoint(folder: str | Path, pretrained_model_name: str | None = None) -> Path:
    """Choose the checkpoint with the lowest recorded validation loss.

    The loss is read from inside the file; only a checkpoint written by somebody else is judged by its name.

    Args:
        folder: Where training wrote `*.ckpt` files.
        pretrained_model_name: If given, checkpoints of another encoder are passed over, and said so.

    Returns:
        The path of the best checkpoint.

    Raises:
        CheckpointError: No folder, no checkpoint in it, one that cannot be read, or none of this encoder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(
            f"expected a folder of checkpoints, got {folder}, which is not there: run the training notebook first"
        )
    paths = sorted(folder.glob("*.ckpt"))
    if not paths:
        raise CheckpointError(
            f"no checkpoint (*.ckpt) found in {folder}: run the training notebook first, or give the folder it "
            "printed as downstream_model_dir"
        )
    losses: dict[Path, float] = {}
    trainings: dict[str, str] = {}
    other_encoders: dict[str, str] = {}
    for path in paths:
        metadata = load_checkpoint(path).get(METADATA_KEY, {})
        encoder = metadata.get("pretrained_model_name")
        if pretrained_model_name and encoder and not is_same_encoder(encoder, pretrained_model_name):
            other_encoders[path.name] = encoder
            continue
        losses[path] = _get_val_loss(path, metadata)
        if "labels" in metadata:
            trainings[f"{metadata.get('corpus')} with labels {metadata['labels']}"] = path.name
    if other_encoders:
        logger.warning("passed over checkpoints of another encoder: %s", other_encoders)
    if not losses:
        raise CheckpointError(
            f"expected a checkpoint of {pretrained_model_name} in {folder}, found only {other_encoders}: set "
            "pretrained_model_name to that encoder, or train this one"
        )
    if len(trainings) > 1:
        raise CheckpointError(
            f"{folder} holds checkpoints of different trainings, whose losses cannot be compared: {trainings}; give "
            "the file you want, or train into a folder of its own"
        )
    return min(losses, key=lambda path: losses[path])


def check_task(path: str | Path, task: str) -> None:
    """Refuse a checkpoint that records another task; one that records none passes.

    Raises:
        CheckpointError: The recorded task differs.
    """
    recorded = load_checkpoint(path).get(METADATA_KEY, {}).get("task", task)
    if recorded != task:
        raise CheckpointError(f"{path} was trained for {recorded}, expected {task}: choose a checkpoint of that task")


def is_same_encoder(one: str, other: str) -> bool:
    """Compare encoder names; local folders by their last part, since they move between machines."""
    return one == other or Path(one).name == Path(other).name


def _get_val_loss(path: Path, metadata: dict[str, Any]) -> float:
    """Return the recorded validation loss; infinity if none is known, so that such a file is chosen last."""
    match = _VAL_LOSS_IN_NAME.search(path.name)
    loss = float(metadata.get("val_loss", match.group(1) if match else "inf"))
    return loss if math.isfinite(loss) else math.inf
