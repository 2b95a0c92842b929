"""Images to features, part by part."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from frechet.errors import BadFeatures
from frechet.features.extractor import LoadedExtractor, Runner
from frechet.images.image import Picture
from frechet.images.loader import Batch, load_batches


@dataclass
class Part:
    """The features of up to 256 consecutive images.

    Attributes:
        places: (k,) int64 places of the images in what was scored; images that could not be decoded are absent.
        features: (k, width) float32: of several layers, the columns of each after those of the one before.
        signs: (k,) of `frechet.images.checks.SIGN`, what was noticed of each image.
        remarks: (remark, name of the image).
        bad: names and reasons of images left out.
    """

    places: np.ndarray
    features: np.ndarray
    signs: np.ndarray
    remarks: list[tuple[str, str]]
    bad: list[str]


def extract(
    pictures: Iterable[Picture],
    extractor: LoadedExtractor,
    *,
    batch_size: int,
    workers: int,
    skip_bad: bool,
    on_batch: Callable[[int], None],
) -> Generator[Part, None, None]:
    """Features of all pictures, one part after the other; `on_batch` hears how many images each batch had.

    Raises:
        BadImage: an image cannot be decoded and `skip_bad` is false.
        BadFeatures: the network gave NaN or infinity; the image is named.
    """
    batches = load_batches(
        pictures,
        extractor.convention.resize,
        size=extractor.pixels,
        batch_size=batch_size,
        workers=workers,
        skip_bad=skip_bad,
    )
    with closing(batches), closing(_run(batches, extractor.runner, extractor.width)) as results:
        for _, group in groupby(results, key=lambda result: result[0]):
            pieces = []
            for _, piece, images in group:
                pieces.append(piece)
                on_batch(images)
            yield _joined(pieces)


def _run(batches: Iterable[Batch], runner: Runner, dims: int) -> Generator[tuple[int, Part, int], None, None]:
    """(part, what came of a batch, its images): each batch paired with its features, though the runner reads ahead."""
    waiting: deque[Batch] = deque()

    def pixels() -> Iterator[np.ndarray]:
        for batch in batches:
            waiting.append(batch)
            if batch.pictures:
                yield batch.pixels

    for features in runner.map(pixels()):
        while not waiting[0].pictures:  # none of its images could be decoded
            yield _piece(waiting.popleft(), np.empty((0, dims), np.float32))
        yield _piece(waiting.popleft(), features)
    for batch in waiting:
        yield _piece(batch, np.empty((0, dims), np.float32))


def _piece(batch: Batch, features: np.ndarray) -> tuple[int, Part, int]:
    """What is kept of a batch; its pixels are not."""
    _require_finite(batch, features)
    places = np.array([picture.index for picture in batch.pictures], np.int64)
    return (
        batch.part,
        Part(places, features, batch.signs, batch.remarks, batch.bad),
        len(batch.pictures) + len(batch.bad),
    )


def _require_finite(batch: Batch, features: np.ndarray) -> None:
    wrong = ~np.isfinite(features).all(axis=1)
    if wrong.any():
        raise BadFeatures(
            f"the network gave NaN or infinity for {batch.pictures[int(wrong.argmax())].name}; "
            "the weights may be damaged, or half precision overflowed (use precision float32)"
        )


def _joined(pieces: list[Part]) -> Part:
    return Part(
        places=np.concatenate([piece.places for piece in pieces]),
        features=np.concatenate([piece.features for piece in pieces]),
        signs=np.concatenate([piece.signs for piece in pieces]),
        remarks=[remark for piece in pieces for remark in piece.remarks],
        bad=[bad for piece in pieces for bad in piece.bad],
    )
