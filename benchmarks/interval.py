"""Measure the coverage of the confidence interval in simulations with a known population value, and on real features.

    python benchmarks/interval.py simulate --output results/interval.json
    python benchmarks/interval.py real IMAGES.zip --output results/interval-real.json
    python benchmarks/interval.py plot results/interval-real.json --output ../docs/interval.png

`simulate` draws both samples in six settings, with 2 to 50 images per dimension, and counts how often the 95 % confidence
interval contains the population value (from two million draws); it also reports the errors of the plain value and of FID∞.
`real` computes the same estimates on subsets of real images against images blurred by half a pixel; the largest subsets
serve as population value.
"""

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault(
    "OPENBLAS_NUM_THREADS", "1"
)  # for many small matrices, one process per core is faster than threads

import numpy as np
from machine import describe_machine, write_result

from frechet._internal.cpu import process_cpu_count
from frechet.distances.extrapolation import frechet_infinity
from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.distances.interval import Z_95, IntervalInput, confidence_interval

D = 32
RATIOS = (2, 5, 10, 20, 50)
POPULATION_DRAWS = 2_000_000


def make_mixing_matrices(seed):
    """Return two mixing matrices (d, d) with different decaying spectra, and a shift of the mean."""
    random = np.random.default_rng(seed)
    one = random.standard_normal((D, D)) * np.arange(1, D + 1) ** -0.5 / D**0.5
    return one, one + 0.35 * random.standard_normal((D, D)) / D, 0.25 * random.standard_normal(D) / D**0.5


def draw_gaussian(n, random):
    return random.standard_normal((n, D))


def draw_heavy_tailed(n, random):
    """Draw from Student's t with 6 degrees of freedom, scaled to unit variance."""
    return random.standard_t(6, (n, D)) / 1.5**0.5


def draw_random_contrast(n, random):
    """Draw Gaussian rows with a random scale per image, like the contrast of photographs."""
    return random.standard_normal((n, D)) * np.sqrt(random.gamma(4, 0.25, (n, 1)))


def draw_sorted_classes(n, random):
    """Draw from eight classes, sorted by class as in class folders."""
    centers = 0.7 * np.random.default_rng(5).standard_normal((8, D))
    return 0.7 * random.standard_normal((n, D)) + centers[np.sort(random.integers(0, 8, n))]


SETTINGS = {  # name -> (draw latents, transform of the mixed latents)
    "gaussian": (draw_gaussian, lambda x: x),
    "rectified": (draw_gaussian, lambda x: np.maximum(x, 0)),
    "heavy-tailed": (draw_heavy_tailed, lambda x: x),
    "random contrast": (draw_random_contrast, lambda x: x),
    "sorted classes": (draw_sorted_classes, lambda x: x),
    "rectified, random contrast": (draw_random_contrast, lambda x: np.maximum(x, 0)),
}


def draw_features(setting, is_reference, n, random):
    draw_latents, transform = SETTINGS[setting]
    one, other, shift = make_mixing_matrices(0)
    return transform(draw_latents(n, random) @ (other if is_reference else one) + (shift if is_reference else 0))


