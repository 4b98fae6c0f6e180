"""The server in its thread, and who may come in."""

import contextlib
import gzip
import os
import re
import socket
import subprocess
import sys
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, active_count
from typing import Any
from urllib.request import Request, urlopen

import pytest
from web_client import BODY, KEY, Answer, answer_sentence, call, make_full_function, wait_until

from nlpbook_helpers.web import Server, connections, get_web_service_app, serve

Serve = Callable[..., Server]
POST = b"POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "


def ask(server: Server, path: str = "/api", body: Any = BODY, **headers: str) -> Answer:
    return call(server.url + path, body, **{"Authorization": f"Bearer {KEY}", **headers})


def visit(server: Server) -> str:
    """Open the page with the link, as a browser does; return its two cookies, the key's and the session's."""
    first = call(f"{server.url}/?key={KEY}")
    assert (first.status, first.headers["Location"]) == (302, "/"), "the key leaves the address bar"
    key_cookie = first.headers["Set-Cookie"].partition(";")[0]
    session = call(server.url, Cookie=key_cookie).headers["Set-Cookie"]
    assert "HttpOnly" in session and "HttpOnly" in first.headers["Set-Cookie"]
    return f"{key_cookie}; {session.partition(';')[0]}"


def test_serving_says_where_and_closing_frees_the_port(capsys: pytest.CaptureFixture[str]) -> None:
    threads = active_count()
    with serve(get_web_service_app(answer_sentence, title="영화평"), 0, None, stop_hint="Ctrl-C stops it") as server:
        assert capsys.readouterr().out == f'Serving "영화평" at {server.url} (Ctrl-C stops it)\n'
        assert ask(server).status == 200 and "open" in repr(server) and server.public_url is None
    with pytest.raises(ConnectionRefusedError):
        call(server.url)
    wait_until(lambda: active_count() == threads)
    server.close()
    assert "closed" in repr(server)


@pytest.mark.parametrize("host", ["nowhere.invalid", "999.1.1.1", "192.0.2.1"])
def test_a_host_that_is_not_here_is_named(serve_app: Serve, host: str) -> None:
    expected = (
        rf"host: expected an address of this machine, got {host} \(.+\): take 127\.0\.0\.1 for this machine alone"
    )
    with pytest.raises(OSError, match=expected):
        serve_app(host=host, port=0)


def test_a_taken_port_is_an_error_but_in_a_notebook(
    serve_app: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(
            OSError, match=rf"free port of 127\.0\.0\.1, got {taken} \(address already in use\): choose"
        ):
            serve_app(port=taken)
        monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: "a notebook's"))
        server = serve_app(port=taken)
        assert server.port != taken and call(server.url).status == 200
    expected = rf"Port {taken} cannot be used \(address already in use\), so port {server.port} is used instead"
    assert re.search(expected, capsys.readouterr().out)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_another_host_asks_for_a_key_and_each_request_has_a_number(
    serve_app: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    local = serve_app(host="::1", access_log=True)
    answer = call(f"{local.url}/api?key=secret", BODY)
    assert local.url == f"http://[::1]:{local.port}" and answer.status == 200
    line = capsys.readouterr().err
    assert re.search(rf"::1 POST '/api' 200 \d+ ms {answer.headers['X-Request-Id']}$", line) and "secret" not in line
    open_to_all = serve_app(host="0.0.0.0")  # noqa: S104
    assert open_to_all.key and call(open_to_all.url).status == 401 and ask(open_to_all).status == 401


def test_the_same_cell_run_again_replaces_its_server(serve_app: Serve) -> None:
    first = serve_app(port=(port := serve_app().port + 1))
    second = serve_app(lambda sentence: {"who": "second"}, port=port)
    assert second.port == first.port and "closed" in repr(first) and "second" in ask(second).text


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"tunnel": "cloud"}, r"expected tunnel 'auto', 'ngrok', 'colab' or None, got 'cloud'"),
        ({"port": 70_000}, r"expected a port from 0 to 65535, got 70000"),
        ({"key": "열쇠열쇠열쇠열쇠"}, r"expected a key of 8 or more letters"),
    ],
)
def test_arguments_out_of_range_are_refused(serve_app: Serve, arguments: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        serve_app(**arguments)
    with pytest.raises(ValueError, match="requests_per_minute: expected 1 or more, got 0"):
        get_web_service_app(answer_sentence, requests_per_minute=0)


@pytest.mark.parametrize("run", ["serve(app, 0, None)", "app.run(port=0)"])
def test_no_message_is_worth_an_error(run: str) -> None:
    code = (
        "import signal, threading, _thread\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # in the background it would be ignored
        "from nlpbook_helpers.web import get_web_service_app, serve\n"
        "app = get_web_service_app(lambda sentence: {})\n"
        f"threading.Timer(1, _thread.interrupt_main).start() if 'run' in '{run}' else None\n{run}"
    )
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    expected = "serve(app) can give a public address" if "run" in run else 'Serving "\\ubb38'
    assert expected in done.stdout and "UnicodeEncodeError" not in done.stderr


def test_half_open_connections_keep_nobody_out(serve_app: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve_app()
    crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(250)]
    for number, one in enumerate(crowd[-90:]):
        one.sendall(b"POST /api HTTP/1.1\r\nHost: a\r\nContent-" if number % 2 else b"GET")
    begin = time.monotonic()
    assert ask(server).status == 200 and time.monotonic() - begin < 2
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.2)
    slow = socket.create_connection(("127.0.0.1", server.port), timeout=5)
    with slow, pytest.raises(OSError, match="reset|Broken pipe"):
        for _ in range(50):
            slow.sendall(b"G")
            time.sleep(0.1)
    for one in crowd:
        one.close()


