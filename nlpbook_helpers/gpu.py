"""What is different on a GPU? It waits for the processor, unless a step is handed over at once, as a CUDA graph."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch.func import functional_call

from nlpbook_helpers.features import LENGTH_MULTIPLE, count_positions

# Of these every operation was seen to stay the same from step to step; others may look at numbers in between.
FAMILIES = ("bert", "distilbert", "electra", "roberta", "xlm-roberta")
MEETINGS = 3  # of a shape, before it is worth a recording, which costs as much as one or two steps
MOST_TOKENS = 8_192  # of a batch, padding included; with more the processor is not waited for


@dataclass(frozen=True)
class Recording:
    """Forward and backward pass of one shape of batch, and the memory that they read from and write to."""

    inputs: dict[str, torch.Tensor]
    """int64, (batch, tokens)."""
    forward: torch.cuda.CUDAGraph
    logits: torch.Tensor
    """(batch, labels)."""
    backward: torch.cuda.CUDAGraph
    gradient: torch.Tensor
    """Of the logits, (batch, labels)."""
    weights: list[tuple[torch.Tensor, torch.Tensor]]
    """Those that the logits depend on, and where their gradients are found."""


class Replay(torch.autograd.Function):
    """Replays a recording, as a step of autograd."""

    @staticmethod
    def forward(ctx: Any, anchor: torch.Tensor, recording: Recording) -> torch.Tensor:
        """Return the logits; without the anchor, which wants a gradient, nobody would ask for `backward`."""
        ctx.recording = recording
        recording.forward.replay()
        return recording.logits.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, None]:
        """Put the weights' gradients where an optimizer looks for them."""
        recording = ctx.recording
        recording.gradient.copy_(gradients[0])
        recording.backward.replay()
        for weight, gradient in recording.weights:
            weight.grad = gradient
        return None, None


class CudaGraphs:
    """Computes a classifier's logits in training, each shape of batch by a graph once it has been met often enough.

    A step of `kcbert-base` is thousands of small operations. With 32 reviews an H200 does them in 7 ms, while the
    processor takes 50 to name them one by one; a CUDA graph names them all at once. Graphs share their memory.
    Dropout stays a function of the seed: a graph reads the generator when it is replayed.

    Args:
        model: A `…ForSequenceClassification` on the GPU, in training mode; see `is_possible`.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.most = model, count_positions(model)
        self._met: Counter[tuple[int, int]] = Counter()
        self._recordings: dict[tuple[int, int], Recording] = {}
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._gradients: dict[str, torch.Tensor] = {}  # as large as the weights: made for the first recording
        self._anchor = torch.zeros((), device=model.device, requires_grad=True)
        self._pool = torch.cuda.graph_pool_handle()

    @staticmethod
    def is_possible(model: Any, trainer: Any) -> bool:
        """Tell whether steps are alike: an encoder as it ships, on one GPU, whose weights move at each step."""
        is_known = model.config.model_type in FAMILIES and type(model).__module__.startswith("transformers.")
        computes_again = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
        is_plain = model.config._attn_implementation == "sdpa" and not computes_again
        is_alone = trainer.world_size == 1 and trainer.accumulate_grad_batches == 1
        return is_known and is_plain and is_alone and model.device.type == "cuda"

    def __call__(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return logits, (batch, labels), of `input_ids` and other columns, int64, (batch, tokens)."""
        rows, length = inputs["input_ids"].shape
        padded = -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE  # few shapes
        shape = rows, padded if padded <= self.most else length
        self._met[shape] += 1
        if self._met[shape] < MEETINGS or math.prod(shape) > MOST_TOKENS:
            return self.model(**inputs).logits
        if shape not in self._recordings:
            self._recordings[shape] = self._record(tuple(inputs), shape)
        recording = self._recordings[shape]
        for name, column in recording.inputs.items():
            column[:, :length].copy_(inputs[name])
            column[:, length:].zero_()  # which the attention mask hides
        return Replay.apply(self._anchor, recording)  # type: ignore[no-any-return]

    def _record(self, names: tuple[str, ...], shape: tuple[int, int]) -> Recording:
        # before it records: their memory is to be no graph's own
        self._gradients = self._gradients or {name: torch.empty_like(one) for name, one in self._weights.items()}
        inputs = {name: torch.zeros(shape, dtype=torch.int64, device=self._anchor.device) for name in names}
        # the same memory, but not what autograd remembers of it: a loss that somebody keeps would spoil the recording
        leaves = {name: weight.detach().requires_grad_() for name, weight in self._weights.items()}
        forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        # a loader's thread that pins memory may go on meanwhile; and each graph casts the weights for itself
        settings: Any = {"pool": self._pool, "capture_error_mode": "thread_local"}
        is_mixed, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
        with torch.autocast("cuda", dtype, enabled=is_mixed, cache_enabled=False):
            with torch.cuda.graph(forward, **settings):
                logits = functional_call(self.model, leaves, kwargs=inputs).logits
            gradient = torch.empty_like(logits)
            with torch.cuda.graph(backward, **settings):
                found = torch.autograd.grad(logits, list(leaves.values()), gradient, allow_unused=True)
                new = {name: one for name, one in zip(leaves, found, strict=True) if one is not None}
                gradients = [self._gradients[name] for name in new]
                torch._foreach_copy_(gradients, list(new.values()))  # type: ignore[attr-defined]
        weights = [(self._weights[name], self._gradients[name]) for name in new]
        return Recording(inputs, forward, logits.detach(), backward, gradient, weights)
