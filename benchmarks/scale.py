"""The cost model of docs/scale.md: stages measured alone, the model checked against whole runs, and carried further.

    python benchmarks/scale.py --weights FILE.pth [--from PHOTOGRAPHS] [--images 1536,512] [--output FILE]
    python benchmarks/scale.py --earlier FILE [--output FILE]

Images are JPEG photographs of 256 x 256 as in photographs.py. The whole runs are `frechet stats` with EfficientNet-Lite0 (the first
number of images) and Inception (the second), in float32 and, where the processor has it, in bfloat16: one process, then two under
torchrun, each pinned to half of the cores. The model is carried further with Inception. With --earlier, stages of images and whole
runs are those of an earlier result; the stages of large parts are measured and the model is carried further anew.
"""

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from machine import describe_machine
from photographs import iter_bundled_photographs, iter_photographs, write_crops
from throughput import run_measured_with_load, write

from frechet._internal.cpu import process_cpu_count
from frechet.errors import RequestError
from frechet.execution.chunks import LARGE_CHUNK_SIZE, LARGE_CHUNK_THRESHOLD, Chunk, read_chunk
from frechet.execution.reduce import MergedChunks
from frechet.execution.settings import Settings
from frechet.execution.workers import encode_chunk
from frechet.images.checks import IMAGE_CHECK, check_image
from frechet.images.decode import decode
from frechet.images.loader import CHUNK_SIZE
from frechet.images.sources.registry import open_source
from frechet.statistics.accumulator import Accumulator, LayerSummary

SAMPLE, BATCH = 64, 4
DIMS = {"efficientnet-lite0": 1280, "inception": 2048}
JITTER = 0.1  # of a worker's time for a part, as a share (standard deviation of its logarithm), assumed


