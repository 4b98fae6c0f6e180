"""On what hardware? What was asked for if it is there, else what is, and a sentence that says so."""

import logging
import os
import sys
from typing import NamedTuple

import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from nlpbook_helpers import tpu
from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.runtime import supports_bfloat16

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
