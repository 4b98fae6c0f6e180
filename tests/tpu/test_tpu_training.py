"""Training through XLA, on its CPU backend: `make test-tpu` makes the environment that this needs.

Not on TPU hardware: what is tested is that the package's own code trains, validates, writes and reads through
Lightning's XLA strategy, and how often XLA has to compile.
"""

import json

import pytest
import torch

pytest.importorskip("torch_xla", reason="torch_xla is for TPUs: `make test-tpu` makes an environment of its own")

import torch_xla.debug.metrics as xla_metrics
import torch_xla.runtime
from pytorch_lightning import Callback
from pytorch_lightning.accelerators import AcceleratorRegistry, XLAAccelerator
from pytorch_lightning.strategies.single_xla import SingleDeviceXLAStrategy
from reviews import REVIEWS, write_reviews
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification

import nlpbook_helpers as nlpbook
from nlpbook_helpers.resuming import STATE_NAME
from nlpbook_helpers.trainer import get_trainer

pytestmark = pytest.mark.skipif(
    torch_xla.runtime.device_type() != "CPU", reason="set PJRT_DEVICE=CPU, as `make test-tpu` does"
)
BUCKETS = 2  # 16 and 32 tokens


class PretendedTPU(XLAAccelerator):
    """Says that there is one core; Lightning counts PCI devices."""

    @staticmethod
    def parse_devices(devices):
        return devices

    @staticmethod
    def get_parallel_devices(devices):
        return [torch.device("xla", 0)]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True


class Noter(Callback):
    """Notes after each epoch how many programs XLA has compiled so far."""

    def __init__(self) -> None:
        self.compiled: list[int] = []

    def on_train_epoch_end(self, trainer, module) -> None:
        self.compiled.append(xla_metrics.counter_value("UncachedCompile"))


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "v5litepod-1")
    monkeypatch.setattr("pytorch_lightning.accelerators.XLAAccelerator", PretendedTPU)
    monkeypatch.setitem(AcceleratorRegistry["tpu"], "accelerator", PretendedTPU)


@pytest.fixture
def settings(make_args, corpora_root) -> dict:
    rows = [(str(n), f"{text} {'정말 ' * (n % 20)}", label) for n, (_, text, label) in enumerate(REVIEWS * 8)]
    write_reviews(corpora_root / "nsmc", rows)
    args = make_args(tpu_cores=nlpbook.count_tpu_cores(), epochs=4, learning_rate=3e-3, batch_size=8, resume_minutes=0)
    return {name: value for name, value in vars(args).items() if not name.startswith("_")}


@pytest.fixture
def fit(settings, tokenizer):
    """A function that trains as a notebook does and returns the trainer."""

    def train(**changes):
        args = nlpbook.ClassificationTrainArguments(**settings | changes)
        nlpbook.set_seed(args)
        data = [
            nlpbook.ClassificationDataset(args, nlpbook.NsmcCorpus(), tokenizer, mode) for mode in ("train", "test")
        ]
        loaders = [
            DataLoader(one, args.batch_size, shuffle=one.mode == "train", collate_fn=nlpbook.data_collator)
            for one in data
        ]
        model = AutoModelForSequenceClassification.from_pretrained(args.pretrained_model_name, num_labels=2)
        trainer = get_trainer(args)
        trainer.callbacks.append(Noter())
        trainer.fit(nlpbook.ClassificationTask(model, args), *loaders)
        return trainer

    return train


def test_a_training_on_xla_ends_in_a_checkpoint_that_a_cpu_loads(fit, tmp_path, capsys):
    trainer = fit()
    assert isinstance(trainer.strategy, SingleDeviceXLAStrategy)
    assert "training on TPU core in 32-true (products in bfloat16, which a TPU multiplies)" in capsys.readouterr().out
    assert trainer.callback_metrics["train_loss_epoch"] < 0.5
    (checkpoint,) = (tmp_path / "models").glob("*.ckpt")
    saved = nlpbook.load_checkpoint(checkpoint)
    assert all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in saved["state_dict"].values())
    classifier = nlpbook.Classifier.from_checkpoint(checkpoint)
    texts, labels = zip(*((text, int(label)) for _, text, label in REVIEWS if text), strict=True)
    right = (classifier.predict(texts).argmax(axis=1) == labels).mean()
    assert right > 0.8
    assert not (tmp_path / "models" / STATE_NAME).exists()


def test_xla_compiles_for_a_few_shapes_and_then_no_more(fit):
    before = xla_metrics.counter_value("UncachedCompile") or 0
    trainer = fit(epochs=5)
    (compiled,) = (callback.compiled for callback in trainer.callbacks if isinstance(callback, Noter))
    print(f"programs compiled before, and up to the end of each epoch: {before}, {compiled}")
    assert compiled[-1] - compiled[0] <= BUCKETS, compiled  # with or without a look at the numbers
    assert compiled[-1] - before <= 10 * BUCKETS, compiled


def test_products_are_in_bfloat16(fit, monkeypatch):
    kinds = set()
    original = torch.nn.functional.cross_entropy

    def noted(logits, *args, **named):
        kinds.add((logits.device.type, logits.dtype))
        return original(logits, *args, **named)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", noted)
    fit(epochs=1)
    assert kinds == {("xla", torch.bfloat16)}


def test_what_is_smaller_than_a_batch_is_refused(fit):
    with pytest.raises(ValueError, match="expected at least 100 examples, .* or a TPU.*got 64: lower batch_size"):
        fit(batch_size=100)


def test_the_train_command_s_function_runs_on_xla(settings, tmp_path, capsys):
    best = nlpbook.train(nlpbook.ClassificationTrainArguments(**settings | {"validation_size": 0.2}))
    assert best and best.parent == tmp_path / "models"
    said = capsys.readouterr().out
    assert "val: accuracy" in said
    assert "test: accuracy" in said
    assert json.dumps(str(best))[1:-1] in said
