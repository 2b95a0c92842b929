"""Decode and resize in threads, ahead of the network, and hand out batches in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from frechet.errors import BadImage
from frechet.images.checks import SIGN, Sign, sign_of
from frechet.images.decode import decode
from frechet.images.image import Picture

PART = 256  # consecutive images whose statistics are merged as one; fixed, so that no setting moves the number
_BATCHES_AHEAD = 4


@dataclass(frozen=True)
class Batch:
    """Decoded images of one part.

    Attributes:
        part: which part they belong to.
        pictures: those that could be decoded.
        pixels: (k, size, size, 3) float32 in 0..255, one for each of `pictures`.
        signs: (k,) of `SIGN`, what was noticed of each of `pictures`.
        remarks: what was done to images that a user should know: (remark, name of the image).
        bad: those that could not be decoded: (name, reason).
    """

    part: int
    pictures: list[Picture]
    pixels: np.ndarray
    signs: np.ndarray
    remarks: list[tuple[str, str]] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)


def load_batches(
    pictures: Iterable[Picture],
    resize: Callable[[np.ndarray, np.ndarray], None],
    *,
    size: int,
    batch_size: int,
    workers: int,
    skip_bad: bool,
) -> Generator[Batch, None, None]:
    """Batches of at most `batch_size`, in order; a batch never crosses a part.

    Raises:
        BadImage: an image cannot be decoded and `skip_bad` is false.
    """

    def fill(picture: Picture, out: np.ndarray) -> tuple[Sign, str | None]:
        decoded = decode(picture)
        resize(decoded.rgb, out)
        return sign_of(decoded.rgb, decoded.format), decoded.remark

    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    ahead: deque[tuple[int, list[Picture], np.ndarray, list[Future[tuple[Sign, str | None]]]]] = deque()
    try:
        for part, group in _groups(pictures, batch_size):
            pixels = np.empty((len(group), size, size, 3), np.float32)
            futures = [pool.submit(fill, picture, out) for picture, out in zip(group, pixels, strict=True)]
            ahead.append((part, group, pixels, futures))
            if len(ahead) > _BATCHES_AHEAD:
                yield _finished(*ahead.popleft(), skip_bad)
        while ahead:
            yield _finished(*ahead.popleft(), skip_bad)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _groups(pictures: Iterable[Picture], batch_size: int) -> Iterator[tuple[int, list[Picture]]]:
    stream = iter(pictures)
    part = 0
    while members := list(islice(stream, PART)):
        for start in range(0, len(members), batch_size):
            yield part, members[start : start + batch_size]
        part += 1


def _finished(
    part: int, group: list[Picture], pixels: np.ndarray, futures: list[Future[tuple[Sign, str | None]]], skip_bad: bool
) -> Batch:
    good, signs, remarks, bad = [], [], [], []
    for index, (picture, future) in enumerate(zip(group, futures, strict=True)):
        try:
            sign, remark = future.result()
        except BadImage as error:
            if not skip_bad:
                raise BadImage(
                    f"{error}. Mend or remove it, or leave such images out with --on-bad-image skip (on_bad_image=)"
                ) from error
            bad.append(str(error))
            continue
        good.append(index)
        signs.append(sign)
        if remark:
            remarks.append((remark, picture.name))
    if bad:
        pixels = np.ascontiguousarray(pixels[good])
    return Batch(part, [group[index] for index in good], pixels, np.array(signs, SIGN), remarks, bad)
