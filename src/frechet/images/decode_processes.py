"""Processes that decode small image files for the decoding threads, which the global interpreter lock limits there."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread
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

    A process receives its next group as soon as it has sent the images of one, before a thread handles those, so that it never waits.

    Args:
        kind: "threads" for no processes; "processes"; or "auto" for processes after 2,048 small images for each of them, if there are
            several threads. Until they have started, the threads decode.
        n_threads: number of threads that decode; there are as many processes, and at most 8.
        max_pixels: largest number of pixels of an image that can be decoded.
    """

    def __init__(self, kind: str, n_threads: int, max_pixels: int) -> None:
        self.kind = "threads" if kind == "auto" and n_threads == 1 else kind
        self.n_processes, self.max_pixels = min(n_threads, _MAX_PROCESSES), max_pixels
        self.n_small = 0
        self._lock = Lock()
        self._queued: dict[int, Sequence[ImageRef]] = {}  # in order
        self._sent: dict[int, Pipe] = {}  # to the processes that decode groups which no thread waits for yet
        self._idle: SimpleQueue[Pipe] = SimpleQueue()
        self._running: list[subprocess.Popen[bytes]] = []
        self._starter: Thread | None = None

    def announce(self, position: int, group: Sequence[ImageRef]) -> None:
        """Queue a group that `decode` will be called with; positions ascend."""
        if self.kind != "threads":
            with self._lock:
                self._queued[position] = group

    def decode(self, position: int, group: Sequence[ImageRef]) -> list[CheckedImage | None]:
        """Decode and check a group of images; None stands for an image that the caller is to decode."""
        with suppress(OSError, EOFError, RunError):  # the process was ended
            if pipe := self._find_process(position, group):
                decoded = pipe.receive()[1]
                self._send_next(pipe)
                return list(_iter_images(decoded))
        return [None] * len(group)

    def count(self, results: Sequence[CheckedImage | ImageDecodeError]) -> None:
        """Count the small images in a row, of which `decode` starts processes if there are many."""
        is_small = all(isinstance(each, CheckedImage) and each.pixels.nbytes <= _MAX_SMALL_BYTES for each in results)
        self.n_small = self.n_small + len(results) if is_small else 0

    def close(self) -> None:
        """End the processes; no thread may decode any more."""
        for process in self._running:
            process.kill()
        if self._starter:
            self._starter.join()
        for process in self._running:
            process.communicate()
        self._running.clear()

    def _find_process(self, position: int, group: Sequence[ImageRef]) -> Pipe | None:
        """Return the connection to the process that decodes a group; None if the calling thread is to decode it."""
        with self._lock:
            self._queued.pop(position, None)
            if pipe := self._sent.pop(position, None):
                return pipe
        if not self._is_due(group):
            return None
        self._start()
        with suppress(Empty):
            pipe = self._idle.get_nowait()
            self._send(pipe, group)
        return pipe

    def _send_next(self, pipe: Pipe) -> None:
        """Let a process decode the next group in the queue."""
        with self._lock:
            position, group = next(iter(self._queued.items()), (-1, ()))
            if is_due := self._is_due(group):
                self._sent[position] = pipe
                del self._queued[position]
        if is_due:
            with suppress(OSError):  # the process was ended, as the thread that waits for it will notice
                self._send(pipe, group)
        else:
            self._idle.put(pipe)

    def _send(self, pipe: Pipe, group: Sequence[ImageRef]) -> None:
        paths = [ref.load.path for ref in group if isinstance(ref.load, FileLoader)]
        pipe.send(decode_worker.REQUEST, json.dumps({"paths": paths, "max_pixels": self.max_pixels}).encode())

    def _is_due(self, group: Sequence[ImageRef]) -> bool:
        """Return whether a process is to decode a group."""
        are_many = self.n_small >= self.n_processes * _IMAGES_BEFORE_PROCESSES
        is_used = self.kind == "processes" or (self.kind == "auto" and are_many)
        return is_used and bool(group) and all(isinstance(ref.load, FileLoader) for ref in group)

    def _start(self) -> None:
        """Start all processes, and a thread that receives their first messages; wait for it if only processes are to decode."""
        with self._lock:
            if self._starter is None:
                with suppress(OSError, RunError):  # the machine allows no more, or no interpreter is known
                    for _ in range(self.n_processes):
                        self._running.append(start_child(decode_worker.__name__, _ENVIRONMENT))
                self._starter = Thread(target=self._receive_ready, name="start of processes", daemon=True)
                self._starter.start()
        if self.kind == "processes":
            self._starter.join()

    def _receive_ready(self) -> None:
        for pipe in [_connect(process) for process in self._running]:
            with suppress(OSError, EOFError, RunError):  # it was ended, or prints something else
                if pipe.receive()[0] == decode_worker.READY:
                    self._idle.put(pipe)


def _connect(process: subprocess.Popen[bytes]) -> Pipe:
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
