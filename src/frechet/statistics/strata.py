"""Unit numbers of stratified images: they hold the stratum, and their groups contain equal shares of each stratum.

Without this, leaving out a group would also change the proportions of the strata, which are fixed by the design.
"""

from __future__ import annotations

import numpy as np

from frechet.statistics.group_moments import NUM_GROUPS, assign_groups

_STRATUM_BITS = 40  # a number is stratum · 2^40 + k


def number_stratified_images(strata: np.ndarray, seed: int) -> np.ndarray:
    """Return a distinct number for each image, such that the images of a stratum are spread evenly over the groups.

    Args:
        strata: (n,) integers from 0 to 2^22, the stratum of each image.
        seed: seed of the groups.

    Returns:
        (n,) int64.
    """
    random = np.random.default_rng(seed)
    numbers = np.empty(len(strata), np.int64)
    order = np.argsort(strata, kind="stable")
    boundaries = np.flatnonzero(np.diff(strata[order])) + 1
    for members in np.split(order, boundaries):
        start = random.integers(NUM_GROUPS)
        groups = (start + np.arange(len(members))) % NUM_GROUPS
        numbers[random.permutation(members)] = _find_numbers(int(strata[members[0]]), groups, seed)
    return numbers


def get_strata(units: np.ndarray) -> np.ndarray:
    """Return the stratum of each image from its number."""
    return units.astype(np.int64) >> _STRATUM_BITS


def _find_numbers(stratum: int, groups: np.ndarray, seed: int) -> np.ndarray:
    """Return distinct numbers of a stratum that are assigned to these groups."""
    counts = np.bincount(groups, minlength=NUM_GROUPS)
    numbers = np.empty(len(groups), np.int64)
    candidates = (stratum << _STRATUM_BITS) + np.arange(2 * NUM_GROUPS * int(counts.max()) + 400)
    assigned = assign_groups(candidates, seed)
    for group in np.flatnonzero(counts):
        numbers[groups == group] = candidates[assigned == group][: counts[group]]
    return numbers