def test_slow_readers_keep_nobody_out(serve_app: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_UNFINISHED", 10)
    server = serve_app(lambda sentence: {"prediction": sentence * 4_000_000})  # more than the system buffers
    crowd = [socket.socket() for _ in range(25)]
    for one in crowd:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        one.settimeout(5)
        one.connect(("127.0.0.1", server.port))
        one.sendall(POST + b'19\r\n\r\n{"sentence":  "a" }')
    assert call(f"{server.url}/healthz").status == 200
    monkeypatch.setattr(connections, "READ_SECONDS", 0.2)
    time.sleep(1.5)  # the server looks after its connections each second
    with pytest.raises(OSError, match="reset|Broken pipe"):
        for _ in range(50):
            crowd[-1].sendall(b"G")
            time.sleep(0.02)
    for one in crowd:
        one.close()


def test_a_crowd_that_sends_nothing_does_not_cut_an_upload_short(serve_app: Serve) -> None:
    server = serve_app()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as upload:
        upload.sendall(POST + b'19\r\n\r\n{"sentence"')
        crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(250)]
        assert ask(server).status == 200
        upload.sendall(b':  "a" }')
        assert upload.recv(100).startswith(b"HTTP/1.1 200")
    for one in crowd:
        one.close()


def send_raw(server: Server, text: bytes) -> str:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(text)
        return b"".join(iter(lambda: connection.recv(4096), b"")).decode()


