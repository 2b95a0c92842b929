"""Properties of a pair of inputs that affect the distance between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from frechet.images.checks import classify_compression
from frechet.statistics.feature_statistics import FeatureStatistics

_MAX_SIZE_RATIO = 5  # of the numbers of generated and reference images
_MAX_EDGE_RATIO = 2  # of the mean sizes of generated and reference images
_SMALL_SAMPLE_SIZE = 10_000


def iter_pair_notes(generated: FeatureStatistics, reference: FeatureStatistics) -> Iterator[str]:
    """Yield notes about compression, sizes of images and identical inputs."""
    compressions = [classify_compression(statistics.formats, statistics.n) for statistics in (generated, reference)]
    if set(compressions) == {"lossy", "lossless"}:
        names = ("generated", "reference")
        lossy, lossless = names[compressions.index("lossy")], names[compressions.index("lossless")]
        codec = _name_codec(generated if lossy == "generated" else reference)
        yield (
            f"the {lossy} images are {codec} and the {lossless} ones use a lossless format, which changes FID even if "
            "the images are otherwise equal (Parmar et al. 2022, arXiv:2104.11222). If possible, score images stored in the same format."
        )
    yield from _iter_size_notes(generated, reference)
    if generated.n is None or reference.n is None:
        return
    if generated.n == reference.n and np.array_equal(generated.mean, reference.mean):
        yield (
            "the generated and reference features have bit-identical means, as if one set of images were compared with itself. "
            "Confidence intervals and standard errors assume independent sets and do not apply."
        )


def iter_sample_size_notes(
    generated: FeatureStatistics, reference: FeatureStatistics, *, is_sequential: bool = False
) -> Iterator[str]:
    """Yield a note if one input has so many fewer images than the other that it limits the accuracy.

    Args:
        generated, reference: the inputs.
        is_sequential: whether generated images were added until the question was answered, so that no more are needed.
    """
    if generated.n is None or reference.n is None:
        return
    fewer, more = sorted((("generated", generated.n), ("reference", reference.n)), key=lambda statistics: statistics[1])
    if is_sequential and fewer[0] == "generated":
        return
    if more[1] >= _MAX_SIZE_RATIO * fewer[1] and fewer[1] < _SMALL_SAMPLE_SIZE:
        yield (
            f"{fewer[1]:,} {fewer[0]} images are compared with {more[1]:,} {more[0]} images: the {fewer[0]} sample size limits the "
            f"accuracy. Add {fewer[0]} images; more {more[0]} images do not help."
        )


def _name_codec(statistics: FeatureStatistics) -> str:
    """Return "JPEG" or "lossy WebP", whichever most images of lossy formats are."""
    return "lossy WebP" if 2 * statistics.formats.get("VP8", 0) > sum(statistics.formats.values()) else "JPEG"


def _iter_size_notes(generated: FeatureStatistics, reference: FeatureStatistics) -> Iterator[str]:
    """Yield a note if the images of both inputs differ in size, which usually means that a crop is missing."""
    if not generated.sizes or not reference.sizes or generated.sizes.keys() == reference.sizes.keys():
        return
    inputs = {"generated": generated.sizes, "reference": reference.sizes}
    square = {name: _get_square_size(sizes) for name, sizes in inputs.items()}
    for name, other in (("generated", "reference"), ("reference", "generated")):
        if square[name] and len(inputs[other]) > 1:
            n_listed = len(inputs[other].keys() - {"other"})
            count = f"more than {n_listed}" if "other" in inputs[other] else n_listed
            yield (
                f"all {name} images are {square[name]} x {square[name]} pixels, and the {other} images have {count} "
                f"sizes, so the two differ in crop and scale. If the {name} images were cropped, crop the {other} images in "
                f"the same way, e.g. --{other}-crop adm --size {square[name]} ({other}_crop=)."
            )
            return
    largest = [max(sizes, key=lambda size: sizes[size]) for sizes in inputs.values()]
    if largest[0] != largest[1] and all(len(sizes) == 1 for sizes in inputs.values()):
        yield (
            f"the generated images are {largest[0]} pixels and the reference images {largest[1]}: the distance depends on how "
            "each of them is resized. Score images of the same size."
        )
        return
    edges = {name: edge for name, sizes in inputs.items() if (edge := _compute_mean_edge(sizes))}
    smaller, larger = sorted(inputs, key=lambda name: edges.get(name, 0.0))
    if len(edges) == len(inputs) and _MAX_EDGE_RATIO * edges[smaller] < edges[larger]:
        yield (
            f"the {smaller} images are on average less than half as large as the {larger} images: the resize enlarges one of "
            "them, or reduces the other far more, which affects the distance by itself. Score images of similar sizes."
        )


def _compute_mean_edge(sizes: Mapping[str, int]) -> float | None:
    """Return the mean of √(height · width) over the images of known sizes, or None if these are less than half of all."""
    known = {size: count for size, count in sizes.items() if " x " in size}
    if 2 * sum(known.values()) < sum(sizes.values()):
        return None
    edges = [np.sqrt(np.prod([float(edge) for edge in size.split(" x ")])) for size in known]
    return float(np.average(edges, weights=[*known.values()]))


def _get_square_size(sizes: Mapping[str, int]) -> int | None:
    """Return the height and width of images that all have the same square size."""
    height, _, width = next(iter(sizes)).partition(" x ")
    return int(height) if len(sizes) == 1 and height == width else None
