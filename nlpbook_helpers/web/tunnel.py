"""A public address for a local server: ngrok where a token is found, Colab's own proxy on Colab."""

import importlib
import logging
import os
import re
import secrets
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyngrok import conf, ngrok, process
from pyngrok.exception import PyngrokError, PyngrokNgrokInstallError

from nlpbook_helpers.runtime import is_colab
from nlpbook_helpers.web.app import say

if TYPE_CHECKING:
    from nlpbook_helpers.web.server import Server

VARIABLE = "NGROK_AUTHTOKEN"
DASHBOARD = "https://dashboard.ngrok.com/get-started/your-authtoken"
START_TIMEOUT = 15  # seconds
NO_ANSWER = (PyngrokError, OSError, ValueError)  # the agent is gone, or is going and answers half a line
WATCH_SECONDS = 2  # how often an open tunnel is looked after
COLAB_RULES = (
    "Colab's rules: a free runtime is for work in the notebook, and one used mainly through a web page may be "
    "ended: close the page when you have seen it (https://research.google.com/colaboratory/faq.html)."
)
_SET_TOKEN = f"copy yours from {DASHBOARD} to {VARIABLE}, a Colab secret or environment variable."
_REFUSED_TOKEN = ("ERR_NGROK_105", "ERR_NGROK_107", "ERR_NGROK_4018")


class TunnelError(RuntimeError):
    """No public address: what happened and what to do, in one sentence that never holds the token."""


@dataclass
class Tunnel:
    """An open ngrok tunnel."""

    config: conf.PyngrokConfig
    """How pyngrok finds the agent."""
    folder: tempfile.TemporaryDirectory[str]
    """Private folder of the agent's configuration file."""
    public_url: str = ""
    """Address on the internet."""

    def is_open(self) -> bool:
        """Ask the agent, if it still runs, whether it still knows this tunnel."""
        try:
            is_running = process.is_process_running(self.config.ngrok_path)
            return is_running and any(one.public_url == self.public_url for one in ngrok.get_tunnels(self.config))
        except NO_ANSWER:
            return False

    def close(self) -> None:
        """Close the tunnel, stop the agent unless another server uses it, and remove its configuration."""
        try:
            if self.public_url:
                ngrok.disconnect(self.public_url, self.config)
            is_used = process.is_process_running(self.config.ngrok_path) and ngrok.get_tunnels(self.config)
        except NO_ANSWER:
            is_used = False
        if not is_used:
            ngrok.kill(self.config)
        self.folder.cleanup()


def choose_tunnel(tunnel: str | None) -> tuple[str | None, str]:
    """Decide which tunnel to open.

    Args:
        tunnel: "ngrok", "colab", None, or "auto": ngrok if a token is found, else Colab's proxy if on Colab.

    Returns:
        "ngrok", "colab" or None, and the ngrok token or "".

    Raises:
        TunnelError: the tunnel asked for cannot be had, or its token is no token.
    """
    if tunnel == "colab" and not is_colab():
        raise TunnelError("tunnel='colab' works in a Colab notebook only: use tunnel='ngrok' here.")
    if tunnel in (None, "colab"):
        return tunnel, ""
    token = _find_token().strip(" \t\r\n'\"")
    if not token and tunnel == "auto" and is_colab():
        return "colab", ""
    if not token:
        raise TunnelError(f"no ngrok token was found: {_SET_TOKEN}")
    if not re.fullmatch(r"[A-Za-z0-9]{10,}_[A-Za-z0-9]{10,}", token):
        raise TunnelError(f"what was given as ngrok token is a placeholder or cut short: {_SET_TOKEN}")
    return "ngrok", token


def _find_token() -> str:
    """Look for a token in Colab's secrets, then in the environment."""
    token = None
    if is_colab():
        try:
            token = importlib.import_module("google.colab.userdata").get(VARIABLE)
        # Colab's errors (no secret, no permission, no answer from the browser) have no base class but this, and a
        # token is never worth a trace: without one the page is still shown.
        except Exception as error:
            if type(error).__name__ != "SecretNotFoundError":
                say(f"Colab's secret {VARIABLE} was not read ({type(error).__name__}): allow this notebook to.")
    return token or os.environ.get(VARIABLE, "")


