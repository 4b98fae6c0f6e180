"""Who may come in, and how much may each ask for? Host names, the access key, requests a minute and at once."""

import hmac
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from flask import Flask, Response, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from werkzeug.sansio.utils import host_is_trusted

from nlpbook_helpers.runtime import is_colab
from nlpbook_helpers.web.requests import ApiError

AT_ONCE = 8
"""Requests of one visitor answered at a time; a browser opens six connections."""
MAX_REMEMBERED = 10_000
"""Visitors whose debts are kept; beyond, those who owe least are forgotten."""


class RateLimit:
    """A bucket of credits for each visitor, which fills by `per_minute` a minute and holds as many.

    What costs more than a credit is let in while any is left, and its price is paid off before the next. All visitors
    of one address together have a second bucket, twice as large, or one could be many; who has used less than half of
    an own bucket is let in even if others have emptied that one.

    Args:
        per_minute: credits a minute; a request costs one.
    """

    def __init__(self, per_minute: int) -> None:
        """Start with full buckets."""
        self._pace, self._lock = 60 / per_minute, threading.Lock()  # seconds per credit
        self._full_at: dict[str, float] = {}  # when a bucket is full again; absent: it is
        self._running: Counter[str] = Counter()

    def charge(self, bucket: str, credits: float, must_have: bool = True, size: float = 1) -> float:
        """Take credits from a bucket.

        Args:
            bucket: whose.
            credits: how many.
            must_have: take them only if the bucket is not empty.
            size: of the bucket, and how fast it fills, in minutes of a visitor's credits.

        Returns:
            0.0, or the seconds until there is a credit.
        """
        now = time.monotonic()
        with self._lock:
            full_at = max(self._full_at.get(bucket, now), now)
            wait = full_at - now + self._pace / size - 60
            if must_have and wait > 0:
                return wait
            self._full_at[bucket] = full_at + credits * self._pace / size
            if len(self._full_at) > MAX_REMEMBERED:
                self._full_at = dict(sorted(self._full_at.items(), key=lambda item: item[1])[MAX_REMEMBERED // 2 :])
        return 0.0

    def welcome(self, visitor: str, address: str) -> None:
        """Open a newcomer's bucket with half of what newcomers of its address still have to share."""
        now, purse = time.monotonic(), f"newcomers at {address}"
        with self._lock:
            spent = min(max(self._full_at.get(purse, now) - now, 0) / 60, 1)  # of a purse of two buckets
            given = 1 - spent
            self._full_at[purse] = now + 60 * (spent + given / 2)
            self._full_at[visitor] = now + 60 * (1 - given)

    @contextmanager
    def admit(self, visitor: str, address: str) -> Iterator[None]:
        """Let a request of a visitor in, for one credit.

        Raises:
            ApiError: 429, with the seconds to wait.
        """
        wait = self.charge(visitor, 1)
        if not wait and (crowded := self.charge(f"all at {address}", 1, size=2)):
            to_half = self._full_at.get(visitor, 0) - time.monotonic() - 30
            if to_half > 0:
                self.charge(visitor, -1, must_have=False)
                wait = min(crowded, to_half)
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


ACCESS_KEY = "nlpbook.access_key"
"""The WSGI environment's name for the access key: set by the server, out of reach of any client."""
IS_PUBLIC = "nlpbook.is_public"
"""The same for whether others than this machine's users can come in."""
HANDED_ON_BY = "nlpbook.handed_on_by"
"""The same for what stands between visitors and this server: "tunnel", "proxy" or None."""
REQUEST_ID = "nlpbook.request_id"
"""The same for what names the request in header and log."""
BEGAN = "nlpbook.began"
"""The same for when the request came, in seconds of `time.monotonic`."""
IS_LOGGED = "nlpbook.is_logged"
"""The same for whether there is a log of requests."""
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
COLAB_HOSTS = (".colab.dev", ".googleusercontent.com")
"""Names under which Colab's proxy shows a port; anybody may have such a name, so it counts in Colab alone."""


def check_host(trusted_hosts: Sequence[str]) -> None:
    """Refuse names that are not this machine's: a foreign site may have its name point here (DNS rebinding)."""
    # A key protects better, a tunnel's names are its own, and who binds another address than this machine's wants to
    # be reached by it.
    is_tunnelled = request.environ.get(HANDED_ON_BY) == "tunnel"
    if request.environ.get(ACCESS_KEY) or is_tunnelled or request.environ["SERVER_NAME"] not in LOCAL_HOSTS:
        return
    known = [*LOCAL_HOSTS, *trusted_hosts, *(COLAB_HOSTS if is_colab() else ())]
    host = request.headers.get("Host", "localhost").lower()
    if not host_is_trusted(host, known) and not re.fullmatch(r"\[::1\](:\d+)?", host):
        raise ApiError(421)


def require_key(wrong_keys: RateLimit) -> Response | None:
    """Let a request through if no key is asked for, or it brings it in its link, header or cookie."""
    key = request.environ.get(ACCESS_KEY)
    # Named by the port: browsers keep one jar for all ports of a host.
    cookie = f"nlpbook_key_{request.environ['SERVER_PORT']}"
    # A browser sends no credentials with its CORS preflight (OPTIONS), which runs no code of ours.
    if not key or request.method == "OPTIONS" or request.endpoint in ("static", "healthz", "readyz"):
        return None
    if request.endpoint == "page" and _is_key(request.args.get("key", ""), key):
        response = Response(status=302, headers={"Location": url_for("page")})
        response.set_cookie(cookie, key, httponly=True, samesite="Lax", secure=is_https())
        return response
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    given = token.strip() if scheme.lower() == "bearer" else request.cookies.get(cookie, "")
    if not _is_key(given, key):
        # The right key is never refused, or anybody could lock others out; at this pace, guessing one takes ages.
        wait = wrong_keys.charge(get_address(), 1)
        raise ApiError(429, retry_after=math.ceil(wait)) if wait else ApiError(401)
    return None


def _is_key(given: str, key: str) -> bool:
    """Compare in constant time, as bytes: as strings, anything outside ASCII would be an error."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), key.encode())


def is_https() -> bool:
    """Tell whether the visitor's browser speaks TLS, with this server or with what hands its requests on."""
    return "https" in (request.scheme, request.headers.get("X-Forwarded-Proto"))


class Sessions(SecureCookieSessionInterface):
    """Visitors' cookies, which go over TLS only once they were set so."""

    def get_cookie_secure(self, app: Flask) -> bool:
        """Tell whether this cookie may never be sent in clear."""
        return is_https()


def is_limited() -> bool:
    """Tell whether strangers can reach this page."""
    return bool(request.environ.get(ACCESS_KEY) or request.environ.get(IS_PUBLIC))


def get_address() -> str:
    """Return the address a request comes from; handed on, the one that tunnel or proxy adds last, as it saw it."""
    forwarded = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    return (request.environ.get(HANDED_ON_BY) and forwarded) or request.remote_addr or ""


def is_at_this_machine() -> bool:
    """Tell whether the request was made here, and not handed on by a tunnel or a proxy."""
    is_handed_on = request.environ.get(HANDED_ON_BY) or {"X-Forwarded-For", "Forwarded"} & set(request.headers.keys())
    return request.remote_addr in LOCAL_HOSTS and not is_handed_on


def name_visitor() -> str:
    """Name who asks: by the cookie that the page set, else by address, as one with all there who keep no cookies."""
    return session.get("visitor") or f"without cookie at {get_address()}"
