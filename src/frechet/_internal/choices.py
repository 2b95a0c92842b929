"""Validate the name of one of several choices, and find the choice that was probably meant."""

from __future__ import annotations

from collections.abc import Collection, Iterable
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
        nearest = find_nearest(str(name), choices)
        hint = f"did you mean {nearest}? " if nearest else ""
        raise RequestError(f"unknown {kind} {name!r}; {hint}expected one of {', '.join(choices)}")


def find_nearest(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice whose spelling is closest, ignoring case; None if none is close."""
    by_lower = {choice.lower(): choice for choice in choices}
    closest = get_close_matches(name.lower(), list(by_lower), 1)
    return by_lower[closest[0]] if closest else None
