"""Trains in a process of its own, which ends without a word; imports nothing of the tests, for that process's sake."""

import os
import signal

import torch
from pytorch_lightning import Callback, seed_everything
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.trainer_pt_utils import LengthGroupedSampler

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.corpora import NsmcCorpus
from nlpbook_helpers.features import ClassificationDataset, data_collator
from nlpbook_helpers.task import ClassificationTask
from nlpbook_helpers.trainer import get_trainer


class Killer(Callback):
    """Ends the process without a word after some steps, counted over the whole training."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def train(settings: dict, kill_at: int, is_grouped: bool) -> None:
    """Train as a notebook does, in a process of its own."""
    torch.set_num_threads(1)
    args = ClassificationTrainArguments(**settings)
    seed_everything(args.seed, verbose=False)
    tokenizer = AutoTokenizer.from_pretrained(args.pretrained_model_name)
    data = [ClassificationDataset(args, NsmcCorpus(), tokenizer, mode) for mode in ("train", "test")]
    sampler = LengthGroupedSampler(4, lengths=data[0].lengths) if is_grouped else RandomSampler(data[0])
    train_loader = DataLoader(data[0], 4, sampler=sampler, collate_fn=data_collator)
    val_loader = DataLoader(data[1], 4, sampler=SequentialSampler(data[1]), collate_fn=data_collator)
    model = AutoModelForSequenceClassification.from_pretrained(args.pretrained_model_name, num_labels=2)
    trainer = get_trainer(args)
    trainer.callbacks.append(Killer(kill_at))  # type: ignore[attr-defined]
    trainer.fit(ClassificationTask(model, args), train_dataloaders=train_loader, val_dataloaders=val_loader)
