"""FeatureStatistics of features in memory."""

import numpy as np
import pytest

import frechet
from frechet.errors import StatisticsError
from frechet.statistics.feature_statistics import FeatureStatistics


def test_float64_features_score_like_their_float32_values():
    """0.1 is not a float32: the spread of its rounding error would be carried onto the other input, 1e16 times as large."""
    constant = np.full((100, 4), 0.1)
    other = np.random.default_rng(0).standard_normal((120, 4)).astype(np.float32)
    double, single = (frechet.score(x, other, features=True)["fd"] for x in (constant, constant.astype(np.float32)))
    assert (double.value, double.corrected_value) == (single.value, single.corrected_value)
    assert 0 < double.corrected_value < double.value


def test_features_that_underflow_in_float32_are_rejected():
    """Their squares underflow in float64 too, as if nothing varied."""
    with pytest.raises(StatisticsError, match=r"column 0 .* float32 cannot represent"):
        FeatureStatistics.from_features(1e-200 * np.random.default_rng(0).standard_normal((50, 4)))


@pytest.mark.parametrize("other", [1.0, -1.0, 0.0])
def test_the_largest_float32_is_accepted(other):
    largest = float(np.finfo(np.float32).max)
    assert FeatureStatistics.from_features(np.array([[largest], [other * largest]])).mean == largest * (1 + other) / 2


@pytest.mark.parametrize(("std", "mean"), [(1e-10, 0.1), (1.0, 1e9), (1e-3, -5e4)])
def test_float64_features_whose_variation_float32_loses_are_rejected(std, mean):
    features = np.random.default_rng(0).standard_normal((30, 3))
    FeatureStatistics.from_features(features)
    features[:, 1] = mean + std * features[:, 1]
    with pytest.raises(StatisticsError, match=r"column 1 .* float32 cannot represent.* Subtract the same constant"):
        FeatureStatistics.from_features(features)


def test_the_bound_on_lost_precision_is_ten_float32_steps():
    """The spacing of float32 at 1000 is 2 ** -14, and of features at most a tenth of it in standard deviation is lost."""
    step = 2.0**-14
    pattern = np.array([-1.0, 1.0] * 50)  # standard deviation √(100 / 99)
    for std, is_lost in ((9 * step, True), (11 * step, False)):
        features = 1000 + std * np.sqrt(99 / 100) * pattern[:, None]
        if is_lost:
            with pytest.raises(StatisticsError, match="float32 cannot represent"):
                FeatureStatistics.from_features(features)
        else:
            FeatureStatistics.from_features(features)


def test_features_in_memory_have_a_label_and_no_path_or_url():
    statistics = FeatureStatistics.from_features(np.random.default_rng(0).standard_normal((20, 3)))
    assert (statistics.label, statistics.path, statistics.url) == ("features in memory", None, None)


def test_features_property_requires_every_row():
    x = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    complete = FeatureStatistics.from_features(x, keep_all=True)
    np.testing.assert_array_equal(complete.features, x)
    bare = FeatureStatistics(mean=complete.mean, covariance=complete.covariance, n=40, spec=complete.spec, label="bare")
    assert bare.features is None


@pytest.mark.parametrize(("shape", "is_image"), [((5, 4, 4), True), ((5, 4, 4, 3), True), ((5, 4), False)])
def test_images_in_place_of_features_are_recognised(shape, is_image):
    """Gray and color images are named as such; a uint8 matrix (n, d) is not."""
    with pytest.raises(StatisticsError, match="uint8") as raised:
        FeatureStatistics.from_features(np.zeros(shape, np.uint8))
    assert ("leave --features" in str(raised.value)) is is_image
