"""Make the shipped encoder and classifiers: `python checkpoints/make.py nlpbook-mini|doccls|paircls`.

`nlpbook-mini`: a multilingual encoder cut to Korean (convert.py), then to half its layers (distil.py).
`paircls`: the same encoder with all its layers, which has read film reviews (adapt.py), fine-tuned on inference pairs.
`doccls`: `nlpbook-mini`, fine-tuned on film reviews. Both learn from labels and from what others answer (finetune.py).

Each classifier is scored once on the official test file and written with configuration, tokenizer and figures beside
it; its weights lie in 8 bits with a scale for each output, which `load_checkpoint` undoes. The encoder's are 8-bit
floats, which transformers' `from_pretrained` reads as they are. What is in `checkpoints/build/` of an earlier run is
not made again; an interrupted run goes on.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from adapt import adapt
from convert import convert
from distil import distil
from finetune import RECIPES, finetune
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

import nlpbook_helpers as nlpbook
from nlpbook_helpers.checkpoints import METADATA_KEY, pack_weights
from nlpbook_helpers.runtime import find_versions

HERE = Path(__file__).parent
ENCODER = HERE / "nlpbook-mini"
BUILD = HERE / "build"  # of what is only on the way, not kept in the repository


@dataclass(frozen=True)
class Shipped:
    """What a shipped classifier says of itself."""

    task: str
    corpus_name: str
    corpus: nlpbook.CsvCorpus
    test_corpus: str
    train_examples: int


CLASSIFIERS = {
    "doccls": Shipped("document-classification", "nsmc", nlpbook.NsmcCorpus(), "NSMC test", 141_182 + 190_237),
    "paircls": Shipped(
        "pair-classification", "klue-nli", nlpbook.KlueNLICorpus(), "KLUE-NLI dev", 23_994 + 2_490
    ),
}  # fmt: skip


def make_converted() -> Path:
    """Return the folder of the large encoder, cut to the word pieces of Korean."""
    folder = BUILD / "multilingual-e5-small-korean"
    if not (folder / "config.json").exists():
        convert(folder)
    return folder


def make_adapted() -> Path:
    """Return the folder of the large encoder after it has read film reviews."""
    folder = BUILD / "multilingual-e5-small-reviews"
    if not (folder / "config.json").exists():
        adapt(make_converted(), folder)
    return folder


def make_encoder() -> None:
    """Distil `nlpbook-mini` and round it: matrices to 8-bit floats, all else to 16."""
    distilled = BUILD / "distilled"
    if not (distilled / "config.json").exists():
        distil(make_converted(), distilled)
    AutoTokenizer.from_pretrained(distilled).save_pretrained(ENCODER)
    AutoConfig.from_pretrained(distilled).save_pretrained(ENCODER)
    weights = {
        name: tensor.to(torch.float8_e4m3fn if tensor.ndim == 2 else torch.float16)
        for name, tensor in load_file(distilled / "model.safetensors").items()
    }
    save_file(weights, ENCODER / "model.safetensors", metadata={"format": "pt"})
    path = ENCODER / "tokenizer.json"
    path.write_bytes(shorten(path.read_bytes()))


def shorten(tokenizer: bytes) -> bytes:
    """Return a `tokenizer.json` without the white space that doubles its size."""
    return json.dumps(json.loads(tokenizer), ensure_ascii=False, separators=(",", ":")).encode()


def ship(checkpoint: dict[str, Any], name: str, finetuned: Path, arguments: dict[str, Any]) -> None:
    """Write a checkpoint with its weights in 8 bits, configuration and tokenizer beside it, and its figures."""
    folder = HERE / name
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in folder.glob("*.ckpt"):
        earlier.unlink()
    AutoConfig.from_pretrained(finetuned).save_pretrained(folder)
    AutoTokenizer.from_pretrained(finetuned).save_pretrained(folder)
    path = folder / "tokenizer.json"
    path.write_bytes(shorten(path.read_bytes()))
    torch.save({**checkpoint, "state_dict": pack_weights(checkpoint["state_dict"])}, folder / f"{name}.ckpt")
    write_figures(nlpbook.Classifier.from_checkpoint(folder), name, arguments)


def write_figures(classifier: nlpbook.Classifier, name: str, arguments: dict[str, Any]) -> None:
    """Score a classifier on the official test file, as it is shipped, and write the figures beside it."""
    shipped = CLASSIFIERS[name]
    args = nlpbook.ClassificationTrainArguments(
        downstream_corpus_name=shipped.corpus_name, max_seq_length=classifier.max_seq_length,
        downstream_task_name=shipped.task,
    )  # fmt: skip
    report = nlpbook.evaluate(
        classifier.model, nlpbook.ClassificationDataset(args, shipped.corpus, classifier.tokenizer, "test")
    )
    print(f"{name}: {report}\n{report.per_class.round(4)}")
    figures = {
        "train_examples": shipped.train_examples,
        "test_corpus": shipped.test_corpus,
        "test_accuracy": round(report.accuracy, 4),
        "test_macro_f1": round(report.macro_f1, 4),
        "test_examples": len(report.probabilities),
        "per_class": report.per_class.round(4).to_dict(orient="index"),
        "confusion": report.confusion.tolist(),
        "arguments": arguments,
    }
    (HERE / name / "figures.json").write_text(
        json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )


def make_classifier(name: str, encoder: Path, large: Path) -> None:
    """Fine-tune an encoder and write the classifier; what is there of an earlier run is not made again."""
    finetuned, shipped, recipe = BUILD / name, CLASSIFIERS[name], RECIPES[name]
    if not (finetuned / "config.json").exists():
        finetune(name, large, encoder, finetuned)
    model = AutoModelForSequenceClassification.from_pretrained(finetuned)
    metadata = {
        "pretrained_model_name": encoder.name,
        "task": shipped.task,
        "corpus": shipped.corpus_name,
        "max_seq_length": recipe.max_seq_length,
        "labels": shipped.corpus.get_labels(),
        "label_names": shipped.corpus.label_names,
        "text_columns": list(shipped.corpus.text_columns),
        "versions": find_versions(),
        "config": json.dumps(model.config.to_diff_dict() | {"model_type": model.config.model_type}),
    }
    weights = {f"model.{key}": tensor for key, tensor in model.state_dict().items()}
    arguments = {key: value for key, value in asdict(recipe).items() if key not in ("read", "labels")}
    ship({"state_dict": weights, METADATA_KEY: metadata}, name, finetuned, arguments)


def main() -> None:
    """Make what is named on the command line."""
    makers = {
        "nlpbook-mini": make_encoder,
        "doccls": lambda: make_classifier("doccls", ENCODER, make_adapted()),
        "paircls": lambda: make_classifier("paircls", make_adapted(), make_adapted()),
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=makers)
    for name in parser.parse_args().names:
        makers[name]()


if __name__ == "__main__":
    main()
