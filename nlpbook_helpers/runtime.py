"""Where am I running? Accelerator, precision, seeds, logging, and full-size or embedded."""

import logging
import os
import platform
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, Protocol

from nlpbook_helpers.tpu import count_tpu_cores

logger = logging.getLogger("nlpbook_helpers")


class _HasSeed(Protocol):
    seed: int | None


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

    return "full" if torch.cuda.is_available() or count_tpu_cores() else "quick"


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

    names = ("nlpbook_helpers", "torch", "transformers", "pytorch-lightning", "torch_xla")
    lines = [f"Python {platform.python_version()}"] + [
        f"{name} {found}" for name in names if (found := find_version(name))
    ]
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        lines.append(f"GPU {torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
    elif cores := count_tpu_cores():
        lines.append(f"TPU, {cores} cores")
    else:
        lines.append(f"CPU, {torch.get_num_threads()} threads, no accelerator")
    lines.append(f"bfloat16 in hardware: {'yes' if supports_bfloat16() else 'no'}")
    return "\n".join([*lines, f"profile: {get_profile()}"])


def get_cache_dir() -> Path:
    """Return the folder of what can be made again: `NLPBOOK_CACHE_DIR`, or the user's cache folder if there is one."""
    if "NLPBOOK_CACHE_DIR" in os.environ:  # before home is asked, which a container's user may not have
        return Path(os.environ["NLPBOOK_CACHE_DIR"])
    import pooch

    try:
        return Path(pooch.os_cache("nlpbook"))
    except RuntimeError:  # the user has no home
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

    name = f"{path.name}-{zlib.crc32(str(path.absolute()).encode()):08x}.lock"
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


def find_version(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def set_seed(args: _HasSeed) -> None:
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

    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(levelname)s:%(name)s:%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    shown = {name: value for name, value in vars(args).items() if value is not None}
    for name, value in shown.items():
        if isinstance(value, str) and Path(value).is_absolute():
            shown[name] = f"…/{Path(value).name}"  # notebooks are shared; the rest of the path is nobody's business
    logger.info("arguments: %s", shown)


PACKAGES = ("torch", "transformers", "pytorch-lightning", "nlpbook_helpers")


def find_versions() -> dict[str, str]:
    """Return the versions that a training's result depends on: Python's and those of `PACKAGES`."""
    found = {name: find_version(name) for name in PACKAGES}
    return {"python": platform.python_version()} | {name: version for name, version in found.items() if version}
