"""What should a stranger know about it? The model card that leaves with a classifier.

How does it leave? A checkpoint becomes a folder that every Hugging Face program reads, with a model card.
"""

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCardData
from safetensors import SafetensorError

from nlpbook_helpers.checkpoints import METADATA_KEY, CheckpointError
from nlpbook_helpers.restoring import FIGURES_NAME, Figures, Restored, read_figures, restore
from nlpbook_helpers.exporting.onnx import write_graph

logger = logging.getLogger(__name__)


class KnownCorpus(NamedTuple):
    """What can be said about the data from a corpus's name alone."""

    title: str
    source: str
    licence: str
    """As the Hub spells it."""
    hub_name: str | None = None


_OURS = "written for the project nlpbook_helpers"
KNOWN_CORPORA = {
    "nsmc": KnownCorpus("NSMC", "https://github.com/e9t/nsmc", "cc0-1.0", "e9t/nsmc"),
    "klue-nli": KnownCorpus("KLUE-NLI", "https://github.com/KLUE-benchmark/KLUE", "cc-by-sa-4.0", "klue/klue"),
    "korean-hate-speech": KnownCorpus(
        "Korean hate speech", "https://github.com/kocohub/korean-hate-speech", "cc-by-sa-4.0"
    ),
    **{name: KnownCorpus(name, _OURS, "mit") for name in ("nsmc-sample", "klue-nli-sample", "topic-sample")},
}
UNKNOWN = "unknown"
HOUSEKEEPING = {  # arguments that say where and how often, not what is learned
    "downstream_corpus_root_dir", "downstream_model_dir", "save_top_k", "cpu_workers", "overwrite_cache",
    "force_download", "resume", "resume_minutes", "test_mode",
}  # fmt: skip
EXAMPLES = {1: ("다시 보고 싶은 영화",), 2: ("비가 그치지 않고 내린다", "날씨가 맑다")}
TEMPLATE = """---
{head}
---

# {title}

{summary}

{facts}

## Use

With [transformers](https://huggingface.co/docs/transformers) alone:

```python
from transformers import pipeline

classifier = pipeline("text-classification", {name}, truncation=True{trust})
print(classifier({pipeline_input}, top_k=None))
```

As a page, as an API or for whole files, with the package `nlpbook_helpers`:

```python
import nlpbook_helpers as nlpbook

classifier = nlpbook.Classifier.from_checkpoint({name}{trust})
print(classifier.labels, classifier.predict({helper_input}))
```
{graph}
## Limits

{limits}
{training}"""
GRAPH_TEXT = """
`onnx/model.onnx` is the same model in float32 for ONNX Runtime, for any number of texts of any length.
"""


def make_card(parts: Restored, name: str, licence: str | None = None, has_graph: bool = False) -> str:
    """Return a model card: YAML that the Hub reads, then Markdown.

    Args:
        parts: The classifier; what its checkpoint does not record is left out.
        name: Of the folder.
        licence: Default: that of the corpus, else "unknown".
        has_graph: Whether `onnx/model.onnx` is there.
    """
    corpus, figures = KNOWN_CORPORA.get(parts.metadata.get("corpus", "")), read_figures(parts.path)
    licence = licence or (corpus.licence if corpus else UNKNOWN)
    examples, is_pair = EXAMPLES[len(parts.input_names)], len(parts.input_names) == 2
    kind = "Compares two Korean texts" if is_pair else "Classifies a Korean text"
    return TEMPLATE.format(
        head=_make_head(parts, name, licence, corpus, figures),
        title=name,
        summary=f"{kind}, with {len(parts.labels)} labels; fine-tuned from {parts.info['model']}.",
        facts=_make_table(_list_facts(parts, licence, corpus, figures)),
        name=_quote(name),
        trust=", trust_remote_code=True" if _has_code(parts.tokenizer) else "",
        pipeline_input=_quote({"text": examples[0], "text_pair": examples[1]} if is_pair else examples[0]),
        helper_input=f"[({', '.join(map(_quote, examples))})]" if is_pair else _quote(list(examples)),
        graph=GRAPH_TEXT if has_graph else "",
        limits="\n".join(f"- {limit}" for limit in _list_limits(parts, corpus, figures)),
        training=_describe_training(parts.metadata),
    )


