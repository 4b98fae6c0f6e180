"""Who may come in: host names on this machine, limits for visitors from the internet."""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from web_client import Answer, answer_sentence, call, make_full_function, read_error, wait_until

from nlpbook_helpers.web import Server, get_web_service_app
from nlpbook_helpers.web import access as rate_limit
from nlpbook_helpers.web.access import RateLimit

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
Serve = Callable[..., Server]
KEY = "a-long-enough-key"
BODY = '{"sentence": "가"}'.encode()


def ask(server: Server, path: str = "/api", body: bytes = BODY, **headers: str) -> Answer:
    return call(server.url + path, body, **{"Authorization": f"Bearer {KEY}", **headers})


def visit(server: Server, key: str = KEY) -> str:
    """Open the page with the link, as a browser does; return its two cookies, the key's and the session's."""
    first = call(f"{server.url}/?key={key}")
    key_cookie = first.headers["Set-Cookie"].partition(";")[0]
    second = call(server.url, Cookie=key_cookie)
    assert second.status == 200 and "HttpOnly" in second.headers["Set-Cookie"]
    return f"{key_cookie}; {second.headers['Set-Cookie'].partition(';')[0]}"


LOCAL_HOSTS = ["localhost:5000", "LOCALHOST", "127.0.0.1:1", "[::1]:5000", "5000-m-s-abc.us-east1-0.prod.colab.dev"]
FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:5000",
    "127.0.0.1.evil.example",
    "colab.dev.evil.example",
    "xcolab.dev",
    "a b",
]


@pytest.mark.parametrize("host", [*LOCAL_HOSTS, "abc-5000-colab.googleusercontent.com"])
def test_names_of_this_machine_and_of_colab_are_answered(serve_app: Serve, host: str) -> None:
    assert ask(serve_app(), Host=host).status == call(serve_app().url, Host=host).status == 200


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_foreign_name_that_points_here_is_refused(serve_app: Serve, host: str) -> None:
    asked = []
    server = serve_app(lambda sentence: asked.append(sentence) or {})
    for path in ("/api", "/api/batch", "/openapi.json", "/nothing"):
        answer = ask(server, path, Host=host)
        assert (answer.status, read_error(answer)["code"]) == (421, "unknown_host"), path
    page = call(server.url, Host=host, Accept="text/html")
    assert page.status == 421 and re.search("모르는 호스트 이름입니다", page.text) and not asked


def test_names_may_be_trusted_and_a_key_needs_no_name(serve_app: Serve) -> None:
    server = serve_app(get_web_service_app(answer_sentence, trusted_hosts=["hub.example.org"]))
    assert ask(server, Host="hub.example.org:8000").status == 200
    assert ask(server, Host="other.example.org").status == 421
    assert ask(serve_app(key=KEY), Host="evil.example").status == 200


def test_flasks_own_server_and_client_are_no_exception() -> None:
    client = get_web_service_app(answer_sentence).test_client()
    assert client.post("/api", json={"sentence": "가"}).status_code == 200
    assert client.post("/api", json={"sentence": "가"}, headers={"Host": "evil.example"}).status_code == 421
    wide = {"SERVER_NAME": "0.0.0.0", "HTTP_HOST": "192.168.0.7:5000"}  # noqa: S104 - app.run(host="0.0.0.0")
    assert client.post("/api", json={"sentence": "가"}, environ_overrides=wide).status_code == 200


def test_on_this_machine_nothing_is_counted(serve_app: Serve) -> None:
    server = serve_app(get_web_service_app(answer_sentence, requests_per_minute=2))
    assert {ask(server).status for _ in range(5)} == {200}
    assert "Set-Cookie" not in call(server.url).headers


def test_a_visitor_of_a_public_page_has_so_many_requests_a_minute(serve_app: Serve) -> None:
    server = serve_app(get_web_service_app(make_full_function(), requests_per_minute=6), key=KEY)
    one, other = visit(server), visit(server)
    assert [ask(server, Authorization="", Cookie=one).status for _ in range(7)] == [200] * 6 + [429]
    refused = ask(server, Authorization="", Cookie=one)
    assert 1 <= int(refused.headers["Retry-After"]) <= 10 and read_error(refused)["code"] == "too_many_requests"
    assert ask(server, Authorization="", Cookie=other).status == 200, "who shares the key does not share the limit"
    assert call(server.url, Cookie=one).status == call(f"{server.url}/healthz").status == 200


