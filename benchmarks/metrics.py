"""Seven metrics in one pass beside FID alone, as whole processes.

    python benchmarks/metrics.py GENERATED REFERENCE [--extractor efficientnet-lite0] [--weights FILE] [--images 2000] [--turns 3]

Both sides are folders or zips; of each a seeded subset is scored. The ratio is taken within a turn, the figure is the median.
Processor seconds tell more than wall seconds where the machine has other work.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import Load, machine

SEVEN = "{distance},kid,is,precision,recall,density,coverage"


def seconds(args, metrics):
    command = [sys.executable, "-m", "frechet", "score", args.generated, args.reference, "--json"]
    command += ["--metrics", metrics, "--extractor", args.extractor, "--num-images", str(args.images)]
    command += ["--weights", args.weights] if args.weights else []
    load, start, used = Load(), time.perf_counter(), _children()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wall = time.perf_counter() - start
    values = {key: score["value"] for key, score in json.loads(done.stdout)["scores"].items()}
    return {
        "seconds": wall,
        "processor_seconds": _children() - used,
        "busy_seconds_of_the_machine": load.seconds(),
        "values": values,
    }


def _children():
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
        turn = {"one": seconds(args, distance), "seven": seconds(args, SEVEN.format(distance=distance))}
        turn["seven over one"] = turn["seven"]["seconds"] / turn["one"]["seconds"]
        turn["seven over one, processor"] = turn["seven"]["processor_seconds"] / turn["one"]["processor_seconds"]
        result["turns"].append(turn)
        print(json.dumps(turn, indent=1), flush=True)
    for what in ("seven over one", "seven over one, processor"):
        result[what] = statistics.median(turn[what] for turn in result["turns"])
    print(f"seven metrics take {result['seven over one']:.3f} times as long as one")
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