def _make_head(parts: Restored, name: str, licence: str, corpus: KnownCorpus | None, figures: Figures | None) -> str:
    encoder, accuracy, split = parts.info["model"], parts.metadata.get("val_acc"), "validation"
    if figures:
        accuracy, split = figures.accuracy, "test"
    data: dict[str, Any] = {"datasets": [corpus.hub_name]} if corpus and corpus.hub_name else {}
    if "/" in encoder:  # else it is a folder that only its owner has
        data["base_model"] = encoder
    if accuracy is not None:
        dataset = corpus.title if corpus else parts.metadata.get("corpus") or UNKNOWN
        result = EvalResult(
            task_type="text-classification", dataset_type=(corpus and corpus.hub_name) or dataset, dataset_name=dataset,
            dataset_split=split, metric_type="accuracy", metric_value=round(accuracy, 4),
        )  # fmt: skip
        data |= {"model_name": name, "eval_results": [result], "metrics": ["accuracy"]}
    card = ModelCardData(
        language="ko", license=licence, library_name="transformers", pipeline_tag="text-classification",
        tags=[parts.metadata["task"]] if "task" in parts.metadata else None, **data,
    )  # fmt: skip
    return card.to_yaml()


def _list_facts(parts: Restored, licence: str, corpus: KnownCorpus | None, figures: Figures | None) -> dict[str, Any]:
    metadata = parts.metadata
    facts: dict[str, Any] = {"labels": "; ".join(f"{index} {label}" for index, label in enumerate(parts.labels))}
    if parts.text_columns:
        facts["texts in training"] = ", ".join(parts.text_columns)
    if name := metadata.get("corpus"):
        facts["trained on"] = f"{corpus.title}: {corpus.source}" if corpus else name
    if figures:
        facts[f"accuracy on {figures.corpus or 'a test file'}"] = f"{figures.accuracy:.2%} of {figures.examples:,}"
    if "val_loss" in metadata:
        facts["validation loss"] = f"{metadata['val_loss']:.4f}"
    if "val_acc" in metadata:
        facts["validation accuracy"] = f"{metadata['val_acc']:.2%}"
    facts["parameters"] = f"{sum(parameter.numel() for parameter in parts.model.parameters()):,}, float32"
    facts["licence"] = f"{licence}" + (f", that of {corpus.title}" if corpus and licence == corpus.licence else "")
    facts["licence"] += f"; the terms of {parts.info['model']} hold besides"
    return facts


def _list_limits(parts: Restored, corpus: KnownCorpus | None, figures: Figures | None) -> list[str]:
    longer = "the pipeline cuts longer texts, nlpbook_helpers reads them in windows and averages the answers"
    if len(parts.input_names) == 2:
        longer = "of longer pairs the longer text is cut"
    source = corpus.title if corpus else parts.metadata.get("corpus") or "texts that its checkpoint does not name"
    limits = [
        f"It reads {parts.max_seq_length} tokens at once; {longer}.",
        f"It has learned from {source}. What it says of other kinds of text has not been measured.",
        "Its probabilities sum to one whatever it reads, also for nonsense.",
    ]
    if "val_loss" in parts.metadata:
        limits.append("The validation figures may have chosen this checkpoint: expect a little less on new texts.")
    if _has_code(parts.tokenizer):
        limits.append("Its tokenizer is Python code, which runs where it is loaded: read it before you trust it.")
    if not figures:
        limits.append("No figures of a test file are recorded with it.")
    return limits


def _describe_training(metadata: dict[str, Any]) -> str:
    """Return the sections on arguments and versions; checkpoints of earlier versions record neither."""
    text = ""
    if arguments := metadata.get("arguments"):
        shown = {name: value for name, value in arguments.items() if name not in HOUSEKEEPING and value is not None}
        text += f"\n## Training arguments\n\n{_make_table(shown)}\n"
    if versions := metadata.get("versions"):
        text += f"\n## Versions\n\n{_make_table(versions)}\n"
    return text


def _has_code(tokenizer: Any) -> bool:
    return not type(tokenizer).__module__.startswith("transformers.")


def _make_table(rows: dict[str, Any]) -> str:
    cells = ((str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows.items())
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in cells)])


