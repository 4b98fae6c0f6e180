"""Training does what its arguments say, or says why it does not."""

import json
import math
import os
import sys
import warnings
from dataclasses import replace
from itertools import count

import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader, RandomSampler, WeightedRandomSampler
from transformers import AutoModelForSequenceClassification as AutoModel
from transformers import (
    BartConfig,
    BertConfig,
    BloomConfig,
    CTRLConfig,
    DebertaConfig,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertDecoderConfig,
    OPTConfig,
    RobertaConfig,
    T5Config,
    XLNetConfig,
)

import nlpbook_helpers as nlpbook
from nlpbook_helpers import data_collator
from nlpbook_helpers.runtime import lock

STEPS = 6  # of the three epochs of eight reviews, four a batch
SMALL = {"vocab_size": 50, "num_labels": 2}
OTHERS = [
    GPT2Config(n_embd=8, n_layer=1, n_head=1, **SMALL),
    LlamaConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, **SMALL),
    T5Config(d_model=8, num_layers=1, num_heads=1, d_ff=8, d_kv=8, **SMALL),
    BartConfig(d_model=16, encoder_layers=1, decoder_layers=1, **SMALL),
    XLNetConfig(d_model=8, n_layer=1, n_head=1, d_inner=8, **SMALL),
    CTRLConfig(n_embd=8, n_layer=1, n_head=1, dff=8, **SMALL),
    DebertaConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, **SMALL),
    BloomConfig(hidden_size=8, n_layer=1, n_head=1, **SMALL),
    OPTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, ffn_dim=8, word_embed_proj_dim=8, **SMALL),
]  # fmt: skip


def read_metrics(trainer) -> pd.DataFrame:
    return pd.read_csv(os.path.join(trainer.log_dir, "metrics.csv"))


def test_the_learning_rate_falls_by_a_tenth_each_epoch_and_rows_are_learned(make_args, fit, make_model):
    trainer = fit(make_args(epochs=20, learning_rate=5e-3), gradient_clip_val=1.0)
    metrics = read_metrics(trainer)
    rates = metrics["lr-AdamW"].dropna().drop_duplicates().to_numpy()
    assert rates == pytest.approx(5e-3 * 0.9 ** np.arange(20))
    losses = metrics["val_loss"].dropna().to_numpy()
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(
    ("scheduler", "warmup", "rates"),
    [
        ("exponential", 0.5, [0, 0.333, 0.6, 0.9, 0.81, 0.81]),
        ("linear", 0.0, [1, 0.833, 0.667, 0.5, 0.333, 0.167]),
        ("linear", 0.5, [0, 0.333, 0.667, 1, 0.667, 0.333]),
        ("cosine", 0.0, [1, 0.933, 0.75, 0.5, 0.25, 0.067]),
    ],
)
def test_the_learning_rate_follows_its_schedule(make_args, fit, scheduler, warmup, rates):
    metrics = read_metrics(fit(make_args(scheduler=scheduler, warmup_ratio=warmup), log_every_n_steps=1))
    assert (1e3 * metrics["lr-AdamW"].dropna()).round(3).tolist() == rates


def test_what_an_argument_changes_is_learned_otherwise(make_args, fit):
    changes = [
        {}, {"class_weights": [2.0, 2.0]}, {"class_weights": "balanced"}, {"class_weights": [1, 5]},
        {"label_smoothing": 0.2}, {"weight_decay": 0.5}, {"gradient_clip_val": 1e-3}, {"accumulate_grad_batches": 2},
    ]  # fmt: skip
    learned = [fit(make_args(**one)).lightning_module.state_dict()["model.classifier.weight"] for one in changes]
    equal = [torch.allclose(learned[0], one, atol=1e-7) for one in learned]
    assert equal == [True] * 3 + [False] * 5  # four reviews of each class: balanced weights are all one