def open_ngrok(port: int, token: str) -> Tunnel:
    """Open a tunnel to a local port.

    pyngrok gives a token it knows to the agent on its command line, where every user of the machine can read
    it, so it is told none: the token stands in a private configuration file while the agent starts.

    Args:
        port: port on 127.0.0.1.
        token: ngrok's authtoken.

    Returns:
        The open tunnel.

    Raises:
        TunnelError: the agent could not be had, or did not open the tunnel.
    """
    # A refused token is repeated in the agent's log, which pyngrok passes on.
    logging.getLogger("pyngrok").setLevel(logging.CRITICAL + 1)
    folder = tempfile.TemporaryDirectory(prefix="nlpbook-ngrok-", ignore_cleanup_errors=True)
    file = Path(folder.name) / "ngrok.yml"
    file.touch(mode=0o600)
    file.write_text(f'version: "3"\nagent:\n  authtoken: {token}\n', encoding="utf-8")
    config = conf.PyngrokConfig(config_path=str(file), startup_timeout=START_TIMEOUT)
    config.auth_token = None  # it took NGROK_AUTHTOKEN
    tunnel = Tunnel(config, folder)
    try:
        # A name of ours: pyngrok's own would hold the address, whose slashes break the path to close it.
        endpoint = ngrok.connect(f"http://127.0.0.1:{port}", name=f"nlpbook-{port}", pyngrok_config=config)
    except (PyngrokError, OSError) as error:
        tunnel.close()
        raise TunnelError(_explain(error, config.ngrok_path)) from None
    file.write_text('version: "3"\n', encoding="utf-8")  # the agent has read it, and a killed kernel leaves it behind
    tunnel.public_url = endpoint.public_url or ""
    return tunnel


def _explain(error: Exception, path: str) -> str:
    """Turn pyngrok's error into one sentence: of the agent's words only the code, as they hold the token."""
    if isinstance(error, PyngrokNgrokInstallError):
        return f"the ngrok agent could not be downloaded: check the network, or put it at {path} yourself."
    if code := re.search(r"ERR_NGROK_\d+", str(error)):
        if code[0] in _REFUSED_TOKEN:
            return f"ngrok refused the token ({code[0]}), which has perhaps expired or been reset: {_SET_TOKEN}"
        return f"ngrok refused to open a tunnel: see https://ngrok.com/docs/errors/{code[0].lower()}."
    if isinstance(error, OSError):
        return f"the ngrok agent at {path} cannot be run ({error.strerror}): delete it and serve again."
    return f"ngrok did not answer within {START_TIMEOUT} seconds: check the network and serve again."


def show_in_colab(port: int) -> None:
    """Show the page in the cell's output through Colab's port proxy, which only its user can reach."""
    say("Shown below by Colab's own proxy, for you alone; to share it, set an ngrok token.")
    importlib.import_module("google.colab.output").serve_kernel_port_as_iframe(port, height="720")


def open_tunnel(server: "Server", tunnel: str | None, wants_random_key: bool) -> None:
    """Put a server on the internet if it can be, and print where, or one sentence saying why not."""
    kind = None
    try:
        kind, token = choose_tunnel(tunnel)
        if kind == "ngrok":
            # Before the tunnel opens: nobody may come in between.
            server.key = secrets.token_urlsafe(16) if wants_random_key else server.key
            say("ngrok is opening a public address: this may take half a minute.")
            _open_ngrok_for(server, token)
            threading.Thread(target=_watch, args=(server, token), daemon=True).start()
    except TunnelError as error:
        say(f"No public link: {error} The local address works.")
        server.key = None if wants_random_key else server.key
        kind = "colab" if is_colab() else None
    if is_colab() and kind:
        say(COLAB_RULES)
    if kind == "colab":
        show_in_colab(server.port)


def _open_ngrok_for(server: "Server", token: str) -> None:
    server.tunnel = open_ngrok(server.port, token)
    server.public_url = server.tunnel.public_url
    who = "anyone who has this link" if server.key else "anyone at all, as key=None"
    say(f"Public link: {add_key(server.public_url, server.key)} (open to {who})")


def _watch(server: "Server", token: str) -> None:
    """Until the server is closed, notice a tunnel that is gone, say so and open another."""
    while not server.closed.wait(WATCH_SECONDS):
        if server.tunnel is None or server.tunnel.is_open():
            continue
        tunnel, server.tunnel, server.public_url = server.tunnel, None, None
        tunnel.close()
        say("The public link has closed, as the ngrok agent has ended: opening another.")
        try:
            _open_ngrok_for(server, token)
        except TunnelError as error:
            return say(f"No public link: {error} The local address works.")
    if server.tunnel:  # opened while the server was closing
        server.tunnel.close()
    return None


def add_key(url: str, key: str | None) -> str:
    """Return the address that lets its reader in."""
    return f"{url}/?key={key}" if key else url
