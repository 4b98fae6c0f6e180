"""Make the shipped classifiers from the shipped encoder: `python checkpoints/make.py doccls|paircls`.

Fine-tunes on the whole of NSMC or KLUE-NLI with the package's own trainer, chooses the checkpoint on a held-out slice,
scores it once on the official test file, and writes weights in half precision with configuration and tokenizer beside
them, and the figures.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.trainer_pt_utils import LengthGroupedSampler

import nlpbook_helpers as nlpbook

HERE = Path(__file__).parent
ENCODER = HERE / "nlpbook-mini"
RECIPES = {
    "doccls": {
        "corpus": nlpbook.NsmcCorpus, "downstream_corpus_name": "nsmc",
        "downstream_task_name": "document-classification", "max_seq_length": 128, "epochs": 3,
        "learning_rate": 2e-4, "batch_size": 64, "validation_size": 5_000,
    },
    "paircls": {
        "corpus": nlpbook.KlueNLICorpus, "downstream_corpus_name": "klue-nli",
        "downstream_task_name": "pair-classification", "max_seq_length": 128, "epochs": 6,
        "learning_rate": 2e-4, "batch_size": 32, "validation_size": 1_000,
    },
}  # fmt: skip


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
    trainer.fit(
        nlpbook.ClassificationTask(model, args),
        train_dataloaders=DataLoader(data, args.batch_size, sampler=sampler, collate_fn=nlpbook.data_collator),
        val_dataloaders=DataLoader(held_out, 256, collate_fn=nlpbook.data_collator),
    )
    return Path(trainer.checkpoint_callback.best_model_path), args


def ship(best: Path, args: nlpbook.ClassificationTrainArguments, folder: Path) -> None:
    """Write the checkpoint in half precision, configuration and tokenizer beside it, and its figures."""
    checkpoint = nlpbook.load_checkpoint(best)
    weights = {name: tensor.half() for name, tensor in checkpoint["state_dict"].items()}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    torch.save({"state_dict": weights, "nlpbook": checkpoint["nlpbook"]}, folder / best.name)
    classifier = nlpbook.Classifier.from_checkpoint(folder)
    classifier.model.config.save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)
    corpus = RECIPES[folder.name]["corpus"]()
    report = nlpbook.evaluate(
        classifier.model, nlpbook.ClassificationDataset(args, corpus, classifier.tokenizer, "test")
    )
    print(f"{folder.name}: {report}\n{report.per_class.round(4)}")
    figures = {
        "test_accuracy": round(report.accuracy, 4),
        "test_macro_f1": round(report.macro_f1, 4),
        "test_examples": len(report.probabilities),
        "val_loss": round(checkpoint["nlpbook"]["val_loss"], 4),
        "per_class": report.per_class.round(4).to_dict(orient="index"),
        "arguments": {key: RECIPES[folder.name][key] for key in RECIPES[folder.name] if key != "corpus"},
    }
    (folder / "figures.json").write_text(json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Train and ship the classifiers named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=RECIPES)
    parser.add_argument("--encoder", type=Path, default=ENCODER, help="folder of the pretrained encoder")
    parser.add_argument("--output", type=Path, default=HERE, help="where the classifiers' folders are written")
    options = parser.parse_args()
    for name in options.names:
        with tempfile.TemporaryDirectory() as work_dir:
            best, args = train(name, options.encoder, work_dir)
            ship(best, args, options.output / name)


if __name__ == "__main__":
    main()
