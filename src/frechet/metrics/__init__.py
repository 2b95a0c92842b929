"""The table of metrics: what each metric needs, and the pure function that computes it."""

from __future__ import annotations

from frechet._internal.registry import Registry
from frechet.features.registry import find_extractor
from frechet.features.spec import FeatureSpec
from frechet.metrics import feature_based, frechet, generator_based, logit_based, pair_based
from frechet.metrics.base import Metric, MetricInputs, MetricResult, PairMeasure
from frechet.metrics.feature_based import compute_mifid
from frechet.metrics.frechet import (
    compute_frechet,
    compute_frechet_infinity,
    compute_frechet_interval,
    compute_leave_one_out_changes,
    compute_rfid,
    fit_gaussian,
    get_reference_kind,
    require_all_features,
)

__all__ = [
    "METRICS",
    "Metric",
    "MetricInputs",
    "MetricResult",
    "PairMeasure",
    "compute_frechet_interval",
    "compute_leave_one_out_changes",
    "fit_gaussian",
    "get_default_metric",
    "get_reference_kind",
    "has_small_sample_bias",
    "is_frechet_distance",
    "make_label",
    "register_metric",
    "require_all_features",
]

METRICS: Registry[Metric] = Registry(
    "metric",
    Metric,
    "frechet.metrics",
    frechet.ROWS | logit_based.ROWS | feature_based.ROWS | pair_based.ROWS | generator_based.ROWS,
)


def register_metric(name: str, metric: Metric) -> None:
    """Add a metric, so that `frechet.score(..., metrics=name)` computes it.

    A package adds one without this call by an entry point in the group "frechet.metrics", which the command line reads as well.

    Args:
        name: the key of the metric; letters, digits, "-", "_" and ".".
        metric: the row of the metric.

    Raises:
        RequestError: the name is invalid or taken, or `metric` is not a `Metric`.

    Examples:
        >>> def compute_shift(inputs: MetricInputs) -> MetricResult:
        ...     generated, reference = inputs.pair
        ...     return MetricResult(value=float(abs(generated.mean - reference.mean).max()))
        >>> register_metric("shift", Metric(
        ...     title="Shift", summary="largest difference of the feature means", paper="",
        ...     lower_is_better=True, compute=compute_shift, full_feature_inputs=()))
    """
    METRICS.register(name, metric)


def has_small_sample_bias(metric: Metric) -> bool:
    """Return whether the metric contains a Fréchet distance, which is far too large if n is not well above d."""
    return metric.compute in (compute_frechet, compute_rfid, compute_frechet_infinity, compute_mifid)


def get_default_metric(spec: FeatureSpec) -> str:
    """Return the Fréchet distance of an extractor: "fid" or "sfid" for layers of Inception, "fd" for all others."""
    if spec.extractor != "inception":
        return "fd"
    return "sfid" if spec.layer == "spatial" else "fid"


def make_label(metric: str, spec: FeatureSpec, dims: int) -> str:
    """Make the display name of a score, which names everything that differs from the definition of the metric.

    Args:
        metric: a key of the table, with or without a preset ("kid@torch-fidelity").
        spec: how the features were computed.
        dims: number of features d.
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
        is_default = spec.extractor in ("inception", METRICS[key].extractor)
        name = title if is_default else f"{title.replace('FID', 'FD')}-{extractor.title}"
        implied_layers = (extractor.default_layer, "spatial", METRICS[key].layer)
        name += "" if spec.layer in implied_layers else f"-{spec.layer}"
        if spec.is_official is False and spec.weights:
            name += f" (weights {spec.weights[:8]}, not the official ones)"
    return name + (f", settings of {preset}" if preset else "")


def is_frechet_distance(name: str) -> bool:
    """Return whether a metric is the Fréchet distance of two independent samples, such as "fid" or "fd-dinov2"."""
    metric = METRICS.get(name.partition("@")[0])
    return metric is not None and metric.compute is compute_frechet
