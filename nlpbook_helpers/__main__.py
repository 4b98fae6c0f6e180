"""The package from a shell: `python -m nlpbook_helpers serve --checkpoint FOLDER`."""

import argparse
import signal
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m nlpbook_helpers", description="Serve a trained classifier.")
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="open the page of a classifier on this machine, until Ctrl-C")
    serving.add_argument("--checkpoint", required=True, help="checkpoint file or folder")
    serving.add_argument("--port", type=int, default=5000, help="port on this machine (default 5000)")
    serving.add_argument("--tunnel", choices=("ngrok",), help="also open a public address, with a key")
    args = parser.parse_args(arguments)

    from nlpbook_helpers import CheckpointError, Classifier, get_web_service_app, serve

    try:
        classifier = Classifier.from_checkpoint(args.checkpoint)
    except CheckpointError as error:
        print(error, file=sys.stderr)
        return 1
    with serve(get_web_service_app(classifier.inference_fn), port=args.port, tunnel=args.tunnel):
        print("Ctrl-C ends it", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped service closes as on Ctrl-C
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("closed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
