"""On a GPU: a step that is replayed learns what a step learns whose operations are named one by one."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForSequenceClassification

from nlpbook_helpers.gpu import FAMILIES, MEETINGS, MOST_TOKENS, CudaGraphs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="a GPU: there is none here")
STEPS = 5 * MEETINGS
SIZES: dict[str, Any] = {
    "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 40, "embedding_size": 32, "pad_token_id": 1, "initializer_range": 0.1,
}  # fmt: skip
ALONE = SimpleNamespace(world_size=1, accumulate_grad_batches=1)


def make_model(family: str, dropout: float) -> Any:
    torch.manual_seed(0)
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64} if family == "distilbert" else {}
    config = AutoConfig.for_model(family, **SIZES | sizes)
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
        setattr(config, name, dropout)
    return AutoModelForSequenceClassification.from_config(config).cuda().train()


def draw_batches(length: int, mixed: bool) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    batches = []
    for step in range(STEPS):
        size = length - step % 3 if mixed else length
        ids = torch.randint(5, 100, (4, size), generator=generator)
        mask = torch.ones_like(ids)
        mask[0, size // 2 :] = 0
        labels = torch.randint(2, (4,), generator=generator)
        batches.append({"input_ids": ids, "attention_mask": mask, "labels": labels})
    return [{name: column.cuda() for name, column in batch.items()} for batch in batches]


def learn(model: Any, batches: list[dict[str, torch.Tensor]], compute: Any) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    losses = []
    for step, batch in enumerate(batches):
        torch.cuda.manual_seed(step)
        texts = {name: column for name, column in batch.items() if name != "labels"}
        with torch.autocast("cuda", torch.bfloat16):
            loss = cross_entropy(compute(texts).float(), batch["labels"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("length", "mixed", "dropout"), [(16, False, 0.1), (15, True, 0.0)])
def test_what_is_replayed_learns_the_same(family, length, mixed, dropout):
    batches = draw_batches(length, mixed)
    eager, replayed = make_model(family, dropout), make_model(family, dropout)
    expected = learn(eager, batches, lambda texts: eager(**texts).logits)
    assert CudaGraphs.is_possible(replayed, ALONE)
    graphs = CudaGraphs(replayed)
    assert learn(replayed, batches, graphs) == pytest.approx(expected, abs=0.02)
    assert list(graphs._recordings) == [(4, 16)]
    for name, weight in eager.named_parameters():
        assert torch.allclose(replayed.get_parameter(name), weight, atol=4e-3), name


def test_another_shape_in_between_changes_nothing():
    short, long = draw_batches(8, False), draw_batches(24, False)
    batches = [batch for pair in zip(short, long, strict=True) for batch in pair]
    eager, replayed = make_model("bert", 0.1), make_model("bert", 0.1)
    expected = learn(eager, batches, lambda texts: eager(**texts).logits)
    assert learn(replayed, batches, CudaGraphs(replayed)) == pytest.approx(expected, abs=0.02)


def test_adapters_learn_the_same():
    peft = pytest.importorskip("peft")
    batches, models = draw_batches(16, False), []
    for _ in range(2):
        adapters = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"], lora_dropout=0.1)
        models.append(peft.get_peft_model(make_model("bert", 0.1), adapters).get_base_model())
    eager, replayed = models
    graphs = CudaGraphs(replayed)
    assert CudaGraphs.is_possible(replayed, ALONE)
    expected = learn(eager, batches, lambda texts: eager(**texts).logits)
    assert learn(replayed, batches, graphs) == pytest.approx(expected, abs=0.02)
    assert graphs._recordings


def test_an_encoder_whose_positions_end_before_the_next_multiple_is_not_padded():
    model = make_model("roberta", 0.0)  # 38 positions
    graphs = CudaGraphs(model)
    learn(model, draw_batches(38, False), graphs)
    assert list(graphs._recordings) == [(4, 38)]


def test_a_batch_with_which_the_gpu_is_busy_is_not_recorded():
    model = make_model("bert", 0.0)
    rows = MOST_TOKENS // 16 + 1
    batches = [
        {name: column[:1].repeat(rows, *[1] * (column.ndim - 1)) for name, column in batch.items()}
        for batch in draw_batches(16, False)
    ]
    graphs = CudaGraphs(model)
    learn(model, batches, graphs)
    assert not graphs._recordings


@pytest.mark.parametrize("changes", [{"world_size": 2}, {"accumulate_grad_batches": 2}])
def test_steps_that_are_not_alike_are_not_recorded(changes):
    assert not CudaGraphs.is_possible(make_model("bert", 0.1), SimpleNamespace(**vars(ALONE) | changes))


def test_an_encoder_that_is_not_known_is_not_recorded():
    model = make_model("bert", 0.1)
    model.gradient_checkpointing_enable()
    assert not CudaGraphs.is_possible(model, ALONE)
    assert not CudaGraphs.is_possible(make_model("bert", 0.1).cpu(), ALONE)
    model = make_model("bert", 0.1)
    model.config.model_type = "big_bird"
    assert not CudaGraphs.is_possible(model, ALONE)
