"""What is different on a TPU? What XLA wants stands here, for whoever replaces it; task, batches and trainer ask."""

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpbook_helpers.checkpoints import save_checkpoint

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

# Lightning's XLA plugins refuse bf16-mixed, and under bf16-true the weights themselves have 8 bits, in which the small
# steps of fine-tuning and the sums of an epoch's losses are lost. So: float32, and `autocast` around the model.
PRECISION = "32-true"
SHORTEST = 16  # tokens of the smallest bucket


def count_tpu_cores() -> int:
    """Return the number of TPU cores of this machine; 0 without a TPU or without torch_xla.

    The cores are counted without touching them: a process that has done so cannot start others that train on them.

    Raises:
        RuntimeError: torch_xla is installed for another torch; the message says which pair to install.
    """
    places = (*Path("/dev").glob("accel*"), *Path("/dev").glob("vfio/[0-9]*"))
    if find_spec("torch_xla") is None or not (os.environ.get("TPU_ACCELERATOR_TYPE") or places):
        return 0
    installed, needed = (version(name).split("+")[0].rsplit(".", 1)[0] for name in ("torch", "torch_xla"))
    if installed != needed:
        found = f"got torch {installed} and torch_xla {needed}: restart, or pip install 'torch=={needed}.*'"
        raise RuntimeError(f"expected torch and torch_xla of one minor version, {found}")
    from pytorch_lightning.accelerators import XLAAccelerator

    return XLAAccelerator.auto_device_count() if XLAAccelerator.is_available() else 0


def choose_cores(wanted: int) -> int:
    """Return on how many cores to train, having said so if they are not those wanted; 0 where there is no TPU."""
    found = count_tpu_cores()
    if not found:
        logger.warning("tpu_cores=%s, but there is no TPU here: using what is", wanted)
    elif wanted not in (1, found):
        logger.warning("tpu_cores=%s, but XLA takes one core or all %s of this machine: using all", wanted, found)
    return min(1, found) if wanted == 1 else found


def pad_to_bucket(examples: Any, collate_fn: Callable, most: int) -> dict[str, "torch.Tensor"]:
    """Return a batch whose columns are padded to one of a few lengths with zeros, which the attention mask hides.

    XLA compiles a program for every shape that it meets, which takes longer than hundreds of steps. So a length is a
    power of two, or `most`.

    Args:
        examples: What `collate_fn` takes.
        collate_fn: Makes a batch: `input_ids` and other columns, (batch, tokens), and `labels`, (batch,).
        most: Tokens of the longest bucket.
    """
    from torch.nn.functional import pad

    batch = collate_fn(examples)
    length = batch["input_ids"].shape[1]
    bucket = min(max(SHORTEST, 1 << (length - 1).bit_length()), most)
    missing = max(0, bucket - length)
    return {name: pad(column, (0, missing)) if column.ndim == 2 else column for name, column in batch.items()}


def autocast(device: "torch.device") -> AbstractContextManager:
    """Return the context in which a TPU multiplies bfloat16; on other devices Lightning's precision says it."""
    import torch

    return torch.autocast("xla", torch.bfloat16) if device.type == "xla" else nullcontext()


def end_step(device: "torch.device") -> None:
    """Have a TPU compute what it was told so far; a loop that never does so becomes a single program."""
    if device.type == "xla":
        import torch_xla  # type: ignore[import-not-found]

        torch_xla.sync()


def make_checkpoint_io(accelerator: str) -> Any:
    """Return what writes checkpoints in a training: a TPU's numbers are fetched from it, and files written whole.

    Lightning's own makes them in another folder: on a mounted Drive a full disk leaves half a file under the name.
    """
    from pytorch_lightning.plugins.io import TorchCheckpointIO, XLACheckpointIO
    from pytorch_lightning.utilities import move_data_to_device

    class CheckpointWriter(XLACheckpointIO if accelerator == "tpu" else TorchCheckpointIO):  # type: ignore[misc]
        def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
            save_checkpoint(move_data_to_device(checkpoint, "cpu") if accelerator == "tpu" else checkpoint, path)

    return CheckpointWriter()
