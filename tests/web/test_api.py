"""The API beside `POST /api`: batches, explanations, and the description of it all."""

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from web_client import Answer, answer_sentence, call, explain_sentence, make_full_function, read_error

from nlpbook_helpers.web import Server, get_web_service_app

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
Serve = Callable[..., Server]


def post(server: Server, path: str, value: Any, **headers: str) -> Answer:
    return call(server.url + path, json.dumps(value).encode(), **headers)


@pytest.mark.parametrize("function", [answer_sentence, make_full_function()], ids=["plain", "with batch_fn"])
def test_a_batch_is_answered_in_its_order_and_errors_stay_with_their_input(
    serve_app: Serve, function: Callable[..., Any]
) -> None:
    values = [{"sentence": "가"}, {"sentence": " "}, 3, {"sentence": "나", "x": 1}, {"sentence": "다"}]
    answer = post(serve_app(function), "/api/batch", {"inputs": values})
    assert answer.status == 200
    results = json.loads(answer.text)["results"]
    assert results[0] == answer_sentence("가") and results[4] == answer_sentence("다")
    errors = [results[index]["error"] for index in (1, 2, 3)]
    assert [(error["code"], error["field"]) for error in errors] == [
        ("empty_text", "sentence"),
        ("wrong_type", None),
        ("unknown_field", "x"),
    ]
    assert all(list(error) == ["code", "message", "field"] and error["message"] for error in errors)


def test_a_batch_of_a_thousand(serve_app: Serve) -> None:
    server = serve_app(make_full_function())
    inputs = [{"sentence": f"문장 {number}"} for number in range(1_000)]
    results = json.loads(post(server, "/api/batch", {"inputs": inputs}).text)["results"]
    assert [result["sentence"] for result in results] == [fields["sentence"] for fields in inputs]
    error = read_error(post(server, "/api/batch", {"inputs": [*inputs, inputs[0]]}))
    assert (error["code"], error["field"]) == ("too_many_inputs", "inputs")
    assert re.search("한 번에 1,000개까지인데 1,001개를 받았습니다", error["message"])


def test_an_input_that_fails_is_in_the_log_and_not_in_the_answer(
    serve_app: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(sentence: str) -> dict[str, str]:
        if sentence == "탈":
            raise RuntimeError("weights at /srv/someone/secret.ckpt")
        if sentence == "독":
            raise ValueError("독은 읽지 않습니다")
        return {"prediction": sentence}

    inputs = [{"sentence": text} for text in ("가", "탈", "독", "나")]
    with caplog.at_level(logging.ERROR):
        answer = post(serve_app(fail), "/api/batch", {"inputs": inputs})
    results = json.loads(answer.text)["results"]
    assert (results[0], results[3]) == ({"prediction": "가"}, {"prediction": "나"})
    assert results[1]["error"]["code"] == "internal_error" and "secret" not in answer.text
    assert results[2]["error"] == {"code": "invalid_input", "message": "독은 읽지 않습니다", "field": None}
    assert "secret.ckpt" in caplog.text


BAD_BATCHES = [
    (b"[", 400, "malformed_json", None, "JSON으로 읽을 수 없습니다"),
    (b'["a"]', 422, "wrong_type", None, r'JSON 객체가 필요합니다.*\{"inputs": \[\{"sentence": "…"\}\]\}처럼'),
    (b"{}", 422, "missing_field", "inputs", "inputs 칸이 빠졌습니다"),
    (b'{"inputs": [], "x": 1}', 422, "unknown_field", "x", '모르는 이름 "x"'),
    (b'{"inputs": []}', 422, "wrong_type", "inputs", r"하나 이상 든 배열이 필요합니다 \(받은 것: \[\]\)"),
    (b'{"inputs": {}}', 422, "wrong_type", "inputs", r"배열이 필요합니다 \(받은 것: \{…\}\)"),
    (b'{"inputs": "a"}', 422, "wrong_type", "inputs", r"배열이 필요합니다 \(받은 것: \"a\"\)"),
    (b'{"inputs": [' + b"[" * 50_000, 400, "malformed_json", None, "JSON으로 읽을 수 없습니다"),
    (b" " * (4 * 2**20 + 1), 413, "too_long", None, "너무 큽니다"),
]


@pytest.mark.parametrize(("body", "status", "code", "field", "match"), BAD_BATCHES, ids=range(len(BAD_BATCHES)))
def test_a_bad_batch_gets_one_sentence(
    serve_app: Serve, body: bytes, status: int, code: str, field: str | None, match: str
) -> None:
    answer = call(f"{serve_app().url}/api/batch", body)
    error = read_error(answer)
    assert (answer.status, error["code"], error["field"]) == (status, code, field)
    assert re.search(match, error["message"])


def test_inputs_of_a_batch_are_checked_like_single_ones(serve_app: Serve) -> None:
    server = serve_app(make_full_function())
    values = [
        *(
            {"sentence": value}
            for value in ("가" * 10_001, "a\ud83d", " \u200b\0", None, "<img src=x onerror=alert(1)>")
        ),
        *({"sentence": value} for value in ("a\0b", "\u202eabc", "😀" * 10_000, {"a": 1})),
    ]
    singles = [post(server, "/api", value) for value in values]
    results = json.loads(post(server, "/api/batch", {"inputs": values}).text)["results"]
    assert results == [json.loads(single.text) for single in singles]
    assert [single.status for single in singles] == [413, 422, 422, 422, 200, 200, 200, 200, 422]


def test_why(serve_app: Serve) -> None:
    answer = post(serve_app(make_full_function()), "/api/explain", {"sentence": "가나"})
    assert answer.status == 200 and json.loads(answer.text) == explain_sentence("가나")


def test_a_function_that_cannot_explain_says_so(serve_app: Serve) -> None:
    answer = post(serve_app(), "/api/explain", {"sentence": "가"})
    error = read_error(answer)
    assert (answer.status, error["code"]) == (404, "cannot_explain")
    assert re.search("근거를 보여 주지 못합니다", error["message"])


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (b"{", 400, "malformed_json", None),
        (b"{}", 422, "missing_field", "sentence"),
        (b'{"sentence": ""}', 422, "empty_text", "sentence"),
        (b'{"sentence": 1}', 422, "wrong_type", "sentence"),
        (b'{"sentence": "a", "y": 1}', 422, "unknown_field", "y"),
        (json.dumps({"sentence": "가" * 10_001}).encode(), 413, "too_long", "sentence"),
        (json.dumps({"sentence": "\ud800"}).encode(), 422, "invalid_text", "sentence"),
    ],
)
def test_what_is_asked_to_be_explained_is_checked(
    serve_app: Serve, body: bytes, status: int, code: str, field: str | None
) -> None:
    answer = call(f"{serve_app(make_full_function()).url}/api/explain", body)
    error = read_error(answer)
    assert (answer.status, error["code"], error["field"]) == (status, code, field)


