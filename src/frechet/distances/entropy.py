"""Scores of class probabilities."""

from __future__ import annotations

from frechet.distances.normal import Array, namespace_of


def inception_score(probabilities: Array) -> Array:
    """exp E KL(p(y|x) || p(y)) over one set of images (Salimans et al. 2016, arXiv:1606.03498).

    Args:
        probabilities: (n, classes), rows summing to 1.

    Returns:
        A scalar from 1 (all alike) to the number of classes.
    """
    xp = namespace_of(probabilities)
    marginal = xp.mean(probabilities, axis=0)
    tiny = float(xp.finfo(probabilities.dtype).tiny)  # p log p is 0 at 0
    surprise = xp.log(probabilities + tiny) - xp.log(marginal + tiny)
    return xp.exp(xp.mean(xp.sum(probabilities * surprise, axis=1)))
