"""FID, KID and the Inception Score as losses in PyTorch, with exact gradients with respect to the images.

    loss = FIDLoss("reference.npz")
    loss(images).backward()                                    # images (n, 3, h, w) in [0, 1]

The distance is computed in float64 (on the CPU if the device has no float64), whatever the precision of the network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from frechet._internal.fields import list_keywords, validate_keywords
from frechet.distances.gaussian import Gaussian
from frechet.distances.inception_score import inception_score
from frechet.distances.kernel import polynomial_mmd
from frechet.features.registry import find_extractor
from frechet.losses.torch_distance import frechet_distance
from frechet.losses.torch_fd import FDLoss
from frechet.losses.torch_features import ImageFeatures
from frechet.losses.torch_loss import ImageLoss
from frechet.losses.torch_reference import (
    Reference,
    collect_reference_statistics,
    fit_torch_gaussian,
    load_torch_reference,
)
from frechet.losses.validation import make_rowless_reference_error
from frechet.statistics.feature_statistics import FeatureStatistics

__all__ = ["FDLoss", "FIDLoss", "ISLoss", "ImageFeatures", "ImageLoss", "KIDLoss", "frechet_distance"]


class FIDLoss(ImageLoss):
    """Fréchet distance between a batch and a reference; with Inception features this is FID (Heusel et al. 2017).

    Args:
        reference: the path or URL of a statistics file, ref:NAME, `frechet.Statistics`, or images (m, 3, h, w) as `forward` takes them. Under
            `torch.distributed`, each rank may pass its share of the images, which are gathered once; ranks that pass the
            same images count once. Unless they are passed, the extractor, the layer and the preprocessing
            are those of the statistics.
        batch_size: number of reference images per forward pass.
        **options: arguments of `ImageLoss` and `ImageFeatures`.

    Raises:
        RequestError: a name is unknown, or the reference cannot be read.
        MismatchError: the reference has another extractor, layer, preprocessing, precision or other weights.
        WeightsError: the weights are missing or damaged.

    Examples:
        >>> loss = FIDLoss(torch.rand(8, 3, 32, 32), extractor="efficientnet-lite0")
        >>> images = torch.rand(4, 3, 32, 32, requires_grad=True)
        >>> loss(images).backward()
        >>> images.grad.shape
        torch.Size([4, 3, 32, 32])
    """

    @torch.inference_mode(False)  # inference tensors could not take part in autograd later
    def __init__(self, reference: Reference, *, batch_size: int = 32, **options: Any) -> None:
        validate_keywords(type(self).__name__, options, list_keywords(FIDLoss))
        reference, options = load_torch_reference(reference, batch_size=batch_size, **options)
        super().__init__(**options)
        gaussian = fit_torch_gaussian(collect_reference_statistics(self, reference, batch_size, gather=self.gather))
        for name in ("mean", "covariance", "factor"):
            self._register_constant(f"reference_{name}", getattr(gaussian, name))

    def distance(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the squared Fréchet distance of features (n, d), float64, to the reference."""
        reference = Gaussian(self.reference_mean, covariance=self.reference_covariance, factor=self.reference_factor)
        return frechet_distance(features, reference)


class KIDLoss(ImageLoss):
    """Kernel distance between a batch and a reference: the unbiased squared MMD, k(x, y) = (x·y/d + 1)³.

    All pairs of rows are used, not subsets. The value may be negative. Source: Bińkowski et al. 2018, arXiv:1801.01401.

    Args:
        reference: the path or URL of a statistics file, ref:NAME, or `frechet.Statistics`, with stored feature rows, or images
            (m, 3, h, w) as `forward` takes them. Unless they are passed, the extractor, the layer and the preprocessing are
            those of the statistics.
        batch_size: number of reference images per forward pass.
        **options: arguments of `ImageLoss` and `ImageFeatures`.

    Raises:
        RequestError: a name is unknown, or the statistics hold no feature rows.
        MismatchError: the reference has another extractor, layer, preprocessing, precision or other weights.
        WeightsError: the weights are missing or damaged.

    Examples:
        >>> loss = KIDLoss(torch.rand(8, 3, 32, 32), extractor="efficientnet-lite0")
        >>> loss(torch.rand(4, 3, 32, 32)).shape
        torch.Size([])
    """

    @torch.inference_mode(False)  # inference tensors could not take part in autograd later
    def __init__(self, reference: Reference, *, batch_size: int = 32, **options: Any) -> None:
        validate_keywords(type(self).__name__, options, list_keywords(KIDLoss))
        reference, options = load_torch_reference(reference, batch_size=batch_size, **options)
        if isinstance(reference, FeatureStatistics) and reference.rows is None:
            raise make_rowless_reference_error(reference.label)
        super().__init__(**options)
        rows = collect_reference_statistics(self, reference, batch_size, gather=self.gather).rows
        assert rows is not None
        self._register_constant("reference_rows", torch.from_numpy(rows.astype(np.float64)))

    def distance(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the unbiased squared MMD between features (n, d), float64, and the reference rows."""
        return polynomial_mmd(features, self.reference_rows)


class ISLoss(ImageLoss):
    """Negative Inception Score of a batch, as one split (Salimans et al. 2016, arXiv:1606.03498).

    With Inception these are the 1008 logits without bias, as in the TensorFlow implementation.

    Args:
        extractor: name of an extractor with a classifier, or a function or torch.nn.Module that returns logits.
        **options: arguments of `ImageLoss` and `ImageFeatures`.

    Raises:
        RequestError: the name is unknown.
        WeightsError: the weights are missing, damaged or have no classifier.

    Examples:
        >>> loss = ISLoss(extractor="efficientnet-lite0")
        >>> -10 < loss(torch.rand(4, 3, 32, 32)) <= -1
        tensor(True)
    """

    def __init__(self, *, extractor: Any = "inception", **options: Any) -> None:
        row = find_extractor(extractor)
        dims = None if row is None else row.layers.get("logits")
        super().__init__(**{"extractor": extractor, "dims": dims, **options})

    def distance(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the negative score of logits (n, c), float64."""
        return -inception_score(torch.softmax(features, dim=1))
