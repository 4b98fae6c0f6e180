"""Make an environment: `install.py pages|notebooks|tests`, with Python 3.11 or newer, on any system.

`make` runs it; where there is no make, as on Windows, run it yourself. uv installs where it is there, else pip; both
take the versions of requirements.lock. Each step says what it does, and none is silent for more than ten seconds.
"""

# an older Python has to get as far as the sentence that refuses it
from __future__ import annotations

import argparse
import contextlib
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
KINDS = ("pages", "notebooks", "tests")  # each has what the one before it has
OLDEST, NEWEST_PINNED = (3, 11), (3, 14)
SILENCE = 5  # seconds
# What pytorch.org documents for a machine without an NVIDIA GPU; TORCH_CPU_INDEX names a mirror of it.
TORCH_CPU_INDEX = os.environ.get("TORCH_CPU_INDEX", "https://download.pytorch.org/whl/cpu")
NOTEBOOKS_BEGIN = "# ---- the notebooks"  # in requirements.txt; what stands above it is for the pages
WORTH_SAYING = re.compile(r"\s*(Downloading \S+ \(.*[MG]i?B\)|Building |Installing |Prepared |Installed )")


class InstallError(RuntimeError):
    """An environment could not be made; the message says what to do."""


class Environment:
    """A virtual environment, and what installs into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.uv = shutil.which("uv")

    def make(self) -> None:
        """Make the folder, unless it is there; uv may bring a newer Python than the one that runs this."""
        if self.python.exists() and (self.uv or is_whole(self.python)):
            return
        is_old = sys.version_info[:2] < OLDEST
        if self.uv:
            run(self.uv, "venv", "--seed", "--python", ">=3.11" if is_old else sys.executable, self.folder)
        elif is_old:
            name = "Python " + sys.version.split()[0]
            raise InstallError(f"expected Python 3.11 or newer, got {name}: run make PYTHON=/path/to/python3.13")
        else:
            run(sys.executable, "-m", "venv", "--clear", self.folder)

    def install(self, *what: str | Path) -> None:
        """Install into it; what is there and fits stays."""
        if self.uv:
            run(self.uv, "pip", "install", "--python", self.python, "--constraint", LOCK, *what)
        else:
            # --no-compile: pip would compile all modules at once, most of which are never imported
            options = ("--no-compile", "--disable-pip-version-check", "--progress-bar", "off", "--constraint", LOCK)
            run(self.python, "-m", "pip", "install", *options, *what)

    def install_torch(self, requirement: str) -> None:
        """Install PyTorch in the build that this machine can use: on Linux PyPI's has 3 GB of CUDA libraries in it."""
        if has_nvidia_gpu():
            note = "; on Windows PyPI's build computes on the CPU, pytorch.org has the other" if os.name == "nt" else ""
            say(f"      an NVIDIA GPU was found{note}")
        elif sys.platform == "linux":
            try:
                urllib.request.urlopen(f"{TORCH_CPU_INDEX}/torch/", timeout=10).close()  # noqa: S310
            except OSError as error:
                say(f"      no NVIDIA GPU was found, but {TORCH_CPU_INDEX} cannot be reached ({error}):")
                say("      taking what PyPI has, which may bring 3 GB of CUDA libraries along; Ctrl-C stops it")
            else:
                say(f"      no NVIDIA GPU was found: the CPU build, from {TORCH_CPU_INDEX}")
                self.install("--no-deps", "--index-url", TORCH_CPU_INDEX, requirement)
        self.install(requirement)

    def measure(self) -> str:
        """Return its size on disk."""
        files = (Path(folder, name) for folder, _, names in os.walk(self.folder) for name in names)
        return f"{sum(file.lstat().st_size for file in files) / 1e6:,.0f} MB"


def say(words: str) -> None:
    """Print at once, also into a pipe."""
    print(words, flush=True)


