"""Images to features, part by part."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from frechet.errors import NonFiniteFeaturesError
from frechet.features.extractor import LoadedExtractor, Runner
from frechet.images.image import ImageRef
from frechet.images.loader import Batch, load_batches


@dataclass
class FeatureChunk:
    """The features of up to 256 consecutive images.

    Attributes:
        places: (k,) int64 places of the images in what was scored; images that could not be decoded are absent.
        features: (k, width) float32: of several layers, the columns of each after those of the one before.
        signs: (k,) of `frechet.images.checks.SIGN`, what was noticed of each image.
        remarks: (remark, name of the image).
        bad: names and reasons of images left out.
    """

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
    skip_bad_images: bool,
    on_batch: Callable[[int], None],
) -> Generator[FeatureChunk, None, None]:
    """Features of all pictures, one part after the other; `on_batch` hears how many images each batch had.

    Raises:
        BadImage: an image cannot be decoded and `skip_bad` is false.
        BadFeatures: the network gave NaN or infinity; the image is named.
    """
    batches = load_batches(
        image_refs,
        extractor.preprocessing.resize,
        size=extractor.input_size,
        batch_size=batch_size,
        workers=workers,
        skip_bad_images=skip_bad_images,
    )
    with closing(batches), closing(_run_network(batches, extractor.runner, extractor.total_dims)) as results:
        for _, group in groupby(results, key=lambda result: result[0]):
            pieces = []
            for _, piece, images in group:
                pieces.append(piece)
                on_batch(images)
            yield _concatenate(pieces)


def _run_network(
    batches: Iterable[Batch], runner: Runner, dims: int
) -> Generator[tuple[int, FeatureChunk, int], None, None]:
    """(part, what came of a batch, its images): each batch paired with its features, though the runner reads ahead."""
    waiting: deque[Batch] = deque()

    def pixels() -> Iterator[np.ndarray]:
        for batch in batches:
            waiting.append(batch)
            if batch.image_refs:
                yield batch.pixels

    for features in runner.map(pixels()):
        while not waiting[0].image_refs:  # none of its images could be decoded
            yield _make_piece(waiting.popleft(), np.empty((0, dims), np.float32))
        yield _make_piece(waiting.popleft(), features)
    for batch in waiting:
        yield _make_piece(batch, np.empty((0, dims), np.float32))


def _make_piece(batch: Batch, features: np.ndarray) -> tuple[int, FeatureChunk, int]:
    """What is kept of a batch; its pixels are not."""
    _validate_finite(batch, features)
    indices = np.array([image_ref.index for image_ref in batch.image_refs], np.int64)
    return (
        batch.chunk_index,
        FeatureChunk(indices, features, batch.image_checks, batch.notes, batch.skipped_images),
        len(batch.image_refs) + len(batch.skipped_images),
    )


def _validate_finite(batch: Batch, features: np.ndarray) -> None:
    wrong = ~np.isfinite(features).all(axis=1)
    if wrong.any():
        raise NonFiniteFeaturesError(
            f"the network gave NaN or infinity for {batch.image_refs[int(wrong.argmax())].label}; "
            "the weights may be damaged, or half precision overflowed (use precision float32)"
        )


def _concatenate(pieces: list[FeatureChunk]) -> FeatureChunk:
    return FeatureChunk(
        indices=np.concatenate([piece.indices for piece in pieces]),
        features=np.concatenate([piece.features for piece in pieces]),
        image_checks=np.concatenate([piece.image_checks for piece in pieces]),
        notes=[note for piece in pieces for note in piece.notes],
        skipped_images=[skipped_images for piece in pieces for skipped_images in piece.skipped_images],
    )
