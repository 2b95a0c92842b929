"""What a user should know of two sides together, before believing their distance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from frechet.images.checks import compression_of
from frechet.statistics.feature_statistics import Statistics

_UNEVEN = 5  # times as many images on one side as on the other
_FEW = 10_000


def remarks_on_pair(generated: Statistics, reference: Statistics) -> Iterator[str]:
    """Differences that a distance is sensitive to without being about them."""
    stored = [compression_of(side.formats, side.n) for side in (generated, reference)]
    if set(stored) == {"lossy", "lossless"}:
        names = ("generated", "reference")
        lossy, lossless = names[stored.index("lossy")], names[stored.index("lossless")]
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
    fewer, more = sorted((("generated", generated.n), ("reference", reference.n)), key=lambda side: side[1])
    if more[1] >= _UNEVEN * fewer[1] and fewer[1] < _FEW:
        yield (
            f"{fewer[1]:,} {fewer[0]} images against {more[1]:,} {more[0]} ones: the {fewer[0]} side limits the accuracy; "
            "more images there help, more on the other side do not"
        )
