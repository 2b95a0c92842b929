"""Sampling error of the difference between two estimates that have errors in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
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


def relative_error_of_difference(
    one: Estimate, other: Estimate, *, shared_reference: bool, paired_runs: bool = False
) -> float:
    """Compute the standard error of the difference, divided by that of independent estimates; 1 if both are exact.

    Args:
        one, other, shared_reference, paired_runs: as in `standard_error_of_difference`.
    """
    independent = math.hypot(*(math.sqrt(sum(each.variance_components)) for each in (one, other)))
    error = standard_error_of_difference(one, other, shared_reference=shared_reference, paired_runs=paired_runs)
    return error / independent if independent else 1.0


def _variance_of_difference(
    one: float, other: float, groups: tuple[Sequence[float] | None, Sequence[float] | None] | None
) -> float:
    first, second = groups or (None, None)
    if first is not None and second is not None and len(first) == len(second):
        return float(np.var(np.subtract(first, second), ddof=1))
    return one + other
