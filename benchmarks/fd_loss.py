"""Measure FDLoss: the time of its mathematics relative to the network, and the effect of keeping a transport map for k steps.

    python benchmarks/fd_loss.py cost [--output results/fd_loss-cost.json]
    python benchmarks/fd_loss.py training [--output results/fd_loss-training.json]
    python benchmarks/fd_loss.py sizes [--output results/fd_loss-sizes.json]

`cost`: a step of FDLoss (EfficientNet-Lite0, d = 1,280, population of 50,000 in a queue) relative to the forward and backward pass of
the network alone. A turn times the network on 32 images, and the distance of a whole batch with its gradient, with and without a
new map; the ratio at k spreads the cost of the map over k steps. `training`: the generator of examples/train_on_fd.py is fine-tuned
with FDLoss, and with FIDLoss on the same number of images. In each step of the first, the gradient with a map of up to k - 1 steps ago
is compared with the exact one by the cosine between them. `--input-size` is that of the network; 64 takes a twelfth of the time of
224, for images of 32 x 32 pixels. Both generators are evaluated by features that the loss does not use,
with the 95 % interval of the bias-corrected distance. `sizes`: the same cosines for simulated features and populations of 1.25 to 40 rows
per dimension, of which each batch replaces 2 %.
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
from frechet.features.registry import EXTRACTORS, register_extractor
from frechet.features.spec import FeatureSpec
from frechet.losses.population_settings import PopulationSettings
from frechet.losses.torch import FDLoss, FIDLoss, ImageFeatures
from frechet.losses.torch_memory import make_memory
from frechet.losses.torch_population import PopulationDistance

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

OFFLINE, NETWORK = "efficientnet-lite0", "efficientnet-lite0-resized"
AGES = (1, 2, 4, 8, 16)
D = 1280


def time_call(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


# The cost of a step


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


# The effect of an old map throughout a training


class RecordingDistance(PopulationDistance):
    """Computes a new map in each step, and records the cosine that gradients with older maps have with the exact one."""

    def record(self):
        """Start to record."""
        self.steps = 0
        self.maps, self.cosines = {}, {k: [] for k in AGES}

    def _compute_map(self, moments):
        self.newest = super()._compute_map(moments)
        return self.newest

    def _compute_staleness(self, features, moments, share, gradient):
        for k in AGES:
            if self.steps % k == 0:
                self.maps[k] = self.newest
            stale = self._compute_gradient(features, moments, share, self.maps[k])
            self.cosines[k].append(float(torch.cosine_similarity(stale.flatten(), gradient.flatten(), dim=0)))
        self.steps += 1
        return 0.0


def finetune(generator, loss, args):
    """Train the generator, and return the loss of each step."""
    torch.manual_seed(1)
    adam, curve = torch.optim.Adam(generator.parameters(), lr=args.learning_rate), []
    for step in range(args.steps):
        latents = torch.randn(args.batch, 64)
        adam.zero_grad()
        value = loss(generator(latents))
        value.backward()
        adam.step()
        curve.append(float(loss.distances[0]) if isinstance(loss, FDLoss) else float(value.detach()))
        print(f"{type(loss).__name__} step {step:3}  {curve[-1]:.5g}", file=sys.stderr, flush=True)
    return curve


def fill_population(loss, generator, size):
    with torch.no_grad():
        for start in range(0, size, 128):
            loss.observe(generator(torch.randn(min(128, size - start), 64)))


def summarise_cosines(population, batch, size):
    """Return the median and minimum cosine for each k; the first steps have maps from before the recording."""
    return {
        "replaced_per_step": batch / size,
        "cosine": {
            k: {"median": statistics.median(values), "min": min(values), "all": [round(each, 6) for each in values]}
            for k, values in population.cosines.items()
        },
    }


def measure_training(args):
    import copy

    import train_on_fd as example

    import frechet

    torch.manual_seed(0)
    photographs = example.load_photographs(args.photographs, seed=0)
    before = example.pretrain(photographs, epochs=args.epochs)
    row = EXTRACTORS[OFFLINE]
    register_extractor(NETWORK, replace(row, input_size=args.input_size))
    reference = frechet.collect(example.to_uint8_arrays(photographs), extractor=NETWORK)
    generators = {"before": before, "FDLoss": copy.deepcopy(before), "FIDLoss": copy.deepcopy(before)}
    loss = FDLoss(reference, extractors=NETWORK, population=args.population, normalise=False, refresh=1)
    loss.populations[0].__class__ = RecordingDistance
    fill_population(loss, generators["FDLoss"], args.population)
    loss.populations[0].record()
    loss.populations[0].replaced_share = 1.0  # the first map is recorded as well
    curves = {"FDLoss": finetune(generators["FDLoss"], loss, args)}
    maps = summarise_cosines(loss.populations[0], args.batch, args.population)
    print(json.dumps(maps), file=sys.stderr, flush=True)
    curves["FIDLoss"] = finetune(generators["FIDLoss"], FIDLoss(reference, extractor=NETWORK), args)
    return {"maps": maps, "curves": curves, "judges": judge(example, generators, photographs, args)}


def judge(example, generators, photographs, args):
    """Return the distances of 2,000 images of each generator to other photographs, by features that the loss does not use."""
    judges = example.make_judges(photographs, epochs=args.epochs)
    del judges["loss's network"]
    test_images = example.load_photographs(2000, seed=1)
    reference = {name: collect(test_images) for name, collect in judges.items()}
    found = {}
    for name, generator in generators.items():
        scores = example.score_by_judges(example.generate_samples(generator, 2000, seed=1), reference, judges)
        found[name] = {
            key: {"plain": score.value, "corrected": score.corrected_value, "interval_95": score.interval_95}
            for key, score in scores.items()
        }
    return found


# The same without a network, for populations of several sizes


def measure_sizes(args):
    """Compare gradients with old maps with exact ones, for simulated features that do not change during the training."""
    reference = Gaussian.from_features(draw_rows(100 * args.dims, 1, args.dims)).with_factor()
    found = {}
    for per_dimension in (1.25, 5, 20, 40):
        size = int(per_dimension * args.dims)
        batch = size // 50
        settings = PopulationSettings(size=size)
        population = RecordingDistance(reference, make_memory(settings, args.dims), FeatureSpec(extractor="simulated"))
        population.observe(1.1 * draw_rows(size, 2, args.dims))
        population.record()
        population.replaced_share = 1.0
        for step in range(2 * max(AGES)):
            population(1.1 * draw_rows(batch, 3 + step, args.dims))
        found[str(per_dimension)] = summarise_cosines(population, batch, size)
        print(per_dimension, {k: (v["median"], v["min"]) for k, v in found[str(per_dimension)]["cosine"].items()})
    return {"images_per_dimension": found}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["cost", "training", "sizes"])
    parser.add_argument("--population", type=int, help="50,000 for the cost and 1,920 for the training.")
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--images", type=int, default=32, help="Number of images in a timed pass of the network.")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--photographs", type=int, default=2000)
    parser.add_argument("--dims", type=int, default=64, help="Number of features in simulations of several sizes.")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--input-size", type=int, default=224)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    args.population = args.population or {"cost": 50_000, "training": 1_920}.get(args.part)
    load = CpuLoad()
    result = {"machine": describe_machine("torch"), "settings": vars(args) | {"output": None}}
    result |= {"cost": measure_cost, "training": measure_training, "sizes": measure_sizes}[args.part](args)
    result["busy_cores"] = load.busy_seconds() / (time.perf_counter() - load.wall)
    write_result(result, args.output)


if __name__ == "__main__":
    main()
