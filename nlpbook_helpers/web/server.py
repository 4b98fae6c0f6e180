"""A production server (waitress) in a background thread, so that a notebook's cell returns at once."""

import contextlib
import errno
import logging
import re
import secrets
import socket
import sys
import threading
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from flask import Flask
from pyngrok.exception import PyngrokError
from waitress import wasyncore
from waitress.server import create_server
from werkzeug.middleware.proxy_fix import ProxyFix

from nlpbook_helpers.runtime import is_colab
from nlpbook_helpers.web import connections
from nlpbook_helpers.web.access import ACCESS_KEY, HANDED_ON_BY, IS_LOGGED, LOCAL_HOSTS
from nlpbook_helpers.web.app import say
from nlpbook_helpers.web.service import MAX_EXPLANATIONS, MAX_REQUESTS, Service
from nlpbook_helpers.web.tunnel import Tunnel, explain, find_token, say_no_link, show_in_colab

PORT = 5000
# Hosts that mean every address of this machine, and one of these.
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (it is recognized, not bound)
WATCH_SECONDS = 2  # how often an open tunnel is looked after
MOST_PAUSE = 300  # seconds between two tries to open another
# Errors of a host that is none of this machine's.
FOREIGN = (errno.EADDRNOTAVAIL, socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_FAIL)
_open_servers: list["Server"] = []


