"""Measure the peak memory of `frechet stats` for several numbers of images, in one process each.

python benchmarks/memory.py [--images 2000,20000] [--extractor efficientnet-lite0] [--output FILE]
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from machine import describe_machine, write_result
from throughput import run_measured


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="2000,20000")
    parser.add_argument("--arguments", default="--extractor efficientnet-lite0", help="Other flags of frechet stats.")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in map(int, args.images.split(",")):
            images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
            np.savez(Path(folder, "images.npz"), arr_0=images)
            out = Path(folder, f"{count}.npz")
            command = ["-m", "frechet", "stats", Path(folder, "images.npz"), out, *args.arguments.split()]
            peaks[count] = round(run_measured([sys.executable, *map(str, command)], {})[2])
    result = {
        "machine": describe_machine("frechet", "numpy", "openvino", "pillow"),
        "arguments": args.arguments,
        "peak_memory_mb": peaks,
        "most_over_fewest_images": round(max(peaks.values()) / peaks[min(peaks)], 3),
    }
    write_result(result, args.output)


if __name__ == "__main__":
    main()
