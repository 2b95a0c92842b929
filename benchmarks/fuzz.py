"""Read damaged files, and count what happens: only errors of frechet, no signal, no hang, and bounded memory.

    python benchmarks/fuzz.py [--readers image,zip] [--cases N] [--first K] [--output results/fuzz.json] [--keep FOLDER]

Case k of a reader is a valid file with edits drawn from random.Random(k) (fuzz_mutations.py), so that every case can be repeated
with --first k --cases 1. Cases are read in a process that is limited to 512 MB more than it needs when it starts; if it dies or takes
longer than 5 seconds for a case, this case is a fault, and a new process continues after it. Files of faults are kept in FOLDER.
Faults are: an exception that is not an error of frechet, a memory error anywhere in the chain of causes, a signal, and a hang.
A reader that is named in --readers replaces its row in the output, or continues it if --first is the number of its cases.
"""

import argparse
import json
import mmap
import os
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

from fuzz_readers import READERS
from machine import describe_machine

CHEAP_CASES, NATIVE_CASES = 100_000, 10_000
HANG_SECONDS = 5.0  # of processor time
MAX_WALL_SECONDS = 60.0  # of a case that waits instead of computing
MEMORY_LIMIT = 512 << 20  # bytes of address space beyond what the reader uses for its valid files
MAX_FAULTS_SHOWN = 20
_FOOTPRINT_ROUNDS = 3
CONTAINED = {  # faults of native libraries, which a process of its own turns into an error of frechet
    "the library that reads it ended with": "error after a crash of the native process",
    "reading it does not end in the time": "error after a timeout of the native process",
    "MemoryError": "error after the memory limit of the native process",
}


def make_case(reader, seeds, number):
    rng = random.Random(number)
    return reader.mutate(rng.choice(seeds), rng)


def iter_causes(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def read_case(reader, path):
    """Read a file, and return the class of what happened and, of a fault, its description."""
    from frechet.errors import FrechetError

    try:
        reader.read(path)
    except FrechetError as error:
        causes = list(iter_causes(error))
        if any(isinstance(cause, MemoryError) for cause in causes):
            return "memory", "".join(traceback.format_exception(causes[-1]))
        return next((kind for text, kind in CONTAINED.items() if text in str(error)), type(error).__name__), None
    except MemoryError:
        return "memory", traceback.format_exc()
    except Exception:
        return "foreign exception", traceback.format_exc()
    return "read", None


def limit_memory():
    """Forbid this process more than MEMORY_LIMIT bytes in addition to what it uses now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def read_cases(reader, seeds, numbers, path, position, report):
    """Read cases in this process. Each outcome is one line of JSON in `report`."""
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # messages of libraries
    for seed in seeds * _FOOTPRINT_ROUNDS:
        path.write_bytes(seed)
        reader.read(path)
    limit_memory()
    for number in numbers:
        struct.pack_into("<q", position, 0, number)
        path.write_bytes(make_case(reader, seeds, number))
        kind, fault = read_case(reader, path)
        report.write(json.dumps([number, kind, fault]).encode() + b"\n")


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def watch(pid, position):
    """Wait for a process. Return None if it finished, or what was wrong with the case at which it ended."""
    last, since, cpu = -1, time.monotonic(), 0.0
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return None if status == 0 else f"ended with status {os.waitstatus_to_exitcode(status)}"
        current = struct.unpack_from("<q", position, 0)[0]
        if current != last:
            last, since, cpu = current, time.monotonic(), cpu_seconds(pid)
        elif cpu_seconds(pid) - cpu > HANG_SECONDS or time.monotonic() - since > MAX_WALL_SECONDS:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            return "hang"
        time.sleep(0.05)


def fuzz(name, numbers, folder):
    """Read cases of one reader. Return {class of outcome: count} and the faults: (case, class, description)."""
    reader = READERS[name]
    seeds, faults, counts = reader.seeds(), [], Counter()
    position = mmap.mmap(-1, 8)
    start = numbers.start
    while start < numbers.stop:
        struct.pack_into("<q", position, 0, -1)
        problem = fuzz_in_child(reader, seeds, range(start, numbers.stop), folder, position)
        outcomes = [json.loads(line) for line in (folder / "report").read_text().splitlines()]
        (current,) = struct.unpack_from("<q", position)
        if current < 0:
            sys.exit(f"{name}: its own valid files cannot be read ({problem})")
        if problem:
            outcomes.append([current, "hang" if problem == "hang" else "signal", problem])
        counts.update(kind for _, kind, _ in outcomes)
        faults += [outcome for outcome in outcomes if outcome[2]]
        start = current + 1
    return counts, faults


def fuzz_in_child(reader, seeds, numbers, folder, position):
    """Read cases in a new process. Return None, or what was wrong with the case at which it ended."""
    pid = os.fork()
    if pid:
        return watch(pid, position)
    code = 1
    try:
        with open(folder / "report", "wb", buffering=0) as report:
            read_cases(reader, seeds, numbers, folder / f"case{reader.suffix}", position, report)
        code = 0
    except BaseException:
        traceback.print_exc(file=sys.stdout)
    finally:
        os._exit(code)


def keep_faults(name, faults, folder):
    reader = READERS[name]
    seeds = reader.seeds()
    folder.mkdir(parents=True, exist_ok=True)
    for number, _, _ in faults:
        (folder / f"{name}-{number}{reader.suffix}").write_bytes(make_case(reader, seeds, number))


def continue_row(row, first, cases, seconds, counts, n_faults):
    """Return the row of a reader; `row` is that of the cases before the first one, or of an earlier run."""
    if row is None or row["cases"] != first:
        row = {"cases": 0, "seconds": 0.0, "faults": 0, "outcomes": {}}
    outcomes = Counter(row["outcomes"]) + counts
    return {
        "cases": row["cases"] + cases,
        "seconds": round(row["seconds"] + seconds, 1),
        "faults": row["faults"] + n_faults,
        "outcomes": dict(outcomes.most_common()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--cases", type=int, help="cases per reader; default 100,000, or 10,000 of a native reader")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--keep", type=Path, help="folder for the files of faults")
    options = parser.parse_args()
    result = json.loads(options.output.read_text()) if options.output and options.output.exists() else {"readers": {}}
    for name in options.readers.split(","):
        cases = options.cases or (NATIVE_CASES if READERS[name].is_native else CHEAP_CASES)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            counts, faults = fuzz(name, range(options.first, options.first + cases), Path(folder))
        seconds = round(time.perf_counter() - start, 1)
        row = continue_row(result["readers"].get(name), options.first, cases, seconds, counts, len(faults))
        result["readers"][name] = row
        print(json.dumps({name: row}))
        for number, kind, fault in faults[:MAX_FAULTS_SHOWN]:
            print(f"  case {number}: {kind}\n{fault}", file=sys.stderr)
        if options.keep and faults:
            keep_faults(name, faults, options.keep)
        if options.output:
            result["machine"] = describe_machine("pillow", "numpy", "pyarrow", "h5py", "openvino")
            options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
