"""What every benchmark needs: inputs, medians with their spread, facts about the machine, rows of the table."""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BENCHMARKS_DIR = Path(__file__).parent
PACKAGE_DIR = BENCHMARKS_DIR.parents[1] / "nlpbook_helpers"
CHECKPOINTS_DIR = BENCHMARKS_DIR.parents[1] / "checkpoints"


@dataclass(frozen=True)
class Inputs:
    """What is measured on; the same for the reference and for us."""

    corpus_dir: str
    """Folder of corpora."""
    corpus_name: str
    """Folder of the corpus below it, in NSMC's form."""
    encoder_dir: str
    """Configuration and vocabulary; weights are random, which takes the same time."""
    description: str
    """One line for the reader of the table."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    id: str
    """Of targets.md, for example "P1"."""
    what: str
    """What was measured, its unit included."""
    ours: tuple[float, ...] = ()
    """Our measurements."""
    reference: tuple[float, ...] = ()
    """The reference's, as many as ours if both were measured in turns."""
    ratio: float | None = None
    """How many times better than the reference; see `compare`."""
    target: str = ""
    """In words; empty where nothing was promised."""
    is_met: bool | None = None
    """None where there is no target or nothing was measured."""
    note: str = ""
    """What the reader must know to believe the row, or why there is nothing to believe."""


def compare(
    id: str, what: str, reference: Sequence[float], ours: Sequence[float], target: float | None = None, note: str = ""
) -> Row:
    """Make the row of a cost that shall be `target` times lower than the reference's.

    Measurements made in turns are divided pair by pair, so that a drift of the machine cancels.
    """
    is_paired = len(reference) == len(ours)
    pairs = list(zip(reference, ours, strict=True)) if is_paired else [(find_median(reference), find_median(ours))]
    ratio = find_median([theirs / own for theirs, own in pairs])
    return Row(
        id, what, tuple(ours), tuple(reference), ratio,
        "" if target is None else f"{target:g} ×", None if target is None else ratio >= target, note,
    )  # fmt: skip


def limit(
    id: str, what: str, ours: Sequence[float], most: float, reference: Sequence[float] = (), note: str = ""
) -> Row:
    """Make the row of a cost that shall be at most `most`."""
    is_met = bool(find_median(ours) <= most)
    return Row(id, what, tuple(ours), tuple(reference), None, f"at most {most:g}", is_met, note)


def find_median(values: Sequence[float]) -> float:
    """Return the median, as a plain float whatever the values are."""
    return float(statistics.median(values))


def find_inputs(scratch: Path) -> Inputs:
    """Return NSMC and kcbert-base where they are at hand, else the embedded sample and an encoder of that shape.

    Args:
        scratch: A folder for what has to be made.
    """
    folder = Path(os.environ.get("NLPBOOK_CORPUS_DIR", ""))
    encoder = folder.parent / "models" / "kcbert-base"
    if (folder / "nsmc" / "ratings_train.txt").is_file() and (encoder / "vocab.txt").is_file():
        return Inputs(
            str(folder), "nsmc", str(encoder), "NSMC (NLPBOOK_CORPUS_DIR), kcbert-base's vocabulary and shape"
        )
    samples, encoder = PACKAGE_DIR / "samples", scratch / "kcbert-shaped"
    _write_encoder(encoder, (samples / "nsmc-sample" / "ratings_train.txt").read_text(encoding="utf-8").splitlines())
    return Inputs(
        str(samples), "nsmc-sample", str(encoder),
        "the embedded sample and a vocabulary made from it, kcbert-base's shape (set NLPBOOK_CORPUS_DIR for NSMC)",
    )  # fmt: skip


def _write_encoder(folder: Path, lines: list[str]) -> None:
    """Write a configuration of kcbert-base's shape and a WordPiece vocabulary of some lines."""
    from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer
    from transformers import BertConfig

    trained = BertWordPieceTokenizer(lowercase=False, strip_accents=False)
    trained.train_from_iterator(iter(lines), vocab_size=30_000, min_frequency=1, show_progress=False)
    folder.mkdir(parents=True, exist_ok=True)
    trained.save_model(str(folder))
    settings = json.dumps({"do_lower_case": False, "model_max_length": 300, "tokenizer_class": "BertTokenizer"})
    (folder / "tokenizer_config.json").write_text(settings)
    BertConfig(vocab_size=30_000, max_position_embeddings=300).save_pretrained(folder)


def describe_machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    import torch
    import transformers

    from nlpbook_helpers.runtime import supports_bfloat16

    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "bfloat16": supports_bfloat16(),
        "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def run_python(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """Run a fresh Python on the benchmarks' folder and return the last line that it printed.

    Raises:
        RuntimeError: It failed; the message holds what it said.
    """
    done = subprocess.run(
        [sys.executable, *arguments], cwd=BENCHMARKS_DIR, env=os.environ | (environment or {}),
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed: {done.stderr.strip()[-2000:]}")
    return (done.stdout.strip().splitlines() or [""])[-1]
