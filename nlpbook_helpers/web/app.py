"""The page and the API: one Flask app for any inference function, whatever its inputs are called."""

import hmac
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flask import Flask, Response, jsonify, render_template, request, url_for
from flask_cors import CORS
from werkzeug.exceptions import HTTPException

ACCESS_KEY = "nlpbook.access_key"
"""The WSGI environment's name for the access key: set by the server, out of reach of any client."""
COOKIE_NAME = "nlpbook_key"
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
FIELD_LABELS = {"sentence": "문장", "premise": "전제", "hypothesis": "가설"}
STATUS_ERRORS = {
    400: ("bad_request", "요청을 읽을 수 없습니다. 주소와 내용을 확인하고 다시 보내 주세요."),
    401: ("unauthorized", "접속 열쇠가 없거나 맞지 않습니다. 받은 링크를 끝까지 복사해 다시 열어 주세요."),
    404: ("not_found", "이 주소에는 아무것도 없습니다. 첫 화면(/)이나 POST /api를 이용해 주세요."),
    405: (
        "method_not_allowed",
        "이 주소에서 쓸 수 없는 요청 방식입니다. 첫 화면은 GET /, 분류는 POST /api입니다.",
    ),
    413: ("too_long", "보낸 내용이 너무 큽니다. 글을 줄여서 다시 보내 주세요."),
    500: ("internal_error", "서버 안에서 오류가 났습니다. 잠시 뒤에 다시 보내 주세요."),
}


class ApiError(HTTPException):
    """A request this service refuses, in one Korean sentence that the page can show as it is.

    Args:
        status: HTTP status code.
        code: short English name of the error, for programs.
        message: expected what, got what, do what; Korean.
        field: name of the input at fault, if there is one.
    """

    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        """Keep what `describe_error` needs."""
        super().__init__(description=message)
        self.code, self.error_code, self.field = status, code, field


def describe_error(status: int, error: Exception | None = None) -> dict[str, str | None]:
    """Give the code, message and field of an error; anything but an ApiError gets the words of its status."""
    if isinstance(error, ApiError):
        return {"code": error.error_code, "message": error.description, "field": error.field}
    code, message = STATUS_ERRORS.get(status) or STATUS_ERRORS[400 if status < 500 else 500]
    return {"code": code, "message": message, "field": None}


def encode_error(described: Mapping[str, str | None]) -> bytes:
    """Write an error's JSON; half a character, echoed from a request, becomes a question mark."""
    return json.dumps({"error": described}, ensure_ascii=False).encode("utf-8", "replace")


def get_web_service_app(
    inference_fn: Callable[..., Mapping[str, Any]],
    *,
    title: str = "문장 분류기",
    max_chars: int = 10_000,
    cors_origins: Sequence[str] = (),
) -> Flask:
    """Make the Flask app that puts an inference function on the web: `GET /`, `POST /api`, `GET /healthz`.

    The form's fields are the function's parameters without a default; the result's headline is its
    `prediction`, and each `X_width` ("98.76%") with its `X_data` ("긍정 0.9876") is a bar.

    Args:
        inference_fn: takes strings, returns a dictionary that JSON can hold; its ValueErrors are shown.
        title: the page's heading.
        max_chars: longest text accepted in one field, in characters.
        cors_origins: other sites whose scripts may call the API, such as `["https://example.org"]`.

    Returns:
        The app, for `serve(app)` or, on this machine alone, `app.run()`.

    Raises:
        ValueError: `inference_fn` has no text parameter, or one that cannot be passed by name.
    """
    names = _get_field_names(inference_fn)
    app = Flask(__name__)
    # JSON may spell a character as two \uXXXX escapes: 12 bytes.
    app.config["MAX_CONTENT_LENGTH"] = 4096 + 12 * max_chars * len(names)
    app.json.ensure_ascii, app.json.sort_keys = False, False  # type: ignore[attr-defined]
    if cors_origins:
        CORS(app, resources={"/api": {"origins": list(cors_origins)}}, methods=["POST"])
    app.before_request(_require_key)
    app.register_error_handler(HTTPException, _answer_error)

    @app.after_request
    def add_security_headers(response: Response) -> Response:
        response.headers.update(SECURITY_HEADERS)
        return response

    @app.get("/")
    def page() -> str:
        fields = [(name, FIELD_LABELS.get(name, name)) for name in names]
        return render_template("index.html", title=title, fields=fields, max_chars=max_chars)

    @app.post("/api")
    def api() -> Response:
        fields = _read_fields(names, max_chars)
        try:
            result = dict(inference_fn(**fields))
        except ValueError as error:
            raise ApiError(422, "invalid_input", str(error)) from error
        return jsonify(result)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app


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


