"""The package from a shell: `python -m nlpbook_helpers train`, `serve`, `predict` and `export`."""

import argparse
import os
import signal
import sys
import threading
from contextlib import ExitStack, redirect_stdout

TITLES = {1: "문서 분류기", 2: "문장 쌍 분류기"}  # of a page, by the number of texts that it asks for
INTERRUPTED = 130  # the exit status of shells after Ctrl-C


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["train"]:
        return _train(arguments[1:])
    parser, args = _parse_arguments(arguments)
    if args.command == "serve" and not 0 <= args.port <= 65_536 - len(args.checkpoint):
        parser.error(f"--port: expected 0 to {65_536 - len(args.checkpoint)}, a port for each page, got {args.port}")

    import transformers

    transformers.logging.disable_progress_bar()  # a bar for a load of milliseconds, before the one that matters
    try:
        return {"serve": _serve, "predict": _predict, "export": _export}[args.command](args)
    except (ValueError, OSError) as error:  # what the package refuses, and what the disk does
        print(error, file=sys.stderr)
        return 1


def _train(arguments: list[str]) -> int:
    """Train with the arguments of a JSON file, those of the command line before them."""
    from transformers import HfArgumentParser

    from nlpbook_helpers import ClassificationTrainArguments

    parser = HfArgumentParser(
        ClassificationTrainArguments,  # type: ignore[arg-type]
        prog="python -m nlpbook_helpers train",
        description="Fine-tune a classifier, alone or under torchrun or SLURM. Each argument may stand in the file.",
    )
    parser.add_argument("file", nargs="?", help="JSON object of arguments; those of the command line win")
    try:
        if file := parser.parse_known_args(arguments)[0].file:
            from nlpbook_helpers.trainer import read_arguments

            parser.set_defaults(**read_arguments(file))
        args, _ = parser.parse_args_into_dataclasses(arguments)
        from nlpbook_helpers import train

        # of several processes the first one speaks
        with ExitStack() as outputs:
            ranks = (os.environ[name] for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ)
            if next(ranks, "0") != "0":
                outputs.enter_context(redirect_stdout(outputs.enter_context(open(os.devnull, "w"))))
            train(args)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _parse_arguments(arguments: list[str]) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(prog="python -m nlpbook_helpers", description="Train and use classifiers.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("train", help="fine-tune a classifier; `train --help` lists every argument")
    serving = commands.add_parser("serve", help="open the pages of classifiers on this machine, until Ctrl-C")
    serving.add_argument(
        "--checkpoint", required=True, nargs="+", action="extend", help="checkpoint files or folders, a page for each"
    )
    serving.add_argument("--port", type=int, default=5000, help="port of the first page (default 5000)")
    serving.add_argument("--tunnel", choices=("ngrok",), help="also open public addresses, with keys")
    scoring = commands.add_parser(
        "predict", help="score a file or a folder; interrupted, the same command goes on where it stopped"
    )
    scoring.add_argument("--checkpoint", required=True, help="checkpoint file or folder")
    scoring.add_argument(
        "--input",
        required=True,
        help="CSV, TSV, JSONL, JSON or Parquet file, or a folder of them; or an address (s3://…)",
    )
    scoring.add_argument(
        "--output",
        required=True,
        help=".csv, .tsv, .jsonl or .parquet file: input columns and predictions; any other name is a folder, which "
        "gets a file of the same name and format for each of the input",
    )
    scoring.add_argument(
        "--text-columns",
        nargs="+",
        metavar="NAME",
        help="columns of the texts (default: as in training, or usual ones)",
    )
    scoring.add_argument("--max-seq-length", type=int, help="tokens read at once (default: as in training)")
    scoring.add_argument("--overwrite", action="store_true", help="replace an output that exists")
    scoring.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="local: this process; ray: all processors or GPUs of this machine or of a Ray cluster (default local)",
    )
    scoring.add_argument("--address", help="Ray cluster (default: RAY_ADDRESS, else this machine alone)")
    scoring.add_argument(
        "--gpus-per-worker", type=float, default=1, metavar="N", help="for ray: 0.5 lets two share a GPU (default 1)"
    )
    exporting = commands.add_parser("export", help="write a classifier as a Hugging Face folder with a model card")
    exporting.add_argument("--checkpoint", required=True, help="checkpoint file or folder")
    exporting.add_argument("--output", required=True, help="folder to write")
    exporting.add_argument("--onnx", action="store_true", help="also write onnx/model.onnx, and compare its answers")
    exporting.add_argument("--licence", help="for the model card (default: that of the corpus, if it is known)")
    exporting.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    return parser, parser.parse_args(arguments)


def _export(args: argparse.Namespace) -> int:
    from nlpbook_helpers import QuantizationError, export

    try:
        print(export(args.checkpoint, args.output, args.onnx, args.licence, args.overwrite))
    except QuantizationError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _predict(args: argparse.Namespace) -> int:
    from nlpbook_helpers import Classifier, score_file
    from nlpbook_helpers.scoring import KEPT_KERNELS

    os.environ.setdefault(*KEPT_KERNELS)
    classifier = Classifier.from_checkpoint(args.checkpoint, max_seq_length=args.max_seq_length)
    try:
        print(
            score_file(
                classifier, args.input, args.output, args.text_columns, args.overwrite, args.engine, args.address,
                args.gpus_per_worker,
            )
        )  # fmt: skip
    except KeyboardInterrupt:
        print("\nstopped: the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    return 0


def _serve(args: argparse.Namespace) -> int:
    from nlpbook_helpers import Classifier, get_web_service_app, serve

    classifiers = [Classifier.from_checkpoint(path) for path in args.checkpoint]
    stopped = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stopped.set())
    with ExitStack() as servers:
        for number, classifier in enumerate(classifiers):
            app = get_web_service_app(classifier.inference_fn, title=TITLES[len(classifier.input_names)])
            port = args.port + number if args.port else 0
            servers.enter_context(serve(app, port=port, tunnel=args.tunnel, stop_hint="Ctrl-C ends it"))
        while not stopped.wait(timeout=1):  # a bare wait() cannot be interrupted on Windows
            pass
    print("closed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
