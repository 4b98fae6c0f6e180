"""How much one visitor of a public page may ask for: requests a minute, and requests at once."""

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from nlpbook_helpers.web.errors import ApiError

AT_ONCE = 8
"""Requests of one visitor answered at a time; a browser opens six connections."""
MAX_REMEMBERED = 10_000
"""Visitors whose debts are kept; beyond, those who owe least are forgotten."""


class RateLimit:
    """A bucket of credits for each visitor, which fills by `per_minute` a minute and holds as many.

    What costs more than a credit is let in while any is left, and its price is paid off before the next.

    Args:
        per_minute: credits a minute; a request costs one.
    """

    def __init__(self, per_minute: int) -> None:
        """Start with full buckets."""
        self._pace, self._lock = 60 / per_minute, threading.Lock()  # seconds per credit
        self._full_at: dict[str, float] = {}  # when a visitor's bucket is full again; absent: it is
        self._running: Counter[str] = Counter()

    def charge(self, visitor: str, credits: float, must_have: bool = True) -> float:
        """Take credits from a visitor's bucket.

        Args:
            visitor: who.
            credits: how many.
            must_have: take them only if the bucket is not empty.

        Returns:
            0.0, or the seconds until there is a credit.
        """
        now = time.monotonic()
        with self._lock:
            full_at = max(self._full_at.get(visitor, now), now)
            wait = full_at - now + self._pace - 60
            if must_have and wait > 0:
                return wait
            self._full_at[visitor] = full_at + credits * self._pace
            if len(self._full_at) > MAX_REMEMBERED:
                owing = sorted(self._full_at.items(), key=lambda item: item[1])
                self._full_at = dict(owing[MAX_REMEMBERED // 2 :])
        return 0.0

    @contextmanager
    def admit(self, visitor: str) -> Iterator[None]:
        """Let a request of a visitor in, for one credit.

        Raises:
            ApiError: 429, with the seconds to wait.
        """
        wait = self.charge(visitor, 1)
        with self._lock:
            if wait or self._running[visitor] >= AT_ONCE:
                raise ApiError(429, retry_after=math.ceil(wait) or 1)
            self._running[visitor] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[visitor] -= 1
                self._running += Counter()  # forgets those with nothing running
