"""The functions of FastFID: the differentiable Fréchet distance between two small batches of images, and what it is compared with.

from frechet.compat.fastfid import fastfid                 # fid/fastfid.py
from frechet.compat.fastfid import fid                     # fid/fid.py
from frechet.compat.fastfid import trace_of_matrix_sqrt    # fid/fast_sqrt.py
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from frechet._internal.choices import validate_choice
from frechet.backends.torch import choose_device
from frechet.errors import RequestError
from frechet.losses.torch import frechet_distance
from frechet.losses.torch_features import ImageFeatures, validate_image_tensor
from frechet.losses.torch_value_range import require_scale
from frechet.losses.validation import validate_sample_size

PREPROCESSINGS = {"inception": "pytorch-fid", "inception-torchvision": "fastfid"}
INPUT_SIZE = 299
VALUE_RANGE = (0.0, 1.0)


def fastfid(
    imagesA: torch.Tensor,  # noqa: N803, FastFID's own name
    imagesB: torch.Tensor,  # noqa: N803
    batch_size: int = -1,
    preprocess: bool = True,
    gradient_checkpointing: bool = False,
    *,
    extractor: str = "inception",
    weights: str | None = None,
) -> torch.Tensor:
    """Compute the Fréchet distance between two batches of images, differentiable in those that require a gradient.

    By default the network and weights are those of FID, as in pytorch-fid, so that the result is FID but not the figure
    of FastFID. `extractor="inception-torchvision"` gives the figure of FastFID (Mathiasen & Hvilshøj 2020,
    arXiv:2009.14075), which uses the network and weights of torchvision, with the input transform of torchvision applied
    to 2x - 1. That figure is not FID. FastFID computes singular values in float32, this function in float64.

    Args:
        imagesA, imagesB: (n, 3, h, w) and (m, 3, h, w), floating point in [0, 1], on one device, n, m >= 2. Values that
            training moves out of this range are used as they are, and are reported by a warning.
        batch_size: number of images per forward pass, which need not divide n; -1 for all images.
        preprocess: whether to resize to 299 x 299 (bilinear, half-pixel centres); if False, images must have that size.
        gradient_checkpointing: recompute activations in the backward pass, which takes about a third more time and a
            fraction of the memory.
        extractor: "inception" or "inception-torchvision".
        weights: path of a weights file; if None, the usual locations are searched and missing weights are downloaded.

    Returns:
        A scalar, float64 for float64 images and float32 otherwise.

    Raises:
        RequestError: the images have another type, shape, dtype, device or scale; or the extractor is unknown.
        TooFewImagesError: there are fewer than two images in a batch.
        WeightsError: the weights are missing or damaged.
    """
    validate_choice(extractor, PREPROCESSINGS, "extractor", "for fastfid")
    if batch_size != -1 and batch_size < 1:
        raise RequestError(f"batch_size is {batch_size}; expected -1 (all images) or at least 1")
    for images in (imagesA, imagesB):
        _validate_batch(images, preprocess)
        if images.is_floating_point() and not images.requires_grad:  # an optimiser may move the others anywhere
            require_scale(images, VALUE_RANGE)
    network = _load_network(extractor, weights, imagesA.device, gradient_checkpointing)
    features = [_extract_features(network, images, batch_size) for images in (imagesA, imagesB)]
    dtype = torch.float64 if imagesA.dtype == torch.float64 else torch.float32
    device = torch.device("cpu") if imagesA.device.type == "mps" else imagesA.device  # MPS has no float64
    return frechet_distance(*(rows.to(device).double() for rows in features)).to(dtype).to(imagesA.device)


def fid(
    images1: Any,
    images2: Any,
    batch_size: int = 32,
    preprocess: bool = True,
    *,
    extractor: str = "inception",
    weights: str | None = None,
) -> float:
    """Compute the same distance as `fastfid` of arrays, without a gradient.

    Args:
        images1, images2: (n, h, w, 3), uint8, or floating point in [0, 1]; with preprocess=False (n, 3, 299, 299), floating
            point in [0, 1].
        batch_size: number of images per forward pass.
        preprocess, extractor, weights: as in `fastfid`.

    Returns:
        The distance.

    Raises:
        RequestError, TooFewImagesError, WeightsError: as in `fastfid`.
    """
    device = choose_device("auto")
    one, other = (_to_tensor(images, preprocess).to(device) for images in (images1, images2))
    with torch.no_grad():
        return float(fastfid(one, other, batch_size, preprocess, extractor=extractor, weights=weights))


def _to_tensor(images: Any, preprocess: bool) -> torch.Tensor:
    """Convert images to (n, 3, h, w) in [0, 1].

    Raises:
        RequestError: the images do not have four axes.
    """
    tensor = torch.as_tensor(np.asarray(images))
    if tensor.ndim != 4:
        raise RequestError(
            f"images have shape {tuple(tensor.shape)}; expected (n, h, w, 3). Stack them: np.stack(images)"
        )
    tensor = tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor
    return tensor.permute(0, 3, 1, 2) if preprocess else tensor


def trace_of_matrix_sqrt(C1: torch.Tensor, C2: torch.Tensor) -> torch.Tensor:  # noqa: N803, FastFID's own names
    """Compute tr √(C₁C₁ᵀ C₂C₂ᵀ) as the sum of the singular values of C₁ᵀC₂, which is differentiable.

    FastFID computes it from the singular values of a product of four factors, which loses small ones, and needs n ≤ d
    columns, of which one less are independent. Here, there may be any number of columns.

    Args:
        C1, C2: (d, n) and (d, m), floating point.

    Returns:
        A scalar.

    Raises:
        RequestError: the matrices have another shape.

    Examples:
        >>> c = torch.eye(3)[:, :2]
        >>> float(trace_of_matrix_sqrt(c, 2 * c))
        4.0
    """
    if C1.ndim != 2 or C2.ndim != 2 or len(C1) != len(C2):
        raise RequestError(f"got shapes {tuple(C1.shape)} and {tuple(C2.shape)}; expected (d, n) and (d, m)")
    return torch.linalg.svdvals(C1.T @ C2).sum()


def _validate_batch(images: torch.Tensor, preprocess: bool) -> None:
    """Check type, shape and number of images before any weights are loaded."""
    validate_image_tensor(images)
    validate_sample_size(images.shape[0])
    if not preprocess and tuple(images.shape[2:]) != (INPUT_SIZE, INPUT_SIZE):
        raise RequestError(
            f"images have size {tuple(images.shape[2:])}; with preprocess=False expected ({INPUT_SIZE}, {INPUT_SIZE}). "
            "Use preprocess=True to resize them."
        )


def _extract_features(network: ImageFeatures, images: torch.Tensor, batch_size: int) -> torch.Tensor:
    with torch.set_grad_enabled(torch.is_grad_enabled() and images.requires_grad):
        batches = images.split(images.shape[0] if batch_size == -1 else batch_size)
        return torch.cat([network.training_features(batch) for batch in batches])


@lru_cache(maxsize=4)
def _load_network(
    extractor: str, weights: str | None, device: torch.device, gradient_checkpointing: bool
) -> ImageFeatures:
    return ImageFeatures(
        extractor=extractor,
        preprocessing=PREPROCESSINGS[extractor],
        weights=weights,
        gradient_checkpointing=gradient_checkpointing,
    ).to(device)
