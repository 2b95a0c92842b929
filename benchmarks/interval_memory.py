"""Measure the peak memory of a score with its confidence interval, for several numbers of images, in one process each.

    python benchmarks/interval_memory.py [--images 2000,20000] [--output FILE]

A toy extractor, which has 1,280 features, takes the place of the network, whose memory would hide that of the statistics. Images
are streamed from an .npz file. `baseline_mb` is the peak of a process that only imports the same modules.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from machine import describe_machine, write_result
from many_images import TOY

from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.images.sources.registry import open_source
from frechet.metrics.frechet import compute_frechet_interval

DIMS, EDGE = 1280, 32


class Features:
    """An extractor whose features are the first values of an image."""

    batch_size = 64

    def map(self, batches):
        for batch in batches:
            yield batch.reshape(len(batch), -1)[:, :DIMS].astype(np.float32)


EXTRACTOR = replace(
    TOY, runner=Features(), input_size=EDGE, dims=DIMS, spec=replace(TOY.spec, layer=str(DIMS), extractor="toy-1280")
)


def measure(generated, reference):
    """Score in this process, and print the width of the interval and the peak memory."""
    statistics = [collect_statistics(open_source(source), Settings(), EXTRACTOR) for source in (generated, reference)]
    found = compute_frechet_interval(*statistics, "sample", lambda *_: None)
    print(json.dumps({"interval_95": [found.low, found.high], "n": [each.n for each in statistics]} | measure_peak()))


def measure_peak():
    return {"peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def run_child(*arguments):
    done = subprocess.run([sys.executable, __file__, *map(str, arguments)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def write_images(path, count, seed):
    np.savez(path, arr_0=np.random.default_rng(seed).integers(0, 256, (count, EDGE, EDGE, 3), np.uint8))
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="2000,20000")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--measure", nargs=2, metavar=("GENERATED", "REFERENCE"), help=argparse.SUPPRESS)
    parser.add_argument("--baseline", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.baseline:
        return print(json.dumps(measure_peak()))
    if args.measure:
        return measure(*args.measure)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for count in map(int, args.images.split(",")):
            sides = [write_images(Path(folder, f"{seed}.npz"), count, seed) for seed in (0, 1)]
            rows.append(run_child("--measure", *sides))
            print(rows[-1], file=sys.stderr, flush=True)
    peaks = [row["peak_mb"] for row in rows]
    result = {
        "machine": describe_machine("frechet", "numpy"),
        "dims": DIMS,
        "baseline_mb": run_child("--baseline")["peak_mb"],
        "rows": rows,
        "most_over_fewest_images": round(peaks[-1] / peaks[0], 3),
    }
    return write_result(result, args.output)


if __name__ == "__main__":
    main()
