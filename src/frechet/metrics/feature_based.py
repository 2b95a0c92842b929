"""Rows of the table that need the features of every image: kernels, neighbours, memorisation, diversity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from frechet.distances import kernel, memorisation, sliced_wasserstein
from frechet.distances.frechet import DEFAULT_TOLERANCE
from frechet.distances.inception_score import normalize_rows, vendi_score
from frechet.distances.prdc import Membership, Neighbourhood, authenticity, compute_prdc
from frechet.distances.prdc_jackknife import MIN_COUNT, JackknifeVariance
from frechet.errors import RequestError
from frechet.metrics.base import Metric, MetricInputs, MetricResult, get_all_features
from frechet.metrics.frechet import compute_frechet


def compute_kid(
    inputs: MetricInputs,
    *,
    subsets: int | None,
    subset_size: int | None,
    seed: int | None,
    reference_first: bool = False,
) -> MetricResult:
    """Compute KID over all images, or over random subsets if `subsets` is given."""
    x, y = inputs.features
    if subsets is None:
        estimate = kernel.kid(x, y)
    else:
        assert subset_size is not None
        subset_seed = inputs.seed if seed is None else seed
        estimate = kernel.kid_over_subsets(
            x, y, subsets=subsets, subset_size=subset_size, seed=subset_seed, reference_first=reference_first
        )
    return MetricResult(value=estimate.value, standard_error=estimate.standard_error, std=estimate.std)


def compute_cmmd(inputs: MetricInputs, *, sigma: float) -> MetricResult:
    """Compute 1000 times the squared Gaussian-kernel MMD of L2-normalised features."""
    return MetricResult(
        value=1000 * kernel.gaussian_mmd(*(normalize_rows(features) for features in inputs.features), sigma=sigma)
    )


def compute_precision(inputs: MetricInputs, *, k: int, closed: bool) -> MetricResult:
    """Compute the fraction of generated images within a neighbourhood of a reference image."""
    membership = _get_membership(inputs, k, closed)
    return _make_membership_result(membership.precision, membership.precision_variance)


def compute_recall(inputs: MetricInputs, *, k: int, closed: bool) -> MetricResult:
    """Compute the fraction of reference images within a neighbourhood of a generated image."""
    membership = _get_membership(inputs, k, closed)
    return _make_membership_result(membership.recall, membership.recall_variance)


def compute_density(inputs: MetricInputs, *, k: int, closed: bool) -> MetricResult:
    """Compute the mean number of reference neighbourhoods that contain a generated image, divided by k."""
    membership = _get_membership(inputs, k, closed)
    return _make_membership_result(membership.density, membership.density_variance)


def compute_coverage(inputs: MetricInputs, *, k: int, closed: bool) -> MetricResult:
    """Compute the fraction of reference neighbourhoods that contain a generated image."""
    membership = _get_membership(inputs, k, closed)
    return _make_membership_result(membership.coverage, membership.coverage_variance)


def _make_membership_result(value: float, variance: JackknifeVariance | None) -> MetricResult:
    reason = _TOO_FEW_INSIDE_OR_OUTSIDE if variance is None else None
    return MetricResult(value=value, sampling_variance=variance, interval_unavailable_reason=reason)


def _get_membership(inputs: MetricInputs, k: int, closed: bool) -> Membership:
    """Compute which images are in which neighbourhoods, in one pass for all metrics of the run that have enough images."""
    x, y = inputs.features
    neighbourhood = Neighbourhood(k, closed)
    requested = {
        Neighbourhood(settings["k"], settings["closed"]) for settings in inputs.settings if "closed" in settings
    }
    common = tuple(sorted((each for each in requested if each.k < min(len(x), len(y))), key=str))
    neighbourhoods = common if neighbourhood in common else (neighbourhood,)
    return inputs.get_or_compute(neighbourhoods, lambda: compute_prdc(x, y, neighbourhoods)).memberships[neighbourhood]


def compute_realism(inputs: MetricInputs, *, k: int) -> MetricResult:
    """Compute the median realism of the generated images; the realism of a copy of a reference image is infinite.

    Raises:
        RequestError: the median is infinite, because at least half of the generated images are copies.
    """
    realism = compute_prdc(*inputs.features, (), realism_k=k).realism
    assert realism is not None
    median = float(np.median(realism))
    if np.isinf(median):
        raise RequestError(
            f"{100 * np.isinf(realism).mean():.0f} % of the generated images are copies of reference images, whose realism is "
            "infinite; remove the copies"
        )
    return MetricResult(value=median, terms={"fraction_above_1": float((realism > 1).mean())})


def compute_mifid(inputs: MetricInputs, *, threshold: float, from_reference: bool) -> MetricResult:
    """Compute the Fréchet distance, divided by the mean cosine distance to the nearest image if that is below a threshold."""
    distance = compute_frechet(inputs).value
    total_variance = sum(float(np.trace(each.covariance)) for each in (inputs.generated, inputs.reference) if each)
    if distance <= DEFAULT_TOLERANCE * total_variance:  # a rounding error, which must not be divided by another one
        distance = 0.0
    x, y = inputs.features
    cosine_distance = (
        memorisation.nearest_cosine_distance(y, x) if from_reference else memorisation.nearest_cosine_distance(x, y)
    )
    value = memorisation.penalise_distance(distance, cosine_distance, threshold=threshold)
    return MetricResult(value=value, terms={"distance": distance, "nearest_cosine_distance": cosine_distance})


def compute_vendi_score(inputs: MetricInputs) -> MetricResult:
    """Compute the effective number of distinct generated images."""
    return MetricResult(value=vendi_score(get_all_features(inputs.generated)))


def compute_authpct(inputs: MetricInputs) -> MetricResult:
    """Compute the percentage of generated images that are not copies of reference images."""
    return MetricResult(value=authenticity(*inputs.features))


def compute_ct(inputs: MetricInputs) -> MetricResult:
    """Compute C_T, which compares the distances of generated and held-out images to the reference (training) images."""
    x, y = inputs.features
    return MetricResult(value=memorisation.data_copying_score(y, _get_held_out_features(inputs), x, seed=inputs.seed))


def compute_fls(inputs: MetricInputs, *, max_images: int) -> MetricResult:
    """Compute FLS; one half of the reference images is the baseline, which would score 100."""
    x, y = inputs.features
    held_out = _get_held_out_features(inputs)
    random = np.random.default_rng(inputs.seed)
    subset_size = min(max_images, len(y) // 2, len(held_out), len(x))
    halves = y[random.permutation(len(y))[: 2 * subset_size]]
    subsets = (features[random.permutation(len(features))[:subset_size]] for features in (held_out, x))
    return MetricResult(
        value=memorisation.feature_likelihood_score(halves[:subset_size], halves[subset_size:], *subsets)
    )


def _get_held_out_features(inputs: MetricInputs) -> np.ndarray:
    assert inputs.held_out is not None  # ensured when the run is planned
    return get_all_features(inputs.held_out)


def compute_mind(inputs: MetricInputs, *, directions: int, torch_seed: int | None = None) -> MetricResult:
    """Compute MIND along random directions, for equal numbers of images: those of the smaller input.

    Args:
        inputs: statistics with the features of every image.
        directions: number of random directions.
        torch_seed: seed of PyTorch's generator, which torch-fidelity draws from; None uses NumPy and the seed of the run.

    Raises:
        RequestError: `torch_seed` is given, and PyTorch is not installed.
    """
    x, y = inputs.features
    n, d = min(len(x), len(y)), x.shape[1]
    if torch_seed is None:
        random = np.random.default_rng(inputs.seed)
        x, y = (
            features if len(features) == n else features[random.permutation(len(features))[:n]] for features in (x, y)
        )
        unit_directions = sliced_wasserstein.sample_unit_directions(directions, d, random)
        return MetricResult(value=sliced_wasserstein.monge_distance(x, y, unit_directions))
    try:
        import torch
    except ImportError:
        raise RequestError(
            "mind@torch-fidelity draws directions with PyTorch, which is not installed; run pip install 'frechet[torch]', or "
            "use mind"
        ) from None
    generator = torch.Generator().manual_seed(torch_seed)
    x, y = (
        features if len(features) == n else features[torch.randperm(len(features), generator=generator)[:n].numpy()]
        for features in (x, y)
    )
    lines = torch.randn(directions, d, generator=generator)
    return MetricResult(
        value=sliced_wasserstein.monge_distance(x, y, (lines / lines.norm(dim=1, keepdim=True)).numpy())
    )


_KYNKAANNIEMI = {"k": 3, "closed": True}
_PRDC = {"k": 5, "closed": False}
_TOO_FEW_INSIDE_OR_OUTSIDE = (
    f"fewer than {MIN_COUNT} images are inside the neighbourhoods, or fewer than {MIN_COUNT} are outside"
)

PRECISION = Metric(
    title="Precision",
    summary="fraction of generated images within the reference images' neighbourhoods",
    paper="Kynkäänniemi et al. 2019, arXiv:1904.06991",
    lower_is_better=False,
    compute=compute_precision,
    settings=_KYNKAANNIEMI,
    presets={"prdc": _PRDC, "torch-fidelity": {}, "adm": {}},
    measures="fidelity",
    images="4 (50,000)",
)
DENSITY = Metric(
    title="Density",
    summary="mean number of reference neighbourhoods that contain a generated image, divided by k",
    paper="Naeem et al. 2020, arXiv:2002.09797",
    lower_is_better=False,
    compute=compute_density,
    settings=_PRDC,
    presets={"prdc": {}},
    measures="fidelity",
    images="6 (10,000)",
)

MMD = Metric(
    title="MMD",
    summary="1000 times the squared Gaussian-kernel MMD of L2-normalised features",
    paper="Jayasumana et al. 2024, arXiv:2401.09603",
    lower_is_better=True,
    compute=compute_cmmd,
    settings={"sigma": 10.0},
)

ROWS = {
    "kid": Metric(
        title="KID",
        summary="unbiased estimate of the squared polynomial-kernel MMD, with its standard error",
        paper="Bińkowski et al. 2018, arXiv:1801.01401",
        lower_is_better=True,
        compute=compute_kid,
        images="3",
        settings={"subsets": None, "subset_size": None, "seed": None},
        presets={
            "torch-fidelity": {"subsets": 100, "subset_size": 1000, "seed": 2020},
            "clean-fid": {"subsets": 100, "subset_size": 1000, "reference_first": True},
        },
    ),
    "precision": PRECISION,
    "recall": replace(
        PRECISION,
        title="Recall",
        summary="fraction of reference images within the generated images' neighbourhoods",
        compute=compute_recall,
        measures="diversity",
    ),
    "density": DENSITY,
    "coverage": replace(
        DENSITY,
        title="Coverage",
        summary="fraction of reference images whose neighbourhood contains a generated image",
        compute=compute_coverage,
        measures="diversity",
    ),
    "realism": Metric(
        title="Realism",
        summary="median realism of generated images: radius of the best reference neighbourhood ÷ distance to it",
        paper="Kynkäänniemi et al. 2019, arXiv:1904.06991",
        lower_is_better=False,
        compute=compute_realism,
        settings={"k": 3},
        presets={"dgm-eval": {"k": 5}},
        measures="fidelity",
        images="4",
    ),
    "mifid": Metric(
        title="MiFID",
        summary="FID with a penalty if generated images copy reference images",
        paper="Bai et al. 2021, arXiv:2106.03062",
        lower_is_better=True,
        compute=compute_mifid,
        settings={"threshold": 0.1, "from_reference": False},
        presets={"torchmetrics": {"from_reference": True}},
        measures="memorisation",
        images="> d",
    ),
    "mmd": MMD,
    "cmmd": replace(
        MMD,
        title="CMMD",
        summary="1000 times the squared Gaussian-kernel MMD of L2-normalised CLIP embeddings",
        extractor="clip-vit-l-14-336",
    ),
    "vendi": Metric(
        title="Vendi score",
        summary="effective number of distinct images",
        paper="Friedman & Dieng 2023, arXiv:2210.02410",
        lower_is_better=False,
        compute=compute_vendi_score,
        measures="diversity",
        uses_reference=False,
    ),
    "authpct": Metric(
        title="AuthPct",
        summary="percentage of generated images that are not copies of reference images",
        paper="Alaa et al. 2022, arXiv:2102.08921",
        lower_is_better=False,
        compute=compute_authpct,
        measures="memorisation",
    ),
    "ct": Metric(
        title="C_T",
        summary="far below 0 if generated images are nearer to the reference images than held-out images are",
        paper="Meehan et al. 2020, arXiv:2004.05675",
        lower_is_better=None,
        compute=compute_ct,
        measures="memorisation",
        images="> 20 per cluster",
        uses_held_out=True,
        full_feature_inputs=("generated", "reference", "held-out"),
    ),
    "fls": Metric(
        title="FLS",
        summary="likelihood of held-out images under Gaussians around the generated images; 100 for real images",
        paper="Jiralerspong et al. 2023, arXiv:2302.04440",
        lower_is_better=False,
        compute=compute_fls,
        settings={"max_images": 2000},
        presets={"dgm-eval": {"max_images": 10_000}},
        measures="memorisation",
        images="2 (10,000)",
        uses_held_out=True,
        full_feature_inputs=("generated", "reference", "held-out"),
    ),
    "mind": Metric(
        title="MIND",
        summary="3 d times the squared sliced Wasserstein distance along random directions",
        paper="Berthet et al. 2026, arXiv:2605.06797",
        lower_is_better=True,
        compute=compute_mind,
        settings={"directions": 1000},
        presets={"torch-fidelity": {"torch_seed": 2020}},
    ),
}
