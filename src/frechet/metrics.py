"""The table of metrics: what each needs, and the pure function that it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from frechet.distances.frechet import Terms, frechet_terms
from frechet.distances.infinity import frechet_infinity
from frechet.distances.normal import Normal
from frechet.distances.transport import Influence, couple, influence
from frechet.distances.uncertainty import Interval, Side, interval, why_none
from frechet.errors import RequestError
from frechet.features.extractors import EXTRACTORS
from frechet.features.recipe import Recipe
from frechet.statistics.statistics import Statistics

Done = Callable[[int, int], None]  # (steps done, steps in all)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A row of the table.

    Attributes:
        summary: one line for people.
        paper: where it is defined.
        lower_is_better: the direction.
        compute: (generated, reference, device) -> its terms.
        all_features: whether it needs the features of every generated image.
        interval: (generated, reference, seed, done) -> its interval, or why there is none.
    """

    summary: str
    paper: str
    lower_is_better: bool
    compute: Callable[[Statistics, Statistics, str], Terms]
    interval: Callable[[Statistics, Statistics, int, Done], Interval | str]
    all_features: bool = False


def _as_it_is(array: np.ndarray) -> np.ndarray:
    return array


def frechet_of(generated: Statistics, reference: Statistics, device: str = "cpu") -> Terms:
    """The Fréchet distance of two statistics, in float64; on a CUDA device where one is named."""
    place = placed_on(device) if device.startswith("cuda") else _as_it_is
    return frechet_terms(normal_of(generated, place), normal_of(reference, place))


def infinity_of(generated: Statistics, reference: Statistics, _device: str = "cpu") -> Terms:
    """FID∞ of sides of which at least the generated one kept every image's features.

    Raises:
        RequestError: it did not.
    """
    require_all_features(generated)
    other = reference.features if reference.features is not None else normal_of(reference)
    return frechet_infinity(generated.features, other, seed=generated.seed)


def require_all_features(side: Statistics) -> None:
    """Raises: RequestError: the side did not keep the features of every image."""
    if side.features is None:
        raise RequestError(
            f"{side.source} holds statistics without the features of every image, which an image's influence and FID∞ need: "
            "give the images themselves as the generated side"
        )


def no_interval(*_: Any) -> str:
    """For metrics whose sampling nobody has described."""
    return "FID∞ has none: its line is fitted to subsets that share images"


def frechet_interval(generated: Statistics, reference: Statistics, seed: int, done: Done) -> Interval | str:
    """The bias-corrected distance with its 95 % interval, or the reason why there is none."""
    sides = _sampled(generated), _sampled(reference)
    return why_none(*sides) or interval(*sides, seed=seed, done=done)


def frechet_influence(generated: Statistics, reference: Statistics) -> Influence:
    """ψ of every generated image whose features were kept, in order of place."""
    assert generated.rows is not None
    p, q = normal_of(generated), normal_of(reference)
    return influence(generated.rows.astype(np.float64), p, q, couple(p, q))


def _sampled(side: Statistics) -> Side:
    return Side(normal_of(side), side.n, side.rows)


def normal_of(side: Statistics, place: Callable[[np.ndarray], Any] = _as_it_is) -> Normal:
    """The Gaussian of a side: of all rows where they are at hand and fewer than d, else of the moments."""
    if side.features is not None and len(side.features) <= side.dims:
        return Normal.of_features(place(side.features.astype(np.float64)))
    return Normal(place(side.mean), covariance=place(side.covariance), resolution=side.resolution)


def placed_on(device: str) -> Callable[[np.ndarray], Any]:
    """What makes a torch tensor on that device of an array."""
    import torch

    return lambda array: torch.from_numpy(np.ascontiguousarray(array)).to(device)


METRICS = {
    "fid": Metric(
        summary="Fréchet distance of Inception features",
        paper="Heusel et al. 2017, arXiv:1706.08500",
        lower_is_better=True,
        compute=frechet_of,
        interval=frechet_interval,
    ),
    "fid-infinity": Metric(
        summary="Fréchet distance of Inception features, extrapolated to endlessly many images",
        paper="Chong & Forsyth 2020, arXiv:1911.07023",
        lower_is_better=True,
        compute=infinity_of,
        interval=no_interval,
        all_features=True,
    ),
    "fd-infinity": Metric(
        summary="The same of another extractor's features",
        paper="Chong & Forsyth 2020, arXiv:1911.07023",
        lower_is_better=True,
        compute=infinity_of,
        interval=no_interval,
        all_features=True,
    ),
    "sfid": Metric(
        summary="Fréchet distance of ADM's spatial Inception features (--dims 2023)",
        paper="Nash et al. 2021, arXiv:2103.03841; the tap is that of Dhariwal & Nichol 2021",
        lower_is_better=True,
        compute=frechet_of,
        interval=frechet_interval,
    ),
    "fd": Metric(
        summary="Fréchet distance of another extractor's features",
        paper="Heusel et al. 2017, arXiv:1706.08500",
        lower_is_better=True,
        compute=frechet_of,
        interval=frechet_interval,
    ),
}


def default_metric(recipe: Recipe) -> str:
    """`fid` for Inception features (and files that do not say, of a size Inception has), `fd` for all others."""
    if recipe.extractor != "inception":
        return "fd"
    return "sfid" if recipe.layer == "spatial" else "fid"


def label_of(metric: str, recipe: Recipe, dims: int) -> str:
    """The name a score may bear in public: it never calls FID what is not."""
    extractor = EXTRACTORS.get(recipe.extractor or "")
    if extractor is None:
        return f"FD{'∞' if metric.endswith('-infinity') else ''} (unknown features, d = {dims})"
    name = {"fid": "FID", "fid-infinity": "FID", "sfid": "sFID"}.get(metric, f"FD-{extractor.title}")
    name += "∞" if metric.endswith("-infinity") else ""
    name += "" if recipe.layer in (extractor.default_tap, "spatial") else f"-{recipe.layer}"
    if recipe.official is False and recipe.weights:
        name += f" (weights {recipe.weights[:8]}, not the official ones)"
    return name
