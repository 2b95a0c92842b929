"""What a user should know of two sides together, before believing their distance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from frechet.images.checks import classify_compression
from frechet.statistics.feature_statistics import FeatureStatistics

_MAX_SIZE_RATIO = 5  # times as many images on one side as on the other
_SMALL_SAMPLE_SIZE = 10_000


def iter_pair_notes(generated: FeatureStatistics, reference: FeatureStatistics) -> Iterator[str]:
    """Differences that a distance is sensitive to without being about them."""
    compressions = [classify_compression(statistics.formats, statistics.n) for statistics in (generated, reference)]
    if set(compressions) == {"lossy", "lossless"}:
        names = ("generated", "reference")
        lossy, lossless = names[compressions.index("lossy")], names[compressions.index("lossless")]
        yield (
            f"the {lossy} images are JPEG and the {lossless} ones a format without loss: FID is sensitive to that alone "
            "(Parmar et al. 2022, arXiv:2104.11222). Where you can, score images that were stored alike"
        )
    if generated.n is None or reference.n is None:
        return
    if generated.n == reference.n and np.array_equal(generated.mean, reference.mean):
        yield (
            "both sides have the same mean to the last bit, as one set of images compared with itself has: nothing is left to "
            "measure, and intervals and standard errors, which are those of independent sets, do not hold"
        )
    fewer, more = sorted((("generated", generated.n), ("reference", reference.n)), key=lambda statistics: statistics[1])
    if more[1] >= _MAX_SIZE_RATIO * fewer[1] and fewer[1] < _SMALL_SAMPLE_SIZE:
        yield (
            f"{fewer[1]:,} {fewer[0]} images against {more[1]:,} {more[0]} ones: the {fewer[0]} side limits the accuracy; "
            "more images there help, more on the other side do not"
        )
