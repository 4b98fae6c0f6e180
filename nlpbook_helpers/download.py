"""Where is the data from? Corpora are fetched, verified and only then put in their place."""

import hashlib
import logging
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.runtime import is_first_here, lock

logger = logging.getLogger(__name__)


class DownloadError(OSError):
    """A corpus is neither there nor could be fetched whole."""


class RemoteFile(NamedTuple):
    """One file of a corpus on the internet."""

    url: str
    git_blob: str
    """SHA-1 that git gives the file's content: `b"blob %d\\0" % size` followed by the content."""
    other_names: tuple[str, ...] = ()
    """File names under which readers may already have it."""


def _list_files(folder: str, git_blobs: dict[str, str]) -> dict[str, RemoteFile]:
    """List files of a folder on GitHub under their names here; KLUE's get the names that Korpora gives them."""
    url = f"https://raw.githubusercontent.com/{folder}/"
    return {
        name.replace("klue-nli-v1.1", "klue_nli"): RemoteFile(url + name, git_blob, (name,))
        for name, git_blob in git_blobs.items()
    }


REMOTE_FILES: dict[str, dict[str, RemoteFile]] = {
    "nsmc": _list_files("e9t/nsmc/master", {
        "ratings_train.txt": "ac0dba272895dc1d0b3dd5f11afbeaeb7abe7876",
        "ratings_test.txt": "b6cfcd8cd1557bcd9bf06617b0e429ed73e9a367",
    }),
    "klue-nli": _list_files("KLUE-benchmark/KLUE/main/klue_benchmark/klue-nli-v1.1", {
        "klue-nli-v1.1_train.json": "a7903d15f09a3663d8f1d78e68d8d6c10dbd8618",
        "klue-nli-v1.1_dev.json": "db052b2459c68d1ec57dd1573bfe90a9bb3f8157",
    }),
    "korean-hate-speech": _list_files("kocohub/korean-hate-speech/master/labeled", {
        "train.tsv": "a7663ec2ee2837b5e38a6c49ca47caee84eea894",
        "dev.tsv": "a2b083b74c72a4dab444ddc6b3e83fa269306b24",
    }),
}  # fmt: skip


def download_downstream_dataset(args: ClassificationTrainArguments) -> None:
    """Make sure that the corpus named in `args` is on disk.

    A file that exists is left as it is, whatever it holds, and no server is asked. A missing file is fetched
    with a progress bar into a temporary folder, verified, and renamed into place, so that a file that looks
    complete is complete.

    Args:
        args: `downstream_corpus_name`, `downstream_corpus_root_dir` and `force_download` are read.

    Raises:
        ValueError: The corpus is unknown and not on disk; the message lists the known ones.
        DownloadError: The file could not be fetched whole; the message says where to put it by hand.
    """
    name = args.downstream_corpus_name
    folder = Path(str(args.downstream_corpus_root_dir)) / name
    if name not in REMOTE_FILES:
        if folder.is_dir() and any(folder.iterdir()):
            logger.info("%s: already there, nothing to download", name)
            return
        raise ValueError(
            f"downstream_corpus_name: expected one of {sorted(REMOTE_FILES)} or a folder of your own, got {name!r}, "
            f"and {folder} is missing or empty: put your corpus there"
        )
    for file_name, remote in REMOTE_FILES[name].items():
        # of several processes on a machine the first downloads, the others wait and find the file
        with lock(folder / file_name):
            there = [known for known in (file_name, *remote.other_names) if (folder / known).exists()]
            if there and not (args.force_download and is_first_here()):
                logger.info("%s: %s is already there", name, there[0])
            else:
                _fetch_verified(folder / file_name, remote)


def compute_git_blob_id(content: bytes) -> str:
    """Return the SHA-1 that git gives a file's content.

    Source: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
    """
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _fetch_verified(target: Path, remote: RemoteFile) -> None:
    """Download into a folder beside `target` (so that the rename is atomic), verify, rename."""
    by_hand = f"download {remote.url} in a browser and save it as {target}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as temporary:
            partial = Path(temporary) / target.name
            _download(remote.url, partial, target.parent.name)
            found = compute_git_blob_id(partial.read_bytes())
            if found != remote.git_blob:
                raise DownloadError(
                    f"{target.name}: expected git blob {remote.git_blob}, got {found} ({partial.stat().st_size:,} "
                    f"bytes): the transfer was damaged or the file has changed; try again, or {by_hand}"
                )
            os.replace(partial, target)
    except DownloadError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a server that answers without a length
        raise DownloadError(f"{target.name} is not on disk and could not be fetched ({error}): {by_hand}") from error
    logger.info("downloaded and verified %s", target.name)


def _download(url: str, path: Path, corpus_name: str) -> None:
    if corpus_name == "klue-nli":  # which Korpora does not know
        import pooch

        pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent, progressbar=True)
        return
    # Korpora's downloader, not its loader: the loader asks the server even for files that exist.
    from Korpora.utils import web_download

    web_download(url, str(path), corpus_name=corpus_name, force_download=True)
