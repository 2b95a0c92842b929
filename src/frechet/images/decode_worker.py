"""The program that decodes small image files for another process: requests on stdin, answers on stdout, see `decode_processes`.

It ends when that process does, since nothing comes from its stdin then.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable
from contextlib import suppress

import numpy as np

from frechet._internal.child_process import open_pipe_to_parent
from frechet.errors import FrechetError
from frechet.images.checks import IMAGE_CHECK, ImageCheck, check_image
from frechet.images.decode import decode
from frechet.images.decode_budget import AnyImage, estimate_bytes
from frechet.images.image import ImageRef
from frechet.images.shared_blocks import open_blocks
from frechet.images.sources.files import FileLoader

READY, REQUEST, DECODED = range(3)  # kinds of messages; the last is the arrays of `decode_files`, and the notes as JSON
LEFT = -1  # to the other process
_MAX_PIXELS = 256 * 256

# Where the pixels of an image start in a block: libjpeg-turbo writes rows that are aligned to 32 bytes past the processor's cache, from
# which they are read next.
_ALIGNMENT, _OFFSET = 32, 16
_NO_CHECK: ImageCheck = 0, "", 0, 0, 0, 0


def main(file: str, block_bytes: str) -> None:
    """Answer the requests of the process that started this one, until it ends.

    Args:
        file: descriptor of the memory for pixels.
        block_bytes: size of the blocks of that memory.
    """
    pipe, blocks = open_pipe_to_parent(), open_blocks(int(file), int(block_bytes))
    for kind in (UserWarning, RuntimeWarning):
        warnings.simplefilter("error", kind)
    with suppress(EOFError, BrokenPipeError):
        pipe.send(READY)
        while True:
            request = json.loads(pipe.receive()[1])
            starts, checks, notes = decode_files(request["paths"], request["max_pixels"], blocks[request["block"]])
            pipe.send(DECODED, b"".join((starts.data, checks.data, json.dumps(notes).encode())))


def decode_files(
    paths: Iterable[str], max_pixels: int, memory: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[str | None]]:
    """Decode and check image files.

    Args:
        paths: the n files.
        max_pixels: largest number of pixels of an image that can be decoded.
        memory: (n_bytes,) uint8, where the pixels are written to.

    Returns:
        Where the pixels of each image start in that memory, (n,) int64; what `check_image` found, (n,) of `IMAGE_CHECK`; and the notes.
        LEFT is the start of an image that has more than 256 x 256 pixels, or that cannot be decoded without a warning: the other process
        decides, whose Pillow may accept damaged files, and whose filters decide about warnings.
    """

    def reserve(image: AnyImage) -> None:
        estimate_bytes(image, min(max_pixels, _MAX_PIXELS))  # raises an error for a larger one

    starts: list[int] = []
    checks: list[ImageCheck] = []
    notes: list[str | None] = []
    space = _Space(memory)
    for path in paths:
        start, check, note = LEFT, _NO_CHECK, None
        with suppress(FrechetError):
            decoded = decode(ImageRef(0, path, FileLoader(path)), reserve, space.allocate)
            note = decoded.note
            if (start := space.find(decoded.rgb)) != LEFT:
                check = check_image(decoded.rgb, decoded.format, decoded.largest_16_bit)
        starts.append(start)
        checks.append(check)
        notes.append(note)
    return np.array(starts, np.int64), np.array(checks, IMAGE_CHECK), notes


class _Space:
    """Memory for the pixels of one image after another."""

    def __init__(self, memory: np.ndarray) -> None:
        self.memory, self.end = memory, 0
        self.latest: tuple[np.ndarray | None, int] = None, 0

    def allocate(self, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return memory for an image; None if too little is left."""
        start = -(-self.end // _ALIGNMENT) * _ALIGNMENT + _OFFSET
        end = start + math.prod(shape)
        if end > len(self.memory):
            return None
        image, self.end = self.memory[start:end].reshape(shape), end
        self.latest = image, start
        return image

    def find(self, rgb: np.ndarray) -> int:
        """Return where an image starts, which is copied if it is not the latest one; LEFT if too little memory is left."""
        latest, start = self.latest
        if rgb is latest:
            return start
        if (copy := self.allocate(rgb.shape)) is None:
            return LEFT
        copy[...] = rgb
        return self.latest[1]
