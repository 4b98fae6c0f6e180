"""What is pinned fits what is allowed, what is installed suffices, and what is published carries what it needs."""

import re
import runpy
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))
from install import read_requirements  # noqa: E402


def read_pins(name: str) -> dict[str, Version]:
    """Return package → version of a file of pins."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pins = [Requirement(words) for line in lines if (words := line.split("#")[0].strip()) and words[0] != "-"]
    return {canonicalize_name(pin.name): Version(str(pin.specifier).removeprefix("==")) for pin in pins}


@pytest.fixture
def settings(monkeypatch) -> dict:
    """Return what setup.py hands to setuptools."""
    handed: dict = {}
    monkeypatch.setattr("setuptools.setup", handed.update)
    runpy.run_path(str(ROOT / "setup.py"))
    return handed


@pytest.mark.parametrize("name", ["requirements.txt", "tests/requirements.txt"])
def test_the_lock_pins_what_requirements_pin(name):
    pins, locked = read_pins(name), read_pins("requirements.lock")
    assert len(pins) > 15
    assert {name: locked.get(name) for name in pins} == pins, "make lock renews requirements.lock"


def test_what_is_locked_lies_in_the_ranges_of_setup(settings):
    locked = read_pins("requirements.lock")
    extras = settings["extras_require"]
    own = {"tpu", "embedded"}  # versions of another machine, and of this project
    lists = [settings["install_requires"], *(extras[name] for name in extras if name not in own)]
    ranges = [Requirement(words) for one in lists for words in one]
    assert len(ranges) > 30
    outside = [str(one) for one in ranges if locked[canonicalize_name(one.name)] not in one.specifier]
    assert not outside


def test_a_wheel_carries_every_file_of_the_package(settings):
    folders = {name: settings["package_dir"].get(name, name.replace(".", "/")) for name in settings["packages"]}
    globs = [(folders[name], glob) for name, patterns in settings["package_data"].items() for glob in patterns]
    carried = {path for folder, glob in globs for path in (ROOT / folder).glob(glob)}
    places = [*(ROOT / "nlpbook_helpers").rglob("*"), *(ROOT / "checkpoints").glob("*/*")]
    files = {path for path in places if path.is_file() and path.suffix != ".py" and path.parent.name != "__pycache__"}
    assert len(files) > 40
    assert not {path for path in files - carried if "build" not in path.parts}


def test_on_pypi_every_link_of_the_readme_leads_somewhere(settings):
    text = settings["long_description"]
    links = re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", text)
    assert len(links) > 10
    for link in ("".join(pair) for pair in links):
        assert link.startswith("https://"), link
        local = re.match(re.escape(settings["url"]) + "/(?:blob|raw)/main/(.+)", link)
        assert local is None or (ROOT / local.group(1)).is_file(), link


def test_the_image_copies_what_is_there():
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "docs/Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    assert len(sources) > 5
    assert not [source for source in sources if not (ROOT / source).exists()]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone")
@pytest.mark.parametrize("readme", ["README.md", "README.ko.md"])
def test_what_a_gpu_reader_clones_is_small_and_whole(readme, settings, tmp_path, monkeypatch):
    """The cell of the READMEs, its address led to this clone; pip, which needs a network, is left out."""
    (cell,) = re.findall(r"```ipython\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)
    config = (
        f'[url "{ROOT.as_uri()}"]\ninsteadOf = {settings["url"]}\n[uploadpack]\nallowFilter\n[safe]\ndirectory = *\n'
    )
    (tmp_path / "gitconfig").write_text(config, encoding="utf-8")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    for line in cell.splitlines()[:-1]:
        subprocess.run(line.removeprefix("!").split(), cwd=tmp_path, check=True)
    assert cell.splitlines()[-1].endswith("--no-deps ./source")
    cloned = [path for path in (tmp_path / "source").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in cloned) < 20e6
    tracked = subprocess.run(
        ["git", "ls-files", "nlpbook_helpers"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert {tmp_path / "source" / name for name in [*tracked.stdout.split(), "setup.py"]} <= set(cloned)


def find_needed(names: list[str]) -> set[str]:
    """Return distributions and all that they bring along here, extras left out."""
    needed, waiting = set(), [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        try:
            requirements = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        needed.add(name)
        found = [Requirement(words) for words in requirements]
        wanted = {canonicalize_name(one.name) for one in found if not one.marker or one.marker.evaluate({"extra": ""})}
        waiting += wanted - needed
    return needed


SERVE = """
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
class Hiding(PathFinder):
    def find_spec(name, path=None, target=None):
        return None if name.split(".")[0] in {missing!r} else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Hiding]
import nlpbook_helpers as nlpbook
from nlpbook_helpers.__main__ import main
pair = {{"premise": "비가 온다", "hypothesis": "맑다"}}
for name, text in (("doccls", {{"sentence": "재미있다"}}), ("paircls", pair)):
    app = nlpbook.get_web_service_app(nlpbook.Classifier.from_checkpoint(nlpbook.get_embedded_path(name)).inference_fn)
    client = app.test_client()
    assert [client.post(door, json=text).status_code for door in ("/api", "/api/explain")] == [200, 200]
    assert client.get("/").status_code == 200
print("served")
sys.exit(main(["train"]))
"""


def test_the_pages_need_no_more_than_what_demo_installs():
    """Everything else that is here is hidden; a command that needs more says how it is had."""
    needed = find_needed([re.split(r"[=\[]", pin)[0] for pin in read_requirements("pages")])
    own = {"nlpbook-helpers", "nlpbook-checkpoints"}
    provided = packages_distributions()
    missing = {name for name, owners in provided.items() if not {canonicalize_name(one) for one in owners} & needed}
    missing -= {name for name, owners in provided.items() if {canonicalize_name(one) for one in owners} & own}
    missing -= sys.stdlib_module_names  # Korpora brings a backport along
    assert {"pandas", "pytorch_lightning", "matplotlib"} <= missing
    run = subprocess.run(
        [sys.executable, "-c", SERVE.format(missing=missing)], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    assert "served" in run.stdout, run.stderr[-2000:]
    assert run.returncode == 1
    assert "make lab" in run.stderr
