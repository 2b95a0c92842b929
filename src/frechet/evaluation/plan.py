"""The metrics that a run computes with their settings, and the reasons why it cannot compute others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from frechet._internal.choices import list_choices, suggest
from frechet._internal.fields import name_option
from frechet._internal.words import join_words
from frechet.errors import RequestError
from frechet.evaluation.layers import LayerStatistics, explain_missing_layer
from frechet.evaluation.request import ScoreRequest
from frechet.features.registry import find_extractor
from frechet.features.spec import FeatureSpec
from frechet.metrics import METRICS, compute_frechet_interval, get_default_metric, require_all_features
from frechet.metrics.base import Metric

ALL = "all"
INPUTS = ("generated", "reference", "held-out")


@dataclass(frozen=True)
class MetricRequest:
    """A metric to compute.

    Attributes:
        key: its name as requested ("kid@torch-fidelity").
        metric: its row in the table.
        settings: keyword arguments of its function.
    """

    key: str
    metric: Metric
    settings: Mapping[str, Any]


@dataclass
class MetricPlan:
    """What a run computes.

    Attributes:
        requests: metrics that can be computed, as far as is known before the images are read.
        unavailable: for each other requested metric, the reason.
        renamed: for each requested name of a Fréchet distance that these features do not have, the one that is computed.
        explain: number of influential images to list.
        per_class: whether each class is also scored by itself.
        is_all: whether every metric that applies is requested, so that those that do not apply are left out.
    """

    requests: list[MetricRequest] = field(default_factory=list)
    unavailable: dict[str, RequestError] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    explain: int = 0
    per_class: bool = False
    is_all: bool = False

    @property
    def layers(self) -> dict[str, bool]:
        """For each layer that is needed ("features" is the requested one), whether the features of every image are kept."""
        found: dict[str, bool] = {}
        for input_name in INPUTS:
            for layer, keep_all in self.layers_of(input_name).items():
                found[layer] = found.get(layer, False) or keep_all
        return found

    def layers_of(self, input_name: str) -> dict[str, bool]:
        """Return the same for one input: the requested layer, and those of the metrics that use the input."""
        found = {"features": self.explain > 0 or self.per_class}
        for metric in (request.metric for request in self.requests if request.metric.uses(input_name)):
            keep_all = metric.needs_all_features_of(input_name) or self.per_class
            found[metric.layer] = found.get(metric.layer, False) or keep_all
        return found

    def needs_images_of(self, input_name: str, layers: LayerStatistics) -> bool:
        """Return whether a metric needs more of an input than these statistics."""
        return any(_find_gap(request, input_name, layers) for request in self.requests)

    def restrict_to(self, precomputed: Mapping[str, LayerStatistics], with_images: Collection[str] = ()) -> MetricPlan:
        """Drop the metrics that precomputed statistics cannot give.

        Args:
            precomputed: inputs that are statistics, by layer.
            with_images: names of those that are completed by images.

        Raises:
            RequestError: no metric is left; the reason for the first one.
        """
        if self.explain and "generated" in precomputed:
            require_all_features(precomputed["generated"]["features"])
        incomplete = {name: layers for name, layers in precomputed.items() if name not in with_images}
        gaps = {
            request.key: next(filter(None, (_find_gap(request, *item) for item in incomplete.items())), None)
            for request in self.requests
        }
        kept = [request for request in self.requests if gaps[request.key] is None]
        unavailable = {key: RequestError(gap) for key, gap in gaps.items() if gap is not None}
        return replace(self, requests=kept, unavailable={**self.unavailable, **unavailable}).validate()

    def drop_layers(self, layers: Sequence[str], error: RequestError) -> MetricPlan:
        """Drop the metrics of layers that are not available, for the given reason."""
        kept = [request for request in self.requests if request.metric.layer not in layers]
        lost = {request.key: error for request in self.requests if request.metric.layer in layers}
        return replace(self, requests=kept, unavailable={**self.unavailable, **lost}).validate()

    def validate(self) -> MetricPlan:
        """Return this plan if it computes anything.

        Raises:
            RequestError: nothing can be computed; the reason for the first metric.
        """
        if not self.requests:
            raise next(iter(self.unavailable.values()))
        return self


def _find_gap(request: MetricRequest, input_name: str, layers: LayerStatistics) -> str | None:
    """Return why a metric cannot be computed from the statistics of an input, or None."""
    metric, known = request.metric, layers["features"]
    if not metric.uses(input_name):
        return None
    if metric.layer not in layers:
        return explain_missing_layer(request.key, metric.layer, known)
    if metric.needs_all_features_of(input_name) and layers[metric.layer].features is None:
        return (
            f"{request.key} needs the features of every image, but {known.label} contains statistics without them; pass the images"
            f"{' (--reference-images, reference_images=)' if input_name == 'reference' else ''}, or their features (--features, "
            "features=True)"
        )
    return None


def uses_input(metrics: Sequence[str] | None, input_name: str) -> bool:
    """Return whether one of these metrics (None for the default) looks at an input.

    Raises:
        RequestError: an unknown metric or preset.
    """
    default = input_name != "held-out"
    return default if metrics is None else any(name == ALL or _get_metric(name).uses(input_name) for name in metrics)


def require_used_options(request: ScoreRequest) -> None:
    """Reject held-out images and numbers of splits that no requested metric uses. The metrics of a protocol are not checked.

    Raises:
        RequestError: names the option, and the metrics that use it.
    """
    names = request.metric_names
    if request.protocol is not None or ALL in (names or ()):
        return
    requests = [request_metric(name) for name in names or ()]
    if request.held_out is not None and not any(each.metric.uses_held_out for each in requests):
        _reject_unused("held_out", names, [key for key, metric in METRICS.items() if metric.uses_held_out])
    if request.splits is not None and not any(each.settings.get("splits") is not None for each in requests):
        _reject_unused("splits", names, [key for key, metric in METRICS.items() if metric.settings.get("splits")])


def _reject_unused(option: str, names: Sequence[str] | None, using: Sequence[str]) -> NoReturn:
    requested = f"{name_option('metrics')} is {', '.join(names)}" if names else "only the default metric is requested"
    raise RequestError(
        f"{name_option(option)} applies to {join_words(using)}, and {requested}; add {join_words(using, 'or')} to --metrics, or leave "
        "the option out"
    )


def needs_all_features(metrics: Sequence[str] | None) -> bool:
    """Return whether one of these metrics needs the features of every image.

    Raises:
        RequestError: an unknown metric or preset.
    """
    return any(name == ALL or any(map(_get_metric(name).needs_all_features_of, INPUTS)) for name in metrics or ())


def group_by_extractor(metrics: Sequence[str] | None) -> dict[str | None, list[str] | None]:
    """Group metrics by the extractor that they are defined on; None stands for the requested one.

    Raises:
        RequestError: an unknown metric or preset.
    """
    found: dict[str | None, list[str] | None] = {}
    for name in metrics or ():
        group = found.setdefault(None if name == ALL else _get_metric(name).extractor, [])
        assert group is not None
        group.append(name)
    return found or {None: None}


def plan_metrics(
    metrics: Sequence[str] | None,
    spec: FeatureSpec,
    *,
    has_reference: bool = True,
    has_held_out: bool = False,
    splits: Sequence[int] | None = None,
    explain: int = 0,
    per_class: bool = False,
) -> MetricPlan:
    """Check the requested metrics against the table.

    Args:
        metrics: names in the table, optionally with a preset, or "all"; None for the Fréchet distance.
        spec: what is known of the features.
        has_reference, has_held_out: whether there is a reference, and held-out images.
        splits: numbers of splits of the Inception Score; None for the metric's own.
        explain: number of influential images to list, for which the features of every image are needed.
        per_class: whether each class is also scored by itself.

    Raises:
        RequestError: an unknown metric or preset, or none that can be computed.
    """
    names = list(dict.fromkeys(metrics or [get_default_metric(spec)]))
    plan = MetricPlan(explain=explain, per_class=per_class, is_all=ALL in names)
    if ALL not in names:
        plan.renamed = {name: used for name in names if (used := _find_counterpart(name, spec)) != name}
        names = list(dict.fromkeys(plan.renamed.get(name, name) for name in names))
    for name in list(METRICS) if ALL in names else names:
        metric = _get_metric(name)
        key = name.partition("@")[0]
        reason = _find_unavailable_reason(key, metric, spec, has_reference, has_held_out)
        if reason is None:
            plan.requests.append(request_metric(name, splits))
        elif ALL not in names:
            plan.unavailable[name] = RequestError(reason)
    return plan.validate()


def request_metric(name: str, splits: Sequence[int] | None = None) -> MetricRequest:
    """Return a metric with the settings of its preset.

    Args:
        name: name in the table, optionally with a preset.
        splits: numbers of splits of the Inception Score; None for the metric's own.

    Raises:
        RequestError: an unknown metric or preset.
    """
    metric, preset = _get_metric(name), name.partition("@")[2]
    settings = {**metric.settings, **(metric.presets[preset] if preset else {})}
    if splits is not None and settings.get("splits") is not None:
        settings["splits"] = tuple(map(int, splits))
    return MetricRequest(name, metric, settings)


def is_pair_metric(name: str) -> bool:
    """Return whether a metric is a mean over pairs of images.

    Raises:
        RequestError: an unknown metric or preset.
    """
    return name != ALL and _get_metric(name).load_pair_measure is not None


def has_frechet_interval(name: str) -> bool:
    """Return whether the interval of a metric is that of a Fréchet distance between independent inputs.

    Raises:
        RequestError: an unknown metric or preset.
    """
    return name != ALL and _get_metric(name).interval is compute_frechet_interval


def plan_request(request: ScoreRequest, spec: FeatureSpec, inputs: Collection[str], n_explained: int) -> MetricPlan:
    """Plan the metrics of a request.

    Args:
        request: what to compute.
        spec: what is known of the features.
        inputs: names of the inputs that are there: "generated", "reference", "held-out".
        n_explained: number of influential images to list, for which every image's features are needed.
    """
    return plan_metrics(
        request.metric_names,
        spec,
        has_reference="reference" in inputs,
        has_held_out="held-out" in inputs,
        splits=request.split_counts,
        explain=n_explained,
        per_class=request.per_class,
    )


def _get_metric(name: str) -> Metric:
    """Return the row of a metric, named with or without a preset.

    Raises:
        RequestError: the metric or the preset is unknown; the known ones are named.
    """
    key, at, preset = name.partition("@")
    if key not in METRICS:
        raise RequestError(f"unknown metric {name!r}{suggest(key, METRICS)}; {list_choices(METRICS)}")
    presets = METRICS[key].presets
    if at and preset not in presets:
        known = list_choices(presets) if presets else f"{key} does not have presets"
        raise RequestError(f"unknown preset {preset!r} of {key}{suggest(preset, presets)}; {known}")
    return METRICS[key]


def _find_counterpart(name: str, spec: FeatureSpec) -> str:
    """Return the name that a Fréchet distance has for these features: FID for those of Inception, FD for all others."""
    default = get_default_metric(spec)
    if name in ("fid", "fd"):
        return default
    if name in ("fid-infinity", "fd-infinity") and default != "sfid":
        return f"{default}-infinity"
    return name


def _find_unavailable_reason(
    key: str, metric: Metric, spec: FeatureSpec, has_reference: bool, has_held_out: bool
) -> str | None:
    """Return why a metric cannot be computed from these features and inputs, or None."""
    if metric.uses_latents:
        return (
            f"{key} needs a generator and its latents, not images; use frechet.perceptual_path_length(generator, latent_size) in "
            "Python"
        )
    if metric.load_pair_measure is not None:
        return f"{key} compares the pixels of images with those of their reconstructions; pass both as images to frechet.score"
    extractor = find_extractor(spec.extractor)
    if metric.extractor not in (None, spec.extractor):
        return (
            f"{key} is defined on features of {metric.extractor}, and these features come from {spec.extractor or 'an unknown extractor'}; "
            f"use extractor {metric.extractor}"
        )
    if metric.requires_inception is not None and metric.layer == "features":
        default = get_default_metric(spec)
        if metric.requires_inception != (spec.extractor == "inception") or default == "sfid":
            declare = "" if spec.extractor else ", or pass extractor inception (--extractor) if they come from it"
            return (
                f"metric {key} does not apply to features of {spec.extractor or 'an unknown extractor'}; use {default} "
                f"(the name FID is reserved for Inception features){declare}"
            )
    if metric.layer != "features" and (extractor is None or metric.layer not in extractor.layers):
        return (
            f"{key} needs the {metric.layer} layer, which {spec.extractor or 'an unknown extractor'} does not have; use extractor "
            "inception"
        )
    if metric.uses_reference and not has_reference:
        return f"{key} compares generated images with a reference, and no reference is given; pass reference images or statistics"
    if metric.uses_held_out and not has_held_out:
        return (
            f"{key} needs real images that the generator was not trained on. Pass them with --held-out (held_out=), and pass the "
            "training images as the reference."
        )
    return None
