"""Rows of the table that are Fréchet distances between Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from frechet.distances.extrapolation import frechet_infinity
from frechet.distances.frechet import FrechetTerms, frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.distances.interval import (
    DistanceEstimate,
    Interval,
    confidence_interval,
    estimate_distance,
    explain_too_few_images,
    explain_unavailable_interval,
)
from frechet.distances.interval_input import IntervalInput
from frechet.distances.leave_one_out import LeaveOneOutChanges, leave_one_out_changes
from frechet.errors import RequestError, StatisticsError
from frechet.metrics.base import Metric, MetricInputs, MetricResult, StepCallback
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.group_moments import assign_groups, fits_float32
from frechet.statistics.strata import get_strata


def _identity(array: np.ndarray) -> np.ndarray:
    return array


def compute_frechet(inputs: MetricInputs) -> MetricResult:
    """Compute the Fréchet distance in float64, on the device if it is a CUDA device."""

    def compute() -> FrechetTerms:
        convert = make_tensor_converter(inputs.device) if inputs.device.startswith("cuda") else _identity
        generated, reference = inputs.pair
        inputs.get_or_compute("covariances", lambda: _require_covariances(generated, reference))
        return frechet_terms(fit_gaussian(generated, convert), fit_gaussian(reference, convert))

    return _to_result(inputs.get_or_compute("frechet", compute))


def compute_rfid(inputs: MetricInputs) -> MetricResult:
    """Compute the Fréchet distance between images and their reconstructions.

    Raises:
        RequestError: the numbers of images and reconstructions differ.
    """
    generated, reference = inputs.pair
    for each in (generated, reference):
        if each.n is None:
            raise RequestError(
                f"rfid compares images with their reconstructions, but {each.label} does not record its number of images; "
                "pass the images, or their number (--reference-size, reference_size=)"
            )
    if generated.n != reference.n:
        raise RequestError(
            f"rfid compares images with their reconstructions: got {generated.n} and {reference.n} images; expected equal numbers"
        )
    return compute_frechet(inputs)


def compute_frechet_infinity(inputs: MetricInputs) -> MetricResult:
    """Compute FID∞, for which the features of every generated image are needed.

    Raises:
        RequestError: the statistics of the generated images do not contain the features of every image.
    """
    generated, reference = inputs.pair
    require_all_features(generated)
    assert generated.features is not None
    inputs.get_or_compute("covariances", lambda: _require_covariances(generated, reference))
    other = reference.features if reference.features is not None else fit_gaussian(reference)
    return _to_result(frechet_infinity(generated.features, other, seed=inputs.seed))


def _to_result(terms: FrechetTerms) -> MetricResult:
    return MetricResult(value=float(terms.total), terms={name: float(value) for name, value in terms._asdict().items()})


def require_all_features(statistics: FeatureStatistics) -> None:
    """Require the features of every image.

    Raises:
        RequestError: the statistics do not contain them.
    """
    if statistics.features is None:
        raise RequestError(
            f"{statistics.label} contains statistics without the features of every image, which the influence of images and FID∞ need: "
            "pass the images themselves as the generated input"
        )


def compute_frechet_interval(
    generated: FeatureStatistics, reference: FeatureStatistics, reference_is: str, on_step: StepCallback
) -> Interval | str:
    """Compute the bias-corrected distance with its 95 % confidence interval, or return the reason why there is none.

    Args:
        generated, reference: statistics of both inputs.
        reference_is: "sample" for the distance to the distribution that the reference was sampled from, "fixed" for the
            distance to the reference as it is.
        on_step: called with (steps done, total steps).

    Raises:
        RequestError: both inputs consist of pairs, but not of the same ones.
    """
    inputs = _to_interval_inputs(generated, reference, reference_is)
    if isinstance(inputs, str):
        return inputs
    if _are_identical(generated, reference):
        return "both inputs have the same features; a confidence interval requires two different samples"
    paired = inputs[1].groups is not None and (generated.grouped_by, reference.grouped_by) == ("pair", "pair")
    if paired:
        _require_same_pairs(generated, reference)
    return explain_unavailable_interval(*inputs) or confidence_interval(*inputs, paired=paired, on_step=on_step)


def estimate_frechet(
    generated: FeatureStatistics, reference: FeatureStatistics, reference_is: str
) -> DistanceEstimate | str:
    """Estimate the distance of a sample that is independent of the reference, or return the reason why it is impossible.

    Args:
        generated, reference, reference_is: as in `compute_frechet_interval`.
    """
    inputs = _to_interval_inputs(generated, reference, reference_is)
    if isinstance(inputs, str):
        return inputs
    return explain_unavailable_interval(*inputs) or estimate_distance(*inputs)


def _are_identical(one: FeatureStatistics, other: FeatureStatistics) -> bool:
    return np.array_equal(one.mean, other.mean) and np.array_equal(one.covariance, other.covariance)


def _to_interval_inputs(
    generated: FeatureStatistics, reference: FeatureStatistics, reference_is: str
) -> tuple[IntervalInput, IntervalInput] | str:
    """Return both inputs, or the reason why the sampling error of the reference is unknown."""
    p, q = _to_interval_input(generated), _to_interval_input(reference)
    sampled = [("generated", generated), *([("reference", reference)] if reference_is != "fixed" else [])]
    for name, each in sampled:
        if each.n is not None and not fits_float32(each.n * float(np.abs(each.covariance).max())):
            return (
                f"the variances of the {name} features are up to {np.abs(each.covariance).max():.3g}, which is outside the range "
                "of an interval; multiply the features of both inputs by the same constant"
            )
    if reference_is == "fixed":
        return p, q.fix()
    if q.groups is None:
        return explain_too_few_images({"generated": p, "reference": q}) or (
            "the reference statistics contain neither the features of every image nor moments of groups of images, so the "
            "sampling error of the reference is unknown; pass its images, write its statistics again with frechet stats, or "
            "accept this reference as it is (--reference-is fixed, reference_is=)"
        )
    return p, q


def compute_rfid_interval(
    generated: FeatureStatistics, reference: FeatureStatistics, reference_is: str, on_step: StepCallback
) -> Interval | str:
    """Compute the interval of rFID, whose images always are pairs (see `compute_frechet_interval`)."""
    if (generated.grouped_by, reference.grouped_by) != ("pair", "pair"):
        return "pairs are required; pass images or features as both inputs, with --design auto or paired (design=)"
    return compute_frechet_interval(generated, reference, reference_is, on_step)


def _require_same_pairs(generated: FeatureStatistics, reference: FeatureStatistics) -> None:
    """Require as many images on both sides, with the same ones of them in each group and in the sample of rows.

    Raises:
        RequestError: the numbers of images, the seeds, or the images that were skipped differ.
    """
    if generated.seed != reference.seed:
        raise RequestError(
            f"paired images require the same seed; got {generated.seed} for the generated and {reference.seed} for the reference images. "
            "Pass both as images or features."
        )
    if generated.n != reference.n or not np.array_equal(generated.indices, reference.indices):  # type: ignore[arg-type]
        raise RequestError(
            f"paired images require both images of each pair; got {generated.n:,} generated and {reference.n:,} reference images that do not "
            "form pairs, for example because some were skipped in one input only. Remove their partners, or pass --design independent "
            "(design=)."
        )


def get_reference_kind(reference: FeatureStatistics) -> str:
    """Return what a reference is unless the caller says it: "sample" if its sampling error can be known, else "fixed"."""
    return "sample" if reference.group_moments is not None else "fixed"


def compute_leave_one_out_changes(generated: FeatureStatistics, reference: FeatureStatistics) -> LeaveOneOutChanges:
    """Compute by how much the distance changes if each generated image is left out.

    Args:
        generated: statistics with the features of every image.
        reference: statistics of the reference images.

    Returns:
        The changes in the order of the stored features.
    """
    assert generated.features is not None
    return leave_one_out_changes(generated.features, fit_gaussian(generated), fit_gaussian(reference))


def _to_interval_input(statistics: FeatureStatistics) -> IntervalInput:
    kind, units, indices = statistics.grouped_by, statistics.units, statistics.indices
    return IntervalInput(
        Gaussian(statistics.mean, covariance=statistics.covariance, covariance_eps=statistics.covariance_eps),
        statistics.n,
        statistics.group_moments,
        statistics.n_units,
        statistics.unit_skewness,
        statistics.rows,
        units if kind in ("image", "cluster") else None,
        assign_groups(indices, statistics.seed) if kind == "pair" and indices is not None else None,
        get_strata(units) if kind == "stratum" and units is not None else None,
    )


def fit_gaussian(statistics: FeatureStatistics, convert: Callable[[np.ndarray], Any] = _identity) -> Gaussian:
    """Fit a Gaussian: from the features of all images if they are kept and n <= d, otherwise from the moments.

    Args:
        statistics: statistics of n images with d features.
        convert: converts NumPy arrays to those that the distance is computed with.
    """
    if _has_fewer_images_than_dims(statistics):
        assert statistics.features is not None
        return Gaussian.from_features(convert(statistics.features.astype(np.float64)))
    return Gaussian(
        convert(statistics.mean), covariance=convert(statistics.covariance), covariance_eps=statistics.covariance_eps
    )


def _require_covariances(generated: FeatureStatistics, reference: FeatureStatistics) -> None:
    """Check a stored covariance that is compared with n <= d images, whose distance does not depend on all of it.

    Raises:
        StatisticsError: the matrix has negative eigenvalues; the message names the statistics.
    """
    for few, stored in ((generated, reference), (reference, generated)):
        if _has_fewer_images_than_dims(few) and not _has_fewer_images_than_dims(stored):
            try:
                fit_gaussian(stored).require_valid_covariance()
            except StatisticsError as error:
                raise StatisticsError(f"{stored.label}: {error}") from None


def _has_fewer_images_than_dims(statistics: FeatureStatistics) -> bool:
    """Return whether the features of every image are kept and n <= d."""
    return statistics.features is not None and len(statistics.features) <= statistics.dims


def make_tensor_converter(device: str) -> Callable[[np.ndarray], Any]:
    """Return a function that converts a NumPy array to a PyTorch tensor on the device."""
    import torch

    return lambda array: torch.from_numpy(np.ascontiguousarray(array)).to(device)


FID = Metric(
    title="FID",
    summary="Fréchet distance of Inception features",
    paper="Heusel et al. 2017, arXiv:1706.08500",
    lower_is_better=True,
    compute=compute_frechet,
    interval=compute_frechet_interval,
    images="> d (50,000)",
    requires_inception=True,
    full_feature_inputs=(),
)
FID_INFINITY = replace(
    FID,
    title="FID∞",
    summary="Fréchet distance of Inception features, extrapolated to an infinite number of images",
    paper="Chong & Forsyth 2020, arXiv:1911.07023",
    compute=compute_frechet_infinity,
    interval=None,
    interval_unavailable_reason="the line of FID∞ is fitted to subsets that share images",
    images="> 4 d (50,000)",
    full_feature_inputs=("generated",),
)


_FDR6 = "Yang et al. 2026, arXiv:2604.28190"
_ENCODERS = {  # name -> title, encoder in the summary, paper, extractor
    "fd-dinov2": ("FD-DINOv2", "DINOv2's features", "Stein et al. 2023, arXiv:2306.04675", "dinov2-vitl14"),
    "fd-clip": ("FD-CLIP", "CLIP's embeddings", "Kynkäänniemi et al. 2023, arXiv:2203.06026", "clip-vit-b-32"),
    "fd-convnextv2": ("FD-ConvNeXtV2", "ConvNeXt V2's features", _FDR6, "convnextv2-b"),
    "fd-dinov2-256": ("FD-DINOv2-256", "DINOv2's features of 256 x 256 pixels", _FDR6, "dinov2-vitl14-256"),
    "fd-mae": ("FD-MAE", "MAE's features", _FDR6, "mae-vit-l-16-timm"),
    "fd-siglip2": ("FD-SigLIP2", "SigLIP 2's features", _FDR6, "siglip2-so400m-16"),
    "fd-clip-256": ("FD-CLIP-256", "CLIP's features of 256 x 256 pixels", _FDR6, "clip-vit-l-14-256"),
}


def _encoder_row(title: str, features: str, paper: str, extractor: str) -> Metric:
    summary = f"Fréchet distance of {features}"
    return replace(FID, title=title, summary=summary, paper=paper, requires_inception=False, extractor=extractor)


ROWS = {
    "fid": FID,
    "fid-infinity": FID_INFINITY,
    "fd": replace(
        FID, title="FD", summary="Fréchet distance of another extractor's features", requires_inception=False
    ),
    "fd-infinity": replace(
        FID_INFINITY,
        title="FD∞",
        summary="Fréchet distance of another extractor's features, extrapolated to an infinite number of images",
        requires_inception=False,
    ),
    **{name: _encoder_row(*row) for name, row in _ENCODERS.items()},
    "sfid": replace(
        FID,
        title="sFID",
        summary="Fréchet distance of ADM's spatial Inception features",
        paper="Nash et al. 2021, arXiv:2103.03841; layer as in Dhariwal & Nichol 2021",
        layer="spatial",
    ),
    "rfid": replace(
        FID,
        title="rFID",
        summary="FID between images and their reconstructions",
        compute=compute_rfid,
        interval=compute_rfid_interval,
    ),
}
