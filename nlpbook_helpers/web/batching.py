"""Requests that come at once are answered together: a bounded queue in front of one thread, or of a few."""

import atexit
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

BATCH_SIZE = 32
BATCH_CHARS = 16_000
"""A batch takes no more once it has so many characters: who sends a word should not wait for many books."""
TURN = 8
"""Inputs that a request of many gives to a batch before the next request has its turn."""
COMPANY_SHARE, COMPANY_SECONDS = 0.1, (0.005, 0.05)
"""How long a batch waits to become as large as the one before: this share of the time which that one took, within these
bounds. Who has just been answered asks again. After a batch of one, not at all."""
PATIENCE_SECONDS = 30
"""How long a request may wait for its turn, and one of many inputs for the next."""
MAX_INPUTS = 4_000
"""Most inputs waiting."""

Input = Mapping[str, str]
_log = logging.getLogger(__name__)


class OverloadError(RuntimeError):
    """The queue is full, or the request waited too long in it; `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        """Keep when to come again."""
        super().__init__(f"overloaded: come again in {retry_after} s")
        self.retry_after = retry_after


@dataclass
class _Job:
    """The inputs of one request."""

    inputs: Sequence[Input]
    is_gone: Callable[[], bool]
    deadline: float
    results: list[Any]
    left: int
    taken: int = 0
    done: threading.Event = field(default_factory=threading.Event)


class Batcher:
    """Answers the inputs of concurrent requests in threads of its own, which start with the first request.

    Args:
        answer_one: answers one input.
        answer_many: answers many at once, in their order; None: they are answered one by one.
        threads: how many batches are answered at a time.
        max_requests: most requests waiting or being answered.
    """

    def __init__(
        self,
        answer_one: Callable[[Input], Any],
        answer_many: Callable[[Sequence[Input]], Sequence[Any]] | None = None,
        threads: int = 1,
        max_requests: int = 48,
    ) -> None:
        """Wait for requests."""
        self._answer_one, self._answer_many = answer_one, answer_many
        self._thread_count, self._max_requests = threads, max_requests
        self._batch_size = BATCH_SIZE if answer_many else 1
        self._jobs: deque[_Job] = deque()  # those with inputs nobody has taken, in turn
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._requests, self._last_size, self._last_seconds = 0, 1, 0.0

    def answer(self, inputs: Sequence[Input], is_gone: Callable[[], bool] = lambda: False) -> list[Any]:
        """Answer the inputs of one request; blocks until it is done.

        Args:
            inputs: at least one.
            is_gone: whether the client has hung up, so that what is not yet begun may be dropped.

        Returns:
            For each input its answer, or the exception that it raised.

        Raises:
            OverloadError: too many requests or inputs are waiting, or this one waited too long.
        """
        job = _Job(inputs, is_gone, time.monotonic() + PATIENCE_SECONDS, [None] * len(inputs), len(inputs))
        with self._changed:
            waiting = self._count_waiting()
            if self._requests >= self._max_requests or waiting + len(inputs) > MAX_INPUTS:
                raise OverloadError(min(60, math.ceil(waiting * self._last_seconds / self._last_size) + 1))
            self._requests += 1
            self._jobs.append(job)
            self._start_threads()
            self._changed.notify_all()
        job.done.wait()
        with self._changed:
            self._requests -= 1
        if job.left:
            raise OverloadError(retry_after=1)
        return job.results

    def close(self) -> None:
        """Drop what waits, finish the batch at hand (5 seconds at most); a later request starts anew."""
        with self._changed:
            threads, self._threads = self._threads, []
            for job in self._jobs:
                job.done.set()
            self._jobs.clear()
            self._changed.notify_all()
        for thread in threads:
            thread.join(timeout=5)
        atexit.unregister(self.close)

    def _start_threads(self) -> None:
        if not self._threads:
            self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._thread_count)]
            for thread in self._threads:
                thread.start()
            atexit.register(self.close)  # a thread inside a model would end the interpreter with a crash

    def _count_waiting(self) -> int:
        return sum(len(job.inputs) - job.taken for job in self._jobs)

    def _work(self) -> None:
        while threading.current_thread() in self._threads:
            places = self._take_batch()
            if not places:
                continue
            begin = time.monotonic()
            answers = self._answer([job.inputs[index] for job, index in places])
            with self._changed:
                self._last_size, self._last_seconds = len(places), time.monotonic() - begin
                for (job, index), answer in zip(places, answers, strict=True):
                    job.results[index] = answer
                    job.left -= 1
                    if not job.left:
                        job.done.set()

    def _take_batch(self) -> list[tuple[_Job, int]]:
        """Wait for inputs and take a batch of them, a few of each request in turn."""
        places: list[tuple[_Job, int]] = []
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or threading.current_thread() not in self._threads)
            least, most = COMPANY_SECONDS
            patience = min(max(COMPANY_SHARE * self._last_seconds, least), most)
            self._changed.wait_for(lambda: not 0 < self._count_waiting() < self._last_size, patience)
            chars = 0
            while self._jobs and len(places) < self._batch_size and chars < BATCH_CHARS:
                job = self._jobs.popleft()
                if job.is_gone() or time.monotonic() > job.deadline:
                    job.done.set()
                    continue
                job.deadline = time.monotonic() + PATIENCE_SECONDS
                turn = range(job.taken, min(job.taken + TURN, len(job.inputs)))
                for index in turn[: self._batch_size - len(places)]:
                    if chars < BATCH_CHARS:
                        places.append((job, index))
                        chars += sum(map(len, job.inputs[index].values()))
                        job.taken += 1
                if job.taken < len(job.inputs):
                    self._jobs.append(job)
        return places

    def _answer(self, inputs: Sequence[Input]) -> Sequence[Any]:
        """Answer a batch; if that fails, each input alone, so that one does not fail its neighbours."""
        if len(inputs) > 1 and self._answer_many:
            try:
                answers = list(self._answer_many(inputs))
                if len(answers) == len(inputs):
                    return answers
                problem = f"expected {len(inputs)} answers, got {len(answers)}"
            except Exception as error:  # of one input, it comes again below, for this input alone
                problem = repr(error)
            answers = [self._try_one(fields) for fields in inputs]
            if not any(isinstance(answer, Exception) for answer in answers):
                _log.warning("batch_fn failed (%s) where answering one by one did not: correct it", problem)
            return answers
        return [self._try_one(fields) for fields in inputs]

    def _try_one(self, fields: Input) -> Any:
        try:
            return self._answer_one(fields)
        except Exception as error:
            return error
        except BaseException as error:  # sys.exit() may not end the thread that all wait for
            return RuntimeError(f"the inference function ended its thread: {error!r}")
