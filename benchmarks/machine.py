"""The machine a result was measured on, the load of its processor, and the output of results."""

import importlib.metadata
import json
import platform
import time
from datetime import date
from pathlib import Path

from frechet._internal.cpu import process_cpu_count
from frechet.version import __version__


def describe_machine(*packages):
    """Return processor, cores, system, date and versions of frechet and the given packages, for the head of a result."""
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
    """Processor time of all programs on the machine since the object was created (Linux only).

    The part that the measured process did not use was used by other programs, and was not available to it.
    """

    def __init__(self):
        self.wall, self._start = time.perf_counter(), _read_busy_seconds()

    def busy_seconds(self):
        """Return the processor seconds of all cores together, or None if the system does not report them."""
        busy = _read_busy_seconds()
        return None if busy is None or self._start is None else busy - self._start


def write_result(result, output):
    """Print a result as JSON and write it to a file, if one is given."""
    print(json.dumps(result, indent=1))
    if output:
        output.write_text(json.dumps(result, indent=1) + "\n")


def _read_busy_seconds():
    """Return the processor seconds that all cores have been busy since the machine started."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / 100
