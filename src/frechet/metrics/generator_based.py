"""Rows of the table that are of a generator itself: they need its latents, which no image shows."""

from __future__ import annotations

import numpy as np

from frechet.distances.latent_paths import trimmed_mean
from frechet.metrics.base import Metric, Outcome


def path_length_of(squared: np.ndarray, *, epsilon: float, percentiles: tuple[float, float]) -> Outcome:
    """The perceptual path length of (n,) distances between the ends of steps of length epsilon, quadratic in that length."""
    found = trimmed_mean(squared / epsilon**2, *percentiles)
    return Outcome(value=found.mean, standard_error=found.standard_error)


ROWS = {
    "ppl": Metric(
        title="PPL",
        summary="how fast images change on the way between latents: frechet.perceptual_path_length in Python",
        paper="Karras et al. 2019, arXiv:1812.04948",
        lower_is_better=True,
        compute=path_length_of,
        settings={"epsilon": 1e-4, "percentiles": (1.0, 99.0)},
        reference=False,
        latents=True,
        all_features=(),
    ),
}
