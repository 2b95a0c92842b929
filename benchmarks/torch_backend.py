"""The torch backend's network beside the Inception of pytorch-fid: same PyTorch, weights and images; float32.

    PYTHONPATH=src PEERS_PYTHON benchmarks/torch_backend.py --weights FILE.pth [--device cpu] [--output FILE]

Run it with the interpreter of the environment with the peers (see README.md beside this file), which has pytorch-fid and
what the torch backend needs. Both networks get images of 299 x 299 that are decoded already, each in the form it takes
(ours float32 0..255 NHWC, pytorch-fid's float32 0..1 NCHW), and hand out features as a numpy array; ours in batches of
its own size, as a score runs it. They run in turn, ours first and last by turns; the ratio is taken within a turn.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from machine import CpuLoad, machine
from throughput import torch_home

from frechet._internal.cpu import process_cpu_count
from frechet.backends.torch import disable_tf32
from frechet.features.loading import load_extractor


def load_pytorch_fid_network(weights, device):
    """pytorch-fid's network as its own `get_activations` calls it: (n, 3, 299, 299) tensor in 0..1 -> (n, 2048) array."""
    from pytorch_fid.inception import InceptionV3

    with torch_home(weights) as hub:
        os.environ["TORCH_HOME"] = hub
        network = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).to(device).eval()

    def features(images):
        with torch.no_grad(), disable_tf32():
            return network(images.to(device))[0].squeeze(3).squeeze(2).cpu().numpy()

    return features


def seconds(call):
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=32, help="of pytorch-fid's network")
    parser.add_argument("--batches", type=int, default=2, help="in a turn")
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
            timings[name].append(seconds(calls[name])[0])
            print(f"{name}: {timings[name][-1]:.2f} s", file=sys.stderr, flush=True)
    everything, wall = load.seconds(), time.perf_counter() - start
    ratios = [theirs / ours for ours, theirs in zip(timings["frechet"], timings["pytorch-fid"], strict=True)]
    difference = (
        np.abs(first_features["frechet"] - first_features["pytorch-fid"]).max()
        / np.abs(first_features["pytorch-fid"]).max()
    )
    result = {
        "machine": machine("numpy", "torch", "torchvision", "pytorch-fid"),
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
        "others": None
        if everything is None
        else round(max(0.0, everything - (time.process_time() - own)) / wall / process_cpu_count(), 3),
    }
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
