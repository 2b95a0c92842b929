"""Whole processes, side by side: frechet and the tools it follows, on the same images with the same weights.

    python benchmarks/throughput.py GENERATED REFERENCE --weights FILE.pth --peers PYTHON [--tools pytorch-fid,...]

PYTHON is the interpreter of an environment with the peers (see README.md beside this file). The tools run in turn, A B
C A B C, so that a drift of the machine's speed meets all alike; a row tells medians of wall time and peak memory, and
the ratio to frechet's time in the same turn. Each tool works as it does by default, with its own resize; where that
is another convention than frechet's default, the row also tells what frechet answers in it (`frechet_says`).

clean-fid reads its network from a TorchScript file that holds the official weights. So that it runs with the weights
that all others are given, it runs here with its own loop, decoding, resize and distance, and as feature extractor
(`custom_feat_extractor`) the Inception of pytorch-fid, eager, normalised as clean-fid does.

Every row says how busy the run kept the processor (`busy`: its processor seconds over wall seconds times cores) and
what share of the cores everything else on the machine took meanwhile (`others`, and `busy_of_what_was_left` of the
rest). After each timed run of frechet an untimed one tells how busy it keeps them from its start, and from its first
image, until its last batch.
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
from contextlib import contextmanager
from pathlib import Path

from machine import CpuLoad, machine

from frechet._internal.cpu import process_cpu_count

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
CLEAN_FID = """
import sys, torch
from cleanfid import fid
from pytorch_fid.inception import InceptionV3
network = InceptionV3([3], resize_input=False, normalize_input=False).eval()
print(fid.compute_fid(sys.argv[1], sys.argv[2], mode="clean", model_name="inception_v3", device=torch.device("cpu"),
    num_workers=int(sys.argv[3]), custom_feat_extractor=lambda x: network((x - 128) / 128)[0].flatten(1),
    verbose=False))
"""
PROBE = """
import json, os, time
from contextlib import contextmanager
from frechet.cli import main, score
marks = [(float(os.environ["STARTED"]), 0.0)]
@contextmanager
def noted():
    yield lambda what, done, total: marks.append((time.time(), time.process_time()))
score.progress_bars = noted
try:
    main.main()
finally:
    print(json.dumps([marks[0], marks[1], marks[-1]]))
