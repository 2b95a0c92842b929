"""IS-FID-PyTorch's two numbers over this engine: the Inception Score of a dataset of tensors, and FID of two of them.

Its Inception Score is, by its own README, that of sbarratt/inception-score-pytorch, whose arguments and splits these are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.distances.inception_score import split_inception_scores
from frechet.errors import RequestError
from frechet.losses.torch_features import ImageFeatures

N_CLASSES = {"inception": 1008, "inception-torchvision": 1000}
INPUT_SIZE = 299


def inception_score(
    imgs: Any,
    cuda: bool = True,
    batch_size: int = 32,
    resize: bool = False,
    splits: int = 1,
    *,
    extractor: str = "inception",
    weights: str | None = None,
) -> tuple[float, float]:
    """Mean and deviation (n in the denominator) of the Inception Score over splits, in the order of the images.

    Which number it is: by default that of the official weights, 1008 class scores without bias. The table in
    IS-FID-PyTorch's README (9.3701 ± 0.1496 for CIFAR-10) was made with torchvision's weights:
    `extractor="inception-torchvision"`.

    Args:
        imgs: a dataset of (3, h, w) tensors or arrays in [-1, 1], or of (image, label) pairs.
        cuda: compute on CUDA if there is such a device.
        batch_size: images that run through the network together.
        resize: resize to 299 x 299 (bilinear, half-pixel centres); if false they must have that size.
        splits: how many; what is left over of n / splits at the end is dropped.
        extractor: "inception" or "inception-torchvision".
        weights: a weights file that comes before every other place.

    Raises:
        RequestError: images of another shape or range, fewer than `splits`, an unknown extractor.
        WeightsError: the weights cannot be had, or have no class scores.
    """
    if extractor not in N_CLASSES:
        raise RequestError(f"no extractor {extractor!r} for is_fid; there is {', '.join(N_CLASSES)}")
    logits = _extract_features(imgs, N_CLASSES[extractor], cuda, batch_size, resize, extractor, weights)
    scores = split_inception_scores(logits[: len(logits) // splits * splits], splits)
    return scores.mean, scores.std


def fid(
    imgs1: Any,
    imgs2: Any,
    cuda: bool = True,
    batch_size: int = 32,
    resize: bool = False,
    *,
    extractor: str = "inception",
    weights: str | None = None,
) -> float:
    """The Fréchet distance of two datasets' 2048 features, exact where there are fewer images than these. Arguments as above."""
    if extractor not in N_CLASSES:
        raise RequestError(f"no extractor {extractor!r} for is_fid; there is {', '.join(N_CLASSES)}")
    features = [_extract_features(imgs, 2048, cuda, batch_size, resize, extractor, weights) for imgs in (imgs1, imgs2)]
    return float(frechet_terms(*(Gaussian.from_features(rows.astype(np.float64)) for rows in features)).total)


def _extract_features(
    imgs: Any, dims: int, cuda: bool, batch_size: int, resize: bool, extractor: str, weights: str | None
) -> np.ndarray:
    network = ImageFeatures(
        extractor=extractor, dims=dims, preprocessing="pytorch-fid", weights=weights, value_range=(-1.0, 1.0)
    ).to("cuda" if cuda and torch.cuda.is_available() else "cpu")
    batch_features = []
    with torch.inference_mode():
        for batch in _iter_batches(imgs, batch_size):
            images = torch.stack([torch.as_tensor(image).float() for image in batch]).to(network.device)
            if not resize and tuple(images.shape[2:]) != (INPUT_SIZE, INPUT_SIZE):
                raise RequestError(
                    f"images are {tuple(images.shape[2:])}; with resize=False expected ({INPUT_SIZE}, {INPUT_SIZE}): set resize=True"
                )
            batch_features.append(network.features(images).cpu().numpy())
    if not batch_features:
        raise RequestError("got an empty dataset")
    return np.concatenate(batch_features)


def _iter_batches(imgs: Any, size: int) -> Iterator[list[Any]]:
    images = (imgs[i] for i in range(len(imgs)))
    unlabelled = (image[0] if isinstance(image, Sequence) else image for image in images)
    while batch := list(islice(unlabelled, size)):
        yield batch
