"""What the READMEs show runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_the_example_with_your_own_texts_runs(name, tmp_path, monkeypatch, encoder_dir):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
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


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_every_room_and_target_named_is_there(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    rooms = {path.stem for path in (ROOT / "nlpbook_helpers").glob("*") if path.suffix == ".py" or path.is_dir()}
    listed = set(re.findall(r"^  (\w+)/?  +", text, re.MULTILINE))
    assert listed == rooms - {"__init__", "__main__", "__pycache__", "samples"}
