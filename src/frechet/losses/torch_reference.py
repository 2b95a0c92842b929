"""References of losses in PyTorch: statistics, or images whose features are computed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from frechet.distances.gaussian import Gaussian
from frechet.losses.reference import load_reference, validate_reference
from frechet.losses.torch_features import ImageFeatures
from frechet.losses.torch_gather import gather_distinct_rows, is_distributed, report_failure
from frechet.metrics import fit_gaussian
from frechet.statistics.feature_statistics import FeatureStatistics

Reference = str | Path | FeatureStatistics | torch.Tensor


def load_torch_reference(reference: Any, **options: Any) -> tuple[FeatureStatistics | torch.Tensor, dict[str, Any]]:
    """Read the statistics of a reference, or return reference images unchanged; with the options as `load_reference` returns them."""
    return load_reference(reference, image_types=(torch.Tensor,), **options)


def collect_reference_statistics(
    network: ImageFeatures, reference: FeatureStatistics | torch.Tensor, batch_size: int, *, gather: bool
) -> FeatureStatistics:
    """Return statistics of the reference whose weights are known to match, computing them from images if necessary.

    Args:
        network: the network of the loss.
        reference: the result of `load_torch_reference`.
        batch_size: number of reference images per forward pass.
        gather: whether to combine the images of all ranks.
    """
    if isinstance(reference, FeatureStatistics):
        validate_reference(reference, network.spec, network.dims)
        return reference
    with torch.no_grad():
        with report_failure(network.device, gather=gather):
            rows = torch.cat([network.features(images.to(network.device)) for images in reference.split(batch_size)])
        if gather and is_distributed():
            rows = gather_distinct_rows(rows, reference)
    return FeatureStatistics.from_features(rows.cpu().numpy(), spec=network.spec, label="images in memory")


def fit_torch_gaussian(statistics: FeatureStatistics) -> Gaussian:
    """Return the Gaussian of statistics as tensors, with a factor of the covariance."""
    gaussian = fit_gaussian(statistics).with_factor()
    arrays = (gaussian.mean, gaussian.covariance, gaussian.factor)
    mean, covariance, factor = (
        None if each is None else torch.from_numpy(np.ascontiguousarray(each)) for each in arrays
    )
    return Gaussian(mean, covariance=covariance, factor=factor, covariance_eps=gaussian.covariance_eps)
