"""FID, KID and the Inception Score as losses in PyTorch, with exact gradients with respect to the images.

    loss = FIDLoss("reference.npz")
    loss(images).backward()                                    # images (n, 3, h, w) in [0, 1]

The distance is computed in float64 (on the CPU if the device has no float64), whatever the precision of the network.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from frechet._internal.choices import validate_choice
from frechet.distances.gaussian import Gaussian
from frechet.distances.inception_score import inception_score
from frechet.distances.kernel import polynomial_mmd
from frechet.errors import RequestError
from frechet.features.registry import EXTRACTORS
from frechet.losses.reference import load_reference, validate_reference
from frechet.losses.torch_distance import frechet_distance
from frechet.losses.torch_features import ImageFeatures, validate_finite_features
from frechet.losses.validation import make_rowless_reference_error, validate_count, validate_sample_size
from frechet.metrics import fit_gaussian
from frechet.statistics.feature_statistics import FeatureStatistics

__all__ = ["FIDLoss", "ISLoss", "ImageLoss", "KIDLoss", "frechet_distance"]

Reference = str | Path | FeatureStatistics | torch.Tensor
MakeImages = Callable[[int, int], torch.Tensor]  # (start, stop) -> images start, ..., stop - 1, (stop - start, 3, h, w)


class ImageLoss(ImageFeatures):
    """Base class of losses that are a function of the features of a batch; subclasses implement `distance`.

    Args:
        gather: under `torch.distributed`, compute the loss of the images of all ranks together (ranks may have different
            numbers of images). The gradients are scaled so that the mean over ranks, which DistributedDataParallel
            takes, is the gradient of this loss.
        **options: arguments of `ImageFeatures`. The distance never runs under autocast.

    Raises:
        RequestError: a name is unknown.
        WeightsError: the weights are missing or damaged.
    """

    def __init__(self, *, gather: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.gather = gather

    @abstractmethod
    def distance(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the loss, a differentiable scalar, from features (n, d), float64."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            images: (n, 3, h, w), floating point in `value_range`, on the module's device; any h and w.

        Returns:
            A scalar, float64 for float64 images and float32 otherwise.

        Raises:
            RequestError: the images have another type, shape, dtype, device or range of values.
            TooFewImagesError: there are fewer than two images over all ranks.
            NonFiniteFeaturesError: the network returned NaN or infinity; the message names the image by its index.
        """
        features = self.features(images)
        return self._compute_loss(features).to(torch.float64 if images.dtype == torch.float64 else torch.float32)

    def backward_in_microbatches(self, make_images: MakeImages, n: int, *, size: int = 16) -> torch.Tensor:
        """Accumulate the gradient of the loss of n images, with the memory that `size` images need.

        The features of all images are computed first, without a graph. The gradient with respect to the features is
        then propagated through each micro-batch, whose images are computed a second time. The result is the gradient
        of the loss of all n images, not the average over micro-batches.

        Args:
            make_images: (start, stop) -> images start, ..., stop - 1 as (stop - start, 3, h, w). It is called twice for
                each micro-batch and must return the same images both times.
            n: number of images on this rank; 0 is allowed if other ranks have images.
            size: number of images per micro-batch.

        Returns:
            The loss, detached.

        Raises:
            RequestError: `n` or `size` is not a valid number of images; gradients are disabled; or `make_images` returned
                different images the second time, another number of images, or images without a gradient.
            TooFewImagesError: there are fewer than two images over all ranks.

        Examples:
            >>> loss = FIDLoss(torch.rand(8, 3, 32, 32), extractor="efficientnet-lite0")
            >>> images = torch.rand(6, 3, 32, 32, requires_grad=True)
            >>> value = loss.backward_in_microbatches(lambda start, stop: images[start:stop], 6, size=2)
            >>> images.grad.shape
            torch.Size([6, 3, 32, 32])
        """
        validate_count("size", size)
        validate_count("n", n, 0)
        if not torch.is_grad_enabled():
            raise RequestError(
                "backward_in_microbatches was called with gradients disabled; call it outside of torch.no_grad()"
            )
        with torch.no_grad():
            batches = [self.features(_call_make_images(make_images, *span)) for span in _iter_spans(n, size)]
        features = torch.cat(batches) if batches else torch.empty(0, self.dims, device=self.device)
        leaf = features.requires_grad_()
        loss = self._compute_loss(leaf)
        (gradient,) = torch.autograd.grad(loss, leaf)
        for start, stop in _iter_spans(n, size):
            self._backward_span(make_images, start, features[start:stop].detach(), gradient[start:stop])
        return loss.detach()

    def _backward_span(
        self, make_images: MakeImages, start: int, first_features: torch.Tensor, gradient: torch.Tensor
    ) -> None:
        """Compute the images of one micro-batch again and propagate `gradient`, (k, d), through them."""
        stop = start + len(first_features)
        features = self.features(_call_make_images(make_images, start, stop))
        if not features.requires_grad:
            raise RequestError(
                f"the images of make_images({start}, {stop}) have no gradient; compute them from a tensor with "
                "requires_grad=True"
            )
        if not torch.allclose(features.detach(), first_features, rtol=1e-3, atol=1e-3):
            raise RequestError(
                f"make_images({start}, {stop}) returned different images the second time; it must be repeatable. "
                "Draw the latents before the call, and switch off dropout and similar layers."
            )
        with torch.autocast(features.device.type, enabled=False):  # autocast is not meant for a backward pass
            features.backward(gradient)

    def _compute_loss(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the loss of the features (n, d) of this rank together with those of all other ranks."""
        if self.gather and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            features = _AllGather.apply(features)
        validate_sample_size(features.shape[0])
        validate_finite_features(features)
        device = torch.device("cpu") if features.device.type == "mps" else features.device  # MPS has no float64
        return self.distance(features.to(device).double()).to(features.device, _loss_dtype(features))


class FIDLoss(ImageLoss):
    """Fréchet distance between a batch and a reference; with Inception features this is FID (Heusel et al. 2017).

    Args:
        reference: the path of a statistics file, `frechet.Statistics`, or images (m, 3, h, w) as `forward` takes them.
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

    def __init__(self, reference: Reference, *, batch_size: int = 32, **options: Any) -> None:
        reference = _load_reference(reference, {**options, "batch_size": batch_size})
        super().__init__(**options)
        gaussian = fit_gaussian(_collect_reference_statistics(self, reference, batch_size)).with_factor()
        for name in ("mean", "covariance", "factor"):
            array = getattr(gaussian, name)
            self._register_constant(
                f"reference_{name}", None if array is None else torch.from_numpy(np.ascontiguousarray(array))
            )

    def distance(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the squared Fréchet distance of features (n, d), float64, to the reference."""
        reference = Gaussian(self.reference_mean, covariance=self.reference_covariance, factor=self.reference_factor)
        return frechet_distance(features, reference)


class KIDLoss(ImageLoss):
    """Kernel distance between a batch and a reference: the unbiased squared MMD, k(x, y) = (x·y/d + 1)³.

    All pairs of rows are used, not subsets. The value may be negative. Source: Bińkowski et al. 2018, arXiv:1801.01401.

    Args:
        reference: the path of a statistics file or `frechet.Statistics`, with stored feature rows, or images
            (m, 3, h, w) as `forward` takes them.
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

    def __init__(self, reference: Reference, *, batch_size: int = 32, **options: Any) -> None:
        reference = _load_reference(reference, {**options, "batch_size": batch_size})
        if isinstance(reference, FeatureStatistics) and reference.rows is None:
            raise make_rowless_reference_error(reference.label)
        super().__init__(**options)
        rows = _collect_reference_statistics(self, reference, batch_size).rows
        assert rows is not None
        self._register_constant("reference_rows", torch.from_numpy(rows.astype(np.float64)))

    def distance(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the unbiased squared MMD between features (n, d), float64, and the reference rows."""
        return polynomial_mmd(features, self.reference_rows)


class ISLoss(ImageLoss):
    """Negative Inception Score of a batch, as one split (Salimans et al. 2016, arXiv:1606.03498).

    With Inception these are the 1008 logits without bias, as in the TensorFlow implementation.

    Args:
        extractor: name of an extractor with a classifier.
        **options: arguments of `ImageLoss` and `ImageFeatures`.

    Raises:
        RequestError: the name is unknown.
        WeightsError: the weights are missing, damaged or have no classifier.

    Examples:
        >>> loss = ISLoss(extractor="efficientnet-lite0")
        >>> -10 < loss(torch.rand(4, 3, 32, 32)) <= -1
        tensor(True)
    """

    def __init__(self, *, extractor: str = "inception", **options: Any) -> None:
        validate_choice(extractor, EXTRACTORS, "extractor")
        super().__init__(**{"extractor": extractor, "dims": EXTRACTORS[extractor].layers.get("logits"), **options})

    def distance(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the negative score of logits (n, c), float64."""
        return -inception_score(torch.softmax(features, dim=1))


class _AllGather(torch.autograd.Function):
    """Concatenate the rows (n, d) of all ranks in rank order; n may differ between ranks."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        world_size = dist.get_world_size()
        sizes = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world_size)]
        dist.all_gather(sizes, torch.tensor([rows.shape[0]], device=rows.device))
        counts = [int(size) for size in sizes]
        padded = rows.new_zeros((max(counts), rows.shape[1]))
        padded[: rows.shape[0]] = rows
        rank_rows = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(rank_rows, padded)
        start = sum(counts[: dist.get_rank()])
        ctx.own_rows, ctx.world_size = slice(start, start + rows.shape[0]), world_size
        return torch.cat([each[:count] for each, count in zip(rank_rows, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        # every rank computes the same loss, and DistributedDataParallel averages the gradients over ranks
        return grad_output[ctx.own_rows] * ctx.world_size


def _load_reference(reference: Any, options: dict[str, Any]) -> FeatureStatistics | torch.Tensor:
    loaded: FeatureStatistics | torch.Tensor = load_reference(reference, image_types=(torch.Tensor,), **options)
    return loaded


def _collect_reference_statistics(
    loss: ImageLoss, reference: FeatureStatistics | torch.Tensor, batch_size: int
) -> FeatureStatistics:
    """Return statistics of the reference whose weights are known to match, computing them from images if necessary."""
    if isinstance(reference, FeatureStatistics):
        validate_reference(reference, loss.spec, loss.dims)
        return reference
    with torch.no_grad():
        batches = [loss.features(images.to(loss.device)) for images in reference.split(batch_size)]
    rows = torch.cat(batches).cpu().numpy() if batches else np.empty((0, loss.dims), np.float32)
    return FeatureStatistics.from_features(rows, spec=loss.spec, label="images in memory")


def _loss_dtype(features: torch.Tensor) -> torch.dtype:
    return torch.float32 if features.device.type == "mps" else torch.float64


def _call_make_images(make_images: MakeImages, start: int, stop: int) -> torch.Tensor:
    images = make_images(start, stop)
    if images.shape[0] != stop - start:
        raise RequestError(f"make_images({start}, {stop}) returned {images.shape[0]} images; expected {stop - start}")
    return images


def _iter_spans(n: int, size: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + size, n)) for start in range(0, n, size))
