"""What must be true of every stored notebook, whatever it teaches."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))
from set_repo import get_repository  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("0*.ipynb"))
SOLUTIONS = ROOT / "notebooks" / "solutions.ipynb"
LESSONS = [path for path in NOTEBOOKS if not path.name.startswith("07")]  # 07 is an appendix, told in larger steps
CHECK = "nbval-check-output"
# training notebooks have the cells 0 to 14, deploying ones 0 to 11; the others are not in the book
CODE_CELLS = {"01": 15, "02": 12, "03": 15, "04": 12}


@pytest.fixture(params=[*NOTEBOOKS, SOLUTIONS], ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def cells(path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


@pytest.fixture
def code_cells(cells) -> list[dict]:
    return [cell for cell in cells if cell["cell_type"] == "code"]


def join(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


def get_tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def test_every_cell_was_executed_in_order(code_cells):
    assert [cell["execution_count"] for cell in code_cells] == list(range(1, len(code_cells) + 1))


def test_checked_cells_have_outputs_to_compare(path, code_cells):
    checked = [cell for cell in code_cells if CHECK in get_tags(cell)]
    assert len(checked) >= 5 or path == SOLUTIONS  # the solutions train too long to be run with every change
    for cell in checked:
        assert cell["outputs"], join(cell["source"])


def test_outputs_hold_no_noise_errors_paths_or_secrets(cells, code_cells):
    for cell in code_cells:
        for output in cell["outputs"]:
            assert output.get("name") != "stderr", join(cell["source"])
            assert output["output_type"] != "error", join(cell["source"])
    text = json.dumps(cells, ensure_ascii=False)
    assert not re.findall(r"(?<![\w.])/(?:home|root|Users|tmp|work|private)/\w+", text)
    text = text.replace("key=my-own-key", "")  # the example that notebooks show
    assert not re.findall(r"[?&]key=[\w-]{8,}|authtoken[\"' :=]+[\w]{20,}", text)


def test_cells_are_short_and_follow_an_explanation(cells):
    for before, cell in zip([None, *cells], cells, strict=False):
        if cell["cell_type"] == "code":
            assert len(join(cell["source"]).splitlines()) <= 23, join(cell["source"])
            assert before is not None, "a notebook begins with its title"


def test_prose_stands_between_any_two_code_cells(cells):
    kinds = [cell["cell_type"] for cell in cells]
    together = [join(cells[i + 1]["source"]) for i in range(len(kinds) - 1) if kinds[i] == kinds[i + 1] == "code"]
    assert not together


def test_pictures_are_stored_with_words_for_who_cannot_see_them(cells):
    for cell in cells:
        for alt, name in re.findall(r"!\[([^]]*)\]\(attachment:([^)]+)\)", join(cell["source"])):
            assert len(alt) > 20, name
            assert "image/png" in cell["attachments"][name], name  # JupyterLab refuses attached SVG


def test_code_numbers_are_the_books(path, code_cells):
    sources = "\n".join(join(cell["source"]) for cell in code_cells)
    expected = [f"{int(path.name[:2])}-{number}" for number in range(CODE_CELLS.get(path.name[:2], 0))]
    assert re.findall(r"^# 코드 (\d+-\d+)", sources, re.MULTILINE) == expected


def test_the_badge_and_the_install_cell_name_this_repository(path, cells):
    text = "\n".join(join(cell["source"]) for cell in cells)
    repository = get_repository()
    badge = f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/{path.name}"
    assert badge in join(cells[0]["source"])
    assert f'REPOSITORY = "https://github.com/{repository}"' in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_three_questions_with_folded_answers_stand_at_the_end(path, cells):
    text = "\n".join(join(cell["source"]) for cell in cells)
    assert text.count("<details><summary><b>") == 3
    assert text.count("<details>") == text.count("</details>")


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_option_of_a_question_is_explained_and_one_is_right(path, cells):
    text = "\n".join(join(cell["source"]) for cell in cells)
    questions = re.findall(r"^\*\*고르기 \d+\.\*\*.*?\n\n(.*?)\n\n<details>.*?\n\n(.*?)\n</details>", text, re.S | re.M)
    assert len(questions) == 3
    for options, answers in questions:
        marks = re.findall("[①-⑨]", options)
        explained = re.findall(r"^- ([①-⑨]) (\*\*)?", answers, re.M)
        assert [mark for mark, _ in explained] == marks, options
        assert sum(bool(is_right) for _, is_right in explained) == 1, answers


@pytest.fixture
def install_cell(path, code_cells, tmp_path, monkeypatch):
    """A function that runs the install cell as Colab would, and the commands it has given to pip."""
    (source,) = [source for cell in code_cells if "REPOSITORY = " in (source := join(cell["source"]))]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    asked: list[str] = []
    names: dict = {}

    class Shell:
        def run_line_magic(self, name: str, line: str) -> None:
            asked.append(line.format_map(names))

    def run(address: str = get_repository()) -> list[str]:
        code = source.replace(get_repository(), address)
        names.update({"get_ipython": Shell, "os": os, "Path": Path, "find_spec": find_spec})
        exec(TransformerManager().transform_cell(code), names)
        return asked

    return run


def test_an_installation_that_failed_ends_with_what_to_do(path, install_cell, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nlpbook_helpers", None)  # as if it were not installed
    with pytest.raises(RuntimeError, match="설치하지 못했습니다. 위의 '설치가 되지 않으면'을 보세요"):
        install_cell("someone/notebooks")
    assert "자리표시자" not in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="설치하지 못했습니다"):
        install_cell("your_account/notebooks")
    assert "REPOSITORY가 아직 자리표시자입니다." in capsys.readouterr().out
    monkeypatch.delenv("COLAB_RELEASE_TAG")  # a reader's own computer
    with pytest.raises(RuntimeError, match="설치하지 못했습니다"):
        install_cell()


def test_the_address_or_what_was_uploaded_is_installed(path, install_cell, tmp_path):
    (asked,) = install_cell("someone/notebooks")
    assert " git+https://github.com/someone/notebooks " in asked
    wheels = [tmp_path / f"nlpbook_{name}-0.1.0-py3-none-any.whl" for name in ("helpers", "checkpoints")]
    for wheel in wheels:
        wheel.touch()
    asked = install_cell()[-1]
    assert "git+" not in asked
    assert all(f" {wheel.as_uri()} " in asked for wheel in wheels)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_exercise_is_solved(path, cells):
    (exercises,) = re.findall(r"연습 문제\n\n(.*?)\n## ", "\n".join(join(cell["source"]) for cell in cells), re.S)
    numbers = re.findall(r"^(\d+)\. ", exercises, re.M)
    solutions = "\n".join(join(cell["source"]) for cell in json.loads(SOLUTIONS.read_text("utf-8"))["cells"])
    assert numbers and re.findall(rf"^### {path.name[:2]}-(\d+)\. ", solutions, re.M) == numbers


@pytest.mark.parametrize(
    "path", [path for path in LESSONS if path.name[:2] in ("01", "03")], ids=lambda path: path.stem
)
def test_what_was_measured_over_seeds_is_written_down(path, code_cells):
    (measured,) = [join(cell["source"]) for cell in code_cells if cell["id"] == "measured"]
    assert len(re.findall(r"\[0\.\d+(?:, 0\.\d+)+\]", measured)) >= 3, "run notebooks/measure.py"


def test_links_between_notebooks_lead_somewhere(cells):
    text = "\n".join(join(cell["source"]) for cell in cells)
    for name in re.findall(r"\]\(([^)]+\.ipynb)\)", text):
        if "://" not in name:
            assert (ROOT / "notebooks" / name).is_file(), name


def test_the_readme_names_this_repository():
    for name in ("README.md", "README.ko.md"):
        found = set(re.findall(r"github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?[\"')\s/]", (ROOT / name).read_text("utf-8")))
        assert get_repository() in found, name


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="asks git which files name the address")
def test_the_address_is_changed_everywhere_at_once(tmp_path):
    command = ["git", "grep", "--files-with-matches", "--fixed-strings", get_repository()]
    named = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    for name in [*named, "notebooks/set_repo.py"]:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    script = [sys.executable, str(tmp_path / "notebooks" / "set_repo.py")]
    console = os.environ | {"PYTHONIOENCODING": "cp1252"}  # that of Windows in the West
    subprocess.run([*script, "someone/new-name"], check=True, capture_output=True, env=console)
    texts = {name: (tmp_path / name).read_text("utf-8") for name in named}
    assert len(texts) > 9
    assert not [name for name, text in texts.items() if get_repository() in text or "someone/new-name" not in text]
    refused = subprocess.run([*script, "no slash"], check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "expected owner/name, got ['no slash']" in refused.stderr
