"""Processor cores that this process may use."""

from __future__ import annotations

import os


def process_cpu_count() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_cpu_affinity(index: int, count: int) -> None:
    """Restrict this process to its share of the cores, as process `index` of `count` on this machine.

    A share consists of neighbouring cores, which are near the same memory. If there are more processes than cores, several
    processes share a core. Threads that are already running keep their affinity.
    """
    if count > 1 and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        start, stop = index * len(cores) // count, (index + 1) * len(cores) // count
        os.sched_setaffinity(0, cores[start:stop] or [cores[start]])
