"""Measure what `frechet diagnose` costs beyond the passes of the network: decoding, crops, resizes, and the distances.

The generated images are the first half of some photographs, cropped to 256 x 256 with ADM's code and blurred a little, as
.png; the reference is the other half, as it is. Networks are loaded once, before the clock starts. Four programs run in turn:

* `frechet.diagnose`;
* `network`: the networks alone, on the distinct inputs, which are in memory already;
* `passes`: one pass per preprocessing and, for the photographs, per crop, over decoded images in memory: crop, resize, network;
* `separate`: the same passes by `frechet.collect`, which decodes the images again for each of them.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from machine import CpuLoad, describe_machine, write_result
from PIL import Image, ImageFilter

import frechet
from frechet.evaluation.diagnosis import prepare
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.features.registry import EXTRACTORS
from frechet.images.sources.memory import open_objects
from frechet.images.sources.registry import open_source
from frechet.preprocessing.crop import CROPS, Crop

SIZE, ROUNDS = 256, 5


def write_samples(photographs, folder, count):
    """Write blurred crops of the first half of the photographs, and the other half unchanged."""
    (folder / "samples").mkdir()
    (folder / "photographs").mkdir()
    source = open_source(photographs)
    count = count or len(source)
    for image in source.iter_images(range(count)):
        pixels = image.load().convert("RGB")
        if image.index < count // 2:
            cropped = Image.fromarray(Crop("adm", SIZE).apply(np.asarray(pixels)))
            cropped.filter(ImageFilter.GaussianBlur(0.5)).save(folder / "samples" / f"{image.index:04d}.png")
        else:
            pixels.save(folder / "photographs" / f"{image.index:04d}.jpg", quality=95)
    return folder / "samples", folder / "photographs"


def cache_networks():
    """Let `Settings.load` load each network once."""
    loaded, load = {}, Settings.load

    def load_once(settings, *arguments):
        if settings.preprocessing not in loaded:
            loaded[settings.preprocessing] = load(settings, *arguments)
        return loaded[settings.preprocessing]

    Settings.load = load_once


def measure(function):
    """Return (result, wall seconds, processor seconds of this process, of other programs)."""
    load, cpu = CpuLoad(), time.process_time()
    result = function()
    wall, own, busy = time.perf_counter() - load.wall, time.process_time() - cpu, load.busy_seconds()
    return result, {
        "wall_s": wall,
        "cpu_s": own,
        "other_programs_cpu_s": None if busy is None else max(busy - own, 0.0),
    }


def capture_inputs(diagnose):
    """Return the result of a diagnosis, and the distinct inputs of its networks by normalization."""
    inputs, original = defaultdict(list), prepare.Preparation.prepare

    def prepare_and_keep(self, image_ref):
        prepared = original(self, image_ref)
        for (name, _, _), pixels in prepared.inputs.items():
            row = self.networks[name].preprocessing
            inputs[row.scale, row.shift].append(pixels)
        return prepared

    prepare.Preparation.prepare = prepare_and_keep
    try:
        return diagnose(), inputs
    finally:
        prepare.Preparation.prepare = original


def run_network(extractors, inputs):
    """Run the networks on inputs in 0..255, by normalization."""
    for loaded in extractors():
        pixels = inputs[loaded.preprocessing.scale, loaded.preprocessing.shift]
        size = loaded.runner.batch_size
        batches = (np.stack(pixels[start : start + size]) for start in range(0, len(pixels), size))
        assert sum(len(features) for features in loaded.runner.map(batches)) == len(pixels)


def run_passes(settings, preprocessings, samples, photographs):
    """Run every distinct pass over decoded images, with networks that are loaded once."""
    for name, loaded in prepare.load_networks(settings, preprocessings).items():
        collect_statistics(open_objects(samples), replace(settings, preprocessing=name), loaded)
        for crop in (None, *CROPS):
            cropped = replace(settings, preprocessing=name, crop=crop, size=SIZE)
            collect_statistics(open_objects(photographs), cropped, loaded)


def collect_separately(settings, preprocessings, samples, photographs):
    options = {"extractor": settings.extractor, "weights": settings.weights}
    for name in preprocessings:
        frechet.collect(samples, preprocessing=name, **options)
        frechet.collect(photographs, preprocessing=name, **options)
        for crop in CROPS:
            frechet.collect(photographs, preprocessing=name, crop=crop, size=SIZE, **options)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photographs", type=Path, help="folder or archive of photographs")
    parser.add_argument("--extractor", default="efficientnet-lite0")
    parser.add_argument("--weights", type=Path, help="weights of the extractor")
    parser.add_argument("--num-photographs", type=int, help="use only the first ones")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    settings = Settings(extractor=args.extractor, weights=args.weights)
    options = {"extractor": args.extractor, "weights": args.weights}
    preprocessings = EXTRACTORS[args.extractor].preprocessings
    cache_networks()
    with tempfile.TemporaryDirectory() as name:
        folders = write_samples(args.photographs, Path(name), args.num_photographs)
        decoded = [[np.asarray(Image.open(path)) for path in sorted(folder.iterdir())] for folder in folders]
        truth = {"preprocessing": preprocessings[-1], "reference_crop": "torchvision"}
        (score,) = frechet.score(*folders, size=SIZE, **truth, **options).values()

        def diagnose():
            return frechet.diagnose(*folders, claimed=f"{score.value:.6g}", **options)

        def load_networks():
            loaded = prepare.load_networks(settings, preprocessings).values()
            return {(each.preprocessing.scale, each.preprocessing.shift): each for each in loaded}.values()

        diagnosis, inputs = capture_inputs(diagnose)
        assert sum(map(len, inputs.values())) == diagnosis.n_inputs
        programs = {
            "diagnose": diagnose,
            "network": lambda: run_network(load_networks, inputs),
            "passes": lambda: run_passes(settings, preprocessings, *decoded),
            "separate": lambda: collect_separately(settings, preprocessings, *folders),
        }
        rounds = [{name: measure(program)[1] for name, program in programs.items()} for _ in range(args.rounds)]
    result = {
        "machine": describe_machine("numpy", "pillow", "openvino"),
        "extractor": args.extractor,
        "n_images": diagnosis.n_images,
        "n_inputs": diagnosis.n_inputs,
        "n_combinations": diagnosis.n_combinations,
        "claimed": diagnosis.claimed,
        "settings_of_the_claim": truth,
        "matches": [dict(match.settings) for match in diagnosis.matches],
        "time_of_diagnose_relative_to": {
            name: {
                kind: statistics.median(row["diagnose"][kind] / row[name][kind] for row in rounds)
                for kind in ("wall_s", "cpu_s")
            }
            for name in ("network", "passes", "separate")
        },
        "rounds": rounds,
    }
    write_result(result, args.output)


if __name__ == "__main__":
    main()
