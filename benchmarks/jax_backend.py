"""Compare the network under JAX with pytorch-fid in eager PyTorch, and measure the cost of statistics in a training loop.

    PYTHONPATH=src PEERS_PYTHON benchmarks/jax_backend.py --weights FILE.pth [--output results/jax_backend.json]

Run it with the interpreter of the environment with the other tools (see README.md). Network: both in turn, on images of
299 x 299. Training loop: a small convolutional generator of 32 x 32 images and Adam in a jitted step; the same step with its
images added to the statistics; and the network alone on as many images, which is the least that the statistics can cost.
Accuracy: artificial rectified features with a decaying spectrum, n = d/5, d and 2 d, against float64. Memory: one process per size.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from machine import describe_machine, write_result

import frechet.jax as fj
from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.features.spec import FeatureSpec


def time_call(call):
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def time_in_turn(calls, runs):
    """Return the seconds of each call in every run; the first call of each is not timed."""
    for call in calls.values():
        jax.block_until_ready(call())
    timings = {name: [] for name in calls}
    for run in range(runs):
        for name in list(calls)[:: 1 if run % 2 == 0 else -1]:
            timings[name].append(time_call(calls[name]))
            print(f"{name}: {timings[name][-1]:.3f} s", file=sys.stderr, flush=True)
    return timings


def compare_network_with_torch(args):
    import torch
    from torch_backend import load_pytorch_fid_network

    apply, params = fj.network(weights=args.weights)
    images = np.random.default_rng(0).integers(0, 256, (args.batch, 299, 299, 3), np.uint8)
    run, theirs = jax.jit(apply), load_pytorch_fid_network(args.weights, "cpu")
    nchw = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).contiguous()
    timings = time_in_turn({"frechet": lambda: run(params, images), "pytorch-fid": lambda: theirs(nchw)}, args.runs)
    ours, other = np.asarray(run(params, images)), np.asarray(theirs(nchw))
    return {
        "batch": args.batch,
        "images_per_second": {name: round(args.batch / statistics.median(times), 2) for name, times in timings.items()},
        "times_as_fast_as_pytorch_fid": round(
            statistics.median(b / a for a, b in zip(timings["frechet"], timings["pytorch-fid"], strict=True)), 3
        ),
        "largest_difference_over_largest_feature": float(f"{np.abs(ours - other).max() / np.abs(other).max():.2g}"),
    }


def generate(params, latents):
    x = jnp.tanh(latents @ params["in"]).reshape(-1, 32, 32, 16)
    for kernel in params["convs"]:
        x = jax.nn.relu(
            jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        )
    return jax.nn.sigmoid(jnp.einsum("nhwi,io->nhwo", x, params["out"]))


def measure_training_loop(args):
    """Measure the time per training step of a generator with Adam, without and with the statistics."""
    keys = iter(jax.random.split(jax.random.key(0), 9))
    params = {
        "in": jax.random.normal(next(keys), (64, 32 * 32 * 16)) / 8,
        "convs": [jax.random.normal(next(keys), (3, 3, 16, 16)) / 12 for _ in range(4)],
        "out": jax.random.normal(next(keys), (16, 3)) / 4,
    }
    target = jax.random.uniform(next(keys), (32, 32, 3))
    latents = jax.random.normal(next(keys), (args.step_batch, 64))
    apply, weights = fj.network(weights=args.weights)
    zeros = jax.tree.map(jnp.zeros_like, params)

    def step(state, latents):
        def loss(params):
            return jnp.mean((generate(params, latents) - target) ** 2)

        params, first, second = state
        gradient = jax.grad(loss)(params)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)
        return jax.tree.map(lambda p, m, v: p - 1e-3 * m / (jnp.sqrt(v) + 1e-8), params, first, second), first, second

    def step_and_update(state, stats, weights, latents):
        state = step(state, latents)
        return state, fj.update(stats, weights, generate(state[0], latents))

    plain, with_statistic, alone = jax.jit(step), jax.jit(step_and_update), jax.jit(apply)
    state, stats, images = (params, zeros, zeros), fj.empty(apply), generate(params, latents)
    timings = time_in_turn(
        {
            "without": lambda: plain(state, latents),
            "with": lambda: with_statistic(state, stats, weights, latents),
            "network_alone": lambda: alone(weights, images),
        },
        args.runs,
    )
    medians = {name: statistics.median(times) for name, times in timings.items()}
    return {
        "images_per_step": args.step_batch,
        "steps_per_second": {name: round(1 / value, 3) for name, value in medians.items()},
        "with_over_without_and_network": round(medians["with"] / (medians["without"] + medians["network_alone"]), 3),
    }


def count_compilations(args):
    """Count the programs compiled for the first batches of two sizes, and for 30 more batches of any length."""
    durations = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration, **_: durations.append(duration) if event.endswith("backend_compile_duration") else None
    )
    apply, params = fj.network(weights=args.weights, dims=64)
    step, stats = fj.make_sharded_update(params), fj.empty(apply)
    random = np.random.default_rng(0)
    for size in (32, 64):
        stats = step(stats, random.integers(0, 256, (4, size, size, 3), np.uint8))
    first = len(durations)
    for _ in range(30):
        size, n = random.choice([32, 64]), random.integers(1, 10)
        stats = step(stats, random.integers(0, 256, (n, size, size, 3), np.uint8))
    jax.block_until_ready(stats)
    return {"first_two_shapes": first, "thirty_batches_after": len(durations) - first}


def measure_accuracy(d=512):
    """Compute the relative error of the in-loop distance for several numbers of images, in float32 and in float64."""
    return {"d": d, **{f"n_{n}": measure_error(d, n) for n in (d // 5, d, 2 * d)}}


def measure_error(d, n, batch=32):
    """Compute the relative error of the distance between n rectified features and n of a wider distribution."""
    random = np.random.default_rng(0)
    mix = random.standard_normal((d, d)) * (np.arange(1, d + 1) ** -0.7)[:, None]
    rows = [
        np.maximum(random.standard_normal((n, d)) @ mix / 8 * spread + 0.3, 0).astype(np.float32)
        for spread in (1.0, 1.05)
    ]
    exact = frechet_terms(*(Gaussian.from_features(x.astype(np.float64)) for x in rows)).total
    toy = fj.Network(run=None, preprocessing=None, input_size=1, dims=d, spec=FeatureSpec())
    errors = {}
    for name in ("float32", "float64"):
        jax.config.update("jax_enable_x64", name == "float64")
        add = jax.jit(lambda stats, batch: fj.merge(stats, fj._compute_moments(batch, None, toy, ())))
        gaussians = []
        for x in rows:
            stats = fj.empty(toy)
            for start in range(0, n, batch):
                stats = add(stats, jnp.asarray(x[start : start + batch]))
            statistics = fj.to_statistics(stats)
            gaussians.append(Gaussian(statistics.mean, covariance=statistics.covariance))
        errors[name] = float(f"{abs(frechet_terms(*gaussians).total / exact - 1):.2g}")
    jax.config.update("jax_enable_x64", False)
    return {"distance": exact, "relative_error": errors}


def measure_memory(args):
    peaks = {}
    for n in (args.step_batch, 4 * args.step_batch, 12 * args.step_batch):
        command = [sys.executable, __file__, "--weights", str(args.weights), "--peak", str(n)]
        command += ["--step-batch", str(args.step_batch)]
        peaks[n] = round(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    return {"peak_mb_by_images": peaks}


def print_peak_memory(args):
    """Collect statistics of `args.peak` images and print the peak memory of the process, in MB."""
    apply, params = fj.network(weights=args.weights)
    random = np.random.default_rng(0)
    batches = (
        random.integers(0, 256, (args.step_batch, 64, 64, 3), np.uint8) for _ in range(args.peak // args.step_batch)
    )
    assert fj.to_statistics(fj.collect(batches, apply, params)).n == args.peak
    # Linux only; getrusage would return the peak of the parent process if that was higher
    status = Path("/proc/self/status").read_text()
    print(int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024)


SECTIONS = {
    "network": compare_network_with_torch,
    "training_loop": measure_training_loop,
    "compilations": count_compilations,
    "in_loop_accuracy": lambda _args: measure_accuracy(),
    "memory": measure_memory,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--step-batch", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--sections", default=",".join(SECTIONS), help="Comma-separated sections to run; others are kept from --output."
    )
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.peak:
        print_peak_memory(args)
        return
    result = json.loads(args.output.read_text()) if args.output and args.output.exists() else {}
    result["machine"] = describe_machine("numpy", "jax", "torch", "pytorch-fid")
    for name in args.sections.split(","):
        result[name] = SECTIONS[name](args)
    write_result(result, args.output)


if __name__ == "__main__":
    main()
