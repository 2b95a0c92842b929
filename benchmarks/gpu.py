"""Measure frechet on a GPU: parity with the processor, throughput, distances and losses. One script, one JSON file.

    PYTHONPATH=src python benchmarks/gpu.py [--device cuda] [--seconds 420] [--output FILE]
    PYTHONPATH=src python benchmarks/gpu.py --smoke          # every section once, on the processor, with few images

It needs PyTorch, installs and downloads nothing, and makes its own images and random weights (speeds do not depend on them). Sections
that do not fit into the time are left out, and listed; one that fails is reported with its error. If pytorch-fid is installed, its network is measured in the same run.

| section | measures |
|---|---|
| parity | largest difference of Inception features between device and processor, over the largest feature, by preprocessing and place of the resize |
| throughput | images per second of the network from uint8 images of 256 x 256, by precision and batch size |
| pipeline | images per second from an .npz to statistics, resized on the host and on the device |
| distance | seconds of the Fréchet distance of two sets of features (n, 2048), on the device and on the processor |
| small_batches | seconds of the distance of n images against a stored reference, as in the tables of FastFID |
| loss | seconds and peak memory of FIDLoss with its backward pass |
"""

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from machine import describe_machine, write_result
from PIL import Image
from weights import write_weights

from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.images.sources.registry import open_source
from frechet.losses.torch import FIDLoss, frechet_distance
from frechet.statistics.feature_statistics import FeatureStatistics

DIMS = 2048
PARITY_BOUND = 2e-5  # of the largest feature, in float32
PREPROCESSINGS = ("pytorch-fid", "tensorflow", "clean", "torchmetrics")
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    device: str
    weights: Path
    sizes: tuple[int, ...]  # of the images of the parity check
    batch_sizes: tuple[int, ...]
    batches: int
    images: int
    rows: int
    small: tuple[int, ...]
    repetitions: int


def make_images(sizes, seed=0):
    """Return smooth images with noise, (h, w, 3) uint8, of these heights and other widths."""
    random = np.random.default_rng(seed)
    images = []
    for size in sizes:
        shape = size, max(16, int(size * random.uniform(0.6, 1.6)))
        coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8)).resize(
            shape[::-1], Image.Resampling.BICUBIC
        )
        noise = random.normal(0, 12, (*shape, 3))
        images.append((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8))
    return images


