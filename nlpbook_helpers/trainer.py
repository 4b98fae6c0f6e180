"""How does training run? Lightning's Trainer with the device, precision and checkpoints that fit it."""

import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning import Trainer
from pytorch_lightning.accelerators import XLAAccelerator
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.strategies.xla import XLAStrategy

from nlpbook_helpers import tpu
from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.batches import RankBatches, cut_to_shapes, is_resumable, rebuild
from nlpbook_helpers.checkpoints import CheckpointError, save_checkpoint
from nlpbook_helpers.devices import choose_hardware
from nlpbook_helpers.records import LOGS_NAME, RunRecorder
from nlpbook_helpers.resuming import StateKeeper

LOG_EVERY = 10  # steps; on a GPU or TPU each look at a number waits for it


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints with `save_checkpoint`.

    Lightning's own goes through the system's temporary folder: on another file system, such as a mounted Drive,
    the last step is a copy, and a full disk leaves half a file under the final name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`, whole or not at all."""
        save_checkpoint(checkpoint, Path(path))


def get_trainer(args: ClassificationTrainArguments) -> "ClassificationTrainer":
    """Return a Lightning Trainer for this machine and say in one line what it uses and why.

    Args:
        args: `epochs`, `monitor`, `save_top_k`, `downstream_model_dir`, `max_seq_length`, `resume`, `resume_minutes`,
            `test_mode`, and what `choose_hardware` reads.

    Returns:
        A Trainer that writes `epoch=1-val_loss=0.28.ckpt` to `downstream_model_dir` and its metrics to `logs/` there,
        and whose `fit` goes on with a training that was interrupted there.
    """
    _quiet_lightning()
    if not args.test_mode:
        _check_writable(Path(args.downstream_model_dir))
    hardware = choose_hardware(args)
    rank_zero_only(print)(hardware)
    mode, metric = args.monitor.split()
    checkpoints = ModelCheckpoint(
        dirpath=args.downstream_model_dir,
        filename="{epoch}-{val_loss:.2f}",
        monitor=metric,
        mode=mode,
        save_top_k=args.save_top_k,
        save_weights_only=True,  # what is served needs no optimizer state, which is twice the model's size
    )
    is_tpu = hardware.accelerator == "tpu"
    return ClassificationTrainer(
        args,
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        num_nodes=hardware.num_nodes,
        precision=hardware.precision,  # type: ignore[arg-type]
        use_distributed_sampler=False,  # it would undo the grouping by length, and see some examples twice
        max_epochs=args.epochs,
        fast_dev_run=args.test_mode,
        callbacks=[
            checkpoints,
            TQDMProgressBar(refresh_rate=LOG_EVERY),
            *([] if args.test_mode else [LearningRateMonitor(), RunRecorder(args)]),
        ],
        logger=CSVLogger(args.downstream_model_dir, name=LOGS_NAME),
        plugins=[tpu.make_checkpoint_io() if is_tpu else AtomicCheckpointIO()],
        num_sanity_val_steps=0,
        log_every_n_steps=LOG_EVERY,
        enable_model_summary=False,
        deterministic=args.seed is not None and hardware.accelerator == "cpu",
    )


class ClassificationTrainer(Trainer):
    """A Trainer whose `fit` goes on with what was interrupted, and deals batches out to several processes.

    Args:
        args: See `get_trainer`.
        settings: Lightning's.
    """

    def __init__(self, args: ClassificationTrainArguments, **settings: Any) -> None:
        super().__init__(**settings)
        self._args, self._keeper = args, None if args.test_mode else StateKeeper(args)

    def fit(self, model: Any, train_dataloaders: Any = None, val_dataloaders: Any = None, **named: Any) -> None:
        """Train; see Lightning's `Trainer.fit`.

        A loader over an `IterableDataset` is left as it is: each process sees all of it, and it does not resume.

        Raises:
            CheckpointError: What was interrupted is another training, or its state is damaged.
            ValueError: There are fewer examples than processes, or a loader without a batch size for several.
        """
        is_one = not isinstance(val_dataloaders, list | tuple)
        val_loaders = [self._deal_out(loader, False) for loader in ([val_dataloaders] if is_one else val_dataloaders)]
        loader, keeper = self._deal_out(train_dataloaders, True), self._keeper
        is_spawning = isinstance(self.strategy, XLAStrategy)  # its processes begin after this
        if keeper is None or not is_resumable(loader) or is_spawning:
            super().fit(model, loader, val_loaders[0] if is_one else val_loaders, **named)
            return
        if not self._args.resume:
            keeper.path.unlink(missing_ok=True)
        loader = keeper.watch(loader, self.world_size)
        if named.get("ckpt_path") is None and (state := keeper.find_state()):
            named |= {"ckpt_path": state, "weights_only": True}
        if keeper not in self.callbacks:  # type: ignore[attr-defined]
            self.callbacks.append(keeper)  # type: ignore[attr-defined]
        super().fit(model, loader, val_loaders[0] if is_one else val_loaders, **named)
        if not self.interrupted:
            keeper.path.unlink(missing_ok=True)

    def _deal_out(self, loader: Any, is_training: bool) -> Any:
        """Return the loader of this process's share, in batches of shapes that the device likes."""
        if is_resumable(loader) and isinstance(self.accelerator, XLAAccelerator):
            loader = cut_to_shapes(loader, self._args.max_seq_length, is_training)
        if is_resumable(loader) and self.num_devices * self.num_nodes > 1:
            loader = rebuild(loader, RankBatches(loader.batch_sampler, self))
        return loader


def _check_writable(folder: Path) -> None:
    """Find out before training, not after its first epoch."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise CheckpointError(
            f"downstream_model_dir: cannot write to {folder} ({error.strerror}): choose another"
        ) from error


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
