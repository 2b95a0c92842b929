"""Measure the cost model of docs/benchmarks.md: its stages alone, a check against whole runs, and its extrapolation.

    python benchmarks/scale.py --weights FILE.pth [--from PHOTOGRAPHS] [--images 1536,512] [--output FILE]
    python benchmarks/scale.py --previous FILE [--output FILE]

The images are JPEG photographs of 256 x 256 as in photographs.py. The whole runs are `frechet stats` with EfficientNet-Lite0 (the
first number of images) and Inception (the second), in float32 and, if the processor supports it, in bfloat16: in one process, and
in two under torchrun, each pinned to half of the cores. The model is extrapolated for Inception. With --previous, the stages of
images and the whole runs are taken from an earlier result; the stages of large chunks are measured and the extrapolation is
computed again.
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
from machine import describe_machine, write_result
from photographs import iter_bundled_photographs, iter_photographs, write_crops
from throughput import run_measured_with_load

from frechet._internal.cpu import process_cpu_count
from frechet.errors import RequestError
from frechet.execution.chunks import LARGE_CHUNK_SIZE, LARGE_CHUNK_THRESHOLD, Chunk, Partition, read_chunk
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
JITTER = 0.1  # assumed standard deviation of the logarithm of a worker's time per chunk


def measure_stages(folder, settings):
    """Measure core-seconds per image (read, decode, resize, network) and per chunk (statistic, gather: sent and received).

    All cores are busy, as in a run, since two hyperthreads of a core are slower together than one of them alone.
    """
    extractor = settings.load()
    source = open_source(folder)
    image_refs = list(source.iter_images(range(SAMPLE)))
    pixels = np.empty((SAMPLE, extractor.input_size, extractor.input_size, 3), np.float32)
    images = [decode(image_ref).rgb for image_ref in image_refs]

    def decode_and_check(image_ref):
        decoded = decode(image_ref)
        check_image(decoded.rgb, decoded.format)

    def run_network():
        batches = (pixels[start : start + BATCH] for start in range(0, SAMPLE, BATCH))
        return np.concatenate(list(extractor.runner.map(batches)))

    reading = time_in_threads(Path.read_bytes, sorted(folder.iterdir())[:SAMPLE])
    decoding = time_in_threads(decode_and_check, image_refs)
    resizing = time_in_threads(extractor.preprocessing.resize, images, pixels)
    run_network()
    network = measure_core_seconds(run_network) / SAMPLE
    features = np.tile(run_network(), (-(-CHUNK_SIZE // SAMPLE), 1))[:CHUNK_SIZE]
    chunk = make_small_chunk(0, features)
    accumulator = Accumulator(extractor.total_dims, 10 * CHUNK_SIZE, 0, keep_all=False)
    return {
        "read": reading,
        "decode": max(0.0, decoding - reading),
        "resize": resizing,
        "network": network,
        "statistic": measure_core_seconds(lambda: accumulator.merge(chunk.layers["features"], chunk.indices)),
        "gather": measure_core_seconds(lambda: read_chunk(io.BytesIO(encode_chunk(chunk)))),
    }


def measure_large_chunk_stages(dims):
    """Measure core-seconds and bytes of a large chunk: reduced and sent by a worker, received and merged by the coordinator.

    The set has a million images; for larger sets a chunk holds fewer rows.
    """
    random = np.random.default_rng(0)
    chunks = [
        make_small_chunk(start, random.random((CHUNK_SIZE, dims), np.float32))
        for start in range(0, LARGE_CHUNK_SIZE, CHUNK_SIZE)
    ]

    def make_accumulator():
        accumulator = Accumulator(dims, LARGE_CHUNK_THRESHOLD, 0, keep_all=False)
        return MergedChunks({"features": accumulator}, Partition(None, range(LARGE_CHUNK_THRESHOLD)))

    def reduce_chunks():
        merged = make_accumulator()
        for small_chunk in chunks:
            merged.add(small_chunk)
        return merged.to_chunk()

    chunk = reduce_chunks()
    data, accumulator, summary = encode_chunk(chunk), make_accumulator().layers["features"], chunk.layers["features"]
    for number in range(LARGE_CHUNK_THRESHOLD // LARGE_CHUNK_SIZE):  # fill the sample of rows first
        accumulator.merge(replace(summary, indices=summary.indices + number * LARGE_CHUNK_SIZE), summary.indices)
    return {
        "reduce": measure_core_seconds(reduce_chunks),
        "send": measure_core_seconds(lambda: encode_chunk(chunk)),
        "receive": measure_core_seconds(lambda: read_chunk(io.BytesIO(data))),
        "merge": measure_core_seconds(
            lambda: accumulator.merge(
                replace(summary, indices=summary.indices + LARGE_CHUNK_THRESHOLD), summary.indices
            )
        ),
        "bytes": len(data),
    }


def make_small_chunk(start, features):
    indices = np.arange(start, start + len(features))
    layers = {"features": LayerSummary(indices=indices, rows=features)}
    checks = np.zeros(len(features), IMAGE_CHECK)
    checks["digest"] = indices  # all images differ
    return Chunk(indices=indices, layers=layers, image_checks=checks, notes=[], skipped_images=[])


def time_in_threads(call, *items):
    """Return the core-seconds of one call, with a thread on each core."""
    with ThreadPoolExecutor(process_cpu_count()) as pool:
        return measure_core_seconds(lambda: list(pool.map(call, *items))) / len(items[0])


def measure_core_seconds(call, repetitions=3):
    """Return the median processor time of a call, of all threads together; the first call is not counted."""
    call()
    timings = []
    for _ in range(repetitions):
        started = time.process_time()
        call()
        timings.append(time.process_time() - started)
    return statistics.median(timings)


def image_core_seconds(cost):
    return cost["read"] + cost["decode"] + cost["resize"] + cost["network"]


def model_core_seconds(n, processes, cost):
    """Return the processor seconds of a run without its start according to the model, in which no core is idle."""
    chunks = -(-n // CHUNK_SIZE)
    sent = chunks - -(-chunks // processes)  # by all but the first process
    return n * image_core_seconds(cost) + chunks * cost["statistic"] + sent * cost["gather"]


def make_command(folder, out, processes, flags):
    stats = ["frechet", "stats", str(folder), str(out), "--force", *flags]
    if processes == 1:
        return [sys.executable, "-m", *stats]
    return [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "-m", *stats]


def check_model(folders, cost, flags):
    """Compare whole runs with the model: one process, then two pinned ones.

    Args:
        folders: a folder of two images, whose run measures the start; a folder of `count` images; and `count`.
        cost: the result of `measure_stages`.
        flags: flags of the command.
    """
    few, many, count = folders
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for processes in (1, 2):
            started, run = (
                run_measured_with_load(make_command(folder, Path(directory, "s.npz"), processes, flags), {})
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
    """Compare the time of a run without its start with the model.

    `utilization` is the fraction of the cores that the run used, `other_load` the fraction that other programs used; the
    model assumes that the run has the remaining cores.
    """
    wall, processor = run[0] - started[0], run[1] - started[1]
    cores = process_cpu_count()
    available = cores * (1 - (run[4] or 0))
    return {
        "start_seconds": round(started[0], 2),
        "seconds": round(wall, 2),
        "model_seconds": round(model / available, 2),
        "model_over_run": round(model / available / wall, 3),
        "processor_seconds": round(processor, 2),
        "model_processor_seconds": round(model, 2),
        "model_over_run_in_processor_seconds": round(model / processor, 3),
        "other_load": run[4] and round(run[4], 3),
        "utilization": round(processor / wall / cores, 3),
    }


def simulate_seconds(chunks, workers, seconds_per_chunk, gather):
    """Return the seconds until all chunks are collected: workers finish them with jitter, one process collects them in order.

    Args:
        chunks: number of chunks of equal size.
        workers: number of workers, to which chunks are assigned in turn.
        seconds_per_chunk: seconds a worker needs for a chunk.
        gather: seconds the coordinator needs for a chunk.
    """
    random = np.random.default_rng(0)
    n_active_workers = min(workers, chunks)
    each = seconds_per_chunk * np.exp(random.normal(0, JITTER, (-(-chunks // n_active_workers), n_active_workers)))
    arrived = np.cumsum(each, axis=0).ravel()[:chunks]
    waits = arrived - np.arange(chunks) * gather
    return float(waits.max() + chunks * gather)


def extrapolate(cost, large, dims, cores):
    """Return the hours for 10^4 to 10^9 images on 1 to 10,000 machines of this kind, and one that only collects chunks.

    Args:
        cost: core-seconds of images and small chunks.
        large: core-seconds and bytes of large chunks, which are used above a million images.
        dims: number of features per image.
        cores: number of cores per machine.
    """
    rate = cores / image_core_seconds(cost)
    small = {
        "images": CHUNK_SIZE,
        "seconds_per_chunk": CHUNK_SIZE / rate,
        "gather": (cost["gather"] + cost["statistic"]) / cores,
    }
    many = {  # received and merged by one core, reduced by all
        "images": LARGE_CHUNK_SIZE,
        "seconds_per_chunk": LARGE_CHUNK_SIZE / rate + (large["reduce"] + large["send"]) / cores,
        "gather": large["receive"] + large["merge"],
    }
    table, sizes = [], []
    for n in (10**4, 10**5, 10**6, 10**7, 10**8, 10**9):
        kind = many if n > LARGE_CHUNK_THRESHOLD else small
        chunks = -(-n // kind["images"])
        sizes.append(
            {
                "images": n,
                "gigabytes": round_significant(n * dims * 4e-9 if kind is small else chunks * large["bytes"] / 1e9),
            }
        )
        for workers in (1, 10, 100, 1000, 10_000):
            hours = simulate_seconds(chunks, workers, kind["seconds_per_chunk"], kind["gather"]) / 3600
            table.append({"images": n, "workers": workers, "chunks": chunks, "hours": round_significant(hours)})
    billion = -(-(10**9) // LARGE_CHUNK_SIZE) * sum(large[name] for name in ("reduce", "send", "receive", "merge"))
    return {
        "worker_images_per_second": round_significant(rate),
        **{
            f"gathered_{name}_images_per_second": round_significant(kind["images"] / kind["gather"])
            for name, kind in (("small", small), ("large", many))
        },
        "small_chunks_saturate_at_workers": round_significant(small["seconds_per_chunk"] / small["gather"]),
        "large_chunks_saturate_at_workers": round_significant(many["seconds_per_chunk"] / many["gather"]),
        "large_chunks_gigabytes_per_second_at_saturation": round_significant(large["bytes"] / many["gather"] / 1e9),
        "core_hours_of_a_billion_images": round_significant((10**9 * image_core_seconds(cost) + billion) / 3600),
        "core_hours_of_its_large_chunks": round_significant(billion / 3600),
        "work_dir": sizes,
        "runs": table,
    }


def round_significant(value):
    return float(f"{value:.4g}")


def get_supported_precisions():
    """Return the precisions that this processor supports."""
    try:
        Settings(extractor="efficientnet-lite0", precision="bfloat16").load()
    except RequestError:
        return ["float32"]
    return ["float32", "bfloat16"]


def measure_networks(weights, counts, photographs_path):
    """Measure stages of images and whole runs, by network and precision."""
    networks = {
        "efficientnet-lite0": {"extractor": "efficientnet-lite0"},
        "inception": {"weights": str(weights)},
    }
    costs, checks = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        photographs = list(iter_photographs(photographs_path) if photographs_path else iter_bundled_photographs())
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
    parser.add_argument(
        "--images", default="1536,512", help="Number of images with EfficientNet-Lite0 and with Inception."
    )
    parser.add_argument("--from", dest="photographs", metavar="PHOTOGRAPHS", help="Folder or archive of photographs.")
    parser.add_argument(
        "--previous", type=Path, help="Earlier result from which stages of images and whole runs are taken."
    )
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if bool(args.weights) == bool(args.previous):
        parser.error("pass either --weights, to measure everything, or --previous")
    if args.previous:
        previous = json.loads(args.previous.read_text())
        result = {key: previous[key] for key in ("machine", "core_seconds", "checked")}
    else:
        result = measure_networks(args.weights, map(int, args.images.split(",")), args.photographs)
    large = {
        name: {stage: round_significant(value) for stage, value in measure_large_chunk_stages(dims).items()}
        for name, dims in DIMS.items()
    }
    result["large_chunks"] = {"machine": describe_machine("frechet", "numpy"), "per_chunk": large}
    result["extrapolated"] = {
        key: extrapolate(cost, large["inception"], DIMS["inception"], result["machine"]["cores"])
        for key, cost in result["core_seconds"].items()
        if key.startswith("inception")
    }
    write_result(result, args.output)


if __name__ == "__main__":
    main()
