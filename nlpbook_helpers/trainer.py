"""On what hardware? Lightning's Trainer with the device, precision and checkpoints that fit it."""

import contextlib
import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.checkpoints import CheckpointError
from nlpbook_helpers.records import LOGS_NAME, RunRecorder
from nlpbook_helpers.resuming import ResumingTrainer, StateKeeper
from nlpbook_helpers.runtime import count_tpu_cores, supports_bfloat16

logger = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it.

    Lightning's own goes through the system's temporary folder: on another file system, such as a mounted Drive,
    the last step is a copy, and a full disk leaves half a file under the final name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`, whole or not at all.

        Raises:
            CheckpointError: The disk is full or not writable; earlier checkpoints are untouched.
        """
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


def get_trainer(args: ClassificationTrainArguments) -> Trainer:
    """Return a Lightning Trainer for this machine and say in one line what it uses and why.

    Args:
        args: `epochs`, `monitor`, `save_top_k`, `downstream_model_dir`, `fp16`, `tpu_cores`, `resume`, `resume_minutes`
            and `test_mode` are read.

    Returns:
        A Trainer that writes `epoch=1-val_loss=0.28.ckpt` to `downstream_model_dir` and its metrics to `logs/` there,
        and whose `fit` goes on with a training that was interrupted there.
    """
    _quiet_lightning()
    if not args.test_mode:
        _check_writable(Path(args.downstream_model_dir))
    accelerator, devices = _choose_device(args)
    precision, why = choose_precision(accelerator, args.fp16)
    logger.info("training on %s in %s (%s)", accelerator, precision, why)
    mode, metric = args.monitor.split()
    checkpoints = ModelCheckpoint(
        dirpath=args.downstream_model_dir,
        filename="{epoch}-{val_loss:.2f}",
        monitor=metric,
        mode=mode,
        save_top_k=args.save_top_k,
        save_weights_only=True,  # what is served needs no optimizer state, which is twice the model's size
    )
    recorders = [] if args.test_mode else [LearningRateMonitor(), RunRecorder(args)]
    return ResumingTrainer(
        keeper=None if args.test_mode else StateKeeper(args),
        is_resuming=args.resume,
        accelerator=accelerator,
        devices=devices,
        precision=precision,  # type: ignore[arg-type]
        max_epochs=args.epochs,
        fast_dev_run=args.test_mode,
        callbacks=[checkpoints, TQDMProgressBar(refresh_rate=10), *recorders],
        logger=CSVLogger(args.downstream_model_dir, name=LOGS_NAME),
        plugins=[AtomicCheckpointIO()],
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        enable_model_summary=False,
        deterministic=args.seed is not None and accelerator == "cpu",
    )


def _check_writable(folder: Path) -> None:
    """Find out before training, not after its first epoch."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise CheckpointError(
            f"downstream_model_dir: cannot write to {folder} ({error.strerror}): choose another"
        ) from error


def choose_precision(accelerator: str, fp16: bool = False) -> tuple[str, str]:
    """Return Lightning's precision for a device, and the reason in a few words."""
    if accelerator == "tpu":  # Lightning's XLA plugins refuse bf16-mixed
        return "bf16-true", "what a TPU multiplies"
    if accelerator == "cuda" and fp16:
        return "16-mixed", "fp16=True"
    if accelerator in ("cuda", "cpu") and supports_bfloat16():
        return "bf16-mixed", "this hardware multiplies bfloat16"
    if accelerator == "cuda":
        return "16-mixed", "this GPU has no bfloat16"
    return "32-true", "no fast 16-bit arithmetic here"


def _choose_device(args: ClassificationTrainArguments) -> tuple[str, int]:
    """Return Lightning's accelerator and number of devices; fall back aloud where the wanted one is absent."""
    if args.tpu_cores:
        found = count_tpu_cores()
        if found:
            return "tpu", min(args.tpu_cores, found)
        logger.warning("tpu_cores=%s, but there is no TPU here: using what is", args.tpu_cores)
    return ("cuda" if torch.cuda.is_available() else "cpu"), 1


def _quiet_lightning() -> None:
    """Keep Lightning's tips, and hints that do not apply here, out of notebook outputs."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",  # on purpose, see arguments.cpu_workers
        ".*exists and is not empty.*",  # the folder of checkpoints keeps those of earlier runs
        ".*smaller than the logging interval.*",  # a small corpus has few steps
        ".*LeafSpec.*",  # between Lightning and torch
    ):
        warnings.filterwarnings("ignore", message=message)
