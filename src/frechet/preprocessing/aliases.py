"""Names that other tools have for the preprocessings of the table."""

from __future__ import annotations

from frechet.preprocessing.registry import PREPROCESSINGS

_ALIASES = {
    "legacy_pytorch": "pytorch-fid",  # clean-fid's modes
    "legacy_tensorflow": "tensorflow",
    "clean-fid": "clean",
    "cleanfid": "clean",
    "torch-fidelity": "tensorflow",
    "torch_fidelity": "tensorflow",
    "inception-v3-compat": "tensorflow",  # torch-fidelity's extractor, which resizes as TensorFlow does
    "pytorch_fid": "pytorch-fid",
    "ttur": "tensorflow",
    "adm": "tensorflow",
    "edm": "tensorflow",
}


def resolve_alias(name: str | None) -> str | None:
    """Return the name in the table of a preprocessing that another tool names differently; other names unchanged.

    Case makes no difference.

    Example:
        >>> resolve_alias("legacy_tensorflow")
        'tensorflow'
    """
    if not isinstance(name, str) or name in PREPROCESSINGS:
        return name
    lower = name.lower()
    return _ALIASES.get(lower, lower if lower in PREPROCESSINGS else name)
