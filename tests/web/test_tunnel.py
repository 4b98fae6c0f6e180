"""Tunnels: the real pyngrok with a stand-in agent process, and a stand-in for Colab; all on loopback."""

import json
import os
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from web_client import BODY, answer_sentence, call, wait_until

from nlpbook_helpers.web import Server, get_web_service_app, tunnel
from nlpbook_helpers.web import server as web_server

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-in agent is a shell script")
Serve = Callable[..., Server]
TOKEN = "2abcDEF0123456789abcDEF0123_4567890abcdefABCDEF12"


class Agent:
    """The stand-in agent of one test."""

    def __init__(self, folder: Path) -> None:
        self.path, self.file = folder / "ngrok", folder / "record.json"

    @property
    def record(self) -> dict[str, Any]:
        return json.loads(self.file.read_text())

    def is_running(self) -> bool:
        return self.file.exists() and Path(f"/proc/{self.record['pid']}").exists()


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Agent:
    agent, script = Agent(tmp_path), Path(__file__).with_name("fake_ngrok.py")
    agent.path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    agent.path.chmod(0o700)
    monkeypatch.setenv("PYNGROK_NGROK_PATH", str(agent.path))
    monkeypatch.setenv("FAKE_NGROK_RECORD", str(agent.file))
    monkeypatch.setenv("NGROK_AUTHTOKEN", f' "{TOKEN}"\n')  # quotes around a token do no harm
    return agent


