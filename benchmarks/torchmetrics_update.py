"""Compare `FID.update` of the torchmetrics interface with its network alone, in turn in one process.

The network alone is the same module on a batch that is already resized. An update consists of the validation of the images, the
resize, the network, and the sums in float64. Times are processor seconds of the process, which other programs on the
machine affect little.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from machine import describe_machine, write_result

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
        results[pixels] = {"median": statistics.median(ratios), "all": ratios}
        print(pixels, results[pixels], flush=True)
    result = {
        "machine": describe_machine("torch", "torchmetrics"),
        "batch_size": args.batch_size,
        "clock": "processor seconds",
        "update_over_network": results,
    }
    write_result(result, args.output)


if __name__ == "__main__":
    main()