def measure_stages(folder, settings):
    """Core-seconds. Of an image: read, decode, resize, network. Of a part: statistic, gather (sent and received).

    All cores are at work, as in a run: two that share one's units are slower together than one of them alone.
    """
    extractor = settings.load()
    source = open_source(folder)
    pictures = list(source.iter_images(range(SAMPLE)))
    pixels = np.empty((SAMPLE, extractor.input_size, extractor.input_size, 3), np.float32)
    images = [decode(image_ref).rgb for image_ref in pictures]

    def decode_and_check(image_ref):
        found = decode(image_ref)
        check_image(found.rgb, found.format)

    def run_network():
        batches = (pixels[start : start + BATCH] for start in range(0, SAMPLE, BATCH))
        return np.concatenate(list(extractor.runner.map(batches)))

    reading = time_in_threads(Path.read_bytes, sorted(folder.iterdir())[:SAMPLE])
    decoding = time_in_threads(decode_and_check, pictures)
    resizing = time_in_threads(extractor.preprocessing.resize, images, pixels)
    run_network()
    network = measure_core_seconds(run_network) / SAMPLE
    features = np.tile(run_network(), (-(-CHUNK_SIZE // SAMPLE), 1))[:CHUNK_SIZE]
    part = make_small_chunk(0, features)
    accumulator = Accumulator(extractor.total_dims, 10 * CHUNK_SIZE, 0, keep_all=False)
    return {
        "read": reading,
        "decode": max(0.0, decoding - reading),
        "resize": resizing,
        "network": network,
        "statistic": measure_core_seconds(lambda: accumulator.merge(part.layers["features"])),
        "gather": measure_core_seconds(lambda: read_chunk(io.BytesIO(encode_chunk(part)))),
    }


def measure_large_chunk_stages(dims):
    """Core-seconds of a large part: condense and send by whoever computes it, receive and merge by the first process; its bytes.

    The side has a million images: of more, a part holds fewer rows.
    """
    random = np.random.default_rng(0)
    parts = [
        make_small_chunk(start, random.random((CHUNK_SIZE, dims), np.float32))
        for start in range(0, LARGE_CHUNK_SIZE, CHUNK_SIZE)
    ]

    def make_accumulator():
        return MergedChunks({"features": Accumulator(dims, LARGE_CHUNK_THRESHOLD, 0, keep_all=False)})

    def condensed():
        merged = make_accumulator()
        for part in parts:
            merged.add(part)
        return merged.to_chunk()

    part = condensed()
    data, accumulator, summary = encode_chunk(part), make_accumulator().layers["features"], part.layers["features"]
    for number in range(LARGE_CHUNK_THRESHOLD // LARGE_CHUNK_SIZE):  # or its sample would still grow
        accumulator.merge(replace(summary, indices=summary.indices + number * LARGE_CHUNK_SIZE))
    return {
        "condense": measure_core_seconds(condensed),
        "send": measure_core_seconds(lambda: encode_chunk(part)),
        "receive": measure_core_seconds(lambda: read_chunk(io.BytesIO(data))),
        "merge": measure_core_seconds(
            lambda: accumulator.merge(replace(summary, indices=summary.indices + LARGE_CHUNK_THRESHOLD))
        ),
        "bytes": len(data),
    }


def make_small_chunk(start, features):
    indices = np.arange(start, start + len(features))
    layers = {"features": LayerSummary(indices=indices, rows=features)}
    checks = np.zeros(len(features), IMAGE_CHECK)
    return Chunk(indices=indices, layers=layers, image_checks=checks, notes=[], skipped_images=[])


def time_in_threads(call, *items):
    """Core-seconds of one call, with a thread on each core."""
    with ThreadPoolExecutor(process_cpu_count()) as pool:
        return measure_core_seconds(lambda: list(pool.map(call, *items))) / len(items[0])


def measure_core_seconds(call, repetitions=3):
    """Processor time of a call, all threads together; the first is not counted."""
    call()
    taken = []
    for _ in range(repetitions):
        started = time.process_time()
        call()
        taken.append(time.process_time() - started)
    return statistics.median(taken)


def image_core_seconds(cost):
    return cost["read"] + cost["decode"] + cost["resize"] + cost["network"]


def model_core_seconds(n, processes, cost):
    """The model: processor seconds of a run beyond its start. They share all cores, which are never idle meanwhile."""
    parts = -(-n // CHUNK_SIZE)
    sent = parts - -(-parts // processes)  # by all but the first process
    return n * image_core_seconds(cost) + parts * cost["statistic"] + sent * cost["gather"]


def make_command(folder, out, processes, flags):
    stats = ["frechet", "stats", str(folder), str(out), "--force", *flags]
    if processes == 1:
        return [sys.executable, "-m", *stats]
    return [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "-m", *stats]


def check_model(folders, cost, flags):
    """Whole runs beside what the model says of them: one process, then two pinned ones.

    Args:
        folders: of two images, whose run is a start, and of `count`, with that number.
        cost: as measured by `stages`.
        flags: of the command.
    """
    few, many, count = folders
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for processes in (1, 2):
            started, run = (
                run_measured_with_load(make_command(folder, Path(place, "s.npz"), processes, flags), {})
                for folder in (few, many)
            )
            rows.append(
                {
                    "processes": processes,
                    "images": count,
                    **compare_run_with_model(started, run, model_core_seconds(count, processes, cost)),
                }
            )
            print(*flags[:2], rows[-1], file=sys.stderr, flush=True)
    one, two = rows
    return {"runs": rows, "one_process_over_two": round(one["processor_seconds"] / two["processor_seconds"], 3)} | {
        "one_process_over_two_in_seconds": round(one["seconds"] / two["seconds"], 3)
    }


def compare_run_with_model(started, run, model):
    """A run beyond its start: `busy` is the share it took of the cores, `others` what everything else took (where others
    took some, seconds are as long as the cores that were left make them).
    """
    wall, processor = run[0] - started[0], run[1] - started[1]
    cores = process_cpu_count()
    left = cores * (1 - (run[4] or 0))
    return {
        "start_seconds": round(started[0], 2),
        "seconds": round(wall, 2),
        "model_seconds": round(model / left, 2),
        "model_over_run": round(model / left / wall, 3),
        "processor_seconds": round(processor, 2),
        "model_processor_seconds": round(model, 2),
        "model_over_run_in_processor_seconds": round(model / processor, 3),
        "others": run[4] and round(run[4], 3),
        "busy": round(processor / wall / cores, 3),
    }


def simulate_seconds(parts, workers, seconds_per_chunk, gather):
    """Seconds until all parts are gathered: workers finish them with jitter, one process gathers them in order.

    Args:
        parts: how many; all are alike.
        workers: over which they are dealt out in turn.
        took: seconds of a worker for a part.
        gather: seconds of the one that gathers for a part.
    """
    random = np.random.default_rng(0)
    n_active_workers = min(workers, parts)
    each = seconds_per_chunk * np.exp(random.normal(0, JITTER, (-(-parts // n_active_workers), n_active_workers)))
    arrived = np.cumsum(each, axis=0).ravel()[:parts]
    waits = arrived - np.arange(parts) * gather
    return float(waits.max() + parts * gather)


def extrapolate(cost, large, dims, cores):
    """Hours for 10^4 to 10^9 images on 1 to 10,000 machines of this kind beside one that only gathers.

    Args:
        cost: of images and small parts.
        large: of large parts, in which more than a million images are cut.
    """
    rate = cores / image_core_seconds(cost)
    small = {"images": CHUNK_SIZE, "took": CHUNK_SIZE / rate, "gather": (cost["gather"] + cost["statistic"]) / cores}
    many = {  # received and merged by one core, condensed by all
        "images": LARGE_CHUNK_SIZE,
        "took": LARGE_CHUNK_SIZE / rate + (large["condense"] + large["send"]) / cores,
        "gather": large["receive"] + large["merge"],
    }
    table, sizes = [], []
    for n in (10**4, 10**5, 10**6, 10**7, 10**8, 10**9):
        kind = many if n > LARGE_CHUNK_THRESHOLD else small
        parts = -(-n // kind["images"])
        sizes.append(
            {
                "images": n,
                "gigabytes": round_significant(n * dims * 4e-9 if kind is small else parts * large["bytes"] / 1e9),
            }
        )
        for workers in (1, 10, 100, 1000, 10_000):
            hours = simulate_seconds(parts, workers, kind["took"], kind["gather"]) / 3600
            table.append({"images": n, "workers": workers, "parts": parts, "hours": round_significant(hours)})
    billion = -(-(10**9) // LARGE_CHUNK_SIZE) * sum(large[name] for name in ("condense", "send", "receive", "merge"))
    return {
        "worker_images_per_second": round_significant(rate),
        **{
            f"gathered_{name}_images_per_second": round_significant(kind["images"] / kind["gather"])
            for name, kind in (("small", small), ("large", many))
        },
        "small_parts_saturate_at_workers": round_significant(small["took"] / small["gather"]),
        "large_parts_saturate_at_workers": round_significant(many["took"] / many["gather"]),
        "large_parts_gigabytes_per_second_then": round_significant(large["bytes"] / many["gather"] / 1e9),
        "core_hours_of_a_billion_images": round_significant((10**9 * image_core_seconds(cost) + billion) / 3600),
        "core_hours_of_its_large_parts": round_significant(billion / 3600),
        "work_dir": sizes,
        "runs": table,
    }


def round_significant(value):
    return float(f"{value:.4g}")


def get_supported_precisions():
    """Those that this processor computes in."""
    try:
        Settings(extractor="efficientnet-lite0", precision="bfloat16").load()
    except RequestError:
        return ["float32"]
    return ["float32", "bfloat16"]


def measure_networks(weights, counts, place):
    """Stages of images and whole runs, by network and precision."""
    networks = {
        "efficientnet-lite0": {"extractor": "efficientnet-lite0"},
        "inception": {"weights": str(weights)},
    }
    costs, checks = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        photographs = list(iter_photographs(place) if place else iter_bundled_photographs())
        few = Path(folder, "few")
        write_crops(photographs, few, 2, seed=1)
        for (network, options), count in zip(networks.items(), counts, strict=True):
            many = Path(folder, network)
            write_crops(photographs, many, count, seed=0)
            for precision in get_supported_precisions():
                key = f"{network}, {precision}"
                costs[key] = measure_stages(many, Settings(precision=precision, **options))
                flags = ["--precision", precision, *(f"--{name}={value}" for name, value in options.items())]
                checks[key] = check_model((few, many, count), costs[key], flags)
    return {
        "machine": describe_machine("frechet", "numpy", "openvino", "pillow", "torch"),
        "core_seconds": {
            key: {name: round_significant(value) for name, value in cost.items()} for key, cost in costs.items()
        },
        "checked": checks,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--images", default="1536,512", help="with EfficientNet-Lite0, with Inception")
    parser.add_argument("--from", dest="place", metavar="PHOTOGRAPHS", help="a folder or zip of photographs")
    parser.add_argument("--earlier", type=Path, help="a result whose stages of images and whole runs are taken")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if bool(args.weights) == bool(args.earlier):
        parser.error("give --weights, to measure everything, or --earlier")
    if args.earlier:
        previous = json.loads(args.earlier.read_text())
        result = {key: previous[key] for key in ("machine", "core_seconds", "checked")}
    else:
        result = measure_networks(args.weights, map(int, args.images.split(",")), args.place)
    large = {
        name: {stage: round_significant(value) for stage, value in measure_large_chunk_stages(dims).items()}
        for name, dims in DIMS.items()
    }
    result["large_parts"] = {"machine": describe_machine("frechet", "numpy"), "of_a_part": large}
    result["carried_further"] = {
        key: extrapolate(cost, large["inception"], DIMS["inception"], result["machine"]["cores"])
        for key, cost in result["core_seconds"].items()
        if key.startswith("inception")
    }
    write(result, args.output)


if __name__ == "__main__":
    main()
