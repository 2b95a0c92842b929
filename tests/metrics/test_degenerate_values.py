"""Values of collapsed, identical, tiny and huge features: those of the definition, or an error."""

import numpy as np
import pytest

import frechet
from frechet.errors import StatisticsError

NEIGHBOURHOOD_METRICS = ("precision", "recall", "density", "coverage", "realism")


def score(x, y, metrics):
    return frechet.score(x, y, metrics=metrics, features=True, interval="none")


@pytest.fixture(scope="module")
def features():
    random = np.random.default_rng(0)
    return random.normal(size=(200, 5)).astype("f4"), (random.normal(size=(200, 5)) + 0.5).astype("f4")


@pytest.mark.parametrize("exponent", [-120, -100, -80, 60, 90, 110])
def test_neighbourhoods_do_not_depend_on_the_scale(features, exponent):
    """A power of two changes no digit of the features."""
    expected = score(*features, NEIGHBOURHOOD_METRICS)
    found = score(*(x * np.float32(2.0**exponent) for x in features), NEIGHBOURHOOD_METRICS)
    assert {key: each.value for key, each in found.items()} == {key: each.value for key, each in expected.items()}


@pytest.mark.parametrize("d", [2, 64, 300])
@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
def test_mifid_of_identical_features_is_zero(d, scale):
    """As in torchmetrics; it was a quotient of two rounding errors."""
    x = (scale * (np.random.default_rng(d).normal(size=(200, d)) + 3)).astype("f4")
    assert score(x, np.random.default_rng(1).permutation(x), ["mifid"])["mifid"].value == 0


@pytest.mark.parametrize("kind", ["equal", "lattice"])
def test_realism_without_small_neighbourhoods_is_rejected(kind):
    lattice = np.stack(np.meshgrid(*[np.arange(6.0)] * 2), -1).reshape(-1, 2).astype("f4")
    reference = lattice if kind == "lattice" else np.ones((30, 2), np.float32)
    with pytest.raises(StatisticsError, match=r"smaller than the median.*remove duplicates"):
        score(lattice + np.float32(0.1), reference, ["realism"])


def test_collapsed_sets_far_apart_are_in_no_neighbourhood():
    """The values of the package prdc for radii of 0."""
    found = score(np.zeros((50, 3), "f4"), np.ones((60, 3), "f4"), NEIGHBOURHOOD_METRICS[:4])
    assert {each.value for each in found.values()} == {0.0}


def test_a_metric_that_overflows_leaves_the_others(features):
    found = score(*(x * np.float32(1e25) for x in features), ["kid", "fd", "precision"])
    assert found["fd"].value == pytest.approx(score(*features, ["fd"])["fd"].value * 1e50, rel=1e-5)
