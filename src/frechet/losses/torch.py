"""FID, KID and the Inception Score as losses in PyTorch: exact values, exact gradients with respect to images.

    loss = FIDLoss("reference.npz")
    loss(images).backward()                                    # images (n, 3, h, w) in [0, 1]

The distance is computed in float64 (on the CPU where the device has none), whatever the precision of the network.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from frechet._internal.choices import validate_choice
from frechet.distances.gaussian import Gaussian
from frechet.distances.inception_score import inception_score
from frechet.distances.kernel import polynomial_mmd
from frechet.distances.transport import (
    feature_gradient,
    is_well_conditioned,
    optimal_coupling,
    optimal_coupling_from_factors,
    squared_frechet_distance,
)
from frechet.errors import NonFiniteFeaturesError, RequestError, TooFewImagesError
from frechet.features.registry import EXTRACTORS
from frechet.losses.reference import load_reference, validate_count, validate_reference
from frechet.losses.torch_features import ImageFeatures
from frechet.metrics import fit_gaussian
from frechet.statistics.feature_statistics import FeatureStatistics

MakeImages = Callable[[int, int], torch.Tensor]  # (start, stop) -> the images at these places


class ImageLoss(ImageFeatures):
    """A loss on the features of images. Its subclasses say what they measure of them.

    Args:
        gather: under `torch.distributed`, take the images of all ranks together (their numbers may differ). Gradients
            are those that DistributedDataParallel's mean over ranks makes right.
        **options: as in `ImageFeatures`. The distance never runs under autocast.
    """

    def __init__(self, *, gather: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.gather = gather

    @abstractmethod
    def distance(self, features: torch.Tensor) -> torch.Tensor:
        """The loss of (n, d) float64 features, differentiable."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The loss of a batch.

        Args:
            images: (n, 3, h, w), floating point in `value_range`, on this module's device. Any height and width.

        Returns:
            A scalar; float64 for float64 images, else float32.

        Raises:
            RequestError: images of another shape, dtype, range or device.
            TooFewImages: fewer than two, over all ranks.
            BadFeatures: NaN or infinity came out of the network; the image is named by its index.
        """
        features = self.features(images)
        return self._compute_loss(features).to(torch.float64 if images.dtype == torch.float64 else torch.float32)

    def backward_in_microbatches(self, make_images: MakeImages, n: int, *, size: int = 16) -> torch.Tensor:
        """Add the gradient of the loss of n images to whatever made them, in the memory of `size` of them.

        First the features of all, without a graph; then the gradient in feature space; then batch by batch the images
        again, with a graph, through which that gradient flows. Exact, not an average over batches.

        Args:
            make_images: (start, stop) -> the images at these places, the same whenever it is called.
            n: how many there are (on this rank, which may have none).
            size: how many are made at a time.

        Returns:
            The loss, detached.

        Raises:
            RequestError: `make_images` gave other images the second time, another number of them, or images through which
                no gradient flows.
        """
        validate_count("size", size)
        validate_count("n", n, 0)
        if not torch.is_grad_enabled():
            raise RequestError("no gradient flows under torch.no_grad(); call backward_in_microbatches outside of it")
        with torch.no_grad():
            pieces = [self.features(_call_make_images(make_images, *span)) for span in _iter_spans(n, size)]
        first = torch.cat(pieces) if pieces else torch.empty(0, self.dims, device=self.device)
        leaf = first.requires_grad_()
        loss = self._compute_loss(leaf)
        (gradient,) = torch.autograd.grad(loss, leaf)
        for start, stop in _iter_spans(n, size):
            again = self.features(_call_make_images(make_images, start, stop))
            if not again.requires_grad:
                raise RequestError(
                    f"no gradient flows through the images of make_images({start}, {stop}); they should come of something "
                    "that is trained (requires_grad)"
                )
            if not torch.allclose(again.detach(), first[start:stop].detach(), rtol=1e-3, atol=1e-3):
                raise RequestError(
                    f"make_images({start}, {stop}) gave other images the second time; it must be repeatable: "
                    "draw the latents before, and keep dropout and the like off"
                )
            with torch.autocast(again.device.type, enabled=False):  # the caller's: not for a backward pass
                again.backward(gradient[start:stop])
        return loss.detach()

    def _compute_loss(self, features: torch.Tensor) -> torch.Tensor:
        """The loss of these features and those of all other ranks."""
        if self.gather and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            features = _AllGather.apply(features)
        if features.shape[0] < 2:
            raise TooFewImagesError(f"a distribution needs at least two images; got {features.shape[0]}")
        is_nonfinite = ~torch.isfinite(features.detach()).all(dim=1)
        if bool(is_nonfinite.any()):
            raise NonFiniteFeaturesError(
                f"the network gave NaN or infinity for image {int(is_nonfinite.int().argmax())} of the batch; look for NaN in "
                "the images, or for an overflow of half precision"
            )
        device = torch.device("cpu") if features.device.type == "mps" else features.device  # MPS has no float64
        return self.distance(features.to(device).double()).to(features.device, _loss_dtype(features))


class FIDLoss(ImageLoss):
    """The Fréchet distance of a batch to a reference: FID with Inception features.

    Args:
        reference: a statistics file, `Statistics`, or images (m, 3, h, w) as `forward` takes them.
        batch_size: reference images that run together.
        **options: as in `ImageLoss` and `ImageFeatures`.

    Raises:
        Mismatch: the reference was made with another extractor, layer, convention, precision or weights.
    """

    def __init__(
        self, reference: str | Path | FeatureStatistics | torch.Tensor, *, batch_size: int = 32, **options: Any
    ) -> None:
        reference = _load_reference(reference, {**options, "batch_size": batch_size})
        super().__init__(**options)
        gaussian = fit_gaussian(_collect_reference_statistics(self, reference, batch_size)).with_factor()
        for name in ("mean", "covariance", "factor"):
            array = getattr(gaussian, name)
            self._register_constant(
                f"reference_{name}", None if array is None else torch.from_numpy(np.ascontiguousarray(array))
            )

    def distance(self, features: torch.Tensor) -> torch.Tensor:
        """d² of (n, d) float64 features to the reference, with the closed-form gradient."""
        reference = Gaussian(self.reference_mean, covariance=self.reference_covariance, factor=self.reference_factor)
        return frechet_distance(features, reference)


class KIDLoss(ImageLoss):
    """The kernel distance of a batch to a reference: the unbiased squared MMD, k(x, y) = (x·y/d + 1)³ (Bińkowski et al. 2018).

    Args:
        reference: statistics that kept feature rows, or images (m, 3, h, w).
        batch_size: reference images that run together.
        **options: as in `ImageLoss` and `ImageFeatures`.

    Raises:
        Mismatch: as in `FIDLoss`.
        RequestError: the statistics kept no rows of features.
    """

    def __init__(
        self, reference: str | Path | FeatureStatistics | torch.Tensor, *, batch_size: int = 32, **options: Any
    ) -> None:
        reference = _load_reference(reference, {**options, "batch_size": batch_size})
        if isinstance(reference, FeatureStatistics) and reference.rows is None:
            raise RequestError(
                f"{reference.label} holds no features; KID needs some: make it with frechet stats (frechet.collect)"
            )
        super().__init__(**options)
        rows = _collect_reference_statistics(self, reference, batch_size).rows
        assert rows is not None
        self._register_constant("reference_rows", torch.from_numpy(rows.astype(np.float64)))

    def distance(self, features: torch.Tensor) -> torch.Tensor:
        """MMD² of (n, d) float64 features to the reference's rows; unbiased, so it may be negative."""
        return polynomial_mmd(features, self.reference_rows)


