"""Spell the Korean prose of the notebooks and READMEs: `python notebooks/spell.py`, a part of `make lint`.

Debian's hunspell-ko knows how Korean words are inflected, but not this field's; those are in `words.txt`. Whether an
ending fits such a word is asked with a word in its place that the dictionary knows and that ends alike.
"""

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import nbformat

HERE = Path(__file__).parent
PROSE = [
    *sorted(HERE.glob("*.ipynb")),
    *sorted(HERE.parent.glob("*.ko.md")),
    *sorted(HERE.parent.glob("docs/*.ko.md")),
]
NO_PROSE = re.compile(r"```.*?```|`[^`]*`|\]\([^)]*\)|<[^>]+>|\$[^$]*\$", re.DOTALL)
WORD = re.compile(
    r"(?<!\S)[(\[|'\"“‘『>]*([가-힣]+)"
)  # an ending after a number, code or a quotation is none


def read_prose(path: Path) -> str:
    """Return what is written for people, with X for code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.sub(r"[*_]", "", NO_PROSE.sub("X", text))


def find_unknown(words: set[str]) -> set[str]:
    """Return the words that the dictionary does not know."""
    asked = ["hunspell", "-d", "ko", "-l", "-i", "utf-8"]
    return {
        *subprocess.run(
            asked, input="\n".join(words), text=True, capture_output=True, check=True
        ).stdout.split()
    }


def stand_in(word: str) -> str:
    """Return a noun of the dictionary that takes the same endings: after a vowel, after ㄹ, after a consonant."""
    final = (ord(word[-1]) - ord("가")) % 28
    return {0: "공부", 8: "출발"}.get(final, "시작")


def rephrase(word: str, stems: list[str], tails: list[str]) -> list[tuple[str, ...]]:
    """Return ways to say a word in words of the dictionary, any of which has to be known whole."""
    ways: list[tuple[str, ...]] = [
        (stand_in(stem) + word[len(stem) :],) for stem in stems if word.startswith(stem)
    ]
    for tail in tails:
        for place in (
            found.start() for found in re.finditer(tail, word) if found.start()
        ):
            rest = stand_in(tail) + word[place + len(tail) :]
            ways += [
                (head, rest)
                for (head,) in [(word[:place],), *rephrase(word[:place], stems, [])]
            ]
    return ways


def main() -> int:
    """Print each unknown word with where it stands; return 1 if there is one."""
    if not shutil.which("hunspell") or find_unknown({"나무", "나무가"}):
        print("Korean is not spelled here: apt-get install hunspell hunspell-ko")
        return 0
    lines = (HERE / "words.txt").read_text(encoding="utf-8").split()
    stems = [line for line in lines if not line.startswith("-")]
    tails = [line[1:] for line in lines if line.startswith("-")]
    places = defaultdict(list)
    for path in PROSE:
        for word in WORD.findall(read_prose(path)):
            places[word].append(path.name)
    ways = {word: rephrase(word, stems, tails) for word in find_unknown({*places})}
    unknown = find_unknown(
        {part for found in ways.values() for way in found for part in way}
    )
    wrong = [
        word for word, found in ways.items() if all({*way} & unknown for way in found)
    ]
    for word in sorted(wrong):
        print(
            f"{', '.join(dict.fromkeys(places[word]))}: {word}: correct it, or add its stem to notebooks/words.txt"
        )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
