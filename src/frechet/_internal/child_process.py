"""Python processes that serve this one, and messages between the two."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import IO

from frechet.errors import RunError

_HEADER = struct.Struct("<8sBQ")  # mark, kind and size of a message
_MARK = b"frechet\n"
_PROGRAM = """
import sys
sys.path[:] = {path!r}  # before any import: the interpreter puts the working directory first
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends this process
import {module}
{module}.main(*{arguments!r})
"""


class Pipe:
    """Messages over two byte streams."""

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
        self.incoming, self.outgoing = incoming, outgoing

    def send(self, kind: int, data: bytes = b"") -> None:
        self.outgoing.write(_HEADER.pack(_MARK, kind, len(data)))
        self.outgoing.write(data)
        self.outgoing.flush()

    def receive(self) -> tuple[int, bytes]:
        """Return kind and content of the next message.

        Raises:
            EOFError: the other process has ended.
            RunError: something else than messages comes from it.
        """
        mark, kind, size = _HEADER.unpack(self._read(_HEADER.size))
        if mark != _MARK:
            raise RunError(
                f"a process of frechet printed {mark!r} when it started; expected no output. Let Python's start-up files "
                "(sitecustomize, .pth) print to stderr."
            )
        return kind, self._read(size)

    def _read(self, count: int) -> bytes:
        data = self.incoming.read(count)
        if len(data) != count:
            raise EOFError
        return data


def start_child(
    module: str,
    environment: Mapping[str, str] = MappingProxyType({}),
    arguments: Sequence[str] = (),
    files: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a process that runs `main` of a module of this package; it does not import the caller's main module.

    Args:
        module: name of the module.
        environment: variables that the process gets unless they are set.
        arguments: arguments of `main`.
        files: descriptors that the process inherits; only on POSIX systems.

    Raises:
        RunError: this program is embedded or frozen, so that no interpreter is known.
        OSError: the process cannot be started.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        raise RunError(
            f"sys.executable is {sys.executable!r}; expected a Python interpreter, which frechet starts as a second process. "
            "Run it outside of the embedded or frozen program."
        )
    path = [entry for entry in sys.path if isinstance(entry, str)]
    program = _PROGRAM.format(path=path, module=module, arguments=tuple(arguments))
    return subprocess.Popen(  # noqa: S603, this package
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**environment, **os.environ},
        pass_fds=files,
    )


def open_pipe_to_parent() -> Pipe:
    """Return the messages with the process that started this one; what libraries print goes to stderr."""
    pipe = Pipe(sys.stdin.buffer, os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    return pipe
