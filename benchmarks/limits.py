"""The processor's matrix rate beside the network's: alone, in each of its stages, and in the whole pipeline.

    python benchmarks/limits.py [--output FILE]

The network is Inception-2015 with random weights (rates do not depend on them). Its multiplications are counted by
running it over ops that only track shapes.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import openvino as ov
from machine import machine
from openvino import opset13 as opset

from frechet.backends.openvino import compile_network
from frechet.execution.collect import collect_from
from frechet.execution.settings import Settings
from frechet.features.registry import LoadedExtractor
from frechet.features.spec import Recipe
from frechet.images.sources.registry import open_source
from frechet.networks import inception
from frechet.preprocessing.registry import CONVENTIONS

RUNS, IMAGES, BATCH = 5, 96, 4
STAGES = ("64", "192", "768", "2048")  # taps, in order


class Shapes:
    """Ops on (channels, height, width) that remember weights' shapes and count multiplications."""

    def __init__(self):
        self.multiplications = 0

    def enter(self, x):
        return x

    def conv(self, x, kernel, bias, *, stride=1, padding=((0, 0), (0, 0)), groups=1, activation="none"):
        out, width, kh, kw = kernel.shape
        height = (x[1] + sum(padding[0]) - kh) // stride + 1
        breadth = (x[2] + sum(padding[1]) - kw) // stride + 1
        self.multiplications += out * width * kh * kw * height * breadth
        return out, height, breadth

    def segment(self, part, x):
        return part(x)

    def max_pool(self, x, *, size, stride, padding=0):
        return x[0], *((side + 2 * padding - size) // stride + 1 for side in x[1:])

    average_pool = max_pool

    def relu(self, x):
        return x

    def concat(self, parts):
        return sum(part[0] for part in parts), *parts[0][1:]

    def global_mean(self, x):
        return x[:1]


def random_weights():
    random = np.random.default_rng(0)
    folded = {}
    for name, out, width, kh, kw in _shapes():
        kernel = random.standard_normal((out, width, kh, kw), np.float32) * np.float32((2 / (width * kh * kw)) ** 0.5)
        folded[name] = kernel, np.zeros(out, np.float32)
    return folded


def _shapes():
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from seeded_weights import shapes

    return shapes()


def matrix_rate(precision, n=2048):
    """Multiply-adds a second of one large matrix product by OpenVINO, twice that in operations."""
    random = np.random.default_rng(0)
    left = opset.parameter([n, n], np.float32)
    right = opset.constant(random.random((n, n), dtype=np.float32))
    model = ov.Model([opset.matmul(left, right, False, False)], [left])
    hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
    request = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint}).create_infer_request()
    x = random.random((n, n), dtype=np.float32)
    request.infer([x])
    return n**3 / min(_timed(lambda: request.infer([x])) for _ in range(8))


def multiplications_to(tap, weights):
    """Multiply-adds that one image takes up to a tap."""
    counter = Shapes()
    inception.inception(counter, (3, 299, 299), weights, [tap])
    return counter.multiplications


def network_to(tap, weights, convention, precision):
    """The network up to a tap, compiled."""
    return compile_network(
        lambda ops, x: inception.inception(ops, ops.scale_shift(x, convention.scale, convention.shift), weights, [tap]),
        pixels=299,
        precision=precision,
    )


def stages(upto, multiplications, matrix):
    """What lies between two taps: its share of the work and of the time, and of the matrix rate that it reaches."""
    found, before = {}, None
    for tap in STAGES:
        work = multiplications[tap] - (multiplications[before] if before else 0)
        seconds = [t - (upto[before][run] if before else 0) for run, t in enumerate(upto[tap])]
        found[f"to {tap}"] = {
            "share_of_work": round(work / multiplications["2048"], 3),
            "share_of_time": round(statistics.median(s / t for s, t in zip(seconds, upto["2048"], strict=True)), 3),
            "share_of_matrix_rate": round(
                statistics.median(work / s / rate for s, rate in zip(seconds, matrix, strict=True)), 3
            ),
        }
        before = tap
    return found


def _timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    args = parser.parse_args()
    weights, convention = random_weights(), CONVENTIONS["pytorch-fid"]
    multiplications = {tap: multiplications_to(tap, weights) for tap in STAGES}
    whole = multiplications["2048"]
    runners = {tap: network_to(tap, weights, convention, args.precision) for tap in STAGES}
    runner = runners["2048"]
    extractor = LoadedExtractor(
        runner=runner, convention=convention, pixels=299, dims=2048, recipe=Recipe(), backend="openvino"
    )
    batches = [np.random.default_rng(0).random((BATCH, 299, 299, 3), np.float32) * 255 for _ in range(IMAGES // BATCH)]
    small = np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), np.uint8)
    for each in runners.values():
        list(each.map(batches[:2]))
    upto = {tap: [] for tap in STAGES}
    rates = {"matrix": [], "network": [], "pipeline": []}
    for _ in range(RUNS):  # in turn, since the machine's own speed drifts
        rates["matrix"].append(matrix_rate(args.precision) / whole)
        for tap, each in runners.items():
            upto[tap].append(_timed(lambda each=each: list(each.map(batches))) / IMAGES)
        rates["network"].append(1 / upto["2048"][-1])
        rates["pipeline"].append(IMAGES / _timed(lambda: collect_from(open_source(small), Settings(), extractor)))
    result = {
        "machine": machine("frechet", "numpy", "openvino", "pillow"),
        "precision": args.precision,
        "multiply_adds_per_image": whole,
        "images_per_second": {name: round(statistics.median(values), 2) for name, values in rates.items()},
        "share_of_matrix_rate": {
            name: round(statistics.median(v / m for v, m in zip(rates[name], rates["matrix"], strict=True)), 3)
            for name in ("network", "pipeline")
        },
        "stages": stages(upto, multiplications, [rate * whole for rate in rates["matrix"]]),
        "all_runs": {name: [round(value, 2) for value in values] for name, values in rates.items()},
    }
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
