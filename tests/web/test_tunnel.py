"""Tunnels: the real pyngrok with a stand-in agent process, and a stand-in for Colab; all on loopback."""

import json
import os
import re
import stat
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyngrok import installer
from web_client import answer_sentence, call

from nlpbook_helpers.web import Server, get_web_service_app, tunnel

pytestmark = [
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.skipif(os.name != "posix", reason="the stand-in agent is a shell script"),
]
Serve = Callable[..., Server]
TOKEN = "2abcDEF0123456789abcDEF0123_4567890abcdefABCDEF12"
BODY = b'{"sentence": "a"}'


class Agent:
    """The stand-in agent of one test."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self._record, self._monkeypatch = folder / "ngrok", folder / "record.json", monkeypatch
        self.path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).with_name("fake_ngrok.py")}" "$@"\n')
        self.path.chmod(0o700)
        monkeypatch.setenv("PYNGROK_NGROK_PATH", str(self.path))
        monkeypatch.setenv("FAKE_NGROK_RECORD", str(self._record))
        monkeypatch.setenv("NGROK_AUTHTOKEN", TOKEN)
        self.fares("ok")

    def fares(self, mode: str) -> None:
        self._monkeypatch.setenv("FAKE_NGROK_MODE", mode)

    @property
    def record(self) -> dict[str, Any]:
        return json.loads(self._record.read_text())

    def is_running(self) -> bool:
        try:
            os.kill(self.record["pid"], 0)
        except ProcessLookupError:
            return False
        return True


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Agent:
    return Agent(tmp_path, monkeypatch)


@pytest.fixture
def colab(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Pretend to be a Colab notebook; `secrets` are its secrets, `shown` the ports it was asked to show."""
    state = types.SimpleNamespace(secrets={}, shown=[], error="SecretNotFoundError")
    userdata: Any = types.ModuleType("google.colab.userdata")

    def get(name: str) -> str:
        if name in state.secrets:
            return state.secrets[name]
        raise type(state.error, (Exception,), {})(f"secret {name}")  # as Colab's own, without a common class

    userdata.get = get
    output: Any = types.ModuleType("google.colab.output")
    output.serve_kernel_port_as_iframe = lambda port, **options: state.shown.append(port)
    for module in (types.ModuleType("google"), types.ModuleType("google.colab"), userdata, output):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    return state


