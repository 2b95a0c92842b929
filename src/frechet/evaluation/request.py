"""Which metrics a run computes, with which settings, and which of those asked for it cannot."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from frechet.errors import RequestError
from frechet.features.registry import find_extractor
from frechet.features.spec import FeatureSpec
from frechet.metrics import METRICS, get_default_metric, require_all_features
from frechet.metrics.base import Metric
from frechet.statistics.feature_statistics import FeatureStatistics

ALL = "all"


@dataclass(frozen=True)
class MetricRequest:
    """A metric to compute: its key as it was asked for ("kid@torch-fidelity"), its row and its settings."""

    key: str
    metric: Metric
    settings: Mapping[str, Any]


@dataclass
class MetricPlan:
    """What a run computes.

    Attributes:
        wishes: what can be computed, as far as is known before the images are read.
        refused: why not, by key.
        explain: how many influential images are listed.
        per_class: whether each class is scored alone as well.
    """

    requests: list[MetricRequest] = field(default_factory=list)
    unavailable: dict[str, RequestError] = field(default_factory=dict)
    explain: int = 0
    per_class: bool = False

    @property
    def layers(self) -> dict[str, bool]:
        """The layers that are needed ("features" is the one asked for), and whether of every image."""
        found = {"features": self.explain > 0 or self.per_class}
        for request in self.requests:
            found[request.metric.layer] = (
                found.get(request.metric.layer, False) or bool(request.metric.full_feature_inputs) or self.per_class
            )
        return found

    def needs_all_features_of(self, input_name: str) -> bool:
        """Whether a metric of the layer that was asked for needs that side's every image."""
        return any(
            request.metric.layer == "features" and input_name in request.metric.full_feature_inputs
            for request in self.requests
        )

    def restrict_to(
        self, precomputed: Mapping[str, FeatureStatistics], with_images: Collection[str] = ()
    ) -> MetricPlan:
        """This plan, where those sides are statistics that were made before; some have images beside.

        Raises:
            RequestError: nothing is left; why the first metric cannot be computed.
        """
        if self.explain and "generated" in precomputed:
            require_all_features(precomputed["generated"])
        kept, unavailable = [], dict(self.unavailable)
        for request in self.requests:
            incomplete = [
                precomputed[input_name]
                for input_name in request.metric.full_feature_inputs
                if input_name in precomputed
                and precomputed[input_name].features is None
                and not (input_name in with_images and request.metric.layer == "features")
            ]
            if incomplete:
                unavailable[request.key] = RequestError(
                    f"{request.key} needs the features of every image, and {incomplete[0].label} holds statistics without them: "
                    "give the images themselves, or their features (--features, features=True)"
                )
            else:
                kept.append(request)
        return replace(self, requests=kept, unavailable=unavailable).validate()

    def drop_layers(self, layers: Sequence[str], error: RequestError) -> MetricPlan:
        """This plan, where those layers cannot be had for that reason."""
        kept = [request for request in self.requests if request.metric.layer not in layers]
        lost = {request.key: error for request in self.requests if request.metric.layer in layers}
        return replace(self, requests=kept, unavailable={**self.unavailable, **lost}).validate()

    def validate(self) -> MetricPlan:
        """This plan.

        Raises:
            RequestError: nothing can be computed; why the first metric cannot.
        """
        if not self.requests:
            raise next(iter(self.unavailable.values()))
        return self


def parse_metric_names(metrics: Sequence[str] | str | None) -> list[str] | None:
    """The metrics of a wish, one text with commas or a sequence; None, the default, stays.

    Raises:
        RequestError: no metric, or a name that is empty.
    """
    if metrics is None:
        return None
    names = [name.strip() for name in metrics.split(",")] if isinstance(metrics, str) else list(metrics)
    if not names or not all(names):
        raise RequestError(
            f"metrics is {metrics!r}; expected names such as fid,kid (frechet metrics lists them); leave it out for the default"
        )
    return names


