"""Write the repository's address wherever it stands: `set_repo.py owner/name`."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLACES = (
    "setup.py", "checkpoints/setup.py", "README*.md", "CITATION.cff", ".github/**/*.md", ".github/**/*.yml", "docs/*.md",
    "notebooks/*.ipynb",
)  # fmt: skip
_URL = re.compile(r'^URL = "https://github\.com/([^"]+)"', re.MULTILINE)


def get_repository() -> str:
    """Return "owner/name" from setup.py, the one place where it stands."""
    match = _URL.search((ROOT / "setup.py").read_text(encoding="utf-8"))
    if match is None:
        raise ValueError('setup.py: expected a line URL = "https://github.com/owner/name", found none: put it back')
    return match.group(1)


def main(arguments: list[str]) -> int:
    """Replace the old address by the new one wherever it stands; return the exit status."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # a console may lack a letter
    if len(arguments) != 1 or not re.fullmatch(r"[\w.-]+/[\w.-]+", arguments[0]):
        print(f"expected owner/name, got {arguments}: run make set-repo REPO=owner/name", file=sys.stderr)
        return 2
    old, new = get_repository(), arguments[0]
    for path in [path for place in PLACES for path in sorted(ROOT.glob(place))]:
        text = path.read_text(encoding="utf-8")
        if old in text:
            path.write_text(text.replace(old, new), encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: {old} → {new}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
