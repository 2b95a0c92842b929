"""How an image becomes the network's input: which resize, which normalisation. The table of design decisions others made.

The same weights with another convention give another number (0.2651 and 0.2669 on one pair of folders), so a convention
travels with every statistic and score.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from frechet.errors import RequestError
from frechet.preprocessing import resize

Scalars = float | tuple[float, float, float]
ResizeMatrix = Callable[[int, int], np.ndarray]
ResizeFunction = Callable[[np.ndarray, np.ndarray], None]  # (h, w, 3) uint8 into (size, size, 3) float32, 0..255


@dataclass(frozen=True)
class Preprocessing:
    """Resize, then value * scale + shift.

    Attributes:
        resize: for decoders.
        matrix: (given, wanted) -> (wanted, given), the same resize of one axis, for backends that differentiate.
        scale, shift: one number, or one for each channel.
        clipped: whether the result is cut to 0..255 (bicubic overshoots).
        square: whether only the central square counts, which the matrix is then of.
    """

    name: str
    resize: ResizeFunction
    resize_matrix: ResizeMatrix
    scale: Scalars
    shift: Scalars
    description: str
    is_clipped: bool = False
    has_center_crop: bool = False


def validate_value_range(value_range: Any) -> tuple[float, float]:
    """The values that stand for black and white in images of floating point.

    Raises:
        RequestError: not two finite numbers, black below white.
    """
    try:
        low, high = map(float, value_range)
    except (TypeError, ValueError):
        low = high = math.nan
    if isinstance(value_range, str) or not -math.inf < low < high < math.inf:
        raise RequestError(f"value_range is {value_range!r}; expected (black, white), black below white")
    return low, high


# 2x/255 - 1, and on top of it torchvision's `transform_input`, which takes (red, green, blue) from ImageNet's mean and
# standard deviation to [-1, 1]: y * σ/0.5 + (μ - 0.5)/0.5
_FASTFID_SCALE = 0.458 * 2 / 255, 0.448 * 2 / 255, 0.45 * 2 / 255
_FASTFID_SHIFT = -0.03 - 0.458, -0.088 - 0.448, -0.188 - 0.45

_IMAGENET_MEAN_STD = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # mean and standard deviation of (red, green, blue) in 0..1
_CLIP_MEAN_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def _affine_from_mean_std(
    means: tuple[float, float, float], stds: tuple[float, float, float]
) -> tuple[Scalars, Scalars]:
    """(scale, shift) that take 0..255 to (x/255 - mean) / deviation."""
    (red, green, blue), (r, g, b) = stds, means
    return (1 / (255 * red), 1 / (255 * green), 1 / (255 * blue)), (-r / red, -g / green, -b / blue)


PREPROCESSINGS = {
    preprocessing.name: preprocessing
    for preprocessing in (
        Preprocessing(
            "pytorch-fid",
            resize.bilinear_half_pixel,
            resize.half_pixel_matrix,
            2 / 255,
            -1.0,
            "pytorch-fid, FastFID's resize, jax-fid: bilinear with half-pixel centres, 2x/255 - 1",
        ),
        Preprocessing(
            "tensorflow",
            resize.bilinear_tf1,
            resize.tf1_matrix,
            1 / 128,
            -1.0,
            "TTUR, ADM, EDM, torch-fidelity: TensorFlow 1's bilinear, (x - 128)/128",
        ),
        Preprocessing(
            "clean",
            resize.bicubic_pillow,
            resize.bicubic_matrix,
            1 / 128,
            -1.0,
            "clean-fid: Pillow's antialiased bicubic on float channels, clipped and not rounded, (x - 128)/128",
            is_clipped=True,
        ),
        Preprocessing(
            "torchmetrics",
            resize.bilinear_pillow,
            resize.bilinear_antialiased_matrix,
            1 / 128,
            -1.0,
            "torchmetrics: antialiased bilinear, (x - 128)/128",
        ),
        Preprocessing(
            "fastfid",
            resize.bilinear_half_pixel,
            resize.half_pixel_matrix,
            _FASTFID_SCALE,
            _FASTFID_SHIFT,
            "FastFID: bilinear with half-pixel centres, 2x/255 - 1, and then torchvision's transform_input on top",
        ),
        Preprocessing(
            "efficientnet-lite0",
            resize.bicubic_pillow,
            resize.bicubic_matrix,
            1 / 128,
            -127 / 128,
            "EfficientNet-Lite0: Pillow's antialiased bicubic, not rounded, (x - 127)/128",
            is_clipped=True,
        ),
        Preprocessing(
            "tensorflow-imagenet",
            resize.bilinear_tf1,
            resize.tf1_matrix,
            *_affine_from_mean_std(*_IMAGENET_MEAN_STD),
            "torch-fidelity's VGG16: TensorFlow 1's bilinear, then ImageNet's mean and deviation",
        ),
        Preprocessing(
            "imagenet",
            resize.bicubic_pillow_rounded,
            resize.bicubic_matrix,
            *_affine_from_mean_std(*_IMAGENET_MEAN_STD),
            "dgm-eval's DINOv2: Pillow's antialiased bicubic in 8 bits, stretched, then ImageNet's mean and deviation",
            is_clipped=True,
        ),
        Preprocessing(
            "imagenet-crop",
            resize.bicubic_pillow_center_square,
            resize.bicubic_matrix,
            *_affine_from_mean_std(*_IMAGENET_MEAN_STD),
            "the same of the central square",
            is_clipped=True,
            has_center_crop=True,
        ),
        Preprocessing(
            "imagenet-middle",
            resize.bicubic_pillow_center_crop,
            resize.bicubic_center_crop_matrix,
            *_affine_from_mean_std(*_IMAGENET_MEAN_STD),
            "dgm-eval's ConvNeXt: the middle of it, 224 of 256 pixels of the shorter side",
            is_clipped=True,
            has_center_crop=True,
        ),
        Preprocessing(
            "imagenet-float",
            resize.bicubic_pillow,
            resize.bicubic_matrix,
            *_affine_from_mean_std(*_IMAGENET_MEAN_STD),
            "dgm-eval's MAE: Pillow's antialiased bicubic on float channels, not rounded, ImageNet's mean and deviation",
            is_clipped=True,
        ),
        Preprocessing(
            "beit",
            resize.bicubic_pillow_rounded,
            resize.bicubic_matrix,
            2 / 255,
            -1.0,
            "dgm-eval's data2vec: Pillow's antialiased bicubic in 8 bits, stretched, 2x/255 - 1",
            is_clipped=True,
        ),
        Preprocessing(
            "clip",
            resize.bicubic_pillow_center_square,
            resize.bicubic_matrix,
            *_affine_from_mean_std(*_CLIP_MEAN_STD),
            "CMMD, clean-fid's CLIP: the central square, Pillow's antialiased bicubic in 8 bits, CLIP's mean and deviation",
            is_clipped=True,
            has_center_crop=True,
        ),
        Preprocessing(
            "clip-stretch",
            resize.bicubic_pillow_rounded,
            resize.bicubic_matrix,
            *_affine_from_mean_std(*_CLIP_MEAN_STD),
            "the same of the whole image, stretched",
            is_clipped=True,
        ),
    )
}
