"""What identifies a network that is read from files: the sha256 (hex) of all files that it computes with."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from frechet._internal.download import compute_sha256
from frechet.errors import RequestError

_LOCATION = re.compile(
    rb"\x0a\x08location\x12([\x80-\xff]?[\x00-\x7f])"
)  # the entry of a protobuf map, up to a length < 2**14
_SETTINGS_OF_NO_EFFECT = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "architectures"}


def hash_onnx(path: Path) -> str:
    """Return the sha256 of an ONNX file and of the files that its tensors are stored in ("external data").

    Raises:
        RequestError: one of these files is missing.
    """
    content = path.read_bytes()
    digest = hashlib.sha256(content)
    for name in sorted(set(_iter_external_data(content))):
        file = path.parent / name
        if not file.is_file():
            raise RequestError(
                f"{path} stores tensors in {file}, which does not exist; expected the file next to the network. Copy it there, or "
                "export the network again."
            )
        digest.update(f"{name} {compute_sha256(file)}".encode())
    return digest.hexdigest()


def _iter_external_data(content: bytes) -> Iterator[str]:
    """Yield the values of all entries {"location": value}, which are paths relative to the folder of the file."""
    for match in _LOCATION.finditer(content):
        *low, high = match[1]
        size = (low[0] & 0x7F if low else 0) + (high << 7 * len(low))
        yield content[match.end() : match.end() + size].decode(errors="replace")


def hash_model_folder(weights: str, config: Path) -> str:
    """Return the sha256 of a model in the format of the transformers library.

    Args:
        weights: sha256 of its tensors, however many files they are stored in.
        config: its config.json. The number of heads or the activation changes the features, but no tensor.
    """
    if not config.is_file():
        return weights
    settings = json.dumps(_drop_labels(json.loads(config.read_bytes())), sort_keys=True)
    return hashlib.sha256(f"{weights} {settings}".encode()).hexdigest()


def _drop_labels(config: Any) -> Any:
    """Return the configuration without what does not change the features, such as the version that wrote it."""
    if not isinstance(config, dict):
        return config
    return {name: _drop_labels(value) for name, value in config.items() if name not in _SETTINGS_OF_NO_EFFECT}
