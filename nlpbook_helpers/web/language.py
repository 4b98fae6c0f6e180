"""In which language do page and API speak? Korean and English; their words are data, in `templates/`."""

import tomllib
from pathlib import Path
from typing import Any

from flask import request

LANGUAGES: tuple[str, ...] = ("ko", "en")  # in the order in which the files give their words
_TEMPLATES = Path(__file__).with_name("templates")
# Every refusal's status, `code` and sentences: by pydantic's name, ours, or the status alone.
SENTENCES: dict[str, tuple[int, str, str, str]] = tomllib.loads((_TEMPLATES / "sentences.toml").read_text("utf-8"))
# Everything else that the page says.
WORDS: dict[str, tuple[str, str]] = tomllib.loads((_TEMPLATES / "words.toml").read_text("utf-8"))


def get_api_language() -> str:
    """Return the language of error messages: Korean if none is asked for, English for who reads neither."""
    wanted = [tag.partition("-")[0].lower() for tag, quality in request.accept_languages if quality]
    return next((tag for tag in wanted if tag in LANGUAGES), "ko" if not wanted or "*" in wanted else "en")


def find_words() -> dict[str, Any]:
    """Return what templates speak with: in the language of the page's switch, else of the browser."""
    chosen = request.args.get("lang") or request.cookies.get("nlpbook_language")
    language = chosen if chosen in LANGUAGES else get_api_language()
    words = {key: both[LANGUAGES.index(language)] for key, both in WORDS.items()}
    get_title = lambda service: service.own_title or words[service.title_key]  # noqa: E731
    say = lambda key, **values: words[key].format(**values)  # noqa: E731
    return {"language": language, "words": words, "say": say, "get_title": get_title}
