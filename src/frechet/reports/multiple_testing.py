"""Tests of many differences between estimates at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """An estimate and what is known about its error.

    Attributes:
        value: the estimate, bias-corrected if possible.
        variance_components: contributions of its own images and of the reference images to its squared standard error.
        groups: means of the reference's influence over groups of its images, whose sample variance is about the second
            variance component; None if unknown.
    """

    value: float
    variance_components: tuple[float, float]
    groups: Sequence[float] | None = None


def standard_error_of_difference(one: Estimate, other: Estimate, *, shared_reference: bool) -> float:
    """Compute the standard error of the difference between two estimates.

    Errors due to a shared reference cancel in part; how far is estimated from the groups. Without groups, no cancellation is
    assumed, which is conservative, except for a reference known only as a Gaussian, which does not contribute to either.

    Args:
        one, other: the estimates.
        shared_reference: whether both were computed with the same reference images.
    """
    reference = one.variance_components[1] + other.variance_components[1]
    if (
        shared_reference
        and one.groups is not None
        and other.groups is not None
        and len(one.groups) == len(other.groups)
    ):
        reference = float(np.var(np.subtract(one.groups, other.groups), ddof=1))
    return math.sqrt(one.variance_components[0] + other.variance_components[0] + reference)


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
