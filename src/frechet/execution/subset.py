"""Which images of a source are scored: all, or some of them in a seeded random order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from frechet._internal.fields import name_option
from frechet.errors import TooFewImagesError
from frechet.execution.settings import Settings
from frechet.images.image import ImageSource
from frechet.statistics.row_sample import priorities


def select_indices(source: ImageSource, settings: Settings, ranks: tuple[int, int] | None = None) -> Sequence[int]:
    """Return the positions, ascending, of all images, of the seeded subset of `num_images`, or of some ranks.

    With the same seed, smaller subsets are contained in larger ones: a subset of n images has the ranks 0 to n - 1.

    Args:
        source: the images.
        settings: their `num_images` and `seed` determine the subset.
        ranks: (first, end) in the seeded order, instead of the subset.

    Raises:
        TooFewImagesError: the source has fewer than `num_images` images.
    """
    num_images = settings.num_images
    if ranks is None and num_images is None:
        return range(len(source))
    if num_images is not None and num_images > len(source):
        raise TooFewImagesError(
            f"{source.label} has {len(source):,} images; {name_option('num_images')} is {num_images:,}, expected at most "
            f"{len(source):,}. Pass a smaller number, or add images."
        )
    first, end = ranks or (0, num_images)
    return [int(source_index) for source_index in np.sort(random_order(len(source), settings.seed)[first:end])]


def random_order(count: int, seed: int) -> np.ndarray:
    """Return the numbers from 0 to `count` - 1 in a seeded random order."""
    return np.argsort(priorities(np.arange(count), seed), kind="stable")
