"""Requests that come at once: answered together, in turn, and each with its own fate."""

import http.client
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from web_client import Answer, call, wait_until

from nlpbook_helpers.web import Server, batching
from nlpbook_helpers.web.batching import Batcher
from nlpbook_helpers.web.requests import ApiError

Serve = Callable[..., Server]


class Model:
    """An inference function with a `batch_fn`; it remembers its batches, and waits while its gate is closed."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.batches: list[list[str]] = []
        self.seconds, self.gate = seconds, threading.Event()
        self.gate.set()

    def __call__(self, sentence: str) -> dict[str, str]:
        return self.batch_fn([{"sentence": sentence}])[0]

    def batch_fn(self, inputs: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        self.batches.append([fields["sentence"] for fields in inputs])
        assert self.gate.wait(10)
        time.sleep(self.seconds)
        if "독" in self.batches[-1]:
            raise ValueError("독은 읽지 않습니다")
        return [{"sentence": text, "prediction": text[::-1]} for text in self.batches[-1]]


def make_batcher(model: Model) -> Batcher:
    return Batcher(lambda fields: model(**fields), model.batch_fn)


def ask(server: Server, text: str) -> Answer:
    return call(f"{server.url}/api", {"sentence": text})


def hold(model: Model, pool: ThreadPoolExecutor, ask: Callable[[str], Any], texts: Sequence[str]) -> list[Any]:
    """Let a first request occupy the model, and others wait behind it."""
    model.gate.clear()
    answers = [pool.submit(ask, "첫째")]
    wait_until(lambda: model.batches)
    answers += [pool.submit(ask, text) for text in texts]
    time.sleep(0.3)  # until they are in the queue
    return answers


def test_concurrent_requests_are_answered_together_and_fail_alone(serve_app: Serve) -> None:
    model = Model()
    server = serve_app(model)
    texts = ["독", *(f"글 {number}" for number in range(19))]
    with ThreadPoolExecutor(24) as pool:
        answers = hold(model, pool, lambda text: ask(server, text), texts)
        model.gate.set()
        first, poisoned, *others = [answer.result() for answer in answers]
    assert sorted(model.batches[1]) == sorted(texts), "one batch, and then each of its inputs alone"
    assert first.status == 200 and (poisoned.status, poisoned.error["message"]) == (422, "독은 읽지 않습니다")
    assert [answer.json["sentence"] for answer in others] == texts[1:]


@pytest.mark.parametrize("wrong", [lambda inputs: [{}], lambda inputs: 1 / 0])
def test_a_batch_fn_that_fails_is_replaced_and_reported(wrong: Any, caplog: pytest.LogCaptureFixture) -> None:
    batcher = Batcher(lambda fields: fields["sentence"], wrong)
    assert batcher.answer([{"sentence": "가"}, {"sentence": "나"}]) == ["가", "나"]
    assert re.search(r"batch_fn gave (\[\{\}\]|ZeroDivisionError.*) instead of 2 answers", caplog.text)


def test_a_large_batch_lets_single_requests_in_between(serve_app: Serve) -> None:
    model = Model(seconds=0.01)
    server = serve_app(model)
    inputs = [{"sentence": f"많은 {number}"} for number in range(1_000)]
    with ThreadPoolExecutor(1) as pool:
        large = pool.submit(call, f"{server.url}/api/batch", {"inputs": inputs})
        wait_until(lambda: len(model.batches) > 2)
        for number in range(3):
            seen = len(model.batches)
            assert ask(server, f"하나 {number}").status == 200
            assert len(model.batches) - seen <= 4, "it waits for the batch at hand and the next ones, not for all"
        assert not large.done()
        assert [result["sentence"] for result in large.result().json["results"]] == [one["sentence"] for one in inputs]


def test_a_short_text_passes_long_ones_which_are_not_forgotten() -> None:
    model = Model()
    batcher = make_batcher(model)
    with ThreadPoolExecutor(8) as pool:
        first = hold(model, pool, lambda text: batcher.answer([{"sentence": text}]), [])
        long = [pool.submit(batcher.answer, [{"sentence": f"{number}" * 4_000}] * 8) for number in range(4)]
        time.sleep(0.3)
        short = pool.submit(batcher.answer, [{"sentence": "짧은 글"}])
        time.sleep(0.3)
        model.gate.set()
        assert [len(answer.result()) for answer in [*first, *long, short]] == [1, 8, 8, 8, 8, 1]
    assert "짧은 글" in model.batches[1], "the first after the batch at hand"


def test_long_texts_make_small_batches_and_short_ones_large(serve_app: Serve) -> None:
    model = Model()
    batcher = make_batcher(model)
    batcher.answer([{"sentence": "가" * 10_000}] * 5)
    batcher.answer([{"sentence": "가"}] * 64)
    assert [len(batch) for batch in model.batches] == [2, 2, 1, 32, 32]


def test_what_a_client_no_longer_wants_is_dropped(serve_app: Serve) -> None:
    model = Model()
    server = serve_app(model)
    with ThreadPoolExecutor(4) as pool:
        answers = hold(model, pool, lambda text: ask(server, text), ["남은 글"])
        leaving = http.client.HTTPConnection("127.0.0.1", server.port)
        leaving.request("POST", "/api", b'{"sentence": "gone"}', {"Content-Type": "application/json"})
        time.sleep(0.2)
        leaving.close()
        time.sleep(0.2)  # for the server to notice
        model.gate.set()
        assert [answer.result().status for answer in answers] == [200, 200]
    assert model.batches == [["첫째"], ["남은 글"]]


def test_who_waits_too_long_is_sent_away_even_while_the_model_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "PATIENCE_SECONDS", 0.5)
    model = Model()
    batcher = make_batcher(model)
    with ThreadPoolExecutor(4) as pool:
        first, second = hold(model, pool, lambda text: batcher.answer([{"sentence": text}]), ["기다린 글"])
        with pytest.raises(ApiError, match="밀려 있습니다"):
            second.result()
        model.gate.set()
        assert first.result() == [{"sentence": "첫째", "prediction": "째첫"}], "what has begun is finished"
    assert model.batches == [["첫째"]]


def test_overload_is_refused_at_once_and_the_page_still_opens(serve_app: Serve) -> None:
    model = Model()
    server = serve_app(model)
    with ThreadPoolExecutor(64) as pool:
        answers = hold(model, pool, lambda text: ask(server, text), [f"글 {number}" for number in range(47)])
        refused = ask(server, "너무 많은 글")
        assert refused.status == 503 and 1 <= int(refused.headers["Retry-After"]) <= 60
        assert refused.error["code"] == "overloaded"
        assert call(f"{server.url}/healthz").status == call(server.url).status == 200
        model.gate.set()
        assert {answer.result().status for answer in answers} == {200}
    assert ask(server, "다시").status == 200


def test_neither_a_visitor_nor_an_address_takes_all_places() -> None:
    model = Model()
    batcher = Batcher(lambda fields: model(**fields), model.batch_fn, max_requests=12)
    with ThreadPoolExecutor(16) as pool:
        hold(model, pool, lambda text: batcher.answer([{"sentence": text}]), [])
        askers = [("greedy", "here")] * 4 + [(f"cookie {number}", "here") for number in range(6)] + [("other", "there")]
        asked = [pool.submit(batcher.answer, [{"sentence": "글"}], asker) for asker in askers]
        wait_until(lambda: sum(one.done() for one in asked) == 4)
        model.gate.set()
        assert [one.exception() is None for one in asked].count(True) == 2 + 4 + 1 and asked[-1].result()


def test_a_function_that_hangs_is_not_ready(serve_app: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    server = serve_app(model)
    assert call(f"{server.url}/readyz").json == {"status": "ready"}
    monkeypatch.setattr(batching, "PATIENCE_SECONDS", 0.2)
    with ThreadPoolExecutor(4) as pool:
        hold(model, pool, lambda text: ask(server, text), [])
        assert (call(f"{server.url}/readyz").status, call(f"{server.url}/healthz").status) == (503, 200)
        model.gate.set()
    assert call(f"{server.url}/readyz").status == 200


def test_closing_sends_away_what_waits_and_a_later_request_starts_anew() -> None:
    model = Model()
    batcher = make_batcher(model)
    with ThreadPoolExecutor(4) as pool:
        first, second = hold(model, pool, lambda text: batcher.answer([{"sentence": text}]), ["둘째"])
        batcher.close()
        with pytest.raises(ApiError, match="밀려 있습니다"):
            second.result()
        model.gate.set()
        assert first.result()[0]["prediction"] == "째첫"
    assert batcher.answer([{"sentence": "나중"}])[0]["prediction"] == "중나"


def test_the_interpreter_ends_while_a_request_is_answered() -> None:
    code = (
        "import threading, time\n"
        "from nlpbook_helpers.web import get_web_service_app\n"
        "def think(sentence): started.set(); time.sleep(0.5); return {}\n"
        "started, client = threading.Event(), get_web_service_app(think).test_client()\n"
        "ask = lambda: client.post('/api', json={'sentence': 'a'})\n"
        "threading.Thread(target=ask, daemon=True).start()\n"
        "started.wait(5)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
