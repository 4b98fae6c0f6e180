"""What do I set? The arguments of training and of deployment, checked before anything is downloaded."""

import inspect
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from nlpbook_helpers.checkpoints import (
    METADATA_KEY,
    MONITORS,
    CheckpointError,
    check_checkpoint,
    load_checkpoint,
    name_foreign,
)
from nlpbook_helpers.choosing import find_best_checkpoint
from nlpbook_helpers.embedded import expand_home, find_embedded, get_default_corpus_dir

TASK_NAMES = ("document-classification", "pair-classification")
SCHEDULERS = ("exponential", "linear", "cosine")
TEXTS = "correct it, or the path; a file of texts: end its name with .jsonl"
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
PLACES = ("downstream_corpus_root_dir", "downstream_model_dir")
LIGHTNING_SETTINGS = ("gradient_clip_val", "accumulate_grad_batches", "max_steps", "strategy")  # by its own names


def _limit(default: Any, least: float, most: float) -> Any:
    """Make a dataclass field of a number; it is a whole one if its limits are."""
    return field(default=default, metadata={"range": (least, most)})


def _choose(default: Any, choices: tuple[str, ...]) -> Any:
    """Make a dataclass field of one of several names."""
    return field(default=default, metadata={"choices": choices})


def get_meanings(arguments: type) -> dict[str, str]:
    """Return what each field means, as the class says in its docstring; nothing where Python drops those (-OO)."""
    return dict(re.findall(r"^    (\w+): (.+)\.$", inspect.getdoc(arguments) or "", re.MULTILINE))


@dataclass
class ClassificationTrainArguments:
    """Everything that one training run depends on.

    Attributes:
        pretrained_model_name: Encoder: a Hugging Face name or a local folder.
        downstream_task_name: One of document-classification and pair-classification.
        downstream_corpus_name: Folder of the corpus below downstream_corpus_root_dir.
        downstream_corpus_root_dir: Folder of corpora; None: see get_default_corpus_dir.
        downstream_model_dir: Where checkpoints and logs are written.
        text_columns: Of a corpus of your own: one for documents, two for pairs; None: text.
        label_column: Of a corpus of your own.
        encoding: Of a corpus of your own, for example cp949.
        quoting: Of a corpus of your own: False reads quote marks as characters like any other.
        max_seq_length: Tokens per example, special tokens included; longer ones are cut.
        batch_size: Examples per training step, of each process if there are several.
        learning_rate: The highest, see scheduler.
        epochs: Passes over the training data.
        validation_size: Share (below 1) or number of training rows held out as mode='val'.
        monitor: 'min' or 'max', and the metric that chooses the checkpoint.
        save_top_k: How many of the best checkpoints to keep; -1 keeps all.
        seed: Random seed; None leaves it unset.
        fp16: 16-bit floating point on a GPU; bfloat16 is chosen without asking where it is fast.
        tpu_cores: TPU cores to train on; 0 for none.
        devices: GPUs, or processes on a CPU; torchrun and SLURM say it themselves.
        cpu_workers: Loader processes; 0 is fastest: examples are slices of arrays in memory.
        overwrite_cache: Tokenize again although a cached result exists.
        force_download: Fetch the corpus again although its files exist.
        skip_bad_rows: Leave out rows with a missing column or unknown label; count them aloud.
        resume: Whether to go on with what was interrupted in downstream_model_dir; if not, anew.
        resume_minutes: How often the state is written that a training goes on from.
        test_mode: One batch of training and validation, nothing saved.
        trust_remote_code: Run the Python code of an encoder's repository, as KoBERT's tokenizer needs.
        early_stopping_patience: Stop after so many epochs without a better monitor.
        class_weights: Of the loss: a number per label, or balanced.
        label_smoothing: Share of the target that is spread over all labels.
        scheduler: Of the learning rate: times 0.9 an epoch, or to 0.
        warmup_ratio: Share of all steps in which the learning rate rises from 0.
        weight_decay: How strongly AdamW pulls weights towards 0.
        gradient_clip_val: Longest gradient of a step.
        accumulate_grad_batches: Batches of a step.
        max_steps: End after so many steps, whatever epochs says; -1: do not.
        strategy: Of several devices, for example ddp, fsdp.
        labels: Of a corpus of your own: its classes; None: those of the training file.

    Raises:
        ValueError: A value is out of range; the message names the argument, the value and what is allowed.
    """

    pretrained_model_name: str = "beomi/kcbert-base"
    downstream_task_name: str = _choose("document-classification", TASK_NAMES)
    downstream_corpus_name: str = "nsmc"
    downstream_corpus_root_dir: str | None = None
    downstream_model_dir: str = "nlpbook/checkpoint"
    text_columns: list[str] | None = None
    label_column: str = "label"
    encoding: str = "utf-8"
    quoting: bool = True
    max_seq_length: int = _limit(128, 5, 100_000)
    batch_size: int = _limit(32, 1, 100_000)
    learning_rate: float = _limit(5e-5, 1e-10, 1.0)
    epochs: int = _limit(3, 1, 10_000)
    validation_size: float = _limit(0.0, 0.0, 1e9)
    monitor: str = _choose("min val_loss", MONITORS)
    save_top_k: int = _limit(1, -1, 10_000)
    seed: int | None = _limit(None, 0, 2**32 - 1)
    fp16: bool = False
    tpu_cores: int = _limit(0, 0, 1_024)
    devices: int = _limit(1, 1, 1_024)
    cpu_workers: int = _limit(0, 0, 1_024)
    overwrite_cache: bool = False
    force_download: bool = False
    skip_bad_rows: bool = False
    resume: bool = True
    resume_minutes: float = _limit(10, 0.0, 1e6)
    test_mode: bool = False
    trust_remote_code: bool = False
    early_stopping_patience: int | None = _limit(None, 1, 10_000)
    class_weights: list[float] | Literal["balanced"] | None = None
    label_smoothing: float = _limit(0.0, 0.0, 0.9)
    scheduler: str = _choose("exponential", SCHEDULERS)
    warmup_ratio: float = _limit(0.0, 0.0, 0.9)
    weight_decay: float = _limit(0.01, 0.0, 1.0)
    gradient_clip_val: float | None = _limit(None, 1e-10, 1e10)
    accumulate_grad_batches: int = _limit(1, 1, 100_000)
    max_steps: int = _limit(-1, -1, 10**12)
    strategy: str = "auto"
    labels: list[str] | None = None

    def __post_init__(self) -> None:
        if self.downstream_corpus_root_dir is None:
            self.downstream_corpus_root_dir = get_default_corpus_dir(str(self.downstream_corpus_name))
        _check_values(self)
        for name in ("pretrained_model_name", "downstream_corpus_name", *PLACES):
            setattr(self, name, expand_home(getattr(self, name)))
        if Path(self.downstream_model_dir).is_file():
            raise ValueError(f"downstream_model_dir: expected a folder, got a file: {self.downstream_model_dir}")
        self.pretrained_model_name = find_embedded(self.pretrained_model_name)
        check_encoder(self.pretrained_model_name)
        if list((folder := Path(self.pretrained_model_name)).glob("*.ckpt")) and not list(folder.glob("*.safetensors")):
            remedy = "nlpbook.export makes a folder of it that is an encoder's too"
            raise CheckpointError(f"pretrained_model_name: expected an encoder, got the checkpoint {folder}: {remedy}")
        if self.validation_size > 1 and self.validation_size != int(self.validation_size) or self.validation_size == 1:
            raise ValueError(f"validation_size: expected a share below 1, or rows, got {self.validation_size}")
        for name, rest in (("save_top_k", "all"), ("max_steps", "no limit")):
            if getattr(self, name) == 0:
                raise ValueError(f"{name}: expected a number from 1, or -1 for {rest}, got 0: nothing would be saved")


