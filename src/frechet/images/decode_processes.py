"""Processes that decode small image files for the decoding threads, which the global interpreter lock limits there."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from threading import local
from typing import IO

import numpy as np

from frechet._internal.child_process import Pipe, start_child
from frechet.errors import ImageDecodeError, RunError
from frechet.images import decode_worker
from frechet.images.checks import CheckedImage
from frechet.images.image import ImageRef
from frechet.images.sources.files import FileLoader

WORKERS_KINDS = ("auto", "threads", "processes")
_MAX_SMALL_BYTES = 64 * 64 * 3  # of an image that is small
_MAX_PROCESSES = 8  # of 36 MB each
_IMAGES_BEFORE_PROCESSES = 2048  # small ones that threads decode per process, which takes as long to start
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class DecodeProcesses:
    """Decodes groups of files in processes if that is faster; the calling thread decodes what they leave to it.

    Args:
        kind: "threads" for no processes; "processes"; or "auto" for processes after 2,048 small images for each of them, if there are
            several threads.
        n_threads: number of threads that decode; each of the first 8 has a process.
        max_pixels: largest number of pixels of an image that can be decoded.
    """

    def __init__(self, kind: str, n_threads: int, max_pixels: int) -> None:
        self.kind = "threads" if kind == "auto" and n_threads == 1 else kind
        self.n_processes, self.max_pixels = min(n_threads, _MAX_PROCESSES), max_pixels
        self.n_small = 0
        self._numbers, self._of_thread = itertools.count(), local()  # `next` of a count is atomic
        self._running: list[subprocess.Popen[bytes]] = []

    def decode(self, group: Sequence[ImageRef]) -> list[CheckedImage | None]:
        """Decode and check a group of images; None stands for an image that the caller is to decode."""
        is_due = self.kind == "auto" and self.n_small >= self.n_processes * _IMAGES_BEFORE_PROCESSES
        is_used = self.kind == "processes" or is_due
        files = [(ref.label, ref.load.path) for ref in group if isinstance(ref.load, FileLoader)] if is_used else []
        if len(files) < len(group):
            return [None] * len(group)
        try:
            if (pipe := self._get_pipe()) is None:
                return [None] * len(group)
            pipe.send(decode_worker.REQUEST, json.dumps({"files": files, "max_pixels": self.max_pixels}).encode())
            decoded = pipe.receive()[1]
        except (OSError, EOFError, RunError):  # it cannot be started, or was ended
            self.kind = "threads"
            return [None] * len(group)
        return list(_iter_images(decoded))

    def count(self, results: Sequence[CheckedImage | ImageDecodeError]) -> None:
        """Count the small images in a row, of which `decode` starts processes if there are many."""
        is_small = all(isinstance(each, CheckedImage) and each.pixels.nbytes <= _MAX_SMALL_BYTES for each in results)
        self.n_small = self.n_small + len(results) if is_small else 0

    def close(self) -> None:
        """End the processes; no thread may decode any more."""
        for process in self._running:
            process.kill()
            process.communicate()
        self._running.clear()

    def _get_pipe(self) -> Pipe | None:
        """Return the connection to the process of the calling thread, which is started if necessary; None if there are enough."""
        if not hasattr(self._of_thread, "pipe"):
            self._of_thread.pipe = self._start() if next(self._numbers) < self.n_processes else None
        pipe: Pipe | None = self._of_thread.pipe
        return pipe

    def _start(self) -> Pipe:
        process = start_child(decode_worker.__name__, _ENVIRONMENT)
        self._running.append(process)
        assert process.stdin
        assert process.stdout
        _enlarge_pipe(process.stdout)
        return Pipe(process.stdout, process.stdin)


def _enlarge_pipe(stream: IO[bytes]) -> None:
    """Let a pipe hold a whole answer, so that neither process waits for the other within it; only Linux can."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, 1 << 20)


def _iter_images(decoded: bytes) -> Iterator[CheckedImage | None]:
    """Yield the images of a message of the worker."""
    end = decoded.index(b"\n")
    start = end + 1
    for answer in json.loads(decoded[:end]):
        if answer is None:
            yield None
            continue
        check, note = answer
        shape = (*check[-2:], 3)
        image = np.frombuffer(decoded, np.uint8, math.prod(shape), start).reshape(shape)
        start += image.nbytes
        yield CheckedImage(image, tuple(check), (note,) if note else ())
