"""Training does what its arguments say."""

import json
import os

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from conftest import REVIEWS
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from transformers.trainer_pt_utils import LengthGroupedSampler

from nlpbook_helpers.checkpoints import CheckpointError
from nlpbook_helpers.corpora import NsmcCorpus
from nlpbook_helpers.features import ClassificationDataset, data_collator
from nlpbook_helpers.task import ClassificationTask
from nlpbook_helpers.trainer import get_trainer


def fit(args, tokenizer, model, sampler=RandomSampler):
    """Train as the book's cells do; return the task and the Trainer."""
    pl.seed_everything(args.seed, verbose=False)
    train, test = (ClassificationDataset(args, NsmcCorpus(), tokenizer, mode) for mode in ("train", "test"))
    loaders = [
        DataLoader(train, batch_size=args.batch_size, sampler=sampler(train), collate_fn=data_collator),
        DataLoader(test, batch_size=args.batch_size, sampler=SequentialSampler(test), collate_fn=data_collator),
    ]
    task, trainer = ClassificationTask(model, args), get_trainer(args)
    trainer.fit(task, train_dataloaders=loaders[0], val_dataloaders=loaders[1])
    return task, trainer


def read_metrics(trainer) -> pd.DataFrame:
    return pd.read_csv(os.path.join(trainer.log_dir, "metrics.csv"))


def test_the_learning_rate_falls_by_a_tenth_each_epoch(make_args, tokenizer, make_model):
    _, trainer = fit(make_args(epochs=4), tokenizer, make_model())
    rates = read_metrics(trainer)["lr-AdamW"].dropna().drop_duplicates().to_numpy()
    assert rates == pytest.approx(1e-3 * 0.9 ** np.arange(4))


def test_eight_rows_are_learned(make_args, tokenizer, make_model):
    args = make_args(epochs=30, learning_rate=5e-3)
    _, trainer = fit(args, tokenizer, make_model(), lambda data: LengthGroupedSampler(4, lengths=data.lengths))
    losses = read_metrics(trainer)["val_loss"].dropna().to_numpy()
    assert losses[-1] < losses[0] / 2


def test_the_same_seed_gives_the_same_numbers(make_args, tokenizer, make_model):
    first, second = (fit(make_args(), tokenizer, make_model())[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_checkpoints_are_named_as_in_the_book_and_safe_to_load(make_args, tokenizer, make_model, tmp_path):
    args = make_args(epochs=2, save_top_k=-1)
    fit(args, tokenizer, make_model())
    names = sorted(path.name for path in (tmp_path / "models").glob("*"))
    assert [name.split("=")[1].split("-")[0] for name in names[:2]] == ["0", "1"]
    assert names[2:] == ["logs"]
    checkpoint = torch.load(tmp_path / "models" / names[1], weights_only=True)
    assert all(name.startswith("model.") for name in checkpoint["state_dict"])
    assert names[1] == f"epoch=1-val_loss={checkpoint['nlpbook']['val_loss']:.2f}.ckpt"
    assert checkpoint["nlpbook"]["label_names"] == ["부정 (negative)", "긍정 (positive)"]
    assert checkpoint["nlpbook"]["pretrained_model_name"] == "tiny-bert"
    assert str(tmp_path) not in json.dumps(checkpoint["nlpbook"], default=repr)
    assert "optimizer_states" not in checkpoint


def test_save_top_k_keeps_the_best_by_the_monitored_metric(make_args, tokenizer, make_model, tmp_path):
    _, trainer = fit(make_args(epochs=4, monitor="max val_acc"), tokenizer, make_model())
    assert len(list((tmp_path / "models").glob("*.ckpt"))) == 1
    best = read_metrics(trainer)["val_acc"].max()
    assert float(trainer.checkpoint_callback.best_model_score) == pytest.approx(best)


def test_test_mode_runs_one_batch_and_writes_nothing(make_args, tokenizer, make_model, tmp_path):
    _, trainer = fit(make_args(test_mode=True), tokenizer, make_model())
    assert trainer.global_step == 1
    assert not list(tmp_path.glob("models/**/*.ckpt"))


def test_what_would_fail_after_an_epoch_is_refused_before_it(make_args, tokenizer, make_model, tmp_path):
    with pytest.raises(
        ValueError, match="expected a model with 2 outputs, one per label of the corpus, got 3: load it"
    ):
        fit(make_args(), tokenizer, make_model(num_labels=3))
    data = ClassificationDataset(make_args(), NsmcCorpus(), tokenizer)
    loader, trainer = DataLoader(data, 4, collate_fn=data_collator), get_trainer(make_args())
    with pytest.raises(
        ValueError, match="expected val_dataloaders, since 'min val_loss' chooses the checkpoint, got none"
    ):
        trainer.fit(ClassificationTask(make_model(), make_args()), train_dataloaders=loader)
    args = make_args(monitor="min train_loss")
    get_trainer(args).fit(ClassificationTask(make_model(), args), train_dataloaders=loader)
    assert list((tmp_path / "models").glob("*.ckpt"))
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="downstream_model_dir: cannot write to .*file.*: choose another"):
        get_trainer(make_args(downstream_model_dir=str(tmp_path / "file")))


def test_a_length_above_the_encoders_limit_is_refused(make_args, make_model):
    with pytest.raises(ValueError, match="max_seq_length: expected at most 16, the limit of .*tiny-bert, got 32"):
        ClassificationTask(make_model(max_position_embeddings=16), make_args())


def test_the_tiny_corpus_is_the_whole_one(make_args, tokenizer):
    assert len(ClassificationDataset(make_args(), NsmcCorpus(), tokenizer, "train")) == len(REVIEWS)
