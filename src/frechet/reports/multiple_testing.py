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
        generated_groups, reference_groups: means of the influence over groups of images, whose sample variance is about the
            variance component; None if unknown.
    """

    value: float
    variance_components: tuple[float, float]
    generated_groups: Sequence[float] | None = None
    reference_groups: Sequence[float] | None = None


def standard_error_of_difference(
    one: Estimate, other: Estimate, *, shared_reference: bool, paired_runs: bool = False
) -> float:
    """Compute the standard error of the difference between two estimates.

    Errors that two estimates have in common cancel in part; how far is estimated from the groups. Without groups, no
    cancellation is assumed, which is conservative, except for a fixed reference, which does not contribute to either.

    Args:
        one, other: the estimates.
        shared_reference: whether both were computed with the same reference images.
        paired_runs: whether image i of one run and image i of the other were generated from the same latent or prompt.
    """
    generated = _variance_of_difference(
        one.variance_components[0],
        other.variance_components[0],
        (one.generated_groups, other.generated_groups) if paired_runs else None,
    )
    reference = _variance_of_difference(
        one.variance_components[1],
        other.variance_components[1],
        (one.reference_groups, other.reference_groups) if shared_reference else None,
    )
    return math.sqrt(generated + reference)


def _variance_of_difference(
    one: float, other: float, groups: tuple[Sequence[float] | None, Sequence[float] | None] | None
) -> float:
    first, second = groups or (None, None)
    if first is not None and second is not None and len(first) == len(second):
        return float(np.var(np.subtract(first, second), ddof=1))
    return one + other


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
