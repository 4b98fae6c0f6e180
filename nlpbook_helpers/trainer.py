"""On what hardware? What was asked for if it is there, else what is, and a sentence that says so.

What did earlier runs do? Each training writes down its arguments and versions, and a table compares them.

How does training run? Lightning's Trainer with the device, precision and checkpoints that fit it.

How is it all done at once? From arguments to an evaluated checkpoint, on one device or many.
"""

import logging
import os
import sys
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import yaml
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from nlpbook_helpers import tpu
from nlpbook_helpers.arguments import PLACES, ClassificationTrainArguments, describe_arguments
from nlpbook_helpers.runtime import find_versions, supports_bfloat16

if TYPE_CHECKING:  # it takes a second to import, which training need not spend
    import pandas as pd
import json
import tempfile
import warnings
from difflib import get_close_matches

from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.accelerators import XLAAccelerator
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.strategies.xla import XLAStrategy
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification
from transformers.trainer_pt_utils import LengthGroupedSampler

from nlpbook_helpers.checkpoints import CheckpointError, save_checkpoint
from nlpbook_helpers.classifier import Classifier, load_tokenizer
from nlpbook_helpers.corpora import make_corpus
from nlpbook_helpers.download import download_downstream_dataset
from nlpbook_helpers.evaluation import evaluate
from nlpbook_helpers.features import ClassificationDataset, data_collator
from nlpbook_helpers.resuming import RankBatches, StateKeeper, cut_to_shapes, is_resumable, rebuild
from nlpbook_helpers.runtime import set_logger, set_seed
from nlpbook_helpers.task import ClassificationTask

logger = logging.getLogger(__name__)


class Hardware(NamedTuple):
    """What a training runs on, in Lightning's words."""

    accelerator: str
    """`cpu`, `cuda` or `tpu`."""
    devices: int
    """GPUs, TPU cores, or processes on a CPU, of each machine."""
    num_nodes: int
    """Machines."""
    precision: str
    reason: str
    """Why in this precision."""

    def __str__(self) -> str:
        name = {"cpu": "CPU", "tpu": "TPU core"}.get(self.accelerator, "GPU")
        if self.accelerator == "cuda":
            name = f"{name} ({torch.cuda.get_device_name(0)})"
        count = f"{self.devices} processes on the " if name == "CPU" else f"{self.devices} × "
        machines = f"{self.num_nodes} machines, each with " if self.num_nodes > 1 else ""
        return f"training on {machines}{count if self.devices > 1 else ''}{name} in {self.precision} ({self.reason})"


def choose_hardware(args: ClassificationTrainArguments) -> Hardware:
    """Choose device, number of processes and precision.

    Args:
        args: `devices`, `num_nodes`, `tpu_cores` and `fp16` are read; where torchrun or SLURM has started this process,
            they say how many there are.

    Raises:
        ValueError: More processes have been started on a machine than it has GPUs.
    """
    if args.tpu_cores and (cores := _choose_tpu_cores(args.tpu_cores)):
        return Hardware("tpu", cores, 1, tpu.PRECISION, "products in bfloat16, which a TPU multiplies")
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if args.fp16 and accelerator == "cpu":
        logger.warning("fp16=True, but there is no GPU here: training in what the CPU multiplies fast")
    return Hardware(accelerator, *_count_processes(args), *choose_precision(accelerator, args.fp16))


def choose_precision(accelerator: str, fp16: bool = False) -> tuple[str, str]:
    """Return Lightning's precision for a CPU or GPU, and the reason in a few words."""
    if accelerator == "cuda" and fp16:
        return "16-mixed", "fp16=True"
    if supports_bfloat16():
        return "bf16-mixed", "this hardware multiplies bfloat16"
    if accelerator == "cuda":
        return "16-mixed", "this GPU has no bfloat16"
    return "32-true", "no fast 16-bit arithmetic here"


def _choose_tpu_cores(wanted: int) -> int:
    found = tpu.count_tpu_cores()
    if not found:
        logger.warning("tpu_cores=%s, but there is no TPU here: using what is", wanted)
    elif wanted not in (1, found):
        logger.warning("tpu_cores=%s, but XLA takes one core or all %s of this machine: using all", wanted, found)
    return 1 if wanted == 1 and found else found


