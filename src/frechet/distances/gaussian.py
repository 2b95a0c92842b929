"""A Gaussian with the factors of its covariance, for arrays of the Python array API: NumPy, PyTorch and JAX."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from frechet._internal.words import count_of
from frechet.errors import StatisticsError, TooFewImagesError

Array: TypeAlias = Any  # np.ndarray | torch.Tensor | jax.Array, and JAX's tracers; none of them is imported here
FLOAT64_EPS = 2.0**-52  # the distance between 1 and the next float64


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian distribution in float64, whose covariance is known as a matrix, as a factor, or as both.

    Attributes:
        mean: (d,) mean.
        covariance: (d, d) covariance, or None if only `factor` is known.
        factor: (r, d) factor with covariance = factorᵀ factor, or None. Either r < d, or it is (d, d) and upper
            triangular.
        covariance_eps: relative precision of the covariance, e.g. that of the dtype it was stored in.
    """

    mean: Float[Array, " d"]
    covariance: Float[Array, "d d"] | None = None
    factor: Float[Array, "r d"] | None = None
    covariance_eps: float = FLOAT64_EPS

    @classmethod
    def from_features(cls, features: Float[Array, "n d"]) -> Gaussian:
        """Fit a Gaussian to features, with n - 1 in the denominator of the covariance.

        Args:
            features: (n, d) float64 features, n >= 2.

        Returns:
            A Gaussian with a factor of n - 1 rows if n <= d, otherwise with a covariance.

        Raises:
            TooFewImagesError: n < 2.
        """
        n, d = features.shape
        if n < 2:
            raise TooFewImagesError(f"got {count_of(n, 'image')}; at least 2 are required for a covariance")
        xp = get_namespace(features)
        mean = xp.mean(features, axis=0)
        centered = (features - mean) / (n - 1) ** 0.5
        return cls(mean, factor=_drop_null_row(centered)) if n <= d else cls(mean, covariance=centered.T @ centered)

    @property
    def trace(self) -> Float[Array, ""]:
        """Trace of the covariance."""
        xp = get_namespace(self.mean)
        if self.covariance is not None:
            return xp.linalg.trace(self.covariance)
        assert self.factor is not None
        return xp.sum(self.factor**2)

    def with_factor(self) -> Gaussian:
        """Return the same Gaussian with a factor, so that several comparisons share one decomposition.

        Raises:
            StatisticsError: the covariance has negative eigenvalues beyond rounding.
        """
        if self.factor is not None:
            return self
        upper = self.cholesky()
        return replace(self, factor=self._low_rank_factor() if upper is None else upper)

    def cholesky(self) -> Float[Array, "d d"] | None:
        """Compute the upper Cholesky factor (d, d).

        Returns:
            The factor, or None if the covariance is unknown or does not have full rank to working precision.
        """
        if self.covariance is None:
            return None
        xp = get_namespace(self.mean)
        try:
            # The transpose of a symmetric matrix is in the column order that LAPACK expects, which NumPy copies faster.
            upper = xp.linalg.cholesky(self.covariance.T).T
        except Exception:  # NumPy and PyTorch raise different LinAlgErrors
            return None
        pivots = xp.linalg.diagonal(upper) ** 2
        full_rank = xp.min(pivots) > self.rank_tolerance * xp.max(xp.linalg.diagonal(self.covariance))
        return upper if bool(full_rank) else None  # JAX marks a failure by NaN pivots, which compare as False

    @property
    def rank_tolerance(self) -> float:
        """Relative threshold below which eigenvalues are rounding errors: max(d ε, `covariance_eps`)."""
        return max(self.mean.shape[0] * FLOAT64_EPS, self.covariance_eps)

    def require_valid_covariance(self) -> None:
        """Check that the covariance is positive semidefinite, by a Cholesky decomposition of Σ + t I.

        This costs a fifth of the eigenvalues. The distance to n <= d images needs no decomposition of the covariance it
        is compared with and would not notice negative eigenvalues.

        Raises:
            StatisticsError: the covariance has eigenvalues below -t, where t is well above rounding.
        """
        if self.covariance is None:
            return
        xp = get_namespace(self.mean)
        # rounding the entries by a relative error moves no eigenvalue by more than that part of the Frobenius norm
        t = self._tolerance * xp.linalg.matrix_norm(self.covariance)
        identity = xp.eye(self.mean.shape[0], dtype=self.covariance.dtype, device=self.covariance.device)
        if t > 0 and replace(self, covariance=self.covariance + t * identity).cholesky() is None:
            require_semidefinite(xp.linalg.eigvalsh(self.covariance), self._tolerance)

    @property
    def _tolerance(self) -> float:
        """Relative size of negative eigenvalues that rounding explains; float32 arithmetic on n < d images gives 1e-6."""
        return max(1e-5, 100 * self.rank_tolerance)

    def _low_rank_factor(self) -> Float[Array, "r d"]:
        """Compute a factor with as many rows as the covariance has rank."""
        xp = get_namespace(self.mean)
        values, vectors = eigendecompose(self.covariance)
        require_semidefinite(values, self._tolerance)
        kept = values > self.rank_tolerance * xp.max(xp.abs(values))
        if bool(xp.all(kept)):  # full rank after all: a square factor has to be triangular
            return xp.linalg.qr((vectors * xp.sqrt(values)).T)[1]
        return (vectors[:, kept] * xp.sqrt(values[kept])).T


