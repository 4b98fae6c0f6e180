"""What if one machine is too slow? Ray Data spreads the same work over the processors and GPUs of many."""

import atexit
import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nlpbook_helpers.writing import ScoringError

STORE_BYTES = 2**29  # what a cluster of one machine keeps between its processes, beside the worker itself
WORKERS_PER_READER = 8  # a file is read many times faster than it is scored


# Of PyTorch on a CPU, which reads it at its first product: as fast as the 1,024 it keeps else, a gigabyte less
KEPT_KERNELS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
SETTINGS = {  # of Ray, which reads them when it is imported; whoever has set them keeps them
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # else a warning about each worker; what is wrong comes as an exception
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # else a paragraph about each worker that died, whose work another does
}


class Failure:
    """What comes back in the place of a result, for the user to read.

    Args:
        error: An error whose message says it all.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Reader:
    """Cuts items into blocks, pickled so that Ray need not understand them."""

    def __init__(self, cut: Callable[[Any], Iterable[Any]]) -> None:
        self.cut = cut

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[bytes]]]:
        for item in batch["item"]:
            try:
                for block in self.cut(pickle.loads(item)):  # noqa: S301 - made by the driver
                    yield {"block": [pickle.dumps(block)]}
            except (ValueError, OSError) as error:
                yield {"block": [pickle.dumps(Failure(error))]}


class _Worker:
    """Works on one block after another; made once in each process.

    Args:
        work: Ray's reference of a function of a block, sent once and not with each block.
        threads: Of PyTorch; None leaves them as they are.
    """

    def __init__(self, work: Any, threads: int | None) -> None:
        os.environ.setdefault(*KEPT_KERNELS)
        import ray  # type: ignore[import-not-found]
        import torch

        if threads:
            torch.set_num_threads(threads)
        # Ray 2.60 may wait for itself in its last breath, with all the memory: leave before that
        atexit.register(os._exit, 0)
        self.work: Any = ray.get(work)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        (content,) = batch["block"]
        block = pickle.loads(content)  # noqa: S301 - made by a reader
        try:
            result = block if isinstance(block, Failure) else self.work(block)
        except (ValueError, OSError) as error:
            result = Failure(error)
        return {"result": [pickle.dumps(result)]}


def map_on_cluster(
    items: Sequence[Any],
    cut: Callable[[Any], Iterable[Any]],
    work: Callable[[Any], Any],
    address: str | None = None,
    gpus_per_worker: float = 1,
) -> Iterator[Any]:
    """Cut items into blocks and work on these, on every processor or, where there are GPUs, on those.

    A block whose worker dies is worked on again; what `work` does to the outside must bear that.

    Args:
        items: What `cut` takes; one of them is cut by one process.
        cut: Yields the blocks of an item, always the same ones.
        work: Takes a block; is loaded once by each worker. Both are sent to other machines, errors come back.
        address: Of a cluster ("auto", "ray://host:10001"); default: `RAY_ADDRESS`, else this machine alone.
        gpus_per_worker: 0.5 lets two workers share a GPU.

    Yields:
        Results, in no order.

    Raises:
        ScoringError: Ray is not installed, or gave up.
        ValueError, OSError: What `cut` or `work` raised first.
    """
    ray = _import_ray()
    with _connect(address, len(pickle.dumps(work))):
        try:
            for row in _build(items, cut, work, gpus_per_worker).iter_rows():
                result = pickle.loads(row["result"])  # noqa: S301 - made by a worker
                if isinstance(result, Failure):
                    raise result.error
                yield result
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            lines = str(cause).strip().splitlines() or [type(cause).__name__]
            raise ScoringError(f"Ray gave up: {lines[-1]}; once that is repaired, the same call goes on") from error


def _import_ray() -> Any:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray  # type: ignore[import-not-found]
        import ray.data  # type: ignore[import-not-found]
        import ray.exceptions  # type: ignore[import-not-found]
    except ImportError as error:
        raise ScoringError(f'engine "ray": {error}: pip install "ray[data]"') from error
    return ray


def _build(items: Sequence[Any], cut: Any, work: Any, gpus_per_worker: float) -> Any:
    """Describe the stream items → blocks → results; it runs when it is iterated."""
    ray = _import_ray()
    there = ray.cluster_resources()
    with_gpus = there.get("GPU", 0) > 0
    workers = int(there["GPU"] / gpus_per_worker) if with_gpus else int(there.get("CPU", 1))
    resources = {"num_gpus": gpus_per_worker} if with_gpus else {"num_cpus": 1}
    rows = [{"item": pickle.dumps(item)} for item in items]
    dataset: Any = ray.data.from_items(rows, override_num_blocks=min(len(rows), 1_000))
    context: Any = dataset.context
    context.target_max_block_size = 1  # bytes: each block is sent on at once, to whoever is free
    context.target_min_block_size = 1
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context.enable_progress_bars = context.print_on_execution_start = False
    # readers ask for no processor: the workers have them all, and reading takes little
    blocks = dataset.map_batches(
        _Reader(cut).__call__,
        batch_size=1,
        num_cpus=0,
        compute=ray.data.TaskPoolStrategy(1 + workers // WORKERS_PER_READER),
    )
    return blocks.map_batches(
        _Worker,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=max(workers, 1), max_tasks_in_flight_per_actor=2),
        fn_constructor_args=(ray.put(work), None if with_gpus else 1),
        **resources,
    )


@contextmanager
def _connect(address: str | None, work_bytes: int) -> Iterator[None]:
    """Join a cluster, or start one of this machine that nobody else reaches; leave it at the end."""
    ray = _import_ray()
    if ray.is_initialized():  # a notebook's, say
        yield
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    address = address or os.environ.get("RAY_ADDRESS")
    try:
        with _silence():
            if address:
                import nlpbook_helpers

                ray.init(address, runtime_env={"py_modules": [nlpbook_helpers]}, **quiet)
            else:  # it listens to the network, but answers only who knows a token that Ray makes
                ray.init("local", include_dashboard=False, object_store_memory=STORE_BYTES + 2 * work_bytes, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        raise ScoringError(f"Ray cannot start ({error}): correct the address, {address or 'local'}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _silence() -> Iterator[None]:
    """Keep to itself that Ray's C++ part has been told to be quiet; what is wrong comes as an exception."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
