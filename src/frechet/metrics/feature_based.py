"""Rows of the table that need every image's features: kernels, neighbours, memorisation, diversity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from frechet.distances import kernel, memorisation, sliced_wasserstein
from frechet.distances.inception_score import normalize_rows, vendi_score
from frechet.distances.prdc import Membership, Neighbourhood, authenticity, compute_prdc
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
    """KID of all images, or of random subsets where `subsets` says how many."""
    x, y = inputs.features
    if subsets is None:
        found = kernel.kid(x, y)
    else:
        assert subset_size is not None
        drawn = inputs.seed if seed is None else seed
        found = kernel.kid_over_subsets(
            x, y, subsets=subsets, subset_size=subset_size, seed=drawn, reference_first=reference_first
        )
    return MetricResult(value=found.value, standard_error=found.standard_error, std=found.std)


def compute_cmmd(inputs: MetricInputs, *, sigma: float) -> MetricResult:
    """1000 times the Gaussian kernel's discrepancy between features of unit length."""
    return MetricResult(
        value=1000 * kernel.gaussian_mmd(*(normalize_rows(features) for features in inputs.features), sigma=sigma)
    )


def compute_precision(inputs: MetricInputs, *, k: int, closed: bool) -> MetricResult:
    """The share of generated images within reference balls."""
    return MetricResult(value=_get_membership(inputs, k, closed).precision)


def compute_recall(inputs: MetricInputs, *, k: int, closed: bool) -> MetricResult:
    """The share of reference images within generated balls."""
    return MetricResult(value=_get_membership(inputs, k, closed).recall)


def compute_density(inputs: MetricInputs, *, k: int, closed: bool) -> MetricResult:
    """The number of reference balls around a generated image, over k."""
    return MetricResult(value=_get_membership(inputs, k, closed).density)


def compute_coverage(inputs: MetricInputs, *, k: int, closed: bool) -> MetricResult:
    """The share of reference balls that hold a generated image."""
    return MetricResult(value=_get_membership(inputs, k, closed).coverage)


def _get_membership(inputs: MetricInputs, k: int, closed: bool) -> Membership:
    """What lies in whose balls, found in one pass for all metrics of the run that ask it and have neighbours enough."""
    x, y = inputs.features
    neighbourhood = Neighbourhood(k, closed)
    requested = {Neighbourhood(one["k"], one["closed"]) for one in inputs.settings if "closed" in one}
    common = tuple(sorted((one for one in requested if one.k < min(len(x), len(y))), key=str))
    neighbourhoods = common if neighbourhood in common else (neighbourhood,)
    return inputs.get_or_compute(neighbourhoods, lambda: compute_prdc(x, y, neighbourhoods)).memberships[neighbourhood]


def compute_realism(inputs: MetricInputs, *, k: int) -> MetricResult:
    """The median realism of the generated images, which copies (infinitely real) do not move."""
    found = compute_prdc(*inputs.features, (), realism_k=k).realism
    assert found is not None
    copies = float(np.isinf(found).mean())
    if np.isinf(np.median(found)):
        raise RequestError(f"{copies:.0%} of the generated images are copies of reference images, and infinitely real")
    return MetricResult(value=float(np.median(found)), terms={"fraction_above_1": float((found > 1).mean())})


def compute_mifid(inputs: MetricInputs, *, threshold: float, from_reference: bool) -> MetricResult:
    """The Fréchet distance, divided by how far images are from their nearest on the other side where that is little."""
    distance = compute_frechet(inputs).value
    x, y = inputs.features
    cosine_distance = (
        memorisation.nearest_cosine_distance(y, x) if from_reference else memorisation.nearest_cosine_distance(x, y)
    )
    value = memorisation.penalise_distance(distance, cosine_distance, threshold=threshold)
    return MetricResult(value=value, terms={"distance": distance, "cosine distance to the nearest": cosine_distance})


def compute_vendi_score(inputs: MetricInputs) -> MetricResult:
    """The effective number of different images."""
    return MetricResult(value=vendi_score(get_all_features(inputs.generated)))


def compute_authpct(inputs: MetricInputs) -> MetricResult:
    """The per cent of generated images that are no copies."""
    return MetricResult(value=authenticity(*inputs.features))


def compute_ct(inputs: MetricInputs) -> MetricResult:
    """Data copying: generated against held-out images, by their distance to the reference (the training images)."""
    x, y = inputs.features
    return MetricResult(value=memorisation.data_copying_score(y, _get_held_out_features(inputs), x, seed=inputs.seed))


