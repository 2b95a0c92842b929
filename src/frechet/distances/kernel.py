"""Kernel distances between sets of features (Bińkowski et al. 2018, Jayasumana et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from frechet.distances.gaussian import Array, get_namespace
from frechet.distances.pairwise import iter_block_slices
from frechet.errors import TooFewImagesError

_ROWS_PER_TILE = 32  # rows
_MAX_MEAN_SQUARE = 16  # |x|²/d beyond which float32 holds too little of its cube, or overflows
_MIN_DEGENERATE_FRACTION = (
    1e-4  # share of the doubly centred kernel in the kernel's squares below which float32 may lose it
)
_PROBE_ROWS = 256  # rows of a side by which that share is told

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def polynomial_mmd(x: Array, y: Array) -> Array:
    """The unbiased squared maximum mean discrepancy with the kernel (x·y/d + 1)³.

    Args:
        x, y: (n, d) and (m, d) features, n, m >= 2.

    Returns:
        A scalar; around 0, also below it, where both are of one distribution. KID is its value on features of Inception.
    """
    xp = get_namespace(x, y)
    (n, d), m = x.shape, y.shape[0]

    def kernel(a: Array, b: Array) -> Array:
        return (a @ b.T / d + 1) ** 3

    def mean_within(a: Array, subset_size: int) -> Array:
        own = (xp.sum(a * a, axis=1) / d + 1) ** 3
        return (xp.sum(kernel(a, a)) - xp.sum(own)) / (subset_size * (subset_size - 1))

    return mean_within(x, n) + mean_within(y, m) - 2 * xp.mean(kernel(x, y))


@dataclass(frozen=True)
class KidEstimate:
    """An estimate and what it varies by: the standard error, or the deviation between subsets."""

    value: float
    standard_error: float | None = None
    std: float | None = None


def kid(x: np.ndarray, y: np.ndarray) -> KidEstimate:
    """KID of all images: the U-statistic of `polynomial_mmd`, streamed in blocks, and its standard error.

    The variance is the delete-one jackknife's, which counts the degenerate part (all that is left where both distributions are
    equal) twice, less that part, which is estimated from the doubly centred kernel (Efron & Stein 1981; Sutherland & Deka
    2019, arXiv:1906.02104). That is unbiased (from 4 images a side on), and kept from falling below the degenerate part: by
    chance it would, where both are nearly equal, and the intervals would miss. There the standard error is on the careful
    side, by up to a quarter (benchmarks/kid_error.py).

    Args:
        x, y: (n, d) and (m, d) float32 features, n, m >= 3.

    Raises:
        TooFewImages: n or m is smaller.
    """
    for features in (x, y):
        if len(features) < 3:
            raise TooFewImagesError(f"the standard error of KID needs at least 3 images a side; got {len(features)}")
    n, m = len(x), len(y)
    x, y = _promote_if_needed(x, y)
    within_x, within_y, cross = _kernel_sums(x), _kernel_sums(y), _kernel_sums(x, y)
    total = within_x.total / (n * (n - 1)) + within_y.total / (m * (m - 1)) - 2 * cross.total / (n * m)
    unbiased, degenerate = _kid_variances(within_x, within_y, cross)
    return KidEstimate(total, standard_error=max(unbiased, degenerate, 0.0) ** 0.5)


def kid_over_subsets(
    x: np.ndarray,
    y: np.ndarray,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 2020,
    reference_first: bool = False,
) -> KidEstimate:
    """The mean and deviation (n in the denominator) of KID over random subsets, drawn as torch-fidelity draws them.

    Args:
        x, y: (n, d) and (m, d) features.
        subsets, subset_size: how many, of how many images of each side.
        seed: of NumPy's old generator, from which the draws come.
        reference_first: whether those of y are drawn first, as in clean-fid.

    Raises:
        TooFewImages: a side has fewer than `subset_size`.
    """
    for features in (x, y):
        if len(features) < subset_size:
            raise TooFewImagesError(f"KID of subsets of {subset_size} needs as many images a side; got {len(features)}")
    random = np.random.RandomState(seed % 2**32)
    x, y = _promote_if_needed(x, y)
    sides = (y, x) if reference_first else (x, y)
    found = []
    for _ in range(subsets):
        selected = [features[random.choice(len(features), subset_size, replace=False)] for features in sides]
        found.append(_unbiased_mmd(*selected))
    return KidEstimate(float(np.mean(found)), std=float(np.std(found)))


def gaussian_mmd(x: np.ndarray, y: np.ndarray, *, sigma: float = 10.0) -> float:
    """The biased squared maximum mean discrepancy with the kernel exp(-|x - y|²/2σ²), diagonals counted.

    Args:
        x, y: (n, d) and (m, d) features.
        sigma: the kernel's width. CMMD is 1000 times this at 10, on CLIP embeddings of unit length
            (Jayasumana et al. 2024, arXiv:2401.09603).
    """

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        def kernel_minus_one(p: np.ndarray, q: np.ndarray) -> np.ndarray:
            squared = (p**2).sum(1)[:, None] + (q**2).sum(1) - 2 * (p @ q.T)
            return np.expm1(np.maximum(squared, 0) / (-2 * sigma**2))

        total = sum(part.sum(dtype=np.float64) for _, part in _iter_kernel_blocks(a, b, kernel_minus_one))
        return float(total) / (len(a) * len(b))

    x, y = x.astype(np.float64), y.astype(np.float64)
    return mean(x, x) + mean(y, y) - 2 * mean(x, y)


def _promote_if_needed(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sides as they are, or in float64 where the kernel's differences, which are what counts, are small beside its values."""
    if _float32_suffices(x) and _float32_suffices(y):
        return x, y
    return x.astype(np.float64), y.astype(np.float64)


