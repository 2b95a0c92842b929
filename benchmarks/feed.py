"""Measure how fast images are read, decoded and prepared for a network, without the network.

    python benchmarks/feed.py [--images 512] [--from PHOTOGRAPHS] [--rounds 5] [--output FILE]

Each kind of input (JPEG and PNG of 256 x 256, PNG of 32 x 32, an .npz, photographs of mixed sizes) goes through every reader with one
and with two threads, in turn: on the host, and up to where a device takes over, each with and without the extra `fast`. `pillow` is the work that cannot be avoided with Pillow:
`Image.open(file).convert("RGB")` as an array. `decoder alone` reads the file and calls the library that `fast` uses, without any check, into memory that is used
again, so that it is the least that `fast` can take. The readers of pytorch-fid, torch-fidelity, clean-fid (without a resize) and torchvision take part if they are
installed (peers_environment.sh).

The result has images per second, processor milliseconds per image, the ratio to `pillow` within a round, the speed of two threads
relative to one, and the share of time during which the interpreter lock is held (with one thread), which bounds the images per second
of one process whatever its number of cores. From these follows how many cores a device needs that processes R images per second.

Many small files are decoded in processes: two workers (`--workers-kind processes`, and `threads`) are compared with one on thousands of files, with and
without the first quarter of the images, which includes the start of the processes.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import statistics
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path

import numpy as np
from feed_readers import BATCH, GROUP, INPUT_SIZE, find_readers, is_ordinary
from machine import CpuLoad, describe_machine, write_result
from photographs import iter_bundled_photographs, iter_photographs, write_crops
from PIL import Image

from frechet.images.loader import load_batches
from frechet.images.sources.registry import open_source
from frechet.preprocessing.registry import PREPROCESSINGS

NUM_SMALL_FILES = {"png_32": 1 << 15, "jpeg_256": 1 << 13, "png_256": 1 << 12}
WORKERS = {"one": (1, "threads"), "two_threads": (2, "threads"), "two_processes": (2, "processes")}
THREADS = (1, 2)
CARDS = {"RTX 3090": 2400, "RTX 5090, compiled": 9500}  # images per second of Inception-v3 (timm's benchmarks, 2026-08)
PEERS = ("torch", "torchvision", "pytorch-fid", "torch-fidelity", "clean-fid")
SAMPLING_INTERVAL = 0.0005  # seconds between two looks at the interpreter lock


def write_inputs(folder, photographs, count):
    """Write every kind of input, and return {kind: path}."""
    paths = {name: folder / name for name in ("jpeg_256", "png_256", "png_32", "photographs")}
    write_crops(photographs, paths["jpeg_256"], count, seed=0)
    for name in ("png_256", "png_32", "photographs"):
        paths[name].mkdir()
    images = [Image.open(file).convert("RGB") for file in sorted(paths["jpeg_256"].iterdir())]
    for index, image in enumerate(images):
        image.save(paths["png_256"] / f"{index:05}.png")
        image.resize((32, 32), Image.Resampling.BOX).save(paths["png_32"] / f"{index:05}.png")
    for index in range(max(4 * GROUP, count // 8)):  # these are large; enough for two threads
        write_photograph(photographs[index % len(photographs)], paths["photographs"], index)
    paths["npz_256"] = folder / "images.npz"
    np.savez(paths["npz_256"], arr_0=np.stack([np.asarray(image) for image in images]))
    return paths


def write_photograph(image, folder, index):
    """Write a photograph in one of many sizes, as JPEG or PNG."""
    scale = np.random.default_rng(index).uniform(0.3, 1.5)
    resized = image.resize(tuple(max(16, round(side * scale)) for side in image.size), Image.Resampling.BICUBIC)
    resized.save(folder / f"{index:05}.{'png' if index % 4 == 0 else 'jpg'}")


def measure(call):
    """Return images per second and processor milliseconds per image."""
    wall, processor = time.perf_counter(), time.process_time()
    count = call()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return None if count is None else {"images_per_second": count / wall, "milliseconds": 1000 * processor / count}


def measure_lock_share(call):
    """Estimate the share of time during which the threads of a call hold the interpreter lock.

    A thread sleeps again and again, and needs the lock to go on; it is late if the lock is held. Holds that end sooner than the
    usual delay of a sleep are missed, so the share is a lower bound.
    """
    data = bytes(1 << 26)
    free = sample_delays(lambda: [zlib.crc32(data) for _ in range(10)])  # computes without the lock
    limit = np.quantile(free, 0.95)
    return float(np.mean(np.asarray(sample_delays(call)) > limit))


def sample_delays(call):
    """Return by how many seconds the sleeps of a thread last too long during a call."""
    delays, done = [], threading.Event()

    def sample():
        while not done.is_set():
            start = time.perf_counter()
            time.sleep(SAMPLING_INTERVAL)
            delays.append(time.perf_counter() - start - SAMPLING_INTERVAL)

    thread = threading.Thread(target=sample)
    thread.start()
    call()
    done.set()
    thread.join()
    return delays


def measure_kind(path, readers, rounds):
    """Measure all readers in turn on one kind of input."""
    for read in readers.values():
        read(path, 1)
    runs = {name: {threads: [] for threads in THREADS} for name in readers}
    for _ in range(rounds):
        for name, read in readers.items():
            for threads in THREADS:
                found = measure(lambda read=read, threads=threads: read(path, threads))
                if found is not None:
                    runs[name][threads].append(found)
    return {name: summarize(found, runs["pillow"], path, readers[name]) for name, found in runs.items() if found[1]}


def summarize(runs, pillow, path, read):
    """Return the medians of one reader, and its ratios to Pillow within a round."""
    one, two = runs[THREADS[0]], runs[THREADS[1]]
    summary = {
        f"{key}_{threads}": round(statistics.median(each[key] for each in runs[threads]), 3)
        for key in ("images_per_second", "milliseconds")
        for threads in THREADS
    }
    speedups = [b["images_per_second"] / a["images_per_second"] for a, b in zip(one, two, strict=True)]
    summary["two_threads_over_one"] = round(statistics.median(speedups), 2)
    if pillow[THREADS[0]]:
        ratios = [ours["milliseconds"] / theirs["milliseconds"] for ours, theirs in zip(one, pillow[1], strict=True)]
        summary["milliseconds_over_pillow"] = round(statistics.median(ratios), 2)
    summary["lock_share"] = round(measure_lock_share(lambda: read(path, 1)), 2)
    summary["cores_needed"] = {card: round(rate * summary["milliseconds_1"] / 1000, 1) for card, rate in CARDS.items()}
    return summary


def measure_many_small_files(path, rounds):
    """Compare one worker with two on many links to the files of a folder."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        files = sorted(path.iterdir())
        for index in range(NUM_SMALL_FILES[path.name]):
            file = files[index % len(files)]
            os.link(file, Path(folder, f"{index:06}{file.suffix}"))
        source = open_source(folder)
        runs = [{name: read_small_files(source, *each) for name, each in WORKERS.items()} for _ in range(rounds)]
    summary = {}
    for when in ("all", "later"):
        for name in WORKERS:
            rates = [run[name][when] for run in runs]
            speedups = [run[name][when] / run["one"][when] for run in runs]
            summary[f"images_per_second_{when}, {name}"] = round(statistics.median(rates))
            if name != "one":
                summary[f"{name}_over_one, {when}"] = round(statistics.median(speedups), 2)
    return summary


