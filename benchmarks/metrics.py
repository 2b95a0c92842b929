"""Seven metrics in one pass beside FID alone, and the same again from the cache, as whole processes.

    python benchmarks/metrics.py GENERATED REFERENCE [--extractor efficientnet-lite0] [--weights FILE] [--images 2000] [--turns 3]

Both sides are folders or zips; of each a seeded subset is scored. The seven fill an empty cache while they are computed, and are
then asked for again. Ratios are taken within a turn, figures are medians.
Processor seconds tell more than wall seconds where the machine has other work.
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

from machine import CpuLoad, machine

SEVEN_METRICS = "{distance},kid,is,precision,recall,density,coverage"


def seconds(args, metrics, cache=None):
    """What one run took; with a folder for the cache, features come from there or go there."""
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
        "busy_seconds_of_the_machine": load.seconds(),
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
        "machine": machine("numpy", "frechet", "openvino"),
        "extractor": args.extractor,
        "images a side": args.images,
        "turns": [],
    }
    for _ in range(args.turns):
        seven_metrics = SEVEN_METRICS.format(distance=distance)
        with tempfile.TemporaryDirectory() as cache:
            turn = {
                "one": seconds(args, distance),
                "seven": seconds(args, seven_metrics, cache),
                "seven from the cache": seconds(args, seven_metrics, cache),
            }
        turn["from the cache over the first time"] = turn["seven from the cache"]["seconds"] / turn["seven"]["seconds"]
        turn["seven over one"] = turn["seven"]["seconds"] / turn["one"]["seconds"]
        turn["seven over one, processor"] = turn["seven"]["processor_seconds"] / turn["one"]["processor_seconds"]
        result["turns"].append(turn)
        print(json.dumps(turn, indent=1), flush=True)
    for ratio in ("seven over one", "seven over one, processor", "from the cache over the first time"):
        result[ratio] = statistics.median(turn[ratio] for turn in result["turns"])
    print(f"seven metrics take {result['seven over one']:.3f} times as long as one")
    print(f"from the cache {result['from the cache over the first time']:.3f} of that")
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
