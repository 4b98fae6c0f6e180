"""The page and the API: one Flask app for any inference function, whatever its inputs are called."""

import inspect
import mimetypes
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from flask import Flask, Response, current_app, jsonify, render_template, request, session
from flask_cors import CORS
from werkzeug.exceptions import HTTPException

from nlpbook_helpers.web.access import ACCESS_KEY, RateLimit, check_host, is_limited, name_visitor, require_key
from nlpbook_helpers.web.batching import Batcher, OverloadError
from nlpbook_helpers.web.requests import (
    BATCH_LIMIT,
    FIELD_LABELS,
    ApiError,
    check_input,
    describe_api,
    describe_error,
    encode_error,
    read_inputs,
    read_json,
)

FRAME_ANCESTORS = (
    "'self' http://localhost:* http://127.0.0.1:* https://*.colab.dev https://*.googleusercontent.com "
    "https://colab.research.google.com"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    f"frame-ancestors {FRAME_ANCESTORS}",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
API_PATHS = ("/api", "/api/batch", "/api/explain")
BATCH_BYTES = 4 * 2**20
"""Longest body of `POST /api/batch`: 1,000 texts of 4,000 bytes."""
THREADS = 4
"""Inputs answered at a time by a function that takes one only."""
MAX_REQUESTS, MAX_EXPLANATIONS = 48, 8
"""Most requests waiting or being answered; the server has more threads, so that some are free to refuse."""
CREDITS_PER_INPUT, CREDITS_PER_EXPLANATION = 0.1, 5
"""What an input of a batch and an explanation cost a visitor of a public page; a request costs 1."""

# Windows may call scripts text/plain; browsers then refuse to run them.
mimetypes.add_type("text/javascript", ".js")


@dataclass
class Service:
    """What stands behind an app: `app.extensions["nlpbook"]`."""

    title: str
    """The page's heading."""
    example: dict[str, str]
    """An input: the inference function's texts by name."""
    max_chars: int
    """Longest text in one field."""
    answers: Batcher
    """Runs the inference function."""
    explanations: Batcher | None
    """Runs its `explain_fn`, if it has one."""
    limit: RateLimit
    """What visitors of a public page may ask for."""

    def close(self) -> None:
        """Stop the threads; a later request starts them anew."""
        for batcher in (self.answers, self.explanations):
            if batcher:
                batcher.close()


def get_web_service_app(
    inference_fn: Callable[..., Mapping[str, Any]],
    *,
    title: str | None = None,
    max_chars: int = 10_000,
    cors_origins: Sequence[str] = (),
    trusted_hosts: Sequence[str] = (),
    requests_per_minute: int = 120,
) -> Flask:
    """Make the Flask app that puts an inference function on the web: a page, and an API that `/openapi.json` describes.

    The form's fields are the function's parameters without a default; the result's headline is its
    `prediction`, and each `X_width` ("98.76%") with its `X_data` ("긍정 0.9876") is a bar. The function may
    carry `batch_fn(inputs)`, which answers many inputs at once; `explain_fn(**fields)`; and `info`, a
    dictionary for the page's footer.

    Args:
        inference_fn: takes strings, returns a dictionary that JSON can hold; its ValueErrors are shown.
        title: the page's heading; default: by the number of fields.
        max_chars: longest text accepted in one field, in characters.
        cors_origins: other sites whose scripts may call the API, such as `["https://example.org"]`.
        trusted_hosts: names besides localhost under which a proxy shows this page, such as `["hub.example.org"]`.
        requests_per_minute: of one visitor, while a tunnel is open or a key is set.

    Returns:
        The app, for `serve(app)` or, on this machine alone, `app.run()`.

    Raises:
        ValueError: `inference_fn` has no text parameter, or one that cannot be passed by name; or no request
            is allowed.
    """
    if requests_per_minute < 1:
        raise ValueError(f"requests_per_minute: expected 1 or more, got {requests_per_minute}")
    service = _make_service(inference_fn, title, max_chars, requests_per_minute)
    app = Flask(__name__)
    app.extensions["nlpbook"] = service
    # JSON may spell a character as two \uXXXX escapes: 12 bytes.
    app.config["MAX_CONTENT_LENGTH"] = 4096 + 12 * max_chars * len(service.example)
    # Browsers keep one jar for all ports of a host: a second page must not overwrite the first one's cookie.
    cookie = f"nlpbook_session_{secrets.token_hex(4)}"
    app.config |= {"SESSION_COOKIE_NAME": cookie, "SESSION_COOKIE_SAMESITE": "Lax"}
    app.secret_key = secrets.token_bytes()
    app.json.ensure_ascii, app.json.sort_keys = False, False  # type: ignore[attr-defined]
    if cors_origins:
        options = {"origins": list(cors_origins), "expose_headers": ["Retry-After"]}
        CORS(app, resources=dict.fromkeys(API_PATHS, options), methods=["POST"])
    app.before_request(lambda: check_host(trusted_hosts))
    app.before_request(require_key)
    app.after_request(_add_security_headers)
    app.register_error_handler(HTTPException, _answer_error)
    app.add_url_rule("/healthz", "healthz", lambda: {"status": "ok"})
    _add_page(app, service, dict(getattr(inference_fn, "info", {})))
    _add_api(app, service)
    return app


def _make_service(
    inference_fn: Callable[..., Mapping[str, Any]], title: str | None, max_chars: int, requests_per_minute: int
) -> Service:
    names = _get_field_names(inference_fn)
    batch_fn, explain_fn = getattr(inference_fn, "batch_fn", None), getattr(inference_fn, "explain_fn", None)
    answers = Batcher(lambda fields: dict(inference_fn(**fields)), batch_fn, 1 if batch_fn else THREADS, MAX_REQUESTS)
    explain = (lambda fields: explain_fn(**fields)) if explain_fn else None
    explanations = Batcher(explain, max_requests=MAX_EXPLANATIONS) if explain else None
    title = title or ("문장 분류기" if len(names) == 1 else "문장 관계 분류기")
    return Service(title, dict.fromkeys(names, "…"), max_chars, answers, explanations, RateLimit(requests_per_minute))


def _add_page(app: Flask, service: Service, info: dict[str, str]) -> None:
    """Add what a browser, and a program that looks for a way in, asks first."""
    labels = {name: FIELD_LABELS.get(name, name) for name in service.example}
    can_explain = service.explanations is not None

    @app.get("/")
    def page() -> str:
        # Visitors who share a key are told apart by a signed cookie; without it, all are one.
        if is_limited() and "visitor" not in session and not service.limit.charge("new visitors", 1):
            session["visitor"] = secrets.token_urlsafe(9)
        return render_template(
            "index.html",
            title=service.title,
            fields=list(labels.items()),
            max_chars=service.max_chars,
            batch_limit=BATCH_LIMIT,
            info=info,
            can_explain=can_explain,
        )

    @app.get("/openapi.json")
    def openapi() -> dict[str, Any]:
        needs_key = bool(request.environ.get(ACCESS_KEY))
        return describe_api(labels, service.title, service.max_chars, can_explain, needs_key)


def _add_api(app: Flask, service: Service) -> None:
    """Add `POST /api`, `/api/batch` and `/api/explain`."""

    @app.post("/api")
    def api() -> Response:
        with _admit(service.limit):
            return jsonify(_answer_one(service, service.answers))

    @app.post("/api/explain")
    def api_explain() -> Response:
        if service.explanations is None:
            message = "이 모델은 답의 근거를 보여 주지 못합니다. 분류는 POST /api를 이용해 주세요."
            raise ApiError(404, "cannot_explain", message)
        with _admit(service.limit):
            _charge(service.limit, CREDITS_PER_EXPLANATION - 1)
            return jsonify(_answer_one(service, service.explanations))

    @app.post("/api/batch")
    def api_batch() -> Response:
        request.max_content_length = max(BATCH_BYTES, app.config["MAX_CONTENT_LENGTH"])
        with _admit(service.limit):
            inputs = read_inputs(service.example)
            _charge(service.limit, len(inputs) * CREDITS_PER_INPUT)
            return jsonify({"results": _answer_batch(service, inputs)})


def _admit(limit: RateLimit) -> AbstractContextManager[None]:
    return limit.admit(name_visitor()) if is_limited() else nullcontext()


def _charge(limit: RateLimit, credits: float) -> None:
    """Make a visitor who has been admitted pay for more than a request."""
    if is_limited():
        limit.charge(name_visitor(), credits, must_have=False)


def _answer_one(service: Service, batcher: Batcher) -> Any:
    """Answer the request's one input."""
    value = read_json(service.example)
    (answer,) = _answer(batcher, [check_input(value, service.example, service.max_chars)])
    if isinstance(answer, Exception):
        raise answer
    return answer


def _answer_batch(service: Service, inputs: Sequence[Any]) -> list[dict[str, Any]]:
    """Answer or refuse each input on its own, in their order."""
    results: dict[int, dict[str, Any]] = {}
    good: dict[int, dict[str, str]] = {}
    for index, value in enumerate(inputs):
        try:
            good[index] = check_input(value, service.example, service.max_chars)
        except ApiError as error:
            results[index] = _describe_answer(error)
    if good:
        answers = _answer(service.answers, list(good.values()))
        results |= {index: _describe_answer(answer) for index, answer in zip(good, answers, strict=True)}
    return [results[index] for index in range(len(inputs))]


def _answer(batcher: Batcher, inputs: Sequence[Mapping[str, str]]) -> list[Any]:
    """Answer checked inputs; a function's ValueError is a refusal of that input."""
    try:
        answers = batcher.answer(inputs, request.environ.get("waitress.client_disconnected", lambda: False))
    except OverloadError as error:
        raise ApiError(503, retry_after=error.retry_after) from None
    return [ApiError(422, "invalid_input", str(one)) if isinstance(one, ValueError) else one for one in answers]


def _describe_answer(answer: Any) -> dict[str, Any]:
    """Give an answer, or its error, as it stands among the results of a batch."""
    if isinstance(answer, HTTPException):
        return {"error": describe_error(answer)}
    if isinstance(answer, Exception):
        current_app.logger.error("an input of a batch failed", exc_info=answer)
        return {"error": describe_error(500)}
    return dict(answer)


def _get_field_names(inference_fn: Callable[..., Any]) -> list[str]:
    """Read the names of the texts a function wants off its signature."""
    parameters = inspect.signature(inference_fn).parameters.values()
    wanted = [parameter for parameter in parameters if parameter.default is parameter.empty]
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if not wanted or any(parameter.kind not in by_name for parameter in wanted):
        raise ValueError(
            f"expected an inference function with named text parameters, such as inference_fn(sentence), got "
            f"parameters {inspect.signature(inference_fn)}: write each text as a parameter with its own name"
        )
    return [parameter.name for parameter in wanted]


def _add_security_headers(response: Response) -> Response:
    response.headers.update(SECURITY_HEADERS)
    return response


def _answer_error(error: HTTPException) -> Response:
    """Answer programs in JSON and browsers with a small page; never with a trace."""
    status, described = error.code or 500, describe_error(error)
    response = Response(encode_error(described), status, mimetype="application/json")
    is_api = request.path in ("/api", "/openapi.json") or request.path.startswith("/api/")
    if not is_api and request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        response = Response(render_template("error.html", status=status, **described), status)
    response.headers.extend((name, value) for name, value in error.get_headers() if name != "Content-Type")
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, ApiError) and error.retry_after:
        response.headers["Retry-After"] = str(error.retry_after)
    return response
