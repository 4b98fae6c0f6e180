"""Requests that come at once: scored together, in turn, and each with its own fate."""

import json
import logging
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from web_client import Answer, call, wait_until

from nlpbook_helpers.web import Server, app, batching, get_web_service_app
from nlpbook_helpers.web.batching import Batcher
from nlpbook_helpers.web.requests import ApiError as OverloadError

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
Serve = Callable[..., Server]
Input = Mapping[str, str]


class Model:
    """An inference function with a `batch_fn`; it remembers its batches and can be made to wait or to fail."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.batches: list[list[str]] = []
        self.seconds, self.gate = seconds, threading.Event()
        self.gate.set()

    def __call__(self, sentence: str) -> dict[str, str]:
        return self.batch_fn([{"sentence": sentence}])[0]

    def batch_fn(self, inputs: Sequence[Input]) -> list[dict[str, str]]:
        self.batches.append([fields["sentence"] for fields in inputs])
        assert self.gate.wait(10)
        time.sleep(self.seconds)
        if "독" in self.batches[-1]:
            raise ValueError("독은 읽지 않습니다")
        if "탈" in self.batches[-1]:
            raise RuntimeError("weights at /srv/secret.ckpt")
        return [{"sentence": text, "prediction": text[::-1]} for text in self.batches[-1]]


def make_function(model: Model) -> Callable[..., dict[str, str]]:
    def inference_fn(sentence: str) -> dict[str, str]:
        return model(sentence)

    inference_fn.batch_fn = model.batch_fn  # type: ignore[attr-defined]
    return inference_fn


def ask(server: Server, text: str) -> Answer:
    return call(f"{server.url}/api", json.dumps({"sentence": text}).encode())


def count_open(server: Server) -> int:
    return server._app.extensions["nlpbook"].answers._requests


def hold(model: Model, server: Server, pool: ThreadPoolExecutor, texts: Sequence[str]) -> list[Any]:
    """Let a first request occupy the model, and queue the others behind it."""
    model.gate.clear()
    answers = [pool.submit(ask, server, "첫째")]
    wait_until(lambda: model.batches)
    answers += [pool.submit(ask, server, text) for text in texts]
    wait_until(lambda: count_open(server) == len(answers))
    return answers


def test_concurrent_requests_are_scored_together(serve_app: Serve) -> None:
    model = Model()
    server = serve_app(make_function(model))
    texts = [f"글 {number}" for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        answers = hold(model, server, pool, texts[1:])
        model.gate.set()
        bodies = [json.loads(answer.result().text) for answer in answers]
    assert model.batches[0] == ["첫째"] and sorted(model.batches[1]) == sorted(texts[1:])
    assert bodies[1:] == [{"sentence": text, "prediction": text[::-1]} for text in texts[1:]], "each gets its own"


def test_an_error_of_one_input_is_its_own(serve_app: Serve, caplog: pytest.LogCaptureFixture) -> None:
    model = Model()
    server = serve_app(make_function(model))
    with ThreadPoolExecutor(8) as pool, caplog.at_level(logging.ERROR):
        answers = hold(model, server, pool, ["가", "독", "탈", "나"])
        model.gate.set()
        statuses = [answer.result().status for answer in answers]
        refused, failed = answers[2].result().text, answers[3].result().text
    assert statuses == [200, 200, 422, 500, 200]
    assert "독은 읽지 않습니다" in refused and "secret" not in failed
    assert len(re.findall("secret.ckpt", caplog.text)) >= 1, "the log says why"
    assert sorted(map(len, model.batches)) == [1, 1, 1, 1, 1, 4]


@pytest.mark.parametrize("wrong", [lambda inputs: [{}], lambda inputs: 1 / 0])
def test_a_batch_fn_that_fails_is_replaced_and_reported(wrong: Any, caplog: pytest.LogCaptureFixture) -> None:
    batcher = Batcher(lambda fields: fields["sentence"], wrong)
    with caplog.at_level(logging.WARNING):
        assert batcher.answer([{"sentence": "가"}, {"sentence": "나"}]) == ["가", "나"]
    batcher.close()
    assert re.search(r"batch_fn failed \((expected 2 answers, got 1|ZeroDivisionError)", caplog.text)


def test_a_large_batch_lets_single_requests_in_between(serve_app: Serve) -> None:
    model = Model(seconds=0.01)
    server = serve_app(make_function(model))
    body = json.dumps({"inputs": [{"sentence": f"많은 {number}"} for number in range(1_000)]}).encode()
    with ThreadPoolExecutor(4) as pool:
        large = pool.submit(call, f"{server.url}/api/batch", body)
        wait_until(lambda: len(model.batches) > 2)
        for number in range(3):
            seen = len(model.batches)
            assert ask(server, f"하나 {number}").status == 200
            assert len(model.batches) - seen <= 3, "it waits for the batch at hand and the one after"
        assert not large.done()
        results = json.loads(large.result().text)["results"]
    assert [result["sentence"] for result in results] == [f"많은 {number}" for number in range(1_000)]


def test_long_texts_make_small_batches() -> None:
    model = Model()
    batcher = Batcher(lambda fields: model(**fields), model.batch_fn)
    answers = batcher.answer([{"sentence": "가" * 10_000}] * 5)
    assert len(answers) == 5 and [len(batch) for batch in model.batches] == [2, 2, 1]
    batcher.close()


def test_what_a_client_no_longer_wants_is_not_scored(serve_app: Serve) -> None:
    model = Model()
    server = serve_app(make_function(model))
    with ThreadPoolExecutor(4) as pool:
        answers = hold(model, server, pool, ["남은 글"])
        with socket.create_connection(("127.0.0.1", server.port)) as leaving:
            body = json.dumps({"sentence": "떠난 글"}).encode()
            head = f"POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            leaving.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
            wait_until(lambda: count_open(server) == 3)
        time.sleep(0.2)  # for the server to notice
        model.gate.set()
        assert [answer.result().status for answer in answers] == [200, 200]
    wait_until(lambda: count_open(server) == 0)
    assert model.batches == [["첫째"], ["남은 글"]]


def test_a_request_that_waits_too_long_is_sent_away(serve_app: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "PATIENCE_SECONDS", 0.05)
    model = Model()
    server = serve_app(make_function(model))
    with ThreadPoolExecutor(4) as pool:
        answers = hold(model, server, pool, ["기다린 글"])
        time.sleep(0.1)
        model.gate.set()
        first, second = [answer.result() for answer in answers]
    assert (first.status, second.status, second.headers["Retry-After"]) == (200, 503, "1")
    assert json.loads(second.text)["error"]["code"] == "overloaded" and "밀려 있습니다" in second.text
    assert model.batches == [["첫째"]]


def test_a_long_batch_may_take_longer_than_the_wait_for_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "PATIENCE_SECONDS", 0.3)
    model = Model(seconds=0.05)
    batcher = Batcher(lambda fields: model(**fields), model.batch_fn)
    begin = time.monotonic()
    answers = batcher.answer([{"sentence": str(number)} for number in range(400)])
    assert time.monotonic() - begin > 0.5 and [answer["sentence"] for answer in answers[:3]] == ["0", "1", "2"]
    batcher.close()


def test_overload_is_refused_at_once_and_the_page_still_opens(
    serve_app: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model()
    server = serve_app(make_function(model))
    with ThreadPoolExecutor(64) as pool:
        answers = hold(model, server, pool, [f"글 {number}" for number in range(app.MAX_REQUESTS - 1)])
        refused = ask(server, "너무 많은 글")
        assert refused.status == 503 and 1 <= int(refused.headers["Retry-After"]) <= 60
        assert call(f"{server.url}/healthz").status == call(server.url).status == 200
        model.gate.set()
        assert {answer.result().status for answer in answers} == {200}
    assert ask(server, "다시").status == 200
    monkeypatch.setattr(batching, "MAX_INPUTS", 5)
    body = json.dumps({"inputs": [{"sentence": "글"}] * 6}).encode()
    assert call(f"{server.url}/api/batch", body).status == 503, "too many inputs, as too many requests"


def test_requests_one_after_the_other_wait_for_no_company(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "COMPANY_SECONDS", (1, 1))
    batcher = Batcher(lambda fields: fields["sentence"], lambda inputs: [fields["sentence"] for fields in inputs])
    begin = time.monotonic()
    assert [batcher.answer([{"sentence": str(number)}]) for number in range(20)] == [[str(n)] for n in range(20)]
    assert time.monotonic() - begin < 0.9
    batcher.close()


def test_a_function_without_batch_fn_is_called_four_times_at_once_at_most(serve_app: Serve) -> None:
    running, most = [0], [0]

    def count(sentence: str) -> dict[str, str]:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.05)
        running[0] -= 1
        return {}

    server = serve_app(count)
    with ThreadPoolExecutor(12) as pool:
        assert [answer.status for answer in pool.map(lambda text: ask(server, text), "가나다라마바사아자차카타")] == [
            200
        ] * 12
    assert most[0] == 4


def test_a_function_that_ends_its_thread_ends_nothing(serve_app: Serve) -> None:
    def leave(sentence: str) -> dict[str, str]:
        if sentence == "끝":
            sys.exit(3)
        return {"prediction": "남음"}

    server = serve_app(leave)
    batch = json.dumps({"inputs": [{"sentence": "끝"}, {"sentence": "가"}]}).encode()
    for _ in range(6):
        assert ask(server, "끝").status == 500
        first, second = json.loads(call(f"{server.url}/api/batch", batch).text)["results"]
        assert first["error"]["code"] == "internal_error" and second == {"prediction": "남음"}


def test_closing_ends_the_threads_and_a_later_request_starts_them(serve_app: Serve) -> None:
    before = threading.active_count()
    service = get_web_service_app(make_function(Model()))
    first, second = serve_app(service), serve_app(service)
    assert ask(first, "가").status == ask(second, "가").status == 200
    first.close()
    assert ask(second, "가").status == 200
    second.close()
    assert threading.active_count() == before
    client = service.test_client()
    assert client.post("/api", json={"sentence": "가"}).json == {"sentence": "가", "prediction": "가"}
    assert threading.active_count() == before + 1
    service.extensions["nlpbook"].close()
    assert threading.active_count() == before


def test_closing_sends_away_what_waits() -> None:
    model = Model()
    model.gate.clear()
    batcher = Batcher(lambda fields: model(**fields), model.batch_fn)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(batcher.answer, [{"sentence": "첫째"}])
        wait_until(lambda: model.batches)
        second = pool.submit(batcher.answer, [{"sentence": "둘째"}])
        wait_until(lambda: batcher._requests == 2)
        closing = pool.submit(batcher.close)
        with pytest.raises(OverloadError, match="come again in 1 s"):
            second.result()
        model.gate.set()
        closing.result()
        assert first.result() == [{"sentence": "첫째", "prediction": "째첫"}]


def test_the_interpreter_ends_while_a_request_is_answered() -> None:
    code = (
        "import threading, time\n"
        "from nlpbook_helpers.web import get_web_service_app\n"
        "def think(sentence): started.set(); time.sleep(0.5); return {}\n"
        "think.batch_fn = lambda inputs: [think(**fields) for fields in inputs]\n"
        "started, client = threading.Event(), get_web_service_app(think).test_client()\n"
        "ask = lambda: client.post('/api', json={'sentence': 'a'})\n"
        "threading.Thread(target=ask, daemon=True).start()\n"
        "started.wait(5)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
