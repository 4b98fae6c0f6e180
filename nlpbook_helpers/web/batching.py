"""Requests that come at once are answered together: a bounded queue in front of one thread, or of a few."""

import heapq
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from nlpbook_helpers.web.requests import ApiError

BATCH_SIZE = 32
BATCH_CHARS = 16_000
"""A batch takes no more once it has so many characters: who sends a word should not wait for many books."""
INPUT_CHARS = 200
"""What an input costs besides its characters, for whose turn it is: short ones may not hold up long ones forever."""
TURN = 8
"""Inputs that a request may always have in the queue; while few requests are there, it may have more."""
COMPANY_SHARE, COMPANY_SECONDS = 0.1, (0.005, 0.05)
"""How long a batch waits to become as large as the one before: this share of the time which that one took, within these
bounds. Who has just been answered asks again. After a batch of one, not at all."""
PATIENCE_SECONDS = 30
"""How long a request may wait for its turn, and one of many inputs for the next."""
MAX_INPUTS = 4_000
"""Most inputs of all requests."""

Input = Mapping[str, str]
_log = logging.getLogger(__name__)


@dataclass(order=True)
class _Place:
    """One input in the queue; the one with the lowest `turn` is the next."""

    turn: tuple[float, int]
    fields: Input = field(compare=False)
    is_gone: Callable[[], bool] | None = field(compare=False)
    answer: Future[Any] = field(default_factory=Future, compare=False)