def test_who_keeps_no_cookie_or_makes_one_up_shares_a_limit(serve_app: Serve) -> None:
    server = serve_app(get_web_service_app(answer_sentence, requests_per_minute=3), key=KEY)
    name = visit(server).rpartition("; ")[2].partition("=")[0]
    made_up = [f"{name}=eyJ2aXNpdG9yIjoi{number}In0.aaaa.bbbb" for number in range(5)]
    assert [ask(server, Cookie=cookie).status for cookie in made_up] == [200] * 3 + [429] * 2
    assert ask(server).status == 429


def test_two_pages_in_one_browser_do_not_lose_each_others_key(serve_app: Serve) -> None:
    servers = [serve_app(get_web_service_app(answer_sentence), key=f"{KEY}-{number}") for number in range(2)]
    jar = {}  # a browser's, which does not tell ports apart
    for server in servers:
        link = f"{server.url}/?key={server.key}"
        for cookie in (call(link).headers["Set-Cookie"], visit(server, server.key).rpartition("; ")[2]):
            name, _, value = cookie.partition(";")[0].partition("=")
            jar[name] = value
    cookies = "; ".join(f"{name}={value}" for name, value in jar.items())
    assert len(jar) == 4
    assert [ask(server, Authorization="", Cookie=cookies).status for server in servers] == [200, 200]


def test_the_cookie_is_the_visitors_for_good(serve_app: Serve) -> None:
    server = serve_app(key=KEY)
    assert "Set-Cookie" not in call(server.url, Cookie=visit(server)).headers


def test_large_requests_cost_more_but_are_let_in(serve_app: Serve) -> None:
    server = serve_app(get_web_service_app(make_full_function(), requests_per_minute=10), key=KEY)
    batch = json.dumps({"inputs": [{"sentence": "가"}] * 1_000}).encode()
    cookie = visit(server)
    assert ask(server, "/api/batch", batch, Cookie=cookie).status == 200
    refused = ask(server, "/api/batch", batch, Cookie=cookie)
    assert refused.status == 429 and int(refused.headers["Retry-After"]) > 500, "1,000 inputs are worth 100 requests"
    cookie = visit(server)
    assert [ask(server, "/api/explain", Cookie=cookie).status for _ in range(3)] == [200, 200, 429]


def test_a_visitor_may_not_hold_all_threads(serve_app: Serve) -> None:
    gate = Event()

    def wait(sentence: str) -> dict[str, Any]:
        gate.wait(10)
        return {}

    server = serve_app(wait, key=KEY)
    one, other = visit(server), visit(server)
    with ThreadPoolExecutor(30) as pool:
        answers = [pool.submit(ask, server, Cookie=one) for _ in range(rate_limit.AT_ONCE + 4)]
        waiting = pool.submit(ask, server, Cookie=other)
        wait_until(lambda: sum(answer.done() for answer in answers) == 4)
        refused = ask(server, Cookie=one)
        assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        gate.set()
        statuses = sorted(answer.result().status for answer in answers)
    assert waiting.result().status == 200 and statuses == [200] * rate_limit.AT_ONCE + [429] * 4
    assert ask(server, Cookie=one).status == 200


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "MAX_REMEMBERED", 100)
    limit = RateLimit(per_minute=10)
    assert limit.charge("debtor", 10) == 0.0 and limit.charge("debtor", 1) > 0
    for number in range(1_000):
        limit.charge(f"visitor {number}", 1)
        with limit.admit(f"visitor {number}"):
            pass
    assert len(limit._full_at) <= 100 and not limit._running
    assert limit.charge("debtor", 1) > 0, "who owes most is not forgotten"


def test_credits_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(rate_limit.time, "monotonic", lambda: now[0])
    limit = RateLimit(per_minute=60)
    assert [limit.charge("a", 1) for _ in range(60)] == [0.0] * 60
    assert limit.charge("a", 1) == pytest.approx(1.0)
    now[0] += 2.0
    assert [limit.charge("a", 1) for _ in range(3)] == [0.0, 0.0, pytest.approx(1.0)]
    now[0] += 3_600
    assert [bool(limit.charge("a", 1)) for _ in range(61)] == [False] * 60 + [True], (
        "an hour saves no more than a minute"
    )


def test_no_request_at_all_is_no_limit() -> None:
    with pytest.raises(ValueError, match="requests_per_minute: expected 1 or more, got 0"):
        get_web_service_app(answer_sentence, requests_per_minute=0)
