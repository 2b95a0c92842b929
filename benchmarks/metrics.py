"""Compare the time of seven metrics in one pass with that of FID alone, and with a second run from the cache.

    python benchmarks/metrics.py GENERATED REFERENCE [--extractor efficientnet-lite0] [--weights FILE] [--images 2000] [--turns 3]

Both sets are folders or archives, of which a seeded subset is scored. The seven metrics fill an empty cache in the first run, and are
computed from it in the second. Ratios are computed within a turn; the result is their median. Processor seconds are
more reliable than wall seconds if other programs run on the machine.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import CpuLoad, describe_machine, write_result

SEVEN_METRICS = "{distance},kid,is,precision,recall,density,coverage"


def time_run(args, metrics, cache=None):
    """Run the command once and return its times and values; `cache` is a folder for cached features."""
    command = [sys.executable, "-m", "frechet", "score", args.generated, args.reference, "--json"]
    command += ["--metrics", metrics, "--extractor", args.extractor, "--num-images", str(args.images)]
    command += ["--weights", args.weights] if args.weights else []
    command += ["--cache"] if cache else []
    environment = {**os.environ, "XDG_CACHE_HOME": cache} if cache else None
    load, start, cpu_start = CpuLoad(), time.perf_counter(), _child_cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    wall = time.perf_counter() - start
    values = {key: score["value"] for key, score in json.loads(done.stdout)["scores"].items()}
    return {
        "seconds": wall,
        "processor_seconds": _child_cpu_seconds() - cpu_start,
        "busy_seconds_of_machine": load.busy_seconds(),
        "values": values,
    }


def _child_cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generated")
    parser.add_argument("reference")
    parser.add_argument("--extractor", default="efficientnet-lite0")
    parser.add_argument("--weights")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    distance = "fid" if args.extractor == "inception" else "fd"
    result = {
        "machine": describe_machine("numpy", "frechet", "openvino"),
        "extractor": args.extractor,
        "images_per_set": args.images,
        "turns": [],
    }
    for _ in range(args.turns):
        seven_metrics = SEVEN_METRICS.format(distance=distance)
        with tempfile.TemporaryDirectory() as cache:
            turn = {
                "one": time_run(args, distance),
                "seven": time_run(args, seven_metrics, cache),
                "seven_cached": time_run(args, seven_metrics, cache),
            }
        turn["cached_over_uncached"] = turn["seven_cached"]["seconds"] / turn["seven"]["seconds"]
        turn["seven_over_one"] = turn["seven"]["seconds"] / turn["one"]["seconds"]
        turn["seven_over_one_processor"] = turn["seven"]["processor_seconds"] / turn["one"]["processor_seconds"]
        result["turns"].append(turn)
        print(json.dumps(turn, indent=1), flush=True)
    for ratio in ("seven_over_one", "seven_over_one_processor", "cached_over_uncached"):
        result[ratio] = statistics.median(turn[ratio] for turn in result["turns"])
    print(f"seven metrics take {result['seven_over_one']:.3f}x the time of one")
    print(f"from the cache they take {result['cached_over_uncached']:.3f}x the time of the first run")
    write_result(result, args.output)


if __name__ == "__main__":
    main()
