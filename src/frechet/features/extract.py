"""Run images through an extractor, batch by batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from frechet.errors import NonFiniteFeaturesError
from frechet.features.extractor import LoadedExtractor, Runner
from frechet.images.decode_budget import MAX_PIXELS
from frechet.images.image import ImageRef
from frechet.images.loader import Batch, load_batches
from frechet.preprocessing.crop import Crop
from frechet.preprocessing.matrix_resize import Pixels


@dataclass(frozen=True, kw_only=True)
class FeatureBatch:
    """The features of one batch of images, without their pixels.

    Attributes:
        chunk_index: position in the stream of the 256 consecutive images that the batch belongs to.
        indices: (k,) int64 index of each image among those to process, without images that could not be decoded.
        features: (k, d) float32; with several layers, the columns of one layer follow those of the previous one.
        image_checks: (k,) of dtype `frechet.images.checks.IMAGE_CHECK`.
        notes: (note, label of the image) pairs, e.g. about an alpha channel that was removed.
        skipped_images: label and reason of each image that could not be decoded.
    """

    chunk_index: int
    indices: np.ndarray
    features: np.ndarray
    image_checks: np.ndarray
    notes: list[tuple[str, str]]
    skipped_images: list[str]


def extract(
    image_refs: Iterable[ImageRef],
    extractor: LoadedExtractor,
    *,
    batch_size: int,
    workers: int,
    workers_kind: str = "threads",
    skip_bad_images: bool,
    crop: Crop | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Generator[FeatureBatch, None, None]:
    """Compute the features of images in order.

    Args:
        image_refs: the images.
        extractor: network and preprocessing.
        batch_size: maximum number of images per batch.
        workers: number of decoding threads.
        workers_kind: "threads", "processes" or "auto" (see `load_batches`).
        skip_bad_images: skip images that cannot be decoded instead of raising.
        crop: applied to each image before it is resized.
        max_pixels: largest number of pixels of an image that can be decoded.

    Raises:
        ImageDecodeError: an image cannot be decoded and `skip_bad_images` is False.
        NonFiniteFeaturesError: the network returned NaN or infinity; names the image.
    """
    batches = load_batches(
        image_refs,
        extractor.preprocessing.resize,
        size=extractor.input_size,
        batch_size=batch_size,
        workers=workers,
        workers_kind=workers_kind,
        skip_bad_images=skip_bad_images,
        crop=crop.apply_with_note if crop else None,
        max_pixels=max_pixels,
        is_left_to_device=extractor.is_left_to_device if extractor.max_device_pixels else None,
    )
    with closing(batches):
        yield from _run_network(batches, extractor.runner, extractor.total_dims)


def _run_network(batches: Iterable[Batch], runner: Runner, dims: int) -> Iterator[FeatureBatch]:
    """Pair each batch with its features, although the runner reads several batches ahead."""
    waiting: deque[Batch] = deque()
    no_features = np.empty((0, dims), np.float32)  # of a batch none of whose images could be decoded

    def iter_pixels() -> Iterator[Pixels]:
        for batch in batches:
            waiting.append(replace(batch, pixels=[]))  # the runner keeps the pixels as long as it needs them
            if batch.image_refs:
                yield batch.pixels

    for features in runner.map(iter_pixels()):
        while not waiting[0].image_refs:
            yield _make_feature_batch(waiting.popleft(), no_features)
        yield _make_feature_batch(waiting.popleft(), features)
    for batch in waiting:
        yield _make_feature_batch(batch, no_features)


def _make_feature_batch(batch: Batch, features: np.ndarray) -> FeatureBatch:
    _validate_finite(batch, features)
    return FeatureBatch(
        chunk_index=batch.chunk_index,
        indices=np.array([image_ref.index for image_ref in batch.image_refs], np.int64),
        features=features,
        image_checks=batch.image_checks,
        notes=batch.notes,
        skipped_images=batch.skipped_images,
    )


def _validate_finite(batch: Batch, features: np.ndarray) -> None:
    is_wrong = ~np.isfinite(features).all(axis=1)
    if is_wrong.any():
        raise NonFiniteFeaturesError(
            f"the network returned NaN or infinity for {batch.image_refs[int(is_wrong.argmax())].label}; expected finite "
            "features. Check the weights, or use --precision float32 (precision=) if half precision overflowed."
        )