class ISLoss(ImageLoss):
    """Minus the Inception Score of a batch, in one split, of the 1008 logits without bias (Salimans et al. 2016).

    Args:
        extractor: one with a classifier; of another than Inception it is that one's logits.
        **options: as in `ImageLoss` and `ImageFeatures`.
    """

    def __init__(self, *, extractor: str = "inception", **options: Any) -> None:
        validate_choice(extractor, EXTRACTORS, "extractor")
        super().__init__(**{"extractor": extractor, "dims": EXTRACTORS[extractor].layers.get("logits"), **options})

    def distance(self, features: torch.Tensor) -> torch.Tensor:
        """Minus the score of (n, c) logits: to be made small."""
        return -inception_score(torch.softmax(features, dim=1))


def frechet_distance(x: torch.Tensor, y: torch.Tensor | Gaussian) -> torch.Tensor:
    """The squared Fréchet distance of (n, d) features to others, differentiable in both.

    Args:
        x: (n, d) float32 or float64.
        y: (m, d) features, or a Gaussian.

    Returns:
        A scalar of x's dtype. Its gradient is the closed form of `frechet.distances.transport`; nothing is
        differentiated through a decomposition, so singular covariances (n < d, doubled images) are no trouble.

    Raises:
        RequestError: x and y are on different devices.
        Mismatch: they differ in dimension.
        TooFewImages: fewer than two rows.
    """
    features = y if isinstance(y, torch.Tensor) else None
    device = (y if isinstance(y, torch.Tensor) else y.mean).device
    if device != x.device:
        raise RequestError(
            f"x is on {x.device} and y on {device}; move one of them, for instance x.to({str(device)!r})"
        )
    return _FrechetDistance.apply(x, features, None if features is not None else y)


