"""The distance of a weighted population by singular values in NumPy, and central differences, for tests of FDLoss."""

import numpy as np


def population_distance(rows, weights, reference):
    """Return the squared Fréchet distance of rows (n, d) with weights (n,) to reference rows (m, d).

    The covariance of weighted rows is Σ w (x - μ)(x - μ)ᵀ / (1 - Σ w²), which is the unbiased one for equal weights.
    """
    mean, reference_mean = weights @ rows, reference.mean(axis=0)
    factor = np.sqrt(weights / (1 - weights @ weights))[:, None] * (rows - mean)
    reference_factor = (reference - reference_mean) / (len(reference) - 1) ** 0.5
    mixed = np.linalg.svd(factor @ reference_factor.T, compute_uv=False).sum()
    delta = mean - reference_mean
    return delta @ delta + (factor**2).sum() + (reference_factor**2).sum() - 2 * mixed


def central_differences(f, x, step=1e-6):
    """Return the central differences of f at x, entry by entry."""
    found = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        offset = np.zeros(x.shape)
        offset[index] = step
        found[index] = (float(f(x + offset)) - float(f(x - offset))) / (2 * step)
    return found
