"""Measure peak memory and time of listing, decoding and collecting very many images, with a toy extractor.

Kinds: a folder of files, a zip, and an .npz file. Each measurement runs in a process of its own; memory is the peak of that
process minus that of a process that only imports the same modules.

python benchmarks/many_images.py [--folder 50000,200000] [--zip 25000,100000] [--npz 2500,10900]
                                 [--output FILE]
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from machine import describe_machine, write_result
from PIL import Image

from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.features.extractor import LoadedExtractor
from frechet.features.spec import FeatureSpec
from frechet.images.sources.registry import open_source
from frechet.preprocessing.registry import PREPROCESSINGS

EDGE = 8  # of images in folders and zips, and of the extractor's input
NPZ_EDGE = 256  # of images in .npz files: 10,900 of them take 2.1 GB


class FirstValues:
    """An extractor whose features are the first six values of an image."""

    batch_size = 64

    def map(self, batches):
        for batch in batches:
            yield batch.reshape(len(batch), -1)[:, :6].copy()


TOY = LoadedExtractor(
    runner=FirstValues(),
    preprocessing=PREPROCESSINGS["pytorch-fid"],
    input_size=EDGE,
    dims=6,
    spec=FeatureSpec(
        extractor="toy", layer="6", weights="0" * 64, is_official=False, preprocessing="none", precision="float32"
    ),
    backend="toy",
)


def make_folder(path, count):
    path.mkdir()
    pngs = make_pngs()
    for index in range(count):
        (path / f"{index:06d}.png").write_bytes(pngs[index % len(pngs)])
    return path


def make_zip(path, count):
    pngs = make_pngs()
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        for index in range(count):
            archive.writestr(f"{index:06d}.png", pngs[index % len(pngs)])
    return path.with_suffix(".zip")


def make_npz(path, count):
    """Write zeros with a few random rows, through a mapping, so that the benchmark itself needs no memory."""
    array = np.lib.format.open_memmap(
        path.with_suffix(".npy"), mode="w+", dtype=np.uint8, shape=(count, NPZ_EDGE, NPZ_EDGE, 3)
    )
    array[:, :2] = np.random.default_rng(0).integers(0, 256, (count, 2, NPZ_EDGE, 3), np.uint8)
    array.flush()
    with zipfile.ZipFile(path.with_suffix(".npz"), "w") as archive:
        archive.write(path.with_suffix(".npy"), "arr_0.npy")
    path.with_suffix(".npy").unlink()
    return path.with_suffix(".npz")


def make_pngs():
    random, files = np.random.default_rng(0), []
    for _ in range(256):
        stream = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (EDGE, EDGE, 3), np.uint8)).save(stream, "PNG")
        files.append(stream.getvalue())
    return files


MAKERS = {"folder": make_folder, "zip": make_zip, "npz": make_npz}


def measure(source):
    """Collect statistics in this process, and print what it took."""
    start = time.perf_counter()
    opened = open_source(source)
    listed = time.perf_counter()
    statistics = collect_statistics(opened, Settings(), TOY)
    print(
        json.dumps(
            {
                "images": statistics.n,
                "seconds_to_list": round(listed - start, 2),
                "seconds": round(time.perf_counter() - start, 2),
                "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            }
        )
    )


def run_child(*arguments):
    done = subprocess.run([sys.executable, __file__, *map(str, arguments)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def measure_kind(kind, counts, folder, baseline):
    rows = []
    for count in counts:
        source = MAKERS[kind](folder / f"{kind}-{count}", count)
        row = run_child("--measure", source)
        row["memory_mb"] = row.pop("peak_mb") - baseline
        row["bytes_per_image"] = round(row["memory_mb"] * 2**20 / count)
        row["microseconds_per_image"] = round(1e6 * row["seconds"] / count)
        rows.append(row)
        print(kind, row, file=sys.stderr, flush=True)
        if source.is_file():
            source.unlink()
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default="50000,200000")
    parser.add_argument("--zip", default="25000,100000")
    parser.add_argument("--npz", default="2500,10900")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--baseline", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.measure:
        return measure(args.measure)
    if args.baseline:
        return print(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
    with tempfile.TemporaryDirectory() as folder:
        baseline = run_child("--baseline")
        kinds = {
            kind: measure_kind(kind, map(int, getattr(args, kind).split(",")), Path(folder), baseline)
            for kind in MAKERS
        }
    result = {"machine": describe_machine("frechet", "numpy", "pillow"), "imports_mb": baseline, **kinds}
    return write_result(result, args.output)


if __name__ == "__main__":
    main()
