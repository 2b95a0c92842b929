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

from frechet._internal.child_process import start_child
from frechet.errors import FrechetError
from frechet.execution.workers import END, Channel, serve

_HEADER = struct.Struct("<BQ")  # kind and size of a message
_STOP_SECONDS = 10.0
_running: list[tuple[subprocess.Popen[bytes], PipeChannel]] = []


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


def start_workers(devices: Sequence[str]) -> Sequence[Channel]:
    """Start one worker process per device and return the connections to them."""
    return [_start_worker(device) for device in devices]


def list_extra_devices(requested: str, device: str, n_chunks: int) -> tuple[str, ...]:
    """Return the accelerators that compute chunks in addition to the first one.

    There are none if the program itself divides the accelerators among its processes: the ranks of a training each have one.

    Args:
        requested: the device in the settings; "auto" and "cuda" mean all accelerators.
        device: the device of this process.
        n_chunks: number of chunks to compute.
    """
    if requested not in ("auto", "cuda") or device != "cuda:0" or n_chunks < 2 or "LOCAL_RANK" in os.environ:
        return ()
    import torch  # only the PyTorch backend has this device

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return ()
    return tuple(f"cuda:{index}" for index in range(1, min(torch.cuda.device_count(), n_chunks)))


def stop_workers() -> None:
    """Kill all workers, which would go on to send the chunks of a run that was given up."""
    atexit.unregister(_stop_worker)
    _start_worker.cache_clear()
    while _running:
        process, channel = _running.pop()
        process.kill()
        process.wait()
        for stream in (channel.incoming, channel.outgoing):
            with suppress(OSError):
                stream.close()


@cache  # workers live until this process ends, or until a run is given up
def _start_worker(device: str) -> PipeChannel:
    process = start_child(__name__, arguments=[device])
    assert process.stdin
    assert process.stdout
    channel = PipeChannel(f"the worker on {device}", process.stdout, process.stdin)
    _running.append((process, channel))
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


def main(device: str) -> None:
    """Serve the coordinator at the other end of stdin and stdout; redirect all other output to stderr."""
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with suppress(FrechetError):  # the coordinator reports it
        serve(
            PipeChannel("the coordinator", sys.stdin.buffer, outgoing),
            lambda settings: replace(settings, device=device),
        )
