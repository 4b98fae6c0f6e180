"""A production server (waitress) in a background thread, so that a notebook's cell returns at once."""

import atexit
import contextlib
import errno
import json
import logging
import re
import secrets
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from flask import Flask
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import create_server
from waitress.task import ErrorTask

from nlpbook_helpers.web.access import ACCESS_KEY, BEGAN, IS_LOGGED, IS_PUBLIC, IS_TUNNELLED, LOCAL_HOSTS, REQUEST_ID
from nlpbook_helpers.web.app import say
from nlpbook_helpers.web.language import choose_language
from nlpbook_helpers.web.requests import ApiError, describe_error
from nlpbook_helpers.web.responses import SECURITY_HEADERS
from nlpbook_helpers.web.service import MAX_EXPLANATIONS, MAX_REQUESTS, Service
from nlpbook_helpers.web.tunnel import Tunnel, add_key, open_tunnel

PORT = 5000
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (it is recognized, not bound)
"""Hosts that mean every address of this machine, and one of these."""
MAX_BODY_BYTES = 8 * 2**20
"""Above the app's own limit, so that the app can say what is too long; what is beyond is not read."""
MAX_UNFINISHED = 100
"""Connections that wait for their client; each further one closes another."""
REQUEST_SECONDS, READ_SECONDS = 60, 30
"""How long a request may take to arrive, byte by byte; and how long a reader may take nothing of an answer."""
MAX_AHEAD = 8
"""Requests that may stand in line on one connection; no browser or proxy sends a second before the first's answer."""
_open_servers: list["Server"] = []


class _JsonErrorTask(ErrorTask):
    """What waitress itself refuses (a body beyond its limit, broken HTTP) is answered like by the app."""

    request: Any

    def execute(self) -> None:
        error = self.request.error
        language = choose_language(self.request.headers.get("ACCEPT_LANGUAGE", ""))
        number = secrets.token_hex(4)
        described = describe_error(ApiError(error.code), language) | {"request_id": number}
        body = json.dumps({"error": described}).encode()
        self.status = f"{error.code} {error.reason}"
        headers = {"Content-Type": "application/json", "X-Request-Id": number, **SECURITY_HEADERS}
        self.response_headers = list(headers.items())
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Parser(HTTPRequestParser):
    """Refuses a request that says twice how long it is: a proxy in between may see another end of it."""

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("both Content-Length and Transfer-Encoding")


class _Channel(HTTPChannel):
    """A connection. Who opens many and sends or reads nothing, or a byte now and then, keeps nobody else out."""

    error_task_class, parser_class = _JsonErrorTask, _Parser

    def __init__(self, server: Any, *args: Any, **options: Any) -> None:
        super().__init__(server, *args, **options)
        self.make_room()

    def service(self) -> None:
        super().service()
        if self.connected:  # and waiting again, perhaps while no further one is accepted
            self.server.trigger.pull_trigger(self.make_room)

    def make_room(self) -> None:
        """Close the oldest of the most common kind: a crowd costs itself, and not one honest upload among it."""
        channels = self.server.active_channels.values()
        waiting = {one: one.kind for one in channels if one.total_outbufs_len or len(one.requests) != 1}
        if len(waiting) > MAX_UNFINISHED:
            ((commonest, _),) = Counter(waiting.values()).most_common(1)
            next(one for one, kind in waiting.items() if kind == commonest).handle_close()

    @property
    def kind(self) -> tuple[str, bool, bool]:
        """From where, whether an answer is to be read, and whether a request's body is on its way."""
        return self.addr[0], bool(self.total_outbufs_len), self.request is not None and self.request.headers_finished

    def writable(self) -> bool:
        # Not left to waitress, which closes a connection only once it can be written to.
        with self.outbuf_lock:  # whoever writes an answer holds it until some of that is sent
            if self.total_outbufs_len and time.time() - self.last_activity > READ_SECONDS:
                self.handle_close()
        return super().writable()

    def received(self, data: bytes) -> bool:
        if self.request is None:
            self.deadline = time.monotonic() + REQUEST_SECONDS
        elif time.monotonic() > self.deadline:
            self.will_close = True
        is_taken = super().received(data)
        if len(self.requests) > MAX_AHEAD:
            self.handle_close()
        return is_taken


