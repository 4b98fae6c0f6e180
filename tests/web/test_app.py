"""The page and the API, over HTTP."""

import http.client
import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from web_client import answer_sentence, call, read_error
from werkzeug.serving import make_server

from nlpbook_helpers.web import Server, get_web_service_app

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
Serve = Callable[..., Server]


def post(server: Server, value: Any, **headers: str) -> Any:
    return call(f"{server.url}/api", json.dumps(value).encode(), **headers)


def answer_pair(premise: str, hypothesis: str) -> dict[str, str]:
    return {"premise": premise, "hypothesis": hypothesis, "prediction": "참 (entailment)"}


def test_the_api_answers_what_the_function_returns(serve_app: Serve) -> None:
    answer = post(serve_app(), {"sentence": "배우들이 좋다"})
    assert answer.status == 200
    assert json.loads(answer.text) == answer_sentence("배우들이 좋다")
    assert list(json.loads(answer.text)) == list(answer_sentence("")), "the keys keep their order"
    assert "긍정 0.9876" in answer.text, "Hangul is not escaped"


def test_two_parameters_make_two_fields(serve_app: Serve) -> None:
    server = serve_app(answer_pair)
    page = call(server.url).text
    assert re.findall(r'<textarea id="field-(\w+)"', page) == ["premise", "hypothesis"]
    assert re.findall(r"<label[^>]*>(.*?)</label>", page) == ["전제", "가설"]
    answer = post(server, {"hypothesis": "나", "premise": "가"})
    assert json.loads(answer.text)["premise"] == "가"


def test_unknown_parameter_names_label_themselves(serve_app: Serve) -> None:
    def find_topic(headline: str, *, limit: int = 3) -> dict[str, Any]:
        return {"headline": headline, "limit": limit}

    server = serve_app(find_topic)
    page = call(server.url).text
    assert re.findall(r"<label[^>]*>(.*?)</label>", page) == ["headline"], "a default is no field"
    assert 'class="chip"' not in page
    assert json.loads(post(server, {"headline": "비"}).text) == {"headline": "비", "limit": 3}


@pytest.mark.parametrize("function", [lambda: {}, lambda *texts: {}, lambda **texts: {}, lambda limit=3: {}])
def test_a_function_without_named_texts_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"expected an inference function with named text parameters.*got"):
        get_web_service_app(function)


BAD_BODIES = [
    (b"{", 400, "malformed_json", None, r'JSON으로 읽을 수 없습니다.*\{"sentence": "…"\}처럼'),
    (b"", 400, "malformed_json", None, "JSON으로 읽을 수 없습니다"),
    (b"\xff\xfe\xfa", 400, "malformed_json", None, "JSON으로 읽을 수 없습니다"),
    (b"[" * 50_000, 400, "malformed_json", None, "JSON으로 읽을 수 없습니다"),
    (b"9" * 5_000, 400, "malformed_json", None, "JSON으로 읽을 수 없습니다"),
    (b'["a"]', 422, "wrong_type", None, r"JSON 객체가 필요합니다 \(받은 것: \[…\]\)"),
    (b"[" * 900 + b"]" * 900, 422, "wrong_type", None, "JSON 객체가 필요합니다"),
    (b"null", 422, "wrong_type", None, r"JSON 객체가 필요합니다 \(받은 것: null\)"),
    (b"{}", 422, "missing_field", "sentence", r"문장\(sentence\) 칸이 빠졌습니다"),
    (b'{"sentence": "a", "x": 1}', 422, "unknown_field", "x", '모르는 이름 "x" 값이 있습니다'),
    (b'{"\\ud800": 1, "sentence": "a"}', 422, "unknown_field", "?", "모르는 이름"),
    (b'{"sentence": 3}', 422, "wrong_type", "sentence", r"문자열이어야 합니다 \(받은 것: 3\)"),
    (b'{"sentence": null}', 422, "wrong_type", "sentence", r"문자열이어야 합니다 \(받은 것: null\)"),
    (b'{"sentence": {"a": 1}}', 422, "wrong_type", "sentence", r"문자열이어야 합니다 \(받은 것: \{…\}\)"),
    (b'{"sentence": ""}', 422, "empty_text", "sentence", r"문장\(sentence\) 칸이 비어 있습니다"),
    (b'{"sentence": " \\n\\u3000\\u200b\\u0000"}', 422, "empty_text", "sentence", "칸이 비어 있습니다"),
    (b'{"sentence": "a\\ud83d"}', 422, "invalid_text", "sentence", "짝 없는 서로게이트"),
]


