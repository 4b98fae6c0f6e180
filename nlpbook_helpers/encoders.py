"""Is there an encoder of this name, what does its configuration say, and may the code that comes with it run here?"""

import json
import reprlib
from collections.abc import Mapping
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
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from nlpbook_helpers.arguments import check_encoder, make_object
from nlpbook_helpers.checkpoints import CheckpointError
from nlpbook_helpers.embedded import expand_home

# No encoder is near these numbers; a configuration that is would keep us busy for hours before its weights are missed.
MOST_LAYERS, MOST_LABELS, MOST = 1_000, 2**15, 2**27
PATIENCE = 5  # seconds to wait for the Hub; a library alone retries for almost two minutes


def check_model_name(name: str | Path) -> None:
    """Say at once, in one sentence, why there can be no encoder of this name; one that may exist passes.

    The Hub is asked once, instead of five times, with pauses, for each of its files.

    Raises:
        CheckpointError: See `check_encoder`, or the name is not in the cache, and not on the Hugging Face Hub or that
            cannot be reached.
    """
    check_encoder(name)
    if Path(expand_home(name)).exists() or try_to_load_from_cache(str(name), "config.json"):
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


def check_weights(folder: str | Path) -> None:
    """Refuse complex weights in a folder: transformers would drop half of each without a word that is seen."""
    for path in Path(folder).glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            if odd := [name for name in file.keys() if file.get_slice(name).get_dtype().startswith("C")]:  # noqa: SIM118
                raise CheckpointError(
                    f"{path}: expected real numbers, got complex ones in {odd[0]}: save it in float32"
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
    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=trust_remote_code)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers makes an empty one where there is none
        expected = "expected the files of a tokenizer beside the model's, found none"
        raise CheckpointError(
            f"{place}: {expected}: save it there too, with the save_pretrained of the model's tokenizer"
        )
    return tokenizer


def read_config(path: Path, settings: str) -> Any:
    """Return the configuration that a JSON object describes, if its numbers, however deep, are those of an encoder."""

    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for name, number in pairs:
            limit = MOST_LABELS if name == "num_labels" else MOST_LAYERS if "layer" in name else MOST
            if isinstance(number, int) and abs(number) > limit:
                expected = f"expected a configuration with {name} of at most {limit:,}"
                raise CheckpointError(f"{path}: {expected}, got {number:,}: take it from the encoder")
        return make_object(pairs)

    config = json.loads(settings, object_pairs_hook=check)
    return AutoConfig.for_model(**{**config, **_read_labels(path, config)})


def _read_labels(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the names of the outputs, in both directions; nothing if the configuration has none."""
    names, places = config.get("id2label"), config.get("label2id") or {}
    if not names and places:
        names = {place: name for name, place in places.items()}
    if not names:
        return {}
    found = {str(place): name for place, name in names.items()}
    labels = [found.get(str(place)) for place in range(len(names))]
    fit = all(isinstance(name, str | int) and not isinstance(name, bool) for name in labels)
    if not fit or any(places.get(name, place) != place for place, name in enumerate(labels)):
        expected = f"expected id2label to name the outputs 0 to {len(names) - 1}, and label2id the same"
        raise CheckpointError(f"{path}: {expected}, got {reprlib.repr(names)}, {reprlib.repr(places)}: correct it")
    named = {place: str(name) for place, name in enumerate(labels)}
    return {"id2label": named, "label2id": {name: place for place, name in named.items()}}
