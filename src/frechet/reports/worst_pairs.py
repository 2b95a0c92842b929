"""The pairs of images that a page shows because they differ most, with images of their differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from frechet.errors import ImageDecodeError
from frechet.evaluation.request import ScoreRequest
from frechet.execution.stored_thumbnails import can_read_again
from frechet.images.decode import decode
from frechet.images.image import ImageSource
from frechet.reports.thumbnails import Thumbnail, encode_data_url, shorten_label
from frechet.results import Score

DIFFERENCE_GAIN = 4  # by which differences are brightened


@dataclass(frozen=True, kw_only=True)
class ShownPair:
    """A pair of images, its value, and the absolute difference of both."""

    value: float
    generated: Thumbnail
    reference: Thumbnail
    difference: Thumbnail


@dataclass(frozen=True, kw_only=True)
class PairTable:
    """The worst pairs of one metric, the worst first.

    Attributes:
        label: display name of the metric.
        pairs: the pairs.
    """

    label: str
    pairs: Sequence[ShownPair]


def show_worst_pairs(
    scores: Sequence[Score], sources: Mapping[str, ImageSource], request: ScoreRequest
) -> list[PairTable]:
    """Decode the worst pairs of all scores, each image once.

    Args:
        scores: the scores; those without pairs are left out.
        sources: the images that can be decoded again, by input.
        request: what was scored.
    """
    indices = sorted({pair["source_index"] for score in scores for pair in score.worst_pairs})
    images = {name: _decode(sources.get(name), request, name, indices) for name in ("generated", "reference")}
    return [
        PairTable(label=score.label, pairs=[_show(pair, images, sources) for pair in score.worst_pairs])
        for score in scores
        if score.worst_pairs
    ]


def _decode(
    source: ImageSource | None, request: ScoreRequest, name: str, indices: Sequence[int]
) -> dict[int, np.ndarray]:
    """Return the images (h, w, 3), uint8, as they were compared, without those that are not available."""
    if source is None or not can_read_again(source):
        return {}
    crop, images = request.settings_of(name).image_crop, {}
    for index, image_ref in zip(indices, source.iter_images(indices), strict=True):
        with suppress(ImageDecodeError):  # the file changed after it was scored
            rgb = decode(image_ref).rgb
            images[index] = crop.apply(rgb) if crop else rgb
    return images


def _show(
    pair: Mapping[str, object], images: Mapping[str, Mapping[int, np.ndarray]], sources: Mapping[str, ImageSource]
) -> ShownPair:
    index, value = pair["source_index"], pair["value"]
    assert isinstance(index, int)
    assert isinstance(value, float)
    labels = {
        name: shorten_label(str(pair[name]), sources[name].label) if name in sources else str(pair[name])
        for name in images
    }
    one, other = (of_input.get(index) for of_input in images.values())
    difference = None if one is None or other is None else _draw_difference(one, other)
    return ShownPair(
        value=value,
        generated=_make_thumbnail(labels["generated"], one),
        reference=_make_thumbnail(labels["reference"], other),
        difference=_make_thumbnail(f"difference of {labels['generated']}", difference),
    )


def _draw_difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    difference = np.abs(one.astype(np.int16) - other) * DIFFERENCE_GAIN
    return np.minimum(difference, 255).astype(np.uint8)


def _make_thumbnail(label: str, rgb: np.ndarray | None) -> Thumbnail:
    return Thumbnail(label, None if rgb is None else encode_data_url(rgb))
