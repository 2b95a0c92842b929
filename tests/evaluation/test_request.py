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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backend", 3),
        ("crop", "adm"),
        ("explain", -1),
        ("generated_crop", "adm"),
        ("interval", "yes"),
        ("metrics", ["fd", 3]),
        ("reference_is", "here"),
        ("relax", True),
        ("repeat", 0),
        ("size", 32),
        ("splits", "0"),
        ("strata", "folder"),
    ],
)
def test_errors_start_with_the_option_and_its_keyword(name, value):
    with pytest.raises(RequestError) as caught:
        frechet.score(STATISTICS, STATISTICS, **{name: value})
    assert str(caught.value).startswith(f"--{name.replace('_', '-')} ({name}=) "), caught.value


@pytest.mark.parametrize("explain", [2.5, "2", -1])
def test_explain_must_be_a_number_of_images(explain):
    for score in (frechet.score_statistics, frechet.score):
        with pytest.raises(RequestError, match=f"explain.*{explain!r}.*expected"):
            score(STATISTICS, STATISTICS, explain=explain)


@pytest.mark.parametrize(
    ("flag", "options"),
    [(r"--num-images \(num_images=\) is 10", {"num_images": 10}), (r"--weights \(weights=\) is w", {"weights": "w"})],
)
def test_image_options_are_rejected_for_features_under_their_own_name(flag, options):
    features = np.random.default_rng(0).standard_normal((30, 5)).astype(np.float32)
    with pytest.raises(RequestError, match=f"{flag}") as caught:
        frechet.score(features, features, features=True, **options)
    assert ("weights" in str(caught.value)) == ("weights" in options)
