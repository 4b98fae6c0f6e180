"""Train, evaluate and deploy Korean text classifiers in a few readable lines.

Every public name is loaded on first use, so that `import nlpbook_helpers` costs milliseconds and does not
import torch before something needs it.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC_NAMES = {
    "checkpoints": ["CheckpointError", "load_checkpoint"],
    "arguments": ["ClassificationDeployArguments", "ClassificationTrainArguments"],
    "embedded": ["get_embedded_path"],
    "tpu": ["count_tpu_cores"],
    "runtime": ["describe_runtime", "get_profile", "set_logger", "set_seed"],
    "download": ["DownloadError", "download_downstream_dataset"],
    "corpora": ["ClassificationExample", "CsvCorpus", "KlueNLICorpus", "NsmcCorpus", "make_corpus"],
    "reading": ["read_rows"],
    "values": ["CorpusError"],
    "cleaning": ["clean_examples", "make_data_report"],
    "tokenizing": ["check_tokenizer"],
    "features": ["ClassificationDataset", "data_collator"],
    "task": ["ClassificationTask"],
    "evaluation": ["compare_runs", "evaluate", "find_worst_mistakes", "plot_confusion_matrix", "plot_learning_curve"],
    "classifier": ["Classifier", "load_tokenizer"],
    "trainer": ["get_trainer", "train"],
    "own_files": ["prepare_training"],
    "scoring": ["ScoringError", "score_file"],
    "exporting.hub": ["export"],
    "exporting.onnx": ["QuantizationError"],
    "web": ["get_web_service_app", "join_apps", "serve"],
}
_ROOM_OF_NAME = {name: room for room, names in _PUBLIC_NAMES.items() for name in names}

__all__ = list(_ROOM_OF_NAME)


def __getattr__(name: str) -> Any:
    """Import the room that holds `name` the first time somebody asks for it."""
    if name not in _ROOM_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has: {', '.join(__all__)}")
    value = getattr(import_module(f"{__name__}.{_ROOM_OF_NAME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
