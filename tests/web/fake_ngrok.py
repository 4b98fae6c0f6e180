"""A stand-in for the ngrok agent: it takes the agent's arguments, prints its log and serves its HTTP API.

It stays on loopback: its "public" address is a port that forwards to the upstream the way ngrok does, with
`X-Forwarded-Proto: https`. Environment: FAKE_NGROK_MODE (ok, refused, busy, offline, endpoint) says how it fares,
FAKE_NGROK_RECORD names the file where it writes down how it was started. Its log is worded as the real agent's,
the token in its refusal included.

Source: https://ngrok.com/docs/agent/api, and logs in public issues (inconshreveable/ngrok#474).
"""

import json
import os
import re
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODE = os.environ.get("FAKE_NGROK_MODE", "ok")
ERRORS = {
    "refused": r"authentication failed: The authtoken you specified is properly formed, but it is invalid.\n"
    r"Your authtoken: {token}\nThis usually happens when:\n\nERR_NGROK_107\r\n",
    "busy": r"authentication failed: Your account is limited to 1 simultaneous ngrok agent sessions.\n"
    r"\nERR_NGROK_108\r\n",
    "offline": "failed to dial ngrok server: dial tcp: lookup connect.ngrok-agent.com: no such host",
}
endpoints: dict[str, dict[str, object]] = {}


def log(level: str, message: str, **values: str) -> None:
    rest = " ".join(f'{name}="{value}"' for name, value in values.items())
    print(f't=2026-01-01T00:00:00+0000 lvl={level} msg="{message}" {rest}', flush=True)


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass

    def read_body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {"Content-Type": "application/json"}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def make_forwarder(upstream: str) -> type[Quiet]:
    class Forwarder(Quiet):
        def forward(self) -> None:
            headers = {**self.headers, "X-Forwarded-Proto": "https"}
            request = urllib.request.Request(
                upstream + self.path, self.read_body() or None, headers, method=self.command
            )
            opener = urllib.request.build_opener(KeepRedirects, urllib.request.ProxyHandler({}))
            try:
                with opener.open(request, timeout=5) as answer:
                    self.reply(answer.status, answer.read(), dict(answer.headers))
            except urllib.error.HTTPError as error:
                self.reply(error.code, error.read(), dict(error.headers))

        do_GET = do_POST = forward  # noqa: N815

    return Forwarder


class KeepRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


def start(handler: type[Quiet]) -> str:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"127.0.0.1:{server.server_port}"


class Api(Quiet):
    def do_GET(self) -> None:  # noqa: N802
        self.reply(200, json.dumps({"endpoints": list(endpoints.values())}).encode())

    def do_POST(self) -> None:  # noqa: N802
        asked = json.loads(self.read_body())
        if MODE == "endpoint":
            details = {"err": "failed to start endpoint: ERR_NGROK_334"}
            return self.reply(502, json.dumps({"error_code": 103, "details": details}).encode())
        name, upstream = asked["name"], asked["upstream"]["url"]
        url = f"http://{start(make_forwarder(upstream))}"
        endpoints[name] = {
            "name": name,
            "uri": f"/api/endpoints/{name}",
            "url": url,
            "upstream": {"url": upstream},
        }
        self.reply(201, json.dumps(endpoints[name]).encode())

    def do_DELETE(self) -> None:  # noqa: N802
        endpoints.pop(self.path.rsplit("/", 1)[1], None)
        self.reply(204)


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[0] != "start":
        print("ngrok version 3.99.0")
        return
    path = arguments[arguments.index("--config") + 1]
    with open(path, encoding="utf-8") as file:
        config = file.read()
    modes = {"file": os.stat(path).st_mode & 0o777, "folder": os.stat(os.path.dirname(path)).st_mode & 0o777}
    record = {"pid": os.getpid(), "arguments": arguments, "path": path, "config": config, **modes}
    with open(os.environ["FAKE_NGROK_RECORD"], "w", encoding="utf-8") as file:
        json.dump(record, file)
    log("info", "starting web service", obj="web", addr=start(Api))
    if MODE in ERRORS:
        found = re.search(r"authtoken: (\S+)", config)
        text = ERRORS[MODE].replace("{token}", found[1] if found else "")
        while True:
            log("eror", "session closing", obj="tunnels.session", err=text)
            if MODE != "offline":
                sys.exit(1)
            time.sleep(0.2)
    log("info", "client session established", obj="tunnels.session")
    log("info", "tunnel session started", obj="tunnels.session")
    threading.Event().wait()


if __name__ == "__main__":
    main()
