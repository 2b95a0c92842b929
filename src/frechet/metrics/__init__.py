"""The table of metrics: what each needs, and the pure function that it is."""

from __future__ import annotations

from frechet.features.registry import find_extractor
from frechet.features.spec import FeatureSpec
from frechet.metrics import feature_based, frechet, generator_based, logit_based
from frechet.metrics.base import Metric, MetricInputs, MetricResult
from frechet.metrics.feature_based import compute_mifid
from frechet.metrics.frechet import (
    compute_frechet,
    compute_frechet_infinity,
    compute_frechet_interval,
    compute_leave_one_out_changes,
    compute_rfid,
    fit_gaussian,
    require_all_features,
)

__all__ = [
    "METRICS",
    "Metric",
    "MetricResult",
    "MetricInputs",
    "get_default_metric",
    "compute_leave_one_out_changes",
    "compute_frechet_interval",
    "has_small_sample_bias",
    "make_label",
    "fit_gaussian",
    "require_all_features",
]

METRICS: dict[str, Metric] = frechet.ROWS | logit_based.ROWS | feature_based.ROWS | generator_based.ROWS


def has_small_sample_bias(metric: Metric) -> bool:
    """Whether it is a Fréchet distance, or made of such: of no more images than dimensions it is far too large."""
    return metric.compute in (compute_frechet, compute_rfid, compute_frechet_infinity, compute_mifid)


def get_default_metric(spec: FeatureSpec) -> str:
    """`fid` for Inception features (and files that do not say, of a size Inception has), `fd` for all others."""
    if spec.extractor != "inception":
        return "fd"
    return "sfid" if spec.layer == "spatial" else "fid"


def make_label(metric: str, spec: FeatureSpec, dims: int) -> str:
    """The name a score may bear in public: it never calls FID what is not.

    Args:
        metric: a key of the table, with or without a preset ("kid@torch-fidelity").
        recipe: how the features were made.
        dims: d.
    """
    key, _, preset = metric.partition("@")
    title = METRICS[key].title
    extractor = find_extractor(spec.extractor)
    if extractor is None:
        name = (
            f"{title.replace('FID', 'FD')}-{spec.extractor}"
            if spec.extractor
            else f"{title} (unknown features, d = {dims})"
        )
    else:
        owned = spec.extractor in ("inception", METRICS[key].extractor)
        name = title if owned else f"{title.replace('FID', 'FD')}-{extractor.title}"
        named = (extractor.default_layer, "spatial", METRICS[key].layer)
        name += "" if spec.layer in named else f"-{spec.layer}"
        if spec.is_official is False and spec.weights:
            name += f" (weights {spec.weights[:8]}, not the official ones)"
    return name + (f", as {preset} has it" if preset else "")
