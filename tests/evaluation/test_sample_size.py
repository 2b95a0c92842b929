"""The number of images that a difference needs to be detected."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import make_image_folder, run

import frechet
from frechet.errors import RequestError

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def features():
    generated, reference = RANDOM.standard_normal((2, 300, 4)).astype(np.float32)
    return generated + 1, reference


@pytest.fixture(scope="module")
def pilot(features):
    return frechet.score(*features, features=True)["fd"]


def test_numbers_are_those_of_the_textbook(pilot):
    """Lehr's rule: 16 σ²/δ² per group for 80 % power at 5 %, or 15.7 without rounding; 26 for 95 %."""
    known = replace(pilot, variance_components=(0.04, 0.5), n_generated=100, corrected_value=1e9)  # σ² = 4
    sizes = frechet.plan_sample_size(known, 0.5)
    assert sizes.n_by_power == {0.8: 252, 0.95: 416}  # 2 * 4 * (1.95996 + 0.84162)² / 0.25, and with 1.64485
    larger = frechet.plan_sample_size(replace(known, value=1.0, corrected_value=1.0), 0.5)  # 4 * (1 + 1.5)
    assert larger.n_by_power == {0.8: 314, 0.95: 520}
    assert (sizes.n_pilot, sizes.standard_error, sizes.difference) == (100, 0.2, 0.5)


def test_the_bias_enlarges_the_standard_error_of_a_few_images(pilot):
    """κ = 400 · 0.01 / 2 = 2, b = 400: n is the root of 0.5 = 1.95996 √(2 (2.5 + 800/n)/n) + 0.84162 √(2 (2.5 + 400/n)/n), by bisection."""
    known = replace(pilot, variance_components=(0.01, 0.5), n_generated=400, value=2.0, corrected_value=1.0)
    known = replace(known, reference_is="fixed")
    assert frechet.plan_sample_size(known, 0.5).n_by_power[0.8] == 299
    sampled = replace(known, reference_is="sample", n_reference=400)  # b = 200, of which 0.5 remains with many images
    assert frechet.plan_sample_size(sampled, 0.5).n_by_power[0.8] == 285


@pytest.mark.slow
def test_predictions_do_not_depend_on_the_size_of_the_pilot():
    """With 60 images in 16 dimensions, the plain value is about twice the population value of 1, and n times the squared standard error too."""
    reference = frechet.Statistics.from_features(RANDOM.standard_normal((20_000, 16)).astype(np.float32))
    numbers = {}
    for n in (60, 6000):
        scores = (
            frechet.score(RANDOM.standard_normal((n, 16)) + 0.25, reference, features=True)["fd"] for _ in range(10)
        )
        numbers[n] = np.median([frechet.plan_sample_size(each, 0.1).n_by_power[0.8] for each in scores])
    assert numbers[60] == pytest.approx(numbers[6000], rel=0.3)


def test_half_the_difference_needs_four_times_as_many_images(pilot):
    large = replace(pilot, corrected_value=1e9)
    whole, half = (frechet.plan_sample_size(large, delta).n_by_power[0.8] for delta in (0.4, 0.2))
    assert half == pytest.approx(4 * whole, rel=0.02)


def test_a_percentage_is_a_part_of_the_corrected_value(pilot):
    assert frechet.plan_sample_size(pilot, "10%").difference == pytest.approx(0.1 * pilot.corrected_value)


@pytest.mark.parametrize(("corrected", "interval"), [(-0.0033, (0.0, 0.0099)), (0.0033, (0.0, 0.012))])
def test_a_percentage_of_a_score_that_may_be_0_is_rejected(pilot, corrected, interval):
    """5 % of it would be 5 % of noise, and the number of images meaningless."""
    close = replace(pilot, corrected_value=corrected, interval_95=interval)
    with pytest.raises(RequestError) as caught:
        frechet.plan_sample_size(close, "5%")
    words = (f"{corrected:.4g}", f"{interval[0]:.4g} to {interval[1]:.4g}", "--detect 0.5 (difference=0.5)")
    assert all(word in str(caught.value) for word in words), caught.value
    assert frechet.plan_sample_size(close, 0.5).difference == 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"difference": 0}, ("0", "positive number")),
        ({"difference": "-5%"}, ("'-5%'", "positive number")),
        ({"difference": "much"}, ("'much'", "such as 0.5")),
        ({"difference": float("nan")}, ("nan", "positive number")),
        ({"difference": 1, "alpha": 1.5}, ("1.5", "between 0 and 1")),
        ({"difference": 1e-12}, ("1e-12", "1e+18 images")),
    ],
)
def test_bad_input_is_rejected(pilot, options, words):
    with pytest.raises(RequestError) as caught:
        frechet.plan_sample_size(pilot, **options)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_score_without_a_standard_error_is_rejected(features):
    without = frechet.score(features[0][:5], features[1], features=True)["fd"]
    with pytest.raises(
        RequestError, match="has no standard error, because at least 50 images per input are required; got 5"
    ):
        frechet.plan_sample_size(without, 1)


