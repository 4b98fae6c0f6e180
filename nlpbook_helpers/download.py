"""Where is the data from? Corpora are fetched, verified and only then put in their place."""

import hashlib
import logging
from pathlib import Path
from typing import NamedTuple

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.runtime import create, is_first_here, lock

logger = logging.getLogger(__name__)


class DownloadError(OSError):
    """A corpus is neither there nor could be fetched whole."""


class RemoteFile(NamedTuple):
    """One file of a corpus on the internet."""

    corpus: str
    name: str
    """Its name here; KLUE's have the names that Korpora gives them."""
    url: str
    git_blob: str
    """SHA-1 that git gives the file's content: `b"blob %d\\0" % size` followed by the content."""


_NSMC = "https://raw.githubusercontent.com/e9t/nsmc/master"
_KLUE = "https://raw.githubusercontent.com/KLUE-benchmark/KLUE/main/klue_benchmark/klue-nli-v1.1/klue-nli-v1.1"
_HATE = "https://raw.githubusercontent.com/kocohub/korean-hate-speech/master/labeled"
REMOTE_FILES = (
    RemoteFile("nsmc", "ratings_train.txt", f"{_NSMC}/ratings_train.txt", "ac0dba272895dc1d0b3dd5f11afbeaeb7abe7876"),
    RemoteFile("nsmc", "ratings_test.txt", f"{_NSMC}/ratings_test.txt", "b6cfcd8cd1557bcd9bf06617b0e429ed73e9a367"),
    RemoteFile("klue-nli", "klue_nli_train.json", f"{_KLUE}_train.json", "a7903d15f09a3663d8f1d78e68d8d6c10dbd8618"),
    RemoteFile("klue-nli", "klue_nli_dev.json", f"{_KLUE}_dev.json", "db052b2459c68d1ec57dd1573bfe90a9bb3f8157"),
    RemoteFile("korean-hate-speech", "train.tsv", f"{_HATE}/train.tsv", "a7663ec2ee2837b5e38a6c49ca47caee84eea894"),
    RemoteFile("korean-hate-speech", "dev.tsv", f"{_HATE}/dev.tsv", "a2b083b74c72a4dab444ddc6b3e83fa269306b24"),
)


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
    remotes = [remote for remote in REMOTE_FILES if remote.corpus == name]
    if not remotes:
        if not folder.is_dir() or not any(folder.iterdir()):
            expected = f"expected one of {sorted({one.corpus for one in REMOTE_FILES})} or your own folder"
            raise ValueError(f"downstream_corpus_name: {expected}, got {name!r}: put your corpus into {folder}")
        logger.info("%s: already there, nothing to download", name)
    for remote in remotes:
        # of several processes on a machine the first downloads, the others wait and find the file
        with lock(folder / remote.name):
            there = [known for known in (remote.name, Path(remote.url).name) if (folder / known).exists()]
            if there and not (args.force_download and is_first_here()):
                logger.info("%s: %s is already there", name, there[0])
            else:
                _fetch_verified(folder / remote.name, remote)


def compute_git_blob_id(content: bytes) -> str:
    """Return the SHA-1 that git gives a file's content.

    Source: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
    """
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _fetch_verified(target: Path, remote: RemoteFile) -> None:
    """Download, verify, and only then put in its place."""
    import pooch
    from Korpora.utils import web_download

    try:
        with create(target) as partial:
            if remote.corpus == "klue-nli":  # which Korpora does not know
                pooch.retrieve(remote.url, known_hash=None, fname=partial.name, path=partial.parent, progressbar=True)
            else:  # Korpora's downloader, not its loader: the loader asks the server even for files that exist
                web_download(remote.url, str(partial), corpus_name=remote.corpus, force_download=True)
            found = compute_git_blob_id(partial.read_bytes())
            if found != remote.git_blob:
                expected = f"expected git blob {remote.git_blob}, got {found} ({partial.stat().st_size:,} bytes)"
                raise ValueError(f"{expected}: the transfer was damaged or the file has changed, try again")
    except (OSError, ValueError) as error:  # also of a server that answers without a length
        problem = f"{target.name} is not on disk and could not be fetched ({error})"
        raise DownloadError(f"{problem}: download {remote.url} in a browser and save it as {target}") from error
    logger.info("downloaded and verified %s", target.name)
