"""FastFID's function over this engine: the distance of two small batches of images, with gradients, on any device."""

from __future__ import annotations

from functools import lru_cache

import torch

from frechet.errors import RequestError, TooFewImagesError
from frechet.losses.torch import frechet_distance
from frechet.losses.torch_features import ImageFeatures

PREPROCESSINGS = {"inception": "pytorch-fid", "inception-torchvision": "fastfid"}
INPUT_SIZE = 299


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
    """The Fréchet distance between two batches of images, differentiable in whichever of them asks for a gradient.

    Which number it is: by default FID's network with its official weights, as pytorch-fid has it: *not* FastFID's figures.
    `extractor="inception-torchvision"` gives FastFID's own (Mathiasen & Hvilshøj 2020, arXiv:2009.14075): torchvision's
    network and weights, and torchvision's input transform on top of 2x - 1. Those are not FID, and FastFID's singular values
    are float32's where these are float64's.

    Args:
        imagesA, imagesB: (n, 3, h, w) and (m, 3, h, w), floating point in [0, 1], on one device. n and m may differ.
        batch_size: images that run through the network together; -1 for all of them. It need not divide n.
        preprocess: resize to 299 x 299 (bilinear, half-pixel centres); if false they must have that size.
        gradient_checkpointing: a fraction of the memory for about a third more time.
        extractor: "inception" or "inception-torchvision".
        weights: a weights file that comes before every other place.

    Returns:
        A scalar float32 (float64 for float64 images).

    Raises:
        RequestError: images of another shape, dtype, range or device; an unknown extractor.
        TooFewImages: fewer than two on a side.
        WeightsError: the weights cannot be had.
    """
    if extractor not in PREPROCESSINGS:
        raise RequestError(f"no extractor {extractor!r} for fastfid; there is {', '.join(PREPROCESSINGS)}")
    if batch_size != -1 and batch_size < 1:
        raise RequestError(f"batch_size is {batch_size}; expected -1 (all images) or at least 1")
    for images in (imagesA, imagesB):
        _validate_batch(images, preprocess)
    network = _load_network(extractor, weights, imagesA.device, gradient_checkpointing)
    features = [_extract_features(network, images, batch_size) for images in (imagesA, imagesB)]
    dtype = torch.float64 if imagesA.dtype == torch.float64 else torch.float32
    device = torch.device("cpu") if imagesA.device.type == "mps" else imagesA.device  # MPS has no float64
    return frechet_distance(*(rows.to(device).double() for rows in features)).to(dtype).to(imagesA.device)


def _validate_batch(images: torch.Tensor, preprocess: bool) -> None:
    """Refuse what can be no batch, before any weights are loaded."""
    if not isinstance(images, torch.Tensor):
        raise RequestError(f"images are {type(images).__name__}; expected a tensor (n, 3, h, w)")
    if images.shape[0] < 2:
        raise TooFewImagesError(f"a distribution needs at least two images; got {images.shape[0]}")
    if not preprocess and tuple(images.shape[2:]) != (INPUT_SIZE, INPUT_SIZE):
        raise RequestError(
            f"images are {tuple(images.shape[2:])}; with preprocess=False expected ({INPUT_SIZE}, {INPUT_SIZE})"
        )


def _extract_features(network: ImageFeatures, images: torch.Tensor, batch_size: int) -> torch.Tensor:
    with torch.set_grad_enabled(torch.is_grad_enabled() and images.requires_grad):
        batches = images.split(images.shape[0] if batch_size == -1 else batch_size)
        return torch.cat([network.features(piece) for piece in batches])


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