def make_features(n, seed, device):
    """Return features like those of Inception, (n, 2048) float32: not negative and correlated."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, 256, generator=generator) @ torch.randn(256, DIMS, generator=generator) / 16
    return (rows + torch.randn(n, DIMS, generator=generator)).clamp(min=0).to(device)


def load(scale, **options):
    return Settings(weights=scale.weights, backend="torch", **{"device": scale.device, **options}).load()


def synchronize(device):
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def time_calls(call, scale):
    """Return the median seconds of a call, after one that is not timed."""
    seconds = []
    for _ in range(scale.repetitions + 1):
        synchronize(scale.device)
        start = time.perf_counter()
        call()
        synchronize(scale.device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def measure_parity(scale):
    images, found = make_images(scale.sizes), {}
    for preprocessing in PREPROCESSINGS:
        expected = collect_rows(images, load(scale, device="cpu", preprocessing=preprocessing, preprocess_on="host"))
        for place in ("host", "device"):
            rows = collect_rows(images, load(scale, preprocessing=preprocessing, preprocess_on=place))
            difference = float(np.abs(rows - expected).max() / np.abs(expected).max())
            found[f"{preprocessing}, {place}"] = {"difference": difference, "is_within": difference <= PARITY_BOUND}
    return found


def collect_rows(images, extractor):
    return collect_statistics(open_source(images), Settings(), extractor, keep_all=True).rows


def measure_throughput(scale):
    found = {}
    for precision in PRECISIONS:
        try:
            runner = load(scale, precision=precision, preprocess_on="device").runner
        except ValueError as error:
            found[precision] = str(error)
            continue
        for size in scale.batch_sizes:
            batch = list(np.random.default_rng(0).integers(0, 256, (size, 256, 256, 3), np.uint8))
            seconds = time_calls(lambda run=runner.map, batch=batch: list(run([batch] * scale.batches)), scale)
            found[f"{precision}, {size}"] = round(size * scale.batches / seconds, 1)
    found |= measure_pytorch_fid(scale) if importlib.util.find_spec("pytorch_fid") else {}
    return found


def measure_pytorch_fid(scale):
    """Return images per second of the network of pytorch-fid in eager mode, with its own resize."""
    from pytorch_fid.inception import InceptionV3
    from throughput import torch_home

    with torch_home(scale.weights):
        network = InceptionV3([3]).to(scale.device).eval()
    size = scale.batch_sizes[-1]
    images = torch.rand(size, 3, 256, 256)

    def run():
        with torch.no_grad():
            for _ in range(scale.batches):
                network(images.to(scale.device))[0].cpu()

    return {f"pytorch-fid, {size}": round(size * scale.batches / time_calls(run, scale), 1)}


def measure_pipeline(scale):
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "images.npz")
        np.savez(path, arr_0=np.random.default_rng(0).integers(0, 256, (scale.images, 256, 256, 3), np.uint8))
        for place in ("host", "device"):
            extractor = load(scale, preprocess_on=place)
            start, processor = time.perf_counter(), time.process_time()
            collect_statistics(open_source(path), Settings(), extractor)
            found[place] = {
                "images_per_second": round(scale.images / (time.perf_counter() - start), 1),
                "processor_milliseconds_per_image": round(1000 * (time.process_time() - processor) / scale.images, 2),
            }
    return found


def measure_distance(scale):
    found = {}
    for device in dict.fromkeys((scale.device, "cpu")):
        x, y = (make_features(scale.rows, seed, device).double() for seed in (0, 1))
        start = time.perf_counter()
        terms = frechet_terms(Gaussian.from_features(x), Gaussian.from_features(y))
        found[device] = {"seconds": time.perf_counter() - start, "value": sum(map(float, terms))}
    return found


def measure_small_batches(scale):
    rows = make_features(4 * scale.rows, 1, scale.device).double()
    reference = Gaussian(rows.mean(0), covariance=torch.cov(rows.T))
    batches = {n: make_features(n, 0, scale.device) for n in scale.small}
    return {str(n): time_calls(lambda x=x: frechet_distance(x, reference), scale) for n, x in batches.items()}


def measure_loss(scale):
    reference = FeatureStatistics.from_features(make_features(scale.rows, 1, "cpu").numpy())
    loss, found = FIDLoss(reference, weights=scale.weights).to(scale.device), {}
    for n in scale.small[:2]:
        images = torch.rand(n, 3, 256, 256, device=scale.device, requires_grad=True)
        if scale.device != "cpu":
            torch.cuda.reset_peak_memory_stats(scale.device)
        found[str(n)] = {"seconds": time_calls(lambda images=images: loss(images).backward(), scale)}
        if scale.device != "cpu":
            found[str(n)]["peak_megabytes"] = round(torch.cuda.max_memory_allocated(scale.device) / 1e6)
    return found


SECTIONS = {
    "parity": measure_parity,
    "throughput": measure_throughput,
    "pipeline": measure_pipeline,
    "distance": measure_distance,
    "small_batches": measure_small_batches,
    "loss": measure_loss,
}


def make_scale(device, weights, *, smoke):
    if smoke:
        return Scale("cpu", weights, (64, 100), (2,), 1, 4, 64, (3, 4), 1)
    sizes = (16, 32, 64, 100, 256, 256, 299, 500, 1000, 4000)
    return Scale(device, weights, sizes, (32, 128, 256), 8, 4096, 10_000, (8, 16, 32, 64, 128, 256, 512), 5)


def describe_device(device):
    if torch.device(device).type != "cuda":
        return device
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "memory": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=420, help="No section starts after this many seconds.")
    parser.add_argument(
        "--smoke", action="store_true", help="Run every section once on the processor, with few images."
    )
    parser.add_argument("--output", type=Path)
    args = parser.parse_args(arguments)
    start, sections, left_out = time.perf_counter(), {}, []
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "weights.pth")
        write_weights(weights)
        scale = make_scale(args.device, weights, smoke=args.smoke)
        for name, measure_section in SECTIONS.items():
            if time.perf_counter() - start > args.seconds:
                left_out.append(name)
                continue
            try:
                sections[name] = measure_section(scale)
            except Exception as error:  # the other sections are still of use
                sections[name] = {"error": f"{type(error).__name__}: {error}"}
            print(f"{time.perf_counter() - start:.0f} s: {name} {sections[name]}", file=sys.stderr, flush=True)
    result = {
        "machine": describe_machine("frechet", "numpy", "torch"),
        "device": describe_device(scale.device),
        "smoke": args.smoke,
        "left_out": left_out,
        **sections,
    }
    write_result(result, args.output)
    failed = [name for name, section in sections.items() if "error" in section]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
