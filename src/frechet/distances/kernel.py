"""Kernel distances between sets of features (Bińkowski et al. 2018, Jayasumana et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from frechet.distances.gaussian import Array, namespace_of
from frechet.distances.pairwise import spans
from frechet.errors import TooFewImages

_IN_CACHE = 32  # rows
_LARGE = 16  # |x|²/d beyond which float32 holds too little of its cube, or overflows
_FAINT = 1e-4  # share of the doubly centred kernel in the kernel's squares below which float32 may lose it
_SAMPLE = 256  # rows of a side by which that share is told

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def polynomial_mmd(x: Array, y: Array) -> Array:
    """The unbiased squared maximum mean discrepancy with the kernel (x·y/d + 1)³.

    Args:
        x, y: (n, d) and (m, d) features, n, m >= 2.

    Returns:
        A scalar; around 0, also below it, where both are of one distribution. KID is its value on features of Inception.
    """
    xp = namespace_of(x, y)
    (n, d), m = x.shape, y.shape[0]

    def kernel(a: Array, b: Array) -> Array:
        return (a @ b.T / d + 1) ** 3

    def among(a: Array, size: int) -> Array:
        own = (xp.sum(a * a, axis=1) / d + 1) ** 3
        return (xp.sum(kernel(a, a)) - xp.sum(own)) / (size * (size - 1))

    return among(x, n) + among(y, m) - 2 * xp.mean(kernel(x, y))


@dataclass(frozen=True)
class Discrepancy:
    """An estimate and what it varies by: the standard error, or the deviation between subsets."""

    value: float
    standard_error: float | None = None
    deviation: float | None = None


def kid(x: np.ndarray, y: np.ndarray) -> Discrepancy:
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
    for side in (x, y):
        if len(side) < 3:
            raise TooFewImages(f"the standard error of KID needs at least 3 images a side; got {len(side)}")
    n, m = len(x), len(y)
    x, y = _precise(x, y)
    own_x, own_y, cross = _sums(x), _sums(y), _sums(x, y)
    total = own_x.total / (n * (n - 1)) + own_y.total / (m * (m - 1)) - 2 * cross.total / (n * m)
    unbiased, degenerate = _variances(own_x, own_y, cross)
    return Discrepancy(total, standard_error=max(unbiased, degenerate, 0.0) ** 0.5)


def kid_of_subsets(
    x: np.ndarray,
    y: np.ndarray,
    *,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 2020,
    reference_first: bool = False,
) -> Discrepancy:
    """The mean and deviation (n in the denominator) of KID over random subsets, drawn as torch-fidelity draws them.

    Args:
        x, y: (n, d) and (m, d) features.
        subsets, size: how many, of how many images of each side.
        seed: of NumPy's old generator, from which the draws come.
        reference_first: whether those of y are drawn first, as in clean-fid.

    Raises:
        TooFewImages: a side has fewer than `size`.
    """
    for side in (x, y):
        if len(side) < size:
            raise TooFewImages(f"KID of subsets of {size} needs as many images a side; got {len(side)}")
    random = np.random.RandomState(seed % 2**32)
    x, y = _precise(x, y)
    sides = (y, x) if reference_first else (x, y)
    found = []
    for _ in range(subsets):
        some = [side[random.choice(len(side), size, replace=False)] for side in sides]
        found.append(_unbiased(*some))
    return Discrepancy(float(np.mean(found)), deviation=float(np.std(found)))


def gaussian_mmd(x: np.ndarray, y: np.ndarray, *, sigma: float = 10.0) -> float:
    """The biased squared maximum mean discrepancy with the kernel exp(-|x - y|²/2σ²), diagonals counted.

    Args:
        x, y: (n, d) and (m, d) features.
        sigma: the kernel's width. CMMD is 1000 times this at 10, on CLIP embeddings of unit length
            (Jayasumana et al. 2024, arXiv:2401.09603).
    """

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        def less_one(p: np.ndarray, q: np.ndarray) -> np.ndarray:
            squared = (p**2).sum(1)[:, None] + (q**2).sum(1) - 2 * (p @ q.T)
            return np.expm1(np.maximum(squared, 0) / (-2 * sigma**2))

        total = sum(part.sum(dtype=np.float64) for _, part in _blocks(a, b, less_one))
        return float(total) / (len(a) * len(b))

    x, y = x.astype(np.float64), y.astype(np.float64)
    return mean(x, x) + mean(y, y) - 2 * mean(x, y)


def _precise(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sides as they are, or in float64 where the kernel's differences, which are what counts, are small beside its values."""
    if _told_by_float32(x) and _told_by_float32(y):
        return x, y
    return x.astype(np.float64), y.astype(np.float64)


