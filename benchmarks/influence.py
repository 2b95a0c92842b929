"""Measure how well the influence of an image predicts the effect of removing it, and whether influence finds outliers.

    python benchmarks/influence.py CIFAR.zip PHOTOGRAPHS.zip [--output results/influence.json]

Features of a trained network (`efficientnet-lite0`), unchanged and projected at random to fewer dimensions. `removal`: the
influence of images of the first half of CIFAR.zip, blurred by half a pixel, on their distance to the second half, compared
with the change of the distance when each of a hundred images is left out. `planted`: 20 images of PHOTOGRAPHS.zip among
1,000 images of CIFAR, and how many of them are among the 25 most influential images.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from machine import describe_machine, write_result
from PIL import Image, ImageFilter

import frechet
from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.distances.transport import influence_function, optimal_coupling
from frechet.images.decode import decode
from frechet.images.sources.registry import open_source

OPTIONS = {"extractor": "efficientnet-lite0"}
N_REMOVED = 100  # number of images that are left out, one at a time
CASES = ((500, 64), (500, 192), (500, 512), (1500, 48), (2000, 64))  # (images, dimensions)


def load_images(path):
    """Return all images of a source in a seeded random order."""
    source = open_source(path)
    images = [Image.fromarray(decode(image_ref).rgb) for image_ref in source.iter_images(range(len(source)))]
    return [images[i] for i in np.random.default_rng(0).permutation(len(images))]


def extract_features(images):
    statistics = frechet.collect(images, **OPTIONS)
    return statistics.features[np.argsort(statistics.indices)].astype(np.float64)


def measure_removal(x, y):
    rows = []
    for n, d in CASES:
        if n > min(len(x), len(y)):
            continue
        basis = np.linalg.qr(np.random.default_rng(d).standard_normal((x.shape[1], d)))[0]
        a, b = x[:n] @ basis, y[:n] @ basis
        p, q = (Gaussian(z.mean(0), covariance=np.cov(z, rowvar=False)) for z in (a, b))
        predicted = -influence_function(a, p, q, optimal_coupling(p, q)).total[:N_REMOVED] / (n - 1)
        whole = frechet_terms(p, q).total
        indices = np.arange(n)
        observed = []
        for i in range(N_REMOVED):
            rest = a[indices != i]
            observed.append(
                frechet_terms(Gaussian(rest.mean(0), covariance=np.cov(rest, rowvar=False)), q).total - whole
            )
        rows.append(
            {
                "n": n,
                "d": d,
                "images_per_dimension": n / d,
                "correlation": float(np.corrcoef(predicted, observed)[0, 1]),
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def count_planted(cifar, photographs):
    outliers = photographs[:20]
    counts = {}
    for reference in (cifar[1000:2000], cifar[1000:5000]):
        influences = frechet.influence([*outliers, *cifar[:1000]], reference, **OPTIONS)
        first = np.argsort(influences.change, kind="stable")[:25]
        counts[f"reference_{len(reference)}"] = int((first < len(outliers)).sum())
        print(counts, file=sys.stderr, flush=True)
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cifar", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    cifar = load_images(args.cifar)
    half = min(2000, len(cifar) // 2)
    blurred = [image.filter(ImageFilter.GaussianBlur(0.5)) for image in cifar[:half]]
    result = {
        "machine": describe_machine("frechet", "numpy"),
        "removal": measure_removal(extract_features(blurred), extract_features(cifar[half : 2 * half])),
        "planted_of_20_among_the_first_25": count_planted(cifar, load_images(args.photographs)),
    }
    write_result(result, args.output)


if __name__ == "__main__":
    main()
