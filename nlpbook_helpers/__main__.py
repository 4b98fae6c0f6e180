"""The package from a shell: `nlpbook train`, `predict`, `serve` and `export`, or `python -m nlpbook_helpers …`.

Each command is a function of the table `COMMANDS`: its parameters are the options, its docstring is their help. What
takes long to import is imported when it is used, so that `--help` answers at once and Ctrl-C is heeded while it loads.
"""

import atexit
import gc
import os
import re
import signal
import sys
from collections.abc import Container, Sequence
from contextlib import nullcontext, redirect_stderr, redirect_stdout, suppress
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, get_type_hints

import nlpbook_helpers as nlpbook
from nlpbook_helpers.arguments import ClassificationTrainArguments, get_meanings, read_arguments
from nlpbook_helpers.embedded import find_embedded

VARIABLES = "NLPBOOK_"
SHORT = {"text_columns": "--text", "label_column": "--label"}
REFUSED, MISUSED, INTERRUPTED = 1, 2, 130  # exit statuses; the last two are those of every shell command


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What was typed after the program's name; None: `sys.argv`.

    Returns:
        The exit status: 0, or one of `REFUSED`, `MISUSED` and `INTERRUPTED` after a sentence on standard error.
    """
    # PyTorch's hundred thousands of objects die with the process: nobody waits for each. But Triton, which comes with
    # the builds for GPUs, says what of its own was not taken apart: 25 lines after every command (with PyTorch 2.15)
    atexit.register(lambda: "triton" in sys.modules or gc.freeze())
    with redirect_stdout(_Voice(sys.stdout)), redirect_stderr(_Voice(sys.stderr)):  # type: ignore[type-var]
        return _run(sys.argv[1:] if arguments is None else arguments)


class _Voice:
    """Standard output or error, of which a failure costs words, and not the work that was to be reported.

    A console without Hangul shows codes of its letters; a log has each line at once; a full disk, or a reader that has
    gone (as in `… | head`), gets nothing more.

    Args:
        stream: What there is; None where a program has been started without.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream or open(os.devnull, "w")  # noqa: SIM115  (as long as the process runs)
        if hasattr(self._stream, "reconfigure"):
            self._stream.reconfigure(errors="backslashreplace", line_buffering=True)

    def write(self, words: str) -> int:
        try:
            return self._stream.write(words)
        except OSError:
            with suppress(OSError):  # what is still in its buffer must not fail at the end either
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            return len(words)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _run(arguments: list[str]) -> int:
    """Run one command, and say what was wrong in a sentence."""
    try:
        return _dispatch(arguments)
    except UnicodeEncodeError as error:
        print(f"expected names in UTF-8, got {error.object!r}: rename it, or set PYTHONUTF8=1", file=sys.stderr)
        return REFUSED
    except (ValueError, OSError, ImportError) as error:  # what the package refuses, the disk does, or is not installed
        remedy = "; make lab, or pip install -r requirements.txt, installs it" if isinstance(error, ImportError) else ""
        print(f"{error}{remedy}", file=sys.stderr)
        return REFUSED
    except (KeyboardInterrupt, SystemExit) as error:
        # Lightning tidies up after Ctrl-C and leaves by a SystemExit of its own
        if isinstance(error, SystemExit) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        goes_on = ": run again (without --overwrite), train and predict go on with what is done"
        print(f"\nstopped{goes_on if arguments[:1] in (['train'], ['predict']) else ''}", file=sys.stderr)
        return INTERRUPTED