class Server(contextlib.AbstractContextManager["Server"]):
    """A web service that answers until it is closed; a context manager too.

    Args:
        app: the app to serve.
        listener: socket on which it listens.
        asked_port: port that the user wanted, which may be another.
        key: access key that every visitor must bring, or None for none.
        access_log: write a line for each request to standard error.

    Attributes:
        url: address on this machine.
        public_url: address on the internet, without the key, while a tunnel is open.
        host: address it listens on, at `port`.
        tunnel: how the public address is held open.
        closed: set once it is closed.
    """

    def __init__(self, app: Flask, listener: socket.socket, asked_port: int, key: str | None, access_log: bool) -> None:
        """Start to answer."""
        self.host: str = listener.getsockname()[0]
        self.port: int = listener.getsockname()[1]
        self.asked_port, self.key, self._access_log = asked_port, key, access_log
        host = WILDCARDS.get(self.host, self.host)
        self.url = f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"
        self.public_url: str | None = None
        self.tunnel: Tunnel | None = None
        self._app, self.closed = app, threading.Event()
        self._services: list[Service] = app.extensions["nlpbook"].together
        # One warning per queued request would fill the notebook's cell.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._sockets: dict[int, Any] = {}  # waitress keeps its own in it
        self._waitress: Any = create_server(
            self._answer,
            map=self._sockets,
            sockets=[listener],
            server_name=self.host,
            # A request waits for its answer in a thread: more of these than may wait, so that some are free to refuse.
            threads=(MAX_REQUESTS + MAX_EXPLANATIONS) * len(self._services) + 8,
            channel_timeout=30,  # seconds
            connection_limit=2 * connections.MAX_UNFINISHED,
            channel_request_lookahead=1,  # without it nobody notices that a client has hung up
            max_request_header_size=2**16,
            # Above the app's own limit, so that the app can say what is too long; what is beyond is not read.
            max_request_body_size=2 * max(service.max_bytes for service in self._services),
            clear_untrusted_proxy_headers=False,  # `_answer` reads them
            asyncore_use_poll=True,
            ident="",
        )
        self._waitress.channel_class = connections.Channel
        self._thread = threading.Thread(target=self._waitress.run, name=f"nlpbook-web-{self.port}", daemon=True)
        self._thread.start()
        _open_servers.append(self)

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Hand the request to the app with what holds for this server: one app may have several."""
        handed_on_by = "tunnel" if self.public_url else "proxy" if has_proxy(self._app) else None
        environ |= {ACCESS_KEY: self.key, HANDED_ON_BY: handed_on_by, IS_LOGGED: self._access_log}
        # Handed on, a request comes from the last in X-Forwarded-For, whom tunnel or proxy saw itself. Anybody may send
        # X-Forwarded-Proto, which decides whether a cookie is Secure and nothing else.
        return ProxyFix(self._app, x_for=1 if handed_on_by else 0)(environ, start_response)

    @property
    def link(self) -> str:
        """The address to open or to share: the public one if there is one, with the key if one is asked for."""
        return self._add_key(self.public_url or self.url)

    def _add_key(self, url: str) -> str:
        """Return the address that lets its reader in."""
        return f"{url}/?key={self.key}" if self.key else url

    def describe(self) -> str:
        """Say what is served at which address of this machine: several pages may have one title, but not one name."""
        if len(self._services) == 1:
            return f'"{self._services[0].title}" at {self._add_key(self.url)}'
        addresses = {one.name: f"{self.url}/models/{quote(one.name)}" for one in self._services}
        return ", ".join(f"{name} at {self._add_key(address)}" for name, address in addresses.items())

    def open_tunnel(self, token: str, wants_key: bool = False) -> None:
        """Put this server on the internet if it can be, and print where, or one sentence saying why not."""
        say("ngrok is opening a public address: this may take half a minute.")
        if wants_key:  # before the tunnel opens: nobody may come in between
            self.key = secrets.token_urlsafe(16)
        try:
            tunnel = Tunnel(self.port, token)
        except (PyngrokError, OSError) as error:
            self.key = None if wants_key else self.key
            say_no_link(explain(error))
            return
        self._share(tunnel)
        threading.Thread(target=self._watch, args=(tunnel, token), daemon=True).start()

    def _watch(self, tunnel: Tunnel, token: str) -> None:
        """Until this server is closed, notice a tunnel that is gone, say so and open another."""
        while not self.closed.wait(WATCH_SECONDS):
            if tunnel.public_url not in tunnel.list_urls() and not self.closed.is_set():
                self.tunnel = self.public_url = None
                tunnel.close()
                say("The public link has closed, as the ngrok agent has ended: another is opened.")
                tunnel = self._reopen(token) or tunnel

    def _reopen(self, token: str) -> Tunnel | None:
        """Try until a tunnel is open, or this server closed, in pauses that grow; why it fails is said once."""
        pause = WATCH_SECONDS
        while not self.closed.wait(pause):
            try:
                tunnel = Tunnel(self.port, token)
            except (PyngrokError, OSError) as error:
                if pause == WATCH_SECONDS:
                    say_no_link(explain(error))
                    say(f"It is tried again until this server is closed, at last every {MOST_PAUSE // 60} minutes.")
                pause = min(2 * pause, MOST_PAUSE)
            else:
                self._share(tunnel)
                return tunnel
        return None

    def _share(self, tunnel: Tunnel) -> None:
        """Take an open tunnel and say its address, unless this server was closed meanwhile."""
        self.tunnel, self.public_url = tunnel, tunnel.public_url
        if self.closed.is_set():
            tunnel.close()
            self.tunnel = self.public_url = None
            return
        who = "anyone who has this link" if self.key else "anyone at all, as key=None"
        say(f"Public link: {self.link} (open to {who})")

    def close(self) -> None:
        """Close the tunnel, finish the requests being answered (5 seconds at most), free the port."""
        if self.closed.is_set():
            return
        self.closed.set()
        _open_servers.remove(self)
        if self.tunnel:
            self.tunnel.close()
        self.tunnel = self.public_url = None
        self._waitress.task_dispatcher.shutdown(timeout=5)
        # Sockets may be closed by the thread that waits on them only; it may be awake and done before it is woken.
        with contextlib.suppress(OSError):
            self._waitress.trigger.pull_trigger(lambda: wasyncore.close_all(self._sockets, ignore_all=True))
        self._thread.join(timeout=5)
        for service in self._services:
            service.close()

    def __exit__(self, *error: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Show the addresses, but not the key: it would end in a notebook's output."""
        key, state = "set" if self.key else None, "closed" if self.closed.is_set() else "open"
        return f"Server(url={self.url!r}, public_url={self.public_url!r}, key={key}, {state})"


