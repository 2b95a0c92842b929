"""Which metric sees what: real photographs ever more blurred, ever noisier, of ever fewer classes, ever more often copied.

    python benchmarks/what_sees_what.py IMAGES.zip [MORE.zip] [--crops 128] [--output FILE.json] [--markdown FILE.md]

The zips (or folders) hold images in class folders, about 600 of each of ten classes in all (CIFAR-10's, for one); with
--crops SIDE they hold photographs, of which 6,000 square crops are taken, each photograph being a class. 2,000 are the
reference, 1,000 are held out, and 400 of the rest stand for a generator's images, as they are and disturbed.
EfficientNet-Lite0's features: nothing is downloaded.
"""

import argparse
import json
from pathlib import Path, PurePosixPath

import numpy as np
from machine import machine

import frechet
from frechet.demo.corruptions import gaussian_blur, gaussian_noise
from frechet.images.sources.registry import open_source
from frechet.metrics import METRICS

N_GENERATED, N_REFERENCE, N_HELD_OUT = 400, 2000, 1000
N_CROPS = 6000
OFFLINE = {"extractor": "efficientnet-lite0"}


def read_images(paths):
    """(n, h, w, 3) images and the class of each, of all sources, in a seeded order."""
    sources = [open_source(path) for path in paths]
    pictures = [image_ref for source in sources for image_ref in source.pictures(range(len(source)))]
    order = np.random.default_rng(0).permutation(len(pictures))
    images = np.stack([np.asarray(pictures[i].load().convert("RGB")) for i in order])
    return images, np.array([PurePosixPath(pictures[i].name.replace(":", "/")).parent.name for i in order])


def crop_photographs(paths, side):
    """(n, side, side, 3) crops at random places, and the photograph of each, in an order that goes round all photographs."""
    sources = [open_source(path) for path in paths]
    found = [image_ref.load().convert("RGB") for source in sources for image_ref in source.pictures(range(len(source)))]
    photographs = [np.asarray(photograph) for photograph in found if min(photograph.size) >= side]
    random = np.random.default_rng(0)
    chosen = np.arange(N_CROPS) % len(photographs)
    corners = [random.integers(0, np.array(photographs[i].shape[:2]) - side + 1) for i in chosen]
    crops = [photographs[i][y : y + side, x : x + side] for i, (y, x) in zip(chosen, corners, strict=True)]
    return np.stack(crops), chosen


def iter_corrupted(images, classes, copied):
    """(what is done, how much, the 400 images that come of it)."""
    rest, names = images[N_REFERENCE + N_HELD_OUT :], sorted(set(classes))
    labels = classes[N_REFERENCE + N_HELD_OUT :]
    plain = rest[:N_GENERATED]
    for level in (0.05, 0.1, 0.2, 0.4, 0.8):
        yield "blur", level, gaussian_blur(plain, level, 0)
    for level in (0.05, 0.15, 0.4):
        yield "noise", level, gaussian_noise(plain, level, 0)
    for share in (0.5, 0.3, 0.2):
        kept = round(len(names) * share)
        yield "modes dropped", len(names) - kept, rest[np.isin(labels, names[:kept])][:N_GENERATED]
    for share in (0.1, 0.3, 0.9):
        count = int(N_GENERATED * share)
        yield "copies", share, np.concatenate([copied[:count], plain[count:]])
    yield "real", 0, plain


def describe_trend(values):
    """How a metric moves from the undisturbed images on: "rises" or "falls" at every step, or where it is in the end."""
    steps = np.diff(values)
    if (steps > 0).all():
        return "rises"
    if (steps < 0).all():
        return "falls"
    return "higher in the end" if values[-1] > values[0] else "lower in the end"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--crops", type=int, metavar="SIDE", help="the images are photographs, to be cut to this size")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    images, classes = crop_photographs(args.images, args.crops) if args.crops else read_images(args.images)
    reference = frechet.collect(images[:N_REFERENCE], **OFFLINE)
    held_out = frechet.collect(images[N_REFERENCE : N_REFERENCE + N_HELD_OUT], **OFFLINE)
    levels = {}
    for corruption, level, corrupted in iter_corrupted(images, classes, images[:N_GENERATED]):
        scores = frechet.score(corrupted, reference, metrics=["all"], held_out=held_out, interval="none", **OFFLINE)
        levels.setdefault(corruption, []).append((level, {key: score.value for key, score in scores.items()}))
        print(corruption, level, {key: f"{score.value:.4g}" for key, score in scores.items()}, flush=True)
    [(_, real)] = levels.pop("real")
    table = {
        key: {
            corruption: {
                "values": [real[key], *(found[key] for _, found in steps)],
                "strengths": [level for level, _ in steps],
            }
            for corruption, steps in levels.items()
        }
        for key in real
    }
    for row in table.values():
        for cell in row.values():
            cell["way"] = describe_trend(cell["values"])
    result = {
        "machine": machine("frechet", "numpy"),
        "images": {"generated": N_GENERATED, "reference": N_REFERENCE, "crops": args.crops},
        "metrics": table,
    }
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")
    if args.markdown:
        args.markdown.write_text(markdown(table))


def markdown(table):
    """One row a metric: undisturbed value, then the three of each disturbance and which way they go."""
    columns = list(next(iter(table.values())))
    lines = [f"| metric | better | undisturbed | {' | '.join(columns)} |", f"|---|---|---|{'---|' * len(columns)}"]
    for key, row in table.items():
        better = {True: "lower", False: "higher", None: "near 0"}[METRICS[key].lower_is_better]
        cells = [f"{', '.join(f'{value:.3g}' for value in cell['values'][1:])}: {cell['way']}" for cell in row.values()]
        lines.append(f"| `{key}` | {better} | {row[columns[0]]['values'][0]:.3g} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
