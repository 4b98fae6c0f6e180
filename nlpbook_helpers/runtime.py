"""Where am I running? Accelerator, precision, seeds, logging, and full-size or embedded."""

import logging
import os
import platform
import sys
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from nlpbook_helpers import tpu
from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.embedded import expand_home

logger = logging.getLogger("nlpbook_helpers")
PACKAGES = ("nlpbook_helpers", "torch", "transformers", "pytorch-lightning", "torch_xla")
TORCHRUN = ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
LIGHTNING_NOISE = (  # how its warnings begin
    "Checkpoint directory", "Experiment logs directory", "The number of training batches", "The '.*' does not have",
    "You're resuming from a checkpoint", "Be aware that when using `ckpt_path`", "You defined a `validation_step`",
)  # fmt: skip


def is_colab() -> bool:
    """Say whether this is Google Colab."""
    return "COLAB_RELEASE_TAG" in os.environ


def get_profile() -> Literal["full", "quick"]:
    """Choose the size of everything: `full` on a GPU or TPU, `quick` (the embedded default) on a CPU.

    The environment variable `NLPBOOK_PROFILE` forces either.

    Raises:
        ValueError: `NLPBOOK_PROFILE` is neither `full` nor `quick`.
    """
    forced = os.environ.get("NLPBOOK_PROFILE")
    if forced in ("full", "quick"):
        return forced
    if forced:
        raise ValueError(f"NLPBOOK_PROFILE: expected 'full' or 'quick', got {forced!r}: correct or unset it")
    import torch

    return "full" if torch.cuda.is_available() or tpu.count_tpu_cores() else "quick"


