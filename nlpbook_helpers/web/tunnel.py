"""A public address for a local server: ngrok where a token is found, Colab's own proxy on Colab."""

import importlib
import logging
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from pyngrok import conf, ngrok, process
from pyngrok.exception import PyngrokError, PyngrokNgrokInstallError

from nlpbook_helpers.runtime import is_colab
from nlpbook_helpers.web.app import say

VARIABLE = "NGROK_AUTHTOKEN"
START_TIMEOUT = 15  # seconds
NO_ANSWER = (PyngrokError, OSError, ValueError)  # the agent is gone, or is going and answers half a line
COLAB_RULES = (
    "Colab's rules: a free runtime is for work in the notebook, and one used mainly through a web page may be "
    "ended: close the page when you have seen it (https://research.google.com/colaboratory/faq.html)."
)
_SET_TOKEN = (
    f"copy yours from https://dashboard.ngrok.com/get-started/your-authtoken to {VARIABLE}, a Colab secret or "
    "environment variable."
)


class Tunnel:
    """A tunnel by ngrok to a local port.

    pyngrok gives a token it knows to the agent on its command line, where every user of the machine can read
    it, so it is told none: the token stands in a private configuration file while the agent starts.

    Args:
        port: port on 127.0.0.1.
        token: ngrok's authtoken.

    Attributes:
        public_url: address on the internet.

    Raises:
        PyngrokError, OSError: the agent could not be had, or did not open the tunnel; see `explain`.
    """

    def __init__(self, port: int, token: str) -> None:
        """Open it."""
        # A refused token is repeated in the agent's log, which pyngrok passes on.
        logging.getLogger("pyngrok").setLevel(logging.CRITICAL + 1)
        self._folder = tempfile.TemporaryDirectory(prefix="nlpbook-ngrok-", ignore_cleanup_errors=True)
        file = Path(self._folder.name) / "ngrok.yml"
        file.touch(mode=0o600)
        file.write_text(f'version: "3"\nagent:\n  authtoken: {token}\n', encoding="utf-8")
        self._config = conf.PyngrokConfig(config_path=str(file), startup_timeout=START_TIMEOUT)
        self._config.auth_token = None  # it took NGROK_AUTHTOKEN
        self.public_url = ""
        try:
            # A name of ours: pyngrok's own would hold the address, whose slashes break the path to close it.
            opened = ngrok.connect(f"http://127.0.0.1:{port}", name=f"nlpbook-{port}", pyngrok_config=self._config)
        except (PyngrokError, OSError):
            self.close()
            raise
        self.public_url = opened.public_url or ""
        file.write_text('version: "3"\n', encoding="utf-8")  # the agent has read it; a killed kernel leaves it behind

    def list_urls(self) -> list[str]:
        """Ask the agent, if it still runs, which addresses it holds open: this one, and those of other servers."""
        with suppress(*NO_ANSWER):
            if process.is_process_running(self._config.ngrok_path):
                return [str(endpoint.public_url) for endpoint in ngrok.get_tunnels(self._config)]
        return []

    def close(self) -> None:
        """Close the tunnel, stop the agent unless another server uses it, and remove its configuration."""
        with suppress(*NO_ANSWER):
            if self.public_url:
                ngrok.disconnect(self.public_url, self._config)
        if not self.list_urls():
            ngrok.kill(self._config)
        self._folder.cleanup()


def say_no_link(why: str) -> None:
    """Say that there is no public address, why, and what to do, in one sentence that never holds the token."""
    say(f"No public link: {why} The local address works.")


def find_token(tunnel: str | None) -> str:
    """Find ngrok's token, if a tunnel by ngrok is wanted; else "", with a sentence saying why it cannot be had.

    Args:
        tunnel: "ngrok", "colab", None, or "auto": ngrok if a token is found, else Colab's proxy if on Colab.
    """
    if tunnel == "colab" and not is_colab():
        say_no_link("tunnel='colab' works in a Colab notebook only: use tunnel='ngrok' here.")
    if tunnel in (None, "colab"):
        return ""
    token = _read_token().strip(" \t\r\n'\"")
    if re.fullmatch(r"[A-Za-z0-9]{10,}_[A-Za-z0-9]{10,}", token):
        return token
    if token:
        say_no_link(f"what was given as ngrok token is a placeholder or cut short: {_SET_TOKEN}")
    elif tunnel == "ngrok" or not is_colab():
        say_no_link(f"no ngrok token was found: {_SET_TOKEN}")
    return ""


def _read_token() -> str:
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


def explain(error: Exception) -> str:
    """Turn an error of `Tunnel` into one sentence: of the agent's words only the code, as they hold the token."""
    path = conf.PyngrokConfig().ngrok_path
    if isinstance(error, PyngrokNgrokInstallError):
        return f"the ngrok agent could not be downloaded: check the network, or put it at {path} yourself."
    if code := re.search(r"ERR_NGROK_\d+", str(error)):
        if code[0] in ("ERR_NGROK_105", "ERR_NGROK_107", "ERR_NGROK_4018"):
            return f"ngrok refused the token ({code[0]}), which has perhaps expired or been reset: {_SET_TOKEN}"
        return f"ngrok refused to open a tunnel: see https://ngrok.com/docs/errors/{code[0].lower()}."
    if isinstance(error, OSError):
        return f"the ngrok agent at {path} cannot be run ({error.strerror}): delete it and serve again."
    return f"ngrok did not answer within {START_TIMEOUT} seconds: check the network and serve again."


def show_in_colab(port: int, has_link: bool) -> None:
    """Say what Colab allows; without a link, show the page below by its own proxy, which only its user can reach."""
    say(COLAB_RULES)
    if not has_link:
        say("Shown below by Colab's own proxy, for you alone; to share it, set an ngrok token.")
        importlib.import_module("google.colab.output").serve_kernel_port_as_iframe(port, height="720")