def test_lightning_s_own_settings_go_through_by_their_names(make_args, fit):
    logger = CSVLogger("elsewhere")
    trainer = nlpbook.get_trainer(make_args(gradient_clip_val=1.0), accumulate_grad_batches=4, logger=logger)
    assert (trainer.gradient_clip_val, trainer.accumulate_grad_batches, trainer.loggers) == (1.0, 4, [logger])


def test_trainings_in_a_loop_have_folders_of_their_own_and_one_table(make_args, tmp_path):
    args = make_args(validation_size=2, epochs=1)
    for rate in (1e-4, 1e-3, 1e-2):
        nlpbook.train(replace(args, learning_rate=rate, downstream_model_dir=str(tmp_path / "search" / f"{rate:g}")))
    table = nlpbook.compare_runs(tmp_path / "search")
    assert table["learning_rate"].tolist() == [1e-4, 1e-3, 1e-2]
    assert [len(list(folder.glob("*.ckpt"))) for folder in (tmp_path / "search").iterdir()] == [1, 1, 1]
    assert table["val_macro_f1"].between(0, 1).all()


def test_trainings_in_one_folder_lose_no_file_and_are_told_of_folders(make_args, tmp_path, capsys):
    args, folder = make_args(validation_size=2, epochs=1), tmp_path / "models"
    rates, left, told = (1e-7, 1.1e-7, 1.2e-7, 1e-7), [], []  # so small that all names would be the same
    for rate in rates:
        best = nlpbook.train(replace(args, learning_rate=rate))
        assert nlpbook.load_checkpoint(best)["nlpbook"]["arguments"]["learning_rate"] == rate
        left.append(len(list(folder.glob("*.ckpt"))))
        told.append(f"{folder} holds checkpoints of other trainings, as epoch=0-val_loss=" in capsys.readouterr().out)
    assert left == [1, 2, 3, 3]  # the last is the first once more
    assert told == [False, True, True, False]
    nlpbook.train(replace(args, seed=None))
    nlpbook.train(replace(args, seed=None))  # another seed, so another training
    (folder / "epoch=0-val_loss=0.00.ckpt").write_text("somebody's")
    nlpbook.train(replace(args, seed=8))
    names = sorted(path.name.split("-")[-1] for path in folder.glob("*.ckpt"))
    assert names == ["v1.ckpt", "v2.ckpt", "v3.ckpt", "v4.ckpt", "v5.ckpt", "val_loss=0.00.ckpt", names[-1]]


def test_callbacks_and_checkpointing_are_taken_as_lightning_takes_them(make_args, fit, tmp_path, capsys):
    class Count(Callback):
        ended = 0

        def on_train_end(self, trainer, pl_module) -> None:
            self.ended += 1

    for given in (callback := Count(), [callback], (callback,), None, []):
        fit(make_args(epochs=1, downstream_model_dir=str(tmp_path / "kept")), callbacks=given)
    assert callback.ended == 3
    capsys.readouterr()
    assert fit(make_args(resume_minutes=0), enable_checkpointing=False).global_step == STEPS
    assert "enable_checkpointing=False: no checkpoint is kept" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["logs"]
    with pytest.raises(ValueError, match="barebones: expected False, .*, got True: for speed pass logger=False"):
        nlpbook.get_trainer(make_args(), barebones=True)


def test_the_same_seed_gives_the_same_weights_and_a_drawn_one_others(make_args, fit):
    seeds = (7, 7, None)
    weights = [fit(make_args(seed=seed)).lightning_module.state_dict() for seed in seeds]
    equal = [all(torch.equal(weights[0][name], one[name]) for name in one) for one in weights]
    assert equal == [True, True, False]


