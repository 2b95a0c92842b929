"""Test the core (no PyTorch, no JAX) on every supported Python, on the lowest allowed versions, and from the built wheel.

Each row of the table that this prints has an environment and a log of its own in build/matrix. Interpreters are those
that the environment variable PYTHONS names (versions or paths, separated by spaces), else those of pyenv and PATH.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "matrix"
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
EXTRAS = "demo,hdf5,lmdb,metrics,offline,remote,report,tables"
NOT_CORE = (
    "backends",
    "compat",
    "docs",
    "integrations",
    "jax_backend",
    "losses",
)  # need PyTorch, JAX or the docs tools
# Old packages deprecate what newer ones that they import no longer have; pyproject.toml makes every warning an error.
OLD_WARNINGS = ["-W", "default::DeprecationWarning", "-W", "default::PendingDeprecationWarning"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    name: str
    python: str
    result: str
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.result.startswith("failed")


def main() -> None:
    """Test every environment, print the table, and exit with 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="leave out the slow tests, which run whole networks")
    markers = "not browser and not network" + (" and not slow" if parser.parse_args().fast else "")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    interpreters = find_interpreters()
    rows = [run_core_tests(f"Python {version}", python, "highest", markers) for version, python in interpreters.items()]
    oldest = next(iter(interpreters.values()))
    rows.append(run_core_tests("lowest versions", oldest, "lowest-direct", markers))
    rows.append(try_wheel(oldest))
    print_table(rows)
    sys.exit(not all(row.passed for row in rows))


def find_interpreters() -> dict[str, str]:
    """Return {version: path of the interpreter}, the oldest first."""
    if names := os.environ.get("PYTHONS", "").split():
        return {name: find_interpreter(name) or sys.exit(f"no interpreter {name!r} (from PYTHONS)") for name in names}
    found = {version: find_interpreter(version) for version in VERSIONS}
    for version in VERSIONS:
        if found[version] is None:
            print(f"Python {version} is not installed: skipped", flush=True)
    return {version: path for version, path in found.items() if path} or sys.exit("no supported interpreter found")


def find_interpreter(name: str) -> str | None:
    """Return the interpreter that a path or a version such as 3.12 names."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(name), *sorted(pyenv.glob(f"{name}.*/bin/python{name}")), shutil.which(f"python{name}")]
    return next((str(path) for path in candidates if path and runs(path)), None)


def runs(python: str | Path) -> bool:
    """Whether it is an interpreter; a shim of pyenv without its version is not."""
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


def run_core_tests(name: str, interpreter: str, resolution: str, markers: str) -> Row:
    """Install the package and what its core tests need, and run them."""
    python = create_environment(name, interpreter)
    uv("pip", "install", "--python", python, "--resolution", resolution, f"{ROOT}[{EXTRAS}]")
    uv("pip", "install", "--python", python, "--group", f"{ROOT / 'pyproject.toml'}:test")
    command = [python, "-m", "pytest", "-m", markers, "-p", "no:cacheprovider"]
    command += ["--numprocesses", "logical", "--maxprocesses", "8", "-r", "fE", "--tb", "short"]
    command += [f"--ignore=tests/{folder}" for folder in NOT_CORE]
    if resolution != "highest":
        command += OLD_WARNINGS
    return run_row(name, python, command)


def try_wheel(interpreter: str) -> Row:
    """Build sdist and wheel, install the wheel alone in a clean environment, and run the demo from it."""
    uv("build", "--quiet", "--out-dir", FOLDER / "dist", ROOT)  # the wheel is built from the sdist
    (wheel,) = (FOLDER / "dist").glob("*.whl")
    python = create_environment("wheel", interpreter)
    uv("pip", "install", "--python", python, f"{wheel}[demo]")
    return run_row("wheel: frechet demo", python, [Path(python).with_name("frechet"), "demo"], cwd=FOLDER)


def create_environment(name: str, interpreter: str) -> str:
    """Create a virtual environment and return its interpreter."""
    folder = FOLDER / get_slug(name)
    uv("venv", "--quiet", "--python", interpreter, folder)
    return str(folder / "bin" / "python")


def get_slug(name: str) -> str:
    """Return a file name for the name of an environment."""
    return re.sub(r"\W+", "-", name)


def uv(*arguments: str | Path) -> None:
    """Run uv; a failure ends the script with what uv printed."""
    command = [Path(sys.executable).with_name("uv"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")


def run_row(name: str, python: str, command: list[str | Path], cwd: Path = ROOT) -> Row:
    """Run a command, show what it prints, and summarise it by its last line."""
    print(f"\n=== {name}", flush=True)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    begin = time.monotonic()
    log = FOLDER / f"{get_slug(name)}.log"
    with log.open("w") as output:
        done = subprocess.run(command, cwd=cwd, env=environment, stdout=output, check=False)
    print(log.read_text(), flush=True)
    last = log.read_text().strip().rpartition("\n")[2].strip("= ")
    result = last if done.returncode == 0 else f"failed: {last}"
    version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    return Row(name=name, python=version, result=result, seconds=time.monotonic() - begin)


def print_table(rows: list[Row]) -> None:
    """Print the table in Markdown."""
    print("\n| environment | Python | result | seconds |\n|---|---|---|---:|")
    for row in rows:
        print(f"| {row.name} | {row.python} | {row.result} | {row.seconds:.0f} |")


if __name__ == "__main__":
    main()