@pytest.mark.parametrize(("body", "status", "code", "field", "match"), BAD_BODIES)
def test_bad_input_gets_one_sentence(
    serve_app: Serve, body: bytes, status: int, code: str, field: str | None, match: str
) -> None:
    answer = call(f"{serve_app().url}/api", body)
    error = read_error(answer)
    assert (answer.status, error["code"], error["field"]) == (status, code, field)
    assert re.search(match, error["message"])


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "text/json"])
def test_only_json_is_accepted(serve_app: Serve, content_type: str) -> None:
    answer = post(serve_app(), {"sentence": "a"}, Content_Type=content_type)
    error = read_error(answer)
    assert (answer.status, error["code"]) == (415, "unsupported_media_type")
    assert re.search(rf"application/json이어야 합니다 \(받은 것: {content_type}\)", error["message"])


STRANGE_TEXTS = [
    "a\0b",
    "\u202eabc\u202c",
    "😀" * 10_000,
    "가" * 10_000,
    "<img src=x onerror=alert(1)>",
    "'; DROP TABLE reviews; --",
    "e\u0301" * 5_000,
    "\ufffe\uffff",
]


@pytest.mark.parametrize("text", STRANGE_TEXTS, ids=range(len(STRANGE_TEXTS)))
def test_strange_texts_are_answered_as_they_are(serve_app: Serve, text: str) -> None:
    answer = post(serve_app(), {"sentence": text})  # json.dumps escapes: the longest spelling there is
    if answer.status == 200:
        assert json.loads(answer.text)["sentence"] == text
    else:
        assert (answer.status, read_error(answer)["code"]) == (422, "empty_text")
        assert not any(character.isprintable() for character in text)


def test_too_long_a_text_names_field_and_lengths(serve_app: Serve) -> None:
    answer = post(serve_app(answer_pair), {"premise": "가", "hypothesis": "가" * 10_001})
    error = read_error(answer)
    assert (answer.status, error["code"], error["field"]) == (413, "too_long", "hypothesis")
    assert re.search("10,000자까지인데 10,001자를 받았습니다", error["message"])


def test_too_long_a_body_is_json_too(serve_app: Serve) -> None:
    answer = post(serve_app(), {"sentence": "a" * 200_000})
    assert answer.status == 413
    assert re.search("보낸 내용이 너무 큽니다", read_error(answer)["message"])


def test_a_huge_body_is_refused_before_it_is_sent(serve_app: Serve) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", serve_app().port, timeout=5)
    connection.putrequest("POST", "/api")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()
    response = connection.getresponse()
    body = response.read().decode()
    assert response.status == 413
    assert re.search("너무 큽니다", json.loads(body)["error"]["message"])
    assert "frame-ancestors" in (response.getheader("Content-Security-Policy") or "")
    connection.close()


def test_a_value_error_of_the_function_is_shown(serve_app: Serve) -> None:
    def refuse(sentence: str) -> dict[str, str]:
        raise ValueError("expected Korean, got \ud800: write Korean")

    answer = post(serve_app(refuse), {"sentence": "a"})
    assert (answer.status, read_error(answer)["code"]) == (422, "invalid_input")
    assert re.search(r"expected Korean, got \?: write Korean", read_error(answer)["message"])


