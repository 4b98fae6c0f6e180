"""What every answer carries, what a refused request gets to see, and what is counted of both."""

import gzip
import hashlib
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Response, abort, current_app, g, jsonify, render_template, request
from werkzeug.exceptions import HTTPException

from nlpbook_helpers.web.access import ACCESS_KEY, HANDED_ON_BY, IS_LOGGED, LOCAL_HOSTS
from nlpbook_helpers.web.connections import REFUSED
from nlpbook_helpers.web.language import find_words, get_api_language
from nlpbook_helpers.web.requests import ApiError

try:
    import prometheus_client as prometheus
except ImportError:  # the extra `metrics`
    prometheus = None
else:
    _WHERE = ["model", "endpoint", "status"]
    _seconds = prometheus.Histogram("nlpbook_request_seconds", "From a request's arrival to its answer.", _WHERE)
    _waiting = prometheus.Gauge("nlpbook_inputs", "Inputs waiting or being answered.", ["model"])
    _opinions = prometheus.Gauge("nlpbook_feedback_rows", "Rows of the file of feedback.", ["model"])

LOCAL = "http://localhost:* http://127.0.0.1:*"
COLAB = "https://*.colab.dev https://*.googleusercontent.com https://colab.research.google.com"
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    f"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self' {LOCAL} {COLAB}",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
# How long a static file may be kept: its address changes with its content.
FOREVER = "public, max-age=31536000, immutable"
WORTH_COMPRESSING = 500  # bytes


def hash_static_files() -> str:
    """Return a name for the content of all static files: as modules name each other, they change together."""
    files = sorted((Path(__file__).parent / "static").iterdir())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def begin() -> None:
    """Give a request its number, and refuse what the server has refused."""
    g.number, g.began = secrets.token_hex(4), time.monotonic()
    if status := request.environ.get(REFUSED):
        abort(status)


def finish(response: Response) -> Response:
    """Add the headers of every answer, compress a long one for those who can read it so, count and log it."""
    response.headers.update(SECURITY_HEADERS)
    response.headers["X-Request-Id"] = g.number
    if response.location:  # all are here, and what a proxy calls "here" it knows itself
        response.location = urlsplit(response.location)._replace(scheme="", netloc="").geturl()
    if request.endpoint == "static" and response.status_code in (200, 304):
        response.headers["Cache-Control"] = FOREVER
    response.vary.update(("Accept-Encoding", "Accept-Language"))
    if response.status_code == 200 and request.accept_encodings.quality("gzip"):
        response.direct_passthrough = False
        if len(content := response.get_data()) > WORTH_COMPRESSING:
            response.set_data(gzip.compress(content, 6, mtime=0))
            response.headers["Content-Encoding"] = "gzip"
            if tag := response.get_etag()[0]:
                response.set_etag(tag, weak=True)  # the same content in other bytes
    took = time.monotonic() - g.began
    if prometheus:
        model = current_app.extensions["nlpbook"].name
        _seconds.labels(model, request.endpoint or "none", response.status_code).observe(took)
    if request.environ.get(IS_LOGGED):  # without the query, which may hold the key
        what = f"{request.method} {request.script_root + request.path!a} {response.status_code}"
        now, who = time.strftime("%Y-%m-%dT%H:%M:%S%z"), ascii(request.remote_addr)[1:-1]
        print(now, who, what, f"{1000 * took:.0f} ms", g.number, file=sys.stderr, flush=True)
    return response


def show_metrics(services: Sequence[Any]) -> Response:
    """Answer who has the key, or sits at this machine; a page without a key does not tell the world how it does.

    Raises:
        ApiError: 404, somebody else asks; 501, the library is not installed.
    """
    is_handed_on = request.environ.get(HANDED_ON_BY) or {"X-Forwarded-For", "Forwarded"} & set(request.headers.keys())
    if not request.environ.get(ACCESS_KEY) and (is_handed_on or request.remote_addr not in LOCAL_HOSTS):
        raise ApiError(404)
    if not prometheus:
        raise ApiError("no_metrics")
    for service in services:
        _waiting.labels(service.name).set(service.answers.inputs + service.explanations.inputs)
        _opinions.labels(service.name).set(service.feedback.count if service.feedback else 0)
    return Response(prometheus.generate_latest(), content_type=prometheus.CONTENT_TYPE_LATEST)


def check_answer(answer: Any) -> Any:
    """Turn what no client should get as it is into an error: what the function raised, and what is no JSON."""
    if isinstance(answer, ValueError):
        return ApiError("refused_by_function", reason=str(answer))
    refusal = ApiError(500)
    if not isinstance(answer, BaseException):
        try:
            current_app.json.dumps(answer, allow_nan=False)
            return answer
        except (TypeError, ValueError, RecursionError) as error:
            answer, refusal = error, ApiError("no_json_answer")
    current_app.logger.error("request %s: an input failed", g.number, exc_info=answer)
    return refusal


def answer_error(error: HTTPException) -> Response:
    """Answer programs in JSON and browsers with a small page; never with a trace."""
    known = error if isinstance(error, ApiError) else ApiError(error.code or 500)
    status = error.code or 500
    is_api = request.path.startswith(("/api", "/openapi.json"))
    if not is_api and request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        described = known.describe(find_words()["language"]) | {"request_id": g.number}
        response = current_app.make_response(render_template("error.html", status=status, **described))
    else:
        response = jsonify({"error": known.describe(get_api_language()) | {"request_id": g.number}})
    response.status_code = status
    response.headers.extend((name, value) for name, value in error.get_headers() if name != "Content-Type")
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if known.retry_after:
        response.headers["Retry-After"] = str(known.retry_after)
    return response
