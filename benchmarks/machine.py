"""What a result was measured on."""

import importlib.metadata
import platform
from datetime import date
from pathlib import Path

from frechet.machine import usable_cores


def machine(*packages):
    """Processor, cores, system, date and versions, for the head of a result."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = dict(line.split("\t: ", 1) for line in lines if "\t: " in line)
    facts = {key.strip(): value for key, value in facts.items()}
    flags = set(facts.get("flags", "").split())
    return {
        "date": date.today().isoformat(),
        "processor": facts.get("model name", platform.processor()),
        "instructions": sorted(flags & {"avx2", "avx512f", "amx_bf16", "avx512_bf16"}),
        "cores": usable_cores(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {package: importlib.metadata.version(package) for package in packages},
    }
