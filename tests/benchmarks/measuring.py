"""What every benchmark needs: inputs, medians, rows of the table, facts about the machine, fresh processes."""

import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

BENCHMARKS_DIR = Path(__file__).parent
CHECKPOINTS_DIR = BENCHMARKS_DIR.parents[1] / "checkpoints"


@dataclass(frozen=True)
class Inputs:
    """What is measured on; the same for the reference and for us."""

    corpus_dir: str
    """Folder of corpora."""
    corpus_name: str
    """Folder of the corpus below it, in NSMC's form."""
    model_dir: str
    """A classifier of kcbert-base's shape in Hugging Face layout; its weights are random, which takes the same time."""
    description: str
    """One line for the reader of the table."""
    is_toy: bool = False
    """Whether it is only asked if everything still runs, in seconds."""

    @property
    def backends(self) -> tuple[Any, ...]:
        """What answers; a graph in 8 bits takes longer to make than all of a toy."""
        return ("torch",) if self.is_toy else ("onnx", "torch")

    def choose(self, full: int, toy: int) -> int:
        """Return how often or how much: so that it can be believed, or so that it is soon over."""
        return toy if self.is_toy else full

    def get_texts(self, mode: str) -> list[str]:
        """Return the corpus's texts, without the empty ones."""
        from nlpbook_helpers import NsmcCorpus

        examples = NsmcCorpus().get_examples(str(Path(self.corpus_dir, self.corpus_name)), mode)
        return [example.text_a for example in examples if example.text_a.strip()]

    def open_classifier(self, backend: Any = "torch") -> Any:
        """Return our classifier over the model."""
        from nlpbook_helpers import Classifier

        return Classifier.from_checkpoint(self.model_dir, max_seq_length=128, backend=backend)


def find_inputs(scratch: Path, is_toy: bool = False) -> Inputs:
    """Return NSMC and kcbert-base's vocabulary where they are at hand, else what ships with the project.

    Args:
        scratch: A folder for the model.
        is_toy: Take a model of two small layers.
    """
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    corpora = Path(os.environ.get("NLPBOOK_CORPUS_DIR", "."))
    vocabulary = corpora.parent / "models" / "kcbert-base"
    is_real = not is_toy and (corpora / "nsmc").is_dir() and vocabulary.is_dir()
    tokenizer: Any = AutoTokenizer.from_pretrained(vocabulary if is_real else CHECKPOINTS_DIR / "nlpbook-mini")
    toy = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(7)
    # but for these numbers kcbert-base has the shape that BertConfig has by itself
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=300, num_labels=2, **toy if is_toy else {})
    BertForSequenceClassification(config).save_pretrained(scratch / "kcbert-shaped")
    tokenizer.save_pretrained(scratch / "kcbert-shaped")
    if is_real:
        place = (str(corpora), "nsmc", str(scratch / "kcbert-shaped"))
        return Inputs(*place, "NSMC (NLPBOOK_CORPUS_DIR), kcbert-base's vocabulary and shape")
    samples = BENCHMARKS_DIR.parents[1] / "nlpbook_helpers" / "samples"
    return Inputs(
        str(samples), "nsmc-sample", str(scratch / "kcbert-shaped"),
        f"the embedded sample and vocabulary, {'a toy' if is_toy else 'kcbert-base'}'s shape", is_toy,
    )  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    id: str
    """For example "P1"."""
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

    Both were measured in turns and are divided pair by pair, so that a drift of the machine cancels.
    """
    ratio = find_median([theirs / own for theirs, own in zip(reference, ours, strict=True)])
    is_met = None if target is None else ratio >= target
    return Row(id, what, tuple(ours), tuple(reference), ratio, f"{target:g} ×" if target else "", is_met, note)


def limit(
    id: str, what: str, ours: Sequence[float], most: float, reference: Sequence[float] = (), note: str = ""
) -> Row:
    """Make the row of a cost that shall be at most `most`."""
    is_met = find_median(ours) <= most
    return Row(id, what, tuple(ours), tuple(reference), None, f"at most {most:.3g}", is_met, note)


def find_median(values: Sequence[float]) -> float:
    """Return the median, as a plain float whatever the values are."""
    return float(statistics.median(values))


def count_flops(shape: Any, lengths: "np.ndarray") -> float:
    """Return the useful floating-point operations of a step: 6 per matrix weight and real token, and attention.

    Args:
        shape: The encoder's configuration.
        lengths: Real tokens of each example of the batch.
    """
    weights = 4 * shape.hidden_size**2 + 2 * shape.hidden_size * shape.intermediate_size
    attention = 12 * shape.hidden_size * (lengths.astype(float) ** 2).sum()
    return shape.num_hidden_layers * (6 * weights * float(lengths.sum()) + attention)


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
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "torch_threads": torch.get_num_threads(),
        "bfloat16": supports_bfloat16(),
        "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def run_python(*arguments: str, **environment: str) -> str:
    """Run a fresh Python in the benchmarks' folder and return the last line that it printed.

    Raises:
        RuntimeError: It failed; the message holds the end of what it said.
    """
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=BENCHMARKS_DIR, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed: {done.stderr.strip()[-500:]}")
    return (done.stdout.strip().splitlines() or [""])[-1]
