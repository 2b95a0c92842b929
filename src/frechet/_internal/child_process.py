"""Python processes that serve this one, and messages between the two."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Mapping
from typing import IO

_HEADER = struct.Struct("<BQ")  # kind and size of a message
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); import {0}; {0}.main()"


class Pipe:
    """Messages over two byte streams."""

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
        self.incoming, self.outgoing = incoming, outgoing

    def send(self, kind: int, data: bytes = b"") -> None:
        self.outgoing.write(_HEADER.pack(kind, len(data)))
        self.outgoing.write(data)
        self.outgoing.flush()

    def receive(self) -> tuple[int, bytes]:
        """Return kind and content of the next message.

        Raises:
            EOFError: the other process has ended.
        """
        kind, size = _HEADER.unpack(self._read(_HEADER.size))
        return kind, self._read(size)

    def _read(self, count: int) -> bytes:
        data = self.incoming.read(count)
        if len(data) != count:
            raise EOFError
        return data


def start_child(module: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that runs `main` of a module of this package; it does not import the caller's main module.

    Args:
        module: name of the module.
        environment: variables that the process gets unless they are set.
    """
    command = [
        *(sys.executable, "-c", _START.format(module)),
        json.dumps([entry for entry in sys.path if isinstance(entry, str)]),
    ]
    return subprocess.Popen(  # noqa: S603, this package
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**environment, **os.environ}
    )


def open_pipe_to_parent() -> Pipe:
    """Return the messages with the process that started this one; what libraries print goes to stderr."""
    pipe = Pipe(sys.stdin.buffer, os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    return pipe
