"""What this process may use of the machine."""

from __future__ import annotations

import os


def process_cpu_count() -> int:
    """Processor cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_cpu_affinity(index: int, count: int) -> None:
    """Keep this process to its share of the cores, where `count` processes divide them: neighbours, so that memory is near.

    With more processes than cores several share one. Threads that run already stay where they are.
    """
    if count > 1 and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        start, stop = index * len(cores) // count, (index + 1) * len(cores) // count
        os.sched_setaffinity(0, cores[start:stop] or [cores[start]])
