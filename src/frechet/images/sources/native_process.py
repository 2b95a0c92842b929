"""Sources that another process reads for this one, because the library that parses them is not safe on damaged files."""

from __future__ import annotations

import atexit
import json
import os
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

import frechet.errors
from frechet._internal.child_process import Pipe, start_child
from frechet._internal.remote_files import RemoteFile
from frechet.errors import ArchiveError, ImageDecodeError, SourceError
from frechet.images.image import ImageLike
from frechet.images.sources import native_reader
from frechet.images.sources.files import File, FileSource, get_file_size, get_file_version, to_encoded_image
from frechet.images.sources.native_reader import (
    ENCODED,
    END,
    ERROR,
    MISSING,
    READ,
    REPLY,
)

Message = tuple[int, bytes]
_ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_iteration_numbers = count()


class NativeSource(FileSource):
    """The images of a file that `NativeReader` number `kind` reads in another process.

    Args:
        kind: module and class of the reader, as "package.module:Class".
        file: the file; a folder if the format is one.
    """

    def __init__(self, kind: str, file: File) -> None:
        super().__init__(file)
        self.kind, self.size = kind, get_file_size(_data_file(file))
        try:
            reply = json.loads(b"".join(data for kind, data in self._ask({}) if kind == REPLY))
        except ArchiveError as error:
            raise SourceError(str(error)) from error
        self.count, self.label_suffix, self.names = reply["count"], reply["label_suffix"], reply["names"]

    def __len__(self) -> int:
        return int(self.count)

    def get_label(self, source_index: int) -> str:
        name = self.get_member_name(source_index)
        return f"{self.label}:{name}" if name is not None else f"{self.label}{self.label_suffix}[{source_index}]"

    def get_member_name(self, source_index: int) -> str | None:
        return self.names[source_index] if self.names is not None else None

    def iter_loaders(self, source_indices: Sequence[int]) -> Iterator[Callable[[], ImageLike]]:
        iteration, n_read, is_known = next(_iteration_numbers), 0, False
        try:
            while n_read < len(source_indices):
                options = {} if is_known else {"source_indices": list(source_indices[n_read:])}
                messages = self._ask({"iteration": iteration, **options})
                yield from (partial(_load, kind, data) for kind, data in messages)
                is_known, n_read = bool(messages), n_read + len(messages)
                if not messages and options:
                    raise ArchiveError(
                        f"{self.label} ends after {n_read} of {len(source_indices)} images; it is damaged"
                    )
        finally:
            self._ask({"close": iteration})

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        if self.names is None:
            yield from super().fingerprints(source_indices)
            return
        version = get_file_version(_data_file(self.file))
        yield from (f"{version} {self.names[source_index]}" for source_index in source_indices)

    def _ask(self, request: dict[str, Any]) -> list[Message]:
        file = self.file
        location: str | dict[str, Any] = (
            {"label": file.label, "suffix": file.suffix, "size": file.size}
            if isinstance(file, RemoteFile)
            else os.path.abspath(file)  # noqa: PTH100, keeps links as they are
        )
        version = get_file_version(_data_file(file))
        request |= {"kind": self.kind, "label": self.label, "version": version, "size": self.size, "file": location}
        return _get_process(os.getpid()).ask(request, file)


class _ReaderProcess:
    """The process that reads for this one; it is started when it is needed, and again after it died."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = os.getpid()
        atexit.register(self._stop_at_exit)

    def ask(self, request: dict[str, Any], file: File) -> list[Message]:
        """Send a request and return the messages of its answer, fetching for the other process what it needs of a URL.

        Raises:
            ArchiveError: the process died, which damaged files cause.
            FrechetError: whatever it reports.
        """
        with self.lock:
            if self.process is None and "close" in request:
                return []
            if (
                self.process and self.process.poll() is not None
            ):  # it was ended from outside, which says nothing about files
                self.stop()
            process = self.process = self.process or start_child(native_reader.__name__, _ENVIRONMENT)
            assert process.stdin
            assert process.stdout
            pipe = Pipe(process.stdout, process.stdin)
            try:
                pipe.send(REPLY, json.dumps(request).encode())
                messages = list(_receive(pipe, file))
            except (EOFError, OSError) as error:
                if isinstance(error, OSError) and process.poll() is None and not isinstance(error, BrokenPipeError):
                    self.stop()
                    raise
                raise ArchiveError(f"{request['label']} is damaged: {self._describe_death()}") from error
            except BaseException:  # the answer was not read to its end
                self.stop()
                raise
        for kind, data in messages:
            if kind == ERROR:
                name, message = json.loads(data)
                raise getattr(frechet.errors, name)(message.replace(str(request["file"]), request["label"]))
        return messages

    def stop(self) -> None:
        """End the process."""
        process, self.process = self.process, None
        if process:
            process.kill()
            process.communicate()

    def _stop_at_exit(self) -> None:
        if os.getpid() == self.owner:  # a fork of the owner must not end its process
            self.stop()

    def _describe_death(self) -> str:
        assert self.process
        code = self.process.wait()
        self.stop()
        if hasattr(signal, "SIGXCPU") and code == -signal.SIGXCPU:
            return "reading it took longer than the time limit for a file of its size"
        return f"the library that reads it ended with {signal.Signals(-code).name if code < 0 else f'status {code}'}"


def _receive(pipe: Pipe, file: File) -> Iterator[Message]:
    """Yield the messages of an answer, without the one that ends it unless it is an error."""
    stream = None
    while True:
        kind, data = pipe.receive()
        if kind == READ:
            start, size = json.loads(data)
            stream = stream or file.open("rb")
            stream.seek(start)
            pipe.send(REPLY, stream.read(size))
            continue
        if kind == END:
            return
        yield kind, data
        if kind == ERROR:
            return


@cache  # one for each process: a fork must not share the pipes
def _get_process(_process_id: int) -> _ReaderProcess:
    return _ReaderProcess()


def _data_file(file: File) -> File:
    """Return the file that contains the data: an LMDB may be a folder."""
    return file / "data.mdb" if isinstance(file, Path) and file.is_dir() else file


def _load(kind: int, data: bytes) -> ImageLike:
    if kind == MISSING:
        raise ImageDecodeError("contains no image data; paths in a table are not read")
    if kind == ENCODED:
        return to_encoded_image(data)
    shape = struct.unpack_from("<3Q", data)
    return np.frombuffer(data, np.uint8, offset=24).reshape(shape)