def serve(
    app: Flask, port: int | None = None, tunnel: str | None = "auto", key: str | None = "auto",
    stop_hint: str = "stop with server.close()", host: str = "127.0.0.1", access_log: bool = False,
) -> Server:  # fmt: skip
    """Serve an app from this process and return at once; run again, it replaces the server on that port.

    Args:
        app: from `get_web_service_app(inference_fn)`.
        port: 0: any free one; None: 5000, or a free one if it is taken, as any may be in a notebook.
        tunnel: "ngrok", "colab" (Colab's own proxy, for its user alone), None (this machine alone), or
            "auto": ngrok where a token is found, else Colab's proxy on Colab, else this machine alone.
        key: "auto" makes a random access key if others can come in, None asks for none, or your own.
        stop_hint: how to stop it, for the line that is printed.
        host: address to listen on; "0.0.0.0" or "::" lets in who can reach this machine.
        access_log: write a line for each request to standard error.

    Returns:
        The running server: `.url`, `.public_url`, `.key`, `.close()`.

    Raises:
        ValueError: an argument is out of its range; a tunnel that fails is a printed sentence, no error.
        OSError: the port is taken, or the host none of this machine's.
    """
    _check_arguments(port, tunnel, key)
    wanted = PORT if port is None else port
    for earlier in [server for server in _open_servers if wanted and wanted in (server.asked_port, server.port)]:
        earlier.close()
    listener = _listen(host, wanted, may_move=port is None)
    if key == "auto" and (host not in LOCAL_HOSTS or has_proxy(app)):
        key = secrets.token_urlsafe(16)
    server = Server(app, listener, wanted, None if key == "auto" else key, access_log)
    if token := find_token(tunnel):
        server.open_tunnel(token, wants_key=key == "auto")
    if tunnel and is_colab():
        show_in_colab(server.port, bool(server.public_url))
    # Last, as an open tunnel makes this address ask for the key too: tunnelled requests come from this machine.
    say(f"Serving {server.describe()} ({stop_hint})")
    return server


def has_proxy(app: Flask) -> bool:
    """Tell whether others come in through a proxy, as one of the app's pages names hosts of it."""
    return any(service.trusted_hosts for service in app.extensions["nlpbook"].together)


def check_place(host: str, port: int | None, tunnel: str | None, key: str | None) -> None:
    """Refuse what `serve` would refuse, before a model has been loaded in vain.

    Raises:
        ValueError, OSError: as by `serve`.
    """
    _check_arguments(port, tunnel, key)
    _listen(host, port or 0, may_move=False).close()


def _check_arguments(port: int | None, tunnel: str | None, key: str | None) -> None:
    if tunnel not in ("auto", "ngrok", "colab", None):
        raise ValueError(f"expected tunnel 'auto', 'ngrok', 'colab' or None, got {tunnel!r}: pick one of these")
    if port is not None and not 0 <= port <= 65535:
        raise ValueError(f"expected a port from 0 to 65535, got {port}: pick one in this range, such as {PORT}")
    if key not in ("auto", None) and not re.fullmatch(r"[A-Za-z0-9_-]{8,}", key):
        raise ValueError("expected a key of 8 or more letters, digits, '_' or '-', got another: leave key='auto'")


def _listen(host: str, port: int, may_move: bool) -> socket.socket:
    """Bind the port; or, if that may be and it is taken, any free one, and say so."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = str(error.strerror).partition(" (")[0].lower()  # the rest: where
        if error.errno in FOREIGN:
            remedy = "take 127.0.0.1 for this machine alone, or 0.0.0.0 for all that can reach it"
            raise OSError(f"host: expected an address of this machine, got {host} ({why}): {remedy}") from None
        # In a notebook's cell, a page on another port is better than none.
        is_notebook = "IPython" in sys.modules and sys.modules["IPython"].get_ipython()
        if not may_move and not is_notebook:
            remedy = "choose another port, or 0 for any free one"
            raise OSError(f"expected a free port of {host}, got {port} ({why}): {remedy}") from None
    listener = socket.create_server((host, 0), family=family)
    say(f"Port {port} cannot be used ({why}), so port {listener.getsockname()[1]} is used instead.")
    return listener