def compute_population_distance(setting):
    """Compute the distance from two million draws per sample, whose bias is below 1e-4 of that of 50 d draws."""
    gaussians = []
    for is_reference in (False, True):
        random, total, outer = np.random.default_rng(99 + is_reference), np.zeros(D), np.zeros((D, D))
        for _ in range(20):
            x = draw_features(setting, is_reference, POPULATION_DRAWS // 20, random)
            total += x.sum(0)
            outer += x.T @ x
        mean = total / POPULATION_DRAWS
        gaussians.append(Gaussian(mean, covariance=outer / POPULATION_DRAWS - np.outer(mean, mean)))
    return frechet_terms(*gaussians).total


def make_interval_input(x):
    return IntervalInput(Gaussian(x.mean(0), covariance=np.cov(x, rowvar=False)), len(x), x.astype(np.float32))


def evaluate_setting(job):
    """Compute coverage and errors of one setting at one sample size, over `count` evaluations."""
    setting, ratio, count = job
    population_value, n = compute_population_distance(setting), ratio * D
    plain, corrected, extrapolated, standard_errors, n_covered = [], [], [], [], 0
    for trial in range(count):
        random = np.random.default_rng((trial, ratio))
        x, y = draw_features(setting, False, n, random), draw_features(setting, True, n, random)
        p, q = make_interval_input(x), make_interval_input(y)
        found = confidence_interval(p, q, seed=trial)
        plain.append(frechet_terms(p.gaussian, q.gaussian).total)
        corrected.append(found.corrected_value)
        extrapolated.append(frechet_infinity(x, y, seed=trial).total)
        standard_errors.append(found.standard_error)
        n_covered += found.low <= population_value <= found.high

    def rms(values):
        return float(np.sqrt(np.mean((np.array(values) - population_value) ** 2)))

    return {
        "setting": setting,
        "images_per_dimension": ratio,
        "population_value": population_value,
        "plain": float(np.mean(plain)),
        "corrected": float(np.mean(corrected)),
        "fid_infinity": float(np.mean(extrapolated)),
        "standard_error": float(np.mean(standard_errors)),
        "spread_of_corrected": float(np.std(corrected)),
        "coverage": n_covered / count,
        "rms_error_of_corrected_to_plain": rms(corrected) / rms(plain),
        "rms_error_of_fid_infinity_to_plain": rms(extrapolated) / rms(plain),
    }


def simulate(args):
    jobs = [(setting, ratio, args.count) for setting in SETTINGS for ratio in RATIOS]
    rows = []
    with ProcessPoolExecutor(process_cpu_count()) as pool:
        for row in pool.map(evaluate_setting, jobs):
            rows.append(row)
            print(
                f"{row['setting']:<27} {row['images_per_dimension']:>3} d  covers {row['coverage']:.3f}  "
                f"error {row['rms_error_of_corrected_to_plain']:.3f} of the plain value's "
                f"(FID-infinity: {row['rms_error_of_fid_infinity_to_plain']:.3f})",
                file=sys.stderr,
                flush=True,
            )
    return {"d": D, "evaluations": args.count, "rows": rows}


def extract_features(path):
    """Return features of half of the images, and of the other half blurred by half a pixel."""
    from PIL import Image, ImageFilter

    import frechet
    from frechet.images.decode import decode
    from frechet.images.sources.registry import open_source

    source = open_source(path)
    indices = np.random.default_rng(0).permutation(len(source))
    images = [Image.fromarray(decode(image_ref).rgb) for image_ref in source.iter_images(sorted(indices))]
    order = np.argsort(indices, kind="stable")
    half = len(images) // 2
    plain = [images[i] for i in order[:half]]
    blurred = [images[i].filter(ImageFilter.GaussianBlur(0.5)) for i in order[half:]]
    options = {"extractor": "efficientnet-lite0"}
    return [frechet.collect(images, **options).features for images in (plain, blurred)]


def evaluate_real(args):
    x, y = extract_features(args.images)
    rows = []
    for d in (64, 256, x.shape[1]):
        projection = (
            np.linalg.qr(np.random.default_rng(1).standard_normal((x.shape[1], d)))[0] if d < x.shape[1] else np.eye(d)
        )
        a, b = x @ projection, y @ projection
        for ratio in (2, 4, 8, len(a) / d):
            n = int(min(ratio * d, len(a)))
            if n < 1.5 * d or (ratio != len(a) / d and ratio * d > len(a)):
                continue
            chosen = [np.random.default_rng((2, n, i)).permutation(len(z))[:n] for i, z in enumerate((a, b))]
            p, q = (
                make_interval_input(a[chosen[0]].astype(np.float64)),
                make_interval_input(b[chosen[1]].astype(np.float64)),
            )
            found = confidence_interval(p, q)
            rows.append(
                {
                    "d": d,
                    "n": n,
                    "plain": frechet_terms(p.gaussian, q.gaussian).total,
                    "corrected": found.corrected_value,
                    "standard_error": found.standard_error,
                    "fid_infinity": frechet_infinity(p.rows, q.rows).total,
                    "method": found.method,
                }
            )
            print(rows[-1], file=sys.stderr, flush=True)
    return {"images": len(x) + len(y), "rows": rows}


def plot(args):
    """Plot plain value, FID-infinity and bias-corrected value with its 95 % interval against n, one panel per d."""
    from matplotlib.figure import Figure

    rows = json.loads(args.result.read_text())["rows"]
    dims = sorted({row["d"] for row in rows})
    figure = Figure(figsize=(4 * len(dims), 3.6), layout="constrained", dpi=160)
    for axis, d in zip(figure.subplots(1, len(dims), squeeze=False)[0], dims, strict=True):
        chosen = [row for row in rows if row["d"] == d]
        n = [row["n"] for row in chosen]
        axis.plot(n, [row["plain"] for row in chosen], "o-", color="#8a8a8a", label="plain value")
        axis.plot(n, [row["fid_infinity"] for row in chosen], "s--", color="#efb118", label="FID∞")
        corrected, error = ([row[key] for row in chosen] for key in ("corrected", "standard_error"))
        axis.errorbar(
            n, corrected, [Z_95 * e for e in error], fmt="o-", capsize=4, color="#4269d0", label="corrected, 95 %"
        )
        axis.axhline(corrected[-1], color="#4269d0", linewidth=0.8, alpha=0.5)
        axis.set(title=f"d = {d}", xlabel="images per set", xscale="log", ylim=(0, None))
        axis.set_xticks(n, [f"{size:,}" for size in n], minor=False)
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("Fréchet distance")
    figure.axes[0].legend(frameon=False)
    figure.savefig(args.output, facecolor="white")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    simulation = commands.add_parser("simulate")
    simulation.add_argument("--count", type=int, default=400)
    simulation.set_defaults(run=simulate)
    images = commands.add_parser("real")
    images.add_argument("images", type=Path)
    images.set_defaults(run=evaluate_real)
    drawing = commands.add_parser("plot")
    drawing.add_argument("result", type=Path)
    drawing.set_defaults(run=plot)
    for command in (simulation, images, drawing):
        command.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.run is plot:
        plot(args)
        return
    result = {"machine": describe_machine("frechet", "numpy"), **args.run(args)}
    write_result(result, args.output)


if __name__ == "__main__":
    main()
