"""Measure the effect of bfloat16 on a distance, with the trained EfficientNet-Lite0 on real images in both precisions.

    python benchmarks/precision.py [IMAGES] [--count 2000] [--bfloat16 auto] [--output FILE]

Two pairs of slightly different distributions: patches of the photographs that come with scikit-image and scikit-learn
(`pip install 'frechet[demo]'`), and the small images of a folder or archive if one is given. The generated images of a pair are
`count` images blurred by half a pixel (Gaussian), the reference images are `count` other images without blur.

OpenVINO computes bfloat16 if the processor supports it. PyTorch computes it on any processor, but many times slower than
float32 (`--bfloat16 torch`). Otherwise it is emulated: inputs, kernels, biases and the result of every layer are rounded to
bfloat16, and the arithmetic is float32. Processors with bfloat16 do the same, since products of two bfloat16 numbers are exact in
float32 and sums are accumulated in float32. For some images the emulation is compared with the bfloat16 of PyTorch.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from machine import describe_machine, write_result

from frechet.backends.torch import TorchOps
from frechet.demo.corruptions import gaussian_blur
from frechet.demo.photographs import NATURAL_PHOTOGRAPHS, sample_patches
from frechet.errors import MismatchError, RequestError
from frechet.evaluation.compute import score_statistics
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.features.loading import load_extractor
from frechet.images.decode import decode
from frechet.images.sources.registry import open_source
from frechet.statistics.moments import RunningMoments

EXTRACTOR, HALF_A_PIXEL, GROUPS, N_EMULATION_CHECK = "efficientnet-lite0", 0.5 / 4, 10, 16


def round_to_bfloat16(x):
    return x.bfloat16().float()


class RoundedOps(TorchOps):
    """Emulate bfloat16 in float32 by rounding the inputs and outputs of every layer."""

    def conv(self, x, kernel, bias, **window):
        return round_to_bfloat16(
            super().conv(round_to_bfloat16(x), round_to_bfloat16(kernel), round_to_bfloat16(bias), **window)
        )

    def add(self, x, y):
        return round_to_bfloat16(super().add(x, y))

    def global_average_pool(self, x):
        return round_to_bfloat16(super().global_average_pool(x))


def load_emulated():
    extractor = load_extractor(EXTRACTOR, backend="torch", device="cpu")
    network, ops = extractor.runner.network, RoundedOps()
    extractor.runner.network = lambda _ops, images, weights: network(ops, images, weights)
    return replace(extractor, spec=replace(extractor.spec, precision="bfloat16"))


def load_both(how):
    """Return how bfloat16 is computed, and the extractors in float32 and in bfloat16 on the same backend."""
    if how in ("auto", "openvino"):
        try:
            loaded = load_extractor(EXTRACTOR, backend="openvino", precision="bfloat16")
            return "openvino", load_extractor(EXTRACTOR, backend="openvino"), loaded
        except RequestError as request_error:
            if how == "openvino":
                raise
            print(request_error, file=sys.stderr)
    exact = load_extractor(EXTRACTOR, backend="torch", device="cpu")
    if how == "torch":
        return "torch", exact, load_extractor(EXTRACTOR, backend="torch", device="cpu", precision="bfloat16")
    return "emulated in float32 with torch", exact, load_emulated()


def iter_pairs(args):
    """Iterate over (name, (generated, reference)) with images (count, h, w, 3), uint8."""
    if args.images:
        source = open_source(args.images)
        order = np.random.default_rng(0).permutation(len(source))[: 2 * args.count]
        stack = np.stack([decode(image_ref).rgb for image_ref in source.iter_images(sorted(map(int, order)))])
        stack = stack[np.random.default_rng(1).permutation(len(stack))]  # sources are sorted, often by class
        yield (
            Path(args.images).stem,
            (gaussian_blur(stack[: len(stack) // 2], HALF_A_PIXEL, 0), stack[len(stack) // 2 :]),
        )
    blurred = gaussian_blur(sample_patches(NATURAL_PHOTOGRAPHS, args.count, seed=0), HALF_A_PIXEL, 0)
    yield "patches of photographs", (blurred, sample_patches(NATURAL_PHOTOGRAPHS, args.count, seed=1))


def compute_distance(generated, reference):
    """Compute the distance between statistics of different precision, which needs the same specification on both."""
    return score_statistics(generated, replace(reference, spec=generated.spec))["fd"].value


def get_mismatch_message(generated, reference):
    try:
        score_statistics(generated, reference)
    except MismatchError as mismatch:
        return str(mismatch)
    raise AssertionError("statistics of two precisions were compared")


def jackknife_standard_error(generated, reference):
    """Compute the standard error of the distance by a delete-group jackknife with ten groups."""
    values = []
    for group in range(GROUPS):
        reduced = []
        for statistics in (generated, reference):
            kept = np.arange(len(statistics.features)) % GROUPS != group
            moments = RunningMoments.from_features(statistics.features[kept])
            reduced.append(
                replace(statistics, mean=moments.mean, covariance=moments.covariance, n=moments.n, rows=None)
            )
        values.append(compute_distance(*reduced))
    return float(np.std(values)) * (GROUPS - 1) ** 0.5


def compute_feature_errors(exact, coarse):
    """Compute errors of bfloat16 features against float32: median, 95th percentile and maximum over the features.

    `relative`: root mean square error of a feature over the root mean square of the feature. `shift`: mean error over the
    standard deviation of the feature between images, which is what changes a distance.
    """
    error = coarse.astype(np.float64) - exact
    is_nonconstant = exact.std(axis=0) > 0
    kinds = {
        "relative": np.sqrt(
            (error**2).mean(axis=0)[is_nonconstant] / (exact.astype(np.float64) ** 2).mean(axis=0)[is_nonconstant]
        ),
        "shift": np.abs(error.mean(axis=0)[is_nonconstant]) / exact.std(axis=0)[is_nonconstant],
    }
    return {
        kind: dict(
            zip(
                ("median", "percentile_95", "max"),
                map(round_significant, np.quantile(values, (0.5, 0.95, 1))),
                strict=True,
            )
        )
        for kind, values in kinds.items()
    }


def evaluate_pair(generated, reference, extractors):
    """Compute distances and feature errors of one pair."""
    statistics = {}
    for name, images in (("generated", generated), ("reference", reference)):
        for precision, extractor in extractors.items():
            statistics[name, precision] = collect_statistics(
                open_source(images), Settings(), extractor, _print_progress, name
            )
    distances = {
        f"{one} generated, {other} reference": compute_distance(
            statistics["generated", one], statistics["reference", other]
        )
        for one in extractors
        for other in extractors
    }
    equal_precision = [distances[f"{precision} generated, {precision} reference"] for precision in extractors]
    return {
        "images": [len(generated), len(reference)],
        "distance": {name: round(value, 4) for name, value in distances.items()},
        "against_float32": {name: f"{value / equal_precision[0] - 1:+.2%}" for name, value in distances.items()},
        "standard_error_float32": round(
            jackknife_standard_error(statistics["generated", "float32"], statistics["reference", "float32"]), 3
        ),
        "same_images_in_two_precisions": round_significant(
            compute_distance(statistics["reference", "bfloat16"], statistics["reference", "float32"])
        ),
        "errors_of_features": compute_feature_errors(
            *(statistics["reference", precision].features for precision in extractors)
        ),
        "mismatch_message": get_mismatch_message(
            statistics["generated", "bfloat16"], statistics["reference", "float32"]
        ),
    }


def check_emulation(images, emulated, exact):
    """Compute relative root mean square errors: of the emulation, of bfloat16 in PyTorch, and between the two."""
    own = load_extractor(EXTRACTOR, backend="torch", device="cpu", precision="bfloat16")
    settings = Settings(batch_size=8)
    f32, emulated_features, torch_features = (
        collect_statistics(open_source(images), settings, extractor).features for extractor in (exact, emulated, own)
    )
    comparisons = {
        "emulated": (emulated_features, f32),
        "torch": (torch_features, f32),
        "between_them": (emulated_features, torch_features),
    }
    return {"images": len(images)} | {
        name: round_significant(np.sqrt(((one - other) ** 2).mean() / (f32**2).mean()))
        for name, (one, other) in comparisons.items()
    }


def _print_progress(what, done, total):
    if done % 512 < 32:
        print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)


def round_significant(value):
    return float(f"{value:.3g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="?", help="Folder or archive of images of one size.")
    parser.add_argument("--count", type=int, default=2000, help="Number of images per set.")
    parser.add_argument("--bfloat16", default="auto", choices=["auto", "openvino", "torch", "emulated"])
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    how, exact, coarse = load_both(args.bfloat16)
    result = {
        "machine": describe_machine("numpy", "openvino", "pillow", "torch"),
        "extractor": EXTRACTOR,
        "bfloat16": how,
        "pairs": {},
    }
    for name, (generated, reference) in iter_pairs(args):
        result["pairs"][name] = evaluate_pair(generated, reference, {"float32": exact, "bfloat16": coarse})
        print(json.dumps(result["pairs"][name], indent=1), file=sys.stderr, flush=True)
    if how.startswith("emulated"):
        result["emulation"] = check_emulation(
            sample_patches(NATURAL_PHOTOGRAPHS, N_EMULATION_CHECK, seed=1), coarse, exact
        )
    write_result(result, args.output)


if __name__ == "__main__":
    main()
