"""Weights on the Hugging Face Hub: find them in its cache, or download them into it."""

from __future__ import annotations

from pathlib import Path

from frechet.errors import WeightsError

_FILES = ("model.safetensors", "model.safetensors.index.json")  # whole, or the index of several shards


def find_hub_weights(hub_name: str) -> Path:
    """Return the path of a model's weights in the Hub's cache without downloading anything.

    Args:
        hub_name: name on huggingface.co, e.g. "facebook/dinov2-small".

    Raises:
        WeightsError: the weights are not in the cache, or the package huggingface_hub is not installed.
    """
    path = find_in_hub_cache(hub_name)
    if path is None:
        raise WeightsError(
            f"weights {hub_name} are not in the cache of the Hugging Face Hub; they are downloaded on first use. "
            "Without internet, pass a folder with config.json and model.safetensors as --weights FOLDER (weights=FOLDER)."
        )
    return path


def find_in_hub_cache(hub_name: str, *, extra: str = "encoders") -> Path | None:
    """Return the path of a model's weights in the Hub's cache; None if they are not there.

    Args:
        hub_name: name on huggingface.co.
        extra: the extra of this package that installs huggingface_hub.

    Raises:
        WeightsError: the package huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        raise WeightsError(_format_missing_package(hub_name, extra)) from None
    found = (try_to_load_from_cache(hub_name, name) for name in _FILES)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def fetch_hub_weights(hub_name: str, *, extra: str = "encoders") -> Path:
    """Download a model's configuration and weights into the Hub's cache, and return the folder.

    Args:
        hub_name: name on huggingface.co, e.g. "facebook/dinov2-small".
        extra: the extra of this package that installs huggingface_hub.

    Raises:
        WeightsError: the download failed, or the package huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise WeightsError(_format_missing_package(hub_name, extra)) from None
    try:
        return Path(snapshot_download(hub_name, allow_patterns=["config.json", *_FILES, "model-*.safetensors"]))
    except Exception as error:  # the errors of the library and its HTTP client have no common base class
        raise WeightsError(
            f"{hub_name} cannot be downloaded ({type(error).__name__}: {error}). Check the connection to huggingface.co, "
            "or pass a folder with config.json and model.safetensors as --weights FOLDER (weights=FOLDER)."
        ) from error


def _format_missing_package(hub_name: str, extra: str) -> str:
    return f"weights {hub_name} need huggingface_hub, which is not installed; run pip install 'frechet[{extra}]'"