def _quote(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


GRAPH_NAME = "onnx/model.onnx"
NOT_KEPT = ("tokenizer_files", "config")  # of the metadata: they become files of their own


def export(
    checkpoint: str | Path,
    folder: str | Path,
    onnx: bool = False,
    licence: str | None = None,
    overwrite: bool = False,
    pretrained_model_name: str | None = None,
    trust_remote_code: bool = False,
) -> Path:
    """Write a classifier in Hugging Face layout: weights in float32 as safetensors, labels, tokenizer and model card.

    `pipeline("text-classification", folder, truncation=True)` loads it and answers alike, `Classifier.from_checkpoint`
    serves it, and as a `pretrained_model_name` it is fine-tuned again.

    Args:
        checkpoint: What `Classifier.from_checkpoint` takes.
        folder: Where to write; it comes into being whole or not at all.
        onnx: Also write `onnx/model.onnx`, which answers like the model within 0.001 (of a logit).
        licence: For the card, as the Hub spells it, "cc-by-sa-4.0"; default: that of the corpus, if it is known.
        overwrite: Replace what was exported to `folder` before.
        pretrained_model_name: The encoder; needed only for a bare `{"state_dict": …}` file.
        trust_remote_code: Run the tokenizer code of `pretrained_model_name`, and take it along.

    Returns:
        `folder`, absolute.

    Raises:
        CheckpointError: Nothing there, unreadable, unsafe, or of another encoder; or the disk is full.
        FileExistsError: The folder is not empty, or with `overwrite` holds more than an export.
        QuantizationError: The model has no ONNX graph that answers alike.
    """
    folder = Path(folder).expanduser().resolve()
    _check_target(folder, overwrite)
    parts = restore(checkpoint, pretrained_model_name, trust_remote_code=trust_remote_code)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as work_dir:
            written = Path(work_dir) / "written"
            _write(parts, written, onnx)
            (written / "README.md").write_text(make_card(parts, folder.name, licence, onnx), encoding="utf-8")
            if folder.exists():
                os.replace(folder, Path(work_dir) / "earlier")
            os.replace(written, folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"could not write {folder} ({error}): free some space, or choose another folder"
        ) from error
    logger.info("%s: %s", folder.name, ", ".join(sorted(path.name for path in folder.iterdir())))
    return folder


def _check_target(folder: Path, overwrite: bool) -> None:
    """Refuse to delete what this function has not written."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"folder: expected a new folder, got the file {folder}: choose another name")
    names = sorted(path.name for path in folder.iterdir())
    foreign = [
        path.name for path in folder.iterdir() if path.suffix == ".ckpt" or path.is_dir() and path.name != "onnx"
    ]
    if names and not overwrite:
        raise FileExistsError(
            f"folder: expected a new or empty folder, got {folder}, which holds {names[0]} and {len(names) - 1} more: "
            "choose another, or replace it with overwrite=True"
        )
    if names and (foreign or "config.json" not in names):
        raise FileExistsError(
            f"folder: overwrite=True replaces an earlier export, but {folder} holds {(foreign or names)[0]}, which no "
            "export writes: choose another folder"
        )


def _write(parts: Restored, folder: Path, onnx: bool) -> None:
    model, tokenizer = parts.model.eval(), parts.tokenizer
    model.config.id2label = dict(enumerate(parts.labels))
    model.config.label2id = {label: index for index, label in enumerate(parts.labels)}
    kept = {name: value for name, value in parts.metadata.items() if name not in NOT_KEPT}
    setattr(model.config, METADATA_KEY, {**kept, "label_names": parts.labels, "max_seq_length": parts.max_seq_length})
    model.save_pretrained(folder)
    tokenizer.model_max_length = parts.max_seq_length  # where `pipeline(…, truncation=True)` cuts
    tokenizer.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):  # written through a temporary file, which its owner alone may read
        shutil.copymode(folder / "config.json", weights)
    figures = (parts.path if parts.path.is_dir() else parts.path.parent) / FIGURES_NAME
    if figures.is_file():
        shutil.copyfile(figures, folder / FIGURES_NAME)
    if onnx:
        (folder / GRAPH_NAME).parent.mkdir()
        write_graph(model, folder / GRAPH_NAME)
