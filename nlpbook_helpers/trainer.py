"""On what hardware, and what was recorded? Lightning's Trainer for this machine, and a table of earlier trainings."""

import json
import logging
import os
import sys
import tempfile
import warnings
from contextlib import nullcontext
from datetime import datetime
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning import Trainer
from pytorch_lightning.accelerators import XLAAccelerator
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader, IterableDataset
from transformers import AutoModelForSequenceClassification
from transformers.trainer_pt_utils import LengthGroupedSampler

from nlpbook_helpers import tpu
from nlpbook_helpers.arguments import PLACES, ClassificationTrainArguments, describe_arguments
from nlpbook_helpers.checkpoints import CheckpointError, save_checkpoint
from nlpbook_helpers.classifier import Classifier, load_tokenizer
from nlpbook_helpers.corpora import CorpusError, make_corpus
from nlpbook_helpers.download import download_downstream_dataset
from nlpbook_helpers.evaluation import evaluate
from nlpbook_helpers.features import ClassificationDataset, data_collator
from nlpbook_helpers.resuming import TrainingState, find_order, rebuild
from nlpbook_helpers.runtime import find_versions, lock, set_logger, set_seed, supports_bfloat16
from nlpbook_helpers.task import ClassificationTask

if TYPE_CHECKING:  # it takes a second to import, which training need not spend
    import pandas as pd

logger = logging.getLogger(__name__)

LOGS_NAME = "logs"
LOG_EVERY = 10  # steps; on a GPU or TPU each look at a number waits for it


def choose_hardware(args: ClassificationTrainArguments) -> tuple[dict[str, Any], str]:
    """Choose device, number of processes and precision: what was asked for if it is there, else what is.

    Args:
        args: `devices`, `tpu_cores` and `fp16` are read; where torchrun or SLURM has started this process, they say how
            many there are.

    Returns:
        Lightning's settings, and a line that says what they are and why.
    """
    name, accelerator, machines = "CPU", "cpu", 1
    if args.tpu_cores and (devices := tpu.choose_cores(args.tpu_cores)):
        name, accelerator = "TPU core", "tpu"
        precision, reason = tpu.PRECISION, "products in bfloat16, which a TPU multiplies"
    else:
        if torch.cuda.is_available():
            name, accelerator = f"GPU ({torch.cuda.get_device_name(0)})", "cuda"
        elif args.fp16:
            logger.warning("fp16=True, but there is no GPU here: training in what the CPU multiplies fast")
        devices, machines = _read_launcher() or (_count_devices(args.devices), 1)
        precision, reason = choose_precision(accelerator, args.fp16)
    settings = {"accelerator": accelerator, "devices": devices, "num_nodes": machines, "precision": precision}
    several = f"{devices} processes on the {name}" if accelerator == "cpu" else f"{devices} × {name}"
    each = f"{machines} machines, each with " if machines > 1 else ""
    return settings, f"training on {each}{several if devices > 1 else name} in {precision} ({reason})"


def choose_precision(accelerator: str, fp16: bool = False) -> tuple[str, str]:
    """Return Lightning's precision for a CPU or GPU, and the reason in a few words."""
    if accelerator == "cuda" and fp16:
        return "16-mixed", "fp16=True"
    if supports_bfloat16():
        return "bf16-mixed", "this hardware multiplies bfloat16"
    if accelerator == "cuda":
        return "16-mixed", "this GPU has no bfloat16"
    return "32-true", "no fast 16-bit arithmetic here"


def _count_devices(wanted: int) -> int:
    """Return on how many devices this process trains, which nobody else has started."""
    if torch.cuda.is_available() and wanted > (gpus := torch.cuda.device_count()):
        logger.warning("devices=%s, but there are %s GPUs here: using those", wanted, gpus)
        wanted = gpus
    if wanted > 1 and hasattr(sys, "ps1"):
        logger.warning("devices=%s, but a notebook trains on one: for more, see `nlpbook_helpers train`", wanted)
        return 1
    return wanted


def _read_launcher() -> tuple[int, int] | None:
    """Return the processes per machine, and the machines, of whoever has started this one; None if nobody has."""
    if TorchElasticEnvironment.detect():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local
    if SLURMEnvironment.detect() and not _is_alone_in_slurm():
        machines = int(os.environ.get("SLURM_NNODES", 1))
        return int(os.environ["SLURM_NTASKS"]) // machines, machines
    return None


def _is_alone_in_slurm() -> bool:
    """Say whether this runs in a SLURM job, but not through srun: Lightning would wait for the others in vain."""
    is_in_job = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    return is_in_job and ("SLURM_STEP_ID" not in os.environ or hasattr(sys, "ps1"))


