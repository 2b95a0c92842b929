"""Compare precision, recall, density and coverage with prdc, and the exact KID with the subsets of torch-fidelity.

    python benchmarks/neighbours.py --peers peers/bin/python [--images 10000] [--turns 3] [--large 50000] [--output FILE]

Each tool runs in a process of its own on the same seeded features (correlated, 2048 dimensions). The time is that of the
computation alone; the memory is the peak of the process, including the features. Processor seconds are more reliable than wall
seconds if other programs run on the machine.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from machine import CpuLoad, describe_machine, write_result

D = 2048
_PROGRAM_TEMPLATE = """
import json, resource, sys, time
import numpy as np
x, y = np.load(sys.argv[1]), np.load(sys.argv[2])
{imports}
start, used = time.perf_counter(), time.process_time()
{work}
seconds, used = time.perf_counter() - start, time.process_time() - used
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({{"seconds": seconds, "processor_seconds": used, "peak_mib": peak, "values": values}}))
"""
PROGRAMS = {
    "frechet prdc": (
        "from frechet.distances.prdc import Neighbourhood, compute_prdc",
        "ball = Neighbourhood(5, closed=False)\nm = compute_prdc(x, y, [ball]).memberships[ball]\n"
        "values = {k: getattr(m, k) for k in ('precision', 'recall', 'density', 'coverage')}",
    ),
    "prdc": (
        "from prdc import compute_prdc",
        "values = compute_prdc(y, x, nearest_k=5)\nvalues = {k: float(v) for k, v in values.items()}",
    ),
    "frechet kid": (
        "from frechet.distances.kernel import kid",
        "k = kid(x, y)\nvalues = {'value': k.value, 'standard_error': k.standard_error}",
    ),
    "torch-fidelity kid": (
        "import torch\nfrom torch_fidelity.metric_kid import kid_features_to_metric\n"
        "tx, ty = torch.from_numpy(x), torch.from_numpy(y)",
        "values = kid_features_to_metric(tx, ty, kid_subsets=100, kid_subset_size=1000, rng_seed=2020, verbose=False)",
    ),
}
COMPARISONS = {"prdc": ("frechet prdc", "prdc"), "kid": ("frechet kid", "torch-fidelity kid")}


def write_features(path, n, seed, shift):
    """Write rows whose spectrum decays over two decades, similar to that of Inception features, in seeded blocks."""
    random = np.random.default_rng(0)
    basis = (np.linalg.qr(random.standard_normal((D, D)))[0] * np.geomspace(1, 1e-2, D)[:, None]).astype(np.float32)
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (n, D))
    random = np.random.default_rng(seed)
    for start in range(0, n, 1000):
        block = random.standard_normal((min(1000, n - start), D), np.float32)
        rows[start : start + 1000] = block @ basis + np.float32(shift)
    rows.flush()


def measure_program(python, name, paths):
    imports, work = PROGRAMS[name]
    load = CpuLoad()
    command = [python, "-c", _PROGRAM_TEMPLATE.format(imports=imports, work=work), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {**json.loads(done.stdout.splitlines()[-1]), "busy_seconds_of_machine": load.busy_seconds()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument(
        "--large", type=int, default=0, help="Number of images per set of an additional run of frechet alone."
    )
    parser.add_argument("--only", choices=COMPARISONS)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    result = {
        "machine": describe_machine("numpy", "frechet"),
        "images_per_set": args.images,
        "features": D,
        "turns": [],
    }
    python = {"frechet prdc": sys.executable, "frechet kid": sys.executable}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, "x.npy"), Path(folder, "y.npy")]
        for path, seed, shift in zip(paths, (1, 2), (0.0, 0.002), strict=True):
            write_features(path, args.images, seed, shift)
        pairs = {key: pair for key, pair in COMPARISONS.items() if args.only in (None, key)}
        for _ in range(args.turns):
            turn = {
                name: measure_program(python.get(name, args.peers), name, paths)
                for pair in pairs.values()
                for name in pair
            }
            for key, (ours, theirs) in pairs.items():
                turn[f"{key}_speedup"] = turn[theirs]["seconds"] / turn[ours]["seconds"]
                turn[f"{key}_processor_ratio"] = turn[ours]["processor_seconds"] / turn[theirs]["processor_seconds"]
                turn[f"{key}_memory_ratio"] = turn[ours]["peak_mib"] / turn[theirs]["peak_mib"]
            result["turns"].append(turn)
            print(json.dumps(turn, indent=1), flush=True)
        for key in pairs:
            for ratio in ("speedup", "processor_ratio", "memory_ratio") if args.turns else ():
                result[f"{key}_{ratio}"] = statistics.median(turn[f"{key}_{ratio}"] for turn in result["turns"])
        if args.large:
            for path, seed, shift in zip(paths, (1, 2), (0.0, 0.002), strict=True):
                write_features(path, args.large, seed, shift)
            result["large"] = {"images_per_set": args.large}
            for ours, _ in pairs.values():
                result["large"][ours] = measure_program(sys.executable, ours, paths)
                print(json.dumps(result["large"], indent=1), flush=True)
    write_result(result, args.output)


if __name__ == "__main__":
    main()
