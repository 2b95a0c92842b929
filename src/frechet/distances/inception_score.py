"""Scores of class probabilities, and of similarities: how many different things there are."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from frechet.distances.extrapolation import NUM_SIZES, require_enough_images
from frechet.distances.gaussian import Array, get_namespace
from frechet.errors import TooFewImagesError


def inception_score(probabilities: Array) -> Array:
    """exp E KL(p(y|x) || p(y)) over one set of images (Salimans et al. 2016, arXiv:1606.03498).

    Args:
        probabilities: (n, classes), rows summing to 1.

    Returns:
        A scalar from 1 (all alike) to the number of classes.
    """
    xp = get_namespace(probabilities)
    marginal = xp.mean(probabilities, axis=0)
    tiny = float(xp.finfo(probabilities.dtype).tiny)  # p log p is 0 at 0
    surprise = xp.log(probabilities + tiny) - xp.log(marginal + tiny)
    return xp.exp(xp.mean(xp.sum(probabilities * surprise, axis=1)))


@dataclass(frozen=True)
class SplitScores:
    """The score of each split of one set of images; `deviation` has their number in its denominator."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def std(self) -> float:
        return float(np.std(self.values))


def split_inception_scores(
    logits: np.ndarray, splits: int, order: np.ndarray | None = None, *, size: int | None = None
) -> SplitScores:
    """The Inception Score of each of `splits` runs of consecutive images, in float64.

    Args:
        logits: (n, classes) class scores before the softmax.
        splits: how many; split i holds images i n // splits to (i + 1) n // splits - 1, as in torch-fidelity.
        order: (n,) the order in which they are taken, or None: as they come (class-sorted images then score far too low).
        size: images in each split, as in ADM's evaluator, instead; the last one has what is left.

    Raises:
        TooFewImages: fewer images than splits.
    """
    n = len(logits)
    if n < splits:
        raise TooFewImagesError(f"an Inception Score of {splits} splits needs at least {splits} images; got {n}")
    order = np.arange(n) if order is None else order
    ends = [min(i * size, n) if size else i * n // splits for i in range(splits + 1)]
    return SplitScores(
        tuple(float(inception_score(_softmax(logits[order[start:end]]))) for start, end in pairwise(ends))
    )


def inception_score_infinity(logits: np.ndarray, *, seed: int = 0) -> float:
    """The intercept of a line through scores against 1/n, as for FID∞ (Chong & Forsyth 2020, arXiv:1911.07023).

    Args:
        logits: (n, classes) class scores before the softmax.
        seed: of the random subsets.

    Raises:
        TooFewImages: fewer than 8.
    """
    require_enough_images(len(logits))
    random = np.random.default_rng(seed)
    sizes = np.linspace(0.25, 1, NUM_SIZES) * len(logits)
    sizes = sizes.astype(int)
    found = [float(inception_score(_softmax(logits[random.permutation(len(logits))[:size]]))) for size in sizes]
    return float(np.polynomial.polynomial.polyfit(1 / sizes, found, 1)[0])


def legacy_permutation(n: int, seed: int) -> np.ndarray:
    """(n,) the order in which torch-fidelity takes images: a permutation by NumPy's old generator."""
    return np.random.RandomState(seed % 2**32).permutation(n)


def vendi_score(features: np.ndarray) -> float:
    """exp of the entropy of the eigenvalues of K/n, with K the cosine similarities (Friedman & Dieng 2023, arXiv:2210.02410).

    Args:
        features: (n, d); rows of length 0 are like nothing else.

    Returns:
        1 (all alike) to min(n, d) and the rows of length 0: the number of different images, so to speak.
    """
    rows = normalize_rows(features)
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    values = np.linalg.eigvalsh(gram / len(rows))
    alone = np.count_nonzero(~rows.any(axis=1))  # rows of zeros, which are like themselves all the same
    values = np.concatenate([values[values > 0], np.full(alone, 1 / len(rows))])
    return float(np.exp(-(values * np.log(values)).sum()))


def normalize_rows(features: np.ndarray) -> np.ndarray:
    """(n, d) float64 rows of length 1; a row of zeros stays one."""
    rows = features.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
