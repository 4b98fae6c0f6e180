"""Which of several checkpoints is the best?"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nlpbook_helpers.checkpoints import (
    METADATA_KEY,
    METRICS,
    MONITORS,
    NO_NUMBERS,
    CheckpointError,
    is_sound,
    load_checkpoint,
    name_foreign,
)

USUAL = ("min val_loss", "max val_macro_f1", "max val_acc", "min train_loss")  # what chooses, where nothing says it
# as Lightning writes them into names; browsers add " (1)" to a copy
_METRIC_IN_NAME = re.compile(rf"({'|'.join(METRICS)})=(\d+(?:\.\d+)?|nan|inf)(?=[-_. (]|$)")


def find_best_checkpoint(folder: str | Path, pretrained_model_name: str | None = None) -> Path:
    """Choose the checkpoint that its training's `monitor` calls best; the lowest validation loss if they differ in it.

    The figures are read from inside the file; only a checkpoint written by somebody else is judged by its name. One
    whose figures or weights are not numbers is never chosen.

    Args:
        folder: Where training wrote `*.ckpt` files.
        pretrained_model_name: If given, checkpoints that record another encoder are passed over.

    Returns:
        The path of the best checkpoint.

    Raises:
        CheckpointError: No folder, no checkpoint in it, one that cannot be read, none of this encoder, or checkpoints
            of trainings that cannot be compared.
    """
    folder = Path(folder)
    checkpoints = {path: load_checkpoint(path) for path in sorted(folder.glob("*.ckpt"))}  # mapped, not read
    if not checkpoints:
        where = folder if folder.is_dir() else f"{folder}, which is not there"
        remedy = "run the training notebook first, give the folder it printed, or name a shipped one, as doccls"
        raise CheckpointError(f"no checkpoint (*.ckpt) found in {where}: {name_foreign(folder) or remedy}")
    records = {path: checkpoint.get(METADATA_KEY) or _read_name(path) for path, checkpoint in checkpoints.items()}
    own = _select_comparable(folder, records, pretrained_model_name)
    for path in _sort_best_first(
        {path: records[path] for path in own if is_sound(_read_name(path) | records[path], {})}
    ):
        if is_sound({}, checkpoints[path]["state_dict"]):
            return path
    raise CheckpointError(f"{folder}, {[path.name for path in own]}: {NO_NUMBERS}")


def _select_comparable(folder: Path, records: Mapping[Path, dict[str, Any]], encoder: str | None) -> list[Path]:
    """Return the checkpoints of an encoder; refuse them if they learned different things."""
    names = {path: record.get("pretrained_model_name") for path, record in records.items()}
    own = [path for path, name in names.items() if is_same_encoder(name, encoder)]
    if not own:
        found = f"found only {sorted(set(map(str, names.values())))}"
        raise CheckpointError(f"expected a checkpoint of {encoder} in {folder}, {found}: train this one")
    learned = {path.name: [records[path].get(kind) for kind in ("corpus", "labels", "data")]
               for path in own if "labels" in records[path]}  # fmt: skip
    if len(set(map(str, learned.values()))) > 1:
        raise CheckpointError(
            f"{folder} holds checkpoints of different trainings, whose losses cannot be compared: {learned}; "
            "give the file you want, or train into a folder of its own"
        )
    return own


def _sort_best_first(records: Mapping[Path, dict[str, Any]]) -> list[Path]:
    """Sort checkpoints by what their training monitored; one without that figure comes last."""
    monitors = {str(record.get("arguments", {}).get("monitor")) for record in records.values()}
    there = (one for one in USUAL if any(one.split()[1] in record for record in records.values()))
    chosen = min(monitors) if len(monitors) == 1 and monitors <= {*MONITORS} else next(there, USUAL[0])
    mode, metric = chosen.split()
    sign = -1.0 if mode == "max" else 1.0

    def rank(path: Path) -> tuple[float, float]:
        return sign * records[path].get(metric, sign * math.inf), records[path].get("val_loss", math.inf)

    return sorted(records, key=rank)


def is_same_encoder(one: str | None, other: str | None) -> bool:
    """Compare encoder names, if both are known; local folders by their last part, since they move between machines."""
    return not one or not other or one == other or Path(one).name == Path(other).name


def _read_name(path: Path) -> dict[str, float]:
    """Return the figures in the name of another program's file, the book's for example.

    A figure is not believed if it says 0.00: that is what Lightning writes where nothing was validated.
    """
    found = {name: float(figure) for name, figure in _METRIC_IN_NAME.findall(path.stem)}
    return {name: figure for name, figure in found.items() if figure != 0}
