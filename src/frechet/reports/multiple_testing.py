"""Which of many estimates differ by more than noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A number and what is known of its error.

    Attributes:
        value: without bias, as far as that could be removed.
        variances: what its own images and what the reference's add to its squared standard error.
        groups: (g,) the reference's part over groups of its images, whose sample variance is about the second of
            `variances`; None where it is not known.
    """

    value: float
    variance_components: tuple[float, float]
    groups: Sequence[float] | None = None


def standard_error_of_difference(one: Estimate, other: Estimate, *, shared_reference: bool) -> float:
    """Standard error of the difference of two estimates; where they share a reference, only what it does not do to both.

    What the two have in common is known by the groups. Without these nothing is taken to be in common, which is too
    careful, except where a reference known as a Gaussian alone adds nothing to either.
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
    """The chance of a difference at least that large between equals, if its error is Gaussian."""
    if not standard_error:
        return 1.0 if difference == 0 else 0.0
    return math.erfc(abs(difference) / standard_error / math.sqrt(2))


def holm_correction(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the same order (Holm 1979): the family errs with at most the level."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def compact_letter_display(order: Sequence[int], significant_pairs: Iterable[tuple[int, int]]) -> dict[int, str]:
    """Compute letters such that two runs that share one do not differ significantly (Piepho 2004, insert and absorb).

    Args:
        order: places, best first; the best bears an a.
        differing: pairs that differ significantly.
    """
    groups = [frozenset(order)]
    for one, other in significant_pairs:
        split = [part for group in groups for part in _split_group(group, one, other)]
        groups = [group for group in dict.fromkeys(split) if not any(group < larger for larger in split)]
    rank = {index: i for i, index in enumerate(order)}
    groups.sort(key=lambda group: sorted(rank[index] for index in group))
    return {index: "".join(_format_letter(i) for i, group in enumerate(groups) if index in group) for index in order}


def _split_group(group: frozenset[int], one: int, other: int) -> list[frozenset[int]]:
    return [group - {one}, group - {other}] if {one, other} <= group else [group]


def _format_letter(number: int) -> str:
    """a ... z, then a1 ... z1, a2 ..."""
    turn, index = divmod(number, 26)
    return chr(ord("a") + index) + (str(turn) if turn else "")