@pytest.mark.parametrize("path", ["/api/batch", "/api/explain"])
def test_types_and_methods_of_the_other_paths(serve_app: Serve, path: str) -> None:
    server = serve_app(make_full_function())
    assert read_error(post(server, path, {}, Content_Type="text/plain"))["code"] == "unsupported_media_type"
    wrong = call(server.url + path, Accept="text/html")
    assert (wrong.status, read_error(wrong)["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("path", ["/api/", "/api/nothing", "/api/batch/1", "/openapi.json/x"])
def test_programs_are_told_in_json_what_is_not_there(serve_app: Serve, path: str) -> None:
    missing = call(serve_app().url + path, Accept="text/html" if path.startswith("/api") else "*/*")
    assert (missing.status, read_error(missing)["code"]) == (404, "not_found")
    wrong = call(f"{serve_app().url}/openapi.json", b"{}", Accept="text/html")
    assert (wrong.status, read_error(wrong)["code"]) == (405, "method_not_allowed")


def test_the_description_fits_the_function(serve_app: Serve) -> None:
    def compare(premise: str, hypothesis: str) -> dict[str, str]:
        return {}

    document = json.loads(call(f"{serve_app(compare).url}/openapi.json").text)
    assert document["openapi"] == "3.1.0" and sorted(document["paths"]) == ["/api", "/api/batch", "/healthz"]
    schema = document["paths"]["/api"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert list(schema["properties"]) == schema["required"] == ["premise", "hypothesis"]
    assert schema["properties"]["premise"]["title"] == "전제" and "security" not in document
    server = serve_app(get_web_service_app(make_full_function(), title="제목", max_chars=50), key="long-enough")
    assert call(f"{server.url}/openapi.json").status == 401
    document = json.loads(call(f"{server.url}/openapi.json", Authorization="Bearer long-enough").text)
    assert "/api/explain" in document["paths"] and document["security"] == [{"key": []}]
    assert document["info"]["title"] == "제목" and '"maxLength": 50' in json.dumps(document)


def test_other_sites_reach_all_of_the_api_if_named(serve_app: Serve) -> None:
    server = serve_app(get_web_service_app(make_full_function(), cors_origins=["https://friend.example"]))
    for path, value in (("/api", {}), ("/api/batch", {}), ("/api/explain", {"sentence": "가"})):
        answer = post(server, path, value, Origin="https://friend.example")
        assert answer.headers["Access-Control-Allow-Origin"] == "https://friend.example", path
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Origin" not in call(server.url, Origin="https://friend.example").headers


def test_the_page_learns_what_the_function_can(serve_app: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr("nlpbook_helpers.web.app.render_template", lambda name, **values: seen.update(values) or "")
    call(serve_app(make_full_function()).url)
    assert seen["info"] == {"model": "작은 모델"} and seen["can_explain"] is True and seen["batch_limit"] == 1_000
    call(serve_app(answer_sentence).url)
    assert seen["info"] == {} and seen["can_explain"] is False
