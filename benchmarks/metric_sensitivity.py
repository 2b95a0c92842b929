"""Measure how every metric reacts to real photographs with increasing blur, noise, mode dropping and copying.

    python benchmarks/metric_sensitivity.py IMAGES.zip [MORE.zip] [--crops 128] [--output FILE.json] [--markdown FILE.md]

The folders or archives hold images in class folders, about 600 of each of ten classes together (e.g. CIFAR-10). With --crops
LENGTH they hold photographs, from which 6,000 square crops are taken; each photograph is then a class. 2,000 images are the
reference, 1,000 are held out, and 400 of the rest take the place of generated images, unchanged and corrupted. The
features are those of EfficientNet-Lite0, which needs no download.
"""

import argparse
from pathlib import Path

import numpy as np
from machine import describe_machine, write_result

import frechet
from frechet.demo.corruptions import gaussian_blur, gaussian_noise
from frechet.images.decode import decode
from frechet.images.sources.registry import open_source
from frechet.metrics import METRICS

N_GENERATED, N_REFERENCE, N_HELD_OUT = 400, 2000, 1000
N_CROPS = 6000
OFFLINE = {"extractor": "efficientnet-lite0"}


def read_images(paths):
    """Return the images (n, h, w, 3) of all sources in a seeded order, and the class of each image."""
    sources = [open_source(path) for path in paths]
    image_refs = [image_ref for source in sources for image_ref in source.iter_images(range(len(source)))]
    classes = np.concatenate([source.get_class_names(range(len(source))) for source in sources])
    order = np.random.default_rng(0).permutation(len(image_refs))
    return np.stack([decode(image_refs[i]).rgb for i in order]), classes[order]


def crop_photographs(paths, length):
    """Return random crops (n, length, length, 3) from each photograph in turn, and the photograph of each crop."""
    sources = [open_source(path) for path in paths]
    images = [decode(image_ref).rgb for source in sources for image_ref in source.iter_images(range(len(source)))]
    photographs = [image for image in images if min(image.shape[:2]) >= length]
    random = np.random.default_rng(0)
    chosen = np.arange(N_CROPS) % len(photographs)
    corners = [random.integers(0, np.array(photographs[i].shape[:2]) - length + 1) for i in chosen]
    crops = [photographs[i][y : y + length, x : x + length] for i, (y, x) in zip(chosen, corners, strict=True)]
    return np.stack(crops), chosen


def iter_corrupted(images, classes, copied):
    """Iterate over (corruption, level, corrupted images)."""
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
    """Describe how a metric changes with the level of a corruption, starting from the unchanged images."""
    steps = np.diff(values)
    if (steps > 0).all():
        return "monotone increase"
    if (steps < 0).all():
        return "monotone decrease"
    return "net increase" if values[-1] > values[0] else "net decrease"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--crops", type=int, metavar="LENGTH", help="Cut photographs into square crops of this size.")
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
            cell["trend"] = describe_trend(cell["values"])
    result = {
        "machine": describe_machine("frechet", "numpy"),
        "images": {"generated": N_GENERATED, "reference": N_REFERENCE, "crops": args.crops},
        "metrics": table,
    }
    write_result(result, args.output)
    if args.markdown:
        args.markdown.write_text(format_markdown(table))


def format_markdown(table):
    """Return a table with one row per metric: its value for unchanged images, and values and trend of each corruption."""
    columns = list(next(iter(table.values())))
    lines = [f"| metric | better | unchanged | {' | '.join(columns)} |", f"|---|---|---|{'---|' * len(columns)}"]
    for key, row in table.items():
        better = {True: "lower", False: "higher", None: "near 0"}[METRICS[key].lower_is_better]
        cells = [
            f"{', '.join(f'{value:.3g}' for value in cell['values'][1:])}: {cell['trend']}" for cell in row.values()
        ]
        lines.append(f"| `{key}` | {better} | {row[columns[0]]['values'][0]:.3g} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
