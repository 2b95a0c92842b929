"""Processes that decode small image files for the decoding threads, which the global interpreter lock limits there."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import NamedTuple

import numpy as np

from frechet._internal.child_process import Pipe, start_child
from frechet.errors import ImageDecodeError, RunError
from frechet.images import decode_worker
from frechet.images.checks import IMAGE_CHECK, CheckedImage
from frechet.images.image import ImageRef
from frechet.images.shared_blocks import Block, SharedBlocks
from frechet.images.sources.files import FileLoader

WORKERS_KINDS = ("auto", "threads", "processes")
_MAX_PROCESSES = 8  # of about 40 MB each
_NUM_BLOCKS, _BLOCK_BYTES = (
    64,
    32 * (256 * 256 * 3 + 32),
)  # one for each group that is decoded, or waits for the network
_TINY_BYTES = 32 * 32 * 3
# Images in a row that the threads decode first, by the largest one of them in bytes; meanwhile, processes would have saved the time
# that it takes to start them
_IMAGES_BEFORE_PROCESSES = {64 * 64 * 3: 4096, 256 * 256 * 3: 16384}
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # glibc keeps the memory of an image for the next one; the system takes as long to provide it as an image takes to decode
    "MALLOC_MMAP_THRESHOLD_": str(1 << 24),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 25),
}


class _Request(NamedTuple):
    """A group of images that a process decodes.

    Attributes:
        pipe: to the process.
        block: what the process writes the pixels into.
    """

    pipe: Pipe
    block: Block


class DecodeProcesses:
    """Decodes groups of files in processes if that is faster; the calling thread decodes what they leave to it.

    A process receives its next group as soon as it has answered for one, before a thread handles that answer, so that it never waits.
    It writes the pixels into memory that it shares with this process.

    Args:
        kind: "threads" for no processes; "processes"; or "auto" for processes after 4,096 images in a row of at most 64 x 64 pixels, or
            16,384 of at most 256 x 256, if there are several threads. Until they have started, the threads decode.
        n_threads: number of threads that decode; there are as many processes, and at most 8. Systems other than Linux have none.
        max_pixels: largest number of pixels of an image that can be decoded.
    """

    def __init__(self, kind: str, n_threads: int, max_pixels: int) -> None:
        self.kind = "threads" if kind == "auto" and n_threads == 1 else kind
        self.n_processes, self.max_pixels = min(n_threads, _MAX_PROCESSES), max_pixels
        self._largest: float = math.inf  # of the group that was counted last, in bytes
        self._in_a_row = dict.fromkeys(_IMAGES_BEFORE_PROCESSES, 0)
        self._lock = Lock()
        self._queued: dict[int, Sequence[ImageRef]] = {}  # in order
        self._sent: dict[int, _Request] = {}  # groups that no thread waits for yet
        self._failed: list[_Request] = []  # their processes may still write into the blocks
        self._idle: SimpleQueue[Pipe] = SimpleQueue()
        self._running: list[subprocess.Popen[bytes]] = []
        self._blocks: SharedBlocks | None = None
        self._starter: Thread | None = None

    def announce(self, position: int, group: Sequence[ImageRef]) -> None:
        """Queue a group that `decode` will be called with; positions ascend."""
        if self.kind != "threads":
            with self._lock:
                self._queued[position] = group

    def decode(self, position: int, group: Sequence[ImageRef]) -> list[CheckedImage | None]:
        """Decode and check a group of images; None stands for an image that the caller is to decode."""
        request = self._find_request(position, group)
        if request is None:
            return [None] * len(group)
        try:
            answer = request.pipe.receive()[1]
        except (OSError, EOFError, RunError):  # the process was ended
            self._failed.append(request)
            return [None] * len(group)
        self._send_next(request.pipe)
        return list(_iter_images(answer, len(group), request.block.memory))

    def count(self, results: Sequence[CheckedImage | ImageDecodeError]) -> None:
        """Count the small images in a row, of which `decode` starts processes if there are many."""
        sizes = [each.pixels.nbytes if isinstance(each, CheckedImage) else math.inf for each in results]
        self._largest = largest = max(sizes, default=math.inf)
        for limit, count in self._in_a_row.items():
            self._in_a_row[limit] = count + len(results) if largest <= limit else 0

    @property
    def are_tiny(self) -> bool:
        """Whether the images that were counted last are at most 32 x 32 pixels, so that threads do not decode them faster than one."""
        return self._largest <= _TINY_BYTES

    def close(self) -> None:
        """End the processes; no thread may decode any more."""
        for process in self._running:
            process.kill()
        if self._starter:
            self._starter.join()
        for process in self._running:
            process.communicate()
        self._running.clear()
        self._sent.clear()
        self._failed.clear()
        self._blocks = None

    def _find_request(self, position: int, group: Sequence[ImageRef]) -> _Request | None:
        """Return the request of a group to a process; None if the calling thread is to decode it."""
        with self._lock:
            self._queued.pop(position, None)
            if request := self._sent.pop(position, None):
                return request
        if not self._is_due(group):
            return None
        self._start()
        with suppress(Empty):
            pipe = self._idle.get_nowait()
            if request := self._prepare(pipe):
                self._send(request, group)
            else:
                self._idle.put(pipe)
        return request

    def _send_next(self, pipe: Pipe) -> None:
        """Let a process decode the next group in the queue."""
        with self._lock:
            position, group = next(iter(self._queued.items()), (-1, ()))
            if request := self._prepare(pipe) if self._is_due(group) else None:
                self._sent[position] = request
                del self._queued[position]
        if request:
            self._send(request, group)
        else:
            self._idle.put(pipe)

    def _prepare(self, pipe: Pipe) -> _Request | None:
        """Return a request to a process; None if all blocks are in use."""
        block = self._blocks.take() if self._blocks else None
        return _Request(pipe, block) if block else None

    def _send(self, request: _Request, group: Sequence[ImageRef]) -> None:
        paths = [ref.load.path for ref in group if isinstance(ref.load, FileLoader)]
        content = {"paths": paths, "max_pixels": self.max_pixels, "block": request.block.position}
        with suppress(OSError):  # the process was ended, as the thread that waits for its answer will notice
            request.pipe.send(decode_worker.REQUEST, json.dumps(content).encode())

    def _is_due(self, group: Sequence[ImageRef]) -> bool:
        """Return whether a process is to decode a group."""
        are_many = any(self._in_a_row[limit] >= count for limit, count in _IMAGES_BEFORE_PROCESSES.items())
        is_used = self.kind == "processes" or (self.kind == "auto" and are_many)
        return is_used and bool(group) and all(isinstance(ref.load, FileLoader) for ref in group)

    def _start(self) -> None:
        """Start all processes, and a thread that receives their first messages; wait for it if only processes are to decode."""
        with self._lock:
            if self._starter is None:
                with suppress(OSError, RunError):  # the machine allows no more, or no interpreter is known
                    self._start_processes()
                self._starter = Thread(target=self._receive_ready, name="start of processes", daemon=True)
                self._starter.start()
        if self.kind == "processes":
            self._starter.join()

    def _start_processes(self) -> None:
        blocks = self._blocks = SharedBlocks(_NUM_BLOCKS, _BLOCK_BYTES)
        arguments = str(blocks.file), str(_BLOCK_BYTES)
        try:
            for _ in range(self.n_processes):
                self._running.append(start_child(decode_worker.__name__, _ENVIRONMENT, arguments, (blocks.file,)))
        finally:
            blocks.close_file()

    def _receive_ready(self) -> None:
        for pipe in [_connect(process) for process in self._running]:
            with suppress(OSError, EOFError, RunError):  # it was ended, or prints something else
                if pipe.receive()[0] == decode_worker.READY:
                    self._idle.put(pipe)


def _connect(process: subprocess.Popen[bytes]) -> Pipe:
    assert process.stdin
    assert process.stdout
    return Pipe(process.stdout, process.stdin)


def _iter_images(answer: bytes, count: int, memory: np.ndarray) -> Iterator[CheckedImage | None]:
    """Yield the images of an answer of the worker (see `decode_worker.decode_files`)."""
    starts = np.frombuffer(answer, np.int64, count)
    checks = np.frombuffer(answer, IMAGE_CHECK, count, starts.nbytes)
    notes = json.loads(answer[starts.nbytes + checks.nbytes :])
    for start, check, note in zip(starts.tolist(), checks.tolist(), notes, strict=True):
        height, width = check[-2:]
        image = memory[start : start + 3 * height * width].reshape(height, width, 3)
        yield None if start == decode_worker.LEFT else CheckedImage(image, check, (note,) if note else ())
