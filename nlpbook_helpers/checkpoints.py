"""What is in a checkpoint, and can it be trusted?

A checkpoint is a file of tensors and primitives: the `state_dict` that Lightning writes, and under the key
`"nlpbook"` what is needed to use it (see `task.describe_training`). It may come from anybody: nothing in it is run,
nothing in it is believed before it was looked at, and what it says about sizes takes no memory.
"""

import math
import os
import reprlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from pickle import PickleError
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:  # reading arguments must not cost a torch import
    import torch

METADATA_KEY = "nlpbook"
METRICS = ("val_loss", "val_acc", "val_macro_f1", "train_loss", "train_acc")
MONITORS = tuple(f"{mode} {metric}" for metric in METRICS for mode in ("min", "max"))
MOST_EXAMPLES, MOST_CHARACTERS = 4, 200  # that a page offers to try, whoever wrote the checkpoint
NO_NUMBERS = "weights or losses are not numbers (nan): train again with a lower learning_rate, or copy it once more"
SCALE_SUFFIX = ".scale"
INT8_MOST = 127
FOREIGN = {  # what lies in folders that other programs write, and the way out
    "adapter_config.json": "an adapter: merge it with its model (PEFT's merge_and_unload), and save that",
    "modules.json": "a model of sentence-transformers: give the folder of its encoder alone, as 0_Transformer in it",
    "*.p[tk]*": "a pickle of weights alone: write them with model.save_pretrained, and the tokenizer beside them",
    "*.bin": "a pickle of weights alone: write them with model.save_pretrained, and the tokenizer beside them",
}


class CheckpointError(ValueError):
    """A checkpoint is missing, broken, unsafe, or does not fit what it is loaded into."""


class _Dropped:
    """What is made in place of an object of a class while a file is read: an empty dictionary, whatever it was."""

    def __new__(cls, *ignored: Any) -> OrderedDict:  # type: ignore[misc]
        return OrderedDict()


