"""The base class of losses in PyTorch: a batch as a whole, in micro-batches, and over all ranks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch

from frechet._internal.fields import list_keywords, validate_keywords
from frechet.errors import RequestError
from frechet.losses.torch_features import ImageFeatures, validate_finite_features
from frechet.losses.torch_gather import fail_together, gather_rows, is_distributed, report_failure
from frechet.losses.torch_microbatches import (
    MakeImages,
    Span,
    call_make_images,
    pad_spans,
    require_gradient,
    split_into_spans,
)
from frechet.losses.validation import validate_count, validate_sample_size, validate_weight

ScaleGradient = Callable[[torch.Tensor], torch.Tensor]


class FeatureLoss(torch.nn.Module):
    """A function of the features of a batch of images, as a module.

    Attributes:
        gather: under `torch.distributed`, compute the loss of the images of all ranks together.
    """

    gather = True

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Device of the images."""

    @property
    @abstractmethod
    def dims(self) -> int:
        """Number of features d per image."""

    @abstractmethod
    def training_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features (n, d), differentiable with respect to images (n, 3, h, w)."""

    @abstractmethod
    def distance(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the loss, a differentiable scalar, from features (n, d), float64."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            images: (n, 3, h, w), floating point in `value_range`, on the module's device; any h and w. Values that training
                moves out of the range are used as they are, and are reported by a warning.

        Returns:
            A scalar, float64 for float64 images and float32 otherwise.

        Raises:
            RequestError: the images have another type, shape, dtype or device, or the first batch has another scale.
            RunError: another rank failed while it computed its features.
            TooFewImagesError: there are fewer than two images over all ranks.
            NonFiniteFeaturesError: the network returned NaN or infinity; the message names the image by its index.
        """
        features = self._compute_own_features(images)
        return self._compute_loss(features).to(torch.float64 if images.dtype == torch.float64 else torch.float32)

    def backward_in_microbatches(
        self,
        make_images: MakeImages,
        n: int,
        *,
        size: int = 16,
        weight: float = 1.0,
        scale: ScaleGradient | None = None,
    ) -> torch.Tensor:
        """Accumulate the gradient of the loss of n images, with the memory that `size` images need.

        The features of all images are computed first, without a graph. The gradient with respect to the features is
        then propagated through each micro-batch, whose images are computed a second time. The result is the gradient
        of the loss of all n images, not the average over micro-batches.

        Under DistributedDataParallel, `make_images` calls the wrapped module. Ranks may have different numbers of images:
        those with fewer micro-batches repeat their last one with a gradient of zero, because all ranks have to communicate
        equally often. A rank without images calls `make_images(0, 0)`. If a rank fails, all ranks raise an error before the next
        backward pass, unless `gather` is False. They may wait until the timeout of the process group if a rank fails in a backward pass
        (for example because its memory is full), or in `make_images` before a forward pass in which DistributedDataParallel communicates.

        Args:
            make_images: (start, stop) -> images start, ..., stop - 1 as (stop - start, 3, h, w). It is called twice for
                each micro-batch and must return the same images both times.
            n: number of images on this rank; 0 is allowed if other ranks have images.
            size: number of images per micro-batch, the same on all ranks.
            weight: factor of the gradient, if this loss is one of several terms.
            scale: function that scales a tensor for mixed precision: `scaler.scale` of a `torch.amp.GradScaler`.

        Returns:
            The loss, detached, without weight and scale.

        Raises:
            RunError: another rank failed. After any error, the gradients of some micro-batches may have been accumulated.
            RequestError: `n` or `size` is not a valid number of images; `weight` is not finite; gradients are disabled; or `make_images` returned
                different images the second time, another number of images, or images without a gradient, or used
                BatchNorm in training mode.
            TooFewImagesError: there are fewer than two images over all ranks.

        Examples:
            >>> from frechet.losses.torch import FIDLoss
            >>> loss = FIDLoss(torch.rand(8, 3, 32, 32), extractor="efficientnet-lite0")
            >>> images = torch.rand(6, 3, 32, 32, requires_grad=True)
            >>> value = loss.backward_in_microbatches(lambda start, stop: images[start:stop], 6, size=2)
            >>> images.grad.shape
            torch.Size([6, 3, 32, 32])
        """
        with report_failure(self.device, gather=self.gather):
            validate_count("size", size)
            validate_weight("weight", weight)
            validate_count("n", n, 0)
            if not torch.is_grad_enabled():
                raise RequestError(
                    "backward_in_microbatches was called with gradients disabled; call it outside of torch.no_grad()"
                )
        spans = split_into_spans(n, size)
        repeated = pad_spans(spans, self.device) if self.gather and is_distributed() else []
        batches = []
        with torch.no_grad():
            for span in spans:
                with fail_together(self.device, gather=self.gather):
                    batches.append(self.training_features(call_make_images(make_images, span)))
            for span in repeated:
                with fail_together(self.device, gather=self.gather):
                    call_make_images(make_images, span)
        leaf = torch.cat([torch.empty(0, self.dims, device=self.device), *batches]).requires_grad_()
        loss = self._compute_loss(leaf)
        with report_failure(self.device, gather=self.gather):
            (gradient,) = torch.autograd.grad(loss, leaf)
            gradient = weight * (gradient if scale is None else scale(gradient))
        for start, stop in spans:
            with fail_together(self.device, gather=self.gather):
                features = self._repeat_features(make_images, (start, stop), leaf[start:stop].detach())
            with torch.autocast(features.device.type, enabled=False):  # autocast is not meant for a backward pass
                features.backward(gradient[start:stop])
        for span in repeated:
            with fail_together(self.device, gather=self.gather):
                images = call_make_images(make_images, span)
                require_gradient(images, span)
            images.backward(torch.zeros_like(images))
        return loss.detach()

    def _compute_own_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the features of the images of this rank, before they are gathered."""
        with report_failure(self.device, gather=self.gather):
            return self.training_features(images)

    def _repeat_features(self, make_images: MakeImages, span: Span, first_features: torch.Tensor) -> torch.Tensor:
        """Compute the features (k, d) of one micro-batch again, with a graph."""
        start, stop = span
        features = self.training_features(call_make_images(make_images, span))
        require_gradient(features, span)
        if not torch.allclose(features.detach(), first_features, rtol=1e-3, atol=1e-3):
            raise RequestError(
                f"make_images({start}, {stop}) returned different images the second time; it must be repeatable. "
                "Draw the latents before the call, and switch off dropout and similar layers."
            )
        return features

    def _compute_loss(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the loss of the features (n, d) of this rank together with those of all other ranks."""
        loss = self.distance(self._gather_valid_features(features))
        return loss.to(features.device, torch.float32 if features.device.type == "mps" else torch.float64)

    def _gather_valid_features(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features (n, d) of all ranks, float64, on a device that has float64."""
        if self.gather and is_distributed():
            features = gather_rows(features)
        validate_sample_size(features.shape[0])
        validate_finite_features(features)
        device = torch.device("cpu") if features.device.type == "mps" else features.device  # MPS has no float64
        return features.to(device).double()


class ImageLoss(ImageFeatures, FeatureLoss):
    """Base class of losses that are a function of the features of one network; subclasses implement `distance`.

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
        validate_keywords(type(self).__name__, options, list_keywords(ImageLoss))
        super().__init__(**options)
        self.gather = gather
