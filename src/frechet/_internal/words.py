"""Write lists and numbers as in a sentence."""

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


def count_of(n: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1.

    Example:
        >>> count_of(1, "image"), count_of(2000, "image")
        ('1 image', '2,000 images')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
