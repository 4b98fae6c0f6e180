"""The shell command, as a user runs it."""

import json
import re
import signal
import subprocess
import sys
from urllib.request import Request, urlopen

import pytest
from test_inference import save_bare, trained  # noqa: F401

COMMAND = [sys.executable, "-u", "-m", "nlpbook_helpers", "serve"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to one process")
def test_serve_answers_until_ctrl_c(trained, tmp_path):  # noqa: F811
    folder = str(tmp_path / "models")
    command = [*COMMAND, "--port", "0", "--checkpoint", folder]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        match = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert match, line
        body = json.dumps({"sentence": "정말 재미있는 영화"}).encode()
        request = Request(match.group() + "/api", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=10) as response:
            assert json.load(response)["sentence"] == "정말 재미있는 영화"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stdout.read().splitlines()[-1] == "closed"
    finally:
        process.kill()


def test_a_folder_without_a_checkpoint_is_one_sentence(tmp_path):
    run = subprocess.run([*COMMAND, "--checkpoint", str(tmp_path)], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stdout == ""
    assert re.fullmatch(r"no checkpoint \(\*\.ckpt\) found in .*: run the training notebook first.*\n", run.stderr)
