"""How an image becomes the network's input: which resize, which normalisation. The table of design decisions others made.

The same weights with another convention give another number (0.2651 and 0.2669 on one pair of folders), so a convention
travels with every statistic and score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from frechet.images import resize
from frechet.networks.ops import Scalars

Matrix = Callable[[int, int], np.ndarray]
Resize = Callable[[np.ndarray, np.ndarray], None]  # (h, w, 3) uint8 into (size, size, 3) float32, 0..255


@dataclass(frozen=True)
class Convention:
    """Resize, then value * scale + shift.

    Attributes:
        resize: for decoders.
        matrix: (given, wanted) -> (wanted, given), the same resize of one axis, for backends that differentiate.
        scale, shift: one number, or one for each channel.
        clipped: whether the result is cut to 0..255 (bicubic overshoots).
    """

    name: str
    resize: Resize
    matrix: Matrix
    scale: Scalars
    shift: Scalars
    used_by: str
    clipped: bool = False


# 2x/255 - 1, and on top of it torchvision's `transform_input`, which takes (red, green, blue) from ImageNet's mean and
# standard deviation to [-1, 1]: y * σ/0.5 + (μ - 0.5)/0.5
_FASTFID_SCALE = 0.458 * 2 / 255, 0.448 * 2 / 255, 0.45 * 2 / 255
_FASTFID_SHIFT = -0.03 - 0.458, -0.088 - 0.448, -0.188 - 0.45

CONVENTIONS = {
    convention.name: convention
    for convention in (
        Convention(
            "pytorch-fid",
            resize.bilinear_half_pixel,
            resize.half_pixel_matrix,
            2 / 255,
            -1.0,
            "pytorch-fid, FastFID's resize, jax-fid: bilinear with half-pixel centres, 2x/255 - 1",
        ),
        Convention(
            "tensorflow",
            resize.bilinear_corner,
            resize.corner_matrix,
            1 / 128,
            -1.0,
            "TTUR, ADM, EDM, torch-fidelity: TensorFlow 1's bilinear, (x - 128)/128",
        ),
        Convention(
            "clean",
            resize.bicubic_pillow,
            resize.bicubic_matrix,
            1 / 128,
            -1.0,
            "clean-fid: Pillow's antialiased bicubic on float channels, clipped and not rounded, (x - 128)/128",
            clipped=True,
        ),
        Convention(
            "torchmetrics",
            resize.bilinear_pillow,
            resize.triangle_matrix,
            1 / 128,
            -1.0,
            "torchmetrics: antialiased bilinear, (x - 128)/128",
        ),
        Convention(
            "fastfid",
            resize.bilinear_half_pixel,
            resize.half_pixel_matrix,
            _FASTFID_SCALE,
            _FASTFID_SHIFT,
            "FastFID: bilinear with half-pixel centres, 2x/255 - 1, and then torchvision's transform_input on top",
        ),
        Convention(
            "efficientnet-lite0",
            resize.bicubic_pillow,
            resize.bicubic_matrix,
            1 / 128,
            -127 / 128,
            "EfficientNet-Lite0: Pillow's antialiased bicubic, not rounded, (x - 127)/128",
            clipped=True,
        ),
    )
}