@pytest.fixture
def colab(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Pretend to be a Colab notebook; `secrets` are its secrets, `shown` the ports it was asked to show."""
    state = types.SimpleNamespace(secrets={}, shown=[], error="SecretNotFoundError")

    def get(name: str) -> str:
        if name in state.secrets:
            return state.secrets[name]
        raise type(state.error, (Exception,), {})(f"secret {name}")  # as Colab's own, without a common class

    show = lambda port, **options: state.shown.append(port)  # noqa: E731
    modules = {"google": {}, "google.colab": {}, "google.colab.userdata": {"get": get}}
    modules["google.colab.output"] = {"serve_kernel_port_as_iframe": show}
    for name, members in modules.items():
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**members))
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    return state


def test_a_tunnel_opens_with_a_key_and_hides_the_token(
    agent: Agent, serve_app: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    server, second = serve_app(tunnel="auto"), serve_app(tunnel="ngrok")
    assert server.public_url and server.key and len(server.key) >= 20 and server.key != second.key
    out, err = capfd.readouterr()
    assert f"Public link: {server.public_url}/?key={server.key} (open to anyone who has this link)" in out
    assert f"at {server.url}/?key={server.key} (stop with server.close())" in out
    assert TOKEN not in out and not err and server.key not in repr(server)
    assert call(server.public_url).status == 401
    assert (
        call(f"{server.public_url}/api", BODY, Host="a.ngrok.app", Authorization=f"Bearer {server.key}").status == 200
    )
    record = agent.record
    assert TOKEN in record["config"] and TOKEN not in " ".join(record["arguments"])
    assert record["modes"] == [0o600, 0o700], "nobody else reads the file"
    assert TOKEN not in Path(record["path"]).read_text(), "gone once the agent has read it"
    server.close()
    assert agent.is_running() and call(second.url).status == 401, "another server uses the agent"
    second.close()
    assert not agent.is_running() and second.public_url is None and not Path(record["path"]).parent.exists()


def test_without_a_key_visitors_of_a_tunnel_are_limited(
    agent: Agent, serve_app: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve_app(get_web_service_app(answer_sentence, requests_per_minute=2), tunnel="ngrok", key=None)
    assert "open to anyone at all, as key=None" in capsys.readouterr().out
    assert [call(f"{server.public_url}/api", BODY, Host="a.ngrok.app").status for _ in range(3)] == [200, 200, 429]
    os.kill(agent.record["pid"], 9)
    server.close()
    assert "closed" in repr(server), "a dead agent does not stop it"


def test_a_tunnel_that_dies_is_noticed_and_opened_again(
    agent: Agent, serve_app: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_server, "WATCH_SECONDS", 0.1)
    monkeypatch.setattr(web_server, "MOST_PAUSE", 0.2)
    monkeypatch.setattr(tunnel, "START_TIMEOUT", 2)
    server = serve_app(tunnel="ngrok")
    first = agent.record["pid"]
    os.kill(first, 9)
    wait_until(lambda: agent.record["pid"] != first and server.public_url)
    out = capsys.readouterr().out
    assert out.count("The public link has closed") == 1 and out.count("Public link: ") == 2
    assert call(str(server.public_url)).status == 401, "with the same key"
    monkeypatch.setenv("FAKE_NGROK_MODE", "refused")
    os.kill(agent.record["pid"], 9)
    tried = set()
    wait_until(lambda: tried.add(agent.record["pid"]) or len(tried) == 3)  # the one that was killed, and two more
    assert server.public_url is None and call(server.url).status == 401
    monkeypatch.setenv("FAKE_NGROK_MODE", "ok")
    wait_until(lambda: server.public_url)
    out = capsys.readouterr().out
    told = (
        "The public link has closed",
        "No public link: ngrok refused the token",
        "It is tried again",
        "Public link: ",
    )
    assert [out.count(words) for words in told] == [1, 1, 1, 1]
    assert call(str(server.public_url)).status == 401


@pytest.mark.parametrize(
    ("mode", "match"),
    [
        ("refused", r"ngrok refused the token \(ERR_NGROK_107\).*copy yours from https://dashboard\.ngrok\.com"),
        ("offline", r"ngrok did not answer within 1 seconds: check the network"),
        ("endpoint", r"ngrok refused to open a tunnel: see https://ngrok\.com/docs/errors/err_ngrok_334"),
        ("broken", r"the ngrok agent at .* cannot be run \(Exec format error\)"),
    ],
)
def test_a_tunnel_that_fails_is_one_sentence(
    agent: Agent,
    serve_app: Serve,
    mode: str,
    match: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tunnel, "START_TIMEOUT", 1)
    monkeypatch.setenv("FAKE_NGROK_MODE", mode)
    if mode == "broken":
        agent.path.write_bytes(b"\x7fELF broken")
    server = serve_app(tunnel="auto")
    out, err = capfd.readouterr()
    assert re.search(rf"^No public link: {match}.* The local address works\.$", out, re.MULTILINE)
    assert len(out.splitlines()) == 3 and not err and TOKEN not in out + caplog.text
    assert server.public_url is None and call(f"{server.url}/api", BODY).status == 200, "without a key"
    assert not agent.is_running()


@pytest.mark.parametrize("token", ["YOUR_AUTHTOKEN", "여기에 토큰을", TOKEN[:20], TOKEN + "\nagent: {}", ""])
def test_what_is_no_token_never_reaches_the_agent(
    agent: Agent, serve_app: Serve, token: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NGROK_AUTHTOKEN", token)
    server = serve_app(tunnel="auto")
    out = capsys.readouterr().out
    expected = "what was given as ngrok token is a placeholder or cut short" if token else "no ngrok token was found"
    assert re.search(rf"{expected}: copy yours from https://\S+ to NGROK_AUTHTOKEN", out)
    assert not token or token not in out
    assert call(server.url).status == 200 and not agent.file.exists()


def test_colab(
    colab: types.SimpleNamespace,
    agent: Agent,
    serve_app: Serve,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    colab.secrets["NGROK_AUTHTOKEN"] = other = TOKEN[::-1]
    assert serve_app(tunnel="auto").public_url and other in agent.record["config"], "its secret comes first"
    assert len(re.findall(r"Colab's rules: .*colaboratory/faq\.html", capsys.readouterr().out)) == 1
    colab.secrets.clear()
    monkeypatch.delenv("NGROK_AUTHTOKEN")
    colab.error = "NotebookAccessError"
    server = serve_app(tunnel="auto")
    out = capsys.readouterr().out
    assert colab.shown == [server.port] and "Shown below by Colab's own proxy, for you alone" in out
    assert "Colab's secret NGROK_AUTHTOKEN was not read (NotebookAccessError): allow this notebook to." in out
    serve_app(tunnel=None)
    assert "Colab" not in capsys.readouterr().out
