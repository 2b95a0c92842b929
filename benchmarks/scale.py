"""The cost model of docs/scale.md: stages measured alone, the model checked against whole runs, and carried further.

    python benchmarks/scale.py --weights FILE.pth [--images 1536] [--turns 1] [--output FILE]

Images are JPEG photographs of 256 x 256 as in photographs.py, in float32. The whole runs are `frechet stats` with EfficientNet-Lite0,
in one process and under torchrun in two, each pinned to half of the cores, in turn; the model is carried further with Inception.
"""

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import machine
from photographs import shipped, write_crops
from throughput import measure_beside_others

from frechet.engines.crew import part_bytes
from frechet.engines.parts import read_part
from frechet.features.extract import Part
from frechet.features.settings import Settings
from frechet.images.decode import decode
from frechet.images.loader import PART
from frechet.images.signs import SIGN, sign_of
from frechet.images.sources import open_source
from frechet.machine import usable_cores
from frechet.statistics.gaussian import Gaussian

SAMPLE, BATCH = 64, 4
JITTER = 0.1  # of a worker's time for a part, as a share (standard deviation of its logarithm), assumed


def stages(folder, settings):
    """Core-seconds: of an image decoded and through the network; of a part gathered and merged; seconds to list an image."""
    extractor = settings.load()
    started = time.perf_counter()
    source = open_source(folder)
    listed = (time.perf_counter() - started) / len(source)
    pixels = np.empty((SAMPLE, extractor.pixels, extractor.pixels, 3), np.float32)

    def decoded():
        for picture, out in zip(source.pictures(range(SAMPLE)), pixels, strict=True):
            rgb, _, kind = decode(picture)
            extractor.convention.resize(rgb, out)
            sign_of(rgb, kind)

    def through():
        batches = (pixels[start : start + BATCH] for start in range(0, SAMPLE, BATCH))
        return np.concatenate(list(extractor.runner.map(batches)))

    decoded()
    features = np.tile(through(), (-(-PART // SAMPLE), 1))[:PART]
    part = Part(np.arange(PART), features, np.zeros(PART, SIGN), [], [])
    before = Gaussian.of(features)
    return {
        "list": listed,
        "decode": core_seconds(decoded) / SAMPLE,
        "network": core_seconds(through, turns=2) / SAMPLE,
        "gather": core_seconds(lambda: read_part(io.BytesIO(part_bytes(part)))),
        "merge": core_seconds(lambda: before.update(features)),
    }


def core_seconds(call, turns=3):
    """Processor time of a call, all threads together."""
    taken = []
    for _ in range(turns):
        started = time.process_time()
        call()
        taken.append(time.process_time() - started)
    return statistics.median(taken)


def work(n, cost):
    """The model: processor seconds of a run beyond its start. They share all cores, which are never idle meanwhile."""
    parts = -(-n // PART)
    return n * (cost["decode"] + cost["network"]) + parts * (cost["gather"] + cost["merge"])


def command(folder, out, processes):
    stats = ["frechet", "stats", str(folder), str(out), "--extractor", "efficientnet-lite0", "--force"]
    if processes == 1:
        return [sys.executable, "-m", *stats]
    return [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "-m", *stats]


def checked(folder, few, count, turns, cost):
    """Whole runs beside what the model says of them, one process and two in turn."""
    runs = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as place:
        out = Path(place, "s.npz")
        for _ in range(turns):
            for processes, taken in runs.items():
                started = measure_beside_others(command(few, out, processes), {})
                taken.append((started, measure_beside_others(command(folder, out, processes), {})))
    ratios = [beyond(*one)[0] / beyond(*two)[0] for one, two in zip(runs[1], runs[2], strict=True)]
    return {
        "one_process": [row(*run, count, cost) for run in runs[1]],
        "two_processes": [row(*run, count, cost) for run in runs[2]],
        "one_over_two_processes": round(statistics.median(ratios), 3),
    }


def beyond(started, run):
    """(seconds, processor seconds) of a run beyond one of two images."""
    return run[0] - started[0], run[1] - started[1]


def row(started, run, count, cost):
    """A run: `busy` is the share it took of the cores, `others` what everything else took (where others took some, seconds
    are as long as the cores that were left make them).
    """
    wall, processor = beyond(started, run)
    cores = usable_cores()
    left = cores * (1 - (run[4] or 0))
    return {
        "start_seconds": round(started[0], 2),
        "seconds": round(wall, 2),
        "model_seconds": round(work(count, cost) / left, 2),
        "model_over_run": round(work(count, cost) / left / wall, 3),
        "processor_seconds": round(processor, 2),
        "model_processor_seconds": round(work(count, cost), 2),
        "model_over_run_in_processor_seconds": round(work(count, cost) / processor, 3),
        "others": run[4] and round(run[4], 3),
        "busy": round(processor / wall / cores, 3),
        "busy_of_what_was_left": round(processor / wall / left, 3),
    }


def simulated(n, workers, rate, gather, collectors):
    """Seconds until n images are merged: workers finish parts with jitter, each collector takes its own in order.

    Args:
        rate: images a second of one worker.
        gather: seconds that a collector takes for a part.
        collectors: over which the workers are divided; the first merges what the others have in the end.
    """
    random = np.random.default_rng(0)
    parts = max(1, n // PART)
    own = -(-parts // collectors)  # of one collector; all are alike
    crew = max(1, workers // collectors)
    turns = -(-own // crew)
    took = PART / rate * np.exp(random.normal(0, JITTER, (turns, crew)))
    arrived = np.cumsum(took, axis=0).ravel()[:own]
    order = np.arange(1, own + 1)
    return float(np.maximum.accumulate(arrived - (order - 1) * gather)[-1] + own * gather + (collectors - 1) * gather)


def carried_further(cost, cores):
    """Hours for 10^4 to 10^9 images on 1 to 10,000 workers of this kind, with one collector and with as many as are needed."""
    rate = cores / (cost["decode"] + cost["network"])
    gather = (cost["gather"] + cost["merge"]) / cores
    limit = PART / gather
    table = {}
    for n in (10**4, 10**5, 10**6, 10**7, 10**8, 10**9):
        for workers in (1, 10, 100, 1000, 10_000):
            needed = max(1, round(1.25 * workers * rate / limit + 0.5))
            table[f"{n:.0e} images, {workers} workers"] = {
                "hours_one_collector": round(simulated(n, workers, rate, gather, 1) / 3600, 3),
                "collectors": needed,
                "hours": round(simulated(n, workers, rate, gather, needed) / 3600, 3),
            }
    return {"worker_images_per_second": round(rate, 2), "collector_images_per_second": round(limit), "runs": table}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1536)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, few = Path(place, "images"), Path(place, "few")
        photographs = list(shipped())
        write_crops(photographs, folder, args.images, seed=0)
        write_crops(photographs, few, 2, seed=1)
        cost = {
            "efficientnet-lite0": stages(folder, Settings(extractor="efficientnet-lite0")),
            "inception": stages(folder, Settings(weights=args.weights)),
        }
        checks = checked(folder, few, args.images, args.turns, cost["efficientnet-lite0"])
    result = {
        "machine": machine("frechet", "numpy", "openvino", "pillow", "torch"),
        "images": args.images,
        "core_seconds": {
            extractor: {name: float(f"{value:.4g}") for name, value in costs.items()}
            for extractor, costs in cost.items()
        },
        "checked": checks,
        "carried_further": carried_further(cost["inception"], usable_cores()),
    }
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