class _FrechetDistance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor | None, reference: Gaussian | None) -> torch.Tensor:  # type: ignore[override]
        features, other, q = (_as_float64(operand) for operand in (x, y, reference))
        p = Gaussian.from_features(features)
        if y is not None:
            q = Gaussian.from_features(other)
        coupling = optimal_coupling(p, q)
        squared = p.covariance is not None or q.covariance is not None
        if squared and not bool(is_well_conditioned(coupling)):
            coupling = optimal_coupling_from_factors(p.with_factor(), q.with_factor())
        gradients = [None, None]
        if ctx.needs_input_grad[0]:
            gradients[0] = feature_gradient(features, q.mean, coupling.onto_q).to(x.dtype)
        if y is not None and ctx.needs_input_grad[1]:
            gradients[1] = feature_gradient(other, p.mean, coupling.onto_p).to(y.dtype)
        ctx.save_for_backward(x, y, *gradients)
        return squared_frechet_distance(p, q, coupling).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> Any:  # type: ignore[override]
        x, y, *gradients = ctx.saved_tensors
        operands = zip((x, y), gradients, strict=True)
        return *(
            None if gradient is None else grad_output * _OnceDifferentiable.apply(operand, gradient)
            for operand, gradient in operands
        ), None


class _OnceDifferentiable(torch.autograd.Function):
    """A gradient that depends on features in a way that is not derived further: to take it for a constant would be wrong."""

    @staticmethod
    def forward(_ctx: Any, _features: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return gradient.clone()

    @staticmethod
    def backward(_ctx: Any, _grad_output: torch.Tensor) -> Any:  # type: ignore[override]
        raise RequestError(
            "the Fréchet distance has no second derivative here, so its gradient cannot be part of a loss; leave "
            "create_graph=True out, or penalise the features instead"
        )


def _as_float64(operand: Any) -> Any:
    """Features or a Gaussian in float64, where the device has it: squares of float32 would hold half of its digits."""
    if isinstance(operand, Gaussian):
        return replace(
            operand, **{name: _as_float64(getattr(operand, name)) for name in ("mean", "covariance", "factor")}
        )
    return operand if operand is None or operand.device.type == "mps" else operand.detach().double()


class _AllGather(torch.autograd.Function):
    """The rows of all ranks, in their order; ranks may have different numbers of them."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        world_size = dist.get_world_size()
        sizes = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world_size)]
        dist.all_gather(sizes, torch.tensor([rows.shape[0]], device=rows.device))
        counts = [int(size) for size in sizes]
        padded = rows.new_zeros((max(counts), rows.shape[1]))
        padded[: rows.shape[0]] = rows
        pieces = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(pieces, padded)
        start = sum(counts[: dist.get_rank()])
        ctx.own_rows, ctx.world_size = slice(start, start + rows.shape[0]), world_size
        return torch.cat([piece[:count] for piece, count in zip(pieces, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return (
            grad_output[ctx.own_rows] * ctx.world_size
        )  # every rank has the same loss, and DistributedDataParallel takes the mean


def _load_reference(reference: Any, options: dict[str, Any]) -> FeatureStatistics | torch.Tensor:
    """The reference, a file's statistics read, before any weights are loaded."""
    found = load_reference(reference, **options)
    if not isinstance(found, (FeatureStatistics, torch.Tensor)):
        raise RequestError(
            f"the reference is a {type(found).__name__}; expected a statistics file, Statistics "
            "(frechet.collect(images)) or a tensor of images"
        )
    return found


def _collect_reference_statistics(
    loss: ImageLoss, reference: FeatureStatistics | torch.Tensor, batch_size: int
) -> FeatureStatistics:
    if isinstance(reference, FeatureStatistics):
        validate_reference(reference, loss.spec, loss.dims)
        return reference
    with torch.no_grad():
        pieces = [loss.features(piece.to(loss.device)) for piece in reference.split(batch_size)]
    rows = torch.cat(pieces).cpu().numpy() if pieces else np.empty((0, loss.dims), np.float32)
    return FeatureStatistics.from_features(rows, spec=loss.spec, label="images in memory")


def _loss_dtype(features: torch.Tensor) -> torch.dtype:
    return torch.float32 if features.device.type == "mps" else torch.float64


def _call_make_images(make_images: MakeImages, start: int, stop: int) -> torch.Tensor:
    images = make_images(start, stop)
    if images.shape[0] != stop - start:
        raise RequestError(f"make_images({start}, {stop}) gave {images.shape[0]} images; expected {stop - start}")
    return images


def _iter_spans(n: int, size: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + size, n)) for start in range(0, n, size))
