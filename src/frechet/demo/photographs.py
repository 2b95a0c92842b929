"""Real photographs that come with scikit-image and scikit-learn, cut into patches: images without a download."""

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
OUT_OF_DOMAIN_PHOTOGRAPHS = (  # a telescope, two microscopes' and an eye doctor's views: nothing like the photographs above
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/cell.png"),
    ("skimage", "data/retina.jpg"),
)
PATCH_SIZE = 96  # pixels a side


def sample_patches(photographs: tuple[tuple[str, str], ...], count: int, seed: int) -> np.ndarray:
    """Square patches of 96 to 192 pixels at random places, brought to 96 x 96.

    Returns:
        (count, 96, 96, 3) uint8, the photographs in turn.

    Raises:
        SourceError: a package that carries the photographs is not installed.
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
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise SourceError(f"the photographs of {package} are not installed: pip install 'frechet[demo]'")
    return Image.open(Path(found.origin).parent / name).convert("RGB")
