"""The package from a shell: `python -m nlpbook_helpers serve --checkpoint FOLDER`."""

import argparse
import signal
import sys
import threading
from contextlib import ExitStack


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m nlpbook_helpers", description="Serve trained classifiers.")
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="open the pages of classifiers on this machine, until Ctrl-C")
    serving.add_argument(
        "--checkpoint", required=True, nargs="+", action="extend", help="checkpoint files or folders, a page for each"
    )
    serving.add_argument("--port", type=int, default=5000, help="port of the first page (default 5000)")
    serving.add_argument("--tunnel", choices=("ngrok",), help="also open public addresses, with keys")
    args = parser.parse_args(arguments)

    if not 0 <= args.port <= 65_536 - len(args.checkpoint):
        parser.error(f"--port: expected 0 to {65_536 - len(args.checkpoint)}, a port for each page, got {args.port}")

    from nlpbook_helpers import CheckpointError, Classifier, get_web_service_app, serve

    try:
        classifiers = [Classifier.from_checkpoint(path) for path in args.checkpoint]
    except CheckpointError as error:
        print(error, file=sys.stderr)
        return 1
    stopped = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stopped.set())
    with ExitStack() as servers:
        for number, classifier in enumerate(classifiers):
            app = get_web_service_app(classifier.inference_fn)
            servers.enter_context(serve(app, port=args.port + number, tunnel=args.tunnel))
        print("Ctrl-C ends it", flush=True)
        while not stopped.wait(timeout=1):  # a bare wait() cannot be interrupted on Windows
            pass
    print("closed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
