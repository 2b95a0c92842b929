"""Measure the time that the mathematics of FDLoss adds to the network.

    python benchmarks/fd_loss.py cost [--output results/fd_loss-cost.json]
    python benchmarks/fd_loss.py steps [--output results/fd_loss-steps.json]

Both use EfficientNet-Lite0 (d = 1,280) and a population of 50,000 images in a queue. `cost`: a turn times the forward and backward pass of the
network on 32 images, and the distance of a whole batch with its gradient, with and without a new map; the ratio at k spreads the cost of the
map over k steps. `steps`: whole steps at the default `refresh`, as a user runs them, relative to the passes of the network in the same step. A batch of
up to 256 images runs as a whole, which needs 50 MB per image; a larger one in micro-batches of 16, for which the network has two forward passes and one
backward pass. Times are of the processor if PyTorch has one thread, which other programs on the machine do not change.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from machine import CpuLoad, describe_machine, write_result

from frechet.distances.gaussian import Gaussian
from frechet.losses.population_settings import PopulationSettings
from frechet.losses.torch import FDLoss, ImageFeatures
from frechet.losses.torch_memory import make_memory
from frechet.losses.torch_population import PopulationDistance

OFFLINE = "efficientnet-lite0"
AGES = (1, 2, 4, 8, 16)
D = 1280
SLICE = 16  # images of a micro-batch


def time_call(function):
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    function()
    return clock() - start


# The cost of a step from its parts


def draw_rows(n, seed, dims=D):
    """Return rows (n, d) whose standard deviations fall by two orders of magnitude, as those of real features do."""
    scale = torch.logspace(0, -2, dims)
    return (torch.randn(n, dims, generator=torch.Generator().manual_seed(seed)) * scale).abs().double()


def make_population(network, size):
    """Return a full population of `size` rows."""
    reference = Gaussian.from_features(draw_rows(10_000, 1)).with_factor()
    population = PopulationDistance(reference, make_memory(PopulationSettings(size=size), D), network.spec)
    for start in range(0, size, 2500):
        population.observe(1.1 * draw_rows(min(2500, size - start), start + 2))
    return population


def time_network(network, images):
    """Time the forward and backward pass of a batch."""
    leaf = images.clone().requires_grad_()
    return time_call(lambda: network.features(leaf).sum().backward())


def time_distance(population, rows, refresh):
    """Time the distance and its gradient, with a new map if `refresh` is 1."""
    population.settings = replace(population.settings, refresh=refresh)
    leaf = rows.clone().requires_grad_()
    return time_call(lambda: population(leaf).backward())


def measure_cost(args):
    network = ImageFeatures(extractor=OFFLINE)
    population = make_population(network, args.population)
    images = torch.rand(args.images, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    time_network(network, images)
    turns = []
    for turn in range(args.turns):
        per_image = time_network(network, images) / args.images
        for n in args.batches:
            rows = draw_rows(n, turn)
            kept, renewed = (time_distance(population, rows, refresh) for refresh in (10**9, 1))
            ratios = {k: 1 + (kept + (renewed - kept) / k) / (n * per_image) for k in AGES}
            turns.append({"n": n, "network": n * per_image, "kept_map": kept, "new_map": renewed, "ratios": ratios})
            print(turns[-1], file=sys.stderr, flush=True)
    return {
        str(n): {
            "step_over_network": {
                k: statistics.median(turn["ratios"][k] for turn in turns if turn["n"] == n) for k in AGES
            },
            "turns": [turn for turn in turns if turn["n"] == n],
        }
        for n in args.batches
    }


# Whole steps


class TimedFDLoss(FDLoss):
    """Records the time of the distance, with its gradient, and that of the features that need no gradient."""

    distance_seconds = forward_seconds = 0.0

    def distance(self, features):
        found = []
        self.distance_seconds = time_call(lambda: found.append(FDLoss.distance(self, features)))
        return found[0]

    def training_features(self, images):
        found = []
        seconds = time_call(lambda: found.append(FDLoss.training_features(self, images)))
        if not torch.is_grad_enabled():
            self.forward_seconds += seconds
        return found[0]


def measure_step(loss, leaf, *, is_split):
    """Compare a step with the passes of the network in it."""
    loss.forward_seconds = 0.0
    if is_split:
        make_images = lambda start, stop: leaf[start:stop]  # noqa: E731
        step = time_call(lambda: loss.backward_in_microbatches(make_images, len(leaf), size=SLICE))
    else:
        step = time_call(lambda: loss(leaf).backward())
    found = {"n": len(leaf), "is_split": is_split, "step": step, "distance": loss.distance_seconds}
    found["first_of_two_forward_passes"] = loss.forward_seconds
    return found | {"step_over_network": step / (step - loss.distance_seconds)}


def measure_steps(args):
    network = ImageFeatures(extractor=OFFLINE)
    loss = TimedFDLoss(torch.rand(2, 3, 32, 32), extractors=network, population=args.population)
    loss.populations[0] = make_population(network, args.population)
    steps = []
    for n in args.batches:
        leaf = torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(n)).requires_grad_()
        steps.append(measure_step(loss, leaf, is_split=n > args.largest))
        print(json.dumps(steps[-1]), file=sys.stderr, flush=True)
    return {"threads": torch.get_num_threads(), "steps": steps}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["cost", "steps"])
    parser.add_argument("--population", type=int, default=50_000)
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--images", type=int, default=32, help="Number of images in a timed pass of the network.")
    parser.add_argument("--largest", type=int, default=256, help="Largest batch that is not split.")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    load = CpuLoad()
    result = {"machine": describe_machine("torch"), "settings": vars(args) | {"output": None}}
    result |= {"cost": measure_cost, "steps": measure_steps}[args.part](args)
    result["busy_cores"] = load.busy_seconds() / (time.perf_counter() - load.wall)
    write_result(result, args.output)


if __name__ == "__main__":
    main()
