"""The server in its thread."""

import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
from collections.abc import Callable

import pytest
from web_client import answer_sentence, call

from nlpbook_helpers.web import Server, get_web_service_app, serve
from nlpbook_helpers.web import server as server_module

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
Serve = Callable[..., Server]
BODY = b'{"sentence": "a"}'


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_serving_returns_at_once_and_says_where(serve_app: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    server = serve_app()
    assert time.monotonic() - started < 2
    assert call(f"{server.url}/api", BODY).status == 200
    out, err = capsys.readouterr()
    assert out == f'Serving "문장 분류기" at {server.url} (stop with server.close())\n' and not err
    assert server.public_url is None and server.key is None


def test_the_line_names_the_page_and_how_to_stop_it(serve_app: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    server = serve_app(get_web_service_app(answer_sentence, title="영화평"), stop_hint="Ctrl-C stops it")
    assert capsys.readouterr().out == f'Serving "영화평" at {server.url} (Ctrl-C stops it)\n'


def test_it_listens_to_this_machine_alone(serve_app: Serve) -> None:
    server = serve_app()
    assert server.url == f"http://127.0.0.1:{server.port}"
    assert server._waitress.socket.getsockname()[0] == "127.0.0.1"


def test_closing_frees_the_port_and_can_be_repeated() -> None:
    threads = threading.active_count()
    with serve(get_web_service_app(answer_sentence), port=0, tunnel=None) as server:
        assert "open" in repr(server)
        assert call(server.url).status == 200
    assert "closed" in repr(server)
    with pytest.raises(urllib.error.URLError, match="refused"):
        call(server.url)
    server.close()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past TIME_WAIT, but not past a listener
        probe.bind(("127.0.0.1", server.port))
    assert threading.active_count() == threads


def test_a_taken_port_is_replaced_by_a_free_one(serve_app: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        server = serve_app(port=taken)
        assert server.port != taken and call(server.url).status == 200
    expected = rf"Port {taken} cannot be used \(address already in use\), so port {server.port} is used instead"
    assert re.search(expected, capsys.readouterr().out)


def test_the_same_cell_run_again_replaces_its_server(serve_app: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    port = find_free_port()
    first = serve_app(lambda sentence: {"who": "first"}, port=port)
    second = serve_app(lambda sentence: {"who": "second"}, port=port)
    assert second.port == first.port == port
    assert "second" in call(f"{second.url}/api", BODY).text
    assert "closed" in repr(first) and "cannot be used" not in capsys.readouterr().out


def test_servers_on_other_ports_go_on(serve_app: Serve) -> None:
    first, second = serve_app(port=0), serve_app(port=0)
    assert call(first.url).status == call(second.url).status == 200


def test_one_app_may_have_servers_with_and_without_a_key(serve_app: Serve) -> None:
    app = get_web_service_app(answer_sentence)
    locked, free = serve_app(app, key="first-key"), serve_app(app)
    assert call(locked.url).status == 401 and call(free.url).status == 200
    free.close()
    assert call(locked.url).status == 401, "closing one does not open the other"


def test_a_key_of_ones_own_is_in_the_printed_link_but_not_in_the_repr(
    serve_app: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve_app(key="my-own-key")
    assert f"{server.url}/?key=my-own-key" in capsys.readouterr().out
    assert "my-own-key" not in repr(server) and "key=set" in repr(server)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"tunnel": "cloud"}, r"expected tunnel 'auto', 'ngrok', 'colab' or None, got 'cloud'"),
        ({"port": 70_000}, r"expected a port from 0 to 65535, got 70000"),
        ({"port": -1}, r"expected a port from 0 to 65535, got -1"),
        ({"key": "short"}, r"expected a key of 8 or more letters"),
        ({"key": "열쇠열쇠열쇠열쇠"}, r"expected a key of 8 or more letters"),
    ],
)
def test_arguments_out_of_range_are_refused(serve_app: Serve, arguments: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        serve_app(**arguments)


def test_four_requests_are_answered_together(serve_app: Serve) -> None:
    together = threading.Barrier(4)

    def meet(sentence: str) -> dict[str, bool]:
        together.wait(timeout=5)
        return {"met": True}

    server = serve_app(meet)
    answers: list[int] = []
    ask = lambda: answers.append(call(f"{server.url}/api", BODY).status)  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 4


def test_closing_lets_a_running_request_finish(serve_app: Serve) -> None:
    started, answers = threading.Event(), []

    def think(sentence: str) -> dict[str, str]:
        started.set()
        time.sleep(0.5)
        return {"prediction": "thought"}

    server = serve_app(think)
    asking = threading.Thread(target=lambda: answers.append(call(f"{server.url}/api", BODY)))
    asking.start()
    assert started.wait(5)
    server.close()
    asking.join()
    assert answers[0].status == 200 and "thought" in answers[0].text


def test_a_client_that_never_finishes_is_cut_off(serve_app: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {**server_module.WAITRESS_OPTIONS, "channel_timeout": 1, "cleanup_interval": 1}
    monkeypatch.setattr(server_module, "WAITRESS_OPTIONS", options)
    server = serve_app()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
        slow.sendall(b"POST /api HTTP/1.1\r\nHost: a\r\nContent-")
        assert slow.recv(100) == b"", "the server hangs up"


def test_leaving_python_closes_the_server() -> None:
    code = (
        "from nlpbook_helpers.web import get_web_service_app, serve\n"
        "serve(get_web_service_app(lambda sentence: {}), port=0, tunnel=None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("Serving")
