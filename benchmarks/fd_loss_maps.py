"""Measure the gradients of FDLoss with a transport map that is kept for k steps, or tracked, against the exact ones.

    python benchmarks/fd_loss_maps.py training [--output results/fd_loss-training.json]
    python benchmarks/fd_loss_maps.py training --steps 48 --photographs 1500 --epochs 2 --input-size 32 --learning-rate 1e-4 \
        [--output results/fd_loss-training-20.json]
    python benchmarks/fd_loss_maps.py training --network classifier --population 3840 --batch 76 --steps 96 --photographs 1000 --epochs 4 \
        [--learning-rate 1e-4] [--output results/fd_loss-training-classifier.json]
    python benchmarks/fd_loss_maps.py sizes [--output results/fd_loss-sizes.json]

`training`: the generator of examples/train_on_fd.py is fine-tuned with FDLoss, and with FIDLoss on the same number of images. In each
step of the first, the cosine between the exact gradient and that with the map of up to k - 1 steps ago is recorded. `tracked` is the most
favourable case of tracking: the exact map of the previous step, improved by some steps of the Newton-Schulz iteration for the inverse root. Its
residual |I - ZBZ| / sqrt(d), with B = Σ₂^½ Σ₁ Σ₂^½ and Z = B^-½, is 0 for the exact map.

The loss uses EfficientNet-Lite0 (1,280 features), or a small network that was trained to recognise photographs (`classifier`, 96 features).
`--input-size` is that of EfficientNet-Lite0; 32, the size of the images, takes a fortieth of the time of 224. The generators are evaluated by
features that the loss does not use, with the 95 % interval of the bias-corrected distance. `sizes`: the same cosines for simulated features
and populations of 1.25 to 40 rows per dimension, of which each batch replaces 2 %.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from fd_loss import OFFLINE, draw_rows
from machine import CpuLoad, describe_machine, write_result

import frechet
from frechet.distances.gaussian import Gaussian
from frechet.features.registry import EXTRACTORS, register_extractor
from frechet.features.spec import FeatureSpec
from frechet.losses.population_settings import PopulationSettings
from frechet.losses.torch import FDLoss, FIDLoss
from frechet.losses.torch_memory import make_memory
from frechet.losses.torch_population import PopulationDistance

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import train_on_fd as example

AGES, TRACKING_STEPS = (1, 2, 4, 8, 16), (1, 2)
RESIZED = "efficientnet-lite0-resized"


# Recording


class RecordingDistance(PopulationDistance):
    """Computes a new map in each step, and records the cosine that gradients with other maps have with the exact one."""

    def record(self):
        """Start to record."""
        self.steps, self.maps, self.previous = 0, {}, None
        self.cosines = {k: [] for k in AGES}
        self.tracked = {count: {"cosine": [], "residual": []} for count in (0, *TRACKING_STEPS)}
        self.reference_root, self.inverse_root = compute_roots(self.reference_covariance)
        self.replaced_share = 1.0  # the first map is recorded as well

    def _compute_map(self, moments):
        self.newest = super()._compute_map(moments)
        return self.newest

    def _compute_staleness(self, features, moments, share, gradient):
        def compute_cosine(transport):
            other = self._compute_gradient(features, moments, share, transport)
            return float(torch.cosine_similarity(other.flatten(), gradient.flatten(), dim=0))

        for k in AGES:
            if self.steps % k == 0:
                self.maps[k] = self.newest
            self.cosines[k].append(compute_cosine(self.maps[k]))
        if self.previous is not None:
            for count, matrix, residual in self._track(moments.to_gaussian().covariance):
                self.tracked[count]["cosine"].append(compute_cosine(self.newest._replace(matrix=matrix)))
                self.tracked[count]["residual"].append(residual)
        self.previous = self.newest
        self.steps += 1
        return 0.0

    def _track(self, covariance):
        """Yield the number of steps, the map and the residual of the iteration that starts at the map of the previous step."""
        root, identity = self.reference_root, torch.eye(len(covariance), dtype=covariance.dtype)
        product = root @ covariance @ root
        inverse = self.inverse_root @ self.previous.matrix @ self.inverse_root
        for count in range(max(TRACKING_STEPS) + 1):
            error = identity - inverse @ product @ inverse
            if count in self.tracked:
                yield count, root @ inverse @ root, float(error.norm() / len(error) ** 0.5)
            step = inverse @ error
            inverse = inverse + (step + step.T) / 4


def compute_roots(covariance):
    """Return the symmetric root of a covariance and its pseudo-inverse."""
    values, vectors = torch.linalg.eigh(covariance)
    is_real = values > 1e-12 * values.max()
    roots = torch.where(is_real, values, 0).sqrt()
    return (vectors * roots) @ vectors.T, (vectors * torch.where(is_real, 1 / roots, 0)) @ vectors.T


def summarise_cosines(population, batch, size):
    """Return the median and minimum cosine for each k over all steps, and the median over the steps with an old map."""
    return {
        "replaced_per_step": batch / size,
        "cosine": {
            k: {
                "median": statistics.median(values),
                "min": min(values),
                "median_of_old_maps": statistics.median([v for i, v in enumerate(values) if i % k] or [1.0]),
                "all": [round(each, 6) for each in values],
            }
            for k, values in population.cosines.items()
        },
        "tracked": {count: summarise_tracking(**lists) for count, lists in population.tracked.items()},
    }


def summarise_tracking(cosine, residual):
    """Return medians and extremes of the gradients and residuals with tracked maps."""
    return {
        "cosine": {"median": statistics.median(cosine), "min": min(cosine), "all": [round(each, 6) for each in cosine]},
        "residual": {"median": statistics.median(residual), "max": max(residual)},
    }


# Throughout a training


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


def make_network(photographs, args):
    """Return the arguments of losses and statistics that select the network of the loss."""
    if args.network == "classifier":
        module = example.train_classifier(2 * photographs - 1, epochs=args.epochs).eval()
        module.input_size = 32
        return {"extractor": module, "preprocessing": "pytorch-fid"}  # images from -1 to 1
    return {"extractor": RESIZED}


def measure_training(args):
    torch.manual_seed(0)
    register_extractor(RESIZED, replace(EXTRACTORS[OFFLINE], input_size=args.input_size))
    photographs = example.load_photographs(args.photographs, seed=0)
    before = example.pretrain(photographs, epochs=args.epochs)
    network = make_network(photographs, args)
    reference = frechet.collect(example.to_uint8_arrays(photographs), **network)
    generators = {"before": before, "FDLoss": copy.deepcopy(before), "FIDLoss": copy.deepcopy(before)}
    extractor = network.pop("extractor")
    loss = FDLoss(reference, extractors=extractor, population=args.population, normalise=False, **network)
    loss.populations[0].__class__ = RecordingDistance
    fill_population(loss, generators["FDLoss"], args.population)
    loss.populations[0].record()
    curves = {"FDLoss": finetune(generators["FDLoss"], loss, args)}
    maps = {"images_per_feature": args.population / loss.dims}
    maps |= summarise_cosines(loss.populations[0], args.batch, args.population)
    print(json.dumps(maps), file=sys.stderr, flush=True)
    curves["FIDLoss"] = finetune(generators["FIDLoss"], FIDLoss(reference, extractor=extractor, **network), args)
    return {"maps": maps, "curves": curves, "judges": judge(generators, photographs, args)}


def judge(generators, photographs, args):
    """Return the distances of 2,000 images of each generator to other photographs, by features that the loss does not use."""
    judges = example.make_judges(photographs, epochs=args.epochs)
    del judges["loss's network"]
    if args.network == "classifier":
        del judges["classifier"]
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
        for step in range(2 * max(AGES)):
            population(1.1 * draw_rows(batch, 3 + step, args.dims))
        found[str(per_dimension)] = summarise_cosines(population, batch, size)
        print(per_dimension, {k: (v["median"], v["min"]) for k, v in found[str(per_dimension)]["cosine"].items()})
    return {"images_per_dimension": found}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["training", "sizes"])
    parser.add_argument("--network", choices=[OFFLINE, "classifier"], default=OFFLINE)
    parser.add_argument("--population", type=int, default=25_600)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--photographs", type=int, default=2000)
    parser.add_argument("--dims", type=int, default=64, help="Number of features in simulations of several sizes.")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--input-size", type=int, default=224)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    load = CpuLoad()
    result = {"machine": describe_machine("torch"), "settings": vars(args) | {"output": None}}
    result |= {"training": measure_training, "sizes": measure_sizes}[args.part](args)
    result["busy_cores"] = load.busy_seconds() / (time.perf_counter() - load.wall)
    write_result(result, args.output)


if __name__ == "__main__":
    main()