class Server(contextlib.AbstractContextManager["Server"]):
    """A web service that answers until it is closed; a context manager too.

    Args:
        app: the app to serve.
        listener: socket on which it listens.
        asked_port: port that the user wanted, which may be another.
        key: access key, or None for none.
        access_log: write a line for each request to standard error.
    """

    url: str
    """Address on this machine."""
    public_url: str | None = None
    """Address on the internet, without the key, while a tunnel is open."""
    host: str
    """Address it listens on."""
    key: str | None
    """Access key that every visitor must bring."""
    tunnel: Tunnel | None
    """How the public address is held open."""

    def __init__(
        self, app: Flask, listener: socket.socket, asked_port: int, key: str | None, access_log: bool = False
    ) -> None:
        """Start to answer."""
        self.host, self.port = listener.getsockname()[:2]
        self.asked_port, self.key, self._access_log = asked_port, key, access_log
        host: str = WILDCARDS.get(self.host, self.host)
        self.url = f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"
        self._app, self.tunnel, self.closed = app, None, threading.Event()
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
            connection_limit=2 * MAX_UNFINISHED,
            channel_request_lookahead=1,  # without it nobody notices that a client has hung up
            max_request_header_size=2**16,
            max_request_body_size=max(MAX_BODY_BYTES, *(2 * service.max_bytes for service in self._services)),
            # X-Forwarded-Proto must reach the app, where it decides whether a cookie is Secure and nothing else.
            clear_untrusted_proxy_headers=False,
            asyncore_use_poll=True,
            ident="",
        )
        self._waitress.channel_class = _Channel
        self._thread = threading.Thread(target=self._waitress.run, name=f"nlpbook-web-{self.port}", daemon=True)
        self._thread.start()
        _open_servers.append(self)
        atexit.register(self.close)

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Hand the request to the app with what holds for this server: one app may have several."""
        is_tunnelled = self.public_url is not None
        environ |= {ACCESS_KEY: self.key, IS_TUNNELLED: is_tunnelled, REQUEST_ID: secrets.token_hex(4)}
        environ[IS_PUBLIC] = is_tunnelled or self.host not in LOCAL_HOSTS
        environ |= {IS_LOGGED: self._access_log, BEGAN: time.monotonic()}
        return self._app(environ, start_response)

    @property
    def link(self) -> str:
        """The address to open or to share: the public one if there is one, with the key if one is asked for."""
        return add_key(self.public_url or self.url, self.key)

    def close(self) -> None:
        """Close the tunnel, finish the requests being answered (5 seconds at most), free the port."""
        if self not in _open_servers:
            return
        _open_servers.remove(self)
        self.closed.set()
        atexit.unregister(self.close)
        if self.tunnel:
            self.tunnel.close()
        self.tunnel = self.public_url = None
        self._waitress.task_dispatcher.shutdown(timeout=5)
        # Sockets may be closed by the thread that waits on them only; it may be awake and done before it is woken.
        with contextlib.suppress(OSError):
            self._waitress.trigger.pull_trigger(lambda: wasyncore.close_all(self._sockets, ignore_all=True))
        self._thread.join(timeout=5)
        if all(server._app is not self._app for server in _open_servers):
            for service in self._services:
                service.close()

    def __exit__(self, *error: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Show the addresses, but not the key: it would end in a notebook's output."""
        key, state = "set" if self.key else None, "open" if self in _open_servers else "closed"
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
    if tunnel not in ("auto", "ngrok", "colab", None):
        raise ValueError(f"expected tunnel 'auto', 'ngrok', 'colab' or None, got {tunnel!r}: pick one of these")
    if not 0 <= (wanted := PORT if port is None else port) <= 65535:
        raise ValueError(f"expected a port from 0 to 65535, got {port}: pick one in this range, such as {PORT}")
    if key not in ("auto", None) and not re.fullmatch(r"[A-Za-z0-9_-]{8,}", key):
        raise ValueError("expected a key of 8 or more letters, digits, '_' or '-', got another: leave key='auto'")
    for earlier in [server for server in _open_servers if wanted and wanted in (server.asked_port, server.port)]:
        earlier.close()
    listener = _listen(host, wanted, may_move=port is None or _is_notebook())
    if host not in LOCAL_HOSTS and key == "auto":
        key = secrets.token_urlsafe(16)
    server = Server(app, listener, wanted, None if key == "auto" else key, access_log)
    open_tunnel(server, tunnel, wants_random_key=key == "auto")
    # Last, as an open tunnel makes this address ask for the key too: tunnelled requests come from this machine.
    names = ", ".join(f'"{service.title}"' for service in app.extensions["nlpbook"].together)
    say(f"Serving {names} at {add_key(server.url, server.key)} ({stop_hint})")
    return server


def _listen(host: str, port: int, may_move: bool) -> socket.socket:
    """Bind the port; or, if that may be and it is taken, any free one, and say so."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = str(error.strerror).partition(" (")[0].lower()  # the rest: where
        if error.errno in (errno.EADDRNOTAVAIL, socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_FAIL):
            remedy = "take 127.0.0.1 for this machine alone, or 0.0.0.0 for all that can reach it"
            raise OSError(f"host: expected an address of this machine, got {host} ({why}): {remedy}") from None
        if not may_move:
            remedy = "choose another port, or 0 for any free one"
            raise OSError(f"expected a free port of {host}, got {port} ({why}): {remedy}") from None
    listener = socket.create_server((host, 0), family=family)
    say(f"Port {port} cannot be used ({why}), so port {listener.getsockname()[1]} is used instead.")
    return listener


def _is_notebook() -> bool:
    """Tell whether a cell is running: there, a page on another port is better than none."""
    ipython = sys.modules.get("IPython")
    return bool(ipython and ipython.get_ipython())
