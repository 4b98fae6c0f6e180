"""What the READMEs show runs as it stands, and what they name is there."""

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from nlpbook_helpers.__main__ import COMMANDS

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))
from install import KINDS  # noqa: E402

PACKAGE = ROOT / "nlpbook_helpers"


@pytest.fixture(params=["README.md", "README.ko.md"])
def text(request) -> str:
    return (ROOT / request.param).read_text(encoding="utf-8")


def test_the_example_with_your_own_texts_runs(text, tmp_path, monkeypatch, encoder_dir):
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    labels = re.findall(r'labels=\["(.+?)", "(.+?)"\]', code)[0]
    rows = [f"{text},{label}" for text in ("정말 좋았다", "다시 보고 싶다") for label in labels] * 5
    (tmp_path / "corpora" / "mine").mkdir(parents=True)
    (tmp_path / "corpora" / "mine" / "train.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    monkeypatch.setenv("NLPBOOK_CORPUS_DIR", str(tmp_path / "corpora"))
    monkeypatch.chdir(tmp_path)
    assert '"klue/roberta-base"' in code
    code = code.replace('"klue/roberta-base"', repr(encoder_dir))
    lines = code.rstrip().splitlines()
    variables: dict = {}
    exec("\n".join([*lines[:-1], f"answer = {lines[-1]}"]), variables)
    assert variables["answer"].shape == (2, 2)
    assert variables["answer"].dtype == np.float32
    assert list((tmp_path / "models" / "mine").glob("*.ckpt"))


def test_every_target_command_and_option_named_is_there(text):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    shown = re.findall(r"^(?:\S+=\S+ )?nlpbook (\w+)( [^#\n]*)", text, re.MULTILINE)
    assert {name for name, _ in shown} == set(COMMANDS)
    for name, options in shown:
        known = COMMANDS[name].__annotations__ if name != "train" else {"epochs", "text", "label", "serve"}
        assert set(re.findall(r"--([a-z-]+)", options)) <= set(known), options


def test_every_file_and_program_of_a_shown_command_is_there(text):
    """What a reader types finds its file; what follows `pip install` and `install.py` is known."""
    shown = [
        line.split("#")[0].strip()
        for code in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in code.splitlines()
    ]
    assert len(shown) > 8
    programs = {"make", "python", "nlpbook", "torchrun", ".venv\\Scripts\\jupyter", ".venv\\Scripts\\nlpbook"}
    for words in (re.sub(r"^(\w+=\S+ )+", "", line).split() for line in shown if line):
        assert words[0] in programs, words
        for word in words[1:]:
            if word.endswith(".py"):
                assert (ROOT / word).is_file(), words
    assert set(re.findall(r"notebooks/install\.py (\w+)", text)) <= set(KINDS)
    extras = re.search(r"extras_require=\{(.*)\n    \}", (ROOT / "setup.py").read_text("utf-8"), re.DOTALL).group(1)
    for extra in ("embedded", "fonts", "onnx", "ray", "tensorboard"):
        assert f'"{extra}": ' in extras
        assert f"`{extra}`" in text


def test_the_lines_that_replace_ratsnlp_import_the_same_names(text):
    rows = re.findall(r"^\| `(from ratsnlp.*)` \| `(.*)` \|$", text, re.MULTILINE)
    assert len(rows) >= 8
    for old, new in rows:
        names: dict = {}
        exec(new, names)
        assert set(old.split(" import ")[1].split(", ")) == set(names) - {"__builtins__"}, new


def test_links_lead_somewhere(text):
    for link in re.findall(r"\]\(([^):#]+)\)|srcset=\"([^\"]+)\"|src=\"([^\"]+)\"", text):
        assert (ROOT / "".join(link)).exists(), link


def test_the_map_names_every_room_and_none_imports_one_below_it(text):
    rooms = re.findall(r"^  (\w+)/?  +", text, re.MULTILINE)
    assert sorted(rooms) == sorted(
        {path.stem for path in PACKAGE.glob("[a-z]*") if path.name not in ("samples", "py.typed")}
    )
    for path in PACKAGE.rglob("[a-z]*.py"):
        imported = "\n".join(ast.unparse(node) for node in ast.parse(path.read_text("utf-8")).body)
        imported = set(re.findall(r"^(?:from|import) nlpbook_helpers(?:\.| import )(\w+)", imported, re.MULTILINE))
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        below = rooms[rooms.index(room) + 1 :]
        assert not imported & set(below), path
