"""Measure how close the network, its stages and the whole pipeline come to the rate of the processor for matrix products.

    python benchmarks/limits.py [--output FILE]

The network is Inception-2015 with random weights (speeds do not depend on them). Its multiplications are counted by running it
with ops that only track shapes.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import openvino as ov
from machine import describe_machine, write_result
from openvino import opset13 as opset

from frechet.backends.openvino import compile_network
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.features.extractor import LoadedExtractor
from frechet.features.spec import FeatureSpec
from frechet.images.sources.registry import open_source
from frechet.networks import inception
from frechet.preprocessing.registry import PREPROCESSINGS

RUNS, IMAGES, BATCH = 5, 96, 4
LAYERS = ("64", "192", "768", "2048")  # outputs of the network, in order


class ShapeOps:
    """Ops on shapes (channels, height, width) that count multiplications."""

    def __init__(self):
        self.multiplications = 0

    def from_nhwc(self, x):
        return x

    def conv(self, x, kernel, bias, *, stride=1, padding=((0, 0), (0, 0)), groups=1, activation="none"):
        out, width, kh, kw = kernel.shape
        height = (x[1] + sum(padding[0]) - kh) // stride + 1
        out_width = (x[2] + sum(padding[1]) - kw) // stride + 1
        self.multiplications += out * width * kh * kw * height * out_width
        return out, height, out_width

    def run_segment(self, part, x):
        return part(x)

    def max_pool(self, x, *, size, stride, padding=0):
        return x[0], *((length + 2 * padding - size) // stride + 1 for length in x[1:])

    avg_pool = max_pool

    def relu(self, x):
        return x

    def concat(self, parts):
        return sum(part[0] for part in parts), *parts[0][1:]

    def global_average_pool(self, x):
        return x[:1]


def make_random_weights():
    random = np.random.default_rng(0)
    folded = {}
    for name, out, width, kh, kw in _load_conv_shapes():
        kernel = random.standard_normal((out, width, kh, kw), np.float32) * np.float32((2 / (width * kh * kw)) ** 0.5)
        folded[name] = kernel, np.zeros(out, np.float32)
    return folded


def _load_conv_shapes():
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    from seeded_weights import iter_conv_shapes

    return iter_conv_shapes()


def measure_matrix_rate(precision, n=2048):
    """Return the multiply-adds per second of one large matrix product in OpenVINO."""
    random = np.random.default_rng(0)
    left = opset.parameter([n, n], np.float32)
    right = opset.constant(random.random((n, n), dtype=np.float32))
    model = ov.Model([opset.matmul(left, right, False, False)], [left])
    hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
    request = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint}).create_infer_request()
    x = random.random((n, n), dtype=np.float32)
    request.infer([x])
    return n**3 / min(_time_call(lambda: request.infer([x])) for _ in range(8))


def count_multiplications(layer, weights):
    """Count the multiply-adds per image up to a layer."""
    counter = ShapeOps()
    inception.inception(counter, (3, 299, 299), weights, [layer])
    return counter.multiplications


def compile_up_to(layer, weights, preprocessing, precision):
    """Compile the network up to a layer."""
    return compile_network(
        lambda ops, x: inception.inception(
            ops, ops.scale_shift(x, preprocessing.scale, preprocessing.shift), weights, [layer]
        ),
        input_size=299,
        precision=precision,
    )


def summarize_stages(seconds_up_to, multiplications, matrix):
    """Return for each stage between two layers its share of work and time, and the share of the matrix rate it reaches."""
    stages, previous = {}, None
    for layer in LAYERS:
        work = multiplications[layer] - (multiplications[previous] if previous else 0)
        seconds = [t - (seconds_up_to[previous][run] if previous else 0) for run, t in enumerate(seconds_up_to[layer])]
        stages[f"to_{layer}"] = {
            "share_of_work": round(work / multiplications["2048"], 3),
            "share_of_time": round(
                statistics.median(s / t for s, t in zip(seconds, seconds_up_to["2048"], strict=True)), 3
            ),
            "share_of_matrix_rate": round(
                statistics.median(work / s / rate for s, rate in zip(seconds, matrix, strict=True)), 3
            ),
        }
        previous = layer
    return stages


def _time_call(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    args = parser.parse_args()
    weights, preprocessing = make_random_weights(), PREPROCESSINGS["pytorch-fid"]
    multiplications = {layer: count_multiplications(layer, weights) for layer in LAYERS}
    whole = multiplications["2048"]
    runners = {layer: compile_up_to(layer, weights, preprocessing, args.precision) for layer in LAYERS}
    runner = runners["2048"]
    extractor = LoadedExtractor(
        runner=runner, preprocessing=preprocessing, input_size=299, dims=2048, spec=FeatureSpec(), backend="openvino"
    )
    batches = [np.random.default_rng(0).random((BATCH, 299, 299, 3), np.float32) * 255 for _ in range(IMAGES // BATCH)]
    small = np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), np.uint8)
    for each in runners.values():
        list(each.map(batches[:2]))
    seconds_up_to = {layer: [] for layer in LAYERS}
    rates = {"matrix": [], "network": [], "pipeline": []}
    for _ in range(RUNS):  # in turn, since the machine's own speed drifts
        rates["matrix"].append(measure_matrix_rate(args.precision) / whole)
        for layer, each in runners.items():
            seconds_up_to[layer].append(_time_call(lambda each=each: list(each.map(batches))) / IMAGES)
        rates["network"].append(1 / seconds_up_to["2048"][-1])
        rates["pipeline"].append(
            IMAGES / _time_call(lambda: collect_statistics(open_source(small), Settings(), extractor))
        )
    result = {
        "machine": describe_machine("frechet", "numpy", "openvino", "pillow"),
        "precision": args.precision,
        "multiply_adds_per_image": whole,
        "images_per_second": {name: round(statistics.median(values), 2) for name, values in rates.items()},
        "share_of_matrix_rate": {
            name: round(statistics.median(v / m for v, m in zip(rates[name], rates["matrix"], strict=True)), 3)
            for name in ("network", "pipeline")
        },
        "stages": summarize_stages(seconds_up_to, multiplications, [rate * whole for rate in rates["matrix"]]),
        "all_runs": {name: [round(value, 2) for value in values] for name, values in rates.items()},
    }
    write_result(result, args.output)


if __name__ == "__main__":
    main()
