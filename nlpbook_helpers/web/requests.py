"""What a refused request is told: one Korean sentence, as JSON for programs and as a page for browsers.

What a request says: its JSON and its texts, or the first thing that is wrong with them.

The API, described for programs: OpenAPI 3.1.
"""

import json
from collections.abc import Mapping
from typing import Any

from flask import request
from werkzeug.exceptions import HTTPException

STATUS_ERRORS = {
    400: ("bad_request", "요청을 읽을 수 없습니다. 주소와 내용을 확인하고 다시 보내 주세요."),
    401: ("unauthorized", "접속 열쇠가 없거나 맞지 않습니다. 받은 링크를 끝까지 복사해 다시 열어 주세요."),
    404: ("not_found", "이 주소에는 아무것도 없습니다. 첫 화면(/)이나 POST /api를 이용해 주세요."),
    405: (
        "method_not_allowed",
        "이 주소에서 쓸 수 없는 요청 방식입니다. 첫 화면은 GET /, 분류는 POST /api입니다.",
    ),
    413: ("too_long", "보낸 내용이 너무 큽니다. 글을 줄여서 다시 보내 주세요."),
    421: (
        "unknown_host",
        "이 서버가 모르는 호스트 이름입니다. 서버가 출력한 주소(http://127.0.0.1:포트)로 다시 열어 주세요.",
    ),
    429: ("too_many_requests", "요청이 너무 잦습니다. 잠시 뒤에 다시 보내 주세요."),
    500: ("internal_error", "서버 안에서 오류가 났습니다. 잠시 뒤에 다시 보내 주세요."),
    503: ("overloaded", "지금은 요청이 밀려 있습니다. 잠시 뒤에 다시 보내 주세요."),
}


