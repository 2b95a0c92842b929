"""Kill a run with a real network again and again, and check what it keeps and whether its result is bit-identical.

    python benchmarks/kills.py IMAGES.zip [--kills 20] [--seed 7] [--output FILE]

`frechet stats` with EfficientNet-Lite0 and a work directory gets SIGKILL at random times; each run resumes the one before, and the
last one is not killed. The result is compared with that of an undisturbed run. A finished chunk was computed again only if its
file was written again, which is detected by inode and modification time.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import describe_machine, write_result


def start_run(images, out, work_dir):
    command = ["stats", str(images), str(out), "--extractor", "efficientnet-lite0", "--work-dir", str(work_dir)]
    return subprocess.Popen([sys.executable, "-m", "frechet", *command], stderr=subprocess.DEVNULL)


def list_finished_chunks(work_dir):
    """Return {file name of each finished chunk: (inode, modification time)}."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in work_dir.glob("images/chunk-*.npz")}


def run_with_kills(images, directory, max_seconds, kills, seed):
    """Return a row for each attempt: its seconds, the chunks finished by its end, and finished chunks written again."""
    rng, finished_chunks, rows = random.Random(seed), {}, []
    while True:
        process = start_run(images, directory / "killed.npz", directory / "killed")
        lifetime = rng.uniform(0, max_seconds)
        start = time.perf_counter()
        if len(rows) < kills:
            time.sleep(lifetime)
            process.kill()
        status = process.wait()
        now = list_finished_chunks(directory / "killed")
        n_rewritten = sum(now.get(name) != written for name, written in finished_chunks.items())
        rows.append(
            {"seconds": round(time.perf_counter() - start, 2), "finished": len(now), "written_again": n_rewritten}
        )
        print(rows[-1], file=sys.stderr, flush=True)
        if status == 0:
            return rows
        if status != -signal.SIGKILL:
            sys.exit(f"the run ended with {status}")
        finished_chunks = now


def compare_arrays(one, other):
    with np.load(one) as actual, np.load(other) as expected:
        return {name: bool(np.array_equal(actual[name], expected[name])) for name in expected}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        started = time.perf_counter()
        if start_run(args.images, directory / "undisturbed.npz", directory / "undisturbed").wait():
            sys.exit("the undisturbed run failed")
        elapsed = time.perf_counter() - started
        rows = run_with_kills(args.images, directory, elapsed / 6, args.kills, args.seed)
        same = compare_arrays(directory / "killed.npz", directory / "undisturbed.npz")
    result = {
        "machine": describe_machine("frechet", "numpy", "openvino", "pillow"),
        "undisturbed_seconds": round(elapsed, 2),
        "chunks": rows[-1]["finished"],
        "kills": len(rows) - 1,
        "kills_before_all_chunks_were_finished": sum(row["finished"] < rows[-1]["finished"] for row in rows[:-1]),
        "finished_chunks_written_again": sum(row["written_again"] for row in rows),
        "bit_identical_arrays": same,
        "attempts": rows,
    }
    write_result(result, args.output)


if __name__ == "__main__":
    main()
