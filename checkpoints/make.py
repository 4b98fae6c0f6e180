"""Make the shipped classifiers: `python checkpoints/make.py doccls|paircls`.

`doccls`: `nlpbook-mini`, fine-tuned on the whole of NSMC with the package's own trainer; the checkpoint is chosen on a
held-out slice. `paircls`: a multilingual encoder cut to Korean (convert.py), fine-tuned on inference pairs
(finetune_pairs.py). Each is scored once on the official test file and written with configuration, tokenizer and figures
beside it; weights lie in 8 bits with a scale for each output, which `load_checkpoint` undoes.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.trainer_pt_utils import LengthGroupedSampler

import nlpbook_helpers as nlpbook

HERE = Path(__file__).parent
ENCODER = HERE / "nlpbook-mini"
RECIPES = {
    "doccls": {
        "corpus": nlpbook.NsmcCorpus, "downstream_corpus_name": "nsmc",
        "downstream_task_name": "document-classification", "max_seq_length": 128, "epochs": 2,
        "learning_rate": 2e-4, "batch_size": 64, "validation_size": 5_000, "hidden_share": 0.0,
        "monitor": "max val_acc",
    },
    "paircls": {
        "corpus": nlpbook.KlueNLICorpus, "downstream_corpus_name": "klue-nli",
        "downstream_task_name": "pair-classification", "max_seq_length": 64, "epochs": 6,
        "learning_rate": 2e-4, "batch_size": 32, "validation_size": 2_500, "hidden_share": 0.1,
        "monitor": "max val_acc",
    },
}  # fmt: skip
TEST_CORPORA = {"doccls": "NSMC test", "paircls": "KLUE-NLI dev"}
KEPT = ("epoch", "global_step", "pytorch-lightning_version", "state_dict", "loops", "nlpbook")
AVERAGE_OVER = 500  # steps; the mean of the last weights is steadier than the last weights


class HidingTask(nlpbook.ClassificationTask):
    """Fine-tuning that hides some tokens of every text anew each time, so that a small corpus is not learned by heart.

    Args:
        model: A `…ForSequenceClassification`.
        args: As of `ClassificationTask`.
        tokenizer: The model's tokenizer.
        share: Of the tokens to hide, special tokens aside.
    """

    def __init__(self, model: Any, args: Any, tokenizer: Any, share: float) -> None:
        super().__init__(model, args)
        self.mask_token_id, self.share = tokenizer.mask_token_id, share
        self.special = torch.tensor(tokenizer.all_special_ids)

    def training_step(self, inputs: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Return the loss of the batch with hidden tokens."""
        ids = inputs["input_ids"]
        is_hidden = (torch.rand(ids.shape, device=ids.device) < self.share) & ~torch.isin(
            ids, self.special.to(ids.device)
        )
        return super().training_step({**inputs, "input_ids": ids.masked_fill(is_hidden, self.mask_token_id)}, batch_idx)


def train(name: str, encoder: Path, work_dir: str) -> tuple[Path, nlpbook.ClassificationTrainArguments]:
    """Fine-tune one recipe; return the best checkpoint and the arguments."""
    recipe = dict(RECIPES[name])
    corpus, hidden_share = recipe.pop("corpus")(), recipe.pop("hidden_share")
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
        HidingTask(model, args, tokenizer, hidden_share),
        train_dataloaders=DataLoader(data, args.batch_size, sampler=sampler, collate_fn=nlpbook.data_collator),
        val_dataloaders=DataLoader(held_out, 256, collate_fn=nlpbook.data_collator),
    )
    return Path(trainer.checkpoint_callback.best_model_path), args


def ship(best: Path, args: nlpbook.ClassificationTrainArguments, folder: Path) -> None:
    """Write the checkpoint in half precision, configuration and tokenizer beside it, and its figures."""
    checkpoint = nlpbook.load_checkpoint(best)
    checkpoint["state_dict"] = {name: tensor.half() for name, tensor in checkpoint["state_dict"].items()}
    checkpoint = {name: checkpoint[name] for name in KEPT}
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in folder.glob("*.ckpt"):
        earlier.unlink()
    torch.save(checkpoint, folder / best.name)
    classifier = nlpbook.Classifier.from_checkpoint(folder)
    classifier.model.config.save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)
    write_figures(classifier, args, folder, checkpoint["nlpbook"]["val_loss"])


def write_figures(classifier: nlpbook.Classifier, args: Any, folder: Path, val_loss: float) -> None:
    """Score a classifier on the official test file and write the figures beside it."""
    corpus = RECIPES[folder.name]["corpus"]()
    report = nlpbook.evaluate(
        classifier.model, nlpbook.ClassificationDataset(args, corpus, classifier.tokenizer, "test")
    )
    print(f"{folder.name}: {report}\n{report.per_class.round(4)}")
    figures = {
        "test_corpus": TEST_CORPORA[folder.name],
        "test_accuracy": round(report.accuracy, 4),
        "test_macro_f1": round(report.macro_f1, 4),
        "test_examples": len(report.probabilities),
        "val_loss": round(val_loss, 4),
        "per_class": report.per_class.round(4).to_dict(orient="index"),
        "confusion": report.confusion.tolist(),
        "arguments": {key: value for key, value in RECIPES[folder.name].items() if key != "corpus"},
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