def test_checkpoints_are_named_as_in_the_book_and_safe_to_load(make_args, fit, tmp_path):
    fit(make_args(epochs=2, save_top_k=-1))
    paths = sorted((tmp_path / "models").glob("*.ckpt"))
    assert [path.name.split("-")[0] for path in paths] == ["epoch=0", "epoch=1"]
    assert not (tmp_path / "models" / "interrupted.state").exists()
    checkpoint = torch.load(paths[1], weights_only=True)
    assert all(name.startswith("model.") for name in checkpoint["state_dict"])
    assert paths[1].name == f"epoch=1-val_loss={checkpoint['nlpbook']['val_loss']:.2f}.ckpt"
    assert checkpoint["nlpbook"]["label_names"] == ["부정 (negative)", "긍정 (positive)"]
    assert checkpoint["nlpbook"]["pretrained_model_name"] == "tiny-bert"
    assert str(tmp_path) not in json.dumps(checkpoint["nlpbook"], default=repr)
    assert "optimizer_states" not in checkpoint


def test_save_top_k_keeps_the_best_by_the_monitored_metric(make_args, fit, tmp_path):
    trainer = fit(make_args(epochs=4, monitor="max val_acc"))
    assert len(list((tmp_path / "models").glob("*.ckpt"))) == 1
    assert float(trainer.checkpoint_callback.best_model_score) == pytest.approx(read_metrics(trainer)["val_acc"].max())


def test_test_mode_runs_one_batch_and_writes_nothing(make_args, fit, tmp_path):
    assert fit(make_args(test_mode=True)).global_step == 1
    assert not (tmp_path / "models").exists()


def test_without_validation_no_val_loss_is_in_the_name(make_args, fit, tmp_path):
    with pytest.raises(ValueError, match="expected val_dataloaders, since 'min val_loss' chooses the checkpoint, got"):
        fit(make_args(), val=None)
    fit(make_args(monitor="min train_loss"), val=None)
    (path,) = (tmp_path / "models").glob("*.ckpt")
    assert "-train_loss=0." in path.name


def test_what_would_fail_later_is_refused_at_once(make_args, fit, make_model, loaders):
    with pytest.raises(ValueError, match="expected a model with 2 outputs, one per label of the corpus, got 3: load"):
        fit(make_args(), make_model(num_labels=3))
    with pytest.raises(ValueError, match="class_weights: expected 2 numbers, one per label, got 3"):
        fit(make_args(class_weights=[1, 2, 3]))
    loader = loaders(make_args())[1]
    for several in ([loader, loader], {"a": loader, "b": loader}):
        with pytest.raises(
            ValueError, match="val_dataloaders: expected a loader, got .* of them: join their data sets"
        ):
            fit(make_args(), val=several)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"max_epochs": 0},
            "fit: expected a training step, got none: raise that of max_epochs, max_steps, max_time or",
        ),
        ({"limit_train_batches": 0}, "fit: expected a training step, got none: .*or limit_train_batches which allows"),
        ({"check_val_every_n_epoch": 4}, "check_val_every_n_epoch: expected at most 3, as there are epochs, got 4: lo"),
        ({"check_val_every_n_epoch": 2, "max_steps": 1}, "expected a validation before the end, got none, so no check"),
    ],
    ids=["no epoch", "no batch", "no epoch with validation", "an end before it"],
)
def test_what_would_end_without_a_step_or_a_checkpoint_is_no_success(make_args, fit, settings, message):
    with pytest.raises(ValueError, match=message):
        fit(make_args(), **settings)


@pytest.mark.parametrize("name", ["train", "val"])
def test_what_is_no_loader_is_refused_by_name(make_args, fit, loaders, name):
    loader = loaders(make_args())[0]
    given = {"ClassificationDataset": loader.dataset, "list_iterator": iter([*loader])}
    for kind, one in given.items() if name == "val" else (given | {"None": None}).items():
        with pytest.raises(ValueError, match=f"{name}_dataloaders: expected a DataLoader, got {kind}: pass DataLoader"):
            fit(make_args(), **{name: one})


