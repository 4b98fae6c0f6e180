"""Make the shipped encoder and classifiers: `python checkpoints/make.py nlpbook-mini|doccls|paircls`.

`nlpbook-mini`: a multilingual encoder cut to Korean (convert.py), then to half its layers (distil.py).
`doccls`: `nlpbook-mini`, fine-tuned on the whole of NSMC with the package's own trainer; the checkpoint is chosen on a
held-out slice.
`paircls`: the encoder of convert.py with all its layers, fine-tuned on inference pairs (finetune_pairs.py).

Each classifier is scored once on the official test file and written with configuration, tokenizer and figures beside
it; its weights lie in 8 bits with a scale for each output, which `load_checkpoint` undoes. The encoder's are 8-bit
floats, which transformers' `from_pretrained` reads as they are. What is in `checkpoints/build/` of an earlier run is
not made again; an interrupted distillation goes on.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import finetune_pairs
import torch
from convert import convert
from distil import distil
from finetune_pairs import finetune
from pytorch_lightning.callbacks import EMAWeightAveraging
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.trainer_pt_utils import LengthGroupedSampler

import nlpbook_helpers as nlpbook
from nlpbook_helpers.checkpoints import METADATA_KEY, pack_weights
from nlpbook_helpers.runtime import find_versions

HERE = Path(__file__).parent
ENCODER = HERE / "nlpbook-mini"
RECIPES = {
    "doccls": {
        "corpus": nlpbook.NsmcCorpus, "downstream_corpus_name": "nsmc",
        "downstream_task_name": "document-classification", "max_seq_length": 128, "epochs": 2,
        "learning_rate": 2e-4, "batch_size": 64, "validation_size": 5_000,
        "monitor": "max val_acc",
    },
}  # fmt: skip
CORPORA = {"doccls": ("nsmc", nlpbook.NsmcCorpus), "paircls": ("klue-nli", nlpbook.KlueNLICorpus)}
TASKS = {"doccls": "document-classification", "paircls": "pair-classification"}
TEST_CORPORA = {"doccls": "NSMC test", "paircls": "KLUE-NLI dev"}
TRAIN_EXAMPLES = {"doccls": 145_000, "paircls": 24_998 + 2_490}  # NSMC's but 5,000; KLUE-NLI's, and XNLI's Korean ones
KEPT = ("epoch", "global_step", "pytorch-lightning_version", "state_dict", "loops", "nlpbook")
BUILD = HERE / "build"  # of what is only on the way, not kept in the repository
AVERAGE_OVER = 500  # steps; the mean of the last weights is steadier than the last weights


def make_converted() -> Path:
    """Return the folder of the large encoder, cut to the word pieces of Korean."""
    folder = BUILD / "multilingual-e5-small-korean"
    if not (folder / "config.json").exists():
        convert(folder)
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


def train(name: str, encoder: Path, work_dir: str) -> tuple[Path, nlpbook.ClassificationTrainArguments]:
    """Fine-tune one recipe; return the best checkpoint and the arguments."""
    recipe = dict(RECIPES[name])
    corpus = recipe.pop("corpus")()
    args = nlpbook.ClassificationTrainArguments(str(encoder), downstream_model_dir=work_dir, seed=7, **recipe)
    nlpbook.set_seed(args)
    nlpbook.download_downstream_dataset(args)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    config = AutoConfig.from_pretrained(encoder, num_labels=corpus.num_labels)
    model = AutoModelForSequenceClassification.from_pretrained(encoder, config=config)
    data, held_out = (nlpbook.ClassificationDataset(args, corpus, tokenizer, mode) for mode in ("train", "val"))
    sampler = LengthGroupedSampler(args.batch_size, lengths=data.lengths)
    trainer = nlpbook.get_trainer(args)
    trainer.callbacks.append(EMAWeightAveraging(decay=1 - 1 / AVERAGE_OVER))
    trainer.checkpoint_callback.save_weights_only = False  # else the averaged weights are measured but not saved
    trainer.fit(
        nlpbook.ClassificationTask(model, args),
        train_dataloaders=DataLoader(data, args.batch_size, sampler=sampler, collate_fn=nlpbook.data_collator),
        val_dataloaders=DataLoader(held_out, 256, collate_fn=nlpbook.data_collator),
    )
    return Path(trainer.checkpoint_callback.best_model_path), args


def ship(checkpoint: dict[str, Any], name: str, file_name: str, arguments: dict[str, Any]) -> None:
    """Write a checkpoint with its weights in 8 bits, configuration and tokenizer beside it, and its figures."""
    folder = HERE / name
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in folder.glob("*.ckpt"):
        earlier.unlink()
    files = checkpoint[METADATA_KEY]["tokenizer_files"]
    short = shorten(files["tokenizer.json"].numpy().tobytes())
    files["tokenizer.json"] = torch.frombuffer(bytearray(short), dtype=torch.uint8)
    torch.save({**checkpoint, "state_dict": pack_weights(checkpoint["state_dict"])}, folder / file_name)
    classifier = nlpbook.Classifier.from_checkpoint(folder)
    classifier.model.config.save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(short)
    write_figures(classifier, name, arguments)


def write_figures(classifier: nlpbook.Classifier, name: str, arguments: dict[str, Any]) -> None:
    """Score a classifier on the official test file, as it is shipped, and write the figures beside it."""
    args = nlpbook.ClassificationTrainArguments(
        downstream_corpus_name=CORPORA[name][0], max_seq_length=classifier.max_seq_length,
        downstream_task_name=TASKS[name],
    )  # fmt: skip
    dataset = nlpbook.ClassificationDataset(args, CORPORA[name][1](), classifier.tokenizer, "test")
    report = nlpbook.evaluate(classifier.model, dataset)
    print(f"{name}: {report}\n{report.per_class.round(4)}")
    figures = {
        "train_examples": TRAIN_EXAMPLES[name],
        "test_corpus": TEST_CORPORA[name],
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


def make_doccls() -> None:
    """Fine-tune `nlpbook-mini` on NSMC."""
    with tempfile.TemporaryDirectory() as work_dir:
        best, args = train("doccls", ENCODER, work_dir)
        checkpoint = nlpbook.load_checkpoint(best)
        recipe = {key: value for key, value in RECIPES["doccls"].items() if key != "corpus"}
        ship({key: checkpoint[key] for key in KEPT}, "doccls", best.name, recipe)


def make_paircls() -> None:
    """Fine-tune the converted encoder on inference pairs; what is there of earlier steps is not made again."""
    encoder, finetuned = make_converted(), BUILD / "paircls"
    if not (finetuned / "config.json").exists():
        finetune(encoder, finetuned)
    model = AutoModelForSequenceClassification.from_pretrained(finetuned)
    corpus = nlpbook.KlueNLICorpus()
    metadata = {
        "pretrained_model_name": encoder.name,
        "task": "pair-classification",
        "corpus": "klue-nli",
        "max_seq_length": finetune_pairs.MAX_SEQ_LENGTH,
        "labels": corpus.get_labels(),
        "label_names": corpus.label_names,
        "text_columns": list(corpus.text_columns),
        "versions": find_versions(),
        "config": json.dumps(model.config.to_diff_dict() | {"model_type": model.config.model_type}),
        "tokenizer_files": {
            path.name: torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
            for path in sorted(finetuned.glob("tokenizer*"))
        },
    }
    weights = {f"model.{key}": tensor for key, tensor in model.state_dict().items()}
    recipe = {key.lower(): getattr(finetune_pairs, key) for key in ("EPOCHS", "BATCH_SIZE", "LEARNING_RATE", "SEED")}
    epoch = f"epoch={finetune_pairs.EPOCHS - 1}.ckpt"
    ship({"state_dict": weights, METADATA_KEY: metadata}, "paircls", epoch, recipe)


def main() -> None:
    """Make what is named on the command line."""
    makers = {"nlpbook-mini": make_encoder, "doccls": make_doccls, "paircls": make_paircls}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=makers)
    for name in parser.parse_args().names:
        makers[name]()


if __name__ == "__main__":
    main()
