"""Five image corruptions at increasing level, after figure 3 of Heusel et al. 2017 (arXiv:1706.08500).

Each function takes images (n, h, w, 3) uint8, a corruption level in [0, 1] and a seed, and returns corrupted copies of the
same shape and dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image, ImageFilter

from frechet.demo.photographs import OUT_OF_DOMAIN_PHOTOGRAPHS, sample_patches


def gaussian_noise(images: np.ndarray, level: float, seed: int) -> np.ndarray:
    """Add Gaussian noise with a standard deviation of up to 64 (on the 0-255 scale)."""
    random = np.random.default_rng(seed)
    noisy = images + random.standard_normal(images.shape, np.float32) * (64 * level)
    return noisy.round().clip(0, 255).astype(np.uint8)


def gaussian_blur(images: np.ndarray, level: float, _seed: int) -> np.ndarray:
    """Blur with a Gaussian kernel with a standard deviation of up to 4 pixels."""
    return _map_images(images, lambda image: image.filter(ImageFilter.GaussianBlur(4 * level)))


def jpeg_compression(images: np.ndarray, level: float, _seed: int) -> np.ndarray:
    """Compress as JPEG, with a quality that falls from 95 to 5 as the level increases."""
    return _map_images(images, lambda image: _compress_jpeg(image, round(95 - 90 * level)))


def swirl(images: np.ndarray, level: float, _seed: int) -> np.ndarray:
    """Rotate around the centre, by up to 4 radians there and less further out."""
    height, width = images.shape[1:3]
    y, x = np.mgrid[:height, :width].astype(np.float64)
    dy, dx = y - (height - 1) / 2, x - (width - 1) / 2
    radius = np.hypot(dy, dx)
    angle = np.arctan2(dy, dx) + 4 * level * np.exp(-radius / (height / 4))
    coordinates = np.stack([radius * np.sin(angle) + (height - 1) / 2, radius * np.cos(angle) + (width - 1) / 2])
    channels = np.moveaxis(images, 0, 2).reshape(height, width, -1)
    swirled = np.stack([_warp(channels[:, :, c], coordinates) for c in range(channels.shape[2])], axis=2)
    return np.moveaxis(swirled.reshape(height, width, len(images), 3), 2, 0).round().astype(np.uint8)


def contaminate(images: np.ndarray, level: float, seed: int) -> np.ndarray:
    """Replace up to half of the images by patches of astronomical, microscopic and retinal images (contamination)."""
    random = np.random.default_rng(seed)
    replaced = random.permutation(len(images))[: round(len(images) * level / 2)]
    mixed = images.copy()
    mixed[replaced] = sample_patches(OUT_OF_DOMAIN_PHOTOGRAPHS, len(replaced), seed)
    return mixed


CORRUPTIONS: dict[str, Callable[[np.ndarray, float, int], np.ndarray]] = {
    "Gaussian noise": gaussian_noise,
    "Gaussian blur": gaussian_blur,
    "JPEG": jpeg_compression,
    "swirl": swirl,
    "contamination": contaminate,
}


def _warp(channel: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    from skimage.transform import warp  # optional dependency, slow to import

    return warp(channel, coordinates, order=1, mode="reflect", preserve_range=True)  # type: ignore[no-untyped-call]


def _map_images(images: np.ndarray, operation: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(operation(Image.fromarray(image))) for image in images])


def _compress_jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)