def train(*files: str, serve: bool = False, settings: Any = None) -> None:
    """Fine-tune a classifier, alone or under torchrun or SLURM; interrupted, the same command goes on.

    Args:
        files: labelled CSV, TSV, JSON Lines or Parquet file, and corrections to it, as a page has collected them; or a
            JSON object of the options below; those of the command line win
        serve: then open its page
        settings: the options given, see `_make_settings`
    """
    from nlpbook_helpers.runtime import read_rank

    speaks = read_rank() == 0  # of several processes the first one
    with nullcontext() if speaks else open(os.devnull, "w") as silence, redirect_stdout(silence or sys.stdout):
        _announce("training: loading PyTorch")
        if odd := [file for file in files if re.fullmatch(r"true|false|yes|no|on|off|\d+", file.lower())]:
            remedy = "an option is switched off by --no-…, as --no-resume"
            raise ValueError(f"train: expected labelled files, got {odd[0]!r}, which is no option's value: {remedy}")
        given, data = {}, [file for file in files if Path(file).suffix != ".json"]
        for file in files:
            given |= {} if file in data else read_arguments(file)
        given |= settings or {}
        if given.get("class_weights") == ["balanced"]:
            given["class_weights"] = "balanced"
        best = nlpbook.train(nlpbook.prepare_training(data, **given) if data else ClassificationTrainArguments(**given))
        if serve and best:
            COMMANDS["serve"](checkpoint=[str(best)])


def predict(
    *, checkpoint: str, input: str, output: str, text_columns: list[str] | None = None,
    max_seq_length: int | None = None, encoding: str = "utf-8", quoting: bool = True, overwrite: bool = False,
    engine: Literal["local", "ray"] = "local", address: str | None = None, gpus_per_worker: float = 1,
) -> None:  # fmt: skip
    """Score a file or a folder; interrupted, the same command without --overwrite goes on where it stopped.

    Args:
        checkpoint: checkpoint file or folder, or the name of a shipped one, as doccls
        input: CSV, TSV, JSONL, JSON or Parquet file, or a folder of them; or an address (s3://…)
        output: .csv, .tsv, .jsonl or .parquet file: input columns and predictions; for a folder, a folder, which gets
            a file of the same name for each of the input, JSON Lines where that is no such format
        text_columns: columns of the texts; else those of the training, or usual ones
        max_seq_length: tokens read at once; else as in training
        encoding: of input files of text, for example cp949
        quoting: --no-quoting reads a quote mark in a CSV or TSV file as a character like any other
        overwrite: start anew, and replace an output that exists
        engine: local: this process; ray: all processors or GPUs of this machine or of a Ray cluster
        address: Ray cluster; else RAY_ADDRESS, else this machine alone
        gpus_per_worker: for ray: 0.5 lets two share a GPU
    """
    _announce(f"loading {checkpoint}")
    classifier = nlpbook.Classifier.from_checkpoint(checkpoint, max_seq_length=max_seq_length)
    how = (text_columns, overwrite, engine, address, gpus_per_worker, encoding, quoting)
    print(nlpbook.score_file(classifier, input, output, *how))


def serve(
    *, checkpoint: list[str], port: int | None = None, host: str = "127.0.0.1", tunnel: Literal["ngrok"] | None = None,
    key: str | None = None, title: str | None = None, trusted_hosts: list[str] | None = None,
    origins: list[str] | None = None, feedback: bool = True, public_feedback: bool = False, access_log: bool = True,
) -> None:  # fmt: skip
    """Open the pages of classifiers on this machine, until Ctrl-C; SIGHUP reads checkpoints anew.

    Args:
        checkpoint: files or folders, or names of shipped ones, as doccls; several share the port
        port: 0 for a free one; default 5000, or a free one if it is taken
        host: address to listen on; 0.0.0.0 or :: lets in all who can reach this machine and have the key
        tunnel: also open a public address, with a key
        key: access key; better NLPBOOK_SERVE_KEY, as all users of a machine can read command lines
        title: heading of the page
        trusted_hosts: names under which a proxy on this machine shows the page to others, who need a key
        origins: other sites whose scripts may call the API
        feedback: keep what visitors say in feedback/train.csv beside the checkpoint, a corpus for train
        public_feedback: keep it also where others can come in
        access_log: a line on standard error for each request
    """
    from nlpbook_helpers.web.process import end_by, keep_feedback, wait_for_the_end
    from nlpbook_helpers.web.server import check_place

    check_place(host, port, tunnel, key or "auto")
    _announce(f"loading {', '.join(checkpoint)}")
    end_by(signal.default_int_handler)
    settings: dict[str, Any] = {"title": title, "cors_origins": origins or (), "trusted_hosts": trusted_hosts or ()}
    settings["public_feedback"] = public_feedback
    apps: dict[str, Any] = {}
    for path in map(find_embedded, checkpoint):
        app = nlpbook.get_web_service_app(nlpbook.Classifier.from_checkpoint(path).inference_fn, **settings)
        apps[_name(Path(path), apps)] = app
        if feedback:
            keep_feedback(app.extensions["nlpbook"], Path(path))
    how = (port, tunnel, key or "auto", "Ctrl-C ends it", host, access_log)
    with nlpbook.serve(nlpbook.join_apps(apps), *how):
        wait_for_the_end(list(zip(checkpoint, apps.values(), strict=True)))
    print("closed", flush=True)
    os._exit(0)  # a batch at hand is not waited for, and its threads have nothing to say of the end


