"""Worker processes on this machine, one for each accelerator but the first; they stay loaded for further inputs."""

from __future__ import annotations

import atexit
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import IO

from frechet.errors import FrechetError
from frechet.execution.workers import END, Channel, serve

_HEADER = struct.Struct("<BQ")  # kind and size of a message
_STOP_SECONDS = 10.0


class PipeChannel:
    """A `Channel` over two byte streams."""

    def __init__(self, name: str, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
        self.name = name
        self.incoming = incoming
        self.outgoing = outgoing

    def send(self, kind: int, data: bytes) -> None:
        self.outgoing.write(_HEADER.pack(kind, len(data)))
        self.outgoing.write(data)
        self.outgoing.flush()

    def receive(self) -> tuple[int, bytes]:
        kind, size = _HEADER.unpack(self._read_exactly(_HEADER.size))
        return kind, self._read_exactly(size)

    def _read_exactly(self, count: int) -> bytes:
        data = self.incoming.read(count)
        if len(data) != count:
            raise EOFError("the stream has ended")
        return data


@cache  # workers live until this process ends
def start_workers(devices: tuple[str, ...]) -> Sequence[Channel]:
    """Start one worker process per device and return the connections to them."""
    return [_start_worker(device) for device in devices]


def list_extra_devices(device: str) -> tuple[str, ...]:
    """Return all accelerators but the first if `device` names all of them ("cuda"), else nothing."""
    if device != "cuda":
        return ()
    import torch  # only the PyTorch backend has this device

    return tuple(f"cuda:{index}" for index in range(1, torch.cuda.device_count()))


def _start_worker(device: str) -> PipeChannel:
    command = [sys.executable, "-m", "frechet.execution.subprocess_workers", device]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603, this package
    assert process.stdin
    assert process.stdout
    channel = PipeChannel(f"the worker on {device}", process.stdout, process.stdin)
    atexit.register(_stop_worker, process, channel)
    return channel


def _stop_worker(process: subprocess.Popen[bytes], channel: PipeChannel) -> None:
    with suppress(OSError):
        channel.send(END, b"")
        channel.outgoing.close()
    channel.incoming.close()  # otherwise a worker that is still sending would block forever
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:  # a device that hangs must not keep this process from ending
        process.kill()
        process.wait()


def _main(device: str) -> None:
    """Serve the coordinator at the other end of stdin and stdout; redirect all other output to stderr."""
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with suppress(FrechetError, KeyboardInterrupt):  # the coordinator reports it
        serve(
            PipeChannel("the coordinator", sys.stdin.buffer, outgoing),
            lambda settings: replace(settings, device=device),
        )


if __name__ == "__main__":
    _main(sys.argv[1])
