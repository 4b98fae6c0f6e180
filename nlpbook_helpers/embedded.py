"""Where does it lie? What ships with the package, and the corpora that somebody has."""

import os
import sys
from contextlib import suppress
from pathlib import Path

PACKAGE_DIR = Path(__file__).parent
SAMPLES_DIR = PACKAGE_DIR / "samples"


def get_embedded_path(name: str) -> str:
    """Return the folder of something that ships with the project, from any working directory.

    Args:
        name: A checkpoint, for example `nlpbook-mini`, or a sample corpus, for example `nsmc-sample`.

    Raises:
        FileNotFoundError: Nothing of that name ships; the message lists what does.
    """
    # A clone has the checkpoints beside the package, what was installed from one inside it; published, they are a wheel
    # of their own, which may lie in another folder than the package.
    places = [PACKAGE_DIR.parent / "checkpoints", PACKAGE_DIR / "checkpoints_data", SAMPLES_DIR]
    places += [Path(entry, "nlpbook_checkpoints") for entry in sys.path]
    roots = [place for place in places if place.is_dir()]
    for root in roots:
        if (root / name).is_dir():
            return str(root / name)
    known = sorted({folder.name for root in roots for folder in root.iterdir() if any(folder.glob("[!_]*.*"))})
    raise FileNotFoundError(f"expected one of {known}, got {name!r}: checkpoints come with nlpbook-checkpoints by pip")


def find_embedded(name: str) -> str:
    """Return the folder of what ships under a name, unless something of that name lies here; else the name itself."""
    with suppress(FileNotFoundError):
        return name if Path(name).exists() else get_embedded_path(name)
    return name


def expand_home(path: str | os.PathLike) -> str:
    """Return a path in which `~` is the user's home.

    Raises:
        ValueError: There is none, as in a container.
    """
    expanded = os.path.expanduser(path)
    if expanded == "~" or expanded.startswith("~") and len(Path(expanded).parts) > 1:
        raise ValueError(f"expected a path whose home folder is known, got {expanded!r}: give the whole path")
    return expanded


def get_default_corpus_dir(corpus_name: str) -> str:
    """Return where corpora are kept: samples in the package, else `NLPBOOK_CORPUS_DIR`, Colab's or home's folder."""
    if (SAMPLES_DIR / corpus_name).is_dir():
        return str(SAMPLES_DIR)
    usual = "/content/Korpora" if "COLAB_RELEASE_TAG" in os.environ else "~/Korpora"
    folder = os.path.expanduser(os.environ.get("NLPBOOK_CORPUS_DIR") or usual)
    if folder.startswith("~"):  # as in a container
        raise ValueError(
            "downstream_corpus_root_dir: this user has no home folder: give one, or set NLPBOOK_CORPUS_DIR"
        )
    return folder
