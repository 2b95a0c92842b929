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


def compute_neighbourhood_values(x, y):
    """Precision and recall (k = 3), density and coverage (k = 5) and the median realism (k = 3) from all distances in float64."""
    cdist = pytest.importorskip("scipy.spatial.distance").cdist
    distances, own, other = (cdist(a.astype(float), b.astype(float)) for a, b in ((x, y), (x, x), (y, y)))
    own_radii, radii, wide_radii = np.sort(own, 1)[:, 3], np.sort(other, 1)[:, 3], np.sort(other, 1)[:, 5]
    small = radii < np.median(radii)
    return {
        "precision": (distances <= radii).any(1).mean(),
        "recall": (distances <= own_radii[:, None]).any(0).mean(),
        "density": (distances < wide_radii).sum(1).mean() / 5,
        "coverage": (distances.min(0) < wide_radii).mean(),
        "realism": np.median((radii[small] / distances[:, small]).max(1)),
    }


@pytest.mark.parametrize("value", [1.0, 1e6, 1e12, 1e20, 1e30])
@pytest.mark.parametrize("side", [0, 1])
def test_an_outlier_leaves_the_neighbourhoods_of_the_others(features, value, side):
    """Squares of float32 overflow beyond 1e19; distances of the others are far below the error of the outlier's."""
    x, y = (each.copy() for each in features)
    (x, y)[side][7] = value
    found = {key: each.value for key, each in score(x, y, NEIGHBOURHOOD_METRICS).items()}
    assert found == pytest.approx(compute_neighbourhood_values(x, y), rel=1e-3)


def test_features_far_away_are_in_no_neighbourhood(features):
    x, y = features[0] * np.float32(1e20), features[1]
    found = {key: each.value for key, each in score(x, y, NEIGHBOURHOOD_METRICS).items()}
    assert found == pytest.approx(compute_neighbourhood_values(x, y), rel=1e-3)


def collapse(n, value):
    return np.full((n, 6), value, np.float32)


@pytest.mark.parametrize(
    ("generated", "train", "held_out", "message"),
    [
        (None, 0.3, None, "do not explain any held-out image: only 1 of 100 reference images.*without copies"),
        (0.1, 0.3, 0.5, "do not explain any held-out image: only 1 of 100 reference images.*without copies"),
        (0.3, 0.3, 0.3, "all images have the same features; pass different images"),
    ],
)
def test_fls_names_the_input_that_leaves_it_without_a_value(generated, train, held_out, message):
    """The authors' code raises an OverflowError for the first two, and returns NaN for the third."""
    random = np.random.default_rng(0)
    x, y, z = (
        random.normal(size=(n, 6)).astype("f4") if value is None else collapse(n, value)
        for n, value in ((50, generated), (100, train), (50, held_out))
    )
    with pytest.raises(StatisticsError, match=message):
        frechet.score(x, y, held_out=z, metrics=["fls"], features=True, interval="none")


@pytest.mark.parametrize("exponent", [-55, 55])
def test_features_too_small_or_large_for_an_interval_are_named(features, exponent):
    (fd,) = frechet.score(*(x * np.float32(2.0**exponent) for x in features), features=True).values()
    assert "the variances of the generated features are up to" in fd.interval_unavailable_reason


@pytest.mark.parametrize("design", ["paired", "independent"])
def test_identical_features_have_no_interval(design):
    """Leaving out images changes the distance by rounding errors only, which are not a sampling error."""
    x = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
    score = frechet.score(x, x, features=True, design=design)["fd"]
    assert score.value == 0
    assert score.interval_95 is score.corrected_value is None
    assert "both inputs have the same features" in score.interval_unavailable_reason
