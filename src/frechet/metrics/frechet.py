"""Rows of the table that are Fréchet distances between Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from frechet.distances.extrapolation import frechet_infinity
from frechet.distances.frechet import Terms, frechet_terms
from frechet.distances.gaussian import Normal
from frechet.distances.interval import Interval, Side, interval, why_none
from frechet.distances.leave_one_out import Changes, changes_without
from frechet.errors import RequestError, StatisticsError
from frechet.metrics.base import Done, Metric, Outcome, Sides
from frechet.statistics.feature_statistics import Statistics

THIN = 100  # rows, of a sample, that tell less of the features than a Gaussian's formulas do


def _as_it_is(array: np.ndarray) -> np.ndarray:
    return array


def frechet_of(sides: Sides) -> Outcome:
    """The Fréchet distance of both sides, in float64; on a CUDA device where one is named."""

    def compute() -> Terms:
        place = placed_on(sides.device) if sides.device.startswith("cuda") else _as_it_is
        generated, reference = sides.pair
        sides.once("covariances", lambda: _require_covariances(generated, reference))
        return frechet_terms(normal_of(generated, place), normal_of(reference, place))

    return _told(sides.once("frechet", compute))


def of_pairs(sides: Sides) -> Outcome:
    """The Fréchet distance between images and their reconstructions.

    Raises:
        RequestError: there are not as many of one as of the other.
    """
    generated, reference = sides.pair
    if generated.n != reference.n:
        raise RequestError(
            f"rfid compares images with their reconstructions: got {generated.n} and {reference.n}; expected as many of each"
        )
    return frechet_of(sides)


def infinity_of(sides: Sides) -> Outcome:
    """FID∞ of sides of which at least the generated one kept every image's features.

    Raises:
        RequestError: it did not.
    """
    generated, reference = sides.pair
    require_all_features(generated)
    sides.once("covariances", lambda: _require_covariances(generated, reference))
    other = reference.features if reference.features is not None else normal_of(reference)
    return _told(frechet_infinity(generated.features, other, seed=generated.seed))


def _told(terms: Terms) -> Outcome:
    return Outcome(value=float(terms.total), terms={name: float(value) for name, value in terms._asdict().items()})


def require_all_features(side: Statistics) -> None:
    """Raises: RequestError: the side did not keep the features of every image."""
    if side.features is None:
        raise RequestError(
            f"{side.source} holds statistics without the features of every image, which an image's influence and FID∞ need: "
            "give the images themselves as the generated side"
        )


def frechet_interval(generated: Statistics, reference: Statistics, seed: int, done: Done) -> Interval | str:
    """The bias-corrected distance with its 95 % interval, or the reason why there is none."""
    sides = _sampled(generated), _sampled(reference)
    return why_none(*sides) or interval(*sides, seed=seed, done=done)


def frechet_changes(generated: Statistics, reference: Statistics) -> Changes:
    """What the distance changes by without each generated image, in order of place; all their features were kept."""
    assert generated.features is not None
    return changes_without(generated.features, normal_of(generated), normal_of(reference))


def _sampled(side: Statistics) -> Side:
    thin = side.rows is not None and side.features is None and len(side.rows) < THIN
    return Side(normal_of(side), side.n, None if thin else side.rows)


def normal_of(side: Statistics, place: Callable[[np.ndarray], Any] = _as_it_is) -> Normal:
    """The Gaussian of a side: of all rows where they are at hand and fewer than d, else of the moments."""
    if _has_few(side):
        assert side.features is not None
        return Normal.of_features(place(side.features.astype(np.float64)))
    return Normal(place(side.mean), covariance=place(side.covariance), resolution=side.resolution)


def _require_covariances(generated: Statistics, reference: Statistics) -> None:
    """Refuse a stored matrix that is no covariance where the other side has too few images to show it.

    Raises:
        StatisticsError: it has negative eigenvalues, and of what.
    """
    for few, stored in ((generated, reference), (reference, generated)):
        if _has_few(few) and not _has_few(stored):
            try:
                normal_of(stored).require_covariance()
            except StatisticsError as error:
                raise StatisticsError(f"{stored.source}: {error}") from None


def _has_few(side: Statistics) -> bool:
    """Whether every image's features are at hand, and there are no more of them than dimensions."""
    return side.features is not None and len(side.features) <= side.dims


def placed_on(device: str) -> Callable[[np.ndarray], Any]:
    """What makes a torch tensor on that device of an array."""
    import torch

    return lambda array: torch.from_numpy(np.ascontiguousarray(array)).to(device)


FID = Metric(
    title="FID",
    summary="Fréchet distance of Inception features",
    paper="Heusel et al. 2017, arXiv:1706.08500",
    lower_is_better=True,
    compute=frechet_of,
    interval=frechet_interval,
    inception=True,
    all_features=(),
)
INFINITY = replace(
    FID,
    title="FID∞",
    summary="Fréchet distance of Inception features, extrapolated to endlessly many images",
    paper="Chong & Forsyth 2020, arXiv:1911.07023",
    compute=infinity_of,
    interval=None,
    no_interval="FID∞ has none: its line is fitted to subsets that share images",
    all_features=("generated",),
)

ROWS = {
    "fid": FID,
    "fid-infinity": INFINITY,
    "fd": replace(FID, title="FD", summary="Fréchet distance of another extractor's features", inception=False),
    "fd-infinity": replace(INFINITY, title="FD∞", summary="the same of another extractor's features", inception=False),
    "fd-dinov2": replace(
        FID,
        title="FD-DINOv2",
        summary="Fréchet distance of DINOv2's features",
        paper="Stein et al. 2023, arXiv:2306.04675",
        inception=False,
        extractor="dinov2-vitl14",
    ),
    "fd-clip": replace(
        FID,
        title="FD-CLIP",
        summary="Fréchet distance of CLIP's embeddings",
        paper="Kynkäänniemi et al. 2023, arXiv:2203.06026",
        inception=False,
        extractor="clip-vit-b-32",
    ),
    "sfid": replace(
        FID,
        title="sFID",
        summary="Fréchet distance of ADM's spatial Inception features",
        paper="Nash et al. 2021, arXiv:2103.03841; the tap is that of Dhariwal & Nichol 2021",
        layer="spatial",
    ),
    "rfid": replace(
        FID,
        title="rFID",
        summary="FID between images and as many reconstructions of them",
        compute=of_pairs,
    ),
}