def supports_bfloat16() -> bool:
    """Say whether this machine multiplies bfloat16 matrices in hardware (bf16 GPUs, AVX512-BF16, AMX)."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def supports_int8() -> bool:
    """Say whether this processor multiplies 8-bit integers exactly in one instruction (x86's VNNI)."""
    import torch

    return torch.cpu._is_vnni_supported()


def describe_runtime() -> str:
    """Return one line per fact: Python, packages, hardware, precision and profile."""
    import torch

    versions = find_versions()
    lines = [f"Python {versions.pop('python')}", *(f"{name} {found}" for name, found in versions.items())]
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        lines.append(f"GPU {torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
    elif cores := tpu.count_tpu_cores():
        lines.append(f"TPU, {cores} cores")
    else:
        lines.append(f"CPU, {torch.get_num_threads()} threads, no accelerator")
    lines.append(f"bfloat16 in hardware: {'yes' if supports_bfloat16() else 'no'}")
    return "\n".join([*lines, f"profile: {get_profile()}"])


def choose_hardware(args: ClassificationTrainArguments) -> tuple[dict[str, Any], str]:
    """Choose device, number of processes and precision: what was asked for if it is there, else what is.

    Args:
        args: `devices`, `tpu_cores` and `fp16` are read; where torchrun or SLURM has started this process, they say how
            many there are.

    Returns:
        Lightning's settings, and a line that says what they are and why.
    """
    import torch
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    read_rank()  # refuses what would train without a word
    launched, plugins = _read_launcher(), []
    if args.tpu_cores and (devices := tpu.choose_cores(args.tpu_cores)):
        name, accelerator, machines = "TPU core", "tpu", 1
        precision, reason = tpu.PRECISION, "products in bfloat16, which a TPU multiplies"
    else:
        name, accelerator = "CPU", "cpu"
        if torch.cuda.is_available():
            name, accelerator = f"GPU ({torch.cuda.get_device_name(0)})", "cuda"
        elif args.fp16:
            logger.warning("fp16=True, but there is no GPU here: training in what the CPU multiplies fast")
        devices, machines = launched or (_count_devices(args.devices), 1)
        # said aloud: in a SLURM job Lightning would wait for processes that srun has not started
        plugins = [] if launched else [LightningEnvironment()]
        precision, reason = choose_precision(accelerator, args.fp16)
    each = f"{machines} machines, each with " if machines > 1 else ""
    several = "" if devices == 1 else f"{devices} processes on the " if accelerator == "cpu" else f"{devices} × "
    line = f"training on {each}{several}{name} in {precision} ({reason})"
    settings = {"accelerator": accelerator, "devices": devices, "num_nodes": machines, "precision": precision}
    return settings | {"plugins": plugins}, line


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
    import torch

    if torch.cuda.is_available() and wanted > (gpus := torch.cuda.device_count()):
        logger.warning("devices=%s, but there are %s GPUs here: using those", wanted, gpus)
        wanted = gpus
    if wanted > 1 and hasattr(sys, "ps1"):
        logger.warning("devices=%s, but a notebook trains on one: for more, see `nlpbook_helpers train`", wanted)
        return 1
    return wanted


def _read_launcher() -> tuple[int, int] | None:
    """Return the processes per machine, and the machines, of whoever has started this one; None if nobody has."""
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    # all of them, or some are left over from another shell
    if {*TORCHRUN} <= os.environ.keys():
        return _read_number("LOCAL_WORLD_SIZE", 1), _divide("WORLD_SIZE", "LOCAL_WORLD_SIZE")
    # a script of sbatch, or a notebook, is inside a job, but was not started by srun
    if SLURMEnvironment.detect() and "SLURM_STEP_ID" in os.environ and not hasattr(sys, "ps1"):
        return _divide("SLURM_NTASKS", "SLURM_NNODES"), _read_number("SLURM_NNODES", 1)
    # of another launcher, as mpirun, or set by hand: each process would train alone, and all but the first in silence
    if "RANK" in os.environ and _read_number("WORLD_SIZE", 1) > 1:
        found = ", ".join(sorted({*TORCHRUN} & os.environ.keys()))
        expected = f"environment: expected all that torchrun sets, or none, got only {found}"
        raise ValueError(f"{expected}: start all processes with torchrun or srun, or unset them")
    return None


def _divide(total: str, part: str) -> int:
    """Return how many times one number of a launcher contains another; machines that differ are not trained on."""
    number, divisor = _read_number(total, 1), _read_number(part, 1)
    if number % divisor:
        expected = f"{total}: expected a multiple of {part}, which is {divisor}, got {number}"
        raise ValueError(f"{expected}: start as many processes on each machine")
    return number // divisor


def _read_number(name: str, least: int) -> int:
    """Return what a launcher has put into an environment variable; the least number if it has not."""
    if not (value := os.environ.get(name, str(least))).isdecimal() or int(value) < least:
        expected = f"{name}: expected a whole number from {least}, as torchrun and srun set it, got {value!r}"
        raise ValueError(f"{expected}: unset it, or start all processes with one of them")
    return int(value)


def read_rank() -> int:
    """Return which process this is of those that torchrun, srun or Lightning have started; 0 if it is the only one.

    Raises:
        ValueError: Their variables are no numbers, or are left over: a process that is not the first says nothing.
    """
    name = next((name for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ), "RANK")
    total = "SLURM_NTASKS" if name == "SLURM_PROCID" else "WORLD_SIZE"
    if (rank := _read_number(name, 0)) >= (count := _read_number(total, 1)):
        expected = f"{name}: expected a number below {total}, which is {count}, got {rank}"
        raise ValueError(f"{expected}: unset it, or start all processes with torchrun or srun")
    return rank


def get_cache_dir() -> Path:
    """Return the folder of what can be made again: `NLPBOOK_CACHE_DIR`, or the user's cache folder if there is one."""
    if folder := os.environ.get("NLPBOOK_CACHE_DIR"):  # before home is asked, which a container's user may not have
        return Path(expand_home(folder))
    from pooch import os_cache

    with suppress(RuntimeError):  # the user has no home
        return Path(os_cache("nlpbook"))
    return Path(tempfile.gettempdir()) / "nlpbook"


def is_first_here() -> bool:
    """Say whether this is the first of the processes that train on this machine, or the only one."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def lock(path: Path, busy: str = "") -> Iterator[None]:
    """Let one process at a time make a file, or write into a folder; those that come later wait, or are told so.

    Args:
        path: A file to be made, whose lock is in the cache folder; or a folder, whose lock lies in it. Where no lock
            can be written, nobody waits.
        busy: What to say to those that come later; empty if they are to wait, and find the file made.

    Raises:
        BlockingIOError: Somebody else holds the lock, and `busy` is not empty.
    """
    from filelock import FileLock, Timeout

    name = f"{path.name}-{zlib.crc32(os.fsencode(path.absolute())):08x}.lock"
    place = path / ".lock" if path.is_dir() else get_cache_dir() / "locks" / name
    held = FileLock(place, timeout=0 if busy else -1)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except Timeout:
        raise BlockingIOError(busy) from None
    except (OSError, NotImplementedError) as error:  # a read-only folder, or a disk without locks
        logger.debug("%s is not locked: %s", path.name, error)
    try:
        yield
    finally:
        held.release()


@contextmanager
def create(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write a file or folder to, which in the end moves to `path`: whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        partial = Path(folder) / path.name
        yield partial
        os.replace(partial, path)


def find_version(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    with suppress(PackageNotFoundError):
        return version(package)
    return None


def set_seed(args: Any) -> None:
    """Seed Python, NumPy and torch with `args.seed`; leave them alone if it is None. Says which."""
    if args.seed is None:
        print("not fixed seed")
        return
    from transformers import set_seed as seed_everything

    seed_everything(args.seed)
    print(f"set seed: {args.seed}")


def set_logger(args: object) -> None:
    """Send the package's INFO messages to standard output and log the arguments.

    The bars and hints of weight loading go to standard error, where they hide what matters: they are switched off.
    """
    import transformers

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(levelname)s:%(name)s:%(message)s"))
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    shown = {name: value for name, value in vars(args).items() if value is not None}
    for name, value in shown.items():
        if isinstance(value, str) and Path(value).is_absolute():
            shown[name] = f"…/{Path(value).name}"  # notebooks are shared; the rest of the path is nobody's business
    logger.info("arguments: %s", shown)


def quiet_lightning() -> None:
    """Keep Lightning's tips, and warnings of what is so on purpose here, out of outputs; all others are heard."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for library in ("pytorch_lightning", "lightning_fabric"):
        warnings.filterwarnings("ignore", rf"\s*({'|'.join(LIGHTNING_NOISE)})", module=library)
        for category in (FutureWarning, DeprecationWarning):  # of its own code
            warnings.filterwarnings("ignore", category=category, module=library)


def find_versions() -> dict[str, str]:
    """Return the versions that a training's result depends on: Python's and those of `PACKAGES` that are installed."""
    found = {name: find_version(name) for name in PACKAGES}
    return {"python": platform.python_version()} | {name: version for name, version in found.items() if version}
