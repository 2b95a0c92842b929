"""Measure how many small changes of the code its tests find: a seeded sample of cosmic-ray's mutants, package by package.

For each mutant, only the fast tests of its package run. The table and the survivors are printed, and stay in
build/mutation/report.md.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "mutation"
TESTS = {  # package -> tests that exist for it
    "evaluation": ["tests/evaluation", "tests/protocols"],
    "metrics": ["tests/metrics", "tests/test_metric_values.py", "tests/evaluation/test_sampling.py"],
    "statistics": ["tests/statistics"],
    "distances": ["tests/distances", "tests/test_metric_values.py"],
}
COSMIC_RAY = ["tool", "run", "--quiet", "--from", "cosmic-ray==8.7.0", "cosmic-ray"]
# cosmic-ray also replaces + by >>, which fails wherever the line is executed. These are mistakes that people make.
OPERATORS = (
    *("NumberReplacer", "AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr"),
    *("ReplaceOrWithAnd", "ZeroIterationForLoop", "ReplaceBreakWithContinue", "ReplaceContinueWithBreak"),
    *(f"ReplaceUnaryOperator_{change}" for change in ("Delete_USub", "Delete_Not", "USub_UAdd")),
    *(f"ReplaceBinaryOperator_{change}" for change in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul")),
    *(f"ReplaceBinaryOperator_{change}" for change in ("FloorDiv_Div", "Mod_Mul", "BitAnd_BitOr")),
    *(f"ReplaceComparisonOperator_{change}" for change in ("Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Lt_Gt", "Gt_Lt")),
    *(f"ReplaceComparisonOperator_{change}" for change in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is")),
)
CONFIGURATION = """
[cosmic-ray]
module-path = "src/frechet/{package}"
timeout = {timeout:.0f}
excluded-modules = []
test-command = "{command}"
distributor.name = "local"
"""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One changed line and whether a test failed."""

    location: str
    change: str
    survived: bool


def main() -> None:
    """Run the sample of every package, as many packages at a time as there are cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "packages", nargs="*", default=list(TESTS), help=f"packages to change (default: {', '.join(TESTS)})"
    )
    parser.add_argument("--sample", type=int, default=60, help="mutants per package (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample (default: 0)")
    arguments = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    cores = sorted(os.sched_getaffinity(0))
    with ThreadPoolExecutor(len(cores)) as pool:
        jobs = {
            package: pool.submit(run_package, package, arguments.sample, arguments.seed, cores[index % len(cores)])
            for index, package in enumerate(arguments.packages)
        }
    report = render_report({package: job.result() for package, job in jobs.items()})
    (FOLDER / "report.md").write_text(report)
    print(report)


def run_package(package: str, n_mutants: int, seed: int, core: int) -> list[Mutant]:
    """Test a sample of a package's mutants in a copy of the tree."""
    folder = FOLDER / package
    for name in ("src", "tests", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, folder)
    marks = "not slow and not subprocess and not browser and not network"
    command = f"{sys.executable} -m pytest -x -p no:cacheprovider -p no:xdist -o addopts= -m '{marks}' {' '.join(TESTS[package])}"
    begin = time.monotonic()
    run(["sh", "-c", command], folder, core)
    timeout = 20 + 5 * (time.monotonic() - begin)
    text = CONFIGURATION.format(package=package, timeout=timeout, command=command)
    (folder / "cosmic-ray.toml").write_text(text)
    run([find_uv(), *COSMIC_RAY, "init", "cosmic-ray.toml", "session.sqlite"], folder, core)
    keep_sample(folder / "session.sqlite", n_mutants, seed)
    run([find_uv(), *COSMIC_RAY, "exec", "cosmic-ray.toml", "session.sqlite"], folder, core)
    return read_mutants(folder / "session.sqlite")


def run(command: list[str], folder: Path, core: int) -> None:
    """Run a command on one core with the copy's source; a failure ends the script with what was printed."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        ["taskset", "-c", str(core), *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")


def find_uv() -> str:
    """Return the uv of this environment, or else of PATH."""
    uv = Path(sys.executable).with_name("uv")
    return str(uv) if uv.exists() else "uv"


def keep_sample(session: Path, n_mutants: int, seed: int) -> None:
    """Delete all but a seeded sample of the mutants whose operator is in OPERATORS."""
    with closing(sqlite3.connect(session)) as database, database:
        query = "select job_id, operator_name from mutation_specs order by module_path, start_pos_row, start_pos_col, operator_name, occurrence"
        jobs = [job for job, name in database.execute(query) if name.removeprefix("core/") in OPERATORS]
        kept = random.Random(seed).sample(jobs, min(n_mutants, len(jobs)))
        marks = ",".join("?" * len(kept))
        for table in ("mutation_specs", "work_items"):
            database.execute(f"delete from {table} where job_id not in ({marks})", kept)


def read_mutants(session: Path) -> list[Mutant]:
    """Return the mutants of a finished session, by location."""
    query = """select module_path, start_pos_row, diff, test_outcome from mutation_specs
               join work_results using (job_id) order by module_path, start_pos_row"""
    with closing(sqlite3.connect(session)) as database:
        return [
            Mutant(location=f"{path}:{row}", change=read_change(diff), survived=outcome.lower() == "survived")
            for path, row, diff, outcome in database.execute(query)
        ]


def read_change(diff: str) -> str:
    """Return the changed lines of a diff as `before → after`."""
    lines = [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    before, after = ("; ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return f"`{before}` → `{after}`"


def render_report(mutants: dict[str, list[Mutant]]) -> str:
    """Return the table and the survivors in Markdown."""
    lines = ["| package | mutants | killed | survived | kill rate |", "|---|---:|---:|---:|---:|"]
    for package, tested in mutants.items():
        survived = sum(mutant.survived for mutant in tested)
        killed = len(tested) - survived
        lines.append(f"| {package} | {len(tested)} | {killed} | {survived} | {100 * killed / len(tested):.0f} % |")
    lines.append("\nSurvivors:\n")
    lines += [
        f"- {mutant.location}: {mutant.change}" for tested in mutants.values() for mutant in tested if mutant.survived
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