class Batcher:
    """Answers the inputs of concurrent requests in threads of its own, which start with the first request.

    Args:
        answer_one: answers one input.
        answer_many: answers many at once, in their order; None: they are answered one by one.
        threads: how many batches are answered at a time.
        max_requests: most requests waiting or being answered.
    """

    def __init__(
        self, answer_one: Callable[[Input], Any], answer_many: Callable[[Sequence[Input]], Sequence[Any]] | None = None,
        threads: int = 1, max_requests: int = 48,
    ) -> None:  # fmt: skip
        """Wait for requests."""
        self._answer_one, self._answer_many = answer_one, answer_many
        self._threads, self._max_requests = threads, max_requests
        self._batch_size = BATCH_SIZE if answer_many else 1
        self._pool: ThreadPoolExecutor | None = None
        self._queue: list[_Place] = []  # a heap
        self._clock, self._number = 0.0, itertools.count()  # characters: the turn of what was taken last
        self._changed = threading.Condition()
        self._requests, self.inputs = 0, 0  # of those inside `answer`
        self._working = 0  # threads that look after the queue
        self._began: dict[int, float] = {}  # by thread, when the batch at hand
        self._last_size, self._last_seconds = 1, 0.0  # of the batch before

    def answer(self, inputs: Sequence[Input], is_gone: Callable[[], bool] | None = None) -> list[Any]:
        """Answer the inputs of one request; blocks until it is done.

        Args:
            inputs: at least one.
            is_gone: whether the client has hung up, so that what is not yet begun may be dropped.

        Returns:
            For each input its answer, or the exception that it raised.

        Raises:
            ApiError: 503, too many requests or inputs are waiting, or this one waited too long.
        """
        answers: list[Any] = []
        with self._changed:
            if self._requests >= self._max_requests or self.inputs + len(inputs) > MAX_INPUTS:
                seconds = self.inputs * self._last_seconds / self._last_size
                raise ApiError(503, retry_after=min(60, math.ceil(seconds) + 1))
            self._requests, self.inputs = self._requests + 1, self.inputs + len(inputs)
        try:
            while len(answers) < len(inputs):
                # Requests take turns because each has only a few of its inputs in the queue; alone, a whole batch.
                turn = max(TURN, self._batch_size // self._requests)
                answers += self._take_turn(inputs[len(answers) : len(answers) + turn], is_gone)
            return answers
        finally:
            with self._changed:
                self._requests, self.inputs = self._requests - 1, self.inputs - len(inputs)

    def _take_turn(self, inputs: Sequence[Input], is_gone: Callable[[], bool] | None) -> list[Any]:
        """Put inputs into the queue and wait until they are answered."""
        with self._changed:
            # Fair by length, as networks are (start-time fair queueing): what is short passes what is long.
            turn, places = self._clock, []
            for fields in inputs:
                turn += INPUT_CHARS + sum(map(len, fields.values()))
                places.append(_Place((turn, next(self._number)), fields, is_gone))
                heapq.heappush(self._queue, places[-1])
            self._pool = self._pool or ThreadPoolExecutor(self._threads, "nlpbook-answers")
            self._changed.notify_all()
            if self._working < self._threads:
                self._working += 1
                self._pool.submit(self._work)
        answers = [place.answer for place in places]
        with suppress(TimeoutError, CancelledError):
            answers[-1].result(PATIENCE_SECONDS)  # the queue is in order: those before have begun by then
        # What can still be cancelled has not begun, or was dropped; for what has begun, `result` waits.
        if any([answer.cancel() for answer in answers]):
            raise ApiError(503, retry_after=1)
        return [answer.result() for answer in answers]

    def is_stuck(self) -> bool:
        """Tell whether no thread has finished a batch for longer than a request would wait."""
        began = list(self._began.values())
        return len(began) >= self._threads and time.monotonic() - max(began) > PATIENCE_SECONDS

    def close(self) -> None:
        """Drop what waits; the batch at hand is finished, and a later request starts anew."""
        with self._changed:
            for place in self._queue:
                place.answer.cancel()
            self._queue.clear()
            if self._pool:
                self._pool.shutdown(wait=False)
            self._pool = None

    def _work(self) -> None:
        """Answer batch after batch while there is anything in the queue."""
        while batch := self._take_batch():
            begin = time.monotonic()
            self._began[threading.get_ident()] = begin
            answers = self._answer([place.fields for place in batch])
            del self._began[threading.get_ident()]
            with self._changed:  # whoever is woken waits for it, and does not hold up the answers of the others
                self._last_size, self._last_seconds = len(batch), time.monotonic() - begin
                for place, answer in zip(batch, answers, strict=True):
                    place.answer.set_result(answer)

    def _take_batch(self) -> list[_Place]:
        """Take the inputs for the next batch; none, if nothing waits and the thread may rest."""
        batch: list[_Place] = []
        chars = 0
        with self._changed:
            least, most = COMPANY_SECONDS
            patience = min(max(COMPANY_SHARE * self._last_seconds, least), most)
            self._changed.wait_for(lambda: not 0 < len(self._queue) < self._last_size, patience)
            while self._queue and len(batch) < self._batch_size and chars < BATCH_CHARS:
                place = heapq.heappop(self._queue)
                self._clock = max(self._clock, place.turn[0])
                if place.is_gone and place.is_gone():
                    place.answer.cancel()
                if place.answer.set_running_or_notify_cancel():
                    batch.append(place)
                    chars += sum(map(len, place.fields.values()))
            if not batch:
                self._working -= 1
        return batch

    def _answer(self, inputs: Sequence[Input]) -> Sequence[Any]:
        """Answer a batch; if that fails, each input alone, so that one does not fail its neighbours."""
        as_one = len(inputs) > 1 and self._answer_many
        together = _try(as_one, inputs) if as_one else None
        if isinstance(together, Sequence) and len(together) == len(inputs):
            return together
        answers = [_try(self._answer_one, fields) for fields in inputs]
        if as_one and not any(isinstance(answer, Exception) for answer in answers):
            words = "batch_fn gave %.200r instead of %d answers, where answering one by one worked: correct it"
            _log.warning(words, together, len(inputs))
        return answers


def _try(function: Callable[[Any], Any], argument: Any) -> Any:
    """Call a function of the user's; returns its answer or its error."""
    try:
        return function(argument)
    except Exception as error:
        return error
    # Whatever else it raises fails its own input, never the thread that all wait for.
    except BaseException as error:
        return RuntimeError(f"the inference function ended its thread: {error!r}")
