"""The program that decodes small image files for another process: requests on stdin, answers on stdout, see `decode_processes`.

It ends when that process does, since nothing comes from its stdin then.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np

from frechet._internal.child_process import open_pipe_to_parent
from frechet.errors import FrechetError, ImageDecodeError
from frechet.images.checks import check_image
from frechet.images.decode import decode
from frechet.images.decode_budget import AnyImage, estimate_bytes
from frechet.images.image import ImageRef
from frechet.images.sources.files import FileLoader

READY, REQUEST, DECODED = range(3)  # kinds of messages; the last is JSON, a line feed, and the pixels of all images
_MAX_BYTES = 1 << 20  # that decoding an image may take: 256 x 256 pixels (WebP: 209 x 209)


def main() -> None:
    """Answer the requests of the process that started this one, until it ends."""
    pipe = open_pipe_to_parent()
    with suppress(EOFError, BrokenPipeError):
        pipe.send(READY)
        while True:
            answers, images = decode_files(**json.loads(pipe.receive()[1]))
            pipe.send(DECODED, b"".join((json.dumps(answers).encode(), b"\n", *(image.data for image in images))))


def decode_files(paths: Iterable[str], max_pixels: int) -> tuple[list[Any], list[np.ndarray]]:
    """Decode image files.

    Args:
        paths: the files.
        max_pixels: largest number of pixels of an image that can be decoded.

    Returns:
        The result of `check_image` and the note of each image, and the pixels of the images. None for an image that takes too much
        memory for this process, or that cannot be decoded: the other process decides, whose Pillow may accept damaged files.
    """

    def reserve(image: AnyImage) -> None:
        if estimate_bytes(image, max_pixels) > _MAX_BYTES:
            raise ImageDecodeError

    answers: list[Any] = []
    images: list[np.ndarray] = []
    for path in paths:
        try:
            decoded = decode(ImageRef(0, path, FileLoader(path)), reserve)
        except FrechetError:
            answers.append(None)
        else:
            check = check_image(decoded.rgb, decoded.format, decoded.largest_16_bit)
            answers.append((check, decoded.note))
            images.append(np.ascontiguousarray(decoded.rgb))
    return answers, images
