"""Validation of the arguments of `frechet.score` and `frechet.score_statistics`."""

import numpy as np
import pytest

import frechet
from frechet.errors import RequestError
from frechet.statistics.feature_statistics import FeatureStatistics

STATISTICS = FeatureStatistics.from_features(np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32))


@pytest.mark.parametrize(("metrics", "shown"), [("", "''"), ([], r"\[\]"), ("fd,", "'fd,'"), ([""], r"\[''\]")])
def test_empty_metric_names_are_rejected(metrics, shown):
    for score in (frechet.score_statistics, frechet.score):
        with pytest.raises(RequestError, match=f"{shown}.*expected"):
            score(STATISTICS, STATISTICS, metrics=metrics)
    assert list(frechet.score_statistics(STATISTICS, STATISTICS, metrics="fd, kid")) == ["fd", "kid"]


@pytest.mark.parametrize("explain", [2.5, "2", -1])
def test_explain_must_be_a_number_of_images(explain):
    for score in (frechet.score_statistics, frechet.score):
        with pytest.raises(RequestError, match=f"explain.*{explain!r}.*expected"):
            score(STATISTICS, STATISTICS, explain=explain)


@pytest.mark.parametrize(
    ("flag", "options"), [("--num-images 10", {"num_images": 10}), ("--weights w", {"weights": "w"})]
)
def test_image_options_are_rejected_for_features_under_their_own_name(flag, options):
    features = np.random.default_rng(0).standard_normal((30, 5)).astype(np.float32)
    with pytest.raises(RequestError, match=f"{flag}") as caught:
        frechet.score(features, features, features=True, **options)
    assert ("weights" in str(caught.value)) == ("weights" in options)
