"""A Gaussian and the factors of its covariance, on the Python array API: numpy, torch and JAX arrays alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from frechet.errors import StatisticsError, TooFewImagesError

Array = Any
FLOAT64_EPS = 2.0**-52  # the distance between 1 and the next float64


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian, its covariance known as a matrix, as a factor, or both; float64.

    Attributes:
        mean: (d,).
        covariance: (d, d), or None where `factor` says it.
        factor: (k, d) with covariance = factorᵀ factor, or None. Either k < d, or it is (d, d) and upper triangular.
        resolution: relative precision of the covariance, e.g. that of the dtype it was stored in.
    """

    mean: Array
    covariance: Array = None
    factor: Array = None
    covariance_eps: float = FLOAT64_EPS

    @classmethod
    def from_features(cls, features: Array) -> Gaussian:
        """The Gaussian of (n, d) features, covariance divided by n - 1: a factor where that is the smaller.

        Raises:
            TooFewImages: n < 2.
        """
        n, d = features.shape
        if n < 2:
            raise TooFewImagesError(f"a covariance needs at least two images; got {n}")
        xp = get_namespace(features)
        mean = xp.mean(features, axis=0)
        centered = (features - mean) / (n - 1) ** 0.5
        return cls(mean, factor=_drop_null_row(centered)) if n <= d else cls(mean, covariance=centered.T @ centered)

    @property
    def trace(self) -> Array:
        """tr Σ."""
        xp = get_namespace(self.mean)
        if self.covariance is not None:
            return xp.linalg.trace(self.covariance)
        return xp.sum(self.factor**2)

    def with_factor(self) -> Gaussian:
        """The same, with a factor: what is compared again and again should not be decomposed each time.

        Raises:
            StatisticsError: the covariance is not positive semidefinite, by far more than rounding.
        """
        if self.factor is not None:
            return self
        upper = self.cholesky()
        return replace(self, factor=self._low_rank_factor() if upper is None else upper)

    def cholesky(self) -> Array | None:
        """The upper Cholesky factor (d, d), or None where the covariance has no full rank to working precision."""
        if self.covariance is None:
            return None
        xp = get_namespace(self.mean)
        try:
            # symmetric, so its transpose is the same matrix, laid out as LAPACK wants it: NumPy's copy runs along rows
            upper = xp.linalg.cholesky(self.covariance.T).T
        except Exception:  # numpy's LinAlgError, torch's own: every library has another name for it
            return None
        pivots = xp.linalg.diagonal(upper) ** 2
        full = xp.min(pivots) > self.rank_tolerance * xp.max(xp.linalg.diagonal(self.covariance))
        return upper if bool(full) else None  # NaN pivots (JAX's way to say failure) are not full either

    @property
    def rank_tolerance(self) -> float:
        """What part of the largest variance is rounding: max(d ε, resolution)."""
        return max(self.mean.shape[0] * FLOAT64_EPS, self.covariance_eps)

    def require_valid_covariance(self) -> None:
        """Refuse a matrix that is no covariance, at a fifth of the cost of its eigenvalues: by a Cholesky of Σ + t I.

        The distance to a few images needs no decomposition of the other side's matrix, and does not see all of it.

        Raises:
            StatisticsError: it has eigenvalues below -t, by far more than rounding.
        """
        if self.covariance is None:
            return
        xp = get_namespace(self.mean)
        # rounding all entries moves no eigenvalue by more than that part of the Frobenius norm
        t = self._tolerance * xp.linalg.matrix_norm(self.covariance)
        shifted = self.covariance + t * xp.eye(
            self.mean.shape[0], dtype=self.covariance.dtype, device=self.covariance.device
        )
        if t > 0 and replace(self, covariance=shifted).cholesky() is None:
            require_semidefinite(xp.linalg.eigvalsh(self.covariance), self._tolerance)

    @property
    def _tolerance(self) -> float:
        """What part of the largest eigenvalue others may be negative by: float32 arithmetic of n < d images makes 1e-6."""
        return max(1e-5, 100 * self.rank_tolerance)

    def _low_rank_factor(self) -> Array:
        """A factor of as many rows as the covariance has rank."""
        xp = get_namespace(self.mean)
        values, vectors = xp.linalg.eigh(self.covariance)
        require_semidefinite(values, self._tolerance)
        kept = values > self.rank_tolerance * xp.max(xp.abs(values))
        if bool(xp.all(kept)):  # full rank after all, and so a square factor: it has to be triangular
            return xp.linalg.qr((vectors * xp.sqrt(values)).T)[1]
        return (vectors[:, kept] * xp.sqrt(values[kept])).T


def require_semidefinite(values: Array, tolerance: float) -> None:
    """Refuse eigenvalues of what ought to be a covariance that are negative by more than this part of the largest.

    Raises:
        StatisticsError: some are.
    """
    xp = get_namespace(values)
    if xp.min(values) < -tolerance * xp.max(xp.abs(values)):
        raise StatisticsError(
            f"a covariance has negative variances in some directions ({float(xp.min(values) / xp.max(xp.abs(values))):.2g} of the "
            "largest eigenvalue): it was damaged or made wrongly; make those statistics anew from the images (frechet stats)"
        )


def get_namespace(*arrays: Array) -> Any:
    """The array API functions for these arrays.

    NumPy's and JAX's arrays name them themselves; array-api-compat does it for torch's (and for NumPy would load all of
    NumPy, a tenth of a second).
    """
    own = getattr(arrays[0], "__array_namespace__", None)
    if own is not None:
        return own()
    from array_api_compat import array_namespace

    return array_namespace(*arrays)


def machine_epsilon(array: Array) -> float:
    """The distance between 1 and the next number of the array's dtype."""
    return float(get_namespace(array).finfo(array.dtype).eps)


def matmul_factor_transpose(left: Array, factor: Array, *, blocks: int = 8) -> Array:
    """`left @ factor.T` for a factor of a `Normal`: at half the cost where it is triangular, in blocks of columns."""
    d = factor.shape[1]
    if factor.shape[0] < d or d < 64 * blocks:
        return left @ factor.T
    size = -(-d // blocks)
    columns = [left[:, j:] @ factor[j : j + size, j:].T for j in range(0, d, size)]
    return get_namespace(left).concat(columns, axis=1)


def _drop_null_row(centered: Array) -> Array:
    """The same scatter from n - 1 rows: a Householder reflection of (1, ..., 1), which centring made a null vector.

    Without it the root of a rounding error, 1e-8, would stand for a singular value that is exactly zero.
    """
    return centered[1:, :] - centered[0, :] / (centered.shape[0] ** 0.5 + 1)
