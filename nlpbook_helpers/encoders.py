"""Is there an encoder of this name, and may the code that comes with it run here?"""

import re
from pathlib import Path
from typing import Any

from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

# HTTPError is that of httpx or httpx2, whichever the Hub's client is built on
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled  # pyright: ignore[reportPrivateImportUsage]
from transformers import AutoTokenizer
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from nlpbook_helpers.checkpoints import CheckpointError

HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
PATIENCE = 5  # seconds to wait for the Hub; a library alone retries for almost two minutes


def check_model_name(name: str | Path) -> None:
    """Say at once, in one sentence, why there can be no encoder of this name; one that may exist passes.

    Raises:
        CheckpointError: A file, a folder without an encoder, a path where nothing is, or a name that is not in the
            cache while the Hugging Face Hub cannot be reached.
    """
    path, problem = Path(name).expanduser(), None
    if path.exists():
        if not (path / "config.json").is_file():
            problem = (
                "which has no config.json: of a checkpoint, nlpbook.export makes a folder that is an encoder's too"
            )
    elif not HUB_NAME.fullmatch(str(name)):
        problem = "where there is nothing: correct the path"
    elif not try_to_load_from_cache(str(name), "config.json"):
        try:
            get_hf_file_metadata(hf_hub_url(str(name), "config.json"), timeout=PATIENCE)
        except HfHubHTTPError:
            pass  # it answers: what is missing there, transformers says well
        except (HTTPError, OfflineModeIsEnabled) as error:
            problem = (
                f"which was never downloaded, and the Hub cannot be reached ({error}): correct the name, or connect"
            )
    if problem:
        raise CheckpointError(
            f"pretrained_model_name: expected a Hugging Face name or an encoder's folder, got {str(name)!r}, {problem}"
        )


def load_tokenizer(pretrained_model_name: str | Path, trust_remote_code: bool = False) -> Any:
    """Load a tokenizer, also one that comes as Python code, as KoBERT's does, if that is asked for.

    transformers alone would quietly take another tokenizer class where the code is not trusted.

    Args:
        pretrained_model_name: A Hugging Face name or a local folder.
        trust_remote_code: Run the code that lies there.

    Raises:
        CheckpointError: There is no such place; see `check_model_name`.
        ValueError: The tokenizer comes as code and `trust_remote_code` is false.
    """
    check_model_name(pretrained_model_name)
    return open_tokenizer(pretrained_model_name, trust_remote_code)


def open_tokenizer(place: str | Path, trust_remote_code: bool = False) -> Any:
    """Load a tokenizer from a place that is known to be there; see `load_tokenizer`."""
    code = get_tokenizer_config(place).get("auto_map")
    if code and not trust_remote_code:
        raise ValueError(
            f"trust_remote_code: the tokenizer of {Path(place).name} comes as Python code, which would run here: read "
            "that code, and pass trust_remote_code=True if you trust it"
        )
    return AutoTokenizer.from_pretrained(place, trust_remote_code=trust_remote_code)


def count_positions(model: Any) -> int | None:
    """Return how many tokens an encoder has positions for; None if it has no such limit.

    RoBERTa and its family number them from the padding id on: of 514 positions, 512 are for tokens.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    embedding = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(embedding, "padding_idx", None)
    return positions if positions is None or padding is None else positions - padding - 1
