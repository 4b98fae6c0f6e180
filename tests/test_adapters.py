"""Models that are handed in with adapters (PEFT's LoRA), or with gradient checkpointing."""

from unittest.mock import Mock

import numpy as np
import peft
import pytest
import torch
from pytorch_lightning.callbacks import LambdaCallback

from nlpbook_helpers import Classifier, export, load_checkpoint

TEXTS = ["정말 재미있는 영화", "지루하다"]


@pytest.fixture
def make_adapted(make_model):
    """A function that puts LoRA's adapters into the tiny classifier."""
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
    return lambda: peft.get_peft_model(make_model(), config)


def test_a_lora_model_trains_answers_and_leaves_like_any_other(make_adapted, make_args, fit, tmp_path):
    model = make_adapted()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    best = fit(make_args(epochs=2, learning_rate=1e-2), model).checkpoint_callback.best_model_path
    changed = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert {"lora_" in name for name in changed} == {True, False}
    assert all("lora_" in name or "classifier" in name for name in changed)
    classifier, own = Classifier.from_checkpoint(best), model.eval()
    inputs = classifier.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = own(**inputs).logits.softmax(dim=-1).numpy()
    np.testing.assert_allclose(classifier.predict(TEXTS), expected, atol=0.01)
    exported = Classifier.from_checkpoint(export(best, tmp_path / "exported"))
    np.testing.assert_allclose(exported.predict(TEXTS), expected, atol=0.01)


def test_an_interrupted_lora_training_goes_on_with_its_adapters(make_adapted, make_args, fit):
    args = make_args(epochs=2, resume_minutes=0, learning_rate=1e-2)
    power = Mock(side_effect=[None, None, OSError("the power is gone")])
    with pytest.raises(OSError, match="the power is gone"):
        fit(args, make_adapted(), callbacks=[LambdaCallback(on_train_batch_end=power)])
    resumed = load_checkpoint(fit(args, make_adapted()).checkpoint_callback.best_model_path)["state_dict"]
    whole = make_args(epochs=2, learning_rate=1e-2, downstream_model_dir=f"{args.downstream_model_dir}-whole")
    expected = load_checkpoint(fit(whole, make_adapted()).checkpoint_callback.best_model_path)["state_dict"]
    assert all(torch.equal(resumed[name], weight) for name, weight in expected.items())


def test_token_types_reach_an_encoder_with_adapters(make_adapted, make_args, fit):
    """PEFT's own wrapper takes none: a pair's second text would look like its first."""
    model, seen = make_adapted(), []
    encoder = model.get_base_model().bert
    encoder.register_forward_pre_hook(lambda _, args, named: seen.append(named["token_type_ids"]), with_kwargs=True)
    fit(make_args(epochs=1), model)
    assert seen
    assert not any(types is None for types in seen)


def test_gradient_checkpointing_learns_the_same(make_model, make_args, fit):
    args = make_args(epochs=1, learning_rate=1e-2)
    frugal = make_model()
    frugal.gradient_checkpointing_enable()
    usual = make_model()
    fit(args, frugal)
    fit(make_args(epochs=1, learning_rate=1e-2, downstream_model_dir=f"{args.downstream_model_dir}-2"), usual)
    assert frugal.is_gradient_checkpointing
    for (name, weight), other in zip(frugal.named_parameters(), usual.parameters(), strict=True):
        torch.testing.assert_close(weight, other, msg=name)
