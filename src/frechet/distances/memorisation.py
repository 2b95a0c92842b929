"""Is a generator repeating what it was trained on? Generated images against those it was trained on, and others held out."""

from __future__ import annotations

import numpy as np

from frechet.distances.inception_score import unit_rows
from frechet.distances.pairwise import Cloud, mean_of, nearest, spans
from frechet.errors import TooFewImages

COMPONENTS, CELLS, FEWEST = 64, 3, 20  # of C_T: principal components, cells, generated images in a cell that counts


def cosine_to_nearest(x: np.ndarray, y: np.ndarray) -> float:
    """The mean over rows of x of the smallest 1 - |cos| to a row of y; rows that sum to 0 are left out.

    MiFID divides the Fréchet distance by it where it is below a threshold (Bai et al. 2021, arXiv:2106.03062).

    Raises:
        TooFewImages: no rows are left of a side.
    """
    x, y = (unit_rows(side[side.sum(axis=1) != 0]) for side in (x, y))
    if not len(x) or not len(y):
        raise TooFewImages("MiFID compares directions of features, and those of one side are zero for every image")
    total = sum(float((1 - np.abs(x[some] @ y.T)).min(axis=1).sum()) for some in spans(len(x), len(y)))
    return total / len(x)


def penalised(distance: float, cosine: float, *, threshold: float = 0.1) -> float:
    """MiFID: the distance over `cosine_to_nearest` where that is below the threshold."""
    return distance / (cosine + 1e-14) if cosine < threshold else distance


def data_copying(train: np.ndarray, held_out: np.ndarray, generated: np.ndarray, *, seed: int = 0) -> float:
    """C_T: are generated images nearer to the training images than held-out ones are? (Meehan et al. 2020, arXiv:2004.05675).

    A z-score of the Mann-Whitney test in each of three cells of the training images, averaged by the share of held-out images
    in them, on 64 principal components.

    Args:
        train, held_out, generated: (n, d) each.
        seed: of the k-means that makes the cells.

    Returns:
        Far below 0 for copies, far above for images unlike the training's.

    Raises:
        TooFewImages: fewer training images than cells, a cell holds no training or held-out image, or none holds 20 generated ones.
    """
    from sklearn.cluster import KMeans  # the clustering of those who defined it

    if len(train) < CELLS:
        raise TooFewImages(f"C_T divides the training images into {CELLS} cells; got {len(train)}")
    train, held_out, generated = _principal(train, held_out, generated)
    cells = KMeans(n_clusters=CELLS, n_init=10, random_state=seed).fit(train)
    of_train, of_held_out, of_generated = (cells.predict(side) for side in (train, held_out, generated))
    scores, weights = [], []
    for cell in range(CELLS):
        t, p, q = train[of_train == cell], held_out[of_held_out == cell], generated[of_generated == cell]
        if not len(p) or not len(t):
            raise TooFewImages(
                f"C_T: one of {CELLS} cells holds {len(p)} held-out and {len(t)} training images; more are needed"
            )
        if len(q) > FEWEST:
            scores.append(_rank_score(p, q, t))
            weights.append(len(p))
    if not scores:
        raise TooFewImages(f"C_T needs more than {FEWEST} generated images in a cell; got {len(generated)} in all")
    return float(np.average(scores, weights=weights))


def _principal(train: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """All sides in the coordinates of the training images' first principal components."""
    if train.shape[1] <= COMPONENTS:
        return train, *others
    mean = mean_of(train)
    _, vectors = np.linalg.eigh(np.cov(train.astype(np.float64), rowvar=False))
    axes = vectors[:, -COMPONENTS:]
    return tuple(((side - mean) @ axes).astype(np.float32) for side in (train, *others))


def _rank_score(held_out: np.ndarray, generated: np.ndarray, train: np.ndarray) -> float:
    """The Mann-Whitney U of both sides' distances to their nearest training image, as a z-score."""
    from scipy.stats import rankdata

    m, n = len(generated), len(held_out)
    t = Cloud.of(train, mean_of(train))
    both = [nearest(Cloud.of(side, mean_of(train)), t, 1)[1][:, 0] for side in (generated, held_out)]
    u = rankdata(np.concatenate(both))[:m].sum() - m * (m + 1) / 2
    return float((u - (n * m / 2 - 0.5)) / np.sqrt(n * m * (n + m + 1) / 12))


def feature_likelihood(train: np.ndarray, baseline: np.ndarray, held_out: np.ndarray, generated: np.ndarray) -> float:
    """FLS: the likelihood of held-out images under Gaussians about the generated ones (Jiralerspong et al. 2023, arXiv:2302.04440).

    Each Gaussian's width is fitted to the training images, so that copies of these get narrow ones and say nothing of others.

    Args:
        train, held_out, generated: (n, d) each.
        baseline: (n, d) further images of the training's kind, which would score 100.

    Returns:
        100 exp(-2 (nll - nll of the baseline) / d): higher is better.
    """
    everything = np.concatenate([train, baseline, held_out, generated]).astype(np.float64)
    mean, deviation = everything.mean(axis=0), everything.std(axis=0, ddof=1)
    deviation[deviation == 0] = 1
    train, baseline, held_out, generated = (
        (side - mean) / deviation for side in (train, baseline, held_out, generated)
    )
    found = [_likelihood(held_out, centres, _fitted(train, centres)) for centres in (generated, baseline)]
    return float(100 * np.exp(2 * (found[0] - found[1]) / train.shape[1]))


def _fitted(points: np.ndarray, centres: np.ndarray, *, steps: int = 100) -> np.ndarray:
    """(k,) the logarithms of the squared widths under which the points are likely: Adam, as in the authors' code."""
    squared, d = _squared(points, centres), points.shape[1]
    logs, momentum, spread = np.zeros(len(centres)), np.zeros(len(centres)), np.zeros(len(centres))
    for step in range(1, steps + 1):
        terms = -0.5 * squared / np.exp(logs) - d / 2 * logs
        shares = np.exp(terms - _log_sum(terms)[:, None])
        gradient = -(shares * (0.5 * squared / np.exp(logs) - d / 2)).mean(axis=0)
        momentum = 0.9 * momentum + 0.1 * gradient
        spread = 0.999 * spread + 0.001 * gradient**2
        rate = 0.5 if step <= 50 else 0.05
        move = momentum / (1 - 0.9**step) / (np.sqrt(spread / (1 - 0.999**step)) + 1e-8)
        logs = np.clip(logs - rate * move, -100, 20)
    return logs


def _likelihood(points: np.ndarray, centres: np.ndarray, logs: np.ndarray) -> float:
    """The mean logarithm of the density of points, less a constant."""
    terms = -0.5 * _squared(points, centres) / np.exp(logs) - points.shape[1] / 2 * logs
    return float(_log_sum(terms).mean() - np.log(len(centres)))


def _squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T, 0)


def _log_sum(terms: np.ndarray) -> np.ndarray:
    most = terms.max(axis=1)
    return most + np.log(np.exp(terms - most[:, None]).sum(axis=1))
