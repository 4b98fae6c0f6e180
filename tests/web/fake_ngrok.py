"""A stand-in for the ngrok agent: it takes the agent's arguments, prints its log and serves its HTTP API.

It stays on loopback: its "public" address is the local one. Environment: FAKE_NGROK_MODE (ok, refused, offline,
endpoint) says how it fares, FAKE_NGROK_RECORD names the file where it writes down how it was started. Its log is worded
as the real agent's, the token in its refusal included.

Source: https://ngrok.com/docs/agent/api, and logs in public issues (inconshreveable/ngrok#474).
"""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODE = os.environ.get("FAKE_NGROK_MODE", "ok")
REFUSED = r"authentication failed: The authtoken you specified is invalid.\nYour authtoken: {}\n\nERR_NGROK_107\r\n"
OFFLINE = "failed to dial ngrok server: dial tcp: lookup connect.ngrok-agent.com: no such host"
endpoints: dict[str, dict[str, object]] = {}


def log(message: str, **values: str) -> None:
    level = "eror" if "err" in values else "info"
    rest = " ".join(f'{name}="{value}"' for name, value in values.items())
    print(f't=2026-01-01T00:00:00+0000 lvl={level} msg="{message}" {rest}', flush=True)


class Api(BaseHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass

    def reply(self, status: int, body: object) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_GET(self) -> None:  # noqa: N802
        self.reply(200, {"endpoints": list(endpoints.values())})

    def do_POST(self) -> None:  # noqa: N802
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name, address = asked["name"], asked["upstream"]["url"]
        if MODE == "endpoint":
            return self.reply(502, {"details": {"err": "failed to start endpoint: ERR_NGROK_334"}})
        uri = f"/api/endpoints/{name}"
        endpoints[name] = {"name": name, "uri": uri, "url": address, "upstream": {"url": address}}
        self.reply(201, endpoints[name])

    def do_DELETE(self) -> None:  # noqa: N802
        endpoints.pop(self.path.rsplit("/", 1)[1], None)
        self.reply(200, {})


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[0] != "start":
        return print("ngrok version 3.99.0")
    path = Path(arguments[arguments.index("--config") + 1])
    config = path.read_text(encoding="utf-8")
    modes = [one.stat().st_mode & 0o777 for one in (path, path.parent)]
    record = {"pid": os.getpid(), "arguments": arguments, "path": str(path), "config": config, "modes": modes}
    file = Path(os.environ["FAKE_NGROK_RECORD"])
    file.with_suffix(".new").write_text(json.dumps(record), encoding="utf-8")
    file.with_suffix(".new").replace(file)  # at once, as a test may be reading
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    log("starting web service", obj="web", addr=f"127.0.0.1:{server.server_port}")
    while MODE in ("refused", "offline"):
        problem = OFFLINE if MODE == "offline" else REFUSED.format(config.partition("authtoken: ")[2].split()[0])
        log("session closing", obj="tunnels.session", err=problem)
        time.sleep(0.2)
    log("client session established", obj="tunnels.session")
    log("tunnel session started", obj="tunnels.session")
    server.serve_forever()


if __name__ == "__main__":
    main()