def _check_variables(command: str) -> None:
    """Refuse a variable that no option has, as it would be ignored without a word."""
    begin, options = f"{VARIABLES}{command.upper()}_", {*COMMANDS[command].__annotations__} - {"return", "settings"}
    options |= {field.name for field in fields(ClassificationTrainArguments)} if command == "train" else set()
    known = [begin + option.upper() for option in sorted(options)]
    if wrong := [name for name in os.environ if name.startswith(begin) and name not in known]:
        allowed = f"one of {', '.join(known)} (=false is the option's --no-…)"
        raise ValueError(f"environment: expected {allowed}, got {', '.join(wrong)}: rename or unset it")


def _name(checkpoint: Path, taken: Container[str]) -> str:
    """Name a checkpoint in addresses: by its folder, with a number where that name is taken."""
    folder = (checkpoint if checkpoint.is_dir() else checkpoint.parent).resolve()
    name = re.sub(r"\s|[/?#]", "-", folder.name)
    return next(one for number in count(1) if (one := f"{name}-{number}" if number > 1 else name) not in taken)


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
    print(nlpbook.export(checkpoint, output, onnx, licence, overwrite))


def _read_whole(kind: Any, tokens: Sequence[Any]) -> int:
    """Read a whole number as it stands; the library alone would round 16.7."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"expected a whole number, got {tokens[0].value!r}") from None


COMMANDS = {"train": train, "predict": predict, "serve": serve, "export": export}


def _dispatch(arguments: list[str]) -> int:
    """Find the command and its options, with the help of cyclopts, and run it."""
    from cyclopts import App, CycloptsError, Parameter
    from cyclopts.config import Env

    train.__annotations__["settings"] = Annotated[_make_settings() | None, Parameter(name="*", name_transform=str)]
    whole = Parameter(converter=_read_whole)
    for command in COMMANDS.values():
        numbers = [name for name, kind in command.__annotations__.items() if kind in (int, int | None)]
        command.__annotations__ |= {name: Annotated[command.__annotations__[name], whole] for name in numbers}
    for name in [name for name, value in os.environ.items() if name.startswith(VARIABLES) and not value]:
        del os.environ[name]  # as a file of settings leaves open what is not set
    if arguments and arguments[0] in COMMANDS:
        _check_variables(arguments[0])
    several = Parameter(consume_multiple=True, negative_iterable=())  # --checkpoint ONE TWO
    about = "Train and use classifiers of texts."
    from_environment = Env(VARIABLES)  # NLPBOOK_SERVE_PORT is --port of serve
    app = App("nlpbook", help=about, version=nlpbook.__version__, default_parameter=several, config=from_environment)
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

    options, kinds = {}, get_type_hints(ClassificationTrainArguments)
    meanings = get_meanings(ClassificationTrainArguments)
    # of a list or a word, the library alone would take one number and leave the rest to the files
    kinds["class_weights"] = list[float | Literal["balanced"]]
    for field in fields(ClassificationTrainArguments):
        read = _read_whole if kinds[field.name] in (int, int | None) else None
        about = f"{meanings.get(field.name, '')} (default {field.default})"
        options[field.name] = Annotated[
            kinds[field.name], Parameter(help=about, alias=SHORT.get(field.name), converter=read)
        ]
    return TypedDict("Settings", options, total=False)  # type: ignore[operator]


def _announce(sentence: str) -> None:
    """Say what is going on before the seconds of silence, and keep libraries from drawing bars for milliseconds."""
    print(f"{sentence} …", flush=True)
    import transformers

    transformers.logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main())
