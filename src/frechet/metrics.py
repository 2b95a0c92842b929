"""The table of metrics: what each needs, and the pure function that it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from frechet.distances.frechet import Normal, Terms, frechet_terms
from frechet.features.extractors import EXTRACTORS
from frechet.features.recipe import Recipe
from frechet.statistics.statistics import Statistics


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A row of the table.

    Attributes:
        summary: one line for people.
        paper: where it is defined.
        lower_is_better: the direction.
        compute: (generated, reference) -> its terms.
    """

    summary: str
    paper: str
    lower_is_better: bool
    compute: Callable[[Statistics, Statistics], Terms]


def frechet_of(generated: Statistics, reference: Statistics) -> Terms:
    """The Fréchet distance of two statistics; where all rows are at hand and fewer than d, of the rows themselves."""
    return frechet_terms(_normal(generated), _normal(reference))


def _normal(side: Statistics) -> Normal:
    if side.features is not None and len(side.features) <= side.dims:
        return Normal.of_features(side.features.astype(np.float64))
    return Normal(side.mean, covariance=side.covariance, resolution=side.resolution)


METRICS = {
    "fid": Metric(
        summary="Fréchet distance of Inception features",
        paper="Heusel et al. 2017, arXiv:1706.08500",
        lower_is_better=True,
        compute=frechet_of,
    ),
    "fd": Metric(
        summary="Fréchet distance of another extractor's features",
        paper="Heusel et al. 2017, arXiv:1706.08500",
        lower_is_better=True,
        compute=frechet_of,
    ),
}


def default_metric(recipe: Recipe) -> str:
    """`fid` for Inception features (and files that do not say, of a size Inception has), `fd` for all others."""
    return "fid" if recipe.extractor == "inception" else "fd"


def label_of(metric: str, recipe: Recipe, dims: int) -> str:
    """The name a score may bear in public: it never calls FID what is not."""
    extractor = EXTRACTORS.get(recipe.extractor or "")
    if extractor is None:
        return f"FD (unknown features, d = {dims})"
    name = "FID" if metric == "fid" else f"FD-{extractor.title}"
    default = list(extractor.taps)[-1]
    name += "" if recipe.layer == default else f"-{recipe.layer}"
    if recipe.official is False and recipe.weights:
        name += f" (weights {recipe.weights[:8]}, not the official ones)"
    return name
