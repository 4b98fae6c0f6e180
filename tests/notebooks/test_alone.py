"""The deploying notebooks without the training ones: the shipped classifiers answer, and all cells can run again."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.mark.parametrize("number", ["02", "04"])
def test_a_page_opens_without_the_lesson_before_it_and_twice_in_one_kernel(number, tmp_path):
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    notebook = nbformat.read(path, as_version=4)
    again = [nbformat.from_dict({**cell, "id": f"again-{place}"}) for place, cell in enumerate(notebook.cells)]
    notebook.cells += again
    nbformat.write(notebook, tmp_path / path.name)
    command = [sys.executable, str(NOTEBOOKS / "execute.py"), str(tmp_path / path.name)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3_000:]
