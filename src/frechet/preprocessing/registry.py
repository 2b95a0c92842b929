"""The table of preprocessings: how an image becomes the input of a network, by resizing and normalization.

The same weights with another preprocessing give another score (0.2651 and 0.2669 on one pair of folders), so the name of
the preprocessing is recorded in all statistics and scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from frechet._internal.registry import Registry
from frechet.preprocessing import resize

Scalars = float | tuple[float, float, float]
ResizeMatrix = Callable[[int, int], np.ndarray]
ResizeFunction = Callable[[np.ndarray, np.ndarray], None]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """A resize followed by value * scale + shift.

    Attributes:
        resize: resize on the host: read an image (h, w, 3) uint8 and write it into (size, size, 3) float32, in 0..255.
        resize_matrix: the same resize of one axis, for devices and gradients: given the input and output size, return
            (out_size, in_size) float64.
        scale, shift: normalization of values in 0..255: one number, or one per channel (red, green, blue).
        description: the tools that use it, and what it does, in one line.
        is_clipped: whether values are clipped to 0..255 after the resize, because bicubic interpolation overshoots.
        has_center_crop: whether only the central square is used; `resize_matrix` then applies to that square.
        is_rounded: whether the resize is Pillow's of 8-bit images, which rounds weights, and values after each axis.
    """

    resize: ResizeFunction
    resize_matrix: ResizeMatrix
    scale: Scalars
    shift: Scalars
    description: str
    is_clipped: bool = False
    has_center_crop: bool = False
    is_rounded: bool = False


# 2x/255 - 1, followed by torchvision's `transform_input`, which maps (red, green, blue) from ImageNet's mean and standard
# deviation to [-1, 1]: y * σ/0.5 + (μ - 0.5)/0.5
_FASTFID_SCALE = 0.458 * 2 / 255, 0.448 * 2 / 255, 0.45 * 2 / 255
_FASTFID_SHIFT = -0.03 - 0.458, -0.088 - 0.448, -0.188 - 0.45


def _normalization(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return (scale, shift) that map x in 0..255 to (x/255 - mean) / std, given both per channel for values in 0..1."""
    (mean_r, mean_g, mean_b), (std_r, std_g, std_b) = mean, std
    scale = 1 / (255 * std_r), 1 / (255 * std_g), 1 / (255 * std_b)
    return scale, (-mean_r / std_r, -mean_g / std_g, -mean_b / std_b)


