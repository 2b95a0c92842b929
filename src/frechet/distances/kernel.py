"""Kernel distances between sets of features (Bińkowski et al. 2018)."""

from __future__ import annotations

from frechet.distances.normal import Array, namespace_of


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
