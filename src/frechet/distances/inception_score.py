"""Inception Score of class probabilities, and the Vendi score of similarities."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from frechet.distances.extrapolation import NUM_SIZES, require_enough_images
from frechet.distances.gaussian import Array, get_namespace
from frechet.errors import TooFewImagesError


def inception_score(probabilities: Float[Array, "n c"]) -> Float[Array, ""]:
    """Compute the Inception Score of one set of images, exp E KL(p(y|x) ‖ p(y)) (Salimans et al. 2016, arXiv:1606.03498).

    Args:
        probabilities: (n, c) class probabilities; rows sum to 1.

    Returns:
        A scalar from 1 (equal predictions for all images) to c.
    """
    xp = get_namespace(probabilities)
    marginal = xp.mean(probabilities, axis=0)
    tiny = float(xp.finfo(probabilities.dtype).tiny)  # p log p is 0 at 0
    log_ratio = xp.log(probabilities + tiny) - xp.log(marginal + tiny)
    return xp.exp(xp.mean(xp.sum(probabilities * log_ratio, axis=1)))


@dataclass(frozen=True)
class SplitScores:
    """The Inception Score of each split of one set of images.

    Attributes:
        values: one score per split.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the splits."""
        return float(np.mean(self.values))

    @property
    def std(self) -> float:
        """Standard deviation between splits, with the number of splits in the denominator."""
        return float(np.std(self.values))


def split_inception_scores(
    logits: Float[np.ndarray, "n c"],
    splits: int,
    order: Int[np.ndarray, " n"] | None = None,
    *,
    size: int | None = None,
) -> SplitScores:
    """Compute the Inception Score of each of several splits, in float64 (Salimans et al. 2016, arXiv:1606.03498).

    Args:
        logits: (n, c) logits, n >= splits.
        splits: number of splits; split i contains images i n // splits to (i + 1) n // splits - 1, as in torch-fidelity.
        order: (n,) order in which images are split; None keeps the order of the rows (splits of class-sorted images
            then score far too low).
        size: number of images per split, as in ADM's evaluator; the last split contains the remaining images.

    Raises:
        TooFewImagesError: there are fewer images than splits.
    """
    n = len(logits)
    if n < splits:
        raise TooFewImagesError(f"an Inception Score of {splits} splits needs at least {splits} images; got {n}")
    order = np.arange(n) if order is None else order
    ends = [min(i * size, n) if size else i * n // splits for i in range(splits + 1)]
    return SplitScores(
        tuple(float(inception_score(_softmax(logits[order[start:end]]))) for start, end in pairwise(ends))
    )


def is_sorted_by_class(logits: np.ndarray) -> bool:
    """Return whether neighbouring images have the same predicted class far more often than in random order.

    In random order, the number of equal neighbours has about the mean (n - 1) q and the variance (n - 1) q (1 - q), where q is
    the probability that two images have the same class. Six standard deviations more are taken as sorted.

    Args:
        logits: (n, classes) class scores, in the order of the images.
    """
    classes = logits.argmax(axis=1)
    shares = np.bincount(classes) / len(classes)
    same, pairs = float((shares**2).sum()), len(classes) - 1
    n_equal = int((classes[1:] == classes[:-1]).sum())
    return n_equal > pairs * same + 6 * float(np.sqrt(max(pairs * same * (1 - same), 1.0)))


def inception_score_infinity(logits: Float[np.ndarray, "n c"], *, seed: int = 0) -> float:
    """Extrapolate the Inception Score to an infinite number of images (Chong & Forsyth 2020, arXiv:1911.07023).

    The result is the intercept of a line fitted to the scores of 15 seeded random subsets as a function of 1/n.

    Args:
        logits: (n, c) logits, n >= 8.
        seed: seed of the subsets.

    Raises:
        TooFewImagesError: n is less than 8.
    """
    require_enough_images(len(logits))
    random = np.random.default_rng(seed)
    sizes = (np.linspace(0.25, 1, NUM_SIZES) * len(logits)).astype(int)
    scores = [float(inception_score(_softmax(logits[random.permutation(len(logits))[:size]]))) for size in sizes]
    return float(np.polynomial.polynomial.polyfit(1 / sizes, scores, 1)[0])


def legacy_permutation(n: int, seed: int) -> Int[np.ndarray, " n"]:
    """Return the order in which torch-fidelity splits n images: a permutation by NumPy's legacy generator."""
    return np.random.RandomState(seed % 2**32).permutation(n)


def vendi_score(features: Float[np.ndarray, "n d"]) -> float:
    """Compute the Vendi score, the exponential of the entropy of the eigenvalues of K/n (Friedman & Dieng 2023).

    K contains the cosine similarities of the rows (arXiv:2210.02410, definition 3.1). A row of zeros is similar only to
    itself.

    Args:
        features: (n, d) features.

    Returns:
        The effective number of distinct images, from 1 (all equal) to min(n, d) plus the number of rows of zeros.
    """
    rows = normalize_rows(features)
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    values = np.linalg.eigvalsh(gram / len(rows))
    n_zero_rows = np.count_nonzero(~rows.any(axis=1))
    values = np.concatenate([values[values > 0], np.full(n_zero_rows, 1 / len(rows))])
    return float(np.exp(-(values * np.log(values)).sum()))


def normalize_rows(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Scale rows to unit length, in float64; rows of zeros remain."""
    rows = features.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def _softmax(logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