def _told_by_float32(side: np.ndarray) -> bool:
    if np.einsum("ij,ij->i", side, side).max() / side.shape[1] > _LARGE:
        return False
    sums = _sums(side[:: -(-len(side) // _SAMPLE)].astype(np.float64))
    pairs = len(sums.rows) * (len(sums.rows) - 1)
    return pairs == 0 or sums.degenerate_within() >= _FAINT * sums.squares / pairs


def _unbiased(x: np.ndarray, y: np.ndarray) -> float:
    def among(a: np.ndarray) -> float:
        kernel = _cubic(a, a)
        return float(kernel.sum(dtype=np.float64) - np.trace(kernel, dtype=np.float64)) / (len(a) * (len(a) - 1))

    return among(x) + among(y) - 2 * float(_cubic(x, y).mean(dtype=np.float64))


def _cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x·y/d + 1)³ - 1: the ones cancel in any discrepancy, and without them float32 keeps three more bits."""
    return _cubed((x @ y.T) / x.shape[1])


def _cubed(s: np.ndarray) -> np.ndarray:
    whole = s + 3
    whole *= s
    whole += 3
    whole *= s
    return whole


def _blocks(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> Iterator[tuple[slice, np.ndarray]]:
    for some in spans(len(x), len(y)):
        yield some, kernel(x[some], y)


@dataclass(frozen=True)
class _Sums:
    """What is kept of a kernel matrix: sums of rows, of columns, and of squares; without the diagonal within a side."""

    rows: np.ndarray
    columns: np.ndarray
    squares: float

    @property
    def total(self) -> float:
        return float(self.rows.sum())

    def degenerate_within(self) -> float:
        """The mean square of the doubly centred kernel within one side, unbiased; 0 of three images, which leave nothing of it."""
        n = len(self.rows)
        if n < 4:
            return 0.0
        means = self.rows / (n - 1)
        mean = self.total / (n * (n - 1))
        u = (n - 1) / (n - 2) * (means - mean) + mean / 2  # of no row's mean is its own diagonal a part
        cross = 2 * float(self.rows @ u)
        both = 2 * (n - 2) * float(u @ u) + 2 * float(u.sum()) ** 2
        return (self.squares - 2 * cross + both) / (n * (n - 3))  # of n(n - 1)/2 pairs, n degrees of freedom are fitted

    def degenerate_across(self) -> float:
        """The same between two sides."""
        n, m = len(self.rows), len(self.columns)
        by_row, by_column = self.rows @ self.rows / m, self.columns @ self.columns / n
        return float(self.squares - by_row - by_column + self.total**2 / (n * m)) / ((n - 1) * (m - 1))


def _sums(x: np.ndarray, other: np.ndarray | None = None) -> _Sums:
    """Of the cubic kernel between two sides (which may be one array), or within one: of that, only the upper half is computed."""
    same = other is None
    y = x if other is None else other
    rows, columns, squares = np.zeros(len(x)), np.zeros(len(y)), 0.0
    for some in spans(len(x), len(y)):
        first = some.start if same else 0
        scaled = (x[some] @ y[first:].T) / x.shape[1]
        for row in range(
            0, len(scaled), _IN_CACHE
        ):  # a few rows at a time stay in the cache through all that is done to them
            part = _cubed(scaled[row : row + _IN_CACHE])
            own = slice(some.start + row, some.start + row + len(part))
            if same:
                part = part[:, row:]
                part[:, : len(part)] = np.triu(part[:, : len(part)], 1)
            rows[own] += part.sum(axis=1)  # pairwise, so that float32 loses nothing that counts
            columns[own.start if same else 0 :] += np.ones(len(part), part.dtype) @ part
            squares += float(np.vdot(part, part))
    if same:
        rows += columns
        return _Sums(rows, rows, 2 * squares)
    return _Sums(rows, columns, squares)


def _variances(own_x: _Sums, own_y: _Sums, cross: _Sums) -> tuple[float, float]:
    """Of KID: the unbiased estimate of all of its variance, and of the degenerate part."""
    n, m = len(own_x.rows), len(own_y.rows)
    jackknife = _left_out(own_x.rows, cross.rows, m) + _left_out(own_y.rows, cross.columns, n)
    within = [(len(own.rows), 2 * own.degenerate_within()) for own in (own_x, own_y)]
    across = 4 * cross.degenerate_across() / (n * m)
    too_much = sum(part / ((size - 1) * (size - 2)) for size, part in within) + across
    return jackknife - too_much, sum(part / (size * (size - 1)) for size, part in within) + across


def _left_out(own: np.ndarray, cross: np.ndarray, others: int) -> float:
    """The jackknife's variance by leaving out each image of one side: their part of the estimate that moves."""
    n = len(own)
    left = (own.sum() - 2 * own) / ((n - 1) * (n - 2)) - 2 * (cross.sum() - cross) / ((n - 1) * others)
    return (n - 1) / n * float(((left - left.mean()) ** 2).sum())
