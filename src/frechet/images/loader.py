"""Decode and resize images in threads, ahead of the network, and return batches in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from frechet.errors import ImageDecodeError
from frechet.images.checks import IMAGE_CHECK, ImageCheck, check_image
from frechet.images.decode import DecodedImage, decode
from frechet.images.decode_budget import MAX_PIXELS, DecodeBudget
from frechet.images.image import ImageRef

CHUNK_SIZE = 256  # consecutive images whose statistics are merged as one; fixed, so that no setting changes the result
_PREFETCH_BATCHES = 4
_budget = DecodeBudget()  # of all runs in this process


@dataclass(frozen=True)
class Batch:
    """Decoded images of one chunk.

    Attributes:
        chunk_index: the chunk that the images belong to.
        image_refs: the k images that could be decoded.
        pixels: (k, size, size, 3) float32 in 0..255, one for each of `image_refs`.
        image_checks: (k,) of `IMAGE_CHECK`, one for each of `image_refs`.
        notes: what was changed in decoding: (note, label of the image).
        skipped_images: labels of the images that could not be decoded, with the reasons.
    """

    chunk_index: int
    image_refs: list[ImageRef]
    pixels: np.ndarray
    image_checks: np.ndarray
    notes: list[tuple[str, str]] = field(default_factory=list)
    skipped_images: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _PendingBatch:
    """A batch whose images are being decoded into `pixels`."""

    chunk_index: int
    image_refs: list[ImageRef]
    pixels: np.ndarray
    futures: list[Future[tuple[ImageCheck, tuple[str, ...]]]]


def load_batches(
    image_refs: Iterable[ImageRef],
    resize: Callable[[np.ndarray, np.ndarray], None],
    *,
    size: int,
    batch_size: int,
    workers: int,
    skip_bad_images: bool,
    crop: Callable[[np.ndarray], tuple[np.ndarray, str | None]] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Generator[Batch, None, None]:
    """Decode and resize images, and yield them in batches, in order.

    Args:
        image_refs: the images.
        resize: read an image (h, w, 3) uint8 and write it into (size, size, 3) float32, in 0..255.
        size: height and width of the network's input, in pixels.
        batch_size: largest number of images per batch; a batch never crosses the end of a chunk.
        workers: number of decoding threads.
        skip_bad_images: list an image that cannot be decoded in `Batch.skipped_images` instead of raising an error.
        crop: applied to each image before it is checked and resized: from an image (h, w, 3) uint8 to another one, and a
            note on the change or None.
        max_pixels: largest number of pixels of an image that can be decoded.

    Raises:
        ImageDecodeError: an image cannot be decoded and `skip_bad_images` is false.
    """

    def decode_into(image_ref: ImageRef, out: np.ndarray) -> tuple[ImageCheck, tuple[str, ...]]:
        with _budget.admit(max_pixels) as reserve:
            return resize_and_check(decode(image_ref, reserve), out)

    def resize_and_check(decoded: DecodedImage, out: np.ndarray) -> tuple[ImageCheck, tuple[str, ...]]:
        rgb, crop_note = crop(decoded.rgb) if crop else (decoded.rgb, None)
        resize(rgb, out)
        return check_image(rgb, decoded.format), tuple(filter(None, (decoded.note, crop_note)))

    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    in_progress: deque[_PendingBatch] = deque()
    try:
        for chunk_index, batch_refs in _split_batches(image_refs, batch_size):
            pixels = np.empty((len(batch_refs), size, size, 3), np.float32)
            futures = [
                pool.submit(decode_into, image_ref, out) for image_ref, out in zip(batch_refs, pixels, strict=True)
            ]
            in_progress.append(_PendingBatch(chunk_index, batch_refs, pixels, futures))
            if len(in_progress) > _PREFETCH_BATCHES:
                yield _collect_batch(in_progress.popleft(), skip_bad_images)
        while in_progress:
            yield _collect_batch(in_progress.popleft(), skip_bad_images)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _split_batches(image_refs: Iterable[ImageRef], batch_size: int) -> Iterator[tuple[int, list[ImageRef]]]:
    stream = iter(image_refs)
    chunk_index = 0
    while members := list(islice(stream, CHUNK_SIZE)):
        for start in range(0, len(members), batch_size):
            yield chunk_index, members[start : start + batch_size]
        chunk_index += 1


def _collect_batch(pending: _PendingBatch, skip_bad_images: bool) -> Batch:
    kept_indices, image_checks, notes, skipped_images = [], [], [], []
    for index, (image_ref, future) in enumerate(zip(pending.image_refs, pending.futures, strict=True)):
        try:
            check, notes_on_image = future.result()
        except ImageDecodeError as error:
            if not skip_bad_images:
                raise ImageDecodeError(
                    f"{error}. Fix or delete the image, or skip images that cannot be decoded with --on-bad-image skip "
                    "(on_bad_image=)"
                ) from error
            skipped_images.append(str(error))
            continue
        kept_indices.append(index)
        image_checks.append(check)
        notes += [(note, image_ref.label) for note in notes_on_image]
    return Batch(
        pending.chunk_index,
        [pending.image_refs[index] for index in kept_indices],
        np.ascontiguousarray(pending.pixels[kept_indices]) if skipped_images else pending.pixels,
        np.array(image_checks, IMAGE_CHECK),
        notes,
        skipped_images,
    )