def test_a_score_of_pairs_is_rejected(features):
    x = features[0][:100]
    paired = frechet.score(x, x + 0.1, features=True, design="paired")["fd"]
    with pytest.raises(RequestError, match="independent of"):
        frechet.plan_sample_size(paired, 1)


def test_the_command_prints_the_numbers(features, pilot, tmp_path):
    for name, rows in zip(("x", "y"), features, strict=True):
        np.save(tmp_path / f"{name}.npy", rows)
    command = ["power", tmp_path / "x.npy", tmp_path / "y.npy", "--features", "--detect", "0.5"]
    code, out, err = run(*command)
    expected = frechet.plan_sample_size(pilot, 0.5).n_by_power
    assert code == 0, err
    assert all(f"{n:,} images per model" in out for n in expected.values())
    assert json.loads(run(*command, "--json")[1])["n_by_power"] == {str(power): n for power, n in expected.items()}
    assert run(*command[:-1], "zero")[0] == 2


def test_a_metric_that_cannot_be_planned_is_rejected_before_it_is_computed(features, tmp_path):
    kid = frechet.score(*features, features=True, metrics=["kid"])["kid"]
    with pytest.raises(RequestError, match="cannot be planned for kid; expected a Fréchet distance, such as fid"):
        frechet.plan_sample_size(kid, 0.1)
    missing = tmp_path / "missing.npy"  # not looked for
    code, _, err = run("power", missing, missing, "--features", "--detect", "0.1", "--metrics", "kid")
    assert code == 2
    assert "the number of images cannot be planned for kid" in err
    assert "kid" not in run("power", "--help")[1]


@pytest.mark.parametrize("metrics", ["all", "fd,kid", "fd,sfid"])
def test_several_metrics_are_rejected_before_anything_is_computed(tmp_path, metrics):
    missing = tmp_path / "missing.npy"  # not looked for
    code, _, err = run("power", missing, missing, "--features", "--detect", "0.1", "--metrics", metrics)
    assert code == 2
    assert f"--metrics (metrics=) is {metrics.replace(',', ', ')}; expected one Fréchet distance" in err


def test_other_metrics_of_a_protocol_are_named(features, tmp_path, monkeypatch):
    scores = frechet.score(*features, features=True, metrics=["fd", "kid", "precision"])
    monkeypatch.setattr("frechet.cli.power.run", lambda _request: scores)
    code, _, err = run("power", tmp_path, tmp_path, "--detect", "0.5", "--protocol", "adm-imagenet-256")
    assert code == 0, err
    labels = [scores[name].label for name in scores]
    assert f"note: only {labels[0]} is planned, not {labels[1]} and {labels[2]}" in err


@pytest.mark.slow
def test_power_reports_skipped_images_and_other_warnings(tmp_path, toy_options):
    for name in "ab":
        make_image_folder(tmp_path / name, 60, seed=ord(name), size=(9, 9))
    (tmp_path / "a" / "bad.png").write_bytes(b"no image")
    options = ["--extractor", toy_options["extractor"], "--weights", toy_options["weights"]]
    command = ["power", tmp_path / "a", tmp_path / "b", *options, "--detect", "0.5", "--on-bad-image", "skip", "--json"]
    code, out, err = run(*command)
    assert code == 0, err
    assert "warning: generated: skipped 1 image that could not be decoded: " in err
    assert "bad.png" in json.loads(out)["skipped_images"][0]


@pytest.mark.parametrize(("option", "value"), [("--detect", "much"), ("--alpha", "5")])
def test_an_invalid_test_is_rejected_before_anything_is_computed(tmp_path, option, value):
    missing = tmp_path / "missing.npy"  # not looked for
    code, _, err = run("power", missing, missing, "--features", "--detect", "0.1", option, value)
    assert code == 2
    assert value in err
    assert "missing" not in err
