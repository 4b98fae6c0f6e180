"""Who may come in, and how much may each ask for? Host names, the access key, requests a minute."""

import hmac
import math
import re
import secrets
import threading
import time
from collections.abc import Sequence

from flask import Flask, Response, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from werkzeug.sansio.utils import host_is_trusted

from nlpbook_helpers.runtime import is_colab
from nlpbook_helpers.web.requests import ApiError

MAX_REMEMBERED = 10_000  # visitors whose debts are kept; beyond, those who owe least are forgotten
WRONG_KEYS_PER_MINUTE = 30
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
# Names under which Colab's proxy shows a port; anybody may have such a name, so it counts in Colab alone.
COLAB_HOSTS = (".colab.dev", ".googleusercontent.com")
# What the server puts into the WSGI environment, out of reach of any client: the access key or None; what stands
# between visitors and this server, "tunnel", "proxy" or None; and whether there is a log of requests.
ACCESS_KEY, HANDED_ON_BY, IS_LOGGED = "nlpbook.access_key", "nlpbook.handed_on_by", "nlpbook.is_logged"


def is_public() -> bool:
    """Tell whether strangers can reach this page."""
    key, handed_on_by = request.environ.get(ACCESS_KEY), request.environ.get(HANDED_ON_BY)
    return bool(key or handed_on_by) or request.environ["SERVER_NAME"] not in LOCAL_HOSTS


def name_visitor() -> str:
    """Name who asks: by the cookie that the page set, else by address, as one with all there who keep no cookies."""
    return session.get("visitor") or f"without cookie at {request.remote_addr}"


class RateLimit:
    """Buckets of credits, one for each visitor of a public page, which are full again a minute after they were empty.

    What costs more than a credit is let in while any is left, and its price is paid off before the next. All visitors
    of one address together have a second bucket, twice as large, or one could be many; who has used less than half of
    an own bucket is let in even if others have emptied that one.

    Args:
        per_minute: credits in a visitor's bucket; a request costs one.
    """

    def __init__(self, per_minute: int) -> None:
        """Start with full buckets."""
        self._credit = 1 / per_minute  # as a share of a visitor's bucket
        self._full_at: dict[str, float] = {}  # when a bucket is full again; absent: it is
        self._lock = threading.RLock()

    def _find_used(self, bucket: str) -> float:
        return max(self._full_at.get(bucket, 0) - time.monotonic(), 0) / 60

    def _find_wait(self, bucket: str, share: float) -> float:
        return max(60 * (self._find_used(bucket) + share - 1), 0)

    def _take(self, bucket: str, share: float) -> None:
        self._full_at[bucket] = time.monotonic() + 60 * (self._find_used(bucket) + share)
        if len(self._full_at) > MAX_REMEMBERED:
            self._full_at = dict(sorted(self._full_at.items(), key=lambda item: item[1])[MAX_REMEMBERED // 2 :])

    def take(self, bucket: str, share: float) -> float:
        """Take a share of a bucket if it is there; returns 0, or the seconds until it is."""
        with self._lock:
            wait = self._find_wait(bucket, share)
            if not wait:
                self._take(bucket, share)
            return wait

    def charge(self, credits: float) -> None:
        """Make a visitor of a public page pay, be it more than there is."""
        if is_public():
            with self._lock:
                self._take(name_visitor(), credits * self._credit)
                self._take(f"all at {request.remote_addr}", credits * self._credit / 2)

    def welcome(self) -> None:
        """Give a newcomer a signed cookie, by which those who share a key are told apart; else, all are one.

        Its bucket holds half of what newcomers of its address still have to share: many cookies are not many visitors.
        """
        visits, purse = f"visits at {request.remote_addr}", f"newcomers at {request.remote_addr}"
        if not is_public() or "visitor" in session or self.take(visits, self._credit):
            return
        session["visitor"] = secrets.token_urlsafe(9)
        with self._lock:
            spent = min(self._find_used(purse), 1)
            self._take(purse, (1 - spent) / 2)
            self._take(session["visitor"], spent)

    def admit(self, credits: float = 1) -> None:
        """Let a request in; where strangers can reach the page, for so many credits.

        Raises:
            ApiError: 429, with the seconds to wait.
        """
        if not is_public():
            return
        with self._lock:
            crowded = self._find_wait(f"all at {request.remote_addr}", self._credit / 2)
            to_half = self._find_wait(name_visitor(), self._credit + 1 / 2)
            if wait := max(self._find_wait(name_visitor(), self._credit), min(crowded, to_half)):
                raise ApiError(429, retry_after=math.ceil(wait))
            self.charge(credits)


def check_host(trusted_hosts: Sequence[str]) -> None:
    """Refuse names that are not this machine's: a foreign site may have its name point here (DNS rebinding)."""
    # A key protects better, a tunnel's names are its own, and who binds another address than this machine's wants to
    # be reached by it.
    environ = request.environ
    is_tunnelled = environ.get(HANDED_ON_BY) == "tunnel"
    if environ.get(ACCESS_KEY) or is_tunnelled or environ["SERVER_NAME"] not in LOCAL_HOSTS:
        return
    known = [*LOCAL_HOSTS, *trusted_hosts, *(COLAB_HOSTS if is_colab() else ())]
    host = request.headers.get("Host", "localhost").lower()
    if not host_is_trusted(host, known) and not re.fullmatch(r"\[::1\](:\d+)?", host):
        raise ApiError(421)


def require_key(limit: RateLimit) -> Response | None:
    """Let a request through if no key is asked for, or it brings it in its link, header or cookie."""
    key = request.environ.get(ACCESS_KEY)
    # A browser sends no credentials with its CORS preflight (OPTIONS), which runs no code of ours.
    if not key or request.method == "OPTIONS" or request.endpoint in ("static", "healthz", "readyz"):
        return None
    # Named by the port: browsers keep one jar for all ports of a host.
    cookie = f"nlpbook_key_{request.environ['SERVER_PORT']}"
    if request.endpoint == "page" and _is_key(request.args.get("key", ""), key):
        response = Response(status=302, headers={"Location": url_for("page")})
        response.set_cookie(cookie, key, httponly=True, samesite="Lax", secure=request.is_secure)
        return response
    bearer = request.authorization.token if request.authorization else None
    if _is_key(bearer or request.cookies.get(cookie, ""), key):
        return None
    # The right key is never refused, or anybody could lock others out; at this pace, guessing one takes ages.
    wait = limit.take(f"wrong keys from {request.remote_addr}", 1 / WRONG_KEYS_PER_MINUTE)
    raise ApiError(429, retry_after=math.ceil(wait)) if wait else ApiError(401)


def _is_key(given: str, key: str) -> bool:
    """Compare in constant time, as bytes: as strings, anything outside ASCII would be an error."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), key.encode())


class Sessions(SecureCookieSessionInterface):
    """Visitors' cookies, which go over TLS only once they were set so."""

    def get_cookie_secure(self, app: Flask) -> bool:
        """Tell whether this cookie may never be sent in clear."""
        return request.is_secure
