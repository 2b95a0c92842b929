"""The one check that an array holds 8-bit images; every reader of arrays uses it."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

Layout = Literal["hwc", "chw", "nhwc"]

FLOAT_TO_UINT8 = (
    "For floats in [0, 1]: (x * 255).round().astype('uint8'); for [-1, 1]: ((x + 1) * 127.5).round().astype('uint8')"
)
MAX_12_BIT = (1 << 12) - 1
MAX_IMAGE_BYTES = 1 << 29  # of one image, uncompressed: 512 MiB

_WITHOUT_FLOATS = "Remove ToTensor and Normalize from the transform, or use PILToTensor"
_EXPECTED = {
    "hwc": "uint8 (h, w, 3), channels last",
    "chw": "uint8 (3, h, w), channels first",
    "nhwc": "uint8 (n, h, w, 3), channels last",
}
_TRANSPOSE = {"hwc": "x.transpose(1, 2, 0)", "chw": "x.permute(2, 0, 1)", "nhwc": "x.transpose(0, 2, 3, 1)"}


def find_pixel_error(dtype: Any, shape: tuple[int, ...], layout: Layout, values: Any = None) -> str | None:
    """Return why an array cannot be used as 8-bit images, what is expected and how to fix it; None if it can.

    Args:
        dtype: NumPy or PyTorch dtype of the array.
        shape: shape of the array.
        layout: its axes: one image as "hwc" or "chw" (a grey image may be (h, w)), or a stack of images, "nhwc".
        values: some of the pixels, from which the range of floats is found.
    """
    kind = str(dtype).removeprefix("torch.")
    fix = _find_shape_fix(shape, layout)
    if kind != "uint8" and (fix is None or len(shape) == len(layout)):
        fix = ". ".join(filter(None, (fix, _find_dtype_fix(kind, layout, values))))
    if fix is not None:
        return f"is {dtype} of shape {tuple(shape)}; expected {_EXPECTED[layout]}, in 0..255. {fix}"
    if layout == "nhwc" and math.prod(shape[1:]) > MAX_IMAGE_BYTES:
        return f"has images of {math.prod(shape[1:])} bytes; expected at most {MAX_IMAGE_BYTES} bytes per image"
    return None


def _find_dtype_fix(kind: str, layout: Layout, values: Any) -> str:
    """Return how to convert pixels of another dtype to uint8."""
    cast = ".byte()" if layout == "chw" else ".astype('uint8')"
    if kind == "bool":
        return f"For masks: x{cast} * 255"
    if kind == "uint16":
        return _find_16_bit_fix(values, cast)
    if kind.startswith(("int", "uint")):
        return f"If all values are in 0..255: x{cast}"
    if "float" not in kind:
        return "Pass pixels, which are numbers from 0 to 255"
    fix = _find_float_fix(values, cast) or FLOAT_TO_UINT8.replace(".astype('uint8')", cast)
    return f"{_WITHOUT_FLOATS}. {fix}" if layout == "chw" else fix


def guess_bit_depth(largest: int) -> int:
    """Return for how many bits values were probably recorded, given the largest of many: 8, 10, 12 or 16."""
    return next(bits for bits in (8, 10, 12, 16) if largest < 1 << bits)


def _find_16_bit_fix(values: Any, cast: str) -> str:
    """Return how to convert uint16; if the values do not use all bits, how to convert as many bits as they use."""
    largest = int(values.max(initial=0)) if isinstance(values, np.ndarray) else 0
    bits = guess_bit_depth(largest) if largest else 16
    if bits == 16:
        return f"For 16-bit images: (x // 257){cast}"
    convert = f"x{cast}" if bits == 8 else f"(x * (255 / {2**bits - 1})).round(){cast}"
    return f"The values are at most {largest:,}, as in {bits}-bit images: {convert}"


def _find_float_fix(values: Any, cast: str) -> str | None:
    """Return how to convert floats with the range of these values; None if there are none, or they are not finite."""
    if values is None or not math.prod(values.shape) or not math.isfinite(float(values.sum())):
        return None
    low, high = float(values.min()), float(values.max())
    shown = f"The values are in [{low:.3g}, {high:.3g}]"
    if low < 0:
        undo = "((x + 1) * 127.5).round()" if low >= -1 and high <= 1 else None
        return f"{shown}: {undo}{cast}" if undo else f"{shown}; undo the normalisation first: (x * std + mean) * 255"
    return f"{shown}: {'(x * 255)' if high <= 1 else 'x'}.round(){cast}"


def _find_shape_fix(shape: tuple[int, ...], layout: Layout) -> str | None:
    """Return how to correct a shape, or None if it is valid."""
    if layout == "nhwc" and len(shape) == 2:
        return "If these are features (n, d), pass --features (features=True)"
    if layout == "nhwc" and len(shape) == 3:
        return "Grey images need a last axis of 1: x[..., None]; a single image has no distribution"
    if 0 in shape:
        return "No axis may be 0"
    if layout != "nhwc" and len(shape) == 2:
        return None
    if len(shape) != len(layout):
        return f"It must have {len(layout)} axes"
    channels = shape[0] if layout == "chw" else shape[-1]
    return None if channels in (1, 3, 4) else f"If only the order of the axes differs: {_TRANSPOSE[layout]}"
