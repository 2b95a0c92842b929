"""Measure time and peak memory of FID as a loss, compared with the network of pytorch-fid.

    PYTHONPATH=src PEERS_PYTHON benchmarks/gradient.py --weights FILE.pth [--output results/gradient.json]

Run it with the interpreter of the environment with the other tools (see README.md). Times: the loss and its gradient for a batch
of 299 x 299 noise against a stored reference, in turn, at several batch sizes (50 is the default of pytorch-fid). The network
of pytorch-fid is followed by the same distance and the same closed-form gradient, so that only the networks differ. frechet
also runs with the network in bfloat16, which computes a different gradient and is reported separately. Memory: the peak of
one process each, including module and weights ("baseline": a step with two images).
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from machine import describe_machine, write_result
from throughput import torch_home

from frechet.distances.gaussian import Gaussian
from frechet.losses.torch import FIDLoss, frechet_distance
from frechet.statistics.feature_statistics import FeatureStatistics

D = 2048


def make_loss(weights, **options):
    """Return a loss against an artificial reference of 3 d images."""
    rows = np.abs(np.random.default_rng(0).standard_normal((3 * D, D)).astype(np.float32)) * 0.5
    return FIDLoss(FeatureStatistics.from_features(rows), weights=weights, **options)


def make_images(n, size=299):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(n))


def make_pytorch_fid_loss(weights, loss):
    """Return the same loss with the network of pytorch-fid."""
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
    return {str(n): time_losses(values, make_images(n), args.runs) for n in args.batches}


def time_losses(values, batch, runs):
    grads = {name: run_step(value, batch)[3] for name, value in values.items()}  # the first call is not timed
    timings = {name: [] for name in values}
    for run in range(runs):
        for name in list(values)[:: 1 if run % 2 == 0 else -1]:
            timings[name].append(run_step(values[name], batch)[:2])
            print(f"{len(batch)} images, {name}: {timings[name][-1]}", file=sys.stderr, flush=True)
    sums = {name: [sum(pair) for pair in pairs] for name, pairs in timings.items()}
    ratios = {
        name: [theirs / ours for ours, theirs in zip(sums[name], sums["pytorch-fid"], strict=True)]
        for name in ("frechet", "frechet-bfloat16")
    }
    return {
        "times_as_fast_as_pytorch_fid": {name: statistics.median(values) for name, values in ratios.items()},
        "all_ratios": ratios,
        "step_over_forward": statistics.median(sum(pair) / pair[0] for pair in timings["frechet"]),
        "seconds": {
            name: [statistics.median(part) for part in zip(*pairs, strict=True)] for name, pairs in timings.items()
        },
        "gradients_differ_by": {name: relative_difference(grads[name], grads["pytorch-fid"]) for name in ratios},
    }


def relative_difference(found, expected):
    """Return the norm of the difference of two gradients, relative to the norm of the second."""
    return float((found - expected).norm() / expected.norm())


def compare_microbatches(args):
    """Compare the gradient in micro-batches with that of the whole batch (checkpointed, to fit into memory)."""
    loss = make_loss(args.weights, gradient_checkpointing=True)
    leaf = make_images(args.images, 64).requires_grad_()
    value = loss(leaf)
    value.backward()
    whole, leaf.grad = leaf.grad, None
    microbatch_loss = loss.backward_in_microbatches(lambda start, stop: leaf[start:stop], args.images, size=args.micro)
    return {
        "gradients_differ_by": relative_difference(leaf.grad, whole),
        "values_differ_by": abs(float(microbatch_loss) / float(value.detach()) - 1),
    }


def measure_peak_memory(kind, weights, n, size):
    """Return the peak memory of a separate process, in MB."""
    command = [sys.executable, __file__, "--weights", str(weights), "--peak", f"{kind},{n},{size}"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_peak_memory(args):
    kind, n, size = args.peak.split(",")
    n, size = int(n), int(size)
    loss = make_loss(args.weights, gradient_checkpointing=kind == "checkpoint")
    leaf = make_images(n, 64).requires_grad_()
    if kind == "microbatches":
        loss.backward_in_microbatches(lambda start, stop: leaf[start:stop], n, size=size)
    else:
        loss(leaf).backward()
    # Linux only; getrusage would return the peak of the parent process if that was higher
    status = Path("/proc/self/status").read_text()
    print(int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024)


def measure_memory(args):
    many, few = args.images, args.micro
    peaks = {
        "baseline": measure_peak_memory("whole", args.weights, 2, 2),
        "one_microbatch": measure_peak_memory("whole", args.weights, few, few),
        "microbatches": measure_peak_memory("microbatches", args.weights, many, few),
        "whole_checkpointed": measure_peak_memory("checkpoint", args.weights, few, few),
    }
    return {"images": many, "micro_batch": few, "peak_mb": {name: round(value) for name, value in peaks.items()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32, 50, 128], help="Batch sizes to time.")
    parser.add_argument("--micro", type=int, default=16)
    parser.add_argument("--images", type=int, default=256, help="Number of images of the run in micro-batches.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.peak:
        print_peak_memory(args)
        return
    result = {
        "machine": describe_machine("numpy", "torch", "pytorch-fid"),
        "time_at_batch": measure_times(args),
        "memory": measure_memory(args),
        "agreement": compare_microbatches(args),
    }
    write_result(result, args.output)


if __name__ == "__main__":
    main()
