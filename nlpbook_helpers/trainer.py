"""On what hardware, and what was recorded? Lightning's Trainer for this machine, and a table of earlier trainings."""

import logging
import reprlib
import sys
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification
from transformers.trainer_pt_utils import LengthGroupedSampler

from nlpbook_helpers import runtime, tpu
from nlpbook_helpers.arguments import LIGHTNING_SETTINGS, PLACES, ClassificationTrainArguments, describe_arguments
from nlpbook_helpers.classifier import Classifier, load_tokenizer
from nlpbook_helpers.corpora import make_corpus
from nlpbook_helpers.download import download_downstream_dataset
from nlpbook_helpers.evaluation import evaluate
from nlpbook_helpers.features import ClassificationDataset, data_collator
from nlpbook_helpers.resuming import TrainingState
from nlpbook_helpers.task import ClassificationTask
from nlpbook_helpers.values import CorpusError

if TYPE_CHECKING:  # it takes a second to import, which training need not spend
    import pandas as pd

logger = logging.getLogger(__name__)

LOGS_NAME = "logs"
LOG_EVERY = 10  # steps; on a GPU or TPU each look at a number waits for it


def compare_runs(folder: str | Path) -> "pd.DataFrame":
    """Put the trainings of a folder side by side, in the order in which they started.

    Args:
        folder: A `downstream_model_dir`, or one of several.

    Returns:
        A row per run (`logs/version_0`, …): when it `started`, `minutes` (NaN if it was killed), `epochs_done`, its
        lowest `val_loss`, highest `val_acc` and `val_macro_f1`, the arguments that are not the same in all runs, and
        `state`: "finished", "stopped" (by the reader or an error) or "unfinished" (killed, or not over yet).

    Raises:
        FileNotFoundError: No training has written its logs there.
    """
    import pandas as pd

    folder = Path(folder).expanduser().resolve()
    paths = sorted(folder.rglob(f"{LOGS_NAME}/version_*/hparams.yaml"))
    runs = {path.parent.relative_to(folder).as_posix(): found for path in paths if (found := _read_run(path))}
    if not runs:
        expected = f"expected the logs of trainings ({LOGS_NAME}/version_0, …) below {folder}"
        raise FileNotFoundError(f"folder: {expected}, found none: train first, or give a training's model folder")
    index, (measured, arguments) = pd.Index(list(runs), name="run"), zip(*runs.values(), strict=True)
    given: Any = pd.DataFrame(arguments, index, dtype=object)
    same = [name for name in given if name in PLACES or given[name].map(repr).nunique() == 1]
    table = pd.DataFrame(measured, index).join(given.drop(columns=same)).sort_values("started", kind="stable")
    return table.assign(state=table.pop("state"), started=table["started"].dt.floor("s"))


