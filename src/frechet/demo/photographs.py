"""Real photographs that come with scikit-image and scikit-learn, cut into patches: images without a download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from frechet.errors import SourceError

EVERYDAY = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/rocket.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)
FOREIGN = (  # a telescope, two microscopes' and an eye doctor's views: nothing like the photographs above
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/cell.png"),
    ("skimage", "data/retina.jpg"),
)
PATCH = 96  # pixels a side


def patches(photographs: tuple[tuple[str, str], ...], count: int, seed: int) -> np.ndarray:
    """Square patches of 96 to 192 pixels at random places, brought to 96 x 96.

    Returns:
        (count, 96, 96, 3) uint8, the photographs in turn.

    Raises:
        SourceError: a package that carries the photographs is not installed.
    """
    images = [_photograph(package, name) for package, name in photographs]
    random = np.random.default_rng(seed)
    cut = np.empty((count, PATCH, PATCH, 3), np.uint8)
    for index in range(count):
        image = images[index % len(images)]
        side = int(random.integers(PATCH, min(2 * PATCH, *image.size) + 1))
        left, top = (int(random.integers(0, length - side + 1)) for length in image.size)
        box = (left, top, left + side, top + side)
        cut[index] = np.asarray(image.resize((PATCH, PATCH), Image.Resampling.LANCZOS, box=box))
    return cut


def _photograph(package: str, name: str) -> Image.Image:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise SourceError(f"the photographs of {package} are not installed: pip install 'frechet[demo]'")
    return Image.open(Path(found.origin).parent / name).convert("RGB")
