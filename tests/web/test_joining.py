"""Several pages on one port: each at its own address, all behind one door; and what an operator asks for."""

import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any
from urllib.parse import urljoin

import pytest
from flask import Flask
from web_client import BODY, KEY, answer_sentence, call, make_full_function, wait_until

from nlpbook_helpers.web import Server, get_web_service_app, join_apps

Serve = Callable[..., Server]
PAIR = {"premise": "비가 온다", "hypothesis": "땅이 젖는다"}


def join(**settings: Any) -> Flask:
    """Join a classifier of reviews, one of texts whose name is Korean, and one of pairs."""
    functions: dict[str, Any] = {
        "reviews": make_full_function(),
        "둘째": lambda text: {"prediction": text},
        "pairs": lambda premise, hypothesis: {"prediction": f"{premise} → {hypothesis}"},
    }
    return join_apps({name: get_web_service_app(function, **settings) for name, function in functions.items()})


def test_each_page_has_its_address_and_the_first_one_the_root(serve_app: Serve, capsys: Any) -> None:
    url = serve_app(join(), access_log=True).url
    said = [f"{name} at {url}/models/{path}" for name, path in
            (("reviews", "reviews"), ("둘째", "%EB%91%98%EC%A7%B8"), ("pairs", "pairs"))]  # fmt: skip
    assert capsys.readouterr().out == f"Serving {', '.join(said)} (stop with server.close())\n"
    bodies = {"": BODY, "/models/reviews": BODY, "/models/%EB%91%98%EC%A7%B8": {"text": "가"}, "/models/pairs": PAIR}
    answers = {path: call(f"{url}{path}/api", body) for path, body in bodies.items()}
    assert [answer.json["prediction"] for answer in answers.values()] == ["긍정 (positive)"] * 2 + [
        "가",
        "비가 온다 → 땅이 젖는다",
    ]
    for path in bodies:
        page = call(f"{url}{path}/").text
        links = re.findall(r'<a href="([^"]+)" data-fields', page)
        base = f"{url}{path}/"
        assert [call(urljoin(base, link)).status for link in links] == [200] * 3, "links lead on from every page"
        (style,) = re.findall(r'rel="stylesheet" href="([^"]+)"', page)
        assert call(base + style).status == call(f"{base}docs").status == call(f"{base}readyz").status == 200
    assert 'id="beside"' in call(url).text and 'id="beside"' not in call(f"{url}/models/pairs/").text
    assert call(f"{url}/models/pairs").headers["Location"] == "/models/pairs/"
    assert call(f"{url}/models/other/api", BODY).error["code"] == "not_found"
    assert "POST '/models/pairs/api' 200" in capsys.readouterr().err


def test_one_key_one_budget_and_one_door_for_all(serve_app: Serve) -> None:
    server = serve_app(join(requests_per_minute=4), key=KEY)
    first, second = f"{server.url}/api", f"{server.url}/models/pairs/api"
    assert [call(one, BODY).status for one in (first, second)] == [401, 401]
    door = call(f"{server.url}/models/pairs/?key={KEY}")
    assert (door.status, door.headers["Location"]) == (302, "/models/pairs/")
    cookie = door.headers["Set-Cookie"].partition(";")[0]
    session = call(f"{server.url}/models/pairs/", Cookie=cookie).headers["Set-Cookie"].partition(";")[0]
    both = {"Cookie": f"{cookie}; {session}"}
    asked = [call(*what, **both).status for what in ((first, BODY), (second, PAIR)) * 3]
    assert asked == [200] * 4 + [429] * 2, "what is asked of one is not left for the other"
    wrong = [call(one, BODY, Authorization="Bearer wrong").status for one in (first, second) * 20]
    assert wrong.count(401) < 30 and wrong[-1] == 429


def test_names_that_cannot_stand_in_an_address_are_refused() -> None:
    for name in ("a/b", "", "..", "a b", "a?b"):
        with pytest.raises(ValueError, match=r"join_apps: expected apps by names without '/'.* got \["):
            join_apps({name: get_web_service_app(answer_sentence)})
    with pytest.raises(ValueError, match=r"join_apps: expected apps by names.* got \[\]"):
        join_apps({})


def test_another_function_takes_over_without_a_lost_request(serve_app: Serve) -> None:
    gate, entered = Event(), Event()

    def old(sentence: str) -> dict[str, Any]:
        entered.set()
        return {"prediction": "old", "waited": gate.wait(10)}

    old.batch_fn = lambda inputs: [old(**fields) for fields in inputs]  # type: ignore[attr-defined]
    new: Any = lambda sentence: {"prediction": "new"}  # noqa: E731
    new.batch_fn = lambda inputs: [new(**fields) for fields in inputs]
    new.info, new.examples = {"corpus": "새 말뭉치"}, [["새 예문"]]
    app = get_web_service_app(old)
    url = serve_app(app).url
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(call, f"{url}/api", BODY)
        assert entered.wait(5)
        later = [pool.submit(call, f"{url}/api", BODY) for _ in range(8)]
        app.extensions["nlpbook"].replace(new)
        gate.set()
        assert first.result().json["prediction"] == "old", "what had begun is finished"
        assert {one.result().status for one in later} == {200}
    assert call(f"{url}/api", BODY).json == {"prediction": "new"}
    assert "새 말뭉치" in call(url).text and "새 예문" in call(url).text
    with pytest.raises(ValueError, match="expected a function of sentence, got one of premise, hypothesis"):
        app.extensions["nlpbook"].replace(lambda premise, hypothesis: {})


def test_metrics_are_for_the_owner_and_count_every_page(serve_app: Serve) -> None:
    pytest.importorskip("prometheus_client", reason="pip install prometheus-client")
    server, free = serve_app(app := join(), key=KEY), serve_app(app)
    assert call(f"{free.url}/models/pairs/api", PAIR).status == 200
    assert call(f"{free.url}/models/pairs/api", BODY).status == 422
    told = call(f"{free.url}/metrics")
    for status in (200, 422):
        where = f'{{endpoint="api",model="pairs",status="{status}"}}'
        assert re.search(rf"^nlpbook_request_seconds_count{re.escape(where)} [1-9]", told.text, re.MULTILINE)
    assert 'nlpbook_inputs{model="둘째"} 0.0' in told.text and told.headers["Content-Type"].startswith("text/plain")
    assert call(f"{server.url}/metrics").status == 401
    assert call(f"{server.url}/metrics", Authorization=f"Bearer {KEY}").status == 200
    assert call(f"{free.url}/metrics", X_Forwarded_For="203.0.113.7").error["code"] == "not_found", "by a proxy"


def test_without_its_library_metrics_say_what_to_install() -> None:
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from nlpbook_helpers.web import get_web_service_app\n"
        "answer = get_web_service_app(lambda sentence: {}).test_client().get('/metrics')\n"
        "print(answer.status_code, answer.json['error']['code'], answer.json['error']['message'].encode())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("501 no_metrics") and "pip install prometheus-client" in done.stdout, done.stderr


def test_a_number_leads_from_an_error_to_the_log(serve_app: Serve, capsys: Any) -> None:
    server = serve_app(access_log=True)
    number = call(f"{server.url}/api", {"sentence": ""}).error["request_id"]
    wait_until(lambda: f" {number}\n" in capsys.readouterr().err)
    page = call(f"{server.url}/nothing", Accept="text/html")
    assert page.headers["X-Request-Id"] in page.text
