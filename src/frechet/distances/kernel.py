"""Maximum mean discrepancies between sets of features: KID (Bińkowski et al. 2018), CMMD (Jayasumana et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from frechet.distances.gaussian import Array, get_namespace
from frechet.distances.pairwise import iter_block_slices
from frechet.errors import TooFewImagesError

_ROWS_PER_TILE = 32  # few enough to stay in the cache
_MAX_MEAN_SQUARE = 16  # |x|²/d above which the cube loses too many digits in float32, or overflows
# fraction of the mean squared kernel that is due to the doubly centred kernel, below which float32 may lose the latter
_MIN_DEGENERATE_FRACTION = 1e-4
_PROBE_ROWS = 256  # number of rows that this fraction is estimated from

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def polynomial_mmd(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, ""]:
    """Compute the unbiased squared maximum mean discrepancy with the kernel (x·y/d + 1)³ (Bińkowski et al. 2018).

    KID is its value for Inception features (arXiv:1801.01401, section 4).

    Args:
        x: (n, d) features, n >= 2.
        y: (m, d) features, m >= 2.

    Returns:
        A scalar, whose expectation is 0 for equal distributions, so that it may be negative.
    """
    xp = get_namespace(x, y)
    (n, d), m = x.shape, y.shape[0]

    def kernel(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, "n m"]:
        return (a @ b.T / d + 1) ** 3

    def mean_within(a: Float[Array, "n d"], size: int) -> Float[Array, ""]:
        own = (xp.sum(a * a, axis=1) / d + 1) ** 3
        return (xp.sum(kernel(a, a)) - xp.sum(own)) / (size * (size - 1))

    return mean_within(x, n) + mean_within(y, m) - 2 * xp.mean(kernel(x, y))


@dataclass(frozen=True)
class KidEstimate:
    """An estimate of KID.

    Attributes:
        value: the estimate.
        standard_error: standard error of the estimate over all images, or None for subsets.
        std: standard deviation between subsets, or None for all images.
    """

    value: float
    standard_error: float | None = None
    std: float | None = None


def kid(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> KidEstimate:
    """Compute KID over all images, the U-statistic of `polynomial_mmd`, and its standard error, block by block.

    The variance is that of the delete-one jackknife, which counts the degenerate part (the whole variance for equal
    distributions) twice, minus that part, which is estimated from the doubly centred kernel (Efron & Stein 1981;
    Sutherland & Deka 2019, arXiv:1906.02104). The result is unbiased for at least 4 images per set. It is not allowed to
    be less than the degenerate part, as it would by chance for nearly equal distributions, so that intervals would not
    cover; the standard error is then conservative, by up to a quarter (benchmarks/kid_error.py).

    Args:
        x: (n, d) features, n >= 3; float32 is promoted if it is not accurate enough.
        y: (m, d) features, m >= 3.

    Returns:
        The unbiased estimate and its standard error.

    Raises:
        TooFewImagesError: n or m is less than 3.
    """
    for features in (x, y):
        if len(features) < 3:
            raise TooFewImagesError(f"the standard error of KID needs at least 3 images per input; got {len(features)}")
    n, m = len(x), len(y)
    x, y = _promote_if_needed(x, y)
    within_x, within_y, cross = _kernel_sums(x), _kernel_sums(y), _kernel_sums(x, y)
    total = within_x.total / (n * (n - 1)) + within_y.total / (m * (m - 1)) - 2 * cross.total / (n * m)
    unbiased, degenerate = _kid_variances(within_x, within_y, cross)
    return KidEstimate(total, standard_error=max(unbiased, degenerate, 0.0) ** 0.5)


def kid_over_subsets(
    x: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, "m d"],
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 2020,
    reference_first: bool = False,
) -> KidEstimate:
    """Compute the mean of KID over random subsets, which are drawn as in torch-fidelity.

    Args:
        x: (n, d) features, n >= `subset_size`.
        y: (m, d) features, m >= `subset_size`.
        subsets: number of subsets.
        subset_size: number of images of each input per subset.
        seed: seed of NumPy's legacy generator.
        reference_first: whether the images of y are drawn first, as in clean-fid.

    Returns:
        The mean and the standard deviation (number of subsets in the denominator) over the subsets.

    Raises:
        TooFewImagesError: n or m is less than `subset_size`.
    """
    for features in (x, y):
        if len(features) < subset_size:
            raise TooFewImagesError(
                f"KID over subsets of {subset_size} images needs at least {subset_size} images per input; got {len(features)}"
            )
    random = np.random.RandomState(seed % 2**32)
    x, y = _promote_if_needed(x, y)
    inputs = (y, x) if reference_first else (x, y)
    values = []
    for _ in range(subsets):
        selected = [features[random.choice(len(features), subset_size, replace=False)] for features in inputs]
        values.append(_unbiased_mmd(*selected))
    return KidEstimate(float(np.mean(values)), std=float(np.std(values)))


def gaussian_mmd(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], *, sigma: float = 10.0) -> float:
    """Compute the biased squared maximum mean discrepancy with the kernel exp(-|x - y|²/2σ²), diagonals included.

    CMMD is 1000 times this value with σ = 10 for CLIP embeddings of unit length (Jayasumana et al. 2024,
    arXiv:2401.09603).

    Args:
        x: (n, d) features.
        y: (m, d) features.
        sigma: bandwidth σ of the kernel.

    Returns:
        A non-negative number, up to rounding.
    """

    def mean(a: Float64[np.ndarray, "n d"], b: Float64[np.ndarray, "m d"]) -> float:
        def kernel_minus_one(
            p: Float64[np.ndarray, "b d"], q: Float64[np.ndarray, "m d"]
        ) -> Float64[np.ndarray, "b m"]:
            squared = (p**2).sum(1)[:, None] + (q**2).sum(1) - 2 * (p @ q.T)
            return np.expm1(np.maximum(squared, 0) / (-2 * sigma**2))

        total = sum(part.sum(dtype=np.float64) for _, part in _iter_kernel_blocks(a, b, kernel_minus_one))
        return float(total) / (len(a) * len(b))

    x, y = x.astype(np.float64), y.astype(np.float64)
    return mean(x, x) + mean(y, y) - 2 * mean(x, y)


def _promote_if_needed(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "m d"]]:
    """Convert features to float64 if the differences of kernel values, which matter, are small relative to the values."""
    if _float32_suffices(x) and _float32_suffices(y):
        return x, y
    return x.astype(np.float64), y.astype(np.float64)


def _float32_suffices(features: Float[np.ndarray, "n d"]) -> bool:
    if np.einsum("ij,ij->i", features, features).max() / features.shape[1] > _MAX_MEAN_SQUARE:
        return False
    sums = _kernel_sums(features[:: -(-len(features) // _PROBE_ROWS)].astype(np.float64))
    pairs = len(sums.row_sums) * (len(sums.row_sums) - 1)
    return pairs == 0 or sums.degenerate_within() >= _MIN_DEGENERATE_FRACTION * sums.sum_of_squares / pairs


def _unbiased_mmd(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    def mean_within(a: Float[np.ndarray, "n d"]) -> float:
        kernel = _cubic_kernel_minus_one(a, a)
        return float(kernel.sum(dtype=np.float64) - np.trace(kernel, dtype=np.float64)) / (len(a) * (len(a) - 1))

    return mean_within(x) + mean_within(y) - 2 * float(_cubic_kernel_minus_one(x, y).mean(dtype=np.float64))


def _cubic_kernel_minus_one(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """Compute (x·y/d + 1)³ - 1. The ones cancel in a discrepancy, and without them float32 keeps three more bits."""
    return _shifted_cube_minus_one((x @ y.T) / x.shape[1])


def _shifted_cube_minus_one(s: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "n m"]:
    """Compute (s + 1)³ - 1 = s (s (s + 3) + 3)."""
    product = s + 3
    product *= s
    product += 3
    product *= s
    return product


def _iter_kernel_blocks(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], kernel: Kernel
) -> Iterator[tuple[slice, Float[np.ndarray, "_ m"]]]:
    for selected in iter_block_slices(len(x), len(y)):
        yield selected, kernel(x[selected], y)


@dataclass(frozen=True)
class _KernelSums:
    """Sums over a kernel matrix, without the diagonal if the matrix is that of one set.

    Attributes:
        row_sums: (n,) sums of the rows.
        column_sums: (m,) sums of the columns.
        sum_of_squares: sum of the squared entries.
    """

    row_sums: Float64[np.ndarray, " n"]
    column_sums: Float64[np.ndarray, " m"]
    sum_of_squares: float

    @property
    def total(self) -> float:
        """Sum of all entries."""
        return float(self.row_sums.sum())

    def degenerate_within(self) -> float:
        """Compute the unbiased mean square of the doubly centred kernel of one set; 0 for three images, which determine none."""
        n = len(self.row_sums)
        if n < 4:
            return 0.0
        means = self.row_sums / (n - 1)
        mean = self.total / (n * (n - 1))
        u = (n - 1) / (n - 2) * (means - mean) + mean / 2  # the row means do not include the diagonal
        cross = 2 * float(self.row_sums @ u)
        both = 2 * (n - 2) * float(u @ u) + 2 * float(u.sum()) ** 2
        # n degrees of freedom of the n(n - 1)/2 pairs are fitted, which leaves n(n - 3)/2
        return (self.sum_of_squares - 2 * cross + both) / (n * (n - 3))

    def degenerate_across(self) -> float:
        """Compute the unbiased mean square of the doubly centred kernel between two sets."""
        n, m = len(self.row_sums), len(self.column_sums)
        by_row, by_column = self.row_sums @ self.row_sums / m, self.column_sums @ self.column_sums / n
        return float(self.sum_of_squares - by_row - by_column + self.total**2 / (n * m)) / ((n - 1) * (m - 1))


def _kernel_sums(x: Float[np.ndarray, "n d"], other: Float[np.ndarray, "m d"] | None = None) -> _KernelSums:
    """Compute sums of the cubic kernel between two sets, or within x if `other` is None (only the upper half is computed)."""
    same = other is None
    y = x if other is None else other
    row_sums, column_sums, sum_of_squares = np.zeros(len(x)), np.zeros(len(y)), 0.0
    for selected in iter_block_slices(len(x), len(y)):
        first = selected.start if same else 0
        scaled = (x[selected] @ y[first:].T) / x.shape[1]
        for row in range(0, len(scaled), _ROWS_PER_TILE):
            part = _shifted_cube_minus_one(scaled[row : row + _ROWS_PER_TILE])
            own = slice(selected.start + row, selected.start + row + len(part))
            if same:
                part = part[:, row:]
                part[:, : len(part)] = np.triu(part[:, : len(part)], 1)
            row_sums[own] += part.sum(axis=1)  # NumPy sums pairwise, which is accurate enough in float32
            column_sums[own.start if same else 0 :] += np.ones(len(part), part.dtype) @ part
            sum_of_squares += float(np.vdot(part, part))
    if same:
        row_sums += column_sums
        return _KernelSums(row_sums, row_sums, 2 * sum_of_squares)
    return _KernelSums(row_sums, column_sums, sum_of_squares)


def _kid_variances(within_x: _KernelSums, within_y: _KernelSums, cross: _KernelSums) -> tuple[float, float]:
    """Return unbiased estimates of the variance of KID and of its degenerate part."""
    n, m = len(within_x.row_sums), len(within_y.row_sums)
    jackknife = _jackknife_variance(within_x.row_sums, cross.row_sums, m) + _jackknife_variance(
        within_y.row_sums, cross.column_sums, n
    )
    within = [(len(own.row_sums), 2 * own.degenerate_within()) for own in (within_x, within_y)]
    across = 4 * cross.degenerate_across() / (n * m)
    excess = sum(part / ((size - 1) * (size - 2)) for size, part in within) + across
    return jackknife - excess, sum(part / (size * (size - 1)) for size, part in within) + across


def _jackknife_variance(own: Float64[np.ndarray, " n"], cross: Float64[np.ndarray, " n"], n_other: int) -> float:
    """Compute the jackknife variance of KID over leaving out each image of one set.

    Args:
        own: (n,) sums of the kernel between each image and the others of its set.
        cross: (n,) sums of the kernel between each image and the other set.
        n_other: number of images of the other set.
    """
    n = len(own)
    left = (own.sum() - 2 * own) / ((n - 1) * (n - 2)) - 2 * (cross.sum() - cross) / ((n - 1) * n_other)
    return (n - 1) / n * float(((left - left.mean()) ** 2).sum())
