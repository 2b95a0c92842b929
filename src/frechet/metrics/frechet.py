"""Rows of the table that are Fréchet distances between Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from frechet.distances.extrapolation import frechet_infinity
from frechet.distances.frechet import FrechetTerms, frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.distances.interval import Interval, IntervalInput, confidence_interval, explain_unavailable_interval
from frechet.distances.leave_one_out import LeaveOneOutChanges, leave_one_out_changes
from frechet.errors import RequestError, StatisticsError
from frechet.metrics.base import Metric, MetricInputs, MetricResult, StepCallback
from frechet.statistics.feature_statistics import FeatureStatistics

MIN_SAMPLE_ROWS = 100  # rows, of a sample, that tell less of the features than a Gaussian's formulas do


def _identity(array: np.ndarray) -> np.ndarray:
    return array


def compute_frechet(inputs: MetricInputs) -> MetricResult:
    """The Fréchet distance of both sides, in float64; on a CUDA device where one is named."""

    def compute() -> FrechetTerms:
        convert = make_tensor_converter(inputs.device) if inputs.device.startswith("cuda") else _identity
        generated, reference = inputs.pair
        inputs.get_or_compute("covariances", lambda: _require_covariances(generated, reference))
        return frechet_terms(fit_gaussian(generated, convert), fit_gaussian(reference, convert))

    return _to_result(inputs.get_or_compute("frechet", compute))


def compute_rfid(inputs: MetricInputs) -> MetricResult:
    """The Fréchet distance between images and their reconstructions.

    Raises:
        RequestError: there are not as many of one as of the other.
    """
    generated, reference = inputs.pair
    if generated.n != reference.n:
        raise RequestError(
            f"rfid compares images with their reconstructions: got {generated.n} and {reference.n}; expected as many of each"
        )
    return compute_frechet(inputs)


def compute_frechet_infinity(inputs: MetricInputs) -> MetricResult:
    """FID∞ of sides of which at least the generated one kept every image's features.

    Raises:
        RequestError: it did not.
    """
    generated, reference = inputs.pair
    require_all_features(generated)
    inputs.get_or_compute("covariances", lambda: _require_covariances(generated, reference))
    other = reference.features if reference.features is not None else fit_gaussian(reference)
    return _to_result(frechet_infinity(generated.features, other, seed=generated.seed))


def _to_result(terms: FrechetTerms) -> MetricResult:
    return MetricResult(value=float(terms.total), terms={name: float(value) for name, value in terms._asdict().items()})


def require_all_features(statistics: FeatureStatistics) -> None:
    """Raises: RequestError: the side did not keep the features of every image."""
    if statistics.features is None:
        raise RequestError(
            f"{statistics.label} holds statistics without the features of every image, which an image's influence and FID∞ need: "
            "give the images themselves as the generated side"
        )


def compute_frechet_interval(
    generated: FeatureStatistics, reference: FeatureStatistics, seed: int, on_step: StepCallback
) -> Interval | str:
    """The bias-corrected distance with its 95 % interval, or the reason why there is none."""
    inputs = _to_interval_input(generated), _to_interval_input(reference)
    return explain_unavailable_interval(*inputs) or confidence_interval(*inputs, seed=seed, on_step=on_step)


def compute_leave_one_out_changes(generated: FeatureStatistics, reference: FeatureStatistics) -> LeaveOneOutChanges:
    """What the distance changes by without each generated image, in order of place; all their features were kept."""
    assert generated.features is not None
    return leave_one_out_changes(generated.features, fit_gaussian(generated), fit_gaussian(reference))


def _to_interval_input(statistics: FeatureStatistics) -> IntervalInput:
    too_few_rows = (
        statistics.rows is not None and statistics.features is None and len(statistics.rows) < MIN_SAMPLE_ROWS
    )
    return IntervalInput(fit_gaussian(statistics), statistics.n, None if too_few_rows else statistics.rows)


def fit_gaussian(statistics: FeatureStatistics, convert: Callable[[np.ndarray], Any] = _identity) -> Gaussian:
    """The Gaussian of a side: of all rows where they are at hand and fewer than d, else of the moments."""
    if _has_fewer_images_than_dims(statistics):
        assert statistics.features is not None
        return Gaussian.from_features(convert(statistics.features.astype(np.float64)))
    return Gaussian(
        convert(statistics.mean), covariance=convert(statistics.covariance), covariance_eps=statistics.covariance_eps
    )


def _require_covariances(generated: FeatureStatistics, reference: FeatureStatistics) -> None:
    """Refuse a stored matrix that is no covariance where the other side has too few images to show it.

    Raises:
        StatisticsError: it has negative eigenvalues, and of what.
    """
    for few, stored in ((generated, reference), (reference, generated)):
        if _has_fewer_images_than_dims(few) and not _has_fewer_images_than_dims(stored):
            try:
                fit_gaussian(stored).require_valid_covariance()
            except StatisticsError as error:
                raise StatisticsError(f"{stored.label}: {error}") from None


def _has_fewer_images_than_dims(statistics: FeatureStatistics) -> bool:
    """Whether every image's features are at hand, and there are no more of them than dimensions."""
    return statistics.features is not None and len(statistics.features) <= statistics.dims


def make_tensor_converter(device: str) -> Callable[[np.ndarray], Any]:
    """What makes a torch tensor on that device of an array."""
    import torch

    return lambda array: torch.from_numpy(np.ascontiguousarray(array)).to(device)


FID = Metric(
    title="FID",
    summary="Fréchet distance of Inception features",
    paper="Heusel et al. 2017, arXiv:1706.08500",
    lower_is_better=True,
    compute=compute_frechet,
    interval=compute_frechet_interval,
    requires_inception=True,
    full_feature_inputs=(),
)
FID_INFINITY = replace(
    FID,
    title="FID∞",
    summary="Fréchet distance of Inception features, extrapolated to endlessly many images",
    paper="Chong & Forsyth 2020, arXiv:1911.07023",
    compute=compute_frechet_infinity,
    interval=None,
    interval_unavailable_reason="FID∞ has none: its line is fitted to subsets that share images",
    full_feature_inputs=("generated",),
)

ROWS = {
    "fid": FID,
    "fid-infinity": FID_INFINITY,
    "fd": replace(
        FID, title="FD", summary="Fréchet distance of another extractor's features", requires_inception=False
    ),
    "fd-infinity": replace(
        FID_INFINITY, title="FD∞", summary="the same of another extractor's features", requires_inception=False
    ),
    "fd-dinov2": replace(
        FID,
        title="FD-DINOv2",
        summary="Fréchet distance of DINOv2's features",
        paper="Stein et al. 2023, arXiv:2306.04675",
        requires_inception=False,
        extractor="dinov2-vitl14",
    ),
    "fd-clip": replace(
        FID,
        title="FD-CLIP",
        summary="Fréchet distance of CLIP's embeddings",
        paper="Kynkäänniemi et al. 2023, arXiv:2203.06026",
        requires_inception=False,
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
        compute=compute_rfid,
    ),
}
