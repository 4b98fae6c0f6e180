"""Build what is published into dist/ and try it there: `make release`.

Two wheels with their source distributions, and a zip of the notebooks. Nothing is uploaded.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
LARGEST_WHEEL = 20e6  # bytes of the package without the checkpoints
NOT_BUILT = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "nlpbook")


def run(*command: str | Path, **settings) -> None:
    """Run a command, shown before, and stop with its exit status if it fails."""
    print("$", *command, flush=True)
    subprocess.run([str(part) for part in command], check=True, **settings)


def build() -> None:
    """Build from a copy, so that nothing that lies around gets in and nothing is left behind."""
    shutil.rmtree(DIST, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        shutil.copytree(ROOT, copy, ignore=NOT_BUILT)
        for project in (copy, copy / "checkpoints"):
            run(sys.executable, "-m", "build", "--outdir", DIST, project)
    with zipfile.ZipFile(DIST / "notebooks.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
            archive.write(path, f"notebooks/{path.name}")


def check() -> None:
    """Ask twine what PyPI would say, and whether the package stayed small."""
    files = sorted(DIST.iterdir())
    run(sys.executable, "-m", "twine", "check", "--strict", *(file for file in files if file.suffix != ".zip"))
    for file in files:
        print(f"{file.stat().st_size / 1e6:8.2f} MB  {file.name}")
        if file.name.startswith("nlpbook_helpers") and file.stat().st_size > LARGEST_WHEEL:
            raise SystemExit(f"{file.name}: expected at most {LARGEST_WHEEL / 1e6:.0f} MB: checkpoints got in")


def try_pages(folder: Path) -> None:
    """Install the wheels into an empty environment, and ask both pages there, with every way out of the machine shut."""
    run(sys.executable, ROOT / "notebooks/install.py", "pages", "--folder", folder / "venv", "--wheels", DIST)
    program = folder / "venv" / ("Scripts/nlpbook.exe" if os.name == "nt" else "bin/nlpbook")
    shut = {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
    variables = {**os.environ, **shut, "NO_PROXY": "127.0.0.1", "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
    command = [program, "serve", "--checkpoint", "doccls", "paircls", "--port", "0"]
    print("$", *command, flush=True)
    with subprocess.Popen(command, cwd=folder, env=variables, stdout=subprocess.PIPE, encoding="utf-8") as server:
        try:
            address = None
            while not address and (line := server.stdout.readline()):  # type: ignore[union-attr]
                print(line, end="", flush=True)
                address = re.search(r"http://[\d.]+:\d+", line)
            paths = [f"{address[0]}/models/{name}/" for name in ("doccls", "paircls")] if address else []
            pages = [urlopen(path, timeout=30).read().decode() for path in paths]  # noqa: S310
        finally:
            server.terminate()
            server.communicate()  # what it says while it closes
    if len(pages) != 2 or not all("<form" in page for page in pages):
        raise SystemExit("expected the pages of doccls and paircls, got something else: see above")
    print("both pages answer without a network")


def main() -> None:
    """Build, check and try."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # a console may lack a letter
    build()
    check()
    with tempfile.TemporaryDirectory() as folder:
        try_pages(Path(folder))
    print(f"ready to be uploaded, with `twine upload` and as files of a release on GitHub: {DIST}")


if __name__ == "__main__":
    main()