@dataclass
class ClassificationDeployArguments:
    """What is needed to serve a trained classifier: its encoder's name and its checkpoint.

    Give `downstream_model_checkpoint_fpath` for one file, or `downstream_model_dir` to have the best checkpoint
    chosen, see `find_best_checkpoint`. The choice is printed.

    Attributes:
        pretrained_model_name: Encoder that was fine-tuned; None: what the checkpoint records.
        downstream_task_name: Another task's checkpoint is refused.
        downstream_model_dir: Folder of checkpoints to choose from.
        downstream_model_checkpoint_fpath: One checkpoint file; wins over the folder.
        max_seq_length: Tokens per example, as in training.
        trust_remote_code: Run the Python code of an encoder's repository, as KoBERT's tokenizer needs.

    Raises:
        ValueError: A value is out of range or neither place is given.
        CheckpointError: The folder holds no usable checkpoint, or the file is not there.
    """

    pretrained_model_name: str | None = None
    downstream_task_name: str | None = _choose(None, TASK_NAMES)
    downstream_model_dir: str | None = None
    downstream_model_checkpoint_fpath: str | None = None
    max_seq_length: int = _limit(128, 5, 100_000)
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.pretrained_model_name is not None:
            self.pretrained_model_name = find_embedded(str(self.pretrained_model_name))
        _check_values(self)
        if self.downstream_model_checkpoint_fpath is None:
            if self.downstream_model_dir is None:
                raise ValueError("expected downstream_model_dir or downstream_model_checkpoint_fpath, got neither")
            self.downstream_model_dir = find_embedded(str(self.downstream_model_dir))
            best = find_best_checkpoint(self.downstream_model_dir, self.pretrained_model_name)
            self.downstream_model_checkpoint_fpath = str(best)
        check_checkpoint(self.downstream_model_checkpoint_fpath, self.downstream_task_name)
        if self.pretrained_model_name is None:
            self.pretrained_model_name = _find_encoder(Path(self.downstream_model_checkpoint_fpath))
        print(f"downstream_model_checkpoint_fpath: {self.downstream_model_checkpoint_fpath}")