def _float32_suffices(features: np.ndarray) -> bool:
    if np.einsum("ij,ij->i", features, features).max() / features.shape[1] > _MAX_MEAN_SQUARE:
        return False
    sums = _kernel_sums(features[:: -(-len(features) // _PROBE_ROWS)].astype(np.float64))
    pairs = len(sums.row_sums) * (len(sums.row_sums) - 1)
    return pairs == 0 or sums.degenerate_within() >= _MIN_DEGENERATE_FRACTION * sums.sum_of_squares / pairs


def _unbiased_mmd(x: np.ndarray, y: np.ndarray) -> float:
    def mean_within(a: np.ndarray) -> float:
        kernel = _cubic_kernel_minus_one(a, a)
        return float(kernel.sum(dtype=np.float64) - np.trace(kernel, dtype=np.float64)) / (len(a) * (len(a) - 1))

    return mean_within(x) + mean_within(y) - 2 * float(_cubic_kernel_minus_one(x, y).mean(dtype=np.float64))


def _cubic_kernel_minus_one(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x·y/d + 1)³ - 1: the ones cancel in any discrepancy, and without them float32 keeps three more bits."""
    return _shifted_cube_minus_one((x @ y.T) / x.shape[1])


def _shifted_cube_minus_one(s: np.ndarray) -> np.ndarray:
    product = s + 3
    product *= s
    product += 3
    product *= s
    return product


def _iter_kernel_blocks(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> Iterator[tuple[slice, np.ndarray]]:
    for selected in iter_block_slices(len(x), len(y)):
        yield selected, kernel(x[selected], y)


@dataclass(frozen=True)
class _KernelSums:
    """What is kept of a kernel matrix: sums of rows, of columns, and of squares; without the diagonal within a side."""

    row_sums: np.ndarray
    column_sums: np.ndarray
    sum_of_squares: float

    @property
    def total(self) -> float:
        return float(self.row_sums.sum())

    def degenerate_within(self) -> float:
        """The mean square of the doubly centred kernel within one side, unbiased; 0 of three images, which leave nothing of it."""
        n = len(self.row_sums)
        if n < 4:
            return 0.0
        means = self.row_sums / (n - 1)
        mean = self.total / (n * (n - 1))
        u = (n - 1) / (n - 2) * (means - mean) + mean / 2  # of no row's mean is its own diagonal a part
        cross = 2 * float(self.row_sums @ u)
        both = 2 * (n - 2) * float(u @ u) + 2 * float(u.sum()) ** 2
        return (self.sum_of_squares - 2 * cross + both) / (
            n * (n - 3)
        )  # of n(n - 1)/2 pairs, n degrees of freedom are fitted

    def degenerate_across(self) -> float:
        """The same between two sides."""
        n, m = len(self.row_sums), len(self.column_sums)
        by_row, by_column = self.row_sums @ self.row_sums / m, self.column_sums @ self.column_sums / n
        return float(self.sum_of_squares - by_row - by_column + self.total**2 / (n * m)) / ((n - 1) * (m - 1))


def _kernel_sums(x: np.ndarray, other: np.ndarray | None = None) -> _KernelSums:
    """Of the cubic kernel between two sides (which may be one array), or within one: of that, only the upper half is computed."""
    same = other is None
    y = x if other is None else other
    row_sums, column_sums, sum_of_squares = np.zeros(len(x)), np.zeros(len(y)), 0.0
    for selected in iter_block_slices(len(x), len(y)):
        first = selected.start if same else 0
        scaled = (x[selected] @ y[first:].T) / x.shape[1]
        for row in range(
            0, len(scaled), _ROWS_PER_TILE
        ):  # a few rows at a time stay in the cache through all that is done to them
            part = _shifted_cube_minus_one(scaled[row : row + _ROWS_PER_TILE])
            own = slice(selected.start + row, selected.start + row + len(part))
            if same:
                part = part[:, row:]
                part[:, : len(part)] = np.triu(part[:, : len(part)], 1)
            row_sums[own] += part.sum(axis=1)  # pairwise, so that float32 loses nothing that counts
            column_sums[own.start if same else 0 :] += np.ones(len(part), part.dtype) @ part
            sum_of_squares += float(np.vdot(part, part))
    if same:
        row_sums += column_sums
        return _KernelSums(row_sums, row_sums, 2 * sum_of_squares)
    return _KernelSums(row_sums, column_sums, sum_of_squares)


def _kid_variances(within_x: _KernelSums, within_y: _KernelSums, cross: _KernelSums) -> tuple[float, float]:
    """Of KID: the unbiased estimate of all of its variance, and of the degenerate part."""
    n, m = len(within_x.row_sums), len(within_y.row_sums)
    jackknife = _jackknife_variance(within_x.row_sums, cross.row_sums, m) + _jackknife_variance(
        within_y.row_sums, cross.column_sums, n
    )
    within = [(len(own.row_sums), 2 * own.degenerate_within()) for own in (within_x, within_y)]
    across = 4 * cross.degenerate_across() / (n * m)
    excess = sum(part / ((subset_size - 1) * (subset_size - 2)) for subset_size, part in within) + across
    return jackknife - excess, sum(part / (subset_size * (subset_size - 1)) for subset_size, part in within) + across


def _jackknife_variance(own: np.ndarray, cross: np.ndarray, n_other: int) -> float:
    """The jackknife's variance by leaving out each image of one side: their part of the estimate that moves."""
    n = len(own)
    left = (own.sum() - 2 * own) / ((n - 1) * (n - 2)) - 2 * (cross.sum() - cross) / ((n - 1) * n_other)
    return (n - 1) / n * float(((left - left.mean()) ** 2).sum())