def _count_processes(args: ClassificationTrainArguments) -> tuple[int, int]:
    """Return processes per machine, and machines."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else None
    if launched := _read_launcher():
        if gpus is not None and launched[0] > gpus:
            raise ValueError(
                f"expected at most {gpus} processes on this machine, one for each GPU, got {launched[0]}: start "
                f"torchrun with --nproc-per-node={gpus}, or hide the GPUs with CUDA_VISIBLE_DEVICES="
            )
        return launched
    devices = args.devices
    if gpus is not None and devices > gpus:
        logger.warning("devices=%s, but there are %s GPUs here: using those", devices, gpus)
        devices = gpus
    if devices * args.num_nodes > 1 and hasattr(sys, "ps1"):
        logger.warning("devices=%s, but a notebook trains on one: for more, see `nlpbook_helpers train`", devices)
        return 1, 1
    return devices, args.num_nodes


def _read_launcher() -> tuple[int, int] | None:
    """Return the processes per machine, and the machines, of whoever has started this one; None if nobody has."""
    if TorchElasticEnvironment.detect():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local
    if SLURMEnvironment.detect():
        machines = int(os.environ.get("SLURM_NNODES", 1))
        return int(os.environ["SLURM_NTASKS"]) // machines, machines
    return None


LOGS_NAME = "logs"


class RunRecorder(Callback):
    """Writes `hparams.yaml` into the folder of a run's logs, and logs for TensorBoard where that is installed.

    Args:
        args: What to record.
    """

    def __init__(self, args: ClassificationTrainArguments) -> None:
        self._args, self._has_begun = args, False

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Add TensorBoard's log; not sooner, since only now the folder of this run is known."""
        first = trainer.logger
        if isinstance(first, CSVLogger) and len(trainer.loggers) == 1 and find_spec("tensorboard"):
            trainer.loggers.append(TensorBoardLogger(first.save_dir, first.name, first.version))

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Write down what is about to happen."""
        self._has_begun = True
        device = trainer.strategy.root_device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        self._write(
            trainer,
            started=_get_time(),
            hardware=f"{trainer.num_devices} x {name} in {trainer.precision}",
            arguments=describe_arguments(self._args),
            versions=find_versions(),
        )

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write down that it is over."""
        self._write(trainer, finished=_get_time())

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Write down that it came to nothing, or not to its end."""
        if self._has_begun:
            self._write(trainer, stopped=_get_time())

    def _write(self, trainer: Trainer, **facts: Any) -> None:
        if isinstance(trainer.logger, CSVLogger):
            trainer.logger.log_hyperparams(facts)


def compare_runs(folder: str | Path) -> "pd.DataFrame":
    """Put the trainings of a folder side by side, in the order in which they started.

    Args:
        folder: A `downstream_model_dir`, or a folder that holds several of them.

    Returns:
        A row per run (`logs/version_0`, …): when it `started`, `minutes` (NaN if it was killed), `epochs_done`, its
        lowest `val_loss` and highest `val_acc`, the arguments that are not the same in all runs, and `state`:
        "finished", "stopped" (by the reader or by an error), "unfinished", or what is missing or damaged.

    Raises:
        FileNotFoundError: No training has written its logs there.
    """
    import pandas as pd

    folder = Path(folder).expanduser().resolve()
    logs = sorted(path for path in folder.rglob("version_*") if path.is_dir() and path.parent.name == LOGS_NAME)
    if not logs:
        raise FileNotFoundError(
            f"folder: expected the logs of trainings ({LOGS_NAME}/version_0, …) below {folder}, found none: train "
            "first, or give the downstream_model_dir of a training"
        )
    rows, arguments = {}, {}
    for path in logs:
        name = path.relative_to(folder).as_posix()
        record, complaint = _read_record(path / "hparams.yaml")
        metrics, other = _read_metrics(path / "metrics.csv")
        times, state = _describe_times(record)
        rows[name] = times | metrics | {"state": ", ".join(filter(None, (complaint, other))) or state}
        arguments[name] = {key: record["arguments"][key] for key in record["arguments"] if key not in PLACES}
    table = pd.DataFrame.from_dict(rows, orient="index")
    for key in dict.fromkeys(key for given in arguments.values() for key in given):
        if len({str(given[key]) for given in arguments.values() if key in given}) > 1:
            column = pd.Series({name: given.get(key) for name, given in arguments.items()}, dtype=object)
            table.insert(len(table.columns) - 1, key, column)
    table = table.rename_axis("run").sort_values("started", kind="stable")
    return table.assign(started=table["started"].dt.floor("s"))


def _get_time() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def _read_record(path: Path) -> tuple[dict[str, Any], str]:
    """Return what a run wrote down, and what is wrong with it: nothing, or a few words."""
    nothing: dict[str, Any] = {"arguments": {}}
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return nothing, f"no {path.name}"
    except (OSError, ValueError, yaml.YAMLError):
        return nothing, f"damaged {path.name}"
    if not isinstance(record, dict) or not isinstance(record.get("arguments"), dict):
        return nothing, f"damaged {path.name}"
    return record, ""


def _describe_times(record: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return when a run started and how long it took, and how it ended."""
    import pandas as pd

    times: list[Any] = [
        pd.to_datetime(str(record.get(name)), errors="coerce", utc=True) for name in ("started", "finished", "stopped")
    ]
    started, finished, stopped = times
    end = stopped if pd.isna(finished) else finished
    state = "unfinished" if pd.isna(end) else "stopped" if pd.isna(finished) else "finished"
    local = started if pd.isna(started) else started.tz_convert(datetime.now().astimezone().tzinfo).tz_localize(None)
    return {"started": local, "minutes": round((end - started).total_seconds() / 60, 1)}, state