def needs_all_features(metrics: Sequence[str] | None) -> bool:
    """Whether one of these metrics needs the features of every image.

    Raises:
        RequestError: an unknown metric or preset.
    """
    return any(name == ALL or bool(_get_metric(name).full_feature_inputs) for name in metrics or ())


def group_by_extractor(metrics: Sequence[str] | None) -> dict[str | None, list[str] | None]:
    """The metrics that the extractor asked for gives (None), and those that bear the name of another one.

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
    reference: bool = True,
    held_out: bool = False,
    splits: Sequence[int] | None = None,
    explain: int = 0,
    per_class: bool = False,
) -> MetricPlan:
    """Check the wishes against the table.

    Args:
        metrics: keys of the table, perhaps with a preset, or "all"; None for the Fréchet distance.
        recipe: what is known of the features.
        reference, held_out: whether those sides are given.
        splits: of the Inception Score, if not as the table has it.
        explain: how many images to list, for which every image's features are needed.
        per_class: whether each class is scored alone as well.

    Raises:
        RequestError: an unknown metric or preset, or none that can be computed.
    """
    if splits is not None and (not splits or min(splits) < 1):
        raise RequestError(f"splits are {tuple(splits)}; expected whole numbers of at least 1, e.g. 5,10,20")
    plan = MetricPlan(explain=explain, per_class=per_class)
    names = list(dict.fromkeys(metrics or [get_default_metric(spec)]))
    for name in list(METRICS) if ALL in names else names:
        metric = _get_metric(name)
        key, _, preset = name.partition("@")
        reason = _find_unavailable_reason(key, metric, spec, reference, held_out)
        if reason is None:
            settings = {**metric.settings, **(metric.presets[preset] if preset else {})}
            if splits is not None and settings.get("splits") is not None:
                settings["splits"] = tuple(map(int, splits))
            plan.requests.append(MetricRequest(name, metric, settings))
        elif ALL not in names:
            plan.unavailable[name] = RequestError(reason)
    return plan.validate()


def _get_metric(name: str) -> Metric:
    """The row of a metric, with or without a preset.

    Raises:
        RequestError: there is none; what exists is named.
    """
    key, _, preset = name.partition("@")
    if key not in METRICS:
        raise RequestError(f"no metric {name!r}; there is {', '.join(METRICS)}")
    presets = METRICS[key].presets
    if preset and preset not in presets:
        raise RequestError(f"{key} has no preset {preset!r}; there is {', '.join(presets) or 'none'}")
    return METRICS[key]


def _find_unavailable_reason(
    key: str, metric: Metric, spec: FeatureSpec, reference: bool, held_out: bool
) -> str | None:
    """Why these features cannot give it, or None."""
    if metric.uses_latents:
        return (
            f"{key} is of a generator and its latents, which images do not show; in Python: "
            "frechet.perceptual_path_length(generator, latent_size)"
        )
    extractor = find_extractor(spec.extractor)
    if metric.extractor not in (None, spec.extractor):
        return f"{key} is of the features of {metric.extractor}, and these are of {spec.extractor or 'an unknown extractor'}"
    if metric.requires_inception is not None and metric.layer == "features":
        default = get_default_metric(spec)
        if metric.requires_inception != (spec.extractor == "inception") or default == "sfid":
            return (
                f"metric {key} is not for features of {spec.extractor or 'an unknown extractor'}; use {default} "
                "(FID is the name for Inception features alone)"
            )
    if metric.layer != "features" and (extractor is None or metric.layer not in extractor.layers):
        return (
            f"{key} needs the {metric.layer} of a network that has them, and {spec.extractor or 'an unknown extractor'} "
            "gives none; use extractor inception"
        )
    if metric.uses_reference and not reference:
        return f"{key} compares two sides, and one is given; give reference images or statistics as well"
    if metric.uses_held_out and not held_out:
        return f"{key} needs images that the generator never saw; give them as --held-out (held_out=; the reference being what it was trained on)"
    return None