def require_semidefinite(eigenvalues: Float[Array, " d"], tolerance: float) -> None:
    """Check that the eigenvalues of a covariance are not negative.

    Args:
        eigenvalues: (d,) eigenvalues.
        tolerance: largest accepted ratio of a negative eigenvalue to the largest absolute eigenvalue.

    Raises:
        StatisticsError: an eigenvalue is below -tolerance times the largest.
    """
    xp = get_namespace(eigenvalues)
    lowest, largest = xp.min(eigenvalues), xp.max(xp.abs(eigenvalues))
    if lowest < -tolerance * largest:
        raise StatisticsError(
            f"the covariance is not positive semidefinite: its smallest eigenvalue is {float(lowest / largest):.2g} times the largest. The "
            "statistics are damaged or were computed incorrectly; recompute them from the images with frechet stats."
        )


def get_namespace(*arrays: Array) -> Any:
    """Return the array API functions of the library that the arrays belong to.

    NumPy and JAX arrays provide them; array-api-compat does so for PyTorch. It is not used for NumPy, because it would
    import all of NumPy, which takes 0.1 s.
    """
    own = getattr(arrays[0], "__array_namespace__", None)
    if own is not None:
        return own()
    from array_api_compat import array_namespace

    return array_namespace(*arrays)


def eigendecompose(matrix: Float[Array, "d d"]) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """Compute the eigenvalues (ascending) and eigenvectors (columns) of a symmetric matrix.

    In several threads, the LAPACK of MKL, which PyTorch uses, does not converge for some matrices of low rank; NumPy's does.

    Raises:
        RuntimeError: PyTorch's decomposition does not converge for another reason, such as NaN.
    """
    xp = get_namespace(matrix)
    try:
        values, vectors = xp.linalg.eigh(matrix)
    except RuntimeError:
        if str(matrix.device) != "cpu" or not bool(xp.all(xp.isfinite(matrix))):
            raise
        values, vectors = map(xp.asarray, np.linalg.eigh(np.asarray(matrix)))
    return values, vectors


def machine_epsilon(array: Array) -> float:
    """Return the distance between 1 and the next larger number of the array's dtype."""
    return float(get_namespace(array).finfo(array.dtype).eps)


def _drop_null_row(centered: Float[Array, "n d"]) -> Float[Array, "n-1 d"]:
    """Compute n - 1 rows with the same scatter, by a Householder reflection of (1, ..., 1), a null vector of centred rows.

    With n rows, one singular value would be the root of a rounding error, about 1e-8, instead of zero.
    """
    return centered[1:, :] - centered[0, :] / (centered.shape[0] ** 0.5 + 1)
