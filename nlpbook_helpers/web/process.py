"""A server that is a process of its own: what ends it, what has it read checkpoints anew, where its feedback goes."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import nlpbook_helpers as nlpbook
from nlpbook_helpers.web.feedback import Feedback
from nlpbook_helpers.web.service import Service


def end_by(handler: Any) -> None:
    """Set what the signals do that end a server; nohup's SIGHUP stays ignored."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, signal.SIGINT)  # the last one is unknown on Windows
        if name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def wait_for_the_end(apps: Sequence[tuple[str, Any]]) -> None:
    """Wait for Ctrl-C; pressed again, it does not wait for the answers under way.

    SIGHUP takes up checkpoints that were trained anew; but it means the end where the terminal is closed.

    Args:
        apps: what is read anew, by checkpoint.
    """
    had_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN  # nohup

    def reload(*_: Any) -> None:
        if had_terminal and not _has_terminal():
            raise KeyboardInterrupt
        for checkpoint, app in apps:
            try:
                classifier = nlpbook.Classifier.from_checkpoint(checkpoint)
                app.extensions["nlpbook"].replace(classifier.inference_fn)
                print(f"{checkpoint} was read anew: {classifier.info['checkpoint']}")
            except (ValueError, OSError) as error:  # half written, other texts: what was there before goes on
                print(f"{checkpoint} stays as it was: {error}", file=sys.stderr)

    with suppress(KeyboardInterrupt):
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, reload)
        while True:
            time.sleep(60)
    end_by(signal.SIG_DFL)


def _has_terminal() -> bool:
    with suppress(OSError), open("/dev/tty"):
        return True
    return False


def keep_feedback(service: Service, checkpoint: Path) -> None:
    """Give a page the file for what visitors say of its answers; if it cannot be had, the page opens without."""
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    try:
        if not os.access(folder, os.W_OK):
            raise OSError(f"{folder} cannot be written")
        # as a corpus: --downstream_corpus_name feedback
        service.feedback = Feedback(folder / "feedback" / "train.csv", service.names)
    except (ValueError, OSError) as error:
        print(f"no feedback is kept: {error}")
        return
    if kept := service.feedback.count:
        print(f"{kept:,} answers judged by visitors are in {service.feedback.path}")
