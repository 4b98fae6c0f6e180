"""The page that notebook 02 sends readers to: its Python blocks run, one after the other, and say what they promise."""

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent.parent / "docs" / "leaving-and-scaling.ko.md"


def test_the_code_of_the_page_runs_top_to_bottom(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), namespace)
    printed = capsys.readouterr().out
    assert "model.safetensors" in printed
    assert "license:" in printed
    assert "같은 답: True" in printed
    assert "1 refused" in printed
    assert '"reason": "review: expected a text, got an empty one"' in printed
