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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": [10]}, r"^--splits \(splits=\) applies to is, and only the default metric is requested; add is to"),
        ({"splits": [10], "metrics": "fd,kid"}, r"^--splits .* --metrics \(metrics=\) is fd, kid; add is to --metrics"),
        (
            {"held_out": STATISTICS, "metrics": "fd"},
            r"^--held-out \(held_out=\) applies to ct and fls, .*; add ct or fls to",
        ),
        (
            {"interval": "none", "reference_is": "fixed"},
            r"^--reference-is .* which --interval \(interval=\) none leaves out",
        ),
        ({"interval": "none", "strata": "class"}, r"^--strata \(strata=\) is given and only affects the interval"),
        ({"interval": "none", "cluster_by": "folder"}, "^--cluster-by .* only affects the interval"),
        ({"interval": "none", "clusters": [1, 2]}, "^clusters= is given and only affects the interval"),
        ({"repeat": 3, "reference_is": "sample"}, r"^--reference-is .* which --repeat \(repeat=\) 3 leaves out"),
        ({"repeat": 3, "explain": 5}, r"^--explain .* a single run, but --repeat \(repeat=\) is 3"),
        ({"reference": None, "reference_is": "sample"}, "^--reference-is .* is sample, but no reference is given"),
        ({"reference": None, "reference_size": 50}, "^--reference-size .* is 50, but no reference is given"),
        (
            {"reference": None, "reference_preprocessing": "clean"},
            "^--reference-preprocessing .* no reference is given",
        ),
        (
            {"reference": None, "reference_crop": "adm", "size": 8},
            "^--reference-crop .* is adm, but no reference is given",
        ),
    ],
)
def test_options_without_an_effect_are_rejected(options, message):
    with pytest.raises(RequestError, match=message):
        frechet.score(STATISTICS, **{"reference": STATISTICS, **options})


def test_options_that_one_of_the_metrics_uses_are_accepted():
    for metrics in ("fd,fls", "all"):
        scores = frechet.score(STATISTICS, STATISTICS, held_out=STATISTICS, metrics=metrics)
        assert "fls" in (*scores, *scores.unavailable)
