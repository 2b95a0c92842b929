"""Keep dependencies from reporting to their vendors that they are used."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_OPENVINO_REPORTER = "openvino_telemetry"


@contextmanager
def block_openvino_telemetry() -> Iterator[None]:
    """Let OpenVINO be imported without its package of usage statistics; it then uses a stub that sends nothing.

    Otherwise the import writes a client id into the home folder and sends an event from a child process, unless a file
    there records that the user objects. The package stays available to other code.
    """
    if _OPENVINO_REPORTER in sys.modules:  # imported by other code, whose choice it is
        yield
        return
    sys.modules[_OPENVINO_REPORTER] = None  # type: ignore[assignment]  # importing it raises ImportError (Python docs)
    try:
        yield
    finally:
        del sys.modules[_OPENVINO_REPORTER]


def disable_ray_usage_stats() -> None:
    """Let a Ray cluster that this process starts send no usage statistics, unless the user's environment asks for them."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
