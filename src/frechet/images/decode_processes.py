"""Processes that decode small image files, one for each decoding thread.

Most of the time that a small file takes is spent in the interpreter, of whose threads only one runs at a time.
"""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from threading import local
from typing import IO

import numpy as np

import frechet.errors
from frechet._internal.child_process import Pipe, start_child
from frechet.errors import FrechetError, ImageDecodeError, RunError
from frechet.images import decode_worker
from frechet.images.checks import CheckedImage
from frechet.images.image import ImageRef
from frechet.images.sources.files import FileLoader

WORKERS_KINDS = ("auto", "threads", "processes")
_MAX_SMALL_BYTES = 64 * 64 * 3  # of an image that is small
_IMAGES_BEFORE_PROCESSES = (
    4096  # small ones that threads decode before processes are started, which takes as long as thousands of images
)
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

Result = CheckedImage | ImageDecodeError


class DecodeProcesses:
    """Decodes groups of files in processes if that is faster; the calling thread decodes what they leave to it.

    Args:
        kind: "threads" for no processes; "processes"; or "auto" for processes after 4,096 small images, if there are several threads.
        n_threads: number of threads that decode.
        max_pixels: largest number of pixels of an image that can be decoded.
    """

    def __init__(self, kind: str, n_threads: int, max_pixels: int) -> None:
        self.kind = "threads" if kind == "auto" and n_threads == 1 else kind
        self.max_pixels = max_pixels
        self.n_small = 0
        self._of_thread = local()
        self._running: list[subprocess.Popen[bytes]] = []

    def decode(self, group: Sequence[ImageRef]) -> list[Result | None]:
        """Decode and check a group of images.

        Returns:
            Each image, an error that says why it cannot be decoded, or None for an image that the caller is to decode.

        Raises:
            FrechetError: an error that is not about an image.
        """
        is_used = self.kind == "processes" or (self.kind == "auto" and self.n_small >= _IMAGES_BEFORE_PROCESSES)
        files = [(ref.label, ref.load.path) for ref in group if isinstance(ref.load, FileLoader)] if is_used else []
        if len(files) < len(group):
            return [None] * len(group)
        try:
            pipe = self._get_pipe()
            pipe.send(decode_worker.REQUEST, json.dumps({"files": files, "max_pixels": self.max_pixels}).encode())
            decoded = pipe.receive()[1]
        except (OSError, EOFError, RunError):  # it cannot be started, or was ended
            self.kind = "threads"
            return [None] * len(group)
        return list(_iter_results(decoded))

    def count(self, results: Sequence[Result]) -> None:
        """Count the small images in a row, of which `decode` starts processes if there are many."""
        is_small = all(isinstance(each, CheckedImage) and each.pixels.nbytes <= _MAX_SMALL_BYTES for each in results)
        self.n_small = self.n_small + len(results) if is_small else 0

    def close(self) -> None:
        """End the processes; no thread may decode any more."""
        for process in self._running:
            process.kill()
            process.communicate()
        self._running.clear()

    def _get_pipe(self) -> Pipe:
        """Return the connection to the process of the calling thread, and start it if necessary."""
        if not hasattr(self._of_thread, "pipe"):
            process = start_child(decode_worker.__name__, _ENVIRONMENT)
            self._running.append(process)
            assert process.stdin
            assert process.stdout
            _enlarge_pipe(process.stdout)
            self._of_thread.pipe = Pipe(process.stdout, process.stdin)
        pipe: Pipe = self._of_thread.pipe
        return pipe


def _enlarge_pipe(stream: IO[bytes]) -> None:
    """Let a pipe hold a whole answer, so that neither process waits for the other within it; only Linux can."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, 1 << 20)


def _iter_results(decoded: bytes) -> Iterator[Result | None]:
    """Yield what a message of the worker stands for.

    Raises:
        FrechetError: one that is not about an image.
    """
    end = decoded.index(b"\n")
    start = end + 1
    for answer in json.loads(decoded[:end]):
        if answer is None:
            yield None
        elif isinstance(answer[0], str):
            name, message = answer
            error: FrechetError = getattr(frechet.errors, str(name))(message)
            if not isinstance(error, ImageDecodeError):
                raise error
            yield error
        else:
            check, note = answer
            shape = (*check[-2:], 3)
            image = np.frombuffer(decoded, np.uint8, math.prod(shape), start).reshape(shape)
            start += image.nbytes
            yield CheckedImage(image, tuple(check), (note,) if note else ())
