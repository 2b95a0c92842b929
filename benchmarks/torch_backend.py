"""Compare the network of the torch backend with the Inception of pytorch-fid: same PyTorch, weights and images, float32.

    PYTHONPATH=src PEERS_PYTHON benchmarks/torch_backend.py --weights FILE.pth [--device cpu] [--output FILE]

Run it with the interpreter of the environment with the other tools (see README.md). Both networks get decoded images of
299 x 299 in the layout they expect (float32 0..255 NHWC for frechet, float32 0..1 NCHW for pytorch-fid) and return features
as NumPy arrays; frechet uses the batch size of a score. They run in turn, in alternating order; the ratio is computed
within a turn.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from machine import CpuLoad, describe_machine, write_result
from throughput import torch_home

from frechet._internal.cpu import process_cpu_count
from frechet.backends.torch import disable_tf32
from frechet.features.loading import load_extractor


def load_pytorch_fid_network(weights, device):
    """Return the network of pytorch-fid as `get_activations` calls it, (n, 3, 299, 299) in [0, 1] -> (n, 2048)."""
    from pytorch_fid.inception import InceptionV3

    with torch_home(weights) as hub:
        os.environ["TORCH_HOME"] = hub
        network = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).to(device).eval()

    def features(images):
        with torch.no_grad(), disable_tf32():
            return network(images.to(device))[0].squeeze(3).squeeze(2).cpu().numpy()

    return features


def time_call(call):
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=32, help="Batch size of pytorch-fid.")
    parser.add_argument("--batches", type=int, default=2, help="Number of batches per turn.")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    ours = load_extractor(weights=args.weights, backend="torch", device=args.device).runner
    theirs = load_pytorch_fid_network(args.weights, args.device)
    images = np.random.default_rng(0).integers(0, 256, (args.batch, 299, 299, 3), np.uint8)
    nhwc = images.astype(np.float32)
    nchw = torch.from_numpy(nhwc).permute(0, 3, 1, 2).div(255).contiguous()
    own_batches = [nhwc[start : start + ours.batch_size] for start in range(0, args.batch, ours.batch_size)]
    calls = {
        "frechet": lambda: np.concatenate(list(ours.map(own_batches * args.batches))),
        "pytorch-fid": lambda: np.concatenate([theirs(nchw) for _ in range(args.batches)]),
    }
    first_features = {name: call() for name, call in calls.items()}  # the first call is not timed
    timings = {name: [] for name in calls}
    load, start, own = CpuLoad(), time.perf_counter(), time.process_time()
    for run in range(args.runs):
        for name in list(calls)[:: 1 if run % 2 == 0 else -1]:
            timings[name].append(time_call(calls[name])[0])
            print(f"{name}: {timings[name][-1]:.2f} s", file=sys.stderr, flush=True)
    everything, wall = load.busy_seconds(), time.perf_counter() - start
    ratios = [theirs / ours for ours, theirs in zip(timings["frechet"], timings["pytorch-fid"], strict=True)]
    difference = (
        np.abs(first_features["frechet"] - first_features["pytorch-fid"]).max()
        / np.abs(first_features["pytorch-fid"]).max()
    )
    result = {
        "machine": describe_machine("numpy", "torch", "torchvision", "pytorch-fid"),
        "device": args.device,
        "threads": torch.get_num_threads(),
        "batch": args.batch,
        "images_per_second": {
            name: round(args.batch * args.batches / statistics.median(values), 2) for name, values in timings.items()
        },
        "times_as_fast_as_pytorch_fid": round(statistics.median(ratios), 3),
        "all_ratios": [round(ratio, 3) for ratio in ratios],
        "all_seconds": {name: [round(value, 2) for value in values] for name, values in timings.items()},
        "largest_difference_over_largest_feature": float(f"{difference:.2g}"),
        "other_load": None
        if everything is None
        else round(max(0.0, everything - (time.process_time() - own)) / wall / process_cpu_count(), 3),
    }
    write_result(result, args.output)


if __name__ == "__main__":
    main()
