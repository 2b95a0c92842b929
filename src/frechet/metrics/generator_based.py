"""Rows of the table that evaluate a generator: they need its latents, not only its images."""

from __future__ import annotations

import numpy as np

from frechet.distances.latent_paths import trimmed_mean
from frechet.metrics.base import Metric, MetricResult


def compute_path_length(
    squared_distances: np.ndarray, *, epsilon: float, percentiles: tuple[float, float]
) -> MetricResult:
    """Compute the perceptual path length (Karras et al. 2019, arXiv:1812.04948, section 4.1).

    Args:
        squared_distances: (n,) perceptual distances between the two ends of a step; they grow with its square.
        epsilon: length of the steps, as a fraction of the path.
        percentiles: distances outside of these two percentiles are discarded.
    """
    result = trimmed_mean(squared_distances / epsilon**2, *percentiles)
    return MetricResult(value=result.mean, standard_error=result.standard_error)


ROWS = {
    "ppl": Metric(
        title="PPL",
        summary="rate of change of images along paths between latents; computed by frechet.perceptual_path_length (Python only)",
        paper="Karras et al. 2019, arXiv:1812.04948",
        lower_is_better=True,
        compute=compute_path_length,
        settings={"epsilon": 1e-4, "percentiles": (1.0, 99.0)},
        measures="fidelity",
        images="2 pairs (50,000)",
        uses_reference=False,
        uses_latents=True,
        full_feature_inputs=(),
    ),
}
