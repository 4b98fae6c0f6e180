"""Two processes learn what one learns from twice the batch: the same examples, each once, and the same loss."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import REVIEWS, write_reviews

from nlpbook_helpers.checkpoints import load_checkpoint
from nlpbook_helpers.download import compute_git_blob_id

SCRIPT = Path(__file__).with_name("several_processes.py")
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="torchrun on Windows needs another rendezvous")


class Requests(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and counts."""

    count = 0

    def do_GET(self):
        Requests.count += 1
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def make_job(tmp_path, encoder_dir):
    """A function that describes a training on some rows, which have to be downloaded first."""
    handler = partial(Requests, directory=str(tmp_path / "web"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def make(name: str, rows: int, kill_at: int = -1, **changes) -> dict:
        texts = [(str(n), f"{text} {'정말 ' * (n % 5)}{n}", label) for n, (_, text, label) in enumerate(REVIEWS * 4)]
        write_reviews(tmp_path / "web" / str(rows), texts[:rows])
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        settings = {
            "pretrained_model_name": encoder_dir, "downstream_corpus_name": "nsmc", "max_seq_length": 32,
            "downstream_corpus_root_dir": str(folder), "downstream_model_dir": str(folder / "models"),
            "batch_size": 4, "seed": 7, "learning_rate": 1e-3, "epochs": 2, "save_top_k": -1, "resume_minutes": 0,
        }  # fmt: skip
        blobs = {
            path.name: compute_git_blob_id(path.read_bytes())
            for path in sorted((tmp_path / "web" / str(rows)).iterdir())
        }
        url = f"http://127.0.0.1:{server.server_port}/{rows}/"
        return {
            "folder": str(folder), "url": url, "blobs": blobs, "kill_at": kill_at, "settings": settings | changes,
        }  # fmt: skip

    yield make
    server.shutdown()


def run(jobs: list[dict], processes: int, dropout: float = 0) -> int:
    """Train in one process or two; return the exit status."""
    plan = Path(jobs[0]["folder"]) / "plan.json"
    plan.write_text(json.dumps(jobs))
    launcher = TORCHRUN if processes == 2 else []
    # Lightning draws anew in several processes if some test has called its seed_everything, which leaves PL_GLOBAL_SEED
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PL_")}
    environment = {**inherited, "NLPBOOK_CACHE_DIR": jobs[0]["folder"], "DROPOUT": str(dropout)}
    command = [sys.executable, *launcher, str(SCRIPT), str(plan)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    if jobs[-1]["kill_at"] < 0:
        assert done.returncode == 0, done.stderr[-3000:]
    return done.returncode


def read(job: dict, processes: int) -> tuple[list[dict], list[dict]]:
    """Return what each process says, and the checkpoints in the order of epochs."""
    folder = Path(job["folder"])
    said = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(processes)]
    return said, [load_checkpoint(path) for path in sorted((folder / "models").glob("*.ckpt"))]


def count_examples(said: list[dict], epoch: int) -> Counter:
    return Counter(example for one in said for example in one["seen"][str(epoch)])


def test_two_processes_learn_what_one_learns_from_twice_the_batch(make_job):
    sizes = (26, 27, 25)  # left for the last step: two, three (one process gets two of them), and one, which joins
    pairs = [make_job(f"two-{rows}", rows) for rows in sizes]
    run(pairs, processes=2)
    asked, Requests.count = Requests.count, 0
    alone = [make_job(f"one-{rows}", rows, batch_size=8) for rows in sizes]
    run(alone, processes=1)
    assert asked == Requests.count > 0
    for rows, pair, one in zip(sizes, pairs, alone, strict=True):
        (said, two), (expected, single) = read(pair, 2), read(one, 1)
        for epoch in range(2):
            assert count_examples(said, epoch) == count_examples(expected, epoch)
            assert set(count_examples(said, epoch).values()) == {1}
        calls = Counter((Path(pair["folder"]) / "calls.txt").read_text().split())
        assert calls["encode_examples"] == 2  # training and test file, by whichever process came first
        assert said[0]["metrics"] == said[1]["metrics"]
        if rows == 25:  # one process makes a step of the example that is left over
            assert (said[0]["steps"], expected[0]["steps"]) == (6, 8)
            continue
        assert (
            calls["save_checkpoint"] == 2 * 3
        )  # in each epoch: its checkpoint, the state after its first step and last
        for name in ("train_loss_epoch", "train_acc_epoch", "val_loss", "val_acc"):
            assert said[0]["metrics"][name] == pytest.approx(expected[0]["metrics"][name], abs=1e-6), name
        for ours, theirs in zip(two, single, strict=True):
            for key, tensor in theirs["state_dict"].items():
                assert torch.allclose(ours["state_dict"][key], tensor, atol=1e-5), (rows, key)


def test_two_processes_go_on_after_both_were_killed(make_job):
    whole, killed = make_job("whole", 27, epochs=3), make_job("killed", 27, kill_at=6, epochs=3)
    run([whole], processes=2, dropout=0.1)
    assert run([killed], processes=2, dropout=0.1) != 0
    assert (Path(killed["folder"]) / "models" / "interrupted.state").exists()
    run([killed | {"kill_at": -1}], processes=2, dropout=0.1)
    (_, expected), (said, resumed) = read(whole, 2), read(killed, 2)
    assert said[0]["seen"].keys() == {"1", "2"}
    for ours, theirs in zip(resumed, expected, strict=True):
        for key, tensor in theirs["state_dict"].items():
            assert torch.equal(ours["state_dict"][key], tensor), key