class ApiError(HTTPException):
    """A request this service refuses, in one Korean sentence that the page can show as it is.

    Args:
        status: HTTP status code.
        code: short English name of the error, for programs; None takes code and message of the status.
        message: expected what, got what, do what; Korean.
        field: name of the input at fault, if there is one.
        retry_after: seconds after which the same request may be answered.
    """

    def __init__(
        self,
        status: int,
        code: str | None = None,
        message: str = "",
        field: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """Keep what `describe_error` needs."""
        self.error_code, message = (code, message) if code else STATUS_ERRORS[status]
        super().__init__(description=message)
        self.code, self.field, self.retry_after = status, field, retry_after


def describe_error(error: HTTPException | int) -> dict[str, str | None]:
    """Give code, message and field of an error; anything but an ApiError gets the words of its status."""
    if not isinstance(error, ApiError):
        status = error if isinstance(error, int) else error.code or 500
        error = ApiError(status if status in STATUS_ERRORS else 400 if status < 500 else 500)
    described = {"code": error.error_code, "message": error.description, "field": error.field}
    # Half a character, echoed from a request, cannot be encoded: it becomes a question mark.
    return {name: text and text.encode("utf-8", "replace").decode() for name, text in described.items()}


def encode_error(described: Mapping[str, str | None]) -> bytes:
    """Write an error's JSON."""
    return json.dumps({"error": described}, ensure_ascii=False).encode()


FIELD_LABELS = {"sentence": "문장", "premise": "전제", "hypothesis": "가설"}
BATCH_LIMIT = 1_000
"""Most inputs of one `POST /api/batch`."""


def read_json(example: Any) -> dict[str, Any]:
    """Read the request's JSON object; `example` is one that it could have been."""
    if request.mimetype != "application/json":
        got = request.mimetype[:50] or "없음"
        message = f"Content-Type은 application/json이어야 합니다 (받은 것: {got}). 헤더를 바꿔 보내 주세요."
        raise ApiError(415, "unsupported_media_type", message)
    try:
        body = json.loads(request.get_data())
    except (ValueError, RecursionError):
        message = f"JSON으로 읽을 수 없습니다. UTF-8로 {_advise(example)}"
        raise ApiError(400, "malformed_json", message) from None
    return _check_names(body, example)


def read_inputs(example: dict[str, str]) -> list[Any]:
    """Read the inputs of a batch, each as it came."""
    inputs = read_json({"inputs": [example]})["inputs"]
    if not isinstance(inputs, list) or not inputs:
        message = f"inputs에는 입력이 하나 이상 든 배열이 필요합니다 (받은 것: {_shorten(inputs)}). "
        raise ApiError(422, "wrong_type", message + _advise({"inputs": [example]}), "inputs")
    if len(inputs) > BATCH_LIMIT:
        message = f"한 번에 {BATCH_LIMIT:,}개까지인데 {len(inputs):,}개를 받았습니다. 나누어 보내 주세요."
        raise ApiError(413, "too_many_inputs", message, "inputs")
    return inputs


def check_input(value: Any, example: dict[str, str], max_chars: int) -> dict[str, str]:
    """Return one input's texts, or refuse it.

    Args:
        value: what came, of any type.
        example: an input as it should be.
        max_chars: longest text accepted.

    Raises:
        ApiError: 422, or 413 for a text that is too long; names the field.
    """
    fields = _check_names(value, example)
    for name in example:
        _check_text(fields[name], name, max_chars)
    return fields


def _check_names(value: Any, example: dict[str, Any]) -> dict[str, Any]:
    """Refuse what is no object or has other names than the example."""
    if not isinstance(value, dict):
        message = f"JSON 객체가 필요합니다 (받은 것: {_shorten(value)}). {_advise(example)}"
        raise ApiError(422, "wrong_type", message)
    for name in sorted(value.keys() - example.keys()):
        message = f"모르는 이름 {_shorten(name)} 값이 있습니다. {_advise(example)}"
        raise ApiError(422, "unknown_field", message, name[:50])
    for name in [name for name in example if name not in value]:
        raise ApiError(422, "missing_field", f"{_name(name)} 칸이 빠졌습니다. {_advise(example)}", name)
    return value


def _check_text(text: Any, name: str, max_chars: int) -> None:
    """Refuse what is no string, too long, not encodable, or without anything to read in it."""
    label = _name(name)
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


def _name(name: str) -> str:
    return f"{FIELD_LABELS[name]}({name})" if name in FIELD_LABELS else name


def _advise(example: Any) -> str:
    return f"{json.dumps(example, ensure_ascii=False)}처럼 보내 주세요."


def _shorten(value: Any) -> str:
    """Show what was received, in 40 characters at most."""
    # Not the insides of an object or array: json.dumps gives up at a depth that json.loads still reads.
    inside = {dict: "{…}", list: "[…]" if value else "[]"}.get(type(value))
    text = inside or json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"


_TEXT = {"type": "string"}
_ERROR = {
    "type": "object",
    "properties": {"code": _TEXT, "message": _TEXT, "field": {"type": ["string", "null"]}},
    "required": ["code", "message", "field"],
}
ERROR_SCHEMA = {"type": "object", "properties": {"error": _ERROR}, "required": ["error"]}
TOKEN_SCHEMA = {
    "type": "object",
    "properties": {
        "field": _TEXT,
        "text": _TEXT,
        "start": {"type": "integer", "description": "first character in the field's text"},
        "end": {"type": "integer", "description": "character after the last"},
        "score": {"type": "number", "description": "contribution to the predicted label"},
    },
    "required": ["field", "text", "start", "end", "score"],
}
EXPLANATION_SCHEMA = {
    "type": "object",
    "properties": {"prediction": _TEXT, "tokens": {"type": "array", "items": TOKEN_SCHEMA}},
    "required": ["prediction", "tokens"],
}
REFUSALS = {
    "400": "malformed JSON",
    "401": "access key missing or wrong",
    "413": "a text, or the request, is too long",
    "415": "not application/json",
    "421": "the Host header is not a name of this server",
    "422": "a field is missing, unknown, empty or of a wrong type; the error names it",
    "429": "too many requests of this visitor; Retry-After is in seconds",
    "500": STATUS_ERRORS[500][0],
    "503": "too many requests waiting; Retry-After is in seconds",
}


def describe_api(
    labels: Mapping[str, str], title: str, max_chars: int, can_explain: bool, needs_key: bool
) -> dict[str, Any]:
    """Describe the API of one inference function.

    Args:
        labels: for each text the function takes, by name, what readers call it.
        title: of the page.
        max_chars: longest text in one field.
        can_explain: whether `POST /api/explain` answers.
        needs_key: whether the server asks for its access key.

    Returns:
        An OpenAPI 3.1 document that JSON can hold.
    """
    document = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1"},
        "servers": [{"url": "."}],
        "paths": _describe_paths(labels, max_chars, can_explain),
    }
    if needs_key:
        document["components"] = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
        document["security"] = [{"key": []}]
    return document


def _describe_paths(labels: Mapping[str, str], max_chars: int, can_explain: bool) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": max_chars, "pattern": r"\S"}
    texts = _describe_object({name: {**text, "title": label} for name, label in labels.items()})
    item = {"anyOf": [texts, {"description": "anything else is refused on its own, among the results"}]}
    inputs = _describe_object({"inputs": {"type": "array", "items": item, "minItems": 1, "maxItems": BATCH_LIMIT}})
    result = {"type": "object", "description": "what the inference function returns"}
    results = _describe_object({"results": {"type": "array", "items": {"anyOf": [ERROR_SCHEMA, result]}}})
    health = _describe_object({"status": {"const": "ok"}})
    batch = "Classify many inputs, in their order; an error stays its input's"
    paths = {
        "/api": _describe_post("Classify one input", texts, result),
        "/api/batch": _describe_post(batch, inputs, results),
        "/healthz": {"get": {"summary": "Is it alive?", "security": [], "responses": {"200": _answer("yes", health)}}},
    }
    if can_explain:
        paths["/api/explain"] = _describe_post("Tell which tokens drove the answer", texts, EXPLANATION_SCHEMA)
    return paths


def _describe_object(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Describe an object that has just these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _describe_post(summary: str, body: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    refusals = {status: _answer(words, ERROR_SCHEMA) for status, words in REFUSALS.items()}
    content = {"application/json": {"schema": body}}
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": content},
            "responses": {"200": _answer("answered", result), **refusals},
        }
    }


def _answer(words: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": words, "content": {"application/json": {"schema": schema}}}
