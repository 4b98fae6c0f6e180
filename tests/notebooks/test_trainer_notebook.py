"""Notebook 05 promises that its second corpus, of three classes, needs no other code than the first."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent.parent / "notebooks" / "05_single_sentence_trainer.ipynb"


@pytest.fixture(scope="module")
def code_cells() -> list[dict]:
    return [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_the_cells_of_the_second_corpus_are_the_firsts_letter_for_letter(code_cells):
    repeated = ["".join(cell["source"]) for cell in code_cells if "repeated" in cell["metadata"].get("tags", [])]
    assert len(repeated) == 24
    assert repeated[:12] == repeated[12:]


def test_no_cell_names_a_number_of_classes(code_cells):
    repeated = {"".join(cell["source"]) for cell in code_cells if "repeated" in cell["metadata"].get("tags", [])}
    functions = {
        "".join(cell["source"]) for cell in code_cells if re.search(r"^(def|class) ", "".join(cell["source"]), re.M)
    }
    assert len(functions) == 7
    for source in repeated | functions:
        assert not re.search(r"num_labels=\d|positive|negative|binary|\[:, ?[01]\]", source), source


def test_the_first_corpus_has_two_classes_and_the_second_three(code_cells):
    outputs = ["".join(output.get("text", "")) for cell in code_cells for output in cell["outputs"]]
    shapes = Counter(shape for text in outputs for shape in re.findall(r"로짓의 모양: (\(.*\))", text))
    assert shapes == {"(3, 2)": 1, "(3, 3)": 1}