def run(*command: str | Path) -> None:
    """Run a command; repeat those of its lines that a reader wants, and count the seconds of its silence.

    Raises:
        InstallError: It failed; its last lines are printed before.
    """
    environment = {**os.environ, "UV_VENV_CLEAR": "1"}  # of what an interrupted run left
    process = subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        encoding="utf-8", errors="replace",
    )  # fmt: skip
    lines: queue.Queue[str] = queue.Queue()
    listener = threading.Thread(target=listen, args=(process.stdout, lines), daemon=True)
    listener.start()
    heard, begun = [], time.monotonic()
    spoke = begun
    while listener.is_alive() or not lines.empty():
        line = ""
        with contextlib.suppress(queue.Empty):
            line = lines.get(timeout=0.2)
            heard.append(line)
        words = line.strip()[:110] if WORTH_SAYING.match(line) else ""
        if not words and time.monotonic() - spoke > SILENCE:
            words = f"… {time.monotonic() - begun:.0f} s"
        if words:
            say(f"      {words}")
            spoke = time.monotonic()
    if process.wait():
        say("".join(heard[-20:]))
        raise InstallError("the installation failed, see above: correct that and run it again, it goes on from there")


def listen(stream: Iterable[str], lines: queue.Queue[str]) -> None:
    """Put lines into a queue as they come, since reading them waits without end."""
    for line in stream:
        lines.put(line)


def is_whole(python: Path) -> bool:
    """Whether an environment has pip, which comes last: making one can be interrupted."""
    return subprocess.run([str(python), "-m", "pip", "--version"], check=False, capture_output=True).returncode == 0


def has_nvidia_gpu() -> bool:
    """Whether NVIDIA's driver lists a GPU."""
    tool = shutil.which("nvidia-smi")
    return bool(tool) and "GPU" in subprocess.run([tool, "-L"], check=False, capture_output=True, text=True).stdout


def read_requirements(what: str) -> list[str]:
    """Return what pip is to install, PyTorch's pin first."""
    if what == "tests":
        return [*read_requirements("pages")[:1], "-r", "tests/requirements.txt"]
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    lines = (text.split(NOTEBOOKS_BEGIN)[0] if what == "pages" else text).splitlines()
    return [pin for line in lines if (pin := line.split("#")[0].strip())]


def main() -> int:
    """Make the environment named on the command line; return 1 after a sentence if it cannot be made."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # a console may lack a letter
    parser = argparse.ArgumentParser(description="Make an environment, see the head of this file.")
    parser.add_argument("what", choices=KINDS)
    parser.add_argument("--folder", type=Path, default=Path(".venv"), help="default: %(default)s")
    parser.add_argument("--wheels", type=Path, help="folder of the package's wheels; else this clone is installed")
    given = parser.parse_args()
    environment = Environment(ROOT / given.folder)
    begun = time.monotonic()
    try:
        torch, *others = read_requirements(given.what)
        say(f"1/4 the environment {given.folder}, with {'uv' if environment.uv else 'pip'}")
        environment.make()
        say(f"2/4 PyTorch ({torch})")
        environment.install_torch(torch)
        say(f"3/4 what the {given.what} need")
        environment.install(*others, "setuptools")
        say("4/4 nlpbook_helpers")
        # setuptools is there: no second copy is fetched for this; wheels are named, so that those are installed
        package = sorted(given.wheels.resolve().glob("*.whl")) if given.wheels else ["--editable", "."]
        environment.install("--no-deps", "--no-build-isolation", *package)
    except InstallError as error:
        print(error, file=sys.stderr)
        if sys.version_info[:2] > NEWEST_PINNED:
            print(f"(the pinned versions have builds for Python 3.11 to {NEWEST_PINNED[0]}.{NEWEST_PINNED[1]})")
        return 1
    except KeyboardInterrupt:
        print("stopped: run it again, it goes on with what is there", file=sys.stderr)
        return 130
    say(f"ready: {time.monotonic() - begun:.0f} s, {environment.measure()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
