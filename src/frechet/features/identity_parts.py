"""What the identity of a network that is Python code consists of, so that messages can name the part that differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MAX_NAMED = 3
_MAX_KNOWN = 256  # identities; a process rarely has more than a few
_PARTS: dict[str, dict[str, str]] = {}


def record_parts(digest: str | None, parts: Any) -> None:
    """Remember the parts of an identity, given its sha256; anything but a mapping is ignored."""
    if digest is None or digest in _PARTS or not isinstance(parts, Mapping):
        return
    if len(_PARTS) >= _MAX_KNOWN:
        del _PARTS[next(iter(_PARTS))]
    _PARTS[digest] = {str(name): str(value) for name, value in parts.items()}


def get_parts(digest: str | None) -> dict[str, str] | None:
    """Return the parts of an identity by name, or None if they are not known."""
    return _PARTS.get(digest) if digest is not None else None


def describe_difference(first: str | None, second: str | None) -> str:
    """Return a parenthesis that names the parts in which two identities differ, or "" if they are not known.

    Example:
        >>> record_parts("a" * 64, {"SCALE": "1.0"})
        >>> record_parts("b" * 64, {"SCALE": "5.0"})
        >>> describe_difference("a" * 64, "b" * 64)
        ' (SCALE is 1.0 and 5.0)'
    """
    one, two = get_parts(first), get_parts(second)
    if one is None or two is None:
        return ""
    names = [name for name in {**one, **two} if one.get(name) != two.get(name)]
    texts = [_describe_part(name, one.get(name), two.get(name)) for name in names[:_MAX_NAMED]]
    if len(names) > _MAX_NAMED:
        texts.append(f"and {len(names) - _MAX_NAMED} more")
    return f" ({', '.join(texts)})" if texts else ""


def _describe_part(name: str, first: str | None, second: str | None) -> str:
    if first is None or second is None:
        return f"only one of them uses {name}"
    is_digest = first.startswith("sha256 ") or second.startswith("sha256 ")
    return f"{name} differs" if is_digest else f"{name} is {first} and {second}"
