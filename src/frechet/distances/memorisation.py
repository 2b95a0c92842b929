"""Measures of memorisation: generated images compared with training images and with held-out images."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from frechet.distances.inception_score import normalize_rows
from frechet.distances.pairwise import CenteredRows, feature_mean, iter_block_slices, nearest_neighbours
from frechet.errors import StatisticsError, TooFewImagesError

# the settings of C_T (Meehan et al. 2020, section 4)
NUM_COMPONENTS = 64  # principal components
NUM_CELLS = 3
MIN_IMAGES_PER_CELL = 20  # cells with as many generated images or fewer are ignored

_LARGEST_EXPONENT = 700.0  # of FLS, just below the overflow of float64


def nearest_cosine_distance(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """Compute the mean over rows of x of the smallest 1 - |cos| to a row of y (Bai et al. 2021, arXiv:2106.03062).

    Args:
        x: (n, d) features. Rows of x and y that sum to 0 are left out, as in the authors' code.
        y: (m, d) features.

    Returns:
        A distance in 0..1; small values indicate memorisation.

    Raises:
        TooFewImagesError: no rows of x or of y are left.
    """
    x, y = (normalize_rows(features[features.sum(axis=1) != 0]) for features in (x, y))
    if not len(x) or not len(y):
        raise TooFewImagesError(
            "MiFID compares directions of features, but the features of one input are zero for every image; expected at least "
            "one other image"
        )
    total = sum(
        float((1 - np.abs(x[selected] @ y.T)).min(axis=1).sum()) for selected in iter_block_slices(len(x), len(y))
    )
    return total / len(x)


def penalise_distance(distance: float, cosine_distance: float, *, threshold: float = 0.1) -> float:
    """Compute MiFID, the Fréchet distance with a penalty for memorisation (Bai et al. 2021, arXiv:2106.03062).

    Args:
        distance: squared Fréchet distance.
        cosine_distance: the result of `nearest_cosine_distance`.
        threshold: largest cosine distance that is penalised.

    Returns:
        The distance, divided by the cosine distance if that is below the threshold.
    """
    return distance / (cosine_distance + 1e-14) if cosine_distance < threshold else distance


def data_copying_score(
    train: Float[np.ndarray, "r d"],
    held_out: Float[np.ndarray, "m d"],
    generated: Float[np.ndarray, "n d"],
    *,
    seed: int = 0,
) -> float:
    """Compute C_T, which tests for data copying (Meehan et al. 2020, arXiv:2004.05675, section 3).

    The features are projected on 64 principal components, and the training images divided into three cells. In each cell,
    a Mann-Whitney test compares the distances of generated and of held-out images to their nearest training image. C_T is
    the mean of its z-scores, weighted by the number of held-out images per cell. Cells with 20 generated images or fewer
    are ignored.

    Args:
        train: (r, d) features of training images.
        held_out: (m, d) features of images that were not used for training.
        generated: (n, d) features of generated images.
        seed: seed of the k-means clustering that defines the cells.

    Returns:
        A z-score: far below 0 for copies of the training images, far above 0 for images unlike them.

    Raises:
        TooFewImagesError: there are fewer training images than cells, a cell contains no training or no held-out image, or
            no cell contains more than 20 generated images.
    """
    from sklearn.cluster import KMeans  # the authors' clustering

    if len(train) < NUM_CELLS:
        raise TooFewImagesError(
            f"C_T divides the training images into {NUM_CELLS} cells; got {len(train)} training images"
        )
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
                f"one of the {NUM_CELLS} cells of C_T contains {len(p)} held-out and {len(t)} training images; expected at "
                "least one of each. Use more images."
            )
        if len(q) > MIN_IMAGES_PER_CELL:
            scores.append(_mann_whitney_z(p, q, t))
            weights.append(len(p))
    if not scores:
        raise TooFewImagesError(
            f"C_T needs more than {MIN_IMAGES_PER_CELL} generated images in at least one cell; got {len(generated)} in total"
        )
    return float(np.average(scores, weights=weights))


def _project_on_principal_components(
    train: Float[np.ndarray, "r d"], *others: Float[np.ndarray, "_ d"]
) -> tuple[Float[np.ndarray, "_ k"], ...]:
    """Project features on the first principal components of the training images."""
    if train.shape[1] <= NUM_COMPONENTS:
        return train, *others
    mean = feature_mean(train)
    _, vectors = np.linalg.eigh(np.cov(train.astype(np.float64), rowvar=False))
    axes = vectors[:, -NUM_COMPONENTS:]
    return tuple(((features - mean) @ axes).astype(np.float32) for features in (train, *others))


def _mann_whitney_z(
    held_out: Float[np.ndarray, "m d"], generated: Float[np.ndarray, "n d"], train: Float[np.ndarray, "r d"]
) -> float:
    """Compute the z-score of a Mann-Whitney test of distances to the nearest training image, with continuity correction.

    U is the number of pairs in which the generated image is further away, and z = (U - nm/2 + ½) / √(nm(n + m + 1)/12), as
    in the authors' code, whose alternative is that generated images are nearer.
    """
    from scipy.stats import rankdata

    n, m, center = len(generated), len(held_out), feature_mean(train)
    t = CenteredRows.from_rows(train, center)
    squared_distances = [
        nearest_neighbours(CenteredRows.from_rows(features, center), t, 1)[1][:, 0]
        for features in (generated, held_out)
    ]
    u = rankdata(np.concatenate(squared_distances))[:n].sum() - n * (n + 1) / 2
    return float((u - (n * m / 2 - 0.5)) / np.sqrt(n * m * (n + m + 1) / 12))


def feature_likelihood_score(
    train: Float[np.ndarray, "r d"],
    baseline: Float[np.ndarray, "_ d"],
    held_out: Float[np.ndarray, "m d"],
    generated: Float[np.ndarray, "n d"],
) -> float:
    """Compute FLS, the likelihood of held-out images under Gaussians around generated images (Jiralerspong et al. 2023).

    The width of each Gaussian is fitted to the training images, so that Gaussians around copies of these become narrow and
    do not explain other images (arXiv:2302.04440, section 3).

    Args:
        train: (r, d) features of training images.
        baseline: features of further real images, which would score 100.
        held_out: (m, d) features of images that were not used for training.
        generated: (n, d) features of generated images.

    Returns:
        100 exp(-2 (nll - nll of the baseline) / d), where nll is the mean negative log-likelihood; higher is better.

    Raises:
        StatisticsError: all features are equal, or the real images are so narrow that they explain no held-out image.
    """
    all_rows = np.concatenate([train, baseline, held_out, generated]).astype(np.float64)
    mean, std = all_rows.mean(axis=0), all_rows.std(axis=0, ddof=1)
    if not std.any():
        raise StatisticsError("FLS is undefined, because all images have the same features; pass different images")
    std[std == 0] = 1
    train, baseline, held_out, generated = (
        (features - mean) / std for features in (train, baseline, held_out, generated)
    )
    of_generated, of_baseline = (
        _mean_log_likelihood(held_out, centers, _fit_log_variances(train, centers)) for centers in (generated, baseline)
    )
    exponent = 2 * (of_generated - of_baseline) / train.shape[1]
    if exponent > _LARGEST_EXPONENT:
        real = np.concatenate([train, baseline])
        raise StatisticsError(
            "FLS has no finite value, because the Gaussians around the reference images do not explain any held-out image: only "
            f"{len(np.unique(real, axis=0))} of {len(real)} reference images are distinct. Pass reference images without copies."
        )
    return float(100 * np.exp(exponent))


def _fit_log_variances(
    points: Float64[np.ndarray, "m d"], centers: Float64[np.ndarray, "n d"], *, steps: int = 100
) -> Float64[np.ndarray, " n"]:
    """Fit the log variances of Gaussians by maximum likelihood of the points, with Adam as in the authors' code."""
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


def _mean_log_likelihood(
    points: Float64[np.ndarray, "m d"], centers: Float64[np.ndarray, "n d"], log_variances: Float64[np.ndarray, " n"]
) -> float:
    """Compute the mean log density of the points under a mixture of Gaussians, up to a constant."""
    terms = (
        -0.5 * _pairwise_squared_distances(points, centers) / np.exp(log_variances)
        - points.shape[1] / 2 * log_variances
    )
    return float(_logsumexp(terms).mean() - np.log(len(centers)))


def _pairwise_squared_distances(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]
) -> Float64[np.ndarray, "n m"]:
    return np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T, 0)


def _logsumexp(terms: Float64[np.ndarray, "n m"]) -> Float64[np.ndarray, " n"]:
    largest = terms.max(axis=1)
    return largest + np.log(np.exp(terms - largest[:, None]).sum(axis=1))
