"""Which metrics a run computes, with which settings, and which of those asked for it cannot."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from frechet.errors import RequestError
from frechet.features.registry import table_row
from frechet.features.spec import Recipe
from frechet.metrics import METRICS, default_metric, require_all_features
from frechet.metrics.base import Metric
from frechet.statistics.feature_statistics import Statistics

ALL = "all"


@dataclass(frozen=True)
class Wish:
    """A metric to compute: its key as it was asked for ("kid@torch-fidelity"), its row and its settings."""

    key: str
    metric: Metric
    settings: Mapping[str, Any]


@dataclass
class Plan:
    """What a run computes.

    Attributes:
        wishes: what can be computed, as far as is known before the images are read.
        refused: why not, by key.
        explain: how many influential images are listed.
        per_class: whether each class is scored alone as well.
    """

    wishes: list[Wish] = field(default_factory=list)
    refused: dict[str, RequestError] = field(default_factory=dict)
    explain: int = 0
    per_class: bool = False

    @property
    def layers(self) -> dict[str, bool]:
        """The layers that are needed ("features" is the one asked for), and whether of every image."""
        found = {"features": self.explain > 0 or self.per_class}
        for wish in self.wishes:
            found[wish.metric.layer] = (
                found.get(wish.metric.layer, False) or bool(wish.metric.all_features) or self.per_class
            )
        return found

    def needs_images(self, side: str) -> bool:
        """Whether a metric of the layer that was asked for needs that side's every image."""
        return any(wish.metric.layer == "features" and side in wish.metric.all_features for wish in self.wishes)

    def given(self, known: Mapping[str, Statistics], beside: Collection[str] = ()) -> Plan:
        """This plan, where those sides are statistics that were made before; some have images beside.

        Raises:
            RequestError: nothing is left; why the first metric cannot be computed.
        """
        if self.explain and "generated" in known:
            require_all_features(known["generated"])
        kept, refused = [], dict(self.refused)
        for wish in self.wishes:
            lacking = [
                known[side]
                for side in wish.metric.all_features
                if side in known
                and known[side].features is None
                and not (side in beside and wish.metric.layer == "features")
            ]
            if lacking:
                refused[wish.key] = RequestError(
                    f"{wish.key} needs the features of every image, and {lacking[0].source} holds statistics without them: "
                    "give the images themselves, or their features (--features, features=True)"
                )
            else:
                kept.append(wish)
        return replace(self, wishes=kept, refused=refused).checked()

    def without(self, layers: Sequence[str], error: RequestError) -> Plan:
        """This plan, where those layers cannot be had for that reason."""
        kept = [wish for wish in self.wishes if wish.metric.layer not in layers]
        lost = {wish.key: error for wish in self.wishes if wish.metric.layer in layers}
        return replace(self, wishes=kept, refused={**self.refused, **lost}).checked()

    def checked(self) -> Plan:
        """This plan.

        Raises:
            RequestError: nothing can be computed; why the first metric cannot.
        """
        if not self.wishes:
            raise next(iter(self.refused.values()))
        return self


def names_of(metrics: Sequence[str] | str | None) -> list[str] | None:
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


def of_every_image(metrics: Sequence[str] | None) -> bool:
    """Whether one of these metrics needs the features of every image.

    Raises:
        RequestError: an unknown metric or preset.
    """
    return any(name == ALL or bool(_row(name).all_features) for name in metrics or ())


def by_extractor(metrics: Sequence[str] | None) -> dict[str | None, list[str] | None]:
    """The metrics that the extractor asked for gives (None), and those that bear the name of another one.

    Raises:
        RequestError: an unknown metric or preset.
    """
    found: dict[str | None, list[str] | None] = {}
    for name in metrics or ():
        group = found.setdefault(None if name == ALL else _row(name).extractor, [])
        assert group is not None
        group.append(name)
    return found or {None: None}


def plan_of(
    metrics: Sequence[str] | None,
    recipe: Recipe,
    *,
    reference: bool = True,
    held_out: bool = False,
    splits: Sequence[int] | None = None,
    explain: int = 0,
    per_class: bool = False,
) -> Plan:
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
    plan = Plan(explain=explain, per_class=per_class)
    names = list(dict.fromkeys(metrics or [default_metric(recipe)]))
    for name in list(METRICS) if ALL in names else names:
        metric = _row(name)
        key, _, preset = name.partition("@")
        reason = _unfit(key, metric, recipe, reference, held_out)
        if reason is None:
            settings = {**metric.settings, **(metric.presets[preset] if preset else {})}
            if splits is not None and settings.get("splits") is not None:
                settings["splits"] = tuple(map(int, splits))
            plan.wishes.append(Wish(name, metric, settings))
        elif ALL not in names:
            plan.refused[name] = RequestError(reason)
    return plan.checked()


def _row(name: str) -> Metric:
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


def _unfit(key: str, metric: Metric, recipe: Recipe, reference: bool, held_out: bool) -> str | None:
    """Why these features cannot give it, or None."""
    if metric.latents:
        return (
            f"{key} is of a generator and its latents, which images do not show; in Python: "
            "frechet.perceptual_path_length(generator, latent_size)"
        )
    extractor = table_row(recipe.extractor)
    if metric.extractor not in (None, recipe.extractor):
        return f"{key} is of the features of {metric.extractor}, and these are of {recipe.extractor or 'an unknown extractor'}"
    if metric.inception is not None and metric.layer == "features":
        default = default_metric(recipe)
        if metric.inception != (recipe.extractor == "inception") or default == "sfid":
            return (
                f"metric {key} is not for features of {recipe.extractor or 'an unknown extractor'}; use {default} "
                "(FID is the name for Inception features alone)"
            )
    if metric.layer != "features" and (extractor is None or metric.layer not in extractor.taps):
        return (
            f"{key} needs the {metric.layer} of a network that has them, and {recipe.extractor or 'an unknown extractor'} "
            "gives none; use extractor inception"
        )
    if metric.reference and not reference:
        return f"{key} compares two sides, and one is given; give reference images or statistics as well"
    if metric.held_out and not held_out:
        return f"{key} needs images that the generator never saw; give them as --held-out (held_out=; the reference being what it was trained on)"
    return None
