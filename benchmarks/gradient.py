"""FID as a loss: time and peak memory of forward, backward and micro-batches; beside it, pytorch-fid's network.

    PYTHONPATH=src PEERS_PYTHON benchmarks/gradient.py --weights FILE.pth [--output results/gradient.json]

Run it with the interpreter of the environment with the peers (see README.md beside this file). Times: one loss and backward
of a batch of noise of 299 x 299 against a stored reference, in turn, at several batch sizes (50 is pytorch-fid's own);
pytorch-fid's network is followed by the same distance and the same closed-form gradient, so that only the networks
differ; ours once more with the network in bfloat16, which computes something else and is told apart. Memory: the peak of a process each,
module and weights included ("nothing": a step with two images).
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from machine import machine
from throughput import torch_home

from frechet.distances.gaussian import Gaussian
from frechet.losses.torch import FIDLoss, frechet_distance
from frechet.statistics.feature_statistics import FeatureStatistics

D = 2048


def make_loss(weights, **options):
    """A loss against a made-up reference of 3 d images."""
    rows = np.abs(np.random.default_rng(0).standard_normal((3 * D, D)).astype(np.float32)) * 0.5
    return FIDLoss(FeatureStatistics.from_features(rows), weights=weights, **options)


def images(n, size=299):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(n))


def make_pytorch_fid_loss(weights, loss):
    """pytorch-fid's network, then the same distance."""
    from pytorch_fid.inception import InceptionV3

    with torch_home(weights) as hub:
        os.environ["TORCH_HOME"] = hub
        network = InceptionV3([3]).eval()
    reference = Gaussian(loss.reference_mean, covariance=loss.reference_covariance, factor=loss.reference_factor)

    def value(x):
        return frechet_distance(network(x)[0].flatten(1).double(), reference)

    return value


def run_step(value, batch):
    x = batch.clone().requires_grad_()
    start = time.perf_counter()
    loss = value(x)
    middle = time.perf_counter()
    loss.backward()
    return middle - start, time.perf_counter() - middle, float(loss.detach()), x.grad


def measure_times(args):
    loss = make_loss(args.weights)
    half = make_loss(args.weights, precision="bfloat16")
    values = {"frechet": loss, "pytorch-fid": make_pytorch_fid_loss(args.weights, loss), "frechet-bfloat16": half}
    return {str(n): time_losses(values, images(n), args.runs) for n in args.batches}


def time_losses(values, batch, runs):
    grads = {name: run_step(value, batch)[3] for name, value in values.items()}  # the first is not timed
    timings = {name: [] for name in values}
    for run in range(runs):
        for name in list(values)[:: 1 if run % 2 == 0 else -1]:
            timings[name].append(run_step(values[name], batch)[:2])
            print(f"{len(batch)} images, {name}: {timings[name][-1]}", file=sys.stderr, flush=True)
    sums = {name: [sum(pair) for pair in pairs] for name, pairs in timings.items()}
    ratios = {
        name: [theirs / mine for mine, theirs in zip(sums[name], sums["pytorch-fid"], strict=True)]
        for name in ("frechet", "frechet-bfloat16")
    }
    return {
        "times_as_fast_as_pytorch_fid": {name: statistics.median(found) for name, found in ratios.items()},
        "all_ratios": ratios,
        "step_over_forward": statistics.median(sum(pair) / pair[0] for pair in timings["frechet"]),
        "seconds": {
            name: [statistics.median(part) for part in zip(*pairs, strict=True)] for name, pairs in timings.items()
        },
        "gradients_differ_by": {name: relative_difference(grads[name], grads["pytorch-fid"]) for name in ratios},
    }


def relative_difference(found, expected):
    """Of one gradient from another, relative to the other's norm."""
    return float((found - expected).norm() / expected.norm())


def compare_microbatches(args):
    """How far the gradient of the micro-batches is from that of the whole batch (checkpointed, to fit into memory)."""
    loss = make_loss(args.weights, gradient_checkpointing=True)
    leaf = images(args.images, 64).requires_grad_()
    value = loss(leaf)
    value.backward()
    whole, leaf.grad = leaf.grad, None
    microbatch_loss = loss.backward_in_microbatches(lambda start, stop: leaf[start:stop], args.images, size=args.micro)
    return {
        "gradients_differ_by": float((leaf.grad - whole).norm() / whole.norm()),
        "values_differ_by": abs(float(microbatch_loss) / float(value.detach()) - 1),
    }


def peak(kind, weights, n, size):
    """What a process of its own peaks at, in MB."""
    command = [sys.executable, __file__, "--weights", str(weights), "--peak", f"{kind},{n},{size}"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_peak_memory(args):
    kind, n, size = args.peak.split(",")
    n, size = int(n), int(size)
    loss = make_loss(args.weights, gradient_checkpointing=kind == "checkpoint")
    leaf = images(n, 64).requires_grad_()
    if kind == "microbatches":
        loss.backward_in_microbatches(lambda start, stop: leaf[start:stop], n, size=size)
    else:
        loss(leaf).backward()
    status = Path(
        "/proc/self/status"
    ).read_text()  # Linux; getrusage would tell the parent's peak where that was higher
    print(int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024)


def measure_memory(args):
    many, few = args.images, args.micro
    found = {
        "nothing": peak("whole", args.weights, 2, 2),
        "one micro-batch": peak("whole", args.weights, few, few),
        "micro-batches": peak("microbatches", args.weights, many, few),
        "whole, checkpointed": peak("checkpoint", args.weights, few, few),
    }
    return {"images": many, "micro_batch": few, "peak_mb": {name: round(value) for name, value in found.items()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32, 50, 128], help="sizes that are timed")
    parser.add_argument("--micro", type=int, default=16)
    parser.add_argument("--images", type=int, default=256, help="that are taken in micro-batches")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.peak:
        print_peak_memory(args)
        return
    result = {
        "machine": machine("numpy", "torch", "pytorch-fid"),
        "time_at_batch": measure_times(args),
        "memory": measure_memory(args),
        "agreement": compare_microbatches(args),
    }
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
