"""The commands, as a user types them."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from urllib.request import Request, urlopen

import pytest

from nlpbook_helpers import ClassificationTrainArguments
from nlpbook_helpers.__main__ import COMMANDS, main
from nlpbook_helpers.arguments import get_meanings

# of either a shell says 130; CPython ends itself by the signal if it came where it runs code given as a text, such as a
# named tuple's, though the exception was handled
INTERRUPTED = (130, -signal.SIGINT)
has_no_sigint = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to one process")


def start(*arguments: str, **settings) -> subprocess.Popen:
    command = [sys.executable, "-u", "-m", "nlpbook_helpers", *arguments]
    if sys.platform != "win32":  # of tests in the background it would be ignored, and inherited so
        settings["preexec_fn"] = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)


def test_help_comes_before_anything_large_is_imported():
    code = "import sys; from nlpbook_helpers.__main__ import main; main(['train', '--help']); print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "transformers", "pandas", "flask"} & set(said.splitlines()[-1].split())


def test_help_explains_every_option_of_every_command(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["train", "--help"]) == 0
    said = capsys.readouterr().out
    for field in fields(ClassificationTrainArguments):
        assert re.search(
            rf"--{field.name} .*{re.escape(get_meanings(ClassificationTrainArguments)[field.name])}", said
        ), field.name
    for name, command in COMMANDS.items():
        assert main([name, "--help"]) == 0
        said = capsys.readouterr().out
        for option in command.__annotations__.keys() - {"files", "settings", "return"}:
            assert re.search(rf"--{option.replace('_', '-')} .*\w{{3}}", said), option


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], ""),
        (["trian"], 'Did you mean "train"?'),
        (["train", "--epoch", "3"], "Did you mean --epochs?"),
        (["serve", "--chekpoint", "doccls"], "Did you mean --checkpoint"),
        (["predict", "--checkpoint", "doccls"], "--input requires an argument"),
        (["train", "--epochs", "three"], "expected a whole number, got 'three'"),
        (["serve", "--checkpoint", "doccls", "--tunnel", "ssh"], "Choose from"),
    ],
)
def test_what_is_mistyped_gets_a_hint_and_status_2(arguments, sentence, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") <= 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serve", "--checkpoint", "."], r"no checkpoint \(\*\.ckpt\) found in \.: run the training notebook first"),
        (["serve", "--checkpoint", ""], r"checkpoint: expected a file, a folder or a shipped name, as doccls, got ''"),
        (["serve", "--checkpoint", "docls"], r"docls.*not there"),
        (["serve", "--checkpoint", "docls", "--port", "70000"], r"expected a port from 0 to 65535, got 70000"),
        (["serve", "--checkpoint", "docls", "--key", "short"], r"expected a key of 8 or more letters"),
        (["predict", "--checkpoint", "doccls", "--input", "gone.csv", "--output", "out.csv"], r"gone\.csv"),
        (["export", "--checkpoint", ".", "--output", "out"], r"no checkpoint"),
        (["train", "a.csv", "--resume", "false"], r"expected labelled files, got 'false', .*as --no-resume"),
        (["train", "s3://bucket/x.csv"], r"expected some on this machine, got s3://bucket/x\.csv: download it"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_status_1(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert re.search(sentence, said)
    assert said.count("\n") == 1


def test_serve_refuses_a_variable_that_no_option_has(capsys, monkeypatch):
    monkeypatch.setenv("NLPBOOK_SERVE_NO_FEEDBACK", "1")
    assert main(["serve", "--checkpoint", "docls"]) == 1
    assert re.search(r"one of .*NLPBOOK_SERVE_FEEDBACK.*got NLPBOOK_SERVE_NO_FEEDBACK: rename", capsys.readouterr().err)


def test_predict_scores_a_file_with_a_shipped_checkpoint_by_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = 'document\tscore\n"재미있다\t1\n지루하다\t0\n'  # a quote mark that is none
    (tmp_path / "reviews.tsv").write_text(text, encoding="cp949")
    where = ["--input", "reviews.tsv", "--output", "scored.csv", "--text-columns", "document"]
    assert main(["predict", "--checkpoint", "doccls", *where, "--encoding", "cp949", "--no-quoting"]) == 0
    assert "scored 2 rows" in capsys.readouterr().out
    with (tmp_path / "scored.csv").open(encoding="utf-8") as file:
        assert [row["document"] for row in csv.DictReader(file)] == ['"재미있다', "지루하다"]


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell and its redirections")
@pytest.mark.parametrize("output", [">&- 2>&-", "2>&1 | true", ">/dev/full 2>&1"])
def test_work_is_done_where_nobody_hears_of_it(output, trained, tmp_path):
    if "/dev/full" in output and not os.path.exists("/dev/full"):
        pytest.skip("/dev/full: there is none here")
    (tmp_path / "in.csv").write_text("document\n재미있다\n지루하다\n", encoding="utf-8")
    command = f"{sys.executable} -m nlpbook_helpers predict --checkpoint {trained} --input in.csv --output out.csv"
    assert subprocess.run(f"{command} {output}", shell=True, cwd=tmp_path).returncode == 0
    assert (tmp_path / "out.csv").read_text("utf-8").count("\n") == 3


@has_no_sigint
def test_serve_answers_until_ctrl_c_on_a_console_without_hangul(tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    asked = {
        "doccls": ({"sentence": "정말 재미있는 영화"}, "긍정 (positive)"),
        "paircls": ({"premise": "새가 난다", "hypothesis": "새가 난다"}, "참 (entailment)"),
    }
    with start("serve", "--checkpoint", *asked, "--port", "0", cwd=tmp_path, env=environment) as process:
        assert process.stdout.readline().startswith(b"loading doccls, paircls")
        url = read_url(process)
        for name, (texts, answer) in asked.items():
            assert ask(f"{url}/models/{name}/api", texts)["prediction"] == answer
        assert ask(f"{url}/api", asked["doccls"][0])["prediction"] == "긍정 (positive)"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"closed\n"
        assert process.wait(10) == 0


@has_no_sigint
def test_sighup_takes_up_a_checkpoint_that_was_trained_anew(trained, tmp_path):
    # without a terminal, as a service is started; one that was started in a terminal ends with it
    with start("serve", "--checkpoint", str(trained), "--port", "0", cwd=tmp_path, start_new_session=True) as process:
        process.stdout.readline()
        url = read_url(process)
        before = ask(f"{url}/api", {"sentence": "영화"})
        (file,) = trained.glob("*.ckpt")
        content = file.read_bytes()
        file.write_bytes(content[:1000])
        process.send_signal(signal.SIGHUP)
        assert b"stays as it was" in read_error(process)
        assert ask(f"{url}/api", {"sentence": "영화"}) == before
        file.unlink()
        file.with_name("epoch=7-val_loss=0.01.ckpt").write_bytes(content)
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline().endswith(b"was read anew: epoch=7-val_loss=0.01.ckpt\n")
        assert ask(f"{url}/api", {"sentence": "영화"}) == before
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@has_no_sigint
def test_with_nohup_it_outlives_its_terminal_and_a_second_ctrl_c_ends_it_at_once(trained, tmp_path):
    import pty

    checkpoint, log = shutil.copytree(trained, tmp_path / "mine"), tmp_path / "log"
    (checkpoint / "feedback").mkdir()
    (checkpoint / "feedback" / "train.csv").write_bytes("text,label\n글,긍정".encode("cp949"))
    log.touch()
    pid, terminal = pty.fork()
    if not pid:
        command = f"exec nohup {sys.executable} -u -m nlpbook_helpers serve --port 0 --checkpoint {checkpoint}"
        os.execl("/bin/sh", "sh", "-c", f"{command} >{log} 2>&1")
    wait_for(lambda: "Serving" in log.read_text("utf-8"))
    said = log.read_text("utf-8")
    assert re.search(r"no feedback is kept: \S+train\.csv: expected a CSV file in UTF-8, got another", said)
    url = re.search(r"http://127\.0\.0\.1:\d+", said).group()
    os.close(terminal)
    wait_for(lambda: "was read anew" in log.read_text("utf-8"))
    inputs = [{"sentence": "정말 좋은 영화 " * 200}] * 1000
    with ThreadPoolExecutor(1) as pool:
        pool.submit(ask, f"{url}/api/batch", {"inputs": inputs})
        time.sleep(0.5)
        os.kill(pid, signal.SIGINT)
        time.sleep(0.2)
        os.kill(pid, signal.SIGINT)
        assert os.waitpid(pid, 0)[1] in (0, signal.SIGINT)
    assert "Traceback" not in log.read_text("utf-8")


def wait_for(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.1)


def read_url(process: subprocess.Popen) -> str:
    line = process.stdout.readline().decode("cp1252")
    url = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert url, line
    return url.group()


def read_error(process: subprocess.Popen) -> bytes:
    """Read the first line of standard error that is not of the access log."""
    return next(line for line in process.stderr if b"127.0.0.1" not in line)


def ask(url: str, texts: dict[str, str]) -> dict:
    request = Request(url, json.dumps(texts).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=20) as response:
        return json.load(response)


@has_no_sigint
@pytest.mark.parametrize("seconds", [0, 0.5])
def test_ctrl_c_while_it_loads_is_no_traceback(seconds, tmp_path):
    with start("serve", "--checkpoint", "doccls", cwd=tmp_path) as process:
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1].decode()
        assert process.returncode in INTERRUPTED, said
        assert said == "\nstopped\n"


@has_no_sigint
def test_ctrl_c_while_it_trains_is_no_traceback(make_args, tmp_path):
    settings = {name: value for name, value in vars(make_args(epochs=5_000)).items() if value is not None}
    (tmp_path / "args.json").write_text(json.dumps(settings | {"monitor": "min train_loss"}))
    with start("train", str(tmp_path / "args.json")) as process:
        while b"training on CPU" not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[1].decode()
        assert process.returncode in INTERRUPTED, said
        assert "Traceback" not in said
        assert said.endswith("\nstopped: run again (without --overwrite), train and predict go on with what is done\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "a.csv", "--batch_size", "16.7"],
        ["train", "a.csv", "--epochs", "0x10"],
        ["predict", "--checkpoint", "doccls", "--input", "a.csv", "--output", "b.csv", "--max-seq-length", "16.9"],
        ["serve", "--checkpoint", "doccls", "--port", "1e3"],
    ],
)
def test_a_number_is_never_rounded(arguments, capsys):
    assert main(arguments) == 2
    assert f"expected a whole number, got '{arguments[-1]}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "weights"),
    [(["1", "2.5"], [1.0, 2.5]), (["balanced"], "balanced"), (["1", "--class_weights", "3"], [1, 3])],
)
def test_all_class_weights_are_heard_whatever_follows(typed, weights, monkeypatch, tmp_path):
    given = {}
    monkeypatch.setattr("nlpbook_helpers.train", lambda args: given.update(vars(args)))
    (tmp_path / "args.json").write_text('{"downstream_corpus_name": "nsmc-sample"}')
    assert main(["train", str(tmp_path / "args.json"), "--class_weights", *typed, "--seed", "1"]) == 0
    assert (given["class_weights"], given["seed"]) == (weights, 1)


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [("CHECKPOINT", "--checkpoint requires an argument"), ("OVERWRITE", "gone.csv"), ("MAX_SEQ_LENGTH", "gone.csv")],
)
def test_an_empty_variable_is_not_set(variable, sentence, monkeypatch, capsys):
    monkeypatch.setenv(f"NLPBOOK_PREDICT_{variable}", "")
    given = [] if variable == "CHECKPOINT" else ["--checkpoint", "doccls"]
    main(["predict", *given, "--input", "gone.csv", "--output", "out.csv"])
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("name", ["NLPBOOK_TRAIN_EPOCH", "NLPBOOK_PREDICT_INPUTS", "NLPBOOK_EXPORT_ONYX"])
def test_a_variable_that_no_option_has_is_refused(name, monkeypatch, capsys):
    monkeypatch.setenv(name, "2")
    assert main([name.split("_")[1].lower()]) == 1
    assert f"got {name}: rename or unset it" in capsys.readouterr().err
