"""What every answer carries, and what a refused request gets to see."""

import gzip
import hashlib
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Response, current_app, jsonify, render_template, request
from werkzeug.exceptions import HTTPException

from nlpbook_helpers.web.access import BEGAN, IS_LOGGED, REQUEST_ID, get_address
from nlpbook_helpers.web.language import find_words, get_api_language
from nlpbook_helpers.web.metrics import count_request
from nlpbook_helpers.web.requests import ApiError, describe_error

LOCAL = "http://localhost:* http://127.0.0.1:*"
COLAB = "https://*.colab.dev https://*.googleusercontent.com https://colab.research.google.com"
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    f"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self' {LOCAL} {COLAB}",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
FOREVER = "public, max-age=31536000, immutable"
"""How long a static file may be kept: its address changes with its content."""
WORTH_COMPRESSING = 500  # bytes


def hash_static_files() -> str:
    """Return a name for the content of all static files: as modules name each other, they change together."""
    files = sorted((Path(__file__).parent / "static").iterdir())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def finish(response: Response) -> Response:
    """Add the headers of every answer, and compress a long one for those who can read it so."""
    response.headers.update(SECURITY_HEADERS)
    response.headers["X-Request-Id"] = number = request.environ.get(REQUEST_ID, "")
    count_request(current_app.extensions["nlpbook"].name, response.status_code)
    if request.environ.get(IS_LOGGED):  # without the query, which may hold the key
        path = request.script_root + request.path
        log_request(get_address(), request.method, path, response.status_code, request.environ[BEGAN], number)
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
    return response


def log_request(address: str, method: str, path: str, status: int, began: float, number: str) -> None:
    """Write the line of a request on standard error."""
    now, took = time.strftime("%Y-%m-%dT%H:%M:%S%z"), f"{1000 * (time.monotonic() - began):.0f} ms"
    print(now, ascii(address)[1:-1], f"{method} {path!a} {status}", took, number, file=sys.stderr, flush=True)


def check_answer(answer: Any) -> Any:
    """Turn what no client should get as it is into an error: what the function raised, and what is no JSON."""
    if isinstance(answer, ValueError):
        return ApiError("refused_by_function", reason=str(answer))
    refusal = ApiError(500)
    if not isinstance(answer, Exception):
        try:
            current_app.json.dumps(answer, allow_nan=False)
            return answer
        except (TypeError, ValueError, RecursionError) as error:
            answer, refusal = error, ApiError("no_json_answer")
    current_app.logger.error("request %s: an input failed", request.environ.get(REQUEST_ID), exc_info=answer)
    return refusal


def answer_error(error: HTTPException) -> Response:
    """Answer programs in JSON and browsers with a small page; never with a trace."""
    is_api = request.path in ("/api", "/openapi.json") or request.path.startswith("/api/")
    wants_page = request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
    as_page = wants_page and not is_api
    language = find_words()["language"] if as_page else get_api_language()
    status, described = error.code or 500, describe_error(error, language)
    described["request_id"] = request.environ.get(REQUEST_ID)
    body = render_template("error.html", status=status, **described) if as_page else jsonify({"error": described})
    response = current_app.make_response((body, status))
    response.headers.extend((name, value) for name, value in error.get_headers() if name != "Content-Type")
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, ApiError) and error.retry_after:
        response.headers["Retry-After"] = str(error.retry_after)
    return response
