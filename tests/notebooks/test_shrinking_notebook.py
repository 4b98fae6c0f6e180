"""Notebook 07 says what each step saves and costs: what it stores bears it out."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent.parent / "notebooks" / "07_pretrain_mini_bert.ipynb"
STEP = re.compile(r"^(.+): (\d+) MiB, 선생과 같은 답 ([\d.]+), 정답과 같은 답 ([\d.]+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def printed() -> str:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    outputs = [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]
    return "".join("".join(output.get("text", "")) for output in outputs)


@pytest.fixture(scope="module")
def steps(printed) -> dict[str, tuple[float, ...]]:
    """Size in MiB, share of answers that are the teacher's, share that are right; by the name of the step."""
    return {name: tuple(map(float, numbers)) for name, *numbers in STEP.findall(printed)}


def test_the_toy_learns_more_than_frequencies(printed):
    assert "앞뒤를 보고 답하나요? True" in printed


def test_every_step_of_the_story_makes_the_encoder_no_larger(steps):
    sizes = [steps[name][0] for name in ("선생", "어휘 줄이기", "하나 건너", "증류한 뒤", "8비트로")]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 6


def test_answers_are_lost_with_the_layers_and_come_back_with_the_teacher(steps):
    halves = [steps[name][1] for name in ("앞의 절반", "뒤의 절반", "하나 건너")]
    assert max(halves) < 0.6 < steps["증류한 뒤"][1]
    assert steps["하나 건너"][1] < steps["증류한 뒤"][1] - 0.2
    assert abs(steps["8비트로"][1] - steps["증류한 뒤"][1]) < 0.05
