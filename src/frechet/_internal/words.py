"""Join words into an enumeration, as in a sentence."""

from __future__ import annotations

from collections.abc import Sequence


def join_words(words: Sequence[str], conjunction: str = "and") -> str:
    """Join words with commas, and a conjunction before the last one.

    Args:
        words: what to list, at least one.
        conjunction: the word before the last one.

    Example:
        >>> join_words(["auto", "cpu", "cuda"], "or")
        'auto, cpu or cuda'
    """
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last
