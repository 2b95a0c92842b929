"""Validate the name of one of several choices, and find the choice that was probably meant."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from frechet.errors import RequestError


def validate_choice(name: str, choices: Collection[str], kind: str, where: str = "") -> None:
    """Raise an error unless `name` is one of the choices.

    Args:
        name: the value to check.
        choices: the valid names.
        kind: what a choice is called in messages, e.g. "extractor".
        where: what the choices belong to, with a preposition, if other names are valid elsewhere, e.g. "for inception".

    Raises:
        RequestError: names the value, the nearest choice and all choices.
    """
    if name not in choices:
        problem = f"{kind} {name!r} is not available {where}" if where else f"unknown {kind} {name!r}"
        raise RequestError(f"{problem}{suggest(str(name), choices)}; {list_choices(choices)}")


def suggest(name: str, choices: Iterable[str]) -> str:
    """Return " (did you mean NAME?)" with the nearest choice, or nothing if none is close."""
    nearest = find_nearest(name, choices)
    return f" (did you mean {nearest}?)" if nearest else ""


def list_choices(choices: Collection[str]) -> str:
    """Return "choose from A, B", or "expected A" for a single choice."""
    return f"choose from {', '.join(choices)}" if len(choices) > 1 else f"expected {next(iter(choices))}"


def find_nearest(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice whose spelling is closest, ignoring case; None if none is close."""
    by_lower = {choice.lower(): choice for choice in choices}
    closest = get_close_matches(name.lower(), list(by_lower), 1)
    return by_lower[closest[0]] if closest else None
