"""Patches of the photographs that scikit-image and scikit-learn include: real images without a download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from frechet.errors import SourceError

NATURAL_PHOTOGRAPHS = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/rocket.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)
OUT_OF_DOMAIN_PHOTOGRAPHS = (  # astronomy, two microscopes and a retina: unlike the photographs above
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/cell.png"),
    ("skimage", "data/retina.jpg"),
)
PATCH_SIZE = 96  # width and height in pixels


def sample_patches(photographs: tuple[tuple[str, str], ...], count: int, seed: int) -> np.ndarray:
    """Crop square patches of 96 to 192 pixels at random positions and resize them to 96 x 96.

    Args:
        photographs: (package, path within the package) of each photograph.
        count: number of patches.
        seed: random seed of the positions and sizes.

    Returns:
        Patches (count, 96, 96, 3), uint8, taken from the photographs in rotation.

    Raises:
        SourceError: a package that includes the photographs is not installed.
    """
    images = [_load_photograph(package, name) for package, name in photographs]
    random = np.random.default_rng(seed)
    crops = np.empty((count, PATCH_SIZE, PATCH_SIZE, 3), np.uint8)
    for index in range(count):
        image = images[index % len(images)]
        crop_size = int(random.integers(PATCH_SIZE, min(2 * PATCH_SIZE, *image.size) + 1))
        left, top = (int(random.integers(0, length - crop_size + 1)) for length in image.size)
        box = (left, top, left + crop_size, top + crop_size)
        crops[index] = np.asarray(image.resize((PATCH_SIZE, PATCH_SIZE), Image.Resampling.LANCZOS, box=box))
    return crops


def _load_photograph(package: str, name: str) -> Image.Image:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SourceError(f"the photographs need {package}, which is not installed; run pip install 'frechet[demo]'")
    return Image.open(Path(spec.origin).parent / name).convert("RGB")
