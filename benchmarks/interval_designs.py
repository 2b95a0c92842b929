"""Populations whose distance is known exactly, and samples of them in every sampling design.

A population is finite: half of the rows of a file of features, projected to fewer dimensions, or 20,000 simulated rows.
Samples are drawn with replacement, so that they can have any size. If they are about as large as the population, repeated
rows matter. The design "disjoint" therefore draws two samples of all rows of a file, without replacement, of which the second one is
scaled: the distance of P and 1.1 P is 0.01 tr Σ for any centred distribution P.
"""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.npz_format import read_statistics
from frechet.statistics.strata import number_stratified_images

POPULATION_SIZE = 20_000
SIMULATED_DIMS = 48
SIMULATED = ("t4", "rectified", "mixture", "gaussian")  # and "t4 trimmed"
NUM_STRATA = 10
STORED_RATIO = 25  # images per dimension of a stored reference
CLUSTERS = {  # sizes in turn, and the correlation of images of one cluster
    "clusters of 4": ([4], 1.0),
    "clusters unequal": ([1, 2, 9], 1.0),
    "clips of 16": ([16], 0.95),
}
SCALE = 1.1  # of the reference population, if it is different
TIMES = {"unequal": (1, 3), "unequal generated": (3, 1)}  # numbers of generated and reference images, relative to n
SHARES_OF_NOISE = {"different": 0.0, "near": 0.9, "equal": 1.0}  # of the reconstructions' noise, in their originals


class Design(NamedTuple):
    """How samples are drawn, `draw(n, random)`, and the distance that the interval should contain."""

    draw: object
    value: float
    reference_is: str = "sample"


def describe_population(name):
    """Return the name of a population for people: NAME=FILE.npy:DIMS is a file; NAME or NAME/SEED is simulated."""
    name, _, file = name.partition("=")
    return f"{name}, {file.rpartition(':')[2] or SIMULATED_DIMS} dims"


