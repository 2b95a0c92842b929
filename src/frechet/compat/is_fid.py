"""The functions of IS-FID-PyTorch: the Inception Score of a dataset of tensors and the FID of two datasets.

According to the README of IS-FID-PyTorch, its Inception Score is that of sbarratt/inception-score-pytorch; the arguments
and splits are the same here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch

from frechet._internal.choices import validate_choice
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
    """Compute the mean and standard deviation of the Inception Score over consecutive splits of a dataset.

    By default the logits are those of the official weights, 1008 classes without bias. The table in the README of
    IS-FID-PyTorch (9.3701 ± 0.1496 for CIFAR-10) was computed with the weights of torchvision, which
    `extractor="inception-torchvision"` selects. Source: Salimans et al. 2016, arXiv:1606.03498.

    Args:
        imgs: dataset of tensors or arrays (3, h, w) in [-1, 1], or of (image, label) pairs.
        cuda: whether to use a CUDA device if there is one.
        batch_size: number of images per forward pass.
        resize: whether to resize to 299 x 299 (bilinear, half-pixel centres); if False, images must have that size.
        splits: number of splits of n // splits images; the remaining images are dropped.
        extractor: "inception" or "inception-torchvision".
        weights: path of a weights file; if None, the usual locations are searched and missing weights are downloaded.

    Returns:
        Mean and standard deviation (with the number of splits in the denominator) of the score.

    Raises:
        RequestError: images have another shape or range of values, there are fewer images than splits, or the extractor
            is unknown.
        WeightsError: the weights are missing, damaged or have no classifier.
    """
    network = _load_network(extractor, N_CLASSES.get(extractor), cuda, weights)
    logits = _extract_features(network, imgs, batch_size, resize)
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
    """Compute FID, the Fréchet distance between the 2048 features of two datasets.

    Unlike a matrix square root, this is exact also for fewer images than dimensions. Source: Heusel et al. 2017,
    arXiv:1706.08500.

    Args:
        imgs1, imgs2: datasets of tensors or arrays (3, h, w) in [-1, 1], or of (image, label) pairs.
        cuda: whether to use a CUDA device if there is one.
        batch_size: number of images per forward pass.
        resize: whether to resize to 299 x 299 (bilinear, half-pixel centres); if False, images must have that size.
        extractor: "inception" or "inception-torchvision".
        weights: path of a weights file; if None, the usual locations are searched and missing weights are downloaded.

    Returns:
        The distance.

    Raises:
        RequestError: images have another shape or range of values, a dataset is empty, or the extractor is unknown.
        TooFewImagesError: a dataset has one image.
        WeightsError: the weights are missing or damaged.
    """
    network = _load_network(extractor, 2048, cuda, weights)
    features = [_extract_features(network, imgs, batch_size, resize) for imgs in (imgs1, imgs2)]
    return float(frechet_terms(*(Gaussian.from_features(rows.astype(np.float64)) for rows in features)).total)


def _load_network(extractor: str, dims: int | None, cuda: bool, weights: str | None) -> ImageFeatures:
    validate_choice(extractor, N_CLASSES, "extractor", "for is_fid")
    network = ImageFeatures(
        extractor=extractor, dims=dims, preprocessing="pytorch-fid", weights=weights, value_range=(-1.0, 1.0)
    )
    return network.to("cuda" if cuda and torch.cuda.is_available() else "cpu")


def _extract_features(network: ImageFeatures, imgs: Any, batch_size: int, resize: bool) -> np.ndarray:
    batch_features = []
    with torch.inference_mode():
        for batch in _iter_batches(imgs, batch_size):
            images = torch.stack(batch).to(network.device)
            if not resize and tuple(images.shape[2:]) != (INPUT_SIZE, INPUT_SIZE):
                raise RequestError(
                    f"images have size {tuple(images.shape[2:])}; with resize=False expected ({INPUT_SIZE}, {INPUT_SIZE}). "
                    "Use resize=True to resize them."
                )
            batch_features.append(network.features(images).cpu().numpy())
    if not batch_features:
        raise RequestError("the dataset is empty; expected at least two images")
    return np.concatenate(batch_features)


def _iter_batches(imgs: Any, size: int) -> Iterator[list[torch.Tensor]]:
    images = (_to_tensor(imgs[i]) for i in range(len(imgs)))
    while batch := list(islice(images, size)):
        yield batch


def _to_tensor(item: Any) -> torch.Tensor:
    """Return a float32 copy of the image of an item, since a dataset may reuse its memory.

    Raises:
        RequestError: the item is something else than an image, or an image with labels.
    """
    image, *labels = item if isinstance(item, (tuple, list)) else (item,)
    if any(getattr(label, "ndim", 0) >= 3 for label in labels):
        raise RequestError(
            f"an item of the dataset is a {type(item).__name__} of several images; expected one image, or (image, label). "
            "Pass the images of a batch one by one."
        )
    return torch.as_tensor(image).to(torch.float32, copy=True)