"""
FRECHET_TOOLS = {"frechet": (), "frechet-bfloat16": ("--precision", "bfloat16")}
PREPROCESSINGS = {"torch-fidelity": "tensorflow", "torchmetrics": "torchmetrics", "clean-fid": "clean"}


def make_score_command(args, *flags):
    return ["score", str(args.generated), str(args.reference), "--weights", str(args.weights), *flags]


def make_commands(args, hub):
    """tool -> (command line, environment)."""
    sides = [str(args.generated), str(args.reference)]
    weights = str(args.weights)
    ours = [sys.executable, "-m", "frechet", *make_score_command(args)]
    torch_home = {"TORCH_HOME": str(hub)}
    return {
        **{tool: ([*ours, *flags], {}) for tool, flags in FRECHET_TOOLS.items()},
        "pytorch-fid": ([args.peers, "-m", "pytorch_fid", *sides, "--device", "cpu"], torch_home),
        "torch-fidelity": ([args.peers, "-c", TORCH_FIDELITY, *sides, weights], torch_home),
        "torchmetrics": ([args.peers, "-c", TORCHMETRICS, *sides, weights], torch_home),
        "clean-fid": ([args.peers, "-c", CLEAN_FID, *sides, str(process_cpu_count())], torch_home),
    }


def run_measured(command, environment):
    """(wall seconds, processor seconds, peak memory of the largest process in MB, lines of output)."""
    with tempfile.TemporaryFile("w+") as out:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, env={**os.environ, **environment})
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        if status:
            sys.exit(f"{' '.join(command[:4])} failed:\n{errors.decode()[-2000:]}")
        out.seek(0)
        return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, out.read().strip().splitlines()


def run_measured_with_load(command, environment):
    """What `measure` gives, and the share of all cores that everything else took meanwhile (None if unknown)."""
    load = CpuLoad()
    run = run_measured(command, environment)
    everything = load.seconds()
    return *run, None if everything is None else max(0.0, everything - run[1]) / (run[0] * process_cpu_count())


def measure_utilization(args, *flags):
    """How busy frechet keeps the cores until its last batch: by the name of the moment from which that is counted.

    An untimed run of the command with a progress callback that notes wall and processor time.
    """
    command = [sys.executable, "-c", PROBE, *make_score_command(args, *flags)]
    *_, lines, others = run_measured_with_load(command, {"STARTED": str(time.time())})
    started, first, last = json.loads(lines[-1])
    share = {
        name: (last[1] - mark[1]) / (last[0] - mark[0]) / process_cpu_count()
        for name, mark in (("from_start", started), ("from_first_image", first))
    }
    left = {
        f"{name}_of_what_was_left": others if others is None else value / (1 - others) for name, value in share.items()
    }
    return {**share, "others": others, **left}


@contextmanager
def torch_home(weights):
    """A folder for TORCH_HOME in which the peers find these weights under the official name."""
    with tempfile.TemporaryDirectory() as hub:
        checkpoints = Path(hub, "hub", "checkpoints")
        checkpoints.mkdir(parents=True)
        shutil.copy(weights, checkpoints / OFFICIAL_NAME)
        yield hub


def get_peer_versions(python):
    versions = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    kept = ("torch==", "torchvision==", "scipy==", "pytorch-fid==", "torch-fidelity==", "torchmetrics==", "clean-fid==")
    return [line for line in versions.splitlines() if line.replace("_", "-").startswith(kept)]


def compare_tools(args):
    """The whole result."""
    utilization = {}
    with torch_home(args.weights) as hub:
        table = make_commands(args, hub)
        runs = {tool: [] for tool in args.tools.split(",")}
        for _ in range(args.runs):
            for tool, tool_runs in runs.items():
                tool_runs.append(run_measured_with_load(*table[tool]))
                print(f"{tool}: {tool_runs[-1][0]:.1f} s  {tool_runs[-1][3][0]}", file=sys.stderr, flush=True)
                if tool in FRECHET_TOOLS:
                    utilization.setdefault(tool, []).append(measure_utilization(args, *FRECHET_TOOLS[tool]))
    rows = {tool: summarize_runs(tool_runs, runs["frechet"]) for tool, tool_runs in runs.items()}
    for tool, shares in utilization.items():
        rows[tool]["busy_until_last_batch"] = {
            name: {"median": _median(run[name] for run in shares), "all": [_median([run[name]]) for run in shares]}
            for name in shares[0]
        }
    for tool in rows.keys() & PREPROCESSINGS.keys():
        flags = make_score_command(args, "--preprocessing", PREPROCESSINGS[tool])
        rows[tool]["frechet_says"] = run_measured([sys.executable, "-m", "frechet", *flags], {})[3][0]
    return {
        "machine": machine("frechet", "numpy", "openvino", "pillow"),
        "peers": get_peer_versions(args.peers),
        "images": [sum(1 for _ in side.iterdir()) for side in (args.generated, args.reference)],
        "tools": rows,
    }


def summarize_runs(tool_runs, ours):
    return {
        "seconds": _median(run[0] for run in tool_runs),
        "processor_seconds": _median(run[1] for run in tool_runs),
        "peak_memory_mb": round(statistics.median(run[2] for run in tool_runs)),
        "times_as_long_as_frechet": _median(run[0] / own[0] for run, own in zip(tool_runs, ours, strict=True)),
        "busy": _median(run[1] / (run[0] * process_cpu_count()) for run in tool_runs),
        "others": _median(run[4] for run in tool_runs),
        "busy_of_what_was_left": _median(
            None if run[4] is None else run[1] / (run[0] * process_cpu_count() * (1 - run[4])) for run in tool_runs
        ),
        "all_seconds": [round(run[0], 2) for run in tool_runs],
        "all_times_as_long": [round(run[0] / own[0], 2) for run, own in zip(tool_runs, ours, strict=True)],
        "all_others": [None if run[4] is None else round(run[4], 3) for run in tool_runs],
        "output": tool_runs[-1][3][0],
    }


def _median(values):
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 3) if known else None


def add_options(parser, tools):
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--peers", required=True)
    parser.add_argument("--tools", default=tools, help="frechet must be among them")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path)


def write(result, output):
    print(json.dumps(result, indent=1))
    if output:
        output.write_text(json.dumps(result, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("generated", type=Path)
    parser.add_argument("reference", type=Path)
    add_options(parser, "frechet,pytorch-fid")
    args = parser.parse_args()
    write(compare_tools(args), args.output)


if __name__ == "__main__":
    main()
