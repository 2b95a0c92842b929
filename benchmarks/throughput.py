"""Whole processes, side by side: frechet and the tools it follows, on the same images with the same weights.

    python benchmarks/throughput.py GENERATED REFERENCE --weights FILE.pth --peers PYTHON [--tools pytorch-fid,...]

PYTHON is the interpreter of an environment with the peers (see README.md beside this file). The tools run in turn, A B
C A B C, so that a drift of the machine's speed meets all alike; a row tells medians of wall time and peak memory.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import machine

OFFICIAL_NAME = "pt_inception-2015-12-05-6726825d.pth"

TORCH_FIDELITY = """
import sys, torch_fidelity
print(torch_fidelity.calculate_metrics(input1=sys.argv[1], input2=sys.argv[2], fid=True, cuda=False, verbose=False,
    cache=False, feature_extractor_weights_path=sys.argv[3], samples_find_deep=False, samples_find_ext="png,jpg,jpeg"))
"""
TORCHMETRICS = """
import sys, pathlib, numpy, torch
from PIL import Image
from torchmetrics.image.fid import FrechetInceptionDistance
fid = FrechetInceptionDistance(feature_extractor_weights_path=sys.argv[3])
for folder, real in ((sys.argv[1], False), (sys.argv[2], True)):
    files = sorted(pathlib.Path(folder).iterdir())
    for start in range(0, len(files), 50):
        batch = [numpy.asarray(Image.open(file).convert("RGB")) for file in files[start:start + 50]]
        fid.update(torch.from_numpy(numpy.stack(batch)).permute(0, 3, 1, 2), real=real)
print(float(fid.compute()))
"""


def commands(args, hub):
    """tool -> (command line, environment)."""
    sides = [str(args.generated), str(args.reference)]
    weights = str(args.weights)
    ours = [sys.executable, "-m", "frechet", "score", *sides, "--weights", weights]
    torch_home = {"TORCH_HOME": str(hub)}
    return {
        "frechet": (ours, {}),
        "frechet-bfloat16": ([*ours, "--precision", "bfloat16"], {}),
        "pytorch-fid": ([args.peers, "-m", "pytorch_fid", *sides, "--device", "cpu"], torch_home),
        "torch-fidelity": ([args.peers, "-c", TORCH_FIDELITY, *sides, weights], torch_home),
        "torchmetrics": ([args.peers, "-c", TORCHMETRICS, *sides, weights], torch_home),
    }


def measure(command, environment):
    """(wall seconds, processor seconds, peak memory of the largest process in MB, last line of output)."""
    with tempfile.TemporaryFile("w+") as out:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, env={**os.environ, **environment})
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        if status:
            sys.exit(f"{' '.join(command[:4])} failed:\n{errors.decode()[-2000:]}")
        out.seek(0)
        return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, out.read().strip().splitlines()[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("generated", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--peers", required=True)
    parser.add_argument("--tools", default="frechet,pytorch-fid")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as hub:
        checkpoints = Path(hub, "hub", "checkpoints")
        checkpoints.mkdir(parents=True)
        shutil.copy(args.weights, checkpoints / OFFICIAL_NAME)
        table = commands(args, hub)
        runs = {tool: [] for tool in args.tools.split(",")}
        for _ in range(args.runs):
            for tool, taken in runs.items():
                taken.append(measure(*table[tool]))
                print(f"{tool}: {taken[-1][0]:.1f} s  {taken[-1][3]}", file=sys.stderr, flush=True)
    ours = [run[0] for run in runs["frechet"]]
    rows = {
        tool: {
            "seconds": round(statistics.median(run[0] for run in taken), 2),
            "processor_seconds": round(statistics.median(run[1] for run in taken), 2),
            "peak_memory_mb": round(statistics.median(run[2] for run in taken)),
            "times_as_long_as_frechet": round(
                statistics.median(run[0] / own for run, own in zip(taken, ours, strict=True)), 2
            ),
            "all_seconds": [round(run[0], 2) for run in taken],
            "output": taken[-1][3],
        }
        for tool, taken in runs.items()
    }
    counts = [sum(1 for _ in side.iterdir()) for side in (args.generated, args.reference)]
    versions = subprocess.run([args.peers, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    kept = ("torch==", "torchvision==", "scipy==", "pytorch-fid==", "torch-fidelity==", "torchmetrics==", "clean-fid==")
    result = {
        "machine": machine("frechet", "numpy", "openvino", "pillow"),
        "peers": [line for line in versions.splitlines() if line.replace("_", "-").startswith(kept)],
        "images": counts,
        "tools": rows,
    }
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
