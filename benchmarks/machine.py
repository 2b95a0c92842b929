"""What a result was measured on, and how busy it was."""

import importlib.metadata
import platform
import time
from datetime import date
from pathlib import Path

from frechet._internal.cpu import process_cpu_count
from frechet.version import __version__


def machine(*packages):
    """Processor, cores, system, date and versions (frechet's and these packages'), for the head of a result."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = dict(line.split("\t: ", 1) for line in lines if "\t: " in line)
    facts = {key.strip(): value for key, value in facts.items()}
    flags = set(facts.get("flags", "").split())
    return {
        "date": date.today().isoformat(),
        "processor": facts.get("model name", platform.processor()),
        "instructions": sorted(flags & {"avx2", "avx512f", "amx_bf16", "avx512_bf16"}),
        "cores": process_cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {
            "frechet": __version__,
            **{package: importlib.metadata.version(package) for package in packages if package != "frechet"},
        },
    }


class CpuLoad:
    """How much of all cores was taken between two moments: by everything on the machine, in processor seconds.

    Linux only (elsewhere nothing is known and `seconds` gives None). What one process did not take of it was taken by
    others, and a share of the cores that it could not have.
    """

    def __init__(self):
        self.wall, self.busy = time.perf_counter(), _busy_seconds()

    def seconds(self):
        busy = _busy_seconds()
        return None if busy is None or self.busy is None else busy - self.busy


def _busy_seconds():
    """Processor seconds that all cores together have spent on anything but waiting, since the machine started."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / 100