@pytest.mark.parametrize("config", OTHERS, ids=lambda config: config.model_type)
def test_what_is_no_encoder_is_refused(config, make_args):
    model = AutoModel.from_config(config)
    with pytest.raises(ValueError, match=f"model: expected an encoder .*such as BERT.*got {type(model).__name__}"):
        nlpbook.ClassificationTask(model, make_args())


@pytest.mark.parametrize("kind", [BertConfig, ElectraConfig, RobertaConfig, ModernBertDecoderConfig])
def test_an_encoder_that_reads_as_a_decoder_is_refused(kind, make_args, tmp_path, tokenizer):
    settings = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, **SMALL}
    model = AutoModel.from_config(kind(**settings | {"is_decoder": True, "classifier_bias": True, "pad_token_id": 0}))
    with pytest.raises(
        ValueError, match=f"model: expected an encoder, got {type(model).__name__} as a decoder: set is_"
    ):
        nlpbook.ClassificationTask(model, make_args())
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="saved: expected an encoder, got .* as a decoder: set is_decoder to false"):
        nlpbook.Classifier.from_checkpoint(tmp_path / "saved")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_encoder_s_own_weights_are_named_where_they_are_no_numbers(value, make_args, make_model):
    model = make_model()
    model.bert.encoder.layer[0].output.dense.weight.data[0, 0] = value
    with pytest.raises(ValueError, match=r"model: expected weights that are .* in bert\.encoder\.layer\.0\.output"):
        nlpbook.ClassificationTask(model, make_args())


def test_the_limit_of_an_encoder_is_what_it_has_positions_for(make_args, make_model):
    with pytest.raises(ValueError, match="max_seq_length: expected at most 16, the limit of .*tiny-bert, got 32"):
        nlpbook.ClassificationTask(make_model(max_position_embeddings=16), make_args())
    roberta = RobertaConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        max_position_embeddings=34, pad_token_id=1, **SMALL,
    )  # fmt: skip
    nlpbook.ClassificationTask(AutoModel.from_config(roberta), make_args(max_seq_length=32))
    with pytest.raises(ValueError, match="max_seq_length: expected at most 32, .*got 33"):
        nlpbook.ClassificationTask(AutoModel.from_config(roberta), make_args(max_seq_length=33))


class Poison(Callback):
    """Puts a value among the weights or the gradients, at one moment of one epoch."""

    def __init__(self, moment: str, epoch: int, value: float) -> None:
        self.moment, self.epoch, self.value = moment, epoch, value

    def _spoil(self, trainer, pl_module, moment: str) -> None:
        if moment == self.moment and trainer.current_epoch == self.epoch:
            pl_module.model.classifier.bias.data.fill_(self.value)

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self._spoil(trainer, pl_module, "first step")

    def on_validation_start(self, trainer, pl_module) -> None:
        self._spoil(trainer, pl_module, "validation")

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        if self.moment == "last step" and trainer.current_epoch == self.epoch and trainer.is_last_batch:
            pl_module.model.classifier.bias.grad.fill_(self.value)


@pytest.mark.parametrize(
    ("moment", "epoch", "value", "monitor", "name"),
    [
        ("first step", 0, math.nan, "min val_loss", "train_loss: expected numbers, got nan in epoch 0"),
        ("first step", 1, math.nan, "min train_loss", "train_loss: expected numbers, got nan in epoch 1"),
        ("first step", 1, math.inf, "max val_acc", "train_loss: expected numbers, got nan in epoch 1"),
        ("validation", 0, math.nan, "max val_macro_f1", "val_loss: expected numbers, got nan in epoch 0"),
        ("validation", 1, -math.inf, "min val_loss", "val_loss: expected numbers, got nan in epoch 1"),
        ("last step", 0, math.nan, "min train_loss", "weights: expected numbers, got nan in epoch 0"),
        ("last step", 1, math.nan, "min val_loss", "val_loss: expected numbers, got nan in epoch 1"),
    ],
)
def test_what_is_no_number_stops_the_training(make_args, fit, tmp_path, moment, epoch, value, monitor, name):
    is_validated = {} if "val_" in monitor else {"val": None}
    args = make_args(epochs=2 if epoch else 1, monitor=monitor, save_top_k=-1)
    with pytest.raises(ValueError, match=f"{name}: train again with a learning_rate below 0.001 and resume=False"):
        fit(args, callbacks=[Poison(moment, epoch, value)], **is_validated)
    assert len(list((tmp_path / "models").glob("*.ckpt"))) == epoch


