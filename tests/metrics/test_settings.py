"""The settings of each metric and preset are those of the paper or tool that they are named after."""

from dataclasses import replace

import numpy as np
import pytest

from frechet.distances import memorisation
from frechet.features.spec import FeatureSpec
from frechet.metrics import METRICS, make_label
from frechet.metrics.base import MetricInputs
from frechet.metrics.feature_based import compute_fls, compute_mind, compute_realism
from frechet.metrics.logit_based import compute_inception_score
from frechet.statistics.feature_statistics import FeatureStatistics


def make_inputs(generated, reference=None, held_out=None):
    given = {"generated": generated, "reference": reference, "held-out": held_out}
    return MetricInputs.from_statistics(
        {
            name: FeatureStatistics.from_features(rows.astype(np.float32), keep_all=True)
            for name, rows in given.items()
            if rows is not None
        }
    )


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("is", {"splits": (10,)}),  # Salimans et al. 2016, section 4
        ("is@adm", {"split_size": 5000, "shuffle": False}),  # guided-diffusion, evaluator.py: compute_inception_score
        ("is@torch-fidelity", {"splits": (10,), "shuffle": True, "seed": 2020}),  # defaults of torch-fidelity 0.4.0
        ("is@stylegan3", {"splits": (10,), "shuffle": False}),  # stylegan3, inception_score.py: num_splits=10
        ("kid@torch-fidelity", {"subsets": 100, "subset_size": 1000, "seed": 2020}),  # defaults of torch-fidelity 0.4.0
        ("kid@clean-fid", {"subsets": 100, "subset_size": 1000}),  # clean-fid 0.1.35, fid.py: kernel_distance
        ("precision", {"k": 3}),  # Kynkäänniemi et al. 2019, section 3
        ("recall", {"k": 3}),
        ("realism", {"k": 3}),
        ("density", {"k": 5}),  # Naeem et al. 2020, section 3
        ("coverage", {"k": 5}),
        ("precision@prdc", {"k": 5}),
        ("realism@dgm-eval", {"k": 5}),  # dgm-eval, --nearest_k 5
        ("mifid", {"threshold": 0.1}),  # Bai et al. 2021, section 4
        ("cmmd", {"sigma": 10.0}),  # Jayasumana et al. 2024, section 4
        ("fls@dgm-eval", {"max_images": 10_000}),  # dgm-eval, --reduced_n 10000
        ("mind@torch-fidelity", {"torch_seed": 2020}),  # defaults of torch-fidelity 0.4.0
    ],
)
def test_settings_are_those_of_the_paper_or_tool(metric, expected):
    name, _, preset = metric.partition("@")
    row = METRICS[name]
    settings = {**row.settings, **(row.presets[preset] if preset else {})}
    assert {key: settings[key] for key in expected} == expected


def test_splits_of_a_fixed_size_include_a_smaller_last_one():
    logits = np.random.default_rng(0).standard_normal((10, 6))
    result = compute_inception_score(make_inputs(logits), splits=None, shuffle=False, seed=None, split_size=4)
    p = np.exp(logits.astype(np.float32).astype(np.float64))
    p /= p.sum(1, keepdims=True)
    scores = [np.exp((part * np.log(part / part.mean(0))).sum(1).mean()) for part in (p[:4], p[4:8], p[8:])]
    assert result.splits[0]["n"] == 3
    assert result.value == pytest.approx(np.mean(scores), rel=1e-6)


def test_mind_of_unequal_numbers_compares_a_random_subset_of_the_larger_input():
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    x, y = random.standard_normal((12, 3)), random.standard_normal((30, 3)) + 1
    result = compute_mind(make_inputs(x, y), directions=50, torch_seed=7)
    generator = torch.Generator().manual_seed(7)
    chosen = y[torch.randperm(30, generator=generator)[:12].numpy()]
    lines = torch.randn(50, 3, generator=generator).numpy()
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    distances = [((np.sort(x @ line) - np.sort(chosen @ line)) ** 2).mean() for line in lines]
    assert result.value == pytest.approx(9 * np.mean(distances), rel=1e-5)


def test_realism_is_above_1_inside_the_reference_set_and_below_outside():
    reference = np.random.default_rng(0).standard_normal((200, 2))
    inside = compute_realism(make_inputs(reference[:20] + 0.01, reference), k=3)
    outside = compute_realism(make_inputs(reference[:20] + 100, reference), k=3)
    assert inside.terms["fraction_above_1"] > 0.5
    assert outside.terms["fraction_above_1"] == 0
    assert outside.value < 1 < inside.value


def test_fls_compares_four_sets_of_equal_size(monkeypatch):
    sizes = []
    monkeypatch.setattr(memorisation, "feature_likelihood_score", lambda *sets: sizes.extend(map(len, sets)) or 0.0)
    random = np.random.default_rng(0)
    compute_fls(make_inputs(*(random.standard_normal((n, 2)) for n in (30, 50, 40))), max_images=10)
    compute_fls(make_inputs(*(random.standard_normal((n, 2)) for n in (30, 50, 40))), max_images=100)
    assert sizes == [10] * 4 + [25] * 4


def test_labels_name_weights_that_are_not_the_official_ones():
    spec = FeatureSpec(extractor="inception", layer="2048", weights="0123456789abcdef", is_official=False)
    assert make_label("fid", spec, 2048) == "FID (weights 01234567, not the official ones)"
    assert make_label("fid", replace(spec, is_official=True), 2048) == "FID"
