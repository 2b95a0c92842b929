"""Growing samples of models whose distance to a reference is known, measured at every look as frechet measures them.

A simulated model is the reference distribution moved by a vector, so that its distance is the vector's squared length for every
distribution. A model of real features is a finite population of them, drawn with replacement.

Models whose errors are correlated share latents or a sampled reference. Models with common latents draw with the same random numbers, and are moved in different
directions.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from frechet.distances.gaussian import Gaussian
from frechet.distances.interval import estimate_distance
from frechet.distances.interval_input import IntervalInput
from frechet.distances.transport import optimal_coupling, squared_frechet_distance
from frechet.images.sources.registry import open_source
from frechet.statistics.group_moments import NUM_GROUPS, GroupMoments
from frechet.statistics.moments import RunningMoments
from frechet.statistics.row_sample import MAX_SAMPLE_ROWS

CLASS_MODELS = 8  # classes of which a race consists, those with the smallest distances
COMMON_DIRECTION = 0.8  # of the squared length of the vectors that move models along different axes


def draw_gaussian(rng, n, d):
    return rng.standard_normal((n, d))


def draw_rectified(rng, n, d):
    return np.maximum(rng.standard_normal((n, d)) @ _mixing(d), 0)


def draw_heavy_tailed(rng, n, d):
    return rng.standard_t(5, (n, d))


DISTRIBUTIONS = {"Gaussian": draw_gaussian, "rectified": draw_rectified, "t(5)": draw_heavy_tailed}


@cache
def _mixing(d):
    return np.random.default_rng(1).standard_normal((d, d)) / d**0.5


@dataclass(frozen=True)
class Population:
    """Rows that can be drawn, and the reference that they are compared with.

    Attributes:
        draw: function of (rng, n) that returns (n, d) rows.
        reference: the reference, as a fixed distribution.
        distance: the exact distance between both.
        draw_reference: function of (rng, n) that returns (n, d) rows of the reference.
    """

    draw: object
    reference: IntervalInput
    distance: float
    draw_reference: object


def simulate(name, d, distance, axis=0):
    """Return the model of a distribution that is moved along the first axis, and along another one unless this is 0."""
    shift = np.zeros(d)
    shift[0] = (distance * (COMMON_DIRECTION if axis else 1)) ** 0.5
    shift[axis] = (distance - shift[0] ** 2) ** 0.5 if axis else shift[0]
    draw = DISTRIBUTIONS[name]
    return Population(
        lambda rng, n: draw(rng, n, d) + shift,
        _simulated_reference(name, d),
        distance,
        lambda rng, n: draw(rng, n, d),
    )


@cache
def _simulated_reference(name, d):
    if name != "rectified":
        variance = {"Gaussian": 1, "t(5)": 5 / 3}[name]
        return IntervalInput(Gaussian(np.zeros(d), covariance=variance * np.eye(d)))
    correlation = _mixing(d).T @ _mixing(d)  # of the normal variables before they are rectified
    spread = np.sqrt(np.diag(correlation))
    angle = np.arccos(np.clip(correlation / np.outer(spread, spread), -1, 1))
    mean = spread / np.sqrt(2 * np.pi)
    # the arc-cosine kernel of degree 1 (Cho & Saul 2009)
    product = np.outer(spread, spread) * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    return IntervalInput(Gaussian(mean, covariance=product - np.outer(mean, mean)))


def resample_classes(files, d):
    """Return one model per class of images: the features of these images, drawn with replacement.

    Args:
        files: IMAGES.zip:FEATURES.npy:REFERENCE.npy, of which the first has the classes of the images as folders.
        d: number of dimensions that the features are projected to.
    """
    images, features, reference = files.split(":")
    source = open_source(images)
    names = np.array(source.get_class_names(range(len(source))))
    rows, others = np.load(features), np.load(reference)
    directions = np.linalg.qr(np.random.default_rng(0).standard_normal((rows.shape[1], d)))[0]
    rows, others = rows @ directions, others @ directions
    return {name: _resample(rows[names == name], others) for name in np.unique(names)}


def _resample(rows, reference_rows):
    one, other = (Gaussian(each.mean(axis=0), covariance=np.cov(each.T, bias=True)) for each in (rows, reference_rows))
    distance = float(squared_frechet_distance(one, other, optimal_coupling(one, other)))
    return Population(
        lambda rng, n: rows[rng.integers(len(rows), size=n)],
        IntervalInput(other),
        distance,
        lambda rng, n: reference_rows[rng.integers(len(reference_rows), size=n)],
    )


class GrowingRows:
    """Rows of which more and more are used."""

    def __init__(self, rows):
        self._rows = rows.astype(np.float32)
        self._groups = [RunningMoments.empty(rows.shape[1])] * NUM_GROUPS
        self._done = 0

    def grow(self, n):
        """Return the first n rows; n must increase from call to call."""
        new = [self._rows[self._done + group : n : NUM_GROUPS] for group in range(NUM_GROUPS)]
        self._groups = [each.update(more) for each, more in zip(self._groups, new, strict=True)]
        self._done = n
        moments = GroupMoments.from_moments(self._groups)
        total = moments.merge_groups(range(NUM_GROUPS))
        gaussian = Gaussian(total.mean, covariance=total.covariance)
        return IntervalInput(gaussian, n, moments, n, rows=self._rows[: min(n, MAX_SAMPLE_ROWS)])


def measure_growing_sample(population, looks, rng):
    """Grow one sample, and return the `DistanceEstimate` at each look.

    Args:
        population: what is drawn from.
        looks: numbers of images.
        rng: random numbers.
    """
    sample = GrowingRows(population.draw(rng, looks[-1]))
    return [estimate_distance(sample.grow(n), population.reference) for n in looks]
