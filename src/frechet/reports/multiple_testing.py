"""Tests of many differences between estimates at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def two_sided_p_value(difference: float, standard_error: float) -> float:
    """Compute the p-value of a difference with a Gaussian error, for the hypothesis that there is none."""
    if not standard_error:
        return 1.0 if difference == 0 else 0.0
    return math.erfc(abs(difference) / standard_error / math.sqrt(2))


def holm_correction(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple testing, in the same order (Holm 1979).

    Rejecting adjusted p-values of at most α keeps the probability of any false rejection at most α.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def compact_letter_display(order: Sequence[int], significant_pairs: Iterable[tuple[int, int]]) -> dict[int, str]:
    """Assign letters such that two items share a letter if they do not differ significantly (Piepho 2004).

    Args:
        order: indices of the items, best first; the best gets the letter a.
        significant_pairs: pairs of indices that differ significantly.

    Returns:
        The letters of each item by its index.
    """
    groups = [frozenset(order)]
    for one, other in significant_pairs:  # "insert and absorb"
        split = [part for group in groups for part in _split_group(group, one, other)]
        groups = [group for group in dict.fromkeys(split) if not any(group < larger for larger in split)]
    rank = {index: i for i, index in enumerate(order)}
    groups.sort(key=lambda group: sorted(rank[index] for index in group))
    return {index: "".join(_format_letter(i) for i, group in enumerate(groups) if index in group) for index in order}


def _split_group(group: frozenset[int], one: int, other: int) -> list[frozenset[int]]:
    return [group - {one}, group - {other}] if {one, other} <= group else [group]


def _format_letter(number: int) -> str:
    """Return a ... z, then a1 ... z1, a2 ..."""
    turn, index = divmod(number, 26)
    return chr(ord("a") + index) + (str(turn) if turn else "")
