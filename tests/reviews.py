"""Reviews that many tests learn from."""

from pathlib import Path

REVIEWS = [
    ("1", "정말 재미있는 영화", "1"),
    ("2", "시간이 아까운 영화", "0"),
    ("3", '그가 "최고"라고 한 영화', "1"),
    ("4", "", "0"),
    ("5", "배우가 정말 좋았다", "1"),
    ("6", "지루한 이야기", "0"),
    ("7", "다시 보고 싶다", "1"),
    ("8", "돈이 아까운 이야기", "0"),
]


def write_reviews(folder: Path, rows, header: str = "id\tdocument\tlabel") -> None:
    """Write NSMC's two files, quoting as NSMC does."""
    folder.mkdir(parents=True, exist_ok=True)
    quoted = ([field if '"' not in field else '"' + field.replace('"', '""') + '"' for field in row] for row in rows)
    text = "\n".join([header, *("\t".join(row) for row in quoted)]) + "\n"
    for mode in ("train", "test"):
        (folder / f"ratings_{mode}.txt").write_text(text, encoding="utf-8")
