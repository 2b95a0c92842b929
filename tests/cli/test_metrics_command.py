"""`frechet metrics`: groups, and the number of images that each metric needs."""

import numpy as np
import pytest
from helpers import run

from frechet.errors import RequestError
from frechet.evaluation.compute import score_statistics
from frechet.features.spec import FeatureSpec
from frechet.metrics import METRICS
from frechet.statistics.feature_statistics import FeatureStatistics

FIXED_COUNTS = {name: int(metric.images.split()[0]) for name, metric in METRICS.items() if metric.images[0].isdigit()}


def test_every_metric_is_listed_once_under_what_it_measures():
    code, out, err = run("metrics")
    assert (code, err) == (0, "")
    assert "[torch-fidelity, clean-fid]" in out
    groups = {lines.splitlines()[0]: lines for lines in out.split("\n\n")[1:]}
    for group, names in {
        "Fidelity and diversity": ("fid", "kid", "is"),
        "Fidelity": ("precision", "density"),
        "Diversity": ("recall", "coverage", "vendi"),
        "Memorisation": ("mifid", "authpct", "ct", "fls"),
    }.items():
        listed = [line.split()[0] for line in groups[group].splitlines()[1:]]
        assert set(names) <= set(listed)
    for name, metric in METRICS.items():
        assert sum(line.startswith(f"{name} ") and f" {metric.images} " in line for line in out.splitlines()) == 1


@pytest.mark.parametrize("name", sorted(FIXED_COUNTS.keys() - {"ppl", "psnr", "ssim", "lpips"}))
def test_metrics_need_as_many_images_as_listed(name):
    metric, n = METRICS[name], FIXED_COUNTS[name]
    extractor = metric.extractor or ("inception" if metric.requires_inception is not False else "efficientnet-lite0")
    spec = FeatureSpec(extractor=extractor, layer="2048" if extractor == "inception" else None)
    random = np.random.default_rng(0)

    def score(count):
        sides = [random.standard_normal((count, 12)).astype(np.float32) for _ in range(3)]
        layers = []
        for features in sides:
            statistics = FeatureStatistics.from_features(features, spec=spec, keep_all=True)
            layers.append(dict.fromkeys(("features", "logits"), statistics))
        generated, reference, held_out = layers
        return score_statistics(generated, reference, held_out=held_out, metrics=name, interval="none")[name]

    assert np.isfinite(score(n).value)
    if n > 2:
        with pytest.raises(RequestError):
            score(n - 1)
