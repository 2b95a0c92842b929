"""The program that reads files whose format only a native library can parse, so that damaged ones cannot harm the caller.

HDF5, LMDB, Arrow and Parquet are read by libraries written in C and C++, which abort, read outside of their memory or never
return on some damaged files. This process is allowed to die: its memory and its processor time are limited, and it returns
encoded images or pixels only. It reads messages from stdin and writes the answers to stdout, see `native_process`.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from frechet._internal.child_process import Pipe, open_pipe_to_parent
from frechet._internal.remote_files import BLOCK_SIZE, RemoteFile
from frechet.errors import ArchiveError, FrechetError

REPLY, ERROR, ENCODED, PIXELS, MISSING, END, READ = range(7)  # kinds of messages
SECONDS_PER_REQUEST = 3  # of processor time; up to a second more, since limits are whole seconds
_BYTES_PER_SECOND = 10_000_000  # a large file may take longer
_MAX_MEMORY = 1 << 31
_BLOCK_ROWS, _BLOCK_BYTES = 32, 1 << 26  # of an answer

ImageData = bytes | np.ndarray | None  # an encoded image, pixels, or a row without an image


class NativeReader(Protocol):
    """A reader of one file.

    Attributes:
        label_suffix: what follows the label of the file in the labels of images.
        names: name of each image, or None.
    """

    label_suffix: str
    names: list[str] | None

    def __len__(self) -> int: ...

    def iter_data(self, source_indices: Sequence[int]) -> Iterator[ImageData]:
        """Yield these images (in ascending order)."""


class _ProxyFile(RemoteFile):
    """A file at a URL; the process that started this one fetches its bytes."""

    def __init__(self, pipe: Pipe, label: str, suffix: str, size: int) -> None:
        self.pipe, self.label, self.suffix, self.size = pipe, label, suffix, size

    def open(self, _mode: str = "rb") -> Any:
        return io.BufferedReader(_ProxyStream(self), BLOCK_SIZE // 4)


class _ProxyStream(io.RawIOBase):
    def __init__(self, file: _ProxyFile) -> None:
        self.file, self.position = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, origin: int = os.SEEK_SET, /) -> int:
        self.position = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.file.size}[origin] + offset
        return self.position

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self.file.size - self.position))
        self.file.pipe.send(READ, json.dumps([self.position, count]).encode())
        _, data = self.file.pipe.receive()
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)


class _Server:
    """Answers requests: opens files, and reads their images in blocks."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.readers: dict[str, tuple[str, NativeReader]] = {}  # by file, with the version that was opened
        self.iterations: dict[int, Iterator[ImageData]] = {}

    def answer(self, request: dict[str, Any]) -> None:
        _limit_time(request["size"])
        if "close" in request:
            self.iterations.pop(request["close"], None)
        elif "iteration" not in request:
            reader = self._open(request)
            reply = {"count": len(reader), "label_suffix": reader.label_suffix, "names": reader.names}
            self.pipe.send(REPLY, json.dumps(reply).encode())
        else:
            if "source_indices" in request:
                self.iterations[request["iteration"]] = self._open(request).iter_data(request["source_indices"])
            self._send_block(self.iterations.get(request["iteration"]))
        self.pipe.send(END)

    def _open(self, request: dict[str, Any]) -> NativeReader:
        key = json.dumps(request["file"])
        version, reader = self.readers.pop(key, ("", None))
        if reader is None or version != request["version"]:
            del reader  # an LMDB must not be open twice
            reader = _open_reader(request["kind"], request["file"], self.pipe)
        self.readers[key] = request["version"], reader
        return reader

    def _send_block(self, images: Iterator[ImageData] | None) -> None:
        """Send the next images; nothing if the iteration is unknown, because another process has started it."""
        n_bytes = 0
        for data in islice(images or (), _BLOCK_ROWS):
            if data is None:
                self.pipe.send(MISSING)
            elif isinstance(data, bytes):
                self.pipe.send(ENCODED, data)
            else:
                self.pipe.send(PIXELS, struct.pack("<3Q", *data.shape) + data.tobytes())
            n_bytes += data.nbytes if isinstance(data, np.ndarray) else len(data or b"")
            if n_bytes > _BLOCK_BYTES:
                return


def _open_reader(kind: str, file: str | dict[str, Any], pipe: Pipe) -> NativeReader:
    module, _, name = kind.partition(":")
    reader_type = getattr(importlib.import_module(module), name)
    reader: NativeReader = reader_type(Path(file) if isinstance(file, str) else _ProxyFile(pipe, **file))
    return reader


def main() -> None:
    """Answer the requests of the process that started this one, until it ends."""
    pipe = open_pipe_to_parent()
    limit_memory()
    server = _Server(pipe)
    with suppress(EOFError, BrokenPipeError):
        while True:
            request = json.loads(pipe.receive()[1])
            try:
                server.answer(request)
            except FrechetError as error:
                pipe.send(ERROR, json.dumps([type(error).__name__, str(error)]).encode())
            except (EOFError, BrokenPipeError):
                raise
            except Exception as error:  # native libraries raise whatever they like for damaged files
                message = f"{request['label']} cannot be read ({type(error).__name__}: {error}); it may be damaged"
                pipe.send(ERROR, json.dumps([ArchiveError.__name__, message]).encode())


def limit_memory(max_bytes: int | None = _MAX_MEMORY) -> None:
    """Limit the memory of this process; None for what the system allows."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        hard_limit = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (hard_limit if max_bytes is None else max_bytes, hard_limit))


def _limit_time(file_size: int) -> None:
    """Let the system end this process if one request takes more processor time than a file of this size needs."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(usage.ru_utime + usage.ru_stime) + 1 + SECONDS_PER_REQUEST + file_size // _BYTES_PER_SECOND
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
