"""Packaging of nlpbook_helpers: version ranges here, exact pins in requirements.txt and tests/requirements.txt."""

from pathlib import Path

from setuptools import find_packages, setup

# The one place of the repository's address; `make set-repo REPO=owner/name` changes it and the notebooks.
URL = "https://github.com/your_account/nlpbook-notebooks"

setup(
    name="nlpbook_helpers",
    version="0.1.0",
    description="Fine-tune, evaluate and serve Korean text classifiers, with notebooks that teach it",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    url=URL,
    license="MIT",
    packages=[*find_packages(include=["nlpbook_helpers*"]), "nlpbook_helpers.checkpoints_data"],
    # checkpoints/ lies beside the package in a clone and inside it once installed
    package_dir={"nlpbook_helpers.checkpoints_data": "checkpoints"},
    package_data={
        "nlpbook_helpers": ["samples/*/*"],
        "nlpbook_helpers.exporting": ["*.jinja", "*.json"],
        "nlpbook_helpers.web": ["templates/*", "static/*"],
        "nlpbook_helpers.checkpoints_data": ["*/*"],
    },
    entry_points={"console_scripts": ["nlpbook = nlpbook_helpers.__main__:main"]},
    python_requires=">=3.11,<3.14",
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
        "fonts": ["koreanize-matplotlib==0.1.1"],  # a Hangul font for plots, where the system has none
        "notebooks": ["jupyter>=1.1", "nbclient>=0.10", "accelerate>=1.3"],
        # large encoders in 8 bits on a CPU
        "onnx": ["onnxruntime>=1.24.1", "onnx>=1.18", "onnxscript>=0.5", "torch>=2.10"],
        "ray": ["ray[data]>=2.60"],  # from here on a cluster that it starts asks for a token
        "tensorboard": ["tensorboard>=2.18"],  # curves of several trainings beside each other
        "tpu": ["torch==2.9.0", "torch_xla==2.9.0"],  # what Colab's TPU runtime ships; for no other machine
        "test": [
            "tensorboard>=2.18",
            "pytest>=8",
            "pytest-socket>=0.7",
            "nbval>=0.11",
            "playwright>=1.60",
            "axe-playwright-python>=0.1.8",
            "schemathesis>=4.32",
            "sentencepiece>=0.2",
            "psutil>=6",
            "onnxruntime>=1.24.1",
            "onnx>=1.18",
            "onnxscript>=0.5",
        ],
        "lint": ["ruff", "pyright"],
    },
)
