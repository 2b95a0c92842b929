"""Compare whole processes: frechet and the tools it reproduces, on the same images with the same weights.

    python benchmarks/throughput.py GENERATED REFERENCE --weights FILE.pth --peers PYTHON [--tools pytorch-fid,...]

PYTHON is the interpreter of an environment with the other tools (see README.md). The tools run in turn, A B C A B C, so
that a drift of the speed of the machine affects all of them. A row holds medians of wall time and peak memory, and of the
ratio to the time of frechet in the same turn. Each tool uses its default preprocessing; if that is not the default of
frechet, the row also holds the value of frechet with that preprocessing (`frechet_value`).

clean-fid reads its network from a TorchScript file with the official weights. To run with the same weights as the others, it
runs here with its own loop, decoding, resize and distance, and the Inception of pytorch-fid (eager, with the normalisation
of clean-fid) as `custom_feat_extractor`.

Every row also holds the processor utilization of the run (processor seconds over wall seconds times cores), the load by other
programs (`other_load`), and the utilization of the remaining cores (`utilization_of_available`). After each timed run of
frechet an untimed one measures its utilization until the last batch, from its start and from its first image.
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

from machine import CpuLoad, describe_machine, write_result

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
def record_progress():
    yield lambda what, done, total: marks.append((time.time(), time.process_time()))
score.progress_bars = record_progress
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
    """Return {tool: (command line, environment)}."""
    folders = [str(args.generated), str(args.reference)]
    weights = str(args.weights)
    ours = [sys.executable, "-m", "frechet", *make_score_command(args)]
    torch_home = {"TORCH_HOME": str(hub)}
    return {
        **{tool: ([*ours, *flags], {}) for tool, flags in FRECHET_TOOLS.items()},
        "pytorch-fid": ([args.peers, "-m", "pytorch_fid", *folders, "--device", "cpu"], torch_home),
        "torch-fidelity": ([args.peers, "-c", TORCH_FIDELITY, *folders, weights], torch_home),
        "torchmetrics": ([args.peers, "-c", TORCHMETRICS, *folders, weights], torch_home),
        "clean-fid": ([args.peers, "-c", CLEAN_FID, *folders, str(process_cpu_count())], torch_home),
    }


def run_measured(command, environment):
    """Run a command; return wall seconds, processor seconds, peak memory of the largest process in MB, and output lines."""
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
    """Run a command as `run_measured` does, and also return the share of all cores that other programs used, or None."""
    load = CpuLoad()
    run = run_measured(command, environment)
    everything = load.busy_seconds()
    return *run, None if everything is None else max(0.0, everything - run[1]) / (run[0] * process_cpu_count())


def measure_utilization(args, *flags):
    """Measure the processor utilization of frechet until its last batch, from the start and from the first image.

    The command runs with a progress callback that records wall and processor time.
    """
    command = [sys.executable, "-c", PROBE, *make_score_command(args, *flags)]
    *_, lines, other_load = run_measured_with_load(command, {"STARTED": str(time.time())})
    started, first, last = json.loads(lines[-1])
    share = {
        name: (last[1] - mark[1]) / (last[0] - mark[0]) / process_cpu_count()
        for name, mark in (("from_start", started), ("from_first_image", first))
    }
    available = {
        f"{name}_of_available": other_load if other_load is None else value / (1 - other_load)
        for name, value in share.items()
    }
    return {**share, "other_load": other_load, **available}


@contextmanager
def torch_home(weights):
    """Create a folder for TORCH_HOME with these weights under the official name."""
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
    """Run all tools and return the result."""
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
        rows[tool]["utilization_until_last_batch"] = {
            name: {"median": _median(run[name] for run in shares), "all": [_median([run[name]]) for run in shares]}
            for name in shares[0]
        }
    for tool in rows.keys() & PREPROCESSINGS.keys():
        flags = make_score_command(args, "--preprocessing", PREPROCESSINGS[tool])
        rows[tool]["frechet_value"] = run_measured([sys.executable, "-m", "frechet", *flags], {})[3][0]
    return {
        "machine": describe_machine("frechet", "numpy", "openvino", "pillow"),
        "peers": get_peer_versions(args.peers),
        "images": [sum(1 for _ in folder.iterdir()) for folder in (args.generated, args.reference)],
        "tools": rows,
    }


def summarize_runs(tool_runs, ours):
    return {
        "seconds": _median(run[0] for run in tool_runs),
        "processor_seconds": _median(run[1] for run in tool_runs),
        "peak_memory_mb": round(statistics.median(run[2] for run in tool_runs)),
        "times_as_long_as_frechet": _median(run[0] / own[0] for run, own in zip(tool_runs, ours, strict=True)),
        "utilization": _median(run[1] / (run[0] * process_cpu_count()) for run in tool_runs),
        "other_load": _median(run[4] for run in tool_runs),
        "utilization_of_available": _median(
            None if run[4] is None else run[1] / (run[0] * process_cpu_count() * (1 - run[4])) for run in tool_runs
        ),
        "all_seconds": [round(run[0], 2) for run in tool_runs],
        "all_times_as_long": [round(run[0] / own[0], 2) for run, own in zip(tool_runs, ours, strict=True)],
        "all_other_load": [None if run[4] is None else round(run[4], 3) for run in tool_runs],
        "output": tool_runs[-1][3][0],
    }


def _median(values):
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 3) if known else None


def add_options(parser, tools):
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--peers", required=True)
    parser.add_argument("--tools", default=tools, help="Comma-separated tools, including frechet.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("generated", type=Path)
    parser.add_argument("reference", type=Path)
    add_options(parser, "frechet,pytorch-fid")
    args = parser.parse_args()
    write_result(compare_tools(args), args.output)


if __name__ == "__main__":
    main()
