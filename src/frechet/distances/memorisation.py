"""Is a generator repeating what it was trained on? Generated images against those it was trained on, and others held out."""

from __future__ import annotations

import numpy as np

from frechet.distances.inception_score import normalize_rows
from frechet.distances.pairwise import CenteredRows, feature_mean, iter_block_slices, nearest_neighbours
from frechet.errors import TooFewImagesError

NUM_COMPONENTS, NUM_CELLS, MIN_IMAGES_PER_CELL = (
    64,
    3,
    20,
)  # of C_T: principal components, cells, generated images in a cell that counts


def nearest_cosine_distance(x: np.ndarray, y: np.ndarray) -> float:
    """The mean over rows of x of the smallest 1 - |cos| to a row of y; rows that sum to 0 are left out.

    MiFID divides the Fréchet distance by it where it is below a threshold (Bai et al. 2021, arXiv:2106.03062).

    Raises:
        TooFewImages: no rows are left of a side.
    """
    x, y = (normalize_rows(features[features.sum(axis=1) != 0]) for features in (x, y))
    if not len(x) or not len(y):
        raise TooFewImagesError("MiFID compares directions of features, and those of one side are zero for every image")
    total = sum(
        float((1 - np.abs(x[selected] @ y.T)).min(axis=1).sum()) for selected in iter_block_slices(len(x), len(y))
    )
    return total / len(x)


def penalise_distance(distance: float, cosine_distance: float, *, threshold: float = 0.1) -> float:
    """MiFID: the distance over `cosine_to_nearest` where that is below the threshold."""
    return distance / (cosine_distance + 1e-14) if cosine_distance < threshold else distance


def data_copying_score(train: np.ndarray, held_out: np.ndarray, generated: np.ndarray, *, seed: int = 0) -> float:
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

    if len(train) < NUM_CELLS:
        raise TooFewImagesError(f"C_T divides the training images into {NUM_CELLS} cells; got {len(train)}")
    train, held_out, generated = _project_on_principal_components(train, held_out, generated)
    cells = KMeans(n_clusters=NUM_CELLS, n_init=10, random_state=seed).fit(train)
    train_cells, held_out_cells, generated_cells = (
        cells.predict(features) for features in (train, held_out, generated)
    )
    scores, weights = [], []
    for cell in range(NUM_CELLS):
        t, p, q = train[train_cells == cell], held_out[held_out_cells == cell], generated[generated_cells == cell]
        if not len(p) or not len(t):
            raise TooFewImagesError(
                f"C_T: one of {NUM_CELLS} cells holds {len(p)} held-out and {len(t)} training images; more are needed"
            )
        if len(q) > MIN_IMAGES_PER_CELL:
            scores.append(_mann_whitney_z(p, q, t))
            weights.append(len(p))
    if not scores:
        raise TooFewImagesError(
            f"C_T needs more than {MIN_IMAGES_PER_CELL} generated images in a cell; got {len(generated)} in all"
        )
    return float(np.average(scores, weights=weights))


def _project_on_principal_components(train: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """All sides in the coordinates of the training images' first principal components."""
    if train.shape[1] <= NUM_COMPONENTS:
        return train, *others
    mean = feature_mean(train)
    _, vectors = np.linalg.eigh(np.cov(train.astype(np.float64), rowvar=False))
    axes = vectors[:, -NUM_COMPONENTS:]
    return tuple(((features - mean) @ axes).astype(np.float32) for features in (train, *others))


def _mann_whitney_z(held_out: np.ndarray, generated: np.ndarray, train: np.ndarray) -> float:
    """The Mann-Whitney U of both sides' distances to their nearest training image, as a z-score."""
    from scipy.stats import rankdata

    m, n = len(generated), len(held_out)
    t = CenteredRows.from_rows(train, feature_mean(train))
    both = [
        nearest_neighbours(CenteredRows.from_rows(features, feature_mean(train)), t, 1)[1][:, 0]
        for features in (generated, held_out)
    ]
    u = rankdata(np.concatenate(both))[:m].sum() - m * (m + 1) / 2
    return float((u - (n * m / 2 - 0.5)) / np.sqrt(n * m * (n + m + 1) / 12))


def feature_likelihood_score(
    train: np.ndarray, baseline: np.ndarray, held_out: np.ndarray, generated: np.ndarray
) -> float:
    """FLS: the likelihood of held-out images under Gaussians about the generated ones (Jiralerspong et al. 2023, arXiv:2302.04440).

    Each Gaussian's width is fitted to the training images, so that copies of these get narrow ones and say nothing of others.

    Args:
        train, held_out, generated: (n, d) each.
        baseline: (n, d) further images of the training's kind, which would score 100.

    Returns:
        100 exp(-2 (nll - nll of the baseline) / d): higher is better.
    """
    everything = np.concatenate([train, baseline, held_out, generated]).astype(np.float64)
    mean, std = everything.mean(axis=0), everything.std(axis=0, ddof=1)
    std[std == 0] = 1
    train, baseline, held_out, generated = (
        (features - mean) / std for features in (train, baseline, held_out, generated)
    )
    found = [
        _mean_log_likelihood(held_out, centers, _fit_log_variances(train, centers)) for centers in (generated, baseline)
    ]
    return float(100 * np.exp(2 * (found[0] - found[1]) / train.shape[1]))


def _fit_log_variances(points: np.ndarray, centers: np.ndarray, *, steps: int = 100) -> np.ndarray:
    """(k,) the logarithms of the squared widths under which the points are likely: Adam, as in the authors' code."""
    squared, d = _pairwise_squared_distances(points, centers), points.shape[1]
    log_variances, momentum, spread = np.zeros(len(centers)), np.zeros(len(centers)), np.zeros(len(centers))
    for step in range(1, steps + 1):
        terms = -0.5 * squared / np.exp(log_variances) - d / 2 * log_variances
        shares = np.exp(terms - _logsumexp(terms)[:, None])
        gradient = -(shares * (0.5 * squared / np.exp(log_variances) - d / 2)).mean(axis=0)
        momentum = 0.9 * momentum + 0.1 * gradient
        spread = 0.999 * spread + 0.001 * gradient**2
        rate = 0.5 if step <= 50 else 0.05
        move = momentum / (1 - 0.9**step) / (np.sqrt(spread / (1 - 0.999**step)) + 1e-8)
        log_variances = np.clip(log_variances - rate * move, -100, 20)
    return log_variances


def _mean_log_likelihood(points: np.ndarray, centers: np.ndarray, log_variances: np.ndarray) -> float:
    """The mean logarithm of the density of points, less a constant."""
    terms = (
        -0.5 * _pairwise_squared_distances(points, centers) / np.exp(log_variances)
        - points.shape[1] / 2 * log_variances
    )
    return float(_logsumexp(terms).mean() - np.log(len(centers)))


def _pairwise_squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T, 0)


def _logsumexp(terms: np.ndarray) -> np.ndarray:
    largest = terms.max(axis=1)
    return largest + np.log(np.exp(terms - largest[:, None]).sum(axis=1))