@cache
def make_populations(name, relation):
    """Return the populations of generated and reference images, (n, d) float32: equal, near or different."""
    _, _, file = name.partition("=")
    kind, _, seed = name.partition("/") if not file else ("", "", "")
    random = np.random.default_rng(int(seed or 0))
    if file:
        one, other = np.array_split(_load_projected(*file.rsplit(":", 1), random), 2)
    else:
        one = _simulate(kind, random)
        other = one @ (np.eye(SIMULATED_DIMS) + 0.05 * random.standard_normal((SIMULATED_DIMS, SIMULATED_DIMS)))
    if relation == "near":  # a tenth of the images comes from elsewhere
        other = np.concatenate([one[: len(one) * 9 // 10], other[: len(one) // 10]])
    elif relation == "different":
        other = SCALE * other
    one = one.astype(np.float32)
    return one, one if relation == "equal" else other.astype(np.float32)


def make_design(name, relation, x, y):
    """Return the `Design` of a name for populations x and y of this relation."""
    kind, _, argument = name.partition(" ")
    if kind == "ignored":  # the same images, as if each were independent
        design = make_design(argument, relation, x, y)
        return design._replace(draw=lambda n, random: [_forget_design(each) for each in design.draw(n, random)])
    if kind == "disjoint":
        return _make_disjoint(np.concatenate([x, y / np.float32(SCALE)]))
    if kind == "pairs":
        return _make_pairs(float(argument), SHARES_OF_NOISE[relation], x)
    if kind == "fixed":
        reference = FeatureStatistics.from_features(y)
        target = Gaussian(reference.mean, covariance=reference.covariance)
        return Design(
            lambda n, random: (_draw_independent(x, n, random), reference), _distance(fit(x), target), "fixed"
        )
    value = _distance(fit(x), fit(y))
    if name in CLUSTERS:
        return Design(lambda n, random: [_draw_clusters(z, n, *CLUSTERS[name], random) for z in (x, y)], value)
    if kind == "strata":
        strata = [[z[members] for members in _split_into_strata(z)] for z in (x, y)]
        return Design(lambda n, random: [_draw_strata(each, n, random) for each in strata], value)
    times, times_reference = TIMES.get(name, (1, 1))

    def draw(n, random):
        m = STORED_RATIO * x.shape[1] if kind == "stored" else times_reference * n
        generated, reference = _draw_independent(x, times * n, random), _draw_independent(y, m, random)
        return generated, save_and_read(reference) if kind == "stored" else reference

    return Design(draw, value)


def count_images(design, n_units):
    """Return the number of images in so many sampling units of a design."""
    sizes, _ = CLUSTERS.get(design.removeprefix("ignored "), ([1], 1.0))
    return round(n_units * np.mean(sizes))


def fit(rows, noise=0.0):
    """Fit a Gaussian to a whole population, after noise of this size in standard deviations of each feature."""
    covariance = np.cov(rows.astype(np.float64), rowvar=False, bias=True)
    return Gaussian(rows.mean(0, np.float64), covariance=covariance + np.diag(noise**2 * np.diag(covariance)))


def _distance(p, q):
    return frechet_terms(p, q).total


def _load_projected(path, dims, random):
    """Load features, projected to as many orthonormal directions, in random order and centred."""
    rows = np.load(path).astype(np.float64)
    if int(dims) < rows.shape[1]:
        rows = rows @ np.linalg.qr(random.standard_normal((rows.shape[1], int(dims))))[0]
    return rows[random.permutation(len(rows))] - rows.mean(axis=0)  # so that float32 holds nearly constant columns


def _simulate(name, random):
    """Draw a population with a decaying spectrum; "t4 trimmed" is that of "t4" without the row with the largest value."""
    mixing = random.standard_normal((SIMULATED_DIMS, SIMULATED_DIMS)) * np.arange(1, SIMULATED_DIMS + 1) ** -0.5
    shape = (POPULATION_SIZE, SIMULATED_DIMS)
    if name.startswith("t4"):
        rows = random.standard_t(4, shape)
        if name == "t4 trimmed":
            rows = np.delete(rows, np.abs(rows).max(axis=1).argmax(), axis=0)
        return rows @ mixing
    if name == "mixture":
        centers = 2 * random.standard_normal((8, SIMULATED_DIMS))
        return (random.standard_normal(shape) + centers[random.integers(0, 8, POPULATION_SIZE)]) @ mixing
    rows = random.standard_normal(shape) @ mixing
    return np.maximum(rows, 0) if name == "rectified" else rows


def _draw_independent(z, n, random):
    return FeatureStatistics.from_features(z[random.integers(len(z), size=n)])


def _make_disjoint(rows):
    def draw(n, random):
        chosen = random.permutation(len(rows))[: 2 * n]
        one, other = rows[chosen[:n]], np.float32(SCALE) * rows[chosen[n:]]
        return FeatureStatistics.from_features(one), FeatureStatistics.from_features(other)

    return Design(draw, (SCALE - 1) ** 2 * float(rows.var(0, np.float64, ddof=1).sum()))


def _draw_clusters(z, n, sizes, correlation, random):
    """Draw clusters of the given sizes, in turn, of images with the mean and the covariance of the population."""
    counts = np.resize(sizes, n)
    counts = counts[: np.searchsorted(np.cumsum(counts), n) + 1]
    units = random.permutation(np.repeat(np.arange(len(counts)), counts))
    rows = z[random.integers(len(z), size=len(counts))][units]
    if correlation < 1:
        own, mean = z[random.integers(len(z), size=len(units))], z.mean(0)
        rows = mean + np.float32(correlation**0.5) * (rows - mean) + np.float32((1 - correlation) ** 0.5) * (own - mean)
    return FeatureStatistics.from_features(rows, units=units, grouped_by="cluster")


def _split_into_strata(z):
    """Return the indices of ten strata of equal size along the first principal axis."""
    centered = z - z.mean(0)
    score = centered @ np.linalg.eigh(centered.T @ centered)[1][:, -1]
    return np.array_split(np.argsort(score), NUM_STRATA)


def _draw_strata(strata, n, random):
    """Draw as many images from each stratum."""
    size = -(-n // NUM_STRATA)
    rows = np.concatenate([each[random.integers(len(each), size=size)] for each in strata])
    order = random.permutation(len(rows))
    units = number_stratified_images(np.repeat(np.arange(NUM_STRATA), size)[order], seed=0)
    return FeatureStatistics.from_features(rows[order], units=units, grouped_by="stratum")


def _make_pairs(noise, share, x):
    """Return pairs of an image with a share of the noise, and its reconstruction, image + noise."""
    noises, std = (noise * share, noise), x.std(0)

    def draw(n, random):
        rows = x[random.integers(len(x), size=n)]
        return [
            FeatureStatistics.from_features(
                rows + std * np.float32(each) * random.standard_normal(rows.shape, np.float32) if each else rows,
                grouped_by="pair",
            )
            for each in noises
        ]

    return Design(draw, 0.0 if share == 1 else _distance(*(fit(x, each) for each in noises)))


def save_and_read(statistics):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "reference.npz"
        statistics.save(path)
        return read_statistics(path)


def _forget_design(statistics):
    return FeatureStatistics.from_features(statistics.features, keep_all=True)