def read_small_files(source, workers, workers_kind):
    """Return images per second of a whole run, and of what follows the first quarter, within which processes are started."""
    batches = load_batches(
        source.iter_images(range(len(source))),
        PREPROCESSINGS["pytorch-fid"].resize,
        size=INPUT_SIZE,
        batch_size=BATCH,
        workers=workers,
        workers_kind=workers_kind,
        skip_bad_images=False,
        is_left_to_device=is_ordinary,
    )
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch.image_refs)
        if count == len(source) // 4:
            later = time.perf_counter()
    end = time.perf_counter()
    return {"all": count / (end - start), "later": 0.75 * count / (end - later)}


def find_peers():
    """Return the names of the packages of PEERS that are installed."""
    return [name for name in PEERS if list(importlib.metadata.distributions(name=name))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512, help="Number of images of each kind.")
    parser.add_argument("--from", dest="photographs", metavar="PHOTOGRAPHS", help="Folder or archive of photographs.")
    parser.add_argument("--kinds", help="Kinds to measure, separated by commas; all by default.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    photographs = list(iter_photographs(args.photographs) if args.photographs else iter_bundled_photographs())
    readers, load = find_readers(), CpuLoad()
    started, kinds = time.process_time(), {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, path in write_inputs(Path(folder), photographs, args.images).items():
            if not args.kinds or kind in args.kinds.split(","):
                kinds[kind] = measure_kind(path, readers, args.rounds)
                print(kind, kinds[kind], file=sys.stderr)
        small_files = {}
        for kind in NUM_SMALL_FILES:
            if not args.kinds or kind in args.kinds.split(","):
                small_files[kind] = measure_many_small_files(Path(folder, kind), args.rounds)
                print("many", kind, small_files[kind], file=sys.stderr)
    other = load.busy_seconds()
    result = {
        "machine": describe_machine("frechet", "imagecodecs", "numpy", "pillow", "simplejpeg", *find_peers()),
        "images": args.images,
        "other_load": None if other is None else round(max(0.0, other - (time.process_time() - started)), 1),
        "kinds": kinds,
        "many_small_files": small_files,
    }
    write_result(result, args.output)


if __name__ == "__main__":
    main()