def compute_fls(inputs: MetricInputs, *, max_images: int) -> MetricResult:
    """Feature likelihood of held-out images; half of the reference is the baseline that would score 100."""
    x, y = inputs.features
    held_out = _get_held_out_features(inputs)
    random = np.random.default_rng(inputs.seed)
    subset_size = min(max_images, len(y) // 2, len(held_out), len(x))
    halves = y[random.permutation(len(y))[: 2 * subset_size]]
    chosen = (features[random.permutation(len(features))[:subset_size]] for features in (held_out, x))
    return MetricResult(
        value=memorisation.feature_likelihood_score(halves[:subset_size], halves[subset_size:], *chosen)
    )


def _get_held_out_features(inputs: MetricInputs) -> np.ndarray:
    assert inputs.held_out is not None  # whoever plans a run made sure of it
    return get_all_features(inputs.held_out)


def compute_mind(inputs: MetricInputs, *, directions: int, torch_seed: int | None = None) -> MetricResult:
    """Sliced Wasserstein distance along random directions; of as many images of each side as the smaller one has."""
    x, y = inputs.features
    n, d = min(len(x), len(y)), x.shape[1]
    if torch_seed is None:
        random = np.random.default_rng(inputs.seed)
        x, y = (
            features if len(features) == n else features[random.permutation(len(features))[:n]] for features in (x, y)
        )
        return MetricResult(
            value=sliced_wasserstein.monge_distance(
                x, y, sliced_wasserstein.sample_unit_directions(directions, d, random)
            )
        )
    try:
        import torch
    except ImportError:
        raise RequestError(
            "torch-fidelity draws MIND's directions by torch: pip install 'frechet[torch]', or ask for mind"
        ) from None
    drawn = torch.Generator().manual_seed(torch_seed)
    x, y = (
        features if len(features) == n else features[torch.randperm(len(features), generator=drawn)[:n].numpy()]
        for features in (x, y)
    )
    lines = torch.randn(directions, d, generator=drawn)
    return MetricResult(
        value=sliced_wasserstein.monge_distance(x, y, (lines / lines.norm(dim=1, keepdim=True)).numpy())
    )


_KYNKAANNIEMI = {"k": 3, "closed": True}
_PRDC = {"k": 5, "closed": False}

PRECISION = Metric(
    title="Precision",
    summary="share of generated images within the reference's neighbourhoods",
    paper="Kynkäänniemi et al. 2019, arXiv:1904.06991",
    lower_is_better=False,
    compute=compute_precision,
    settings=_KYNKAANNIEMI,
    presets={"prdc": _PRDC, "torch-fidelity": {}, "adm": {}},
)
DENSITY = Metric(
    title="Density",
    summary="how many reference neighbourhoods hold a generated image, over k",
    paper="Naeem et al. 2020, arXiv:2002.09797",
    lower_is_better=False,
    compute=compute_density,
    settings=_PRDC,
    presets={"prdc": {}},
)

MMD = Metric(
    title="MMD",
    summary="1000 times the Gaussian kernel's distance of features of unit length",
    paper="Jayasumana et al. 2024, arXiv:2401.09603",
    lower_is_better=True,
    compute=compute_cmmd,
    settings={"sigma": 10.0},
)

ROWS = {
    "kid": Metric(
        title="KID",
        summary="unbiased kernel distance of all images, with its standard error",
        paper="Bińkowski et al. 2018, arXiv:1801.01401",
        lower_is_better=True,
        compute=compute_kid,
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
        summary="share of reference images within the generated images' neighbourhoods",
        compute=compute_recall,
    ),
    "density": DENSITY,
    "coverage": replace(
        DENSITY,
        title="Coverage",
        summary="share of reference images with a generated one in their neighbourhood",
        compute=compute_coverage,
    ),
    "realism": Metric(
        title="Realism",
        summary="median over generated images of radius over distance to the best reference image",
        paper="Kynkäänniemi et al. 2019, arXiv:1904.06991",
        lower_is_better=False,
        compute=compute_realism,
        settings={"k": 3},
        presets={"dgm-eval": {"k": 5}},
    ),
    "mifid": Metric(
        title="MiFID",
        summary="FID with a penalty where generated images copy reference images",
        paper="Bai et al. 2021, arXiv:2106.03062",
        lower_is_better=True,
        compute=compute_mifid,
        settings={"threshold": 0.1, "from_reference": False},
        presets={"torchmetrics": {"from_reference": True}},
    ),
    "mmd": MMD,
    "cmmd": replace(
        MMD, title="CMMD", summary="the same of CLIP's embeddings, as it is defined", extractor="clip-vit-l-14-336"
    ),
    "vendi": Metric(
        title="Vendi score",
        summary="the effective number of different images",
        paper="Friedman & Dieng 2023, arXiv:2210.02410",
        lower_is_better=False,
        compute=compute_vendi_score,
        uses_reference=False,
    ),
    "authpct": Metric(
        title="AuthPct",
        summary="per cent of generated images that are no copies of the reference",
        paper="Alaa et al. 2022, arXiv:2102.08921",
        lower_is_better=False,
        compute=compute_authpct,
    ),
    "ct": Metric(
        title="C_T",
        summary="far below 0 where generated images are nearer to the reference than held-out ones are",
        paper="Meehan et al. 2020, arXiv:2004.05675",
        lower_is_better=None,
        compute=compute_ct,
        uses_held_out=True,
        full_feature_inputs=("generated", "reference", "held-out"),
    ),
    "fls": Metric(
        title="FLS",
        summary="likelihood of held-out images near the generated ones, 100 for images of the reference's kind",
        paper="Jiralerspong et al. 2023, arXiv:2302.04440",
        lower_is_better=False,
        compute=compute_fls,
        settings={"max_images": 2000},
        presets={"dgm-eval": {"max_images": 10_000}},
        uses_held_out=True,
        full_feature_inputs=("generated", "reference", "held-out"),
    ),
    "mind": Metric(
        title="MIND",
        summary="sliced Wasserstein distance along random directions, times 3 d",
        paper="Berthet et al. 2026, arXiv:2605.06797",
        lower_is_better=True,
        compute=compute_mind,
        settings={"directions": 1000},
        presets={"torch-fidelity": {"torch_seed": 2020}},
    ),
}