def test_a_tunnel_opens_with_a_key(agent: Agent, serve_app: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    server = serve_app(tunnel="auto")
    assert server.public_url and server.key and len(server.key) >= 20
    out, err = capsys.readouterr()
    assert f"Public link: {server.public_url}/?key={server.key} (open to anyone who has this link)" in out
    assert f"at {server.url}/?key={server.key} (stop with server.close())" in out
    assert TOKEN not in out and not err and server.key not in repr(server)
    assert call(server.public_url).status == call(server.url).status == 401
    assert call(f"{server.public_url}/healthz", Host="abc.ngrok-free.app").status == 200
    cookie = call(f"{server.public_url}/?key={server.key}").headers["Set-Cookie"]
    assert "Secure" in cookie, "behind https"
    answer = call(f"{server.public_url}/api", BODY, Authorization=f"Bearer {server.key}")
    assert answer.status == 200 and "긍정" in answer.text


def test_keys_are_random(agent: Agent, serve_app: Serve) -> None:
    assert serve_app(tunnel="ngrok").key != serve_app(tunnel="ngrok").key


def test_no_key_and_own_keys_are_explicit_choices(
    agent: Agent, serve_app: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    free, own = serve_app(tunnel="ngrok", key=None), serve_app(tunnel="ngrok", key="my-own-key")
    assert call(free.public_url or "").status == 200 and own.key == "my-own-key"
    assert call(free.public_url or "", Host="abc.ngrok-free.app").status == 200, "the tunnel's own name"
    assert call(own.public_url or "").status == 401
    assert re.search(r"open to anyone at all, as key=None", capsys.readouterr().out)


def test_the_token_stays_in_a_private_file_while_the_agent_starts(agent: Agent, serve_app: Serve) -> None:
    server = serve_app(tunnel="ngrok")
    record = agent.record
    assert TOKEN in record["config"]
    assert TOKEN not in " ".join(record["arguments"])
    assert (record["file"], record["folder"]) == (stat.S_IRUSR | stat.S_IWUSR, stat.S_IRWXU)
    assert TOKEN not in Path(record["path"]).read_text(), "gone once the agent has read it"
    server.close()
    assert not Path(record["path"]).parent.exists()


def test_closing_ends_the_agent(agent: Agent, serve_app: Serve) -> None:
    server = serve_app(tunnel="ngrok")
    assert agent.is_running()
    server.close()
    assert not agent.is_running() and server.public_url is None


def test_visitors_of_a_tunnel_are_limited_even_without_a_key(agent: Agent, serve_app: Serve) -> None:
    limited = get_web_service_app(answer_sentence, requests_per_minute=2)
    server = serve_app(limited, tunnel="ngrok", key=None)
    assert [call(f"{server.public_url}/api", BODY).status for _ in range(3)] == [200, 200, 429]
    cookie = call(server.public_url or "").headers["Set-Cookie"].partition(";")[0]
    assert call(f"{server.public_url}/api", BODY, Cookie=cookie).status == 200


def test_two_servers_share_the_agent_until_the_last_closes(agent: Agent, serve_app: Serve) -> None:
    first, second = serve_app(tunnel="ngrok", key=None), serve_app(tunnel="ngrok", key=None)
    first.close()
    assert call(second.public_url or "").status == 200
    second.close()
    assert not agent.is_running()


def test_a_dead_agent_does_not_stop_the_server_from_closing(agent: Agent, serve_app: Serve) -> None:
    server = serve_app(tunnel="ngrok")
    os.kill(agent.record["pid"], 9)
    server.close()
    assert "closed" in repr(server) and not Path(agent.record["path"]).exists()


@pytest.mark.parametrize(
    ("mode", "match"),
    [
        (
            "refused",
            r"ngrok refused the token \(ERR_NGROK_107\).*copy yours from https://dashboard\.ngrok\.com",
        ),
        ("busy", r"ngrok allows no further agent session \(ERR_NGROK_108\): stop the other one"),
        ("offline", r"ngrok did not answer within 1 seconds: check the network"),
        ("endpoint", r"ngrok refused to open a tunnel \(ERR_NGROK_334\): https://ngrok\.com/docs/errors"),
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
    agent.fares(mode)
    server = serve_app(tunnel="auto")
    out, err = capfd.readouterr()
    assert re.search(rf"^No public link: {match}.* The local address works\.$", out, re.MULTILINE)
    assert len(out.splitlines()) == 2 and not err
    assert TOKEN not in out + err + caplog.text
    assert server.public_url is None and server.key is None
    assert call(f"{server.url}/api", BODY).status == 200, "the local address works, without a key"
    assert not agent.is_running() and not Path(agent.record["path"]).exists()


def test_no_agent_and_no_network(
    agent: Agent, serve_app: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = dict.fromkeys(installer.PLATFORMS, "http://127.0.0.1:9/ngrok.tgz")
    monkeypatch.setattr(installer, "PLATFORMS", nowhere)
    agent.path.unlink()
    server = serve_app(tunnel="ngrok")
    assert re.search(
        r"the ngrok agent could not be downloaded: check the network, or put it at", capsys.readouterr().out
    )
    assert call(server.url).status == 200


def test_an_agent_that_cannot_be_run(agent: Agent, serve_app: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    agent.path.write_bytes(b"\x7fELF broken")
    server = serve_app(tunnel="ngrok")
    assert re.search(r"the ngrok agent at .* cannot be run \(Exec format error\)", capsys.readouterr().out)
    assert call(server.url).status == 200


@pytest.mark.parametrize(
    "token",
    [
        "YOUR_AUTHTOKEN",
        "<token>",
        "여기에 토큰을 넣으세요",
        TOKEN[:20],
        TOKEN + "\nagent: {}",
        "a b",
        "--help",
    ],
)
def test_what_is_no_token_never_reaches_the_agent(
    agent: Agent,
    serve_app: Serve,
    token: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NGROK_AUTHTOKEN", token)
    server = serve_app(tunnel="auto")
    out = capsys.readouterr().out
    assert re.search(r"what was given as ngrok token is a placeholder or cut short: copy yours from", out)
    assert token not in out and call(server.url).status == 200
    with pytest.raises(FileNotFoundError):
        _ = agent.record


def test_quotes_around_a_token_do_no_harm(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NGROK_AUTHTOKEN", f' "{TOKEN}"\n')
    assert tunnel.choose_tunnel("auto") == ("ngrok", TOKEN)


def test_without_a_token_auto_is_local_and_says_how_to_get_a_link(
    serve_app: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve_app(tunnel="auto")
    out = capsys.readouterr().out
    assert re.search(
        r"no ngrok token was found: copy yours from https://\S+ to NGROK_AUTHTOKEN, a Colab secret or", out
    )
    assert server.key is None and call(server.url).status == 200


def test_no_tunnel_asks_nobody_and_says_nothing(
    agent: Agent, serve_app: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve_app(tunnel=None).public_url is None
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_colabs_secret_comes_before_the_environment(
    colab: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGROK_AUTHTOKEN", TOKEN)
    assert tunnel.choose_tunnel("auto") == ("ngrok", TOKEN)
    colab.secrets["NGROK_AUTHTOKEN"] = other = TOKEN[::-1]
    assert tunnel.choose_tunnel("auto") == ("ngrok", other)
    monkeypatch.setenv("NLPBOOK_HEADLESS", "1")
    assert tunnel.choose_tunnel("auto") == ("ngrok", TOKEN), "nobody could give Colab's permission"


@pytest.mark.parametrize("error", ["NotebookAccessError", "TimeoutException", "MessageError"])
def test_a_secret_that_may_not_be_read_is_one_line(
    colab: types.SimpleNamespace, serve_app: Serve, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    colab.error = error
    assert call(serve_app(tunnel="auto").url).status == 200
    assert f"Colab's secret NGROK_AUTHTOKEN was not read ({error}): allow this notebook to." in capsys.readouterr().out


def test_colabs_rules_are_said_where_a_page_leaves_the_notebook(
    colab: types.SimpleNamespace, agent: Agent, serve_app: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    serve_app(tunnel="ngrok")
    assert len(re.findall(r"Colab's rules: .*colaboratory/faq\.html", capsys.readouterr().out)) == 1
    serve_app(tunnel="colab")
    assert len(re.findall("Colab's rules: ", capsys.readouterr().out)) == 1
    serve_app(tunnel=None)
    assert "Colab" not in capsys.readouterr().out


def test_colab_without_a_token_shows_its_own_proxy(
    colab: types.SimpleNamespace, serve_app: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve_app(tunnel="auto")
    assert colab.shown == [server.port] and server.public_url is None
    out = capsys.readouterr().out
    assert re.search("Shown below by Colab's own proxy, for you alone", out) and "was not read" not in out


def test_colab_falls_back_to_its_own_proxy(
    colab: types.SimpleNamespace, agent: Agent, serve_app: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    agent.fares("refused")
    server = serve_app(tunnel="ngrok")
    assert colab.shown == [server.port]
    assert re.search("ngrok refused the token", capsys.readouterr().out)


def test_colabs_proxy_is_in_colab_only(serve_app: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(serve_app(tunnel="colab").url).status == 200
    assert re.search(r"tunnel='colab' works in a Colab notebook only", capsys.readouterr().out)


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A terminal where somebody types the token; holds the prompts shown."""
    shown: list[str] = []
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("getpass.getpass", lambda prompt: shown.append(prompt) or TOKEN)
    return shown


def test_somebody_who_can_answer_is_asked(prompts: list[str]) -> None:
    assert tunnel.choose_tunnel("ngrok") == ("ngrok", TOKEN)
    assert len(prompts) == 1 and re.search("hidden", prompts[0])


def test_auto_never_asks(prompts: list[str]) -> None:
    with pytest.raises(tunnel.TunnelError, match="no ngrok token was found"):
        tunnel.choose_tunnel("auto")
    assert not prompts


@pytest.mark.parametrize("name", ["CI", "NLPBOOK_HEADLESS"])
def test_a_headless_run_is_never_asked(prompts: list[str], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "true")
    with pytest.raises(tunnel.TunnelError, match="no ngrok token was found"):
        tunnel.choose_tunnel("ngrok")
    assert not prompts


def test_no_terminal_is_never_asked(prompts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: False))
    with pytest.raises(tunnel.TunnelError, match="no ngrok token was found"):
        tunnel.choose_tunnel("ngrok")
    assert not prompts


def test_a_kernel_that_takes_no_input_does_not_stop_the_cell(tmp_path: Path) -> None:
    """A real kernel, run the way nbval and nbclient run one: without input."""
    manager_module = pytest.importorskip("jupyter_client.manager", reason="needs a Jupyter kernel")
    code = (
        f"import sys; sys.path.insert(0, {str(Path(tunnel.__file__).parents[2])!r})\n"
        "from nlpbook_helpers.web import get_web_service_app, serve\n"
        "server = serve(get_web_service_app(lambda sentence: {}), port=0, tunnel='ngrok')\n"
    )
    manager, client = manager_module.start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    texts: list[str] = []
    try:
        client.execute_interactive(
            code,
            allow_stdin=False,
            timeout=60,
            output_hook=lambda message: texts.append(str(message["content"])),
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert re.search("No public link: no ngrok token was found", "".join(texts))
    assert "Error" not in "".join(texts)
