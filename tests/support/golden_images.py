"""Real photographs of many sizes and modes, out of the scikit-image and scikit-learn packages."""

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

PHOTOGRAPHS = (  # larger and smaller than 299, wide and tall, grey and colour
    "skimage/data/astronaut.png",
    "skimage/data/camera.png",
    "skimage/data/chelsea.png",
    "skimage/data/coffee.png",
    "skimage/data/rocket.jpg",
    "skimage/data/motorcycle_left.png",
    "skimage/data/hubble_deep_field.jpg",
    "skimage/data/coins.png",
    "sklearn/datasets/images/china.jpg",
    "sklearn/datasets/images/flower.jpg",
)
FEW_PHOTOGRAPHS = [1, 5, 8, 11, 12]  # indices: grey, large, wide, smaller than the input, and tall
CROPS = ((0, 0, 299, 299), (100, 50, 164, 98), (10, 20, 160, 420), (200, 100, 233, 133))  # of the first photograph


def photographs():
    """14 PIL images."""
    images = [_open_photograph(name) for name in PHOTOGRAPHS]
    return images + [images[0].crop(box) for box in CROPS]


def make_tiles(name, count=100, side=64):
    """(count, side, side, 3) uint8: tiles of a photograph, 40 pixels apart."""
    image = np.asarray(_open_photograph(name).convert("RGB"))
    step = 40
    crops = [
        image[top : top + side, left : left + side]
        for top in range(0, image.shape[0] - side + 1, step)
        for left in range(0, image.shape[1] - side + 1, step)
    ]
    return np.stack(crops[:count])


def _open_photograph(name):
    package, _, inside = name.partition("/")
    image = Image.open(Path(importlib.util.find_spec(package).origin).parent / inside)
    image.load()
    return image
