"""Trains as one of several processes of torchrun, and writes what it did; imports nothing of the tests."""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from pytorch_lightning import Callback
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.trainer_pt_utils import LengthGroupedSampler

from nlpbook_helpers import download
from nlpbook_helpers import features as dataset_room
from nlpbook_helpers import trainer as devices
from nlpbook_helpers import trainer as trainer_room
from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.corpora import NsmcCorpus
from nlpbook_helpers.features import ClassificationDataset, data_collator
from nlpbook_helpers.runtime import set_seed
from nlpbook_helpers.task import ClassificationTask
from nlpbook_helpers.trainer import get_trainer

RANK = os.environ.get("RANK", "0")
DROPOUT = float(os.environ.get("DROPOUT", "0"))  # with it, several processes draw other numbers than one


class Recorder(Callback):
    """Notes which examples were learned from, and ends all processes without a word at a step."""

    def __init__(self, kill_at: int) -> None:
        self.kill_at = kill_at
        self.seen: dict[int, list[str]] = {}

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            self.seen.setdefault(trainer.current_epoch, []).append(str(row[mask == 1].tolist()))

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def note_calls(room, name: str) -> None:
    """Append a line to a file, common to all processes, for each call of a function."""
    original = getattr(room, name)

    def noted(*args, **named):
        with (PLACE / "calls.txt").open("a") as file:
            print(name, file=file)
        return original(*args, **named)

    setattr(room, name, noted)


def train(settings: dict, folder: Path, kill_at: int) -> None:
    """Train as a script does, and write metrics and examples of this process."""
    args = ClassificationTrainArguments(**settings)
    set_seed(args)
    download.download_downstream_dataset(args)
    tokenizer = AutoTokenizer.from_pretrained(args.pretrained_model_name)
    data = [ClassificationDataset(args, NsmcCorpus(), tokenizer, mode) for mode in ("train", "test")]
    model = AutoModelForSequenceClassification.from_pretrained(
        args.pretrained_model_name, num_labels=2, hidden_dropout_prob=DROPOUT, attention_probs_dropout_prob=DROPOUT
    )
    trainer, recorder = get_trainer(args), Recorder(kill_at)
    trainer.callbacks.append(recorder)
    sampler = LengthGroupedSampler(args.batch_size * trainer.world_size, lengths=data[0].lengths)
    trainer.fit(
        ClassificationTask(model, args),
        DataLoader(data[0], args.batch_size, sampler=sampler, collate_fn=data_collator),
        DataLoader(data[1], args.batch_size, collate_fn=data_collator),
    )
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    about = {"metrics": metrics, "seen": recorder.seen, "steps": trainer.global_step}
    (folder / f"rank-{RANK}.json").write_text(json.dumps(about))


if __name__ == "__main__":
    torch.set_num_threads(1)
    devices.supports_bfloat16 = lambda: False  # 16 bits would hide what is compared
    note_calls(dataset_room, "encode_examples")
    note_calls(trainer_room, "save_checkpoint")
    for job in json.loads(Path(sys.argv[1]).read_text()):
        PLACE = Path(job["folder"])
        download.REMOTE_FILES["nsmc"] = {
            name: download.RemoteFile(job["url"] + name, blob) for name, blob in job["blobs"].items()
        }
        train(job["settings"], PLACE, job["kill_at"])
