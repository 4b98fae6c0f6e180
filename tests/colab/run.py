"""Run notebooks as Colab would, install cells included: `make test-colab`, or `run.py NOTEBOOK …`.

The repository's address leads to what is committed in this clone; Drive is the folder /gdrive, which must be writable.
The environment is changed by the install cells, as a runtime is: `make clean` before it is to be as new again.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))
from set_repo import get_repository  # noqa: E402

KEPT = ("torch", "numpy", "transformers")  # a cell that replaced these would ask for a restart


def find_versions() -> dict[str, str]:
    """Ask a new process for the versions that are installed now."""
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, *KEPT], check=True, capture_output=True, text=True)
    return dict(zip(KEPT, done.stdout.split(), strict=True))


def main(notebooks: list[str]) -> int:
    """Run them one after the other in one environment; return 1 if the install cells replaced what was there."""
    settings = [("protocol.file.allow", "always")]
    settings.append((f"url.{ROOT.as_uri()}.insteadOf", f"https://github.com/{get_repository()}"))
    os.environ |= {
        f"GIT_CONFIG_{what}_{i}": one[j] for i, one in enumerate(settings) for j, what in enumerate(("KEY", "VALUE"))
    }
    os.environ |= {"GIT_CONFIG_COUNT": str(len(settings)), "COLAB_RELEASE_TAG": "stand-in", "NLPBOOK_PROFILE": "quick"}
    os.environ["PYTHONPATH"] = str(HERE / "stand_in")
    before = find_versions()
    for name in notebooks:
        notebook = nbformat.read(name, as_version=4)
        with tempfile.TemporaryDirectory() as folder:  # not the clone: the package is the installed one
            NotebookClient(
                notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": folder}}
            ).execute()
        print(f"{name}: ran to its end", flush=True)
    after = find_versions()
    print(f"before: {before}, after: {after}")
    return int(before != after)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
