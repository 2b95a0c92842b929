"""Scores of the combinations of a diagnosis, from features that are given."""

import numpy as np
import pytest

import frechet
from frechet.evaluation.diagnosis.axes import RANDOM, Combination, Variant
from frechet.evaluation.diagnosis.extract import VariantFeatures
from frechet.evaluation.diagnosis.grid import Grid
from frechet.evaluation.plan import MetricRequest
from frechet.features.spec import FeatureSpec
from frechet.metrics import METRICS

D = 3
VARIANT = Variant(preprocessing="pytorch-fid")
ALL = Combination(preprocessing="pytorch-fid")


def draw(seed, n):
    return np.random.default_rng(seed).standard_normal((n, D)).astype(np.float32) * (1 + seed)


def make_grid(generated, reference):
    def wrap(rows):
        return VariantFeatures(rows=[rows], groups={VARIANT: 0}, n_inputs=len(rows), skipped_images=())

    metric = MetricRequest(key="fd", metric=METRICS["fd"], settings={})
    spec = FeatureSpec(extractor="toy", layer="3", weights=None, is_official=None, preprocessing=None, precision=None)
    return Grid(metric=metric, generated=wrap(generated), reference=wrap(reference), spec=spec, seed=0, device="cpu")


def score(generated, reference):
    return float(frechet.score(generated, reference, features=True, interval="none")["fd"])


def test_halves_are_the_images_with_even_and_with_odd_numbers_of_both_inputs():
    x, y = draw(0, 41), draw(1, 60)
    even, odd = make_grid(x, y).compute_halves(ALL)
    assert even == pytest.approx(score(x[::2], y[::2]), rel=1e-6)
    assert odd == pytest.approx(score(x[1::2], y[1::2]), rel=1e-6)


def test_a_number_of_images_takes_the_first_ones():
    x, y = draw(0, 50), draw(1, 60)
    first = Combination(preprocessing="pytorch-fid", num_images=20)
    values, failed = make_grid(x, y).compute([ALL, first])
    assert failed == {}
    assert values == {ALL: pytest.approx(score(x, y), rel=1e-6), first: pytest.approx(score(x[:20], y), rel=1e-6)}


def test_a_random_order_takes_other_images():
    x, y = draw(0, 50), draw(1, 60)
    drawn = Combination(preprocessing="pytorch-fid", num_images=20, order=RANDOM)
    values, _ = make_grid(x, y).compute([drawn])
    assert abs(values[drawn] - score(x[:20], y)) > 1e-6


def test_a_combination_that_cannot_be_computed_is_named_by_its_number_of_images():
    few = Combination(preprocessing="pytorch-fid", num_images=1)
    values, failed = make_grid(draw(0, 50), draw(1, 60)).compute([few, ALL])
    assert set(values) == {ALL}
    assert set(failed) == {"1"}