def _read_metrics(path: Path) -> tuple[dict[str, Any], str]:
    """Return epochs, loss and accuracy of a run, and what is wrong with its log."""
    import pandas as pd

    nothing = {"epochs_done": 0, "val_loss": float("nan"), "val_acc": float("nan")}
    try:
        metrics = pd.read_csv(path)
        done = _get_column(metrics, "epoch")[_get_column(metrics, "train_loss_epoch").notna()].nunique()
        loss, accuracy = _get_column(metrics, "val_loss").min(), _get_column(metrics, "val_acc").max()
    except FileNotFoundError:
        return nothing, "nothing logged"
    except (OSError, ValueError, KeyError):  # pandas' own are ValueErrors
        return nothing, f"damaged {path.name}"
    return {"epochs_done": done, "val_loss": loss, "val_acc": accuracy}, ""


def _get_column(metrics: "pd.DataFrame", name: str) -> Any:
    """Return numbers; all of them missing where nothing of that name was logged."""
    import pandas as pd

    return pd.to_numeric(metrics.reindex(columns=[name])[name])


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


def train(args: ClassificationTrainArguments) -> Path | None:
    """Do what notebooks 01 and 03 do: fetch, tokenize, fine-tune, and evaluate the best checkpoint.

    Args:
        args: All that the training depends on; `validation_size` or a `val` file is needed unless `monitor` is of
            training. The `test` file is scored once, at the end, if there is one.

    Returns:
        The best checkpoint; None in `test_mode`.
    """
    set_logger(args)
    set_seed(args)
    download_downstream_dataset(args)
    corpus, tokenizer = make_corpus(args), load_tokenizer(args.pretrained_model_name, args.trust_remote_code)
    modes = ("train", "val") if " val_" in args.monitor else ("train",)
    data = {mode: ClassificationDataset(args, corpus, tokenizer, mode) for mode in modes}
    model = AutoModelForSequenceClassification.from_pretrained(
        args.pretrained_model_name, num_labels=corpus.num_labels, ignore_mismatched_sizes=True
    )
    trainer = get_trainer(args)
    lengths, step = data["train"].lengths, args.batch_size * trainer.world_size
    loaders = {
        mode: DataLoader(
            dataset, args.batch_size, collate_fn=data_collator, num_workers=args.cpu_workers,
            sampler=LengthGroupedSampler(step, lengths=lengths) if mode == "train" else None,
        )
        for mode, dataset in data.items()
    }  # fmt: skip
    trainer.fit(ClassificationTask(model, args), loaders["train"], loaders.get("val"))
    if args.test_mode or not trainer.is_global_zero:
        return None
    best = Path(trainer.checkpoint_callback.best_model_path)  # type: ignore[union-attr]
    print(f"best checkpoint: {best}")
    if corpus.has_file(data.pop("train").folder, "test"):
        data["test"] = ClassificationDataset(args, corpus, tokenizer, "test")
    classifier = Classifier.from_checkpoint(best, trust_remote_code=args.trust_remote_code, backend="torch")
    for mode, dataset in data.items():
        print(f"{mode}: {evaluate(classifier.model, dataset)}")
    return best


def read_arguments(path: str | Path) -> dict[str, Any]:
    """Read fields of `ClassificationTrainArguments` from a JSON object.

    Raises:
        ValueError: There is no such file, it is not a JSON object, or a field is unknown.
    """
    path = Path(path)
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a JSON file of arguments ({error}): correct it, or the path") from None
    if not isinstance(fields, dict):
        raise ValueError(f'{path}: expected a JSON object, as {{"epochs": 3}}, got {type(fields).__name__}')
    known = list(ClassificationTrainArguments.__dataclass_fields__)
    for name in fields:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise ValueError(
                f"{path}: expected names of arguments, got {name!r}: "
                + (f"did you mean {near[0]!r}?" if near else f"they are {', '.join(known)}")
            )
    return fields
