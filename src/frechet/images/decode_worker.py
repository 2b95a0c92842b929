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
from frechet.errors import FrechetError
from frechet.images.checks import check_image
from frechet.images.decode import decode
from frechet.images.decode_budget import AnyImage, estimate_bytes
from frechet.images.image import ImageRef
from frechet.images.sources.files import FileLoader

REQUEST, DECODED = range(2)  # kinds of messages; the latter is JSON, a line feed, and the pixels of all images
_MAX_BYTES = 1 << 20  # that decoding an image may take: 256 x 256 pixels


class _TooLargeError(FrechetError):
    """An image is to be decoded by the other process, which bounds the memory that all images take."""


def main() -> None:
    """Answer the requests of the process that started this one, until it ends."""
    pipe = open_pipe_to_parent()
    with suppress(EOFError, BrokenPipeError):
        while True:
            answers, images = decode_files(**json.loads(pipe.receive()[1]))
            pipe.send(DECODED, b"".join((json.dumps(answers).encode(), b"\n", *(image.data for image in images))))


def decode_files(files: Iterable[tuple[str, str]], max_pixels: int) -> tuple[list[Any], list[np.ndarray]]:
    """Decode image files.

    Args:
        files: label and path of each.
        max_pixels: largest number of pixels of an image that can be decoded.

    Returns:
        What was found, and the pixels of the images that were decoded. Of an image, [result of `check_image`, note or None] was found;
        of an error, [name of its class, message]; None of an image that is too large for this process.
    """

    def reserve(image: AnyImage) -> None:
        if estimate_bytes(image, max_pixels) > _MAX_BYTES:
            raise _TooLargeError

    answers: list[Any] = []
    images: list[np.ndarray] = []
    for label, path in files:
        try:
            decoded = decode(ImageRef(0, label, FileLoader(path)), reserve)
        except _TooLargeError:
            answers.append(None)
        except FrechetError as error:
            answers.append([type(error).__name__, str(error)])
        else:
            answers.append([check_image(decoded.rgb, decoded.format), decoded.note])
            images.append(np.ascontiguousarray(decoded.rgb))
    return answers, images
