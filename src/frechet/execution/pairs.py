"""Values of pairs of images from their pixels: image i of one input and image i of the other, decoded together.

Chunks hold one input, so that they can be cached, distributed and compared with stored statistics. Pairs need the pixels of both
inputs at the same time. They are therefore read by themselves, in the threads of this process.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from frechet._internal.cpu import process_cpu_count
from frechet.errors import MismatchError, TooFewImagesError
from frechet.execution.chunks import Partition
from frechet.execution.collect import describe_collection
from frechet.execution.dispatch import ProgressCallback
from frechet.execution.reduce import MergedChunks
from frechet.execution.settings import Settings
from frechet.features.spec import FeatureSpec
from frechet.images.image import ImageRef, ImageSource
from frechet.images.loader import load_batches
from frechet.metrics import PairMeasure
from frechet.statistics.feature_statistics import FeatureStatistics

_BATCH_SIZE = 16  # pairs
_COLOURS = FeatureSpec(
    extractor="mean colours", layer="3", weights="none", is_official=True, preprocessing="none", precision="float32"
)


class PairValues(NamedTuple):
    """The values of all pairs, and what they were computed from.

    Attributes:
        values: (n,) float64 of each measure, by name, without those that some images are too small for.
        too_small: why a measure has no values, by name.
        source_indices: (n,) position of each pair in the sources.
        generated, reference: statistics of the mean colours of the images, with the metadata of both inputs.
    """

    values: dict[str, np.ndarray]
    too_small: dict[str, str]
    source_indices: np.ndarray
    generated: FeatureStatistics
    reference: FeatureStatistics


class _Image(NamedTuple):
    """A decoded image: (h, w, 3) uint8 pixels, and what `check_image` found."""

    ref: ImageRef
    pixels: np.ndarray
    check: np.ndarray


_Pair = tuple[_Image, _Image]


class _Input:
    """One input of the pairs, decoded and cropped in threads."""

    def __init__(self, source: ImageSource, settings: Settings) -> None:
        self.settings = settings
        self.partition = Partition.from_source(source, settings)
        self.merged = MergedChunks({}, self.partition)
        self.colours: list[np.ndarray] = []

    def iter_images(self) -> Generator[_Image, None, None]:
        """Yield the images that can be decoded, in order."""
        settings = self.settings
        batches = load_batches(
            self.partition.iter_images(range(len(self.partition))),
            _reject_resize,
            size=0,
            batch_size=_BATCH_SIZE,
            workers=settings.workers or process_cpu_count(),
            workers_kind=settings.workers_kind,
            skip_bad_images=settings.on_bad_image == "skip",
            crop=settings.image_crop.apply_with_note if settings.image_crop else None,
            max_pixels=settings.max_pixels,
            is_left_to_device=lambda *_: True,
        )
        with closing(batches):
            for batch in batches:
                self.merged.notes += batch.notes
                self.merged.skipped_images += batch.skipped_images
                yield from map(_Image, batch.image_refs, batch.pixels, batch.image_checks)

    def add(self, image: _Image) -> None:
        """Count an image that belongs to a pair."""
        self.merged.indices.append(np.array([image.ref.index]))
        self.merged.image_checks.append(image.check[None])
        self.colours.append(image.pixels.mean(axis=(0, 1)))

    def describe(self) -> FeatureStatistics:
        """Return the statistics of the images that belong to pairs, at least two."""
        statistics = FeatureStatistics.from_features(np.stack(self.colours), spec=_COLOURS, grouped_by="pair")
        crop = str(self.settings.image_crop) if self.settings.image_crop else None
        metadata: dict[str, Any] = describe_collection(self.partition, self.merged)
        return replace(statistics, **metadata, crop=crop, seed=self.settings.seed)


def _reject_resize(*_: np.ndarray) -> None:
    raise AssertionError("pairs are compared at the size of the images")


def measure_pairs(
    generated: tuple[ImageSource, Settings],
    reference: tuple[ImageSource, Settings],
    measures: Mapping[str, PairMeasure],
    progress: ProgressCallback | None = None,
) -> PairValues:
    """Compute the values of all pairs in one pass.

    Args:
        generated, reference: images, as many in both inputs, and how they are read and cropped.
        measures: what to compute, by name.
        progress: called with "pairs" and the numbers of pairs done and in total.

    Raises:
        MismatchError: the images of a pair differ in size.
        TooFewImagesError: fewer than two pairs could be decoded.
        ImageDecodeError: an image cannot be decoded and `on_bad_image` is "stop".
    """
    inputs = _Input(*generated), _Input(*reference)
    n_pairs, workers = len(inputs[0].partition.source_indices), generated[1].workers or process_cpu_count()
    found: dict[str, list[np.ndarray]] = {name: [] for name in measures}
    smallest = sys.maxsize

    def measure(batch: list[_Pair]) -> dict[str, np.ndarray]:
        one, other = (np.stack([pair[side].pixels for pair in batch]) for side in (0, 1))
        return {name: each.measure(one, other) for name, each in measures.items() if _get_size(batch) >= each.min_size}

    for batch, values in _map_ahead(measure, _iter_batches(_iter_pairs(*inputs)), workers):
        for name, each in values.items():
            found[name].append(each)
        smallest = min(smallest, _get_size(batch))
        for pair in batch:
            for side, image in zip(inputs, pair, strict=True):
                side.add(image)
        if progress:
            progress("pairs", batch[-1][0].ref.index + 1, n_pairs)
    indices = [int(each[0]) for each in inputs[0].merged.indices]
    if len(indices) < 2:
        raise TooFewImagesError(
            f"{len(indices)} pairs of {generated[0].label} and {reference[0].label} could be decoded; expected at least 2"
        )
    too_small = {
        name: f"{each.label} needs images of at least {each.min_size} x {each.min_size} pixels; the shorter side of the smallest one has "
        f"{smallest}. Leave {name} out, or pass larger images."
        for name, each in measures.items()
        if smallest < each.min_size
    }
    return PairValues(
        {name: np.concatenate(each) for name, each in found.items() if name not in too_small},
        too_small,
        np.array([inputs[0].partition.source_indices[index] for index in indices]),
        *(each.describe() for each in inputs),
    )


def _get_size(batch: list[_Pair]) -> int:
    """Return the length of the shorter side of the images of a batch, in pixels."""
    return min(batch[0][0].pixels.shape[:2])


def _iter_pairs(generated: _Input, reference: _Input) -> Iterator[_Pair]:
    """Yield the pairs of which both images can be decoded.

    Raises:
        MismatchError: the images of a pair differ in size.
    """
    with closing(generated.iter_images()) as ones, closing(reference.iter_images()) as others:
        other = next(others, None)
        for one in ones:
            while other is not None and other.ref.index < one.ref.index:
                other = next(others, None)
            if other is not None and other.ref.index == one.ref.index:
                _require_same_size(one, other)
                yield one, other


def _require_same_size(one: _Image, other: _Image) -> None:
    sizes = [
        f"{image.ref.label} has {image.pixels.shape[0]} x {image.pixels.shape[1]} pixels" for image in (one, other)
    ]
    if one.pixels.shape != other.pixels.shape:
        raise MismatchError(
            f"{sizes[0]}, and its reference {sizes[1]}; pixels can only be compared at equal sizes. Crop the reference as the images were "
            "cropped before they were reconstructed, e.g. --reference-crop adm --size 256 (reference_crop=, size=)."
        )


def _iter_batches(pairs: Iterable[_Pair]) -> Iterator[list[_Pair]]:
    """Yield consecutive pairs of one size, at most 16 at a time."""
    batch: list[_Pair] = []
    for pair in pairs:
        if batch and (len(batch) == _BATCH_SIZE or pair[0].pixels.shape != batch[0][0].pixels.shape):
            yield batch
            batch = []
        batch.append(pair)
    if batch:
        yield batch


def _map_ahead(
    function: Callable[[list[_Pair]], dict[str, np.ndarray]], batches: Iterable[list[_Pair]], workers: int
) -> Iterator[tuple[list[_Pair], dict[str, np.ndarray]]]:
    """Yield each batch and the result of the function, which runs in threads, a batch ahead of each."""
    with ThreadPoolExecutor(workers, thread_name_prefix="pairs") as pool:
        waiting = deque[Any]()
        for batch in batches:
            waiting.append((batch, pool.submit(function, batch)))
            if len(waiting) > workers:
                done, result = waiting.popleft()
                yield done, result.result()
        for done, result in waiting:
            yield done, result.result()
