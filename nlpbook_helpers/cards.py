"""What should a stranger know about it? The model card that leaves with a classifier."""

import json
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCardData

from nlpbook_helpers.restoring import Figures, Restored, read_figures


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
