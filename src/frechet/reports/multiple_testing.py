"""Which of many estimates differ by more than noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.05  # of a family of differences: the chance that any of them is called real though none is


class Estimate(NamedTuple):
    """A number and what is known of its error.

    Attributes:
        value: without bias, as far as that could be removed.
        variances: what its own images and what the reference's add to its squared standard error.
        groups: (g,) the reference's part over groups of its images, whose sample variance is about the second of
            `variances`; None where it is not known.
    """

    value: float
    variances: tuple[float, float]
    groups: Sequence[float] | None = None


def error_of_difference(one: Estimate, other: Estimate, *, shared: bool) -> float:
    """Standard error of the difference of two estimates; where they share a reference, only what it does not do to both.

    What the two have in common is known by the groups. Without these nothing is taken to be in common, which is too
    careful, except where a reference known as a Gaussian alone adds nothing to either.
    """
    reference = one.variances[1] + other.variances[1]
    if shared and one.groups is not None and other.groups is not None and len(one.groups) == len(other.groups):
        reference = float(np.var(np.subtract(one.groups, other.groups), ddof=1))
    return math.sqrt(one.variances[0] + other.variances[0] + reference)


def two_sided_p(difference: float, error: float) -> float:
    """The chance of a difference at least that large between equals, if its error is Gaussian."""
    if not error:
        return 1.0 if difference == 0 else 0.0
    return math.erfc(abs(difference) / error / math.sqrt(2))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the same order (Holm 1979): the family errs with at most the level."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def letters(order: Sequence[int], differing: Iterable[tuple[int, int]]) -> dict[int, str]:
    """Letters such that two that share one are not told apart (Piepho 2004, insert and absorb).

    Args:
        order: places, best first; the best bears an a.
        differing: pairs that are told apart.
    """
    groups = [frozenset(order)]
    for one, other in differing:
        split = [part for group in groups for part in _without_both(group, one, other)]
        groups = [group for group in dict.fromkeys(split) if not any(group < larger for larger in split)]
    rank = {place: i for i, place in enumerate(order)}
    groups.sort(key=lambda group: sorted(rank[place] for place in group))
    return {place: "".join(_letter(i) for i, group in enumerate(groups) if place in group) for place in order}


def _without_both(group: frozenset[int], one: int, other: int) -> list[frozenset[int]]:
    return [group - {one}, group - {other}] if {one, other} <= group else [group]


def _letter(number: int) -> str:
    """a ... z, then a1 ... z1, a2 ..."""
    turn, place = divmod(number, 26)
    return chr(ord("a") + place) + (str(turn) if turn else "")
