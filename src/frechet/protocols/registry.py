"""The table of protocols, and protocols that users define in a TOML file.

    base = "adm-imagenet-64"       # optional: start from this protocol, and change what follows
    title = "FID and KID on our birds at 64 pixels"
    source = "our paper"
    metrics = ["fid", "kid"]
    extractor = "inception"
    preprocessing = "tensorflow"
    reference = "birds"            # a named reference; left out if images are passed
    reference_title = "our training set"
    n_generated = 10000

The other keys are the fields of `frechet.protocols.protocol.Protocol`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

from frechet._internal.choices import validate_choice
from frechet._internal.missing_path import describe_missing_path
from frechet.errors import RequestError
from frechet.protocols import adm, cifar10, edm, fdr6, rfid, text_to_image, torch_fidelity
from frechet.protocols.protocol import Measurement, Protocol, Published

PROTOCOLS: dict[str, Protocol] = {
    **adm.PROTOCOLS,
    **torch_fidelity.PROTOCOLS,
    **rfid.PROTOCOLS,
    **edm.PROTOCOLS,
    **fdr6.PROTOCOLS,
    **text_to_image.PROTOCOLS,
    **cifar10.PROTOCOLS,
}
_MEASUREMENT_KEYS = ("metrics", "preprocessing", "extractor", "reference")
_BUILT_IN_ONLY = ("measurements", "validation_fd")  # fields that a file cannot set
_REQUIRED = tuple(
    each.name
    for each in (*fields(Protocol), *fields(Measurement))
    if each.default is each.default_factory is MISSING and each.name not in _BUILT_IN_ONLY
)  # unless the file names a base
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("n_generated", "generated_size", "n_reference", "crop_size", "images_per_class"), (int,)),
    **dict.fromkeys(("not_computed", "unverified", "metrics", "published"), (list,)),
    **dict.fromkeys(("accepted", "alternatives"), (dict,)),
    "per_class": (bool,),
}  # all others are text


def find_protocol(name: str | os.PathLike[str]) -> tuple[str, Protocol]:
    """Return a protocol and its name.

    Args:
        name: a name in the table, or the path of a .toml file.

    Raises:
        RequestError: an unknown name (the nearest is named), or an invalid file.
    """
    path = Path(name)
    if path.suffix.lower() == ".toml":
        return path.stem, read_protocol(path)
    validate_choice(str(name), PROTOCOLS, "protocol")
    return str(name), PROTOCOLS[str(name)]


def read_protocol(path: Path) -> Protocol:
    """Read a protocol from a TOML file.

    Raises:
        RequestError: the file is missing or not TOML, a key is unknown, of another type, or missing.
    """
    content = _read_toml(path)
    base = content.pop("base", None)
    known = [*_MEASUREMENT_KEYS, *(each.name for each in fields(Protocol) if each.name not in _BUILT_IN_ONLY)]
    for key, value in content.items():
        validate_choice(key, known, "key", f"in {path}")
        expected = _TYPES.get(key, (str,))
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if not (is_count if expected == (int,) else isinstance(value, expected)):
            raise RequestError(f"{path}: {key} is {value!r}; expected {_describe_type(expected[0])}")
    try:
        if base is not None:
            validate_choice(str(base), PROTOCOLS, "base")
        return _build_protocol(content, None if base is None else PROTOCOLS[base])
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from None


def _build_protocol(content: Mapping[str, Any], base: Protocol | None) -> Protocol:
    options: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in content.items()
    }
    measurement: dict[str, Any] = {key: options.pop(key) for key in _MEASUREMENT_KEYS if key in options}
    if measurement and base is not None and len(base.measurements) > 1:
        raise RequestError("the base has several extractors; define the protocol without a base")
    for key in ("metrics", "not_computed", "unverified"):
        _require_texts(key, content.get(key, []))
    options["published"] = tuple(map(_read_published, options.get("published", ())))
    for key in ("accepted", "alternatives"):
        if key in options:
            options[key] = {name: _require_list(f"{key}.{name}", values) for name, values in options[key].items()}
    _require_texts(
        "alternatives.metrics",
        options.get("alternatives", {}).get("metrics", ()),
        ", each with names separated by commas",
    )
    for key, bounds in options.get("accepted", {}).items():
        if len(bounds) != 2 or not all(map(_is_number, bounds)):
            raise RequestError(f"accepted.{key} is {list(bounds)!r}; expected the lowest and the highest value")
    if base is None:
        _require_keys(content)
        return Protocol(measurements=(Measurement(**measurement),), **options)
    measurements = (replace(base.measurements[0], **measurement), *base.measurements[1:])
    return replace(base, measurements=measurements, validation_fd={}, **options)  # values of other images


def _require_keys(content: Mapping[str, Any]) -> None:
    missing = [key for key in _REQUIRED if key not in content]
    if missing:
        keys, verb = ("keys", "are") if len(missing) > 1 else ("key", "is")
        raise RequestError(
            f"the {keys} {', '.join(missing)} {verb} missing; expected {', '.join(_REQUIRED)}. Add the missing {keys}, or "
            "base = NAME for those of a built-in protocol."
        )


def _read_published(row: Any) -> Published:
    keys = [each.name for each in fields(Published)]
    is_table = isinstance(row, Mapping) and sorted(row) == sorted(keys) and isinstance(row["values"], Mapping)
    if not is_table or not all(isinstance(row[key], str) for key in ("model", "source")):
        raise RequestError(f"published has {row!r}; expected tables with the keys {', '.join(keys)}")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in row["values"].items()}
    for name, value in values.items():
        bounds = value if isinstance(value, tuple) else (value, value)
        if len(bounds) != 2 or not all(map(_is_number, bounds)):
            raise RequestError(
                f"published has {value!r} for {name}; expected a number, or a list of the lowest and highest"
            )
    return Published(model=row["model"], values=values, source=row["source"])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _require_texts(key: str, values: Sequence[Any], details: str = "") -> None:
    if not all(isinstance(each, str) for each in values):
        raise RequestError(f"{key} is {list(values)!r}; expected a list of texts{details}")


def _require_list(key: str, values: Any) -> tuple[Any, ...]:
    if not isinstance(values, list):
        raise RequestError(f"{key} is {values!r}; expected a list")
    return tuple(values)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        import tomllib
    except ImportError:
        raise RequestError(
            f"{path} is a TOML file, which needs Python 3.11 or later; use that, or name a built-in protocol"
        ) from None
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(describe_missing_path(path, "file")) from None
    except RecursionError:
        raise RequestError(f"{path} nests its values too deeply; expected a protocol in TOML") from None
    except (OSError, ValueError) as error:  # also a number of thousands of digits
        raise RequestError(f"{path} cannot be read as TOML ({error}); correct the file") from error


def _describe_type(expected: type) -> str:
    return {int: "a whole number of at least 1", list: "a list", dict: "a table", bool: "true or false"}.get(
        expected, "text"
    )
