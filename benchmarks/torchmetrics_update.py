"""What `FID.update` of the torchmetrics interface costs beside its network alone, in turns in one process.

The network alone is the same module on a batch that is resized already; an update is all of `update`: the check of the
images, the resize, the network, and the sums in float64. Processor seconds of the process, all threads together, so that
other programs on the machine move the ratio little.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from machine import machine

from frechet.integrations.torchmetrics import FID


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    metric = FID(weights=args.weights)
    random = torch.Generator().manual_seed(0)
    resized_images = 255 * torch.rand(args.batch_size, 3, 299, 299, generator=random)
    results = {}
    for pixels in (32, 256, 512):
        shape = (args.batch_size, 3, pixels, pixels)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)
        ratios = []
        for turn in range(args.turns + 1):
            start = time.process_time()
            with torch.no_grad():
                metric._network.features(resized_images)
            middle = time.process_time()
            metric.update(images)
            end = time.process_time()
            if turn:  # the first one warms up
                ratios.append((end - middle) / (middle - start))
        results[f"{pixels} x {pixels}"] = {"median": statistics.median(ratios), "all": ratios}
        print(pixels, results[f"{pixels} x {pixels}"], flush=True)
    result = {
        "machine": machine("torch", "torchmetrics"),
        "batch_size": args.batch_size,
        "clock": "processor seconds",
        "update over network": results,
    }
    if args.output:
        args.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
