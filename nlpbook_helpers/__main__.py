"""The package from a shell: `nlpbook train`, `predict`, `serve` and `export`, or `python -m nlpbook_helpers …`.

Each command is a function of the table `COMMANDS`: its parameters are the options, its docstring is their help. What
takes long to import is imported when it is used, so that `--help` answers at once and Ctrl-C is heeded while it loads.
"""

import os
import signal
import sys
import threading
from contextlib import ExitStack, redirect_stdout, suppress
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, get_type_hints

import nlpbook_helpers as nlpbook
from nlpbook_helpers.arguments import ClassificationTrainArguments, get_embedded_path

TITLES = {1: "문서 분류기", 2: "문장 쌍 분류기"}  # of a page, by the number of texts that it asks for
REFUSED, MISUSED, INTERRUPTED = 1, 2, 130  # exit statuses; the last two are those of every shell command


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What was typed after the program's name; None: `sys.argv`.

    Returns:
        The exit status: 0, or one of `REFUSED`, `MISUSED` and `INTERRUPTED` after a sentence on standard error.
    """
    for stream in (sys.stdout, sys.stderr):
        # a console without Hangul shows \uc601 instead of failing after the work is done
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except (ValueError, OSError, ImportError) as error:  # what the package refuses, the disk does, or is not installed
        print(error, file=sys.stderr)
        return REFUSED
    except (KeyboardInterrupt, SystemExit) as error:
        # Lightning tidies up after Ctrl-C and leaves by a SystemExit of its own
        if isinstance(error, SystemExit) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        print("\nstopped: run again, train and predict go on with what is done", file=sys.stderr)
        return INTERRUPTED


def train(file: Path | None = None, /, settings: Any = None) -> None:
    """Fine-tune a classifier, alone or under torchrun or SLURM; interrupted, the same command goes on.

    Args:
        file: JSON object of the options below; those of the command line win
        settings: the options given, see `_make_settings`
    """
    with ExitStack() as outputs:
        # of several processes the first one speaks
        ranks = (os.environ[name] for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ)
        if next(ranks, "0") != "0":
            outputs.enter_context(redirect_stdout(outputs.enter_context(open(os.devnull, "w"))))
        _announce("training: loading PyTorch")
        from nlpbook_helpers.arguments import read_arguments

        given = (read_arguments(file) if file else {}) | (settings or {})
        nlpbook.train(ClassificationTrainArguments(**given))


def predict(
    *,
    checkpoint: str,
    input: str,
    output: str,
    text_columns: list[str] | None = None,
    max_seq_length: int | None = None,
    encoding: str = "utf-8",
    quoting: bool = True,
    overwrite: bool = False,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    gpus_per_worker: float = 1,
) -> None:
    """Score a file or a folder; interrupted, the same command goes on where it stopped.

    Args:
        checkpoint: checkpoint file or folder, or the name of a shipped one, as doccls
        input: CSV, TSV, JSONL, JSON or Parquet file, or a folder of them; or an address (s3://…)
        output: .csv, .tsv, .jsonl or .parquet file: input columns and predictions; any other name is a folder, which
            gets a file of the same name and format for each of the input
        text_columns: columns of the texts; else those of the training, or usual ones
        max_seq_length: tokens read at once; else as in training
        encoding: of input files of text, for example cp949
        quoting: --no-quoting reads a quote mark in a CSV or TSV file as a character like any other
        overwrite: replace an output that exists
        engine: local: this process; ray: all processors or GPUs of this machine or of a Ray cluster
        address: Ray cluster; else RAY_ADDRESS, else this machine alone
        gpus_per_worker: for ray: 0.5 lets two share a GPU
    """
    _announce(f"loading {checkpoint}")
    from nlpbook_helpers.scoring import KEPT_KERNELS

    os.environ.setdefault(*KEPT_KERNELS)
    classifier = nlpbook.Classifier.from_checkpoint(_find(checkpoint), max_seq_length=max_seq_length)
    summary = nlpbook.score_file(
        classifier, input, output, text_columns, overwrite, engine, address, gpus_per_worker, encoding, quoting
    )
    print(summary)


def serve(*, checkpoint: list[str], port: int = 5000, tunnel: Literal["ngrok"] | None = None) -> None:
    """Open the pages of classifiers on this machine, until Ctrl-C.

    Args:
        checkpoint: checkpoint files or folders, or names of shipped ones, as doccls; a page for each
        port: port of the first page, 0 for free ones
        tunnel: also open public addresses, with keys
    """
    _announce(f"loading {', '.join(checkpoint)}")
    classifiers = [nlpbook.Classifier.from_checkpoint(_find(one)) for one in checkpoint]
    stopped = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stopped.set())
    with ExitStack() as servers:
        for number, classifier in enumerate(classifiers):
            app = nlpbook.get_web_service_app(classifier.inference_fn, title=TITLES[len(classifier.input_names)])
            own_port = port + number if port else 0
            servers.enter_context(nlpbook.serve(app, port=own_port, tunnel=tunnel, stop_hint="Ctrl-C ends it"))
        while not stopped.wait(timeout=1):  # a bare wait() cannot be interrupted on Windows
            pass
    print("closed")


def export(
    *, checkpoint: str, output: str, onnx: bool = False, licence: str | None = None, overwrite: bool = False
) -> None:
    """Write a classifier as a Hugging Face folder with a model card.

    Args:
        checkpoint: checkpoint file or folder, or the name of a shipped one, as doccls
        output: folder to write
        onnx: also write onnx/model.onnx, and compare its answers
        licence: for the model card; else that of the corpus, if it is known
        overwrite: replace an earlier export
    """
    _announce(f"loading {checkpoint}")
    try:
        print(nlpbook.export(_find(checkpoint), output, onnx, licence, overwrite))
    except nlpbook.QuantizationError as error:
        raise ValueError(error) from error


COMMANDS = {"train": train, "predict": predict, "serve": serve, "export": export}


def _run(arguments: list[str]) -> int:
    """Find the command and its options, with the help of cyclopts, and run it."""
    from cyclopts import App, CycloptsError, Parameter

    train.__annotations__["settings"] = Annotated[_make_settings(), Parameter(name="*", name_transform=str)]
    several = Parameter(consume_multiple=True, negative_iterable=())  # --checkpoint ONE TWO
    about = "Train and use classifiers of texts."
    app = App(name="nlpbook", help=about, version=nlpbook.__version__, default_parameter=several)
    for name, command in COMMANDS.items():
        app.command(command, name=name)
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        print(f"{error} See --help.", file=sys.stderr)
        return MISUSED
    return 0 if arguments else MISUSED  # nothing was asked for: it has shown the help


def _make_settings() -> Any:
    """Make the type of `train`'s options: a dictionary of those given, named and explained as the arguments are."""
    from cyclopts import Parameter

    kinds = get_type_hints(ClassificationTrainArguments)
    options = {
        field.name: Annotated[kinds[field.name], Parameter(help=f"{field.metadata['help']} (default {field.default})")]
        for field in fields(ClassificationTrainArguments)
    }
    return TypedDict("Settings", options, total=False)  # type: ignore[operator]


def _announce(sentence: str) -> None:
    """Say what is going on before the seconds of silence, and keep libraries from drawing bars for milliseconds."""
    print(f"{sentence} …", flush=True)
    import transformers

    transformers.logging.disable_progress_bar()


def _find(checkpoint: str) -> str:
    """Return where a checkpoint lies; what is not there may be the name of one that ships with the package."""
    with suppress(FileNotFoundError):  # what does not ship either is refused in the words for a path
        return checkpoint if Path(checkpoint).exists() else get_embedded_path(checkpoint)
    return checkpoint


if __name__ == "__main__":
    sys.exit(main())
