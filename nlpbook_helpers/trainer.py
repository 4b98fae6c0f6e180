"""On what hardware, and what is recorded? Lightning's Trainer for this machine, and a whole training with it."""

import logging
import re
import reprlib
import sys
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from itertools import chain, count
from pathlib import Path
from typing import Any

from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification
from transformers.trainer_pt_utils import LengthGroupedSampler

from nlpbook_helpers import runtime, tpu
from nlpbook_helpers.arguments import LIGHTNING_SETTINGS, ClassificationTrainArguments, describe_arguments
from nlpbook_helpers.checkpoints import METADATA_KEY, CheckpointError, load_checkpoint
from nlpbook_helpers.classifier import Classifier, load_tokenizer
from nlpbook_helpers.corpora import make_corpus
from nlpbook_helpers.download import download_downstream_dataset
from nlpbook_helpers.encoders import check_weights
from nlpbook_helpers.evaluation import LOGS_NAME, EvaluationReport, evaluate
from nlpbook_helpers.features import ClassificationDataset, data_collator
from nlpbook_helpers.restoring import Figures
from nlpbook_helpers.resuming import BUSY, TrainingState
from nlpbook_helpers.task import ClassificationTask
from nlpbook_helpers.values import CorpusError

logger = logging.getLogger(__name__)

VERSION = re.compile(r"-v\d+$")  # of a checkpoint's name, as Lightning writes it too
LOG_EVERY = 10  # steps; on a GPU or TPU each look at a number waits for it


def get_trainer(args: ClassificationTrainArguments, **settings: Any) -> "ClassificationTrainer":
    """Return a Lightning Trainer for this machine and say in one line what it uses and why.

    Args:
        args: `epochs`, `monitor`, `save_top_k`, `downstream_model_dir`, `max_seq_length`, `resume`, `resume_minutes`,
            `test_mode`, `early_stopping_patience`, Lightning's own, and what `choose_hardware` reads.
        settings: Whatever else Lightning's Trainer takes, such as `profiler`; `callbacks` are added to ours, and with
            `enable_checkpointing=False` nothing is kept.

    Returns:
        A Trainer that writes `epoch=1-val_loss=0.28.ckpt` to `downstream_model_dir` and its metrics to `logs/` there,
        and whose `fit` goes on with a training that was interrupted there.

    Raises:
        ValueError: `barebones` is asked for, which leaves out what trains here.
    """
    if settings.get("barebones"):
        remedy = "for speed pass logger=False and enable_checkpointing=False"
        raise ValueError(f"barebones: expected False, since callbacks order the batches here, got True: {remedy}")
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
    return ClassificationTrainer(args, **settings | {"callbacks": _make_callbacks(args, settings)})


def _make_callbacks(args: ClassificationTrainArguments, settings: dict[str, Any]) -> list[Any]:
    given = settings.get("callbacks") or []
    callbacks = [*given] if isinstance(given, list | tuple) else [given]
    if args.early_stopping_patience:
        mode, metric = args.monitor.split()
        callbacks.append(EarlyStopping(metric, mode=mode, patience=args.early_stopping_patience))
    if settings["enable_progress_bar"]:
        callbacks.append(TQDMProgressBar(refresh_rate=LOG_EVERY))
    if settings["logger"] and not args.test_mode:
        callbacks.append(LearningRateMonitor())
    return callbacks


def _name_checkpoints(args: ClassificationTrainArguments) -> str:
    # what is not validated does not get a loss of 0.00 into its name
    return "{epoch}-{val_loss:.2f}" if " val_" in args.monitor else "{epoch}-{train_loss:.2f}"


