"""What waitress does with one connection, made fit for strangers: crowds, slow readers, broken and ambiguous HTTP."""

import time
from collections import Counter
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError, TransferEncodingNotImplemented
from waitress.task import WSGITask

MAX_UNFINISHED = 100  # connections that wait for their client; each further one closes another
REQUEST_SECONDS = 60  # how long a request may take to arrive, byte by byte
READ_SECONDS = 30  # how long a reader may take nothing of an answer
# Requests that may stand in line on one connection; no browser or proxy sends a second before the first's answer.
MAX_AHEAD = 8
REFUSED = "nlpbook.refused"  # the WSGI environment's name for the status with which waitress refuses a request


class _RefusalTask(WSGITask):
    """What waitress itself refuses (a body beyond its limit, broken HTTP) is said by the app, like all else."""

    request: Any

    def get_environment(self) -> dict[str, Any]:
        self.set_close_on_finish()  # what follows on this connection may be part of the same request
        return super().get_environment() | {REFUSED: self.request.error.code}


class _Parser(HTTPRequestParser):
    """Refuses a request whose end is unclear: a proxy in between may see another."""

    # of a request that is broken before it says so
    command, path, query, request_uri, url_scheme = "GET", "/", "", "/", "http"  # type: ignore[assignment]

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except (TransferEncodingNotImplemented, ValueError) as error:  # the client's fault, and not one of the server
            raise ParsingError(*error.args) from None
        # waitress keeps the header only where it has not heeded it: in HTTP/1.0, which has no such thing
        if "TRANSFER_ENCODING" in self.headers or (self.chunked and "CONTENT_LENGTH" in self.headers):
            raise ParsingError("both Content-Length and Transfer-Encoding")


class Channel(HTTPChannel):
    """A connection. Who opens many and sends or reads nothing, or a byte now and then, keeps nobody else out."""

    server: Any
    error_task_class, parser_class = _RefusalTask, _Parser  # type: ignore[assignment]

    def __init__(self, server: Any, *args: Any, **options: Any) -> None:
        super().__init__(server, *args, **options)
        self.make_room()

    def service(self) -> None:
        """Have a request answered; then it waits again, perhaps while no further one is accepted."""
        super().service()
        if self.connected:
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
        """Give up on a reader who takes nothing: waitress closes what can be written to only."""
        with self.outbuf_lock:  # whoever writes an answer holds it until some of that is sent
            if self.total_outbufs_len and time.time() - self.last_activity > READ_SECONDS:
                self.handle_close()
        return super().writable()

    def received(self, data: bytes) -> bool:
        """Take what has come, if it comes in time and in turn."""
        if self.request is None:
            self.deadline = time.monotonic() + REQUEST_SECONDS
        elif time.monotonic() > self.deadline:
            self.will_close = True
        is_taken = super().received(data)
        if len(self.requests) > MAX_AHEAD:
            self.handle_close()
        return is_taken
