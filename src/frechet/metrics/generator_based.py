"""Rows of the table that are of a generator itself: they need its latents, which no image shows."""

from __future__ import annotations

import numpy as np

from frechet.distances.latent_paths import trimmed_mean
from frechet.metrics.base import Metric, MetricResult


def compute_path_length(
    squared_distances: np.ndarray, *, epsilon: float, percentiles: tuple[float, float]
) -> MetricResult:
    """The perceptual path length of (n,) distances between the ends of steps of length epsilon, quadratic in that length."""
    found = trimmed_mean(squared_distances / epsilon**2, *percentiles)
    return MetricResult(value=found.mean, standard_error=found.standard_error)


ROWS = {
    "ppl": Metric(
        title="PPL",
        summary="how fast images change on the way between latents: frechet.perceptual_path_length in Python",
        paper="Karras et al. 2019, arXiv:1812.04948",
        lower_is_better=True,
        compute=compute_path_length,
        settings={"epsilon": 1e-4, "percentiles": (1.0, 99.0)},
        uses_reference=False,
        uses_latents=True,
        full_feature_inputs=(),
    ),
}