def test_only_so_many_requests_stand_in_line_on_a_connection(serve_app: Serve) -> None:
    server, one = serve_app(), b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
    assert send_raw(server, (one + b"\r\n") * 3 + one + b"Connection: close\r\n\r\n").count("200 OK") == 4
    with contextlib.suppress(ConnectionError):
        assert send_raw(server, (one + b"\r\n") * 80) == ""


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        (f"Content-Length: {10**12}", 413, "too_long"),
        ("Content-Length: 4\r\nTransfer-Encoding: chunked", 400, "bad_request"),
        ("Content-Length: 1e3", 400, "bad_request"),
        ("Transfer-Encoding: identity", 400, "bad_request"),
    ],
)
def test_what_the_server_itself_refuses_has_the_same_form_and_is_logged(
    serve_app: Serve, headers: str, status: int, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = f"Host: localhost\r\n{headers}\r\n\r\n0\r\n\r\n"
    answer = send_raw(serve_app(access_log=True), f"POST /api HTTP/1.1\r\n{rest}".encode())
    assert answer.startswith(f"HTTP/1.1 {status}") and f'"code":"{code}"' in answer and "frame-ancestors" in answer
    (number,) = re.findall("X-Request-Id: (.*)\r", answer)
    wait_until(lambda: re.search(rf"127\.0\.0\.1 .* {status} \d+ ms {number}\n", capsys.readouterr().err))
    if "Transfer" in headers:
        for first in ("POST /api HTTP/1.0", "GET http://[/ HTTP/1.0"):
            assert send_raw(serve_app(), f"{first}\r\n{rest}".encode()).startswith("HTTP/1.0 400")


@pytest.mark.parametrize("path", ["/", "/api", "/healthz", "/nothing", "/docs"])
def test_every_answer_carries_the_security_headers(serve_app: Serve, path: str) -> None:
    headers = call(serve_app().url + path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy and "unsafe" not in policy
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
    assert headers["Cache-Control"] == "no-store"


def test_static_files_are_kept_by_their_content_and_sent_small(serve_app: Serve) -> None:
    server = serve_app()
    path = re.search(r'src="(static/\w+/app\.js)"', call(server.url).text)
    url = f"{server.url}/{path and path[1]}"
    plain, again = call(url), call(url, If_None_Match=call(url).headers["ETag"])
    assert "immutable" in plain.headers["Cache-Control"] and (again.status, again.text) == (304, "")
    for address in (url, server.url):
        with urlopen(Request(address, headers={"Accept-Encoding": "gzip"})) as response:  # noqa: S310
            small, headers = response.read(), response.headers
        assert headers["Content-Encoding"] == "gzip" and len(small) == int(headers["Content-Length"])
        assert gzip.decompress(small).decode() == call(address).text
        assert call(address, If_None_Match=headers["ETag"] or "-").status == (304 if address == url else 200)
        head = call(address, method="HEAD")
        assert (head.status, head.text) == (200, "") and int(head.headers["Content-Length"]) > len(small)
    options = call(f"{server.url}/api", method="OPTIONS")
    assert options.status == 200 and {"POST", "OPTIONS"} == set(options.headers["Allow"].split(", "))
    assert "Content-Encoding" not in call(server.url, Accept_Encoding="gzip;q=0").headers


COLAB = "5000-m-s-abc.us-east1-0.prod.colab.dev"


def test_names_of_this_machine_are_answered_and_foreign_ones_refused(
    serve_app: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve_app(get_web_service_app(answer_sentence, trusted_hosts=["hub.example.org"]), key=None)
    for host in ("localhost:5000", "LOCALHOST", "127.0.0.1:1", "hub.example.org:8000"):
        assert ask(server, Host=host).status == call(server.url, Host=host).status == 200, host
    for host in ("evil.example:5000", "127.0.0.1.evil.example", "xcolab.dev", "a b", COLAB):
        assert ask(server, Host=host).error["code"] == "unknown_host", host
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    assert ask(server, Host=COLAB).status == 200, "in Colab its proxy's names count"
    assert ask(serve_app(key=KEY), Host="evil.example").status == 200, "a key protects better"


def test_behind_a_proxy_it_is_public_and_a_visitor_is_whom_the_proxy_saw(
    serve_app: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"trusted_hosts": ["hub.example.org"], "requests_per_minute": 4, "feedback_file": tmp_path / "a.csv"}
    server = serve_app(get_web_service_app(answer_sentence, **settings), access_log=True)
    sent = {"Host": "hub.example.org", "X_Forwarded_For": "192.0.2.9, 192.0.2.1"}
    assert server.key and f"?key={server.key}" in capsys.readouterr().out
    assert call(f"{server.url}/api", BODY, **sent).status == 401
    sent["Authorization"] = f"Bearer {server.key}"
    asked = [call(f"{server.url}/api", BODY, **sent).status for _ in range(5)]
    assert asked == [200] * 4 + [429] and " 192.0.2.1 POST" in capsys.readouterr().err
    assert call(f"{server.url}/api", BODY, **sent | {"X_Forwarded_For": "192.0.2.1, 192.0.2.2"}).status == 200
    feedback = {"input": BODY, "label": "긍정 (positive)"}
    assert call(f"{server.url}/api/feedback", feedback, **sent).error["code"] == "no_feedback"
    page = call(server.url, X_Forwarded_Proto="https", **sent)
    assert "Secure" in page.headers["Set-Cookie"]


@pytest.mark.parametrize("origin", ["https://b.example/", "*.b.example", "b.example"])
def test_an_origin_that_no_script_has_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match=r"cors_origins: expected '\*' or as https://example\.org, got .* no path"):
        get_web_service_app(answer_sentence, cors_origins=[origin])


def test_other_sites_are_let_in_only_by_name(serve_app: Serve) -> None:
    server = serve_app(get_web_service_app(make_full_function(), cors_origins=["https://friend.example"]))
    for path in ("/api", "/api/batch", "/api/explain"):
        headers = call(server.url + path, {}, Origin="https://friend.example").headers
        assert headers["Access-Control-Allow-Origin"] == "https://friend.example"
        assert "Access-Control-Allow-Origin" not in call(server.url + path, {}, Origin="https://evil.example").headers
    assert "Access-Control-Allow-Origin" not in call(server.url, Origin="https://friend.example").headers


def test_with_a_key_only_health_and_assets_are_open(serve_app: Serve) -> None:
    app = get_web_service_app(answer_sentence)
    server, free = serve_app(app, key=KEY), serve_app(app)
    for path in ("/", "/api", "/nothing", "/?key=wrong", f"/api?key={KEY}"):
        answer = call(server.url + path)
        assert (answer.status, answer.error["code"]) == (401, "unauthorized"), path
    assert "접속 열쇠가 없거나" in call(server.url, Accept="text/html").text
    static = f"{server.url}{app.static_url_path}/app.css"
    assert call(f"{server.url}/healthz").status == call(static).status == 200
    for given in ("열쇠".encode().decode("latin-1"), "ÿ", "", KEY + "x"):
        assert ask(server, Authorization=f"Bearer {given}").status == 401
        assert ask(server, Authorization="", Cookie=f"nlpbook_key_{server.port}={given}").status == 401
    assert ask(server, Authorization="", Cookie=visit(server)).status == ask(server).status == ask(free).status == 200
    assert "Secure" in call(f"{server.url}/?key={KEY}", X_Forwarded_Proto="https").headers["Set-Cookie"]
    assert KEY not in repr(server) and "key=set" in repr(server)


def test_a_visitor_of_a_public_page_has_so_many_requests_a_minute(serve_app: Serve) -> None:
    server = serve_app(get_web_service_app(make_full_function(), requests_per_minute=6), key=KEY)
    one, other = visit(server), visit(server)
    assert [ask(server, Authorization="", Cookie=one).status for _ in range(7)] == [200] * 6 + [429]
    refused = ask(server, Authorization="", Cookie=one)
    assert 1 <= int(refused.headers["Retry-After"]) <= 10 and refused.error["code"] == "too_many_requests"
    assert ask(server, "/api/batch", {"inputs": [BODY] * 1_000}, Cookie=other).status == 200
    assert int(ask(server, Cookie=other).headers["Retry-After"]) > 500, "1,000 inputs are worth 100 requests"
    made_up = one.rpartition("=")[0] + "=eyJ2aXNpdG9yIjoiMSJ9.aaaa.bbbb"
    assert [ask(server, Cookie=cookie).status for cookie in [made_up, "", made_up] * 3][-1] == 429, (
        "all without, as one"
    )
    free = serve_app(get_web_service_app(answer_sentence, requests_per_minute=1))
    assert [ask(free).status for _ in range(3)] == [200] * 3, "on this machine nothing is counted"


def test_an_explanation_costs_more(serve_app: Serve) -> None:
    server = serve_app(get_web_service_app(make_full_function(), requests_per_minute=6), key=KEY)
    one = visit(server)
    assert [ask(server, "/api/explain", {"sentence": "가나"}, Cookie=one).status for _ in range(3)] == [200, 200, 429]


def test_many_cookies_are_not_many_visitors_and_starve_nobody(serve_app: Serve) -> None:
    server = serve_app(get_web_service_app(answer_sentence, requests_per_minute=12), key=KEY)
    honest = visit(server)
    assert ask(server, Cookie=honest).status == 200
    greedy = [visit(server) for _ in range(4)]
    answered = [ask(server, Cookie=cookie).status for cookie in [*greedy, ""] * 20].count(200)
    assert 6 <= answered <= 26, "together not more than two visitors"
    assert [ask(server, Cookie=honest).status for _ in range(4)] == [200] * 4


def test_wrong_keys_are_slowed_down_and_the_right_one_is_not(serve_app: Serve) -> None:
    server = serve_app(key=KEY)
    tried = [ask(server, Authorization=f"Bearer wrong-{number}") for number in range(40)]
    assert [answer.status for answer in tried] == [401] * 30 + [429] * 10
    assert 1 <= int(tried[-1].headers["Retry-After"]) <= 2 and ask(server).status == 200


def test_a_visitor_may_not_hold_all_threads(serve_app: Serve) -> None:
    gate = Event()
    server = serve_app(lambda sentence: {"waited": gate.wait(10)}, key=KEY)
    one, other = visit(server), visit(server)
    with ThreadPoolExecutor(30) as pool:
        answers = [pool.submit(ask, server, Cookie=one) for _ in range(12)]
        waiting = pool.submit(ask, server, Cookie=other)
        wait_until(lambda: sum(answer.done() for answer in answers) == 4)
        gate.set()
        assert sorted(answer.result().status for answer in answers) == [200] * 8 + [429] * 4
        assert waiting.result().status == 200