def _read_run(path: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return what came of a run, and its arguments, from its `hparams.yaml` and the metrics beside that.

    None, said aloud, if it is not ours or was not written to its end.
    """
    import pandas as pd
    import yaml

    log = path.with_name("metrics.csv")
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
        arguments = dict(record["arguments"])
        metrics: Any = pd.read_csv(log) if log.exists() and log.stat().st_size else pd.DataFrame()
    except (KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        logger.warning("passed over %s: %s", path, reprlib.repr(error))
        return None
    metrics = metrics.reindex(columns=["epoch", "train_loss_epoch", "val_loss", "val_acc", "val_macro_f1"])
    state = next((end for end in ("finished", "stopped") if end in record), "unfinished")
    started, ended = (pd.to_datetime(record.get(key, pd.NaT)) for key in ("started", state))
    measured = {
        "started": started.tz_localize(None),
        "minutes": round((ended - started).total_seconds() / 60, 1),
        "epochs_done": metrics["epoch"][metrics["train_loss_epoch"].notna()].nunique(),
        **metrics.agg({"val_loss": "min", "val_acc": "max", "val_macro_f1": "max"}),
        "state": state,
    }
    return measured, arguments


def get_trainer(args: ClassificationTrainArguments, **settings: Any) -> "ClassificationTrainer":
    """Return a Lightning Trainer for this machine and say in one line what it uses and why.

    Args:
        args: `epochs`, `monitor`, `save_top_k`, `downstream_model_dir`, `max_seq_length`, `resume`, `resume_minutes`,
            `test_mode`, `early_stopping_patience`, Lightning's own, and what `choose_hardware` reads.
        settings: Whatever else Lightning's Trainer takes, such as `profiler`; `callbacks` are added to ours.

    Returns:
        A Trainer that writes `epoch=1-val_loss=0.28.ckpt` to `downstream_model_dir` and its metrics to `logs/` there,
        and whose `fit` goes on with a training that was interrupted there.
    """
    runtime.quiet_lightning()
    hardware, line = runtime.choose_hardware(args)
    rank_zero_only(print)(line)
    ours: dict[str, Any] = {
        "use_distributed_sampler": False,  # it would undo the grouping by length, and see some examples twice
        "max_epochs": args.epochs,
        "fast_dev_run": args.test_mode,
        "logger": CSVLogger(args.downstream_model_dir, name=LOGS_NAME),
        # a bar redraws itself, which fills a log file with thousands of lines
        "enable_progress_bar": sys.stdout.isatty() or hasattr(sys, "ps1"),
        "num_sanity_val_steps": 0,
        "log_every_n_steps": LOG_EVERY,
        "enable_model_summary": False,
        "deterministic": args.seed is not None and hardware["accelerator"] == "cpu",
    } | {name: getattr(args, name) for name in LIGHTNING_SETTINGS}
    hardware["plugins"].append(tpu.make_checkpoint_io(hardware["accelerator"]))
    settings = hardware | ours | settings
    callbacks = [_make_model_checkpoint(args), *settings.pop("callbacks", ())]
    if args.early_stopping_patience:
        mode, metric = args.monitor.split()
        callbacks.append(EarlyStopping(metric, mode=mode, patience=args.early_stopping_patience))
    if settings["enable_progress_bar"]:
        callbacks.append(TQDMProgressBar(refresh_rate=LOG_EVERY))
    if settings["logger"] and not args.test_mode:
        callbacks.append(LearningRateMonitor())
    return ClassificationTrainer(args, callbacks=callbacks, **settings)


def _make_model_checkpoint(args: ClassificationTrainArguments) -> ModelCheckpoint:
    mode, metric = args.monitor.split()
    return ModelCheckpoint(
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


class ClassificationTrainer(Trainer):
    """A Trainer whose `fit` goes on with what was interrupted, and deals batches out; `get_trainer` makes one."""

    def __init__(self, args: ClassificationTrainArguments, **settings: Any) -> None:
        self._args, self._kept = args, TrainingState(args)
        settings["callbacks"].append(self._kept)
        super().__init__(**settings)

    def fit(self, model: Any, train_dataloaders: Any = None, val_dataloaders: Any = None, **named: Any) -> None:
        """Train; see Lightning's `Trainer.fit`.

        Raises:
            CheckpointError: What was interrupted is another training, or its state is damaged.
            BlockingIOError: Another training is writing into the same folder.
            ValueError: There are fewer examples than processes, or a sampler of the reader's own where several train.
        """
        if self.max_epochs and self.current_epoch >= self.max_epochs and not named.get("ckpt_path"):
            print(
                f"this trainer has done its {self.max_epochs} epochs, so there is nothing left to train: to go on "
                "from the weights learned so far, make another with get_trainer(args)"
            )
            return
        args, folder = self._args, Path(self._args.downstream_model_dir)
        busy = f"downstream_model_dir: another training is writing into {folder}: wait for its end, or choose another"
        is_owner = rank_zero_only.rank == 0 and not args.test_mode
        with runtime.lock(folder, busy) if is_owner else nullcontext():
            if not args.test_mode and not named.get("ckpt_path"):
                named |= self._kept.find(train_dataloaders, self.world_size, self.max_epochs or -1)
            train_loader = self._kept.deal_out("train", train_dataloaders, self)
            self._fit(model, train_loader, self._kept.deal_out("val", val_dataloaders, self), named)
            if (early := self.early_stopping_callback) and getattr(early, "stopped_epoch", 0):
                patience = args.early_stopping_patience
                print(f"stopped early: {patience} epochs in a row have not improved on {args.monitor!r}")
            if is_owner and not self.interrupted:
                self._kept.path.unlink(missing_ok=True)

    def _fit(self, model: Any, train_loader: Any, val_loader: Any, named: dict[str, Any]) -> None:
        """Train, and record when, on what and how it ended."""
        hardware = f"{self.num_devices} x {self.accelerator.name()} in {self.precision}"
        versions, arguments = runtime.find_versions(), describe_arguments(self._args)
        self._record("started", hardware=hardware, arguments=arguments, versions=versions)
        try:
            super().fit(model, train_loader, val_loader, **named)
        finally:
            self._record("finished" if self.state.finished else "stopped")

    def _record(self, moment: str, **facts: Any) -> None:
        """Add a moment and facts to `hparams.yaml`; log for TensorBoard into its folder, where that is installed."""
        if isinstance(self.logger, CSVLogger):
            now = datetime.now().astimezone().isoformat(timespec="milliseconds")
            self.logger.log_hyperparams({moment: now} | facts)
            self.logger.save()
            if len(self.loggers) == 1 and find_spec("tensorboard"):
                self.loggers.append(TensorBoardLogger(self.logger.save_dir, self.logger.name, self.logger.version))


def train(args: ClassificationTrainArguments) -> Path | None:
    """Do what notebooks 01 and 03 do: fetch, tokenize, fine-tune, and evaluate the best checkpoint.

    Args:
        args: `validation_size` or a `val` file is needed unless `monitor` is of training; a `test` file is scored last.

    Returns:
        The best checkpoint; None in `test_mode`.
    """
    runtime.set_logger(args)
    runtime.set_seed(args)
    download_downstream_dataset(args)
    corpus = make_corpus(args)
    tokenizer = load_tokenizer(args.pretrained_model_name, args.trust_remote_code)
    modes = ("train", "val") if " val_" in args.monitor else ("train",)
    data = {mode: ClassificationDataset(args, corpus, tokenizer, mode) for mode in modes}
    test = _read_test_file(args, corpus, tokenizer, data["train"].folder)
    logger.info("loading %s", Path(args.pretrained_model_name).name)
    model = AutoModelForSequenceClassification.from_pretrained(
        args.pretrained_model_name, num_labels=corpus.num_labels, ignore_mismatched_sizes=True
    )
    task, trainer = ClassificationTask(model, args), get_trainer(args)
    load = partial(DataLoader, batch_size=args.batch_size, num_workers=args.cpu_workers, collate_fn=data_collator)
    grouped = LengthGroupedSampler(args.batch_size, lengths=data["train"].lengths)
    trainer.fit(task, load(data["train"], sampler=grouped), load(data["val"]) if "val" in data else None)
    if args.test_mode or not trainer.is_global_zero:
        return None
    best = Path(trainer.checkpoint_callback.best_model_path)  # type: ignore[union-attr]
    print(f"best checkpoint: {best}")
    classifier = Classifier.from_checkpoint(best, trust_remote_code=args.trust_remote_code, backend="torch")
    for mode, dataset in {"val": data.get("val"), "test": test}.items():
        if dataset is not None:
            print(f"{mode}: {evaluate(classifier.model, dataset).describe()}")
    return best


def _read_test_file(args: ClassificationTrainArguments, corpus: Any, tokenizer: Any, folder: Path) -> Any:
    """Return the test file's dataset; None if there is none or it cannot be scored, said before the first step."""
    read = {corpus.find_file(folder, mode).name for mode in corpus.files if corpus.has_file(folder, mode)}
    if others := sorted({path.name for path in folder.glob("[!.]*") if path.is_file()} - read):
        logger.info("files of %s: reading %s, and not %s", folder.name, sorted(read), reprlib.repr(others))
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