@pytest.mark.parametrize(("steps", "epochs"), [(1, 1), (3, 2), (9, 3)])
def test_what_ends_inside_an_epoch_is_validated_too(make_args, fit, tmp_path, steps, epochs):
    trainer = fit(make_args(max_steps=steps, save_top_k=-1))
    losses = {torch.load(path)["nlpbook"]["val_loss"] for path in (tmp_path / "models").glob("*.ckpt")}
    assert (trainer.global_step, len(losses)) == (min(steps, STEPS), epochs)


def test_a_sampler_of_one_s_own_trains_and_its_cost_is_said(make_args, fit, loaders, capsys):
    data = loaders(make_args())[0].dataset
    for sampler in (WeightedRandomSampler([1.0] * len(data), 8), RandomSampler(data, generator=torch.Generator())):
        loader = DataLoader(data, 4, sampler=sampler, collate_fn=nlpbook.data_collator)
        assert fit(make_args(resume_minutes=0), train=loader).global_step == STEPS
        assert "a sampler of your own orders the batches: an interruption costs the epoch" in capsys.readouterr().out


def test_who_trains_again_is_told_from_where(make_args, fit, make_model, loaders, tmp_path, capsys):
    args, model = make_args(max_steps=3), make_model()
    trainer = fit(args, model)
    record = (tmp_path / "models" / "logs" / "version_0" / "hparams.yaml").read_text()
    trainer.fit(trainer.lightning_module, *loaders(args))
    assert "this trainer has ended after 2 epochs and 3 steps, so there is nothing left" in capsys.readouterr().out
    assert (tmp_path / "models" / "logs" / "version_0" / "hparams.yaml").read_text() == record
    fit(args, model)
    assert "going on from the weights that this model has learned before" in capsys.readouterr().out


def test_warnings_of_lightning_are_heard_unless_they_are_noise(make_args, fit, loaders):
    args = make_args(epochs=2)
    data = loaders(args)[1].dataset
    shuffled = DataLoader(data, 4, sampler=RandomSampler(data, generator=torch.Generator()), collate_fn=data_collator)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(args, val=shuffled)
    said = [str(one.message) for one in caught if "lightning" in one.filename]
    assert len(said) == 1 and "shuffl" in said[0]


def test_a_folder_has_one_training_at_a_time(make_args, fit, tmp_path):
    (tmp_path / "models").mkdir()
    sentence = "downstream_model_dir: another training is writing into .*models"
    with lock(tmp_path / "models", "busy"), pytest.raises(BlockingIOError, match=sentence):
        fit(make_args())
    assert fit(make_args()).global_step == STEPS


def test_bars_are_for_those_who_watch_and_lines_for_a_log(make_args, fit, monkeypatch, capsys):
    assert nlpbook.get_trainer(make_args()).progress_bar_callback is None
    fit(make_args(epochs=1))
    assert "steps" not in capsys.readouterr().out  # it is done within two seconds
    clock = count(step=3)
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    fit(make_args(epochs=5, downstream_model_dir=f"{make_args().downstream_model_dir}-slow"))
    said = capsys.readouterr().out
    assert "epoch 0: 1 of 2 training steps\n" in said and 2 <= said.count(" steps\n") < 10
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)  # as in a notebook
    assert nlpbook.get_trainer(make_args()).progress_bar_callback
