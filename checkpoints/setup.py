"""Packaging of the embedded encoder and classifiers: `nlpbook-checkpoints`, the extra `embedded` of nlpbook_helpers."""

from pathlib import Path

from setuptools import setup

URL = "https://github.com/your_account/nlpbook-notebooks"
HERE = Path(__file__).parent
FOLDERS = sorted(folder.name for folder in HERE.iterdir() if (folder / "config.json").is_file())

setup(
    name="nlpbook-checkpoints",
    version="0.1.0",
    description="The Korean encoder and the two classifiers that ship with nlpbook_helpers",
    long_description=(HERE / "README.md").read_text(encoding="utf-8").replace("](", f"]({URL}/blob/main/checkpoints/"),
    long_description_content_type="text/markdown",
    url=URL,
    license="MIT AND CC-BY-SA-4.0",  # see the cards
    classifiers=["Natural Language :: Korean", "Topic :: Scientific/Engineering :: Artificial Intelligence"],
    # only the folders: the scripts beside them make the checkpoints, and belong to a clone
    packages=[f"nlpbook_checkpoints.{name}" for name in FOLDERS],
    package_dir={f"nlpbook_checkpoints.{name}": name for name in FOLDERS},
    package_data={f"nlpbook_checkpoints.{name}": ["*"] for name in FOLDERS},
    python_requires=">=3.11",
)
