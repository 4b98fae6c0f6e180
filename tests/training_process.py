"""Trains in a process of its own, which may end without a word; imports nothing of the tests, for its sake."""

import json
import os
import sys
from pathlib import Path

import torch
from pytorch_lightning import Callback
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.trainer_pt_utils import LengthGroupedSampler

import nlpbook_helpers as nlpbook


class Witness(Callback):
    """Notes which examples each epoch learns from, and signals the process when a hook is called for the n-th time."""

    def __init__(self, hook: str, count: int, number: int) -> None:
        self.seen: dict[int, list[str]] = {}
        self.left, self.number = count, number
        if hook:
            setattr(self, hook, self.kill)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            self.seen.setdefault(trainer.current_epoch, []).append(str(row[mask == 1].tolist()))

    def kill(self, *_) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), self.number)


def train(settings: dict, hook: str = "", count: int = 0, number: int = 9, dropout: float = 0.1) -> None:
    """Train as a notebook does; each process leaves a file of its metrics and examples."""
    torch.set_num_threads(1)
    args = nlpbook.ClassificationTrainArguments(**settings)
    nlpbook.set_seed(args)
    tokenizer = AutoTokenizer.from_pretrained(args.pretrained_model_name)
    data = [nlpbook.ClassificationDataset(args, nlpbook.NsmcCorpus(), tokenizer, mode) for mode in ("train", "test")]
    model = AutoModelForSequenceClassification.from_pretrained(
        args.pretrained_model_name, num_labels=2, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout
    )
    witness = Witness(hook, count, number)
    # 16 bits would hide what is compared
    trainer = nlpbook.get_trainer(args, callbacks=[witness], precision="32-true")
    sampler = LengthGroupedSampler(args.batch_size, lengths=data[0].lengths)
    trainer.fit(
        nlpbook.ClassificationTask(model, args),
        DataLoader(
            data[0], args.batch_size, sampler=sampler, collate_fn=nlpbook.data_collator, num_workers=args.cpu_workers
        ),
        DataLoader(data[1], args.batch_size, collate_fn=nlpbook.data_collator),
    )
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    about = {"metrics": metrics, "seen": witness.seen, "steps": trainer.global_step}
    Path(args.downstream_model_dir, f"rank-{trainer.global_rank}.json").write_text(json.dumps(about))


if __name__ == "__main__":
    for job in json.loads(sys.argv[1]):
        train(**job)
