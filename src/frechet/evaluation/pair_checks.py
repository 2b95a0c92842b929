"""Properties of a pair of inputs that affect the distance between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from frechet.images.checks import classify_compression
from frechet.statistics.feature_statistics import FeatureStatistics

_MAX_SIZE_RATIO = 5  # of the numbers of generated and reference images
_SMALL_SAMPLE_SIZE = 10_000


def iter_pair_notes(generated: FeatureStatistics, reference: FeatureStatistics) -> Iterator[str]:
    """Yield notes about compression, sizes of images, identical inputs and unequal sample sizes."""
    compressions = [classify_compression(statistics.formats, statistics.n) for statistics in (generated, reference)]
    if set(compressions) == {"lossy", "lossless"}:
        names = ("generated", "reference")
        lossy, lossless = names[compressions.index("lossy")], names[compressions.index("lossless")]
        yield (
            f"the {lossy} images are JPEG and the {lossless} ones use a lossless format, which affects FID by itself "
            "(Parmar et al. 2022, arXiv:2104.11222). If possible, score images stored in the same format"
        )
    yield from _iter_size_notes(generated, reference)
    if generated.n is None or reference.n is None:
        return
    if generated.n == reference.n and np.array_equal(generated.mean, reference.mean):
        yield (
            "the generated and reference features have bit-identical means, as if one set of images were compared with itself. "
            "Confidence intervals and standard errors assume independent sets and do not apply"
        )
    fewer, more = sorted((("generated", generated.n), ("reference", reference.n)), key=lambda statistics: statistics[1])
    if more[1] >= _MAX_SIZE_RATIO * fewer[1] and fewer[1] < _SMALL_SAMPLE_SIZE:
        yield (
            f"{fewer[1]:,} {fewer[0]} images are compared with {more[1]:,} {more[0]} images: the {fewer[0]} sample size limits the "
            f"accuracy. Add {fewer[0]} images; more {more[0]} images do not help"
        )


def _iter_size_notes(generated: FeatureStatistics, reference: FeatureStatistics) -> Iterator[str]:
    """Yield a note if the images of both inputs differ in size, which usually means that a crop is missing."""
    if not generated.sizes or not reference.sizes or generated.sizes.keys() == reference.sizes.keys():
        return
    inputs = {"generated": generated.sizes, "reference": reference.sizes}
    square = {name: _get_square_size(sizes) for name, sizes in inputs.items()}
    for name, other in (("generated", "reference"), ("reference", "generated")):
        if square[name] and len(inputs[other]) > 1:
            yield (
                f"all {name} images are {square[name]} x {square[name]} pixels, and the {other} images have {len(inputs[other])} or "
                f"more sizes, so the two differ in crop and scale. If the {name} images were cropped, crop the {other} images in "
                f"the same way, e.g. --{other}-crop adm --size {square[name]} ({other}_crop=)"
            )
            return
    largest = [max(sizes, key=lambda size: sizes[size]) for sizes in inputs.values()]
    if largest[0] != largest[1] and all(len(sizes) == 1 for sizes in inputs.values()):
        yield (
            f"the generated images are {largest[0]} pixels and the reference images {largest[1]}: the distance depends on the "
            "resize of each side. Score images of the same size"
        )


def _get_square_size(sizes: Mapping[str, int]) -> int | None:
    """Return the height and width of images that all have the same square size."""
    height, _, width = next(iter(sizes)).partition(" x ")
    return int(height) if len(sizes) == 1 and height == width else None
