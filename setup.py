"""Packaging of nlpbook_helpers: version ranges here, exact pins in requirements.txt and requirements.lock."""

import re
from pathlib import Path

from setuptools import find_packages, setup

# The one place of the repository's address; `make set-repo REPO=owner/name` changes it wherever it stands.
URL = "https://github.com/your_account/nlpbook-notebooks"
HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "nlpbook_helpers/__init__.py").read_text("utf-8")).group(1)

# checkpoints/ lies beside the package in a clone, and inside it where it was installed from one. The wheel that is
# published (make release) leaves it out: whoever trains an encoder of their own does not wait for 49 MB.
EMBEDDED = sorted(folder.name for folder in HERE.glob("checkpoints/*") if (folder / "config.json").is_file())


def make_description() -> str:
    """Return the README with links and pictures that lead to the repository, since PyPI shows it alone."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"<picture>.*?(<img .*?>).*?</picture>", r"\1", text, flags=re.DOTALL)  # PyPI drops the dark twin
    text = re.sub(r'(src=")(?!https?:)', rf"\1{URL}/raw/main/", text)
    return re.sub(r"(\]\()(?!https?:|#)", rf"\1{URL}/blob/main/", text)


setup(
    name="nlpbook_helpers",
    version=VERSION,
    description="Fine-tune, evaluate and serve Korean text classifiers, with notebooks that teach it",
    long_description=make_description(),
    long_description_content_type="text/markdown",
    url=URL,
    project_urls={
        "Notebooks": f"{URL}/tree/main/notebooks",
        "Changelog": f"{URL}/blob/main/CHANGELOG.md",
        "Issues": f"{URL}/issues",
    },
    license="MIT",
    license_files=["LICENSE"],
    keywords="BERT, Korean, NLP, text classification, NSMC, KLUE-NLI, fine-tuning, notebooks, Colab, 한국어",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Education",
        "Intended Audience :: Developers",
        "Natural Language :: Korean",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        *[f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13, 14)],
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Text Processing :: Linguistic",
        "Typing :: Typed",
    ],
    packages=[
        *find_packages(include=["nlpbook_helpers*"]),
        *[f"nlpbook_helpers.checkpoints_data.{name}" for name in EMBEDDED],
    ],
    package_dir={f"nlpbook_helpers.checkpoints_data.{name}": f"checkpoints/{name}" for name in EMBEDDED},
    package_data={
        "nlpbook_helpers": ["py.typed", "samples/*/*"],
        "nlpbook_helpers.exporting": ["*.jinja", "*.json"],
        "nlpbook_helpers.web": ["templates/*", "static/*"],
        **{f"nlpbook_helpers.checkpoints_data.{name}": ["*"] for name in EMBEDDED},
    },
    entry_points={"console_scripts": ["nlpbook = nlpbook_helpers.__main__:main"]},
    python_requires=">=3.11",
    install_requires=[
        "torch>=2.9",
        "transformers>=5,<6",
        "pytorch-lightning>=2.6.4,<3",  # 2.6.2 and 2.6.3 on PyPI were malicious
        "Korpora>=0.2",
        "pooch>=1.8",
        "filelock>=3.12",
        "numpy>=1.26",
        "pandas>=2.2",
        "pyarrow>=18",
        "scikit-learn>=1.5",
        "matplotlib>=3.8",
        "huggingface_hub>=1.0",
        "pyyaml>=6.0",
        "safetensors>=0.6.2",
        "flask>=3.1",
        "flask-cors>=6.0",
        "jinja2>=3.1",
        "pydantic>=2.10",
        "waitress>=3.0.1",
        "pyngrok>=9,<10",
        "cyclopts>=5,<6",
        "tqdm>=4.66",
        "universal_pathlib>=0.3.10",
    ],
    extras_require={
        "embedded": ["nlpbook-checkpoints>=0.1"],  # the encoder and the classifiers of this project
        "fonts": ["koreanize-matplotlib==0.1.1"],  # a Hangul font for plots, where the system has none
        "metrics": ["prometheus-client>=0.20"],  # /metrics of a page
        "notebooks": ["jupyter>=1.1", "nbclient>=0.10", "accelerate>=1.3"],
        # large encoders in 8 bits on a CPU
        "onnx": ["onnxruntime>=1.24.1", "onnx>=1.18", "onnxscript>=0.5", "torch>=2.10"],
        "ray": ["ray[data]>=2.60"],  # from here on a cluster that it starts asks for a token
        "tensorboard": ["tensorboard>=2.18"],  # curves of several trainings beside each other
        "tpu": ["torch==2.9.0", "torch_xla==2.9.0"],  # what Colab's TPU runtime ships; for no other machine
        "test": [
            "tensorboard>=2.18",
            "pdoc>=15",
            "peft>=0.17",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "pytest-socket>=0.7",
            "nbval>=0.11",
            "playwright>=1.60",
            "axe-playwright-python>=0.1.8",
            "schemathesis>=4.32",
            "sentencepiece>=0.2",
            "psutil>=6",
            "prometheus-client>=0.20",
            "onnxruntime>=1.24.1",
            "onnx>=1.18",
            "onnxscript>=0.5",
        ],
        "lint": ["ruff", "pyright"],
    },
)
