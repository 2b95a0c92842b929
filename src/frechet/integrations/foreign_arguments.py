"""Arguments of torchmetrics' own image metrics, and what replaces them."""

from __future__ import annotations

from collections.abc import Iterable

from frechet.errors import RequestError

_EQUIVALENTS = {
    "feature": "dims= selects the number of Inception features, and extractor= another network",
    "normalize": "floating-point images are expected in value_range=, by default (0, 1) as with normalize=True; uint8 images "
    "need no setting",
    "antialias": 'preprocessing="torchmetrics" resizes with antialiasing, and preprocessing="tensorflow" without',
    "input_img_size": "images of any size are accepted without it",
    "used_custom_model": "extractor= takes a torch.nn.Module",
    "feature_extractor_weights_path": "weights= is the path of a weights file",
    "subsets": "KID uses all pairs of images instead of subsets",
    "subset_size": "KID uses all pairs of images instead of subsets",
    "degree": "the kernel is that of the paper, of degree 3",
    "gamma": "the kernel is that of the paper, with gamma = 1 / d",
    "coef": "the kernel is that of the paper, with coefficient 1",
    "splits": "InceptionScore uses 10 splits; frechet.score(..., splits=) computes others",
    "cosine_distance_eps": "MiFID uses the threshold of the paper; frechet.score computes the presets of `frechet metrics`",
}


def reject_foreign_arguments(names: Iterable[str]) -> None:
    """Raise an error if one of the names is an argument of a metric of torchmetrics that has another name here.

    Raises:
        RequestError: names the argument and its equivalent.
    """
    for name in names:
        if name in _EQUIVALENTS:
            raise RequestError(f"{name}= is an argument of torchmetrics' metrics. Here, {_EQUIVALENTS[name]}.")
