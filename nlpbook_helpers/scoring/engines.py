"""Who computes? This process, or all processors and GPUs that Ray knows: the same batches, in the same order."""

import logging
import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
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
RAY_SETTINGS = {  # Ray reads them when it is imported; whoever has set them keeps them
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # else a warning about each worker; what is wrong comes as an exception
}
REMARK = "mostly unknown to the tokenizer"

# Batches in their order, each with float32 (examples, labels) and a remark for each example
Scored = Generator[tuple[Batch, np.ndarray, list[str]], None, None]


def score_here(classifier: Classifier, batches: Iterable[Batch]) -> Scored:
    """Score batches in this process, the next one read and tokenized while the model computes."""
    encoded = ((batch, classifier.encode(batch.examples)) for batch in batches)
    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = thread.submit(next, encoded, None)
        while (found := coming.result()) is not None:
            coming = thread.submit(next, encoded, None)
            yield found[0], *_score(classifier, found[1])


def _score(classifier: Classifier, features: Features) -> tuple[np.ndarray, list[str]]:
    unknown = find_mostly_unknown(classifier.tokenizer, features)
    return predict_probabilities(classifier.scorer, features), [REMARK if one else "" for one in unknown]


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
    ray, is_ours = _start_ray(address or os.environ.get("RAY_ADDRESS"))
    try:
        there, model = ray.cluster_resources(), ray.put(classifier)
        workers, needs = there.get("CPU", 1), {"num_cpus": 1}
        if gpus := there.get("GPU"):
            workers, needs = gpus / gpus_per_worker, {"num_gpus": gpus_per_worker}
        task, waiting = ray.remote(**needs)(_score_there), deque()
        for batch in batches:
            waiting.append((batch, task.remote([model], batch.examples)))
            if len(waiting) > 2 * workers:  # enough that none idles, few enough for the memory
                first, result = waiting.popleft()
                yield first, *ray.get(result)
        for first, result in waiting:
            yield first, *ray.get(result)
    except ray.exceptions.RayError as error:
        lines = str(getattr(error, "cause", None) or error).strip().splitlines() or [type(error).__name__]
        raise ScoringError(f"Ray gave up: {lines[-1]}; once that is repaired, the same call goes on") from error
    finally:
        if is_ours:
            ray.shutdown()


def _start_ray(address: str | None) -> tuple[Any, bool]:
    """Return Ray, joined to a cluster or started on this machine, and whether it was not there before."""
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        import ray  # type: ignore[import-not-found]

        import nlpbook_helpers

        if ray.is_initialized():  # a notebook's own
            return ray, False
        # the machines of a cluster have not our code
        more = {"runtime_env": {"py_modules": [nlpbook_helpers]}} if address else {"include_dashboard": False}
        ray.init(address or "local", **more, **quiet)
    except ImportError as error:
        raise ScoringError(f'engine "ray": {error}: pip install "ray[data]"') from error
    except Exception as error:  # Ray raises Exception itself, when its processes do not start in time for example
        remedy = f"correct the address {address}" if address else "try again"
        raise ScoringError(f"Ray cannot start ({error}): {remedy}, or choose engine 'local'") from error
    return ray, True


def _score_there(model: list[Any], examples: list[ClassificationExample]) -> tuple[np.ndarray, list[str]]:
    """Score a batch in one of Ray's processes; the model comes in a list, which Ray does not unpack each time."""
    classifier = _load(model[0])
    return _score(classifier, classifier.encode(examples))


@lru_cache(maxsize=1)
def _load(model: Any) -> Classifier:
    os.environ.setdefault(*KEPT_KERNELS)
    import ray  # type: ignore[import-not-found]

    if not torch.cuda.is_available():  # a worker for each processor
        torch.set_num_threads(1)
    return ray.get(model)
