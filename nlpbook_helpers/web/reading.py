"""What a request says: its JSON and its texts, or the first thing that is wrong with them."""

import json
from typing import Any

from flask import request

from nlpbook_helpers.web.errors import ApiError

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
