"""Who computes? This process, or all processors and GPUs that Ray knows: the same batches, in the same order."""

import logging
import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import lru_cache
from importlib import import_module
from itertools import islice
from typing import Any

import numpy as np
import torch

from nlpbook_helpers.classifier import Classifier
from nlpbook_helpers.corpora import ClassificationExample
from nlpbook_helpers.features import predict_probabilities
from nlpbook_helpers.scoring.inputs import Batch, ScoringError
from nlpbook_helpers.tokenizing import Features, find_mostly_unknown

# Of PyTorch on a CPU, which reads it at its first product: as fast as the 1,024 it keeps else, a gigabyte less
KEPT_KERNELS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
# Ray reads these when it is imported; else it warns of each worker: what is wrong comes as an exception anyway
RAY_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}

# Batches in their order, each with float32 (examples, labels + 1): probabilities, and 1 for a mostly unknown text
Scored = Generator[tuple[Batch, np.ndarray], None, None]


def score_here(classifier: Classifier, batches: Iterable[Batch]) -> Scored:
    """Score batches in this process, the next one read and tokenized while the model computes."""
    encoded = ((batch, classifier.encode(batch.examples)) for batch in batches)
    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = thread.submit(next, encoded, None)
        while (found := coming.result()) is not None:
            coming = thread.submit(next, encoded, None)
            yield found[0], _score(classifier, found[1])


def _score(classifier: Classifier, features: Features) -> np.ndarray:
    os.environ.setdefault(*KEPT_KERNELS)
    unknown = find_mostly_unknown(classifier.tokenizer, features)
    return np.column_stack([predict_probabilities(classifier.scorer, features), unknown])


def score_on_ray(
    classifier: Classifier, batches: Iterable[Batch], address: str | None = None, gpus_per_worker: float = 1
) -> Scored:
    """Score batches as tasks of Ray, a few ahead of the reader; on GPUs where there are any, else on processors.

    Only this process reads the input and writes answers; the machines of a cluster need neither. On one small
    machine it does not pay: starting takes longer than thousands of rows, and processes share the same processors.

    Args:
        classifier: What scores; sent once to each worker.
        batches: What to score.
        address: Of a cluster ("auto", "ray://host:10001"); default: `RAY_ADDRESS`, else this machine alone.
        gpus_per_worker: 0.5 lets two workers share a GPU.

    Raises:
        ScoringError: Ray is not installed, cannot start, or gave up.
    """
    with _start_ray(address or os.environ.get("RAY_ADDRESS")):
        ray = import_module("ray")
        try:
            there, model = ray.cluster_resources(), ray.put(classifier)
            workers, needs = there.get("CPU", 1), {"num_cpus": 1}
            if gpus := there.get("GPU"):
                workers, needs = gpus / gpus_per_worker, {"num_gpus": gpus_per_worker}
            task = ray.remote(**needs)(_score_there)
            coming = ((batch, task.remote([model], batch.examples)) for batch in batches)
            waiting = deque(islice(coming, 1 + int(2 * workers)))  # enough that none idles, few enough for the memory
            while waiting:
                batch, answers = waiting.popleft()
                waiting.extend(islice(coming, 1))
                yield batch, ray.get(answers)
        except ray.exceptions.RayError as error:
            lines = str(getattr(error, "cause", None) or error).strip().splitlines() or [type(error).__name__]
            raise ScoringError(f"Ray gave up: {lines[-1]}; once that is repaired, the same call goes on") from error


def _start_ray(address: str | None) -> Any:
    """Join a cluster, or start Ray on this machine; what is returned ends that, unless it was there before."""
    os.environ.update(RAY_SETTINGS | os.environ)
    try:
        ray, ours = import_module("ray"), import_module("nlpbook_helpers")
        if ray.is_initialized():  # a notebook's own
            return nullcontext()
        # the machines of a cluster have not our code
        more = {"runtime_env": {"py_modules": [ours]}} if address else {"include_dashboard": False}
        return ray.init(address or "local", **more, logging_level=logging.ERROR, log_to_driver=False)
    except ImportError as error:
        raise ScoringError(f'engine "ray": {error}: pip install "ray[data]"') from error
    except Exception as error:  # Ray raises Exception itself, when its processes do not start in time for example
        remedy = f"correct the address {address}, or set RAY_AUTH_MODE=token if that cluster asks for a token"
        remedy = remedy if address else "try again"
        raise ScoringError(f"Ray cannot start ({error}): {remedy}, or choose engine 'local'") from error


def _score_there(model: list[Any], examples: list[ClassificationExample]) -> np.ndarray:
    """Score a batch in one of Ray's processes; the model comes in a list, which Ray does not unpack each time."""
    classifier = _load(model[0])
    return _score(classifier, classifier.encode(examples))


@lru_cache(maxsize=1)
def _load(model: Any) -> Classifier:
    if not torch.cuda.is_available():  # a worker for each processor
        torch.set_num_threads(1)
    return import_module("ray").get(model)
