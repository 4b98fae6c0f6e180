"""Corpora arrive whole or not at all."""

import http.server
import threading

import pytest

from nlpbook_helpers import download
from nlpbook_helpers.download import DownloadError, compute_git_blob_id, download_downstream_dataset

CONTENT = "id\tdocument\tlabel\n1\t좋다\t1\n".encode()
NAMES = ["nsmc", "klue-nli", "korean-hate-speech"]


@pytest.fixture
def server(monkeypatch):
    """A real HTTP server in place of GitHub: it serves CONTENT, a damaged copy, or breaks off half-way."""

    class Handler(http.server.BaseHTTPRequestHandler):
        damage, requests = "none", 0

        def do_GET(self):
            Handler.requests += 1
            body = CONTENT if self.damage != "changed" else CONTENT.replace(b"1\n", b"0\n")
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if self.damage == "broken off" else body)

        def log_message(self, *args):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{running.server_port}/"
    served = [
        one._replace(url=url + one.url.rpartition("/")[2], git_blob=compute_git_blob_id(CONTENT))
        for one in download.REMOTE_FILES
    ]
    monkeypatch.setattr(download, "REMOTE_FILES", served)
    yield Handler
    running.shutdown()


@pytest.fixture
def corpora_root(tmp_path):
    return tmp_path / "empty"


def test_git_blob_ids_are_gits():
    assert compute_git_blob_id(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert compute_git_blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_corpus_is_fetched_verified_and_then_left_alone(server, make_args, corpora_root, name):
    args = make_args(downstream_corpus_name=name)
    download_downstream_dataset(args)
    files = sorted((corpora_root / name).iterdir())
    assert [path.read_bytes() for path in files] == [CONTENT, CONTENT]
    asked = server.requests
    files[0].write_bytes(b"my own cut")
    download_downstream_dataset(args)
    assert (server.requests, files[0].read_bytes()) == (asked, b"my own cut")
    download_downstream_dataset(make_args(downstream_corpus_name=name, force_download=True))
    assert files[0].read_bytes() == CONTENT


def test_the_official_file_names_of_klue_count_as_there(server, make_args, corpora_root):
    (corpora_root / "klue-nli").mkdir(parents=True)
    for mode in ("train", "dev"):
        (corpora_root / "klue-nli" / f"klue-nli-v1.1_{mode}.json").write_text("[]")
    download_downstream_dataset(make_args(downstream_corpus_name="klue-nli"))
    assert server.requests == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", ["changed", "broken off"])
@pytest.mark.parametrize("there", [False, True])
def test_a_damaged_transfer_leaves_what_was_there(server, make_args, corpora_root, name, damage, there):
    args = make_args(downstream_corpus_name=name, force_download=there)
    if there:
        download_downstream_dataset(args)
    before = [(path, path.read_bytes()) for path in corpora_root.rglob("*.*")]
    server.damage = damage
    with pytest.raises(DownloadError, match="git blob .* the transfer was damaged|could not be fetched .*save it as"):
        download_downstream_dataset(args)
    assert [(path, path.read_bytes()) for path in corpora_root.rglob("*.*")] == before


def test_without_network_or_with_an_unknown_name_the_reader_is_told_what_to_do(monkeypatch, make_args, corpora_root):
    # port 9 of this machine: nobody listens there
    remotes = [one._replace(url="http://127.0.0.1:9/ratings_train.txt") for one in download.REMOTE_FILES]
    monkeypatch.setattr(download, "REMOTE_FILES", remotes)
    message = r"ratings_train.txt is not on disk and could not be fetched .* in a browser and save it as .*empty.nsmc"
    with pytest.raises(DownloadError, match=message):
        download_downstream_dataset(make_args())
    message = r"expected one of \['klue-nli', 'korean-hate-speech', 'nsmc'\] or your own folder, got 'imdb'"
    with pytest.raises(ValueError, match=message):
        download_downstream_dataset(make_args(downstream_corpus_name="imdb"))
    (corpora_root / "mine").mkdir(parents=True)
    (corpora_root / "mine" / "train.csv").write_text("text,label\n")
    download_downstream_dataset(make_args(downstream_corpus_name="mine"))