def compare_runs(folder: str | Path) -> "pd.DataFrame":
    """Put the trainings of a folder side by side, in the order in which they started.

    Args:
        folder: A `downstream_model_dir`, or a folder that holds several of them.

    Returns:
        A row per run (`logs/version_0`, …): when it `started`, `minutes` (NaN if it was killed), `epochs_done`, its
        lowest `val_loss` and highest `val_acc`, the arguments that are not the same in all runs, and `state`:
        "finished", "stopped" (by the reader or by an error) or "unfinished" (killed, or not over yet).

    Raises:
        FileNotFoundError: No training has written its logs there.
    """
    import pandas as pd
    import yaml

    folder = Path(folder).expanduser().resolve()
    rows, arguments = {}, {}
    for path in folder.rglob(f"{LOGS_NAME}/version_*/hparams.yaml"):
        name, log = path.parent.relative_to(folder).as_posix(), path.with_name("metrics.csv")
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
        metrics = pd.read_csv(log) if log.exists() else pd.DataFrame()
        metrics = metrics.reindex(columns=["epoch", "train_loss_epoch", "val_loss", "val_acc"])
        state = next((end for end in ("finished", "stopped") if end in record), "unfinished")
        started, ended = (pd.Timestamp(record[key]) if key in record else pd.NaT for key in ("started", state))
        rows[name] = {
            "started": started.tz_localize(None),
            "minutes": round((ended - started).total_seconds() / 60, 1),
            "epochs_done": metrics["epoch"][metrics["train_loss_epoch"].notna()].nunique(),
            "val_loss": metrics["val_loss"].min(),
            "val_acc": metrics["val_acc"].max(),
        }
        given = {key: value for key, value in record["arguments"].items() if key not in PLACES}
        arguments[name] = given | {"state": state}
    if not rows:
        raise FileNotFoundError(
            f"folder: expected the logs of trainings ({LOGS_NAME}/version_0, …) below {folder}, found none: train "
            "first, or give the downstream_model_dir of a training"
        )
    given = pd.DataFrame(arguments, dtype=object).T
    differs = given.map(repr).nunique() > 1
    differs["state"] = True
    table = pd.DataFrame.from_dict(rows, orient="index").join(given.loc[:, differs])
    table = table.rename_axis("run").sort_values("started", kind="stable")
    return table.assign(started=table["started"].dt.floor("s"))


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints with `save_checkpoint`.

    Lightning's own goes through the system's temporary folder: on another file system, such as a mounted Drive,
    the last step is a copy, and a full disk leaves half a file under the final name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`, whole or not at all."""
        save_checkpoint(checkpoint, Path(path))


def get_trainer(args: ClassificationTrainArguments, **settings: Any) -> "ClassificationTrainer":
    """Return a Lightning Trainer for this machine and say in one line what it uses and why.

    Args:
        args: `epochs`, `monitor`, `save_top_k`, `downstream_model_dir`, `max_seq_length`, `resume`, `resume_minutes`,
            `test_mode`, and what `choose_hardware` reads.
        settings: Whatever else Lightning's Trainer takes, such as `gradient_clip_val`; `callbacks` are added to ours.

    Returns:
        A Trainer that writes `epoch=1-val_loss=0.28.ckpt` to `downstream_model_dir` and its metrics to `logs/` there,
        and whose `fit` goes on with a training that was interrupted there.
    """
    _quiet_lightning()
    if not args.test_mode:
        _check_writable(Path(args.downstream_model_dir))
    hardware, line = choose_hardware(args)
    rank_zero_only(print)(line)
    # a bar redraws itself, which fills a log file with thousands of lines
    is_watched = sys.stdout.isatty() or hasattr(sys, "ps1")
    ours = {
        "use_distributed_sampler": False,  # it would undo the grouping by length, and see some examples twice
        "max_epochs": args.epochs,
        "fast_dev_run": args.test_mode,
        "logger": CSVLogger(args.downstream_model_dir, name=LOGS_NAME),
        "enable_progress_bar": is_watched,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": LOG_EVERY,
        "enable_model_summary": False,
        "deterministic": args.seed is not None and hardware["accelerator"] == "cpu",
        "plugins": [tpu.make_checkpoint_io() if hardware["accelerator"] == "tpu" else AtomicCheckpointIO()],
    }
    if _is_alone_in_slurm():
        tasks = os.environ["SLURM_NTASKS"]
        logger.warning("SLURM_NTASKS=%s, but srun has not started this process: training in this one alone", tasks)
        ours["plugins"].append(LightningEnvironment())
    settings = hardware | ours | settings
    settings["callbacks"] = [*_make_callbacks(args, settings), *settings.get("callbacks", ())]
    return ClassificationTrainer(args, **settings)


def _make_callbacks(args: ClassificationTrainArguments, settings: dict[str, Any]) -> list[Any]:
    mode, metric = args.monitor.split()
    callbacks: list[Any] = [
        ModelCheckpoint(
            dirpath=args.downstream_model_dir,
            # what is not validated does not get a loss of 0.00 into its name
            filename="{epoch}-{val_loss:.2f}" if metric.startswith("val_") else "{epoch}-{train_loss:.2f}",
            monitor=metric,
            mode=mode,
            save_top_k=args.save_top_k,
            save_weights_only=True,  # what is served needs no optimizer state, which is twice the model's size
            # a training that was killed between checkpoint and state writes the same file again, and not one beside it
            enable_version_counter=False,
        )
    ]
    if settings["enable_progress_bar"]:
        callbacks.append(TQDMProgressBar(refresh_rate=LOG_EVERY))
    if settings["logger"] and not args.test_mode:
        callbacks.append(LearningRateMonitor())
    return callbacks


class ClassificationTrainer(Trainer):
    """A Trainer whose `fit` goes on with what was interrupted, and deals batches out to several processes.

    Args:
        args: See `get_trainer`.
        settings: Lightning's.
    """

    def __init__(self, args: ClassificationTrainArguments, **settings: Any) -> None:
        self._args, self._kept = args, TrainingState(args)
        super().__init__(**settings | {"callbacks": [*settings["callbacks"], self._kept]})

    def fit(self, model: Any, train_dataloaders: Any = None, val_dataloaders: Any = None, **named: Any) -> None:
        """Train; see Lightning's `Trainer.fit`.

        A loader over an `IterableDataset` is left as it is: each process sees all of it.

        Raises:
            CheckpointError: What was interrupted is another training, or its state is damaged.
            BlockingIOError: Another training is writing into the same folder.
            ValueError: There are fewer examples than processes, several loaders for validation, or a sampler of the
                reader's own where several processes train.
        """
        folder = Path(self._args.downstream_model_dir)
        is_owner = rank_zero_only.rank == 0 and not self._args.test_mode
        busy = f"downstream_model_dir: another training is writing into {folder}: wait for its end, or choose another"
        with lock(folder, busy) if is_owner else nullcontext():
            self._fit(model, train_dataloaders, val_dataloaders, named)

    def _fit(self, model: Any, train_loader: Any, val_loader: Any, named: dict[str, Any]) -> None:
        if self.max_epochs and self.current_epoch >= self.max_epochs and named.get("ckpt_path") is None:
            print(
                f"this trainer has done its {self.max_epochs} epochs, so there is nothing left to train: to go on from "
                "the weights learned so far, make another with get_trainer(args)"
            )
            return
        if not self._args.resume:
            self._kept.path.unlink(missing_ok=True)
        is_resuming = not self._args.test_mode and named.get("ckpt_path") is None
        if is_resuming and (state := self._kept.find(train_loader, self.world_size, self.max_epochs)):
            named |= {"ckpt_path": state, "weights_only": True}
        loaders = self._deal_out("train", train_loader), self._deal_out("val", val_loader)
        self._record(
            started=_get_time(),
            hardware=f"{self.num_devices} x {self.accelerator.name()} in {self.precision}",
            arguments=describe_arguments(self._args),
            versions=find_versions(),
        )
        end = "stopped"
        try:
            super().fit(model, *loaders, **named)
            end = "finished"
        finally:
            self._record(**{end: _get_time()})
        if rank_zero_only.rank == 0:
            self._kept.path.unlink(missing_ok=True)

    def _deal_out(self, name: str, loader: Any) -> Any:
        """Return the loader of this process's share, in the order of seed and epoch, and in shapes that a TPU likes."""
        if isinstance(loader, list | tuple) and len(loader) == 1:
            loader = loader[0]
        if isinstance(loader, list | tuple):
            raise ValueError(
                f"{name}_dataloaders: expected one loader, got {len(loader)}: give that which chooses the checkpoint, "
                "and measure the others with evaluate(task.model, dataset)"
            )
        if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
            return loader
        order, collate, is_tpu = find_order(loader), loader.collate_fn, isinstance(self.accelerator, XLAAccelerator)
        if is_tpu:
            collate = tpu.BucketCollator(collate, self._args.max_seq_length)
        if order is None and name == "train":
            self._refuse_or_note(type(loader.sampler).__name__)
        if order is None:
            return rebuild(loader, loader.batch_sampler, collate) if is_tpu else loader
        order.drop_last |= is_tpu and name == "train"  # a smaller batch is another shape, to be compiled
        if not order.count // order.batch_size and order.drop_last:
            raise ValueError(
                f"batch_size: expected at most {order.count}, the number of training examples, since a TPU takes whole "
                f"batches only, got {order.batch_size}: lower it"
            )
        self._kept.orders[name] = order
        return rebuild(loader, order, collate)

    def _refuse_or_note(self, sampler: str) -> None:
        """Say what a sampler of the reader's own costs: its order is no function of seed and epoch."""
        if self.world_size > 1:
            raise ValueError(
                f"expected a loader with shuffle=True or LengthGroupedSampler where several processes train, got "
                f"{sampler}: pass one of those, or train in one process"
            )
        rank_zero_only(print)(f"{sampler} orders the batches: an interruption costs the epoch that it happens in")

    def _record(self, **facts: Any) -> None:
        """Add to the run's `hparams.yaml`; and log for TensorBoard into the same folder, where that is installed."""
        if not isinstance(self.logger, CSVLogger):
            return
        self.logger.log_hyperparams(facts)
        self.logger.save()
        if len(self.loggers) == 1 and find_spec("tensorboard"):
            self.loggers.append(TensorBoardLogger(self.logger.save_dir, self.logger.name, self.logger.version))


def _get_time() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


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
        ".*your dataloader is not resumable.*",  # its batch sampler is
        ".*but have no `val_dataloader`.*",  # monitor says that there is to be none
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
    corpus = make_corpus(args)
    _check_on_hub(args.pretrained_model_name)
    tokenizer = load_tokenizer(args.pretrained_model_name, args.trust_remote_code)
    modes = ("train", "val") if " val_" in args.monitor else ("train",)
    data = {mode: ClassificationDataset(args, corpus, tokenizer, mode) for mode in modes}
    test = _read_test_file(args, corpus, tokenizer, data["train"].folder)
    logger.info("loading %s", Path(args.pretrained_model_name).name)
    model = AutoModelForSequenceClassification.from_pretrained(
        args.pretrained_model_name, num_labels=corpus.num_labels, ignore_mismatched_sizes=True
    )
    task, trainer = ClassificationTask(model, args), get_trainer(args)
    orders = {"train": LengthGroupedSampler(args.batch_size, lengths=data["train"].lengths)}
    loaders = {
        mode: DataLoader(
            dataset, args.batch_size, sampler=orders.get(mode), num_workers=args.cpu_workers, collate_fn=data_collator
        )
        for mode, dataset in data.items()
    }
    trainer.fit(task, loaders["train"], loaders.get("val"))
    if args.test_mode or not trainer.is_global_zero:
        return None
    best = Path(trainer.checkpoint_callback.best_model_path)  # type: ignore[union-attr]
    print(f"best checkpoint: {best}")
    classifier = Classifier.from_checkpoint(best, trust_remote_code=args.trust_remote_code, backend="torch")
    for mode, dataset in {"val": data.get("val"), "test": test}.items():
        if dataset is not None:
            print(f"{mode}: {evaluate(classifier.model, dataset)}")
    return best


def _read_test_file(args: ClassificationTrainArguments, corpus: Any, tokenizer: Any, folder: Path) -> Any:
    """Return the dataset of the test file; None if there is none, or if it cannot be scored, having said why.

    It is read before the first step: what is wrong with it is not to be found out after hours of training.
    """
    if not corpus.has_file(folder, "test"):
        return None
    try:
        test = ClassificationDataset(args, corpus, tokenizer, "test")
        if (test.labels < 0).any():
            raise CorpusError("some of its rows have no label")
    except CorpusError as error:
        logger.warning("the test file will not be scored: %s", error)
        return None
    return test


def _check_on_hub(name: str) -> None:
    """Ask once whether the Hub has an encoder, instead of five times, with pauses, for each of its files.

    Raises:
        ValueError: It has not, or cannot be reached, and the encoder is neither on this machine.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, HTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    expected = "pretrained_model_name: expected a folder on this machine or a name on the Hugging Face Hub"
    try:
        if not Path(name).is_dir() and not isinstance(try_to_load_from_cache(name, "config.json"), str):
            HfApi().model_info(name, timeout=10)
    except (RepositoryNotFoundError, HFValidationError):
        raise ValueError(f"{expected}, got {name!r}, which is neither: correct it") from None
    except (HTTPError, OfflineModeIsEnabled) as error:
        raise ValueError(
            f"{expected}, got {name!r}, which is not here, and the Hub cannot be reached ({error}): correct the name, "
            "connect, or take the encoder that ships with this package: get_embedded_path('nlpbook-mini')"
        ) from None


def read_arguments(path: str | Path) -> dict[str, Any]:
    """Read fields of `ClassificationTrainArguments` from a JSON object.

    Raises:
        ValueError: There is no such file, it is not a JSON object, or a field is unknown.
    """
    try:
        # utf-8-sig also reads the byte order mark that PowerShell writes
        fields = json.loads(Path(path).read_text(encoding="utf-8-sig"))
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
