"""Rows of the table that need every image's features: kernels, neighbours, memorisation, diversity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from frechet.distances import kernel, memorisation, sliced_wasserstein
from frechet.distances.inception_score import unit_rows, vendi_score
from frechet.distances.prdc import Ball, Membership, authenticity, neighbourhoods
from frechet.errors import RequestError
from frechet.metrics.base import Metric, Outcome, Sides, all_features
from frechet.metrics.frechet import frechet_of


def kid_of(
    sides: Sides, *, subsets: int | None, size: int | None, seed: int | None, reference_first: bool = False
) -> Outcome:
    """KID of all images, or of random subsets where `subsets` says how many."""
    x, y = sides.features
    if subsets is None:
        found = kernel.kid(x, y)
    else:
        assert size is not None
        drawn = sides.seed if seed is None else seed
        found = kernel.kid_of_subsets(x, y, subsets=subsets, size=size, seed=drawn, reference_first=reference_first)
    return Outcome(value=found.value, standard_error=found.standard_error, deviation=found.deviation)


def cmmd_of(sides: Sides, *, sigma: float) -> Outcome:
    """1000 times the Gaussian kernel's discrepancy between features of unit length."""
    return Outcome(value=1000 * kernel.gaussian_mmd(*(unit_rows(side) for side in sides.features), sigma=sigma))


def precision_of(sides: Sides, *, k: int, closed: bool) -> Outcome:
    """The share of generated images within reference balls."""
    return Outcome(value=_members(sides, k, closed).precision)


def recall_of(sides: Sides, *, k: int, closed: bool) -> Outcome:
    """The share of reference images within generated balls."""
    return Outcome(value=_members(sides, k, closed).recall)


def density_of(sides: Sides, *, k: int, closed: bool) -> Outcome:
    """The number of reference balls around a generated image, over k."""
    return Outcome(value=_members(sides, k, closed).density)


def coverage_of(sides: Sides, *, k: int, closed: bool) -> Outcome:
    """The share of reference balls that hold a generated image."""
    return Outcome(value=_members(sides, k, closed).coverage)


def _members(sides: Sides, k: int, closed: bool) -> Membership:
    """What lies in whose balls, found in one pass for all metrics of the run that ask it and have neighbours enough."""
    x, y = sides.features
    ball = Ball(k, closed)
    asked = {Ball(one["k"], one["closed"]) for one in sides.settings if "closed" in one}
    common = tuple(sorted((one for one in asked if one.k < min(len(x), len(y))), key=str))
    balls = common if ball in common else (ball,)
    return sides.once(balls, lambda: neighbourhoods(x, y, balls)).members[ball]


def realism_of(sides: Sides, *, k: int) -> Outcome:
    """The median realism of the generated images, which copies (infinitely real) do not move."""
    found = neighbourhoods(*sides.features, (), realism_k=k).realism
    assert found is not None
    copies = float(np.isinf(found).mean())
    if np.isinf(np.median(found)):
        raise RequestError(f"{copies:.0%} of the generated images are copies of reference images, and infinitely real")
    return Outcome(value=float(np.median(found)), terms={"share above 1": float((found > 1).mean())})


def mifid_of(sides: Sides, *, threshold: float, of_reference: bool) -> Outcome:
    """The Fréchet distance, divided by how far images are from their nearest on the other side where that is little."""
    distance = frechet_of(sides).value
    x, y = sides.features
    cosine = memorisation.cosine_to_nearest(y, x) if of_reference else memorisation.cosine_to_nearest(x, y)
    value = memorisation.penalised(distance, cosine, threshold=threshold)
    return Outcome(value=value, terms={"distance": distance, "cosine distance to the nearest": cosine})


def vendi_of(sides: Sides) -> Outcome:
    """The effective number of different images."""
    return Outcome(value=vendi_score(all_features(sides.generated)))


def authpct_of(sides: Sides) -> Outcome:
    """The per cent of generated images that are no copies."""
    return Outcome(value=authenticity(*sides.features))


def ct_of(sides: Sides) -> Outcome:
    """Data copying: generated against held-out images, by their distance to the reference (the training images)."""
    x, y = sides.features
    return Outcome(value=memorisation.data_copying(y, _held_out(sides), x, seed=sides.seed))


