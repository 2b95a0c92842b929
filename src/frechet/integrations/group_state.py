"""Moments of groups of images as one array, so that a metric object can hold them as a state."""

from __future__ import annotations

import numpy as np

from frechet.statistics.group_accumulator import GroupAccumulator
from frechet.statistics.group_moments import NUM_GROUPS, GroupMoments, assign_groups


def packed_size(dims: int) -> int:
    """Return the number of columns of what `pack_groups` returns."""
    return 1 + dims + dims * (dims + 1) // 2


def pack_groups(groups: GroupMoments) -> np.ndarray:
    """Return moments of groups as (g, 1 + d + d (d + 1) / 2) float64: number of images, mean and triangle of the scatter."""
    return np.hstack([groups.n[:, None], groups.mean, groups.scatter])


def accumulate_groups(state: np.ndarray, rows: np.ndarray, indices: np.ndarray) -> GroupMoments:
    """Add images to the moments of their groups.

    Args:
        state: (k · g, ...) what `pack_groups` returned for k disjoint sets of images, below each other; k may be 0.
        rows: (n, d) features of further images.
        indices: (n,) index of each of these images, which decides its group.

    Returns:
        Moments of the g groups, with the scatter in float64.
    """
    dims = rows.shape[1]
    groups = GroupAccumulator(NUM_GROUPS, dims)
    for block in state.reshape(-1, NUM_GROUPS, state.shape[1]):
        n, mean, scatter = np.split(block, [1, 1 + dims], axis=1)
        groups.add_moments(GroupMoments(n[:, 0].astype(np.int64), mean, scatter))
    groups.add_rows(rows, assign_groups(indices, seed=0))
    return groups.finish()