def _read_fields(names: Sequence[str], max_chars: int) -> dict[str, str]:
    """Read the request's texts, or refuse it with the first thing that is wrong."""
    do = f"{json.dumps(dict.fromkeys(names, '…'), ensure_ascii=False)}처럼 보내 주세요."
    if request.mimetype != "application/json":
        got = request.mimetype[:50] or "없음"
        message = f"Content-Type은 application/json이어야 합니다 (받은 것: {got}). 헤더를 바꿔 보내 주세요."
        raise ApiError(415, "unsupported_media_type", message)
    try:
        body = json.loads(request.get_data())
    except (ValueError, RecursionError):
        raise ApiError(400, "malformed_json", f"JSON으로 읽을 수 없습니다. UTF-8로 {do}") from None
    if not isinstance(body, dict):
        raise ApiError(422, "wrong_type", f"JSON 객체가 필요합니다 (받은 것: {_shorten(body)}). {do}")
    for name in sorted(body.keys() - set(names)):
        raise ApiError(422, "unknown_field", f"모르는 이름 {_shorten(name)} 값이 있습니다. {do}", name[:50])
    for name in names:
        label = f"{FIELD_LABELS[name]}({name})" if name in FIELD_LABELS else name
        if name not in body:
            raise ApiError(422, "missing_field", f"{label} 칸이 빠졌습니다. {do}", name)
        _check_text(body[name], name, label, max_chars)
    return body


def _check_text(text: Any, name: str, label: str, max_chars: int) -> None:
    """Refuse what is no string, too long, not encodable, or without anything to read in it."""
    if not isinstance(text, str):
        message = f"{label} 칸은 문자열이어야 합니다 (받은 것: {_shorten(text)}). 따옴표로 감싸 보내 주세요."
        raise ApiError(422, "wrong_type", message, name)
    if len(text) > max_chars:
        message = f"{label} 칸은 {max_chars:,}자까지인데 {len(text):,}자를 받았습니다. 줄여서 다시 보내 주세요."
        raise ApiError(413, "too_long", message, name)
    if any("\ud800" <= character <= "\udfff" for character in text):
        message = f"{label} 칸에 반쪽 글자(짝 없는 서로게이트)가 있습니다. 지우고 다시 보내 주세요."
        raise ApiError(422, "invalid_text", message, name)
    if not any(character.isprintable() and not character.isspace() for character in text):
        message = f"{label} 칸이 비어 있습니다. 눈에 보이는 글자를 하나 이상 적어 주세요."
        raise ApiError(422, "empty_text", message, name)


def _shorten(value: Any) -> str:
    """Show what was received, in 40 characters at most."""
    # Not the insides of an object or array: json.dumps gives up at a depth that json.loads still reads.
    inside = {dict: "{…}", list: "[…]"}.get(type(value))
    text = inside or json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"


def _require_key() -> Response | None:
    """Let a request through if no key is asked for, or it brings it in its link, header or cookie."""
    key = request.environ.get(ACCESS_KEY)
    # A browser sends no credentials with its CORS preflight (OPTIONS), which runs no code of ours.
    if not key or request.method == "OPTIONS" or request.endpoint in ("static", "healthz"):
        return None
    if request.endpoint == "page" and _is_key(request.args.get("key", ""), key):
        response = Response(status=302, headers={"Location": url_for("page")})
        is_https = "https" in (request.scheme, request.headers.get("X-Forwarded-Proto"))
        response.set_cookie(COOKIE_NAME, key, httponly=True, samesite="Lax", secure=is_https)
        return response
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    given = token.strip() if scheme.lower() == "bearer" else request.cookies.get(COOKIE_NAME, "")
    if not _is_key(given, key):
        raise ApiError(401, *STATUS_ERRORS[401])
    return None


def _is_key(given: str, key: str) -> bool:
    """Compare in constant time, as bytes: as strings, anything outside ASCII would be an error."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), key.encode())


def _answer_error(error: HTTPException) -> Response:
    """Answer programs in JSON and browsers with a small page; never with a trace."""
    status = error.code or 500
    described = describe_error(status, error)
    response = Response(encode_error(described), status, mimetype="application/json")
    types = request.accept_mimetypes
    if request.path != "/api" and types.best_match(["application/json", "text/html"]) == "text/html":
        response = Response(render_template("error.html", status=status, **described), status)
    response.headers.extend((name, value) for name, value in error.get_headers() if name != "Content-Type")
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