def fls_of(sides: Sides, *, most: int) -> Outcome:
    """Feature likelihood of held-out images; half of the reference is the baseline that would score 100."""
    x, y = sides.features
    held_out = _held_out(sides)
    random = np.random.default_rng(sides.seed)
    size = min(most, len(y) // 2, len(held_out), len(x))
    halves = y[random.permutation(len(y))[: 2 * size]]
    chosen = (side[random.permutation(len(side))[:size]] for side in (held_out, x))
    return Outcome(value=memorisation.feature_likelihood(halves[:size], halves[size:], *chosen))


def _held_out(sides: Sides) -> np.ndarray:
    assert sides.held_out is not None  # whoever plans a run made sure of it
    return all_features(sides.held_out)


def mind_of(sides: Sides, *, directions: int, torch_seed: int | None = None) -> Outcome:
    """Sliced Wasserstein distance along random directions; of as many images of each side as the smaller one has."""
    x, y = sides.features
    n, d = min(len(x), len(y)), x.shape[1]
    if torch_seed is None:
        random = np.random.default_rng(sides.seed)
        x, y = (side if len(side) == n else side[random.permutation(len(side))[:n]] for side in (x, y))
        return Outcome(
            value=sliced_wasserstein.monge_distance(x, y, sliced_wasserstein.unit_directions(directions, d, random))
        )
    try:
        import torch
    except ImportError:
        raise RequestError(
            "torch-fidelity draws MIND's directions by torch: pip install 'frechet[torch]', or ask for mind"
        ) from None
    drawn = torch.Generator().manual_seed(torch_seed)
    x, y = (side if len(side) == n else side[torch.randperm(len(side), generator=drawn)[:n].numpy()] for side in (x, y))
    lines = torch.randn(directions, d, generator=drawn)
    return Outcome(value=sliced_wasserstein.monge_distance(x, y, (lines / lines.norm(dim=1, keepdim=True)).numpy()))


_KYNKAANNIEMI = {"k": 3, "closed": True}
_PRDC = {"k": 5, "closed": False}

PRECISION = Metric(
    title="Precision",
    summary="share of generated images within the reference's neighbourhoods",
    paper="Kynkäänniemi et al. 2019, arXiv:1904.06991",
    lower_is_better=False,
    compute=precision_of,
    settings=_KYNKAANNIEMI,
    presets={"prdc": _PRDC, "torch-fidelity": {}, "adm": {}},
)
DENSITY = Metric(
    title="Density",
    summary="how many reference neighbourhoods hold a generated image, over k",
    paper="Naeem et al. 2020, arXiv:2002.09797",
    lower_is_better=False,
    compute=density_of,
    settings=_PRDC,
    presets={"prdc": {}},
)

MMD = Metric(
    title="MMD",
    summary="1000 times the Gaussian kernel's distance of features of unit length",
    paper="Jayasumana et al. 2024, arXiv:2401.09603",
    lower_is_better=True,
    compute=cmmd_of,
    settings={"sigma": 10.0},
)

ROWS = {
    "kid": Metric(
        title="KID",
        summary="unbiased kernel distance of all images, with its standard error",
        paper="Bińkowski et al. 2018, arXiv:1801.01401",
        lower_is_better=True,
        compute=kid_of,
        settings={"subsets": None, "size": None, "seed": None},
        presets={
            "torch-fidelity": {"subsets": 100, "size": 1000, "seed": 2020},
            "clean-fid": {"subsets": 100, "size": 1000, "reference_first": True},
        },
    ),
    "precision": PRECISION,
    "recall": replace(
        PRECISION,
        title="Recall",
        summary="share of reference images within the generated images' neighbourhoods",
        compute=recall_of,
    ),
    "density": DENSITY,
    "coverage": replace(
        DENSITY,
        title="Coverage",
        summary="share of reference images with a generated one in their neighbourhood",
        compute=coverage_of,
    ),
    "realism": Metric(
        title="Realism",
        summary="median over generated images of radius over distance to the best reference image",
        paper="Kynkäänniemi et al. 2019, arXiv:1904.06991",
        lower_is_better=False,
        compute=realism_of,
        settings={"k": 3},
        presets={"dgm-eval": {"k": 5}},
    ),
    "mifid": Metric(
        title="MiFID",
        summary="FID with a penalty where generated images copy reference images",
        paper="Bai et al. 2021, arXiv:2106.03062",
        lower_is_better=True,
        compute=mifid_of,
        settings={"threshold": 0.1, "of_reference": False},
        presets={"torchmetrics": {"of_reference": True}},
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
        compute=vendi_of,
        reference=False,
    ),
    "authpct": Metric(
        title="AuthPct",
        summary="per cent of generated images that are no copies of the reference",
        paper="Alaa et al. 2022, arXiv:2102.08921",
        lower_is_better=False,
        compute=authpct_of,
    ),
    "ct": Metric(
        title="C_T",
        summary="far below 0 where generated images are nearer to the reference than held-out ones are",
        paper="Meehan et al. 2020, arXiv:2004.05675",
        lower_is_better=None,
        compute=ct_of,
        held_out=True,
        all_features=("generated", "reference", "held-out"),
    ),
    "fls": Metric(
        title="FLS",
        summary="likelihood of held-out images near the generated ones, 100 for images of the reference's kind",
        paper="Jiralerspong et al. 2023, arXiv:2302.04440",
        lower_is_better=False,
        compute=fls_of,
        settings={"most": 2000},
        presets={"dgm-eval": {"most": 10_000}},
        held_out=True,
        all_features=("generated", "reference", "held-out"),
    ),
    "mind": Metric(
        title="MIND",
        summary="sliced Wasserstein distance along random directions, times 3 d",
        paper="Berthet et al. 2026, arXiv:2605.06797",
        lower_is_better=True,
        compute=mind_of,
        settings={"directions": 1000},
        presets={"torch-fidelity": {"torch_seed": 2020}},
    ),
}
