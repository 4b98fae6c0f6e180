"""Who may come in, and who is it? Host names, the access key, and a name for each visitor."""

import hmac
import re
from collections.abc import Sequence

from flask import Response, request, session, url_for
from werkzeug.sansio.utils import host_is_trusted

from nlpbook_helpers.web.errors import ApiError

ACCESS_KEY = "nlpbook.access_key"
"""The WSGI environment's name for the access key: set by the server, out of reach of any client."""
IS_PUBLIC = "nlpbook.is_public"
"""The same for whether a tunnel is open."""
LOCAL_HOST = re.compile(
    r"(localhost|127\.0\.0\.1|\[::1\]|[a-z0-9.-]+\.(colab\.dev|googleusercontent\.com))(:\d+)?", re.IGNORECASE
)


def check_host(trusted_hosts: Sequence[str]) -> None:
    """Refuse names that are not this machine's: a foreign site may have its name point here (DNS rebinding)."""
    environ, host = request.environ, request.headers.get("Host", "localhost")
    # A key protects better, and who binds another address than this machine's own wants to be reached by it.
    if is_limited() or not LOCAL_HOST.fullmatch(environ["SERVER_NAME"]):
        return
    if not (LOCAL_HOST.fullmatch(host) or (trusted_hosts and host_is_trusted(host, trusted_hosts))):
        raise ApiError(421)


def require_key() -> Response | None:
    """Let a request through if no key is asked for, or it brings it in its link, header or cookie."""
    key = request.environ.get(ACCESS_KEY)
    # A browser sends no credentials with its CORS preflight (OPTIONS), which runs no code of ours.
    if not key or request.method == "OPTIONS" or request.endpoint in ("static", "healthz"):
        return None
    if request.endpoint == "page" and _is_key(request.args.get("key", ""), key):
        response = Response(status=302, headers={"Location": url_for("page")})
        is_https = "https" in (request.scheme, request.headers.get("X-Forwarded-Proto"))
        response.set_cookie(_get_cookie_name(), key, httponly=True, samesite="Lax", secure=is_https)
        return response
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    given = token.strip() if scheme.lower() == "bearer" else request.cookies.get(_get_cookie_name(), "")
    if not _is_key(given, key):
        raise ApiError(401)
    return None


def _get_cookie_name() -> str:
    """Name the cookie by the port: browsers keep one jar for all ports of a host."""
    return f"nlpbook_key_{request.environ['SERVER_PORT']}"


def _is_key(given: str, key: str) -> bool:
    """Compare in constant time, as bytes: as strings, anything outside ASCII would be an error."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), key.encode())


def is_limited() -> bool:
    """Tell whether strangers can reach this page."""
    return bool(request.environ.get(ACCESS_KEY) or request.environ.get(IS_PUBLIC))


def name_visitor() -> str:
    """Name who asks: by the cookie that the page set, else as one with all who keep no cookies."""
    return session.get("visitor", "")
