"""Images to features, part by part."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from frechet.errors import BadFeatures
from frechet.features.extractors import LoadedExtractor, Runner
from frechet.images.loader import Batch, load_batches
from frechet.images.sources import Picture


@dataclass
class Part:
    """The features of up to 256 consecutive images.

    Attributes:
        index: which part.
        places: (k,) places of the images in what was scored; images that could not be decoded are absent.
        features: (k, d) float32.
        remarks: (remark, name of the image).
        bad: names and reasons of images left out.
    """

    index: int
    places: np.ndarray
    features: np.ndarray
    remarks: list[tuple[str, str]] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)


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
    gathered: list[tuple[Batch, np.ndarray]] = []
    for batch, features in _run(batches, extractor.runner, extractor.dims):
        _require_finite(batch, features)
        if gathered and gathered[0][0].part != batch.part:
            yield _joined(gathered)
            gathered = []
        gathered.append((batch, features))
        on_batch(len(batch.pictures) + len(batch.bad))
    if gathered:
        yield _joined(gathered)


def _run(batches: Iterable[Batch], runner: Runner, dims: int) -> Iterator[tuple[Batch, np.ndarray]]:
    """Pair every batch with its features, though the runner reads ahead."""
    waiting: deque[Batch] = deque()

    def pixels() -> Iterator[np.ndarray]:
        for batch in batches:
            waiting.append(batch)
            if batch.pictures:
                yield batch.pixels

    for features in runner.map(pixels()):
        yield from _empty(waiting, dims)
        yield waiting.popleft(), features
    yield from _empty(waiting, dims)


def _empty(waiting: deque[Batch], dims: int) -> Iterator[tuple[Batch, np.ndarray]]:
    """The next batches, as long as none of their images could be decoded."""
    while waiting and not waiting[0].pictures:
        yield waiting.popleft(), np.empty((0, dims), np.float32)


def _require_finite(batch: Batch, features: np.ndarray) -> None:
    wrong = ~np.isfinite(features).all(axis=1)
    if wrong.any():
        raise BadFeatures(
            f"the network gave NaN or infinity for {batch.pictures[int(wrong.argmax())].name}; "
            "the weights may be damaged, or half precision overflowed (use --precision float32)"
        )


def _joined(gathered: list[tuple[Batch, np.ndarray]]) -> Part:
    batches = [batch for batch, _ in gathered]
    return Part(
        index=batches[0].part,
        places=np.array([picture.index for batch in batches for picture in batch.pictures], np.int64),
        features=np.concatenate([features for _, features in gathered]),
        remarks=[remark for batch in batches for remark in batch.remarks],
        bad=[bad for batch in batches for bad in batch.bad],
    )