def _find_encoder(checkpoint: Path) -> str:
    """Return the encoder that a checkpoint records, by its folder on this machine if it has one.

    An embedded checkpoint's folder holds configuration and tokenizer, which is all that is needed of its encoder.
    """
    name = load_checkpoint(checkpoint).get(METADATA_KEY, {}).get("pretrained_model_name")
    if name is None:
        raise CheckpointError(f"{checkpoint} does not record its encoder: set pretrained_model_name")
    name = find_embedded(name)
    is_whole = all((checkpoint.parent / file).is_file() for file in ("config.json", "tokenizer.json"))
    return str(checkpoint.parent) if is_whole and not Path(name).is_dir() else name


def _check_values(args: Any) -> None:
    """Say which argument is off and what it may be; whole limits are for whole numbers."""
    for one in fields(args):
        value, choices, limits = getattr(args, one.name), one.metadata.get("choices"), one.metadata.get("range")
        if value is None and one.default is None:
            continue
        if limits:
            kind, number = (int, "a whole number") if isinstance(limits[0], int) else (int | float, "a number")
            allowed = f"{number} from {limits[0]:,} to {limits[1]:,}"
            is_right = isinstance(value, kind) and not isinstance(value, bool) and limits[0] <= value <= limits[1]
        elif choices:
            allowed, is_right = f"one of {', '.join(choices)}", value in choices
        elif one.type is bool:
            allowed, is_right = "True or False", isinstance(value, bool)
        elif one.type == list[str] | None:
            allowed, is_right = "a list of names", isinstance(value, list | tuple) and {*map(type, value)} <= {str}
        elif one.name == "class_weights":
            allowed = "'balanced', or a list of a number from 1e-9 to 1e9 for each label"
            numbers = value if isinstance(value, list) else []
            are_right = all(isinstance(weight, int | float) and 1e-9 <= weight <= 1e9 for weight in numbers)
            is_right = value == "balanced" or bool(numbers) and are_right
        else:
            allowed = "a name or path"
            is_right = isinstance(value, str | os.PathLike) and bool(str(value).strip())
        if not is_right:
            raise ValueError(f"{one.name}: expected {allowed}, got {value!r}")


def check_encoder(name: str | Path) -> None:
    """Refuse what is on this machine, or would be, and is no encoder; whether the Hub has it is not asked here.

    Raises:
        CheckpointError: A file, a folder without an encoder, or a path where nothing is.
    """
    path, problem = Path(expand_home(name)), None
    if path.is_dir() and {file.name for file in path.iterdir()} <= {"config.json", "README.md"}:
        problem = "which has neither weights nor a tokenizer: copy it whole"
    if path.exists() and not (path / "config.json").is_file():
        export = "of a checkpoint, nlpbook.export makes a folder that is an encoder's too"
        problem = f"which has no config.json: {name_foreign(path) or export}"
    elif not path.exists() and (path.suffix == ".ckpt" or not HUB_NAME.fullmatch(str(name))):
        problem = "where there is nothing: correct the path"
    if problem:
        raise CheckpointError(
            f"pretrained_model_name: expected a Hugging Face name or an encoder's folder, got {str(name)!r}, {problem}"
        )


def make_object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dictionary of what stands in a JSON object, unless a name stands there twice: only one would be heard."""
    if len(made := dict(pairs)) < len(pairs):
        raise ValueError(f"expected different names in an object, got {[key for key, _ in pairs]}")
    return made


def read_arguments(path: str | Path) -> dict[str, Any]:
    """Read fields of `ClassificationTrainArguments` from a JSON object.

    Raises:
        ValueError: There is no such file, it is not a JSON object, or a field is unknown.
    """
    try:
        # bytes: so the marks are understood, and the UTF-16, that PowerShell writes
        given = json.loads(Path(path).read_bytes(), object_pairs_hook=make_object)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a JSON file of arguments ({error}): {TEXTS}") from None
    if not isinstance(given, dict):
        raise ValueError(f'{path}: expected a JSON object, as {{"epochs": 3}}, got {type(given).__name__}: {TEXTS}')
    known = list(ClassificationTrainArguments.__dataclass_fields__)
    for name in given:
        if name not in known:
            (near,) = get_close_matches(name, known, n=1, cutoff=0)
            raise ValueError(f"{path}: expected names of arguments, got {name!r}: did you mean {near!r}? Else {TEXTS}")
    return given


def describe_arguments(args: ClassificationTrainArguments) -> dict[str, Any]:
    """Return the arguments of a training as primitives; local folders by their last part alone."""
    described = json.loads(json.dumps(asdict(args), default=str))  # NumPy's numbers, which a sweep yields, as Python's
    for name in ("pretrained_model_name", *PLACES):
        if name in PLACES or Path(described[name]).is_dir():
            described[name] = Path(described[name]).name  # where it lies on this machine is nobody's business
    return described
