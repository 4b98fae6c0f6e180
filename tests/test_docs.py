"""What the pages of docs/ show runs, what they link is there, and every public name is in the reference."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pdoc.__main__
import pytest

import nlpbook_helpers as nlpbook
from nlpbook_helpers.__main__ import COMMANDS
from nlpbook_helpers.arguments import get_meanings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    [*DOCS.glob("*.md"), *ROOT.glob("*.md"), *(ROOT / ".github").glob("*.md"), *ROOT.glob("checkpoints/*.md")]
)
ARGUMENTS = (nlpbook.ClassificationTrainArguments, nlpbook.ClassificationDeployArguments)
# Pages whose Python is run here, with what must be printed; README and the Korean page have tests of their own.
RUN = {
    "pairs.md": "('premise', 'hypothesis')",
    "imbalance.md": "never predicted|precision",
    "long-texts.md": "True",
    "lora.md": "trainable params",
    "public-page.md": "http://127.0.0.1:",
    "ten-million-rows.md": "scored 300 rows.* 1 refused",
    "hub.md": "True",
}


def find_code(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> str:
    """The page that `make docs` builds."""
    folder = tmp_path_factory.mktemp("reference")
    (line,) = re.findall(r"^\t\$\(BIN\)/pdoc (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    pdoc.__main__.cli(shlex.split(line.replace("build/docs", str(folder))))
    return (folder / "nlpbook_helpers.html").read_text(encoding="utf-8")


def test_the_reference_holds_every_public_name_with_what_it_does(reference):
    ids = set(re.findall(r'id="([\w.]+)"', reference))
    assert not set(nlpbook.__all__) - ids
    assert not set(re.findall(r'href="#([\w.]+)"', reference)) - ids


@pytest.mark.parametrize("name", nlpbook.__all__)
def test_every_public_name_and_method_says_what_it_does(name):
    value = getattr(nlpbook, name)
    own = vars(value).items() if isinstance(value, type) else ()
    public = {key: one for key, one in own if key[0] != "_" and (callable(one) or isinstance(one, property))}
    for key, one in {name: value, **public}.items():
        assert len((one.__doc__ or "").strip()) > 15, f"{name}.{key}"


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_help_and_reference_explain_every_argument(arguments, reference):
    for one in fields(arguments):
        assert len(get_meanings(arguments)[one.name]) > 10, one.name
        assert re.search(rf"<strong>{one.name}:?</strong>", reference), one.name


def make_anchor(heading: str) -> str:
    """Return the anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_is_dead(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(make_anchor, headings), link


def test_the_index_names_every_page():
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    assert not [page.name for page in DOCS.glob("*.md") if page.name != "README.md" and f"({page.name})" not in index]


def test_every_command_and_name_that_a_page_shows_is_there():
    given = {one.name for one in fields(nlpbook.ClassificationTrainArguments)} | {"text", "label", "serve"}
    for page in DOCS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for name, options in re.findall(r"nlpbook (train|predict|serve|export)( [^#\n`]*)", text):
            known = given if name == "train" else set(COMMANDS[name].__annotations__)
            shown = {option.replace("-", "_") for option in re.findall(r"--([\w-]+)", options)}
            assert shown <= known | {f"no_{one}" for one in known}, (page.name, options)
        for name in re.findall(r"nlpbook\.(\w+)", text):
            assert hasattr(nlpbook, name) or name in ("service", "env"), (page.name, name)


@pytest.mark.parametrize("page", RUN)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch, capsys, make_model):
    """Top to bottom; what is trained is a tiny encoder, and not for long."""
    monkeypatch.chdir(tmp_path)
    tokenizer = nlpbook.load_tokenizer(nlpbook.get_embedded_path("nlpbook-mini"))  # knows the samples' words
    make_model(vocab_size=len(tokenizer)).bert.save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    blocks = find_code(page, "python")
    assert blocks
    names: dict = {"__name__": "__main__"}
    for block in blocks:
        code = block.replace('pretrained_model_name="nlpbook-mini"', 'pretrained_model_name="tiny"')
        exec(compile(re.sub(r"epochs=\d+", "epochs=1", code), page, "exec"), names)
    assert re.search(RUN[page], capsys.readouterr().out), page