def _make_model_checkpoint(args: ClassificationTrainArguments) -> ModelCheckpoint:
    mode, metric = args.monitor.split()
    return ModelCheckpoint(
        dirpath=args.downstream_model_dir,
        filename=_name_checkpoints(args),
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
        # not left to Lightning, which would then refuse what seeds the steps too
        is_kept = settings.pop("enable_checkpointing", None) is not False
        if not is_kept:
            rank_zero_only(print)("enable_checkpointing=False: no checkpoint is kept, nor what a training goes on from")
        self._args, self._best = args, _make_model_checkpoint(args)
        self._is_kept = is_kept and not settings["fast_dev_run"]
        self._kept, self._ended = TrainingState(args, self._is_kept), (0, 0)
        callbacks = [*([self._best] if is_kept else ()), *settings.pop("callbacks"), self._kept]
        super().__init__(callbacks=callbacks, **settings)
        # with max_steps Lightning would go on inside an epoch that is over, and end it without a step (bool() is False)
        self.fit_loop._iteration_based_training = bool  # type: ignore[method-assign]

    def fit(self, model: Any, train_dataloaders: Any = None, val_dataloaders: Any = None, **named: Any) -> None:
        """Train; see Lightning's `Trainer.fit`.

        Raises:
            CheckpointError: What was interrupted is another training, or its state is damaged.
            BlockingIOError: Another training is writing into the same folder.
            ValueError: There are fewer examples than processes, a sampler of the reader's own where several train, or
                nothing to train on; or nothing would be kept of it.
        """
        if self._ended == (self.max_epochs, self.max_steps) and not named.get("ckpt_path"):
            self.print(
                f"this trainer has ended after {self.current_epoch} epochs and {self.global_step:,} steps, so there is "
                "nothing left to train: to go on from the weights learned so far, make another with get_trainer(args)"
            )
            return
        self._check(model, train_dataloaders, named)
        args, folder = self._args, Path(self._args.downstream_model_dir)
        is_owner = rank_zero_only.rank == 0 and self._is_kept
        with runtime.lock(folder, BUSY.format(folder)) if is_owner else nullcontext():
            if self._is_kept and not named.get("ckpt_path"):
                named |= self._kept.find(train_dataloaders, self)
                if "ckpt_path" not in named:
                    self._kept.suffix = self._find_free_suffix()
                self._best.filename = f"{_name_checkpoints(args)}{self._kept.suffix}"
            train_loader = self._kept.deal_out("train", train_dataloaders, self)
            self._fit(model, train_loader, self._kept.deal_out("val", val_dataloaders, self), named)
            if (early := self.early_stopping_callback) and getattr(early, "stopped_epoch", 0):
                patience = args.early_stopping_patience
                print(f"stopped early: {patience} epochs in a row have not improved on {args.monitor!r}")
            self._ended = self.max_epochs, self.max_steps
            if is_owner and not self.interrupted:
                self._kept.path.unlink(missing_ok=True)

    def _check(self, model: Any, train_loader: Any, named: dict[str, Any]) -> None:
        """Refuse what Lightning would begin, and end without a batch or a checkpoint."""
        if train_loader is None and not named.get("datamodule") and not is_overridden("train_dataloader", model):
            remedy = "pass DataLoader(dataset, args.batch_size, shuffle=True, collate_fn=data_collator)"
            raise ValueError(f"train_dataloaders: expected a DataLoader, got None: {remedy}")
        epochs, every = self.max_epochs or 0, self.check_val_every_n_epoch or 1
        if self._is_kept and every > epochs > 0:
            expected = f"expected at most {epochs}, as there are epochs, got {every}"
            raise ValueError(f"check_val_every_n_epoch: {expected}: lower it, or no checkpoint would be kept")

    def _find_free_suffix(self) -> str:
        """Return what keeps the names of these checkpoints apart from those of other trainings, having said so.

        The same arguments and data again are the same training, which writes the same files again; not if each time
        draws a seed of its own.
        """
        folder = Path(self._args.downstream_model_dir)
        others = [path for path in sorted(folder.glob("*.ckpt")) if not self._has_written(path)]
        taken = {match[0] if (match := VERSION.search(path.stem)) else "" for path in others}
        suffix = next(one for one in chain([""], map("-v{}".format, count(1))) if one not in taken)
        if suffix:
            found = f"{folder} holds checkpoints of other trainings, as {others[0].name}"
            remedy = "give each training a downstream_model_dir of its own, since the best of a folder is chosen"
            self.print(f"{found}: the names of this one's end in {suffix}; {remedy}")
        return suffix

    def _has_written(self, path: Path) -> bool:
        """Say whether a checkpoint is of this training."""
        mine, decisive = describe_arguments(self._args), self._kept.arguments
        try:
            record = load_checkpoint(path).get(METADATA_KEY, {})
        except CheckpointError:
            return False
        before = record.get("arguments", {})
        is_same = all(before.get(name) == mine[name] for name in mine.keys() & decisive.keys())
        return is_same and self._args.seed is not None and record.get("data") == decisive.get("training data")

    def _fit(self, model: Any, train_loader: Any, val_loader: Any, named: dict[str, Any]) -> None:
        """Train, and record when, on what and how it ended."""
        hardware = f"{self.num_devices} x {self.accelerator.name()} in {self.precision}"
        versions, arguments = runtime.find_versions(), describe_arguments(self._args)
        self.record("started", hardware=hardware, arguments=arguments, versions=versions)
        try:
            super().fit(model, train_loader, val_loader, **named)
        finally:
            self.record("finished" if self.state.finished else "stopped")

    def record(self, moment: str, **facts: Any) -> None:
        """Add a moment and facts to `hparams.yaml`; log for TensorBoard into its folder, where that is installed."""
        if isinstance(self.logger, CSVLogger):
            now = datetime.now().astimezone().isoformat(timespec="milliseconds")
            self.logger.log_hyperparams({moment: now} | facts)
            self.logger.save()
            if len(self.loggers) == 1 and find_spec("tensorboard"):
                self.loggers.append(TensorBoardLogger(self.logger.save_dir, self.logger.name, self.logger.version))

    def record_test(self, report: EvaluationReport, train_examples: int) -> None:
        """Keep what the best checkpoint scored on a test file: in the run's record, and beside it for its card."""
        figures = Figures(
            test_accuracy=report.accuracy,
            test_macro_f1=report.macro_f1,
            test_examples=len(report.probabilities),
            test_corpus=f"the test file of {self._args.downstream_corpus_name}",
            train_examples=train_examples,
        )
        self.record("tested", **figures.model_dump())
        Path(self._best.best_model_path).with_suffix(".json").write_text(figures.model_dump_json(), encoding="utf-8")


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
    check_weights(args.pretrained_model_name)
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
            report = evaluate(classifier.model, dataset)
            print(f"{mode}: {report.describe()}")
            if mode == "test":
                trainer.record_test(report, len(data["train"]))
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
