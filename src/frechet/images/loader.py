"""Decode and resize images in threads, ahead of the network, and return batches in order."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count, islice, repeat
from threading import Lock
from typing import Any

import numpy as np

from frechet.errors import ImageDecodeError
from frechet.images.checks import IMAGE_CHECK, CheckedImage, check_image
from frechet.images.decode import DecodedImage, decode
from frechet.images.decode_budget import MAX_PIXELS, DecodeBudget, ReadAhead
from frechet.images.decode_processes import DecodeProcesses
from frechet.images.image import EncodedImage, ImageLike, ImageRef
from frechet.images.pixel_memory import Allocate, BlockPool, GroupMemory, allocate_nothing

CHUNK_SIZE = 256  # consecutive images whose statistics are merged as one; fixed, so that no setting changes the result
_MIN_PREFETCH, _MAX_PREFETCH, _PREFETCH_IMAGES = 2, 4, 256  # batches that are decoded ahead, and their images together
_MAX_GROUP_SIZE = 32  # images that a thread decodes at a time
_MAX_WAITING_BYTES = 1 << 30  # of images that are left to a device; also of those in one batch
_MAX_READ_BYTES = 1 << 20  # of files that are read before they are decoded
_HOLD_SHARE = 1 / 2048  # of these bytes: smaller images are counted together; 512 KB
_budget, _pool = DecodeBudget(), BlockPool()  # of all runs in this process

Result = CheckedImage | ImageDecodeError


@dataclass(frozen=True)
class Batch:
    """Decoded images of one chunk.

    Attributes:
        chunk_index: the chunk that the images belong to.
        image_refs: the k images that could be decoded.
        pixels: (k, size, size, 3) float32 in 0..255, one for each of `image_refs`; or, if some are left to a device, a list
            of (h, w, 3) uint8, or (size, size, 3) float32.
        image_checks: (k,) of `IMAGE_CHECK`, one for each of `image_refs`.
        notes: what was changed in decoding: (note, label of the image).
        skipped_images: labels of the images that could not be decoded, with the reasons.
    """

    chunk_index: int
    image_refs: list[ImageRef]
    pixels: np.ndarray | list[np.ndarray]
    image_checks: np.ndarray
    notes: list[tuple[str, str]] = field(default_factory=list)
    skipped_images: list[str] = field(default_factory=list)


Resize = Callable[[np.ndarray, np.ndarray], None]
IsLeftToDevice = Callable[[int, int], bool]
CropWithNote = Callable[[np.ndarray], tuple[np.ndarray, str | None]]


@dataclass(frozen=True)
class _PendingBatch:
    """A batch whose groups of images are being decoded.

    Attributes:
        chunk_index: the chunk that the images belong to.
        image_refs: the images.
        pixels: what they are resized into; None if some are left to a device.
        groups: (position in the queue, images or errors in order) of each group.
    """

    chunk_index: int
    image_refs: list[ImageRef]
    pixels: np.ndarray | None
    groups: list[tuple[int, Future[list[Result]]]]


def load_batches(
    image_refs: Iterable[ImageRef],
    resize: Resize,
    *,
    size: int,
    batch_size: int,
    workers: int,
    workers_kind: str = "threads",
    skip_bad_images: bool,
    crop: CropWithNote | None = None,
    max_pixels: int = MAX_PIXELS,
    is_left_to_device: IsLeftToDevice | None = None,
) -> Generator[Batch, None, None]:
    """Decode and resize images, and yield them in batches, in order.

    A thread decodes a group of consecutive images at a time, since handing over images one by one takes longer than
    decoding small ones.

    Args:
        image_refs: the images.
        resize: read an image (h, w, 3) uint8 and write it into (size, size, 3) float32, in 0..255.
        size: height and width of the network's input, in pixels.
        batch_size: largest number of images per batch; a batch never crosses the end of a chunk, and it ends early if the
            images that are left to the device reach 1 GB.
        workers: number of decoding threads.
        workers_kind: whether they decode small files in processes: "threads", "processes" or "auto" (see `DecodeProcesses`); only images
            that are left to a device, and are not cropped, are decoded there.
        skip_bad_images: list an image that cannot be decoded in `Batch.skipped_images` instead of raising an error.
        crop: applied to each image before it is checked and resized: from an image (h, w, 3) uint8 to another one, and a
            note on the change or None.
        max_pixels: largest number of pixels of an image that can be decoded.
        is_left_to_device: whether an image of this height and width is not resized here; None if all images are.

    Raises:
        ImageDecodeError: an image cannot be decoded and `skip_bad_images` is false.
    """
    prefetch = max(_MIN_PREFETCH, min(_MAX_PREFETCH, _PREFETCH_IMAGES // batch_size))
    group_size = max(1, min(_MAX_GROUP_SIZE, batch_size * prefetch // workers))  # enough groups for all threads
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    in_progress: deque[_PendingBatch] = deque()
    loader = _GroupLoader(
        resize=resize,
        size=size,
        skip_bad_images=skip_bad_images,
        crop=crop,
        max_pixels=max_pixels,
        is_left_to_device=is_left_to_device,
        ahead=ReadAhead(_MAX_WAITING_BYTES),
        processes=DecodeProcesses(workers_kind, workers, max_pixels),
    )
    positions = count()
    try:
        for chunk_index, batch_refs in _split_batches(image_refs, batch_size):
            pixels = None if is_left_to_device else np.empty((len(batch_refs), size, size, 3), np.float32)
            groups = []
            for at, group in zip(positions, _iter_groups(len(batch_refs), group_size), strict=False):
                loader.announce(at, batch_refs[group])
                outs = repeat(None) if pixels is None else pixels[group]
                groups.append((at, pool.submit(loader.load, at, batch_refs[group], outs)))
            in_progress.append(_PendingBatch(chunk_index, batch_refs, pixels, groups))
            if len(in_progress) > prefetch:
                yield from _collect_batches(in_progress.popleft(), loader.ahead)
        while in_progress:
            yield from _collect_batches(in_progress.popleft(), loader.ahead)
    finally:
        loader.ahead.require(math.inf)  # no thread waits for room any more
        pool.shutdown(wait=True, cancel_futures=True)
        loader.processes.close()


@dataclass(frozen=True, kw_only=True)
class _GroupLoader:
    """Decodes, crops, checks and resizes groups of images in the threads of `load_batches`; see there for the settings.

    Attributes:
        ahead: bounds the memory of images that wait for the device.
        processes: decode small files.
        turn: held by the thread that decodes tiny images; several at a time would wait for the interpreter lock at every image.
    """

    resize: Resize
    size: int
    skip_bad_images: bool
    crop: CropWithNote | None
    max_pixels: int
    is_left_to_device: IsLeftToDevice | None
    ahead: ReadAhead
    processes: DecodeProcesses
    turn: AbstractContextManager[Any] = field(default_factory=Lock)

    @property
    def _is_kept(self) -> bool:
        """Whether images are kept as they are decoded."""
        return self.is_left_to_device is not None and self.crop is None

    def announce(self, position: int, group: Sequence[ImageRef]) -> None:
        """Announce a group that is loaded later, in the order in which groups are loaded."""
        if self._is_kept:
            self.processes.announce(position, group)

    def load(self, position: int, group: Sequence[ImageRef], outs: Iterable[np.ndarray | None]) -> list[Result]:
        """Load the images of the group at a position, into these arrays where they are given."""
        results: list[Result] = []
        allocate = GroupMemory(_pool, len(group)).allocate if self._is_kept else allocate_nothing
        decoded = self.processes.decode(position, group) if self._is_kept else [None] * len(group)
        n_bytes = 0
        with ExitStack() as turn:
            if self.processes.are_tiny and None in decoded:
                group = list(_read(group))
                turn.enter_context(self.turn)
            for image_ref, out, image in zip(group, outs, decoded, strict=False):
                results.append(loaded := self._load_image(image_ref, out, allocate, image))
                n_bytes += loaded.pixels.nbytes if out is None and isinstance(loaded, CheckedImage) else 0
                if n_bytes >= _HOLD_SHARE * self.ahead.max_bytes:
                    turn.close()  # larger images than before; the thread that is needed next may wait for its turn
                    self.ahead.hold(position, n_bytes)
                    n_bytes = 0
        self.ahead.hold(position, n_bytes)
        if self._is_kept:
            self.processes.count(results)
        return results

    def _load_image(
        self, image_ref: ImageRef, out: np.ndarray | None, allocate: Allocate, decoded: CheckedImage | None
    ) -> Result:
        """Load an image, unless a process has decoded it."""
        try:
            if decoded is not None:
                return self._resize_unless_left(decoded, out)
            with _budget.admit(self.max_pixels) as reserve:
                return self._resize_unless_left(self._check(decode(image_ref, reserve, allocate)), out)
        except ImageDecodeError as error:
            if not self.skip_bad_images:
                raise _advise(error) from error
            return error

    def _check(self, decoded: DecodedImage) -> CheckedImage:
        rgb, crop_note = self.crop(decoded.rgb) if self.crop else (decoded.rgb, None)
        return CheckedImage(
            rgb,
            check_image(rgb, decoded.format, decoded.largest_16_bit),
            tuple(filter(None, (decoded.note, crop_note))) if decoded.note or crop_note else (),
        )

    def _resize_unless_left(self, image: CheckedImage, out: np.ndarray | None) -> CheckedImage:
        if self.is_left_to_device and self.is_left_to_device(*image.pixels.shape[:2]):
            return image
        resized = np.empty((self.size, self.size, 3), np.float32) if out is None else out
        self.resize(image.pixels, resized)
        return image._replace(pixels=resized)


def _read(group: Iterable[ImageRef]) -> Iterator[ImageRef]:
    """Read the files of a group before they are decoded, as far as they are small."""
    n_bytes = 0
    for image_ref in group:
        if n_bytes < _MAX_READ_BYTES:
            with suppress(Exception):  # which `decode` meets again, and reports
                loaded = image_ref.load()
                n_bytes += len(loaded.data) if isinstance(loaded, EncodedImage) else 0
                image_ref = replace(image_ref, load=partial(_identity, loaded))
        yield image_ref


def _identity(image: ImageLike) -> ImageLike:
    return image


def _advise(error: ImageDecodeError) -> ImageDecodeError:
    return ImageDecodeError(
        f"{str(error).removesuffix('.')}. Fix or delete the image, or skip images that cannot be decoded with --on-bad-image skip (on_bad_image=)."
    )


def _split_batches(image_refs: Iterable[ImageRef], batch_size: int) -> Iterator[tuple[int, list[ImageRef]]]:
    stream = iter(image_refs)
    chunk_index = 0
    while members := list(islice(stream, CHUNK_SIZE)):
        for start in range(0, len(members), batch_size):
            yield chunk_index, members[start : start + batch_size]
        chunk_index += 1


def _iter_groups(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))


def _collect_batches(pending: _PendingBatch, ahead: ReadAhead) -> Iterator[Batch]:
    """Yield the images of a batch, in several batches if they take too much memory together."""
    results: list[Result] = []
    start = n_bytes = 0
    for position, group in pending.groups:
        ahead.require(position)
        for result in group.result():
            results.append(result)
            if pending.pixels is None and isinstance(result, CheckedImage):
                n_bytes += result.pixels.nbytes
            if n_bytes >= ahead.max_bytes:
                ahead.release(n_bytes)
                yield _make_batch(pending, start, results)
                start, results, n_bytes = start + len(results), [], 0
    if results:
        ahead.release(n_bytes)
        yield _make_batch(pending, start, results)


def _make_batch(pending: _PendingBatch, start: int, results: Sequence[Result]) -> Batch:
    kept = [index for index, result in enumerate(results) if isinstance(result, CheckedImage)]
    loaded = [result for result in results if isinstance(result, CheckedImage)]
    image_refs = [pending.image_refs[start + index] for index in kept]
    pixels: np.ndarray | list[np.ndarray] = [each.pixels for each in loaded]
    if pending.pixels is not None:
        is_complete = len(kept) == len(results)
        pixels = pending.pixels if is_complete else np.ascontiguousarray(pending.pixels[kept])
    return Batch(
        pending.chunk_index,
        image_refs,
        pixels,
        np.array([each.check for each in loaded], IMAGE_CHECK),
        [(note, ref.label) for ref, each in zip(image_refs, loaded, strict=True) for note in each.notes],
        [str(result) for result in results if isinstance(result, ImageDecodeError)],
    )