def test_any_other_error_stays_in_the_log(serve_app: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def fail(sentence: str) -> dict[str, str]:
        raise RuntimeError("weights at /srv/someone/secret.ckpt")

    with caplog.at_level(logging.ERROR):
        answer = post(serve_app(fail), {"sentence": "a"})
    assert (answer.status, read_error(answer)["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert re.search("서버 안에서 오류가 났습니다", read_error(answer)["message"])
    assert "secret.ckpt" in caplog.text


def test_paths_and_methods(serve_app: Serve) -> None:
    server = serve_app()
    missing = call(f"{server.url}/nothing")
    assert (missing.status, read_error(missing)["code"]) == (404, "not_found")
    wrong = call(f"{server.url}/api", Accept="text/html")
    assert (wrong.status, read_error(wrong)["code"]) == (405, "method_not_allowed")
    assert "POST" in wrong.headers["Allow"]
    assert json.loads(call(f"{server.url}/healthz").text) == {"status": "ok"}


def test_browsers_get_an_error_page(serve_app: Serve) -> None:
    answer = call(f"{serve_app().url}/<b>nothing", Accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert answer.status == 404 and answer.headers["Content-Type"].startswith("text/html")
    assert re.search("이 주소에는 아무것도 없습니다", answer.text)
    assert "<b>nothing" not in answer.text


@pytest.mark.parametrize("path", ["/", "/api", "/healthz", "/nothing", "/static/app.js", "/static/nothing"])
def test_every_answer_carries_the_security_headers(serve_app: Serve, path: str) -> None:
    headers = call(serve_app().url + path).headers
    policy = headers["Content-Security-Policy"]
    directives = {name: rest for name, _, rest in (part.strip().partition(" ") for part in policy.split(";"))}
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == directives["style-src"] == directives["connect-src"] == "'self'"
    assert directives["base-uri"] == "'none'" and "https://*.colab.dev" in directives["frame-ancestors"]
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"


def test_the_page_holds_nothing_inline_or_foreign(serve_app: Serve) -> None:
    server = serve_app(get_web_service_app(answer_sentence, title="<script>제목</script>"))
    page = call(server.url).text
    assert "&lt;script&gt;제목" in page and "<script>제목" not in page
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
    files = [page] + [call(f"{server.url}/static/{name}").text for name in ("app.js", "app.css", "favicon.svg")]
    links = set(re.findall(r"https?://[\w./]+", "".join(files)))
    assert links <= {"http://www.w3.org/2000/svg"}
    assert "innerHTML" not in files[1]


def test_other_sites_are_let_in_only_by_name(serve_app: Serve) -> None:
    closed = serve_app()
    opened = serve_app(get_web_service_app(answer_sentence, cors_origins=["https://friend.example"]))
    name = "Access-Control-Allow-Origin"
    assert name not in post(closed, {"sentence": "a"}, Origin="https://friend.example").headers
    assert name not in post(opened, {"sentence": "a"}, Origin="https://stranger.example").headers
    answer = post(opened, {"sentence": "a"}, Origin="https://friend.example")
    assert answer.headers[name] == "https://friend.example"


def test_importing_the_room_is_light() -> None:
    code = "import nlpbook_helpers.web, sys; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_flasks_own_server_still_runs_the_app() -> None:
    flask_server = make_server("127.0.0.1", 0, get_web_service_app(answer_sentence))  # what app.run() makes
    threading.Thread(target=flask_server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{flask_server.port}"
        assert call(url).status == 200
        assert call(f"{url}/api", b'{"sentence": "a"}').status == 200
    finally:
        flask_server.shutdown()
        flask_server.server_close()


KEY = "a-long-enough-key"


def test_with_a_key_only_health_and_assets_are_open(serve_app: Serve) -> None:
    server = serve_app(key=KEY)
    for path in ("/", "/api", "/nothing", "/?key=wrong", f"/api?key={KEY}", f"/nothing?key={KEY}"):
        answer = call(server.url + path)
        assert (answer.status, read_error(answer)["code"]) == (401, "unauthorized"), path
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert re.search("접속 열쇠가 없거나 맞지 않습니다", answer.text)
    page = call(server.url, Accept="text/html")
    assert page.status == 401 and re.search("접속 열쇠가 없거나", page.text)
    assert call(f"{server.url}/healthz").status == call(f"{server.url}/static/app.css").status == 200


@pytest.mark.parametrize("given", ["열쇠", "ÿ", "", "a-long-enough-kez", KEY + "x", "%ff%00"])
def test_any_wrong_key_is_refused(serve_app: Serve, given: str) -> None:
    server = serve_app(key=KEY)
    raw = given.encode().decode("latin-1")
    assert post(server, {"sentence": "a"}, Authorization=f"Bearer {raw}").status == 401
    assert post(server, {"sentence": "a"}, Cookie=f"nlpbook_key_{server.port}={raw}").status == 401
    assert post(server, {"sentence": "a"}, Authorization=f"Basic {KEY}").status == 401


def test_the_link_sets_a_cookie_and_clears_the_address(serve_app: Serve) -> None:
    server = serve_app(key=KEY)
    first = call(f"{server.url}/?key={KEY}")
    assert first.status == 302 and first.headers["Location"] == "/"
    cookie = first.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Secure" not in cookie
    assert "Secure" in call(f"{server.url}/?key={KEY}", X_Forwarded_Proto="https").headers["Set-Cookie"]
    value = cookie.partition(";")[0]
    assert call(server.url, Cookie=value).status == 200
    assert post(server, {"sentence": "a"}, Cookie=value).status == 200
    assert post(server, {"sentence": "a"}, Authorization=f"Bearer {KEY}").status == 200


def test_a_cross_site_form_cannot_use_the_cookie(serve_app: Serve) -> None:
    asked = []

    def remember(sentence: str) -> dict[str, str]:
        asked.append(sentence)
        return {}

    server = serve_app(remember, key=KEY)
    # All that a page elsewhere can send without asking first: the three content types of an HTML form.
    for content_type in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ):
        headers = {
            "Cookie": f"nlpbook_key_{server.port}={KEY}",
            "Origin": "https://evil.example",
            "Content_Type": content_type,
        }
        assert post(server, {"sentence": "a"}, **headers).status == 415
    asks_first = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    preflight = call(f"{server.url}/api", None, "OPTIONS", **asks_first)
    assert "Access-Control-Allow-Origin" not in preflight.headers
    assert not asked
