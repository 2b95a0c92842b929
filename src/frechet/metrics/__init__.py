"""The table of metrics: what each needs, and the pure function that it is."""

from __future__ import annotations

from frechet.features.registry import table_row
from frechet.features.spec import Recipe
from frechet.metrics import feature_based, frechet, generator_based, logit_based
from frechet.metrics.base import Metric, Outcome, Sides
from frechet.metrics.feature_based import mifid_of
from frechet.metrics.frechet import (
    frechet_changes,
    frechet_interval,
    frechet_of,
    infinity_of,
    normal_of,
    of_pairs,
    require_all_features,
)

__all__ = [
    "METRICS",
    "Metric",
    "Outcome",
    "Sides",
    "default_metric",
    "frechet_changes",
    "frechet_interval",
    "has_bias_of_few",
    "label_of",
    "normal_of",
    "require_all_features",
]

METRICS: dict[str, Metric] = frechet.ROWS | logit_based.ROWS | feature_based.ROWS | generator_based.ROWS


def has_bias_of_few(metric: Metric) -> bool:
    """Whether it is a Fréchet distance, or made of such: of no more images than dimensions it is far too large."""
    return metric.compute in (frechet_of, of_pairs, infinity_of, mifid_of)


def default_metric(recipe: Recipe) -> str:
    """`fid` for Inception features (and files that do not say, of a size Inception has), `fd` for all others."""
    if recipe.extractor != "inception":
        return "fd"
    return "sfid" if recipe.layer == "spatial" else "fid"


def label_of(metric: str, recipe: Recipe, dims: int) -> str:
    """The name a score may bear in public: it never calls FID what is not.

    Args:
        metric: a key of the table, with or without a preset ("kid@torch-fidelity").
        recipe: how the features were made.
        dims: d.
    """
    key, _, preset = metric.partition("@")
    title = METRICS[key].title
    extractor = table_row(recipe.extractor)
    if extractor is None:
        name = (
            f"{title.replace('FID', 'FD')}-{recipe.extractor}"
            if recipe.extractor
            else f"{title} (unknown features, d = {dims})"
        )
    else:
        owned = recipe.extractor in ("inception", METRICS[key].extractor)
        name = title if owned else f"{title.replace('FID', 'FD')}-{extractor.title}"
        named = (extractor.default_tap, "spatial", METRICS[key].layer)
        name += "" if recipe.layer in named else f"-{recipe.layer}"
        if recipe.official is False and recipe.weights:
            name += f" (weights {recipe.weights[:8]}, not the official ones)"
    return name + (f", as {preset} has it" if preset else "")