def name_foreign(folder: Path) -> str:
    """Say what a folder holds in which this package finds nothing to load; empty if nobody knows."""
    return next((f"it holds {what}" for pattern, what in FOREIGN.items() if any(folder.glob(pattern))), "")


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load one checkpoint file onto the CPU without executing anything in it.

    Args:
        path: A `.ckpt` file.

    Returns:
        The checkpoint: `state_dict` (name → tensor) and, if this package wrote it, `nlpbook` (dict). Of a file that
        holds objects besides tensors and primitives, as those of Lightning 1 do, these two alone are returned.

    Raises:
        CheckpointError: The file is missing, truncated, holds no `state_dict` of tensors, or is not what it says.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"expected a checkpoint file, got {path}, which is not there: train or correct the path")
    try:
        checkpoint = _read(path)
    except (PickleError, RuntimeError, EOFError, OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        with path.open("rb") as file:
            if file.read(9)[8:] == b"{":  # after a length, as safetensors begin
                expected = f"expected a checkpoint, got safetensors as {path.name}"
                raise CheckpointError(f"{expected}: name it model.safetensors, beside its config.json") from error
        raise CheckpointError(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read as a checkpoint: it is truncated, or holds more "
            "than tensors and primitives, which could run code; copy it once more, or train again"
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise CheckpointError(f"{path}: expected a Lightning checkpoint with a 'state_dict', found none")
    metadata = checkpoint.get(METADATA_KEY, {})
    check_metadata(path, metadata)
    for name, tensor in {**metadata.get("tokenizer_files", {}), **checkpoint["state_dict"]}.items():
        if not (isinstance(name, str) and _is_whole(tensor)):
            raise CheckpointError(f"{path}: expected a tensor with all its numbers as {name!r}: save it again")
    return {**checkpoint, "state_dict": _unpack_weights(path, checkpoint["state_dict"])}


def _read(path: Path) -> Any:
    """Return what lies in a file, tensors mapped into memory; objects of classes become empty ones."""
    import torch

    # Lightning 1 wrote callbacks under their classes. torch's restricted reader names what it does not know; given a
    # class of ours for each of those names, it reads on, and theirs are never imported.
    unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    with torch.serialization.safe_globals([(_Dropped, name) for name in unknown]):
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return {key: content[key] for key in ("state_dict", METADATA_KEY) if key in content} if unknown else content


def check_metadata(path: Path, metadata: Any) -> None:
    """Refuse what cannot be a record of a training, whoever wrote it.

    Args:
        path: The file that it stands in.
        metadata: What stands there under `METADATA_KEY`.

    Raises:
        CheckpointError: It is no dictionary, or an entry is of another type or size than a training writes.
    """
    from pydantic import Field, ValidationError, create_model

    text = Annotated[str, Field(max_length=MOST_CHARACTERS)]
    row = Annotated[list[Annotated[float, Field(ge=0, le=1e12)]], Field(min_length=4, max_length=4)]
    kinds = {
        **dict.fromkeys(("pretrained_model_name", "task", "corpus", "config", "data"), str),
        **dict.fromkeys(("labels", "label_names", "text_columns"), list[str]),
        **dict.fromkeys(("tokenizer_files", "arguments", "versions"), dict[str, Any]),
        **dict.fromkeys(METRICS, float),
        **dict.fromkeys(("max_seq_length", "train_examples"), int),
        "examples": Annotated[list[list[text]], Field(max_length=MOST_EXAMPLES)],
        "val_per_class": list[row],
    }
    fields: dict[str, Any] = {name: (kind, None) for name, kind in kinds.items()}
    try:
        create_model("Metadata", **fields).model_validate(metadata, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, (METADATA_KEY, *first["loc"])))
        found = f"got {reprlib.repr(first['input'])} ({first['msg']})"
        raise CheckpointError(f"{path}: expected {place} as a training writes it, {found}: take it out") from None


def _is_whole(tensor: Any) -> bool:
    """Whether a value is a tensor that has a number for each of its places: a single one can be called a billion."""
    import torch

    is_plain = isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided and tensor.device.type == "cpu"
    return is_plain and tensor.nbytes <= tensor.untyped_storage().nbytes()


def pack_weights(state_dict: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    """Store matrices in 8 bits, a quarter of their size; `load_checkpoint` gives them back in float32.

    Args:
        state_dict: Name → weights, of any floating type.

    Returns:
        For each matrix (out, in) int8 under its name, and its scale per row, float16, (out, 1), under the name with
        `.scale`; all else in float16.
    """
    import torch

    packed: dict[str, torch.Tensor] = {}
    for name, tensor in state_dict.items():
        if tensor.dim() == 2 and tensor.is_floating_point():
            scale = (tensor.float().abs().amax(dim=1, keepdim=True) / INT8_MOST).clamp_min(1e-7).half()
            packed[name], packed[name + SCALE_SUFFIX] = (tensor / scale.float()).round().to(torch.int8), scale
        else:
            packed[name] = tensor.half() if tensor.is_floating_point() else tensor
    return packed


def _unpack_weights(path: Path, state_dict: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    """Undo `pack_weights`.

    transformers 4 kept the numbers 0, 1, 2 … as `position_ids` among the weights; transformers 5 does not know them.
    """
    scales = {name: state_dict[name + SCALE_SUFFIX] for name in state_dict if name + SCALE_SUFFIX in state_dict}
    for name, scale in scales.items():  # with a scale of another shape, the product could be larger than memory
        if scale.shape != (*state_dict[name].shape[:1], 1):
            raise CheckpointError(f"{path}: expected one scale per row of {name}, got another shape: pack it again")
    left_out = {name + SCALE_SUFFIX for name in scales}
    weights = {name: tensor for name, tensor in state_dict.items() if name not in left_out}
    if scales:
        weights = {name: tensor.float() * scales.get(name, 1) for name, tensor in weights.items()}
    return {name: tensor for name, tensor in weights.items() if not name.endswith("embeddings.position_ids")}


def save_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint beside its place and rename it: whole or not at all.

    Args:
        checkpoint: Tensors on the CPU or a GPU, and primitives.
        path: Where; folders above it are made.

    Raises:
        CheckpointError: The disk is full or not writable; earlier checkpoints are untouched.
    """
    import torch

    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, partial)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch's zip writer reports a full disk as RuntimeError
        partial.unlink(missing_ok=True)
        raise CheckpointError(
            f"could not write {path} ({error}): free some space; checkpoints of earlier epochs are untouched"
        ) from error


def is_sound(metadata: Mapping[str, Any], state_dict: Mapping[str, "torch.Tensor"]) -> bool:
    """Whether all figures and weights are numbers: a training that diverged leaves nan, and a classifier answers it."""
    # one sum instead of a mask of all weights: a nan or an infinity stays in it
    sums = [math.nan if tensor.is_complex() else tensor.float().sum() for tensor in state_dict.values()]
    return all(map(math.isfinite, [*(metadata[name] for name in METRICS if name in metadata), *sums]))


def check_sound(path: Path, metadata: Mapping[str, Any], state_dict: Mapping[str, "torch.Tensor"]) -> None:
    """Refuse a checkpoint that `is_sound` refuses."""
    if not is_sound(metadata, state_dict):
        raise CheckpointError(f"{path}: {NO_NUMBERS}")


def check_checkpoint(path: str | Path, task: str | None = None) -> None:
    """Refuse a checkpoint whose weights or losses are no numbers, or that records another task than this one.

    Raises:
        CheckpointError: See above.
    """
    content = load_checkpoint(path)
    metadata = content.get(METADATA_KEY, {})
    check_sound(Path(path), metadata, content["state_dict"])
    recorded = metadata.get("task", task)
    if task and recorded != task:
        raise CheckpointError(f"{path} was trained for {recorded}, expected {task}: choose a checkpoint of that task")
