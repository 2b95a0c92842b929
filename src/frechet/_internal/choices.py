"""Validate the name of one of several choices."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from frechet.errors import RequestError


def validate_choice(name: str, choices: Collection[str], kind: str) -> None:
    """Raise an error unless `name` is one of the choices.

    Args:
        name: the value to check.
        choices: the valid names.
        kind: what a choice is called in messages, e.g. "extractor".

    Raises:
        RequestError: names the value, the nearest choice and all choices.
    """
    if name not in choices:
        near = get_close_matches(str(name), list(choices), 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise RequestError(f"unknown {kind} {name!r}; {hint}expected one of {', '.join(choices)}")
