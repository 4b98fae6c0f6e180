"""What visitors say of answers: a CSV file beside the checkpoint, which `train` reads as a corpus as it stands."""

import csv
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nlpbook_helpers.web.requests import ApiError

MAX_BYTES = 16 * 2**20  # size of the file beyond which no more is taken


class Feedback:
    """A file of texts and their right labels.

    Args:
        path: CSV file in UTF-8; what is in it already is kept.
        names: of the texts, as the inference function calls them. They are the first columns, but a single one is
            called "text", so that `train` needs no `text_columns`.

    Raises:
        ValueError: the file is no CSV in UTF-8, or has other columns, as another classifier's would.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        """Count what is there."""
        self.path, self.count, self._lock = path, 0, threading.Lock()
        self._columns = [*(names if len(names) > 1 else ["text"]), "label", "answer", "time", "checkpoint"]
        if path.exists():
            try:
                with path.open(encoding="utf-8-sig", newline="") as file:  # a spreadsheet writes a mark before it
                    header, *rows = [*csv.reader(file)] or [self._columns]
                self.count = len(rows)
            except (UnicodeDecodeError, csv.Error) as error:
                raise ValueError(f"{path}: expected a CSV file in UTF-8, got another ({error}): save it so") from None
            if header != self._columns:
                raise ValueError(f"{path}: expected columns {self._columns}, got {header}: choose another file")

    def add(self, texts: Sequence[str], label: str, answer: Mapping[str, Any], checkpoint: str) -> int:
        """Write down what would have been right; returns how many rows there are.

        Raises:
            ApiError: 507, the file is full, or the disk refuses.
        """
        # A spreadsheet would run what begins like a formula; a space, which no tokenizer sees, makes it text.
        safe = [f" {text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text for text in texts]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._lock:
            try:
                self.path.parent.mkdir(exist_ok=True)
                with self.path.open("a", encoding="utf-8", newline="") as file:
                    if file.tell() > MAX_BYTES:
                        raise ApiError("feedback_is_full")
                    rows = [] if file.tell() else [self._columns]
                    csv.writer(file).writerows([*rows, [*safe, label, answer.get("prediction"), now, checkpoint]])
            except OSError:
                raise ApiError("feedback_failed") from None
            self.count += 1
            return self.count
