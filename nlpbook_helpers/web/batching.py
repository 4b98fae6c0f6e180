"""Requests that come at once are answered together: a bounded queue in front of one thread, or of a few."""

import heapq
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from nlpbook_helpers.web.requests import ApiError

BATCH_SIZE = 32
# A batch takes no more once it has so many characters: who sends a word should not wait for many books.
BATCH_CHARS = 16_000
# What an input costs besides its characters, for whose turn it is: short ones may not hold up long ones forever.
INPUT_CHARS = 200
# How long a batch waits to become as large as the one before: this share of the time which that one took, within these
# bounds. Who has just been answered asks again. After a batch of one, not at all.
COMPANY_SHARE, COMPANY_SECONDS = 0.1, (0.005, 0.05)
# How long a request may wait for its turn, and one of many inputs after another.
PATIENCE_SECONDS = 30
MAX_INPUTS = 4_000  # of all requests
# Which part of all requests may be those of one visitor, and of one address; a browser opens six connections.
SHARES = (1 / 6, 1 / 2)

Input = Mapping[str, str]
IsGone = Callable[[], bool] | None
_log = logging.getLogger(__name__)


class _Place(NamedTuple):
    """One input in the queue; the one with the lowest `turn` is the next, and of those the one that came first."""

    turn: float
    number: int
    chars: int
    fields: Input
    is_gone: IsGone
    answer: Future[Any]


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
        self._requests: list[tuple[Sequence[str], int]] = []  # of those inside `answer`, who asks and how many inputs
        self._last_size, self._last_seconds = 1, 0.0  # of the batch before
        self.is_stuck = False  # whether somebody waits for too long, and no batch has been finished since

    @property
    def inputs(self) -> int:
        """How many inputs wait or are being answered."""
        return sum(number for _, number in self._requests)

    def answer(self, inputs: Sequence[Input], askers: Sequence[str] = (), is_gone: IsGone = None) -> list[Any]:
        """Answer the inputs of one request; blocks until it is done. An answer may be the exception that it raised.

        Args:
            inputs: any number.
            askers: who asks, as visitor and as address, so that nobody takes all places.
            is_gone: whether the client has hung up, so that what is not yet begun may be dropped.

        Raises:
            ApiError: 503, too many requests or inputs wait, or one waited too long; 429, too many are these askers'.
        """
        request = (askers, len(inputs))
        with self._changed:
            for asker, share in zip(askers, SHARES, strict=False):
                if sum(asker in those for those, _ in self._requests) >= share * self._max_requests:
                    raise ApiError(429, retry_after=1)
            if len(self._requests) >= self._max_requests or self.inputs + len(inputs) > MAX_INPUTS:
                seconds = self.inputs * self._last_seconds / self._last_size
                raise ApiError(503, retry_after=min(60, math.ceil(seconds) + 1))
            self._requests.append(request)
            answers = self._put(inputs, is_gone)
        try:
            for answer in answers:
                try:
                    answer.result(PATIENCE_SECONDS)
                except TimeoutError:
                    self.is_stuck = True
                except CancelledError:  # the client has gone, or the server is closed
                    pass
                if answer.cancel():  # it has not begun; for what has begun, `result` waits
                    raise ApiError(503, retry_after=1)
            return [answer.result() for answer in answers]
        finally:
            with self._changed:
                self._requests.remove(request)
            for answer in answers:
                answer.cancel()

    def _put(self, inputs: Sequence[Input], is_gone: IsGone) -> list[Future[Any]]:
        """Put the inputs of a request into the queue, fair by length, as networks are (start-time fair queueing).

        What is short passes what is long, and a request of few inputs those that one of many still has.
        """
        turn, answers = self._clock, [Future[Any]() for _ in inputs]
        for fields, answer in zip(inputs, answers, strict=True):
            chars = sum(map(len, fields.values()))
            turn += INPUT_CHARS + chars
            heapq.heappush(self._queue, _Place(turn, next(self._number), chars, fields, is_gone, answer))
        self._changed.notify_all()
        self._pool = self._pool or ThreadPoolExecutor(self._threads, "nlpbook-answers")
        for _ in inputs[: self._threads]:
            self._pool.submit(self._work)
        return answers

    def close(self) -> None:
        """Drop what waits; the batch at hand is finished, and a later request starts anew."""
        with self._changed:
            while self._queue:
                self._queue.pop().answer.cancel()
            pool, self._pool = self._pool, None
        if pool:
            pool.shutdown(wait=False)

    def _work(self) -> None:
        """Answer batch after batch while there is anything in the queue."""
        while batch := self._take_batch():
            begin = time.monotonic()
            answers = self._answer([place.fields for place in batch])
            with self._changed:  # whoever is woken waits for it, and does not hold up the answers of the others
                self._last_size, self._last_seconds = len(batch), time.monotonic() - begin
                self.is_stuck = False
                for place, answer in zip(batch, answers, strict=True):
                    place.answer.set_result(answer)

    def _take_batch(self) -> list[_Place]:
        """Take the inputs for the next batch; none, if nothing waits."""
        batch: list[_Place] = []
        with self._changed:
            least, most = COMPANY_SECONDS
            patience = min(max(COMPANY_SHARE * self._last_seconds, least), most)
            self._changed.wait_for(lambda: not 0 < len(self._queue) < self._last_size, patience)
            while self._queue and len(batch) < self._batch_size and sum(one.chars for one in batch) < BATCH_CHARS:
                place = heapq.heappop(self._queue)
                self._clock = max(self._clock, place.turn)
                if place.is_gone and place.is_gone():
                    place.answer.cancel()
                if place.answer.set_running_or_notify_cancel():
                    batch.append(place)
        return batch

    def _answer(self, inputs: Sequence[Input]) -> Sequence[Any]:
        """Answer a batch; if that fails, each input alone, so that one does not fail its neighbours."""
        as_one = len(inputs) > 1 and self._answer_many
        together = _try(as_one, inputs) if as_one else None
        if isinstance(together, Sequence) and len(together) == len(inputs):
            return together
        answers = [_try(self._answer_one, fields) for fields in inputs]
        if as_one and not any(isinstance(answer, BaseException) for answer in answers):
            words = "batch_fn gave %.200r instead of %d answers, where answering one by one worked: correct it"
            _log.warning(words, together, len(inputs))
        return answers


def _try(function: Callable[[Any], Any], argument: Any) -> Any:
    """Call a function of the user's; returns its answer or its error.

    Even an exit fails its own input alone, never the thread that all wait for.
    """
    try:
        return function(argument)
    except BaseException as error:
        return error