_IMAGENET_SCALE, _IMAGENET_SHIFT = _normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP_SCALE, _CLIP_SHIFT = _normalization((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

_BUILT_IN = {
    "pytorch-fid": Preprocessing(
        resize=resize.bilinear_half_pixel,
        resize_matrix=resize.half_pixel_matrix,
        scale=2 / 255,
        shift=-1.0,
        description="pytorch-fid, FastFID's resize, jax-fid: bilinear with half-pixel centres, 2x/255 - 1",
    ),
    "tensorflow": Preprocessing(
        resize=resize.bilinear_tf1,
        resize_matrix=resize.tf1_matrix,
        scale=1 / 128,
        shift=-1.0,
        description="TTUR, ADM, EDM, torch-fidelity: TensorFlow 1's bilinear, (x - 128)/128",
    ),
    "clean": Preprocessing(
        resize=resize.bicubic_pillow,
        resize_matrix=resize.bicubic_matrix,
        scale=1 / 128,
        shift=-1.0,
        description="clean-fid: Pillow's antialiased bicubic on float channels, clipped and not rounded, (x - 128)/128",
        is_clipped=True,
    ),
    "torchmetrics": Preprocessing(
        resize=resize.bilinear_pillow,
        resize_matrix=resize.bilinear_antialiased_matrix,
        scale=1 / 128,
        shift=-1.0,
        description="torchmetrics: antialiased bilinear, (x - 128)/128",
    ),
    "fastfid": Preprocessing(
        resize=resize.bilinear_half_pixel,
        resize_matrix=resize.half_pixel_matrix,
        scale=_FASTFID_SCALE,
        shift=_FASTFID_SHIFT,
        description="FastFID: bilinear with half-pixel centres, 2x/255 - 1, followed by torchvision's transform_input",
    ),
    "efficientnet-lite0": Preprocessing(
        resize=resize.bicubic_pillow,
        resize_matrix=resize.bicubic_matrix,
        scale=1 / 128,
        shift=-127 / 128,
        description="EfficientNet-Lite0: Pillow's antialiased bicubic, not rounded, (x - 127)/128",
        is_clipped=True,
    ),
    "tensorflow-imagenet": Preprocessing(
        resize=resize.bilinear_tf1,
        resize_matrix=resize.tf1_matrix,
        scale=_IMAGENET_SCALE,
        shift=_IMAGENET_SHIFT,
        description="torch-fidelity's VGG16: TensorFlow 1's bilinear, ImageNet's mean and standard deviation",
    ),
    "imagenet": Preprocessing(
        resize=resize.bicubic_pillow_rounded,
        resize_matrix=resize.bicubic_matrix,
        scale=_IMAGENET_SCALE,
        shift=_IMAGENET_SHIFT,
        description="dgm-eval's DINOv2: Pillow's antialiased bicubic in 8 bits, not keeping the aspect ratio, ImageNet's mean and standard deviation",
        is_clipped=True,
        is_rounded=True,
    ),
    "imagenet-crop": Preprocessing(
        resize=resize.bicubic_pillow_center_square,
        resize_matrix=resize.bicubic_matrix,
        scale=_IMAGENET_SCALE,
        shift=_IMAGENET_SHIFT,
        description="central square, Pillow's antialiased bicubic in 8 bits, ImageNet's mean and standard deviation",
        is_clipped=True,
        is_rounded=True,
        has_center_crop=True,
    ),
    "imagenet-middle": Preprocessing(
        resize=resize.bicubic_pillow_center_crop,
        resize_matrix=resize.bicubic_center_crop_matrix,
        scale=_IMAGENET_SCALE,
        shift=_IMAGENET_SHIFT,
        description="dgm-eval's ConvNeXt: Pillow's antialiased bicubic in 8 bits, central 7/8 of the shorter side (224 of 256 pixels), ImageNet's mean and standard deviation",
        is_clipped=True,
        is_rounded=True,
        has_center_crop=True,
    ),
    "quantised-bicubic": Preprocessing(
        resize=resize.bicubic_pillow_center_square,
        resize_matrix=resize.bicubic_matrix,
        scale=1 / 128,
        shift=-1.0,
        description="text2image-benchmark: central square, Pillow's antialiased bicubic in 8 bits, (x - 128)/128",
        is_clipped=True,
        is_rounded=True,
        has_center_crop=True,
    ),
    "imagenet-unclipped": Preprocessing(
        resize=resize.bicubic_antialiased,
        resize_matrix=resize.bicubic_matrix,
        scale=_IMAGENET_SCALE,
        shift=_IMAGENET_SHIFT,
        description="EDM2's DINOv2, FD-Loss's ConvNeXt, DINOv2 and MAE: PyTorch's antialiased bicubic, not rounded and not clipped, ImageNet's mean and standard deviation",
    ),
    "imagenet-float": Preprocessing(
        resize=resize.bicubic_pillow,
        resize_matrix=resize.bicubic_matrix,
        scale=_IMAGENET_SCALE,
        shift=_IMAGENET_SHIFT,
        description="dgm-eval's MAE: Pillow's antialiased bicubic on float channels, not rounded, ImageNet's mean and standard deviation",
        is_clipped=True,
    ),
    "beit": Preprocessing(
        resize=resize.bicubic_pillow_rounded,
        resize_matrix=resize.bicubic_matrix,
        scale=2 / 255,
        shift=-1.0,
        description="dgm-eval's data2vec: Pillow's antialiased bicubic in 8 bits, not keeping the aspect ratio, 2x/255 - 1",
        is_clipped=True,
        is_rounded=True,
    ),
    "clip": Preprocessing(
        resize=resize.bicubic_pillow_center_square,
        resize_matrix=resize.bicubic_matrix,
        scale=_CLIP_SCALE,
        shift=_CLIP_SHIFT,
        description="CMMD, clean-fid's CLIP: central square, Pillow's antialiased bicubic in 8 bits, CLIP's mean and standard deviation",
        is_clipped=True,
        is_rounded=True,
        has_center_crop=True,
    ),
    "clip-stretch": Preprocessing(
        resize=resize.bicubic_pillow_rounded,
        resize_matrix=resize.bicubic_matrix,
        scale=_CLIP_SCALE,
        shift=_CLIP_SHIFT,
        description="whole image, Pillow's antialiased bicubic in 8 bits, not keeping the aspect ratio, CLIP's mean and standard deviation",
        is_clipped=True,
        is_rounded=True,
    ),
    "clip-unclipped": Preprocessing(
        resize=resize.bicubic_antialiased,
        resize_matrix=resize.bicubic_matrix,
        scale=_CLIP_SCALE,
        shift=_CLIP_SHIFT,
        description="FD-Loss's CLIP: PyTorch's antialiased bicubic, not rounded and not clipped, CLIP's mean and standard deviation",
    ),
    "siglip": Preprocessing(
        resize=resize.bicubic_antialiased,
        resize_matrix=resize.bicubic_matrix,
        scale=2 / 255,
        shift=-1.0,
        description="FD-Loss's SigLIP: PyTorch's antialiased bicubic, not rounded and not clipped, 2x/255 - 1",
    ),
    "fd-loss": Preprocessing(
        resize=resize.bilinear_tf1,
        resize_matrix=resize.tf1_matrix,
        scale=2 / 255,
        shift=-1.0,
        description="FD-Loss's Inception: TensorFlow 1's bilinear, 2x/255 - 1",
    ),
}
PREPROCESSINGS = Registry("preprocessing", Preprocessing, "frechet.preprocessings", _BUILT_IN)


def register_preprocessing(name: str, preprocessing: Preprocessing) -> None:
    """Add a preprocessing, which every extractor then accepts under this name.

    Args:
        name: its name in options, statistics and scores: letters, digits and ``-_.``.
        preprocessing: the resize and the normalization.

    Raises:
        RequestError: the name is invalid or taken, or `preprocessing` is not a `Preprocessing`.
    """
    PREPROCESSINGS.register(name, preprocessing)


def registered_preprocessings() -> tuple[str, ...]:
    """Return the names of the preprocessings that users and installed packages have added."""
    return tuple(name for name in PREPROCESSINGS if name not in _BUILT_IN)
