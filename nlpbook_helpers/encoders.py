"""Is there an encoder of this name, and may the code that comes with it run here?"""

from pathlib import Path
from textwrap import shorten
from typing import Any

from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

# HTTPError is that of httpx or httpx2, whichever the Hub's client is built on
from huggingface_hub.errors import (
    EntryNotFoundError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]
    OfflineModeIsEnabled,
)
from transformers import AutoTokenizer
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from nlpbook_helpers.arguments import check_encoder
from nlpbook_helpers.checkpoints import CheckpointError

PATIENCE = 5  # seconds to wait for the Hub; a library alone retries for almost two minutes


def check_model_name(name: str | Path) -> None:
    """Say at once, in one sentence, why there can be no encoder of this name; one that may exist passes.

    The Hub is asked once, instead of five times, with pauses, for each of its files.

    Raises:
        CheckpointError: See `check_encoder`, or the name is not in the cache, and not on the Hugging Face Hub or that
            cannot be reached.
    """
    check_encoder(name)
    if Path(name).expanduser().exists() or try_to_load_from_cache(str(name), "config.json"):
        return
    try:
        get_hf_file_metadata(hf_hub_url(str(name), "config.json"), timeout=PATIENCE)
    except EntryNotFoundError:
        return  # it may be a tokenizer alone
    except (HTTPError, OfflineModeIsEnabled) as error:
        raise CheckpointError(
            f"pretrained_model_name: expected a Hugging Face name or an encoder's folder, got {str(name)!r}, which was "
            f"never downloaded and which the Hub does not give ({shorten(str(error), 200, placeholder=' …')}): "
            "correct the name, connect, or take get_embedded_path('nlpbook-mini')"
        ) from error


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
