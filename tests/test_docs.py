"""What the documentation says is so: its commands run, its links lead somewhere, its figures are the benchmarks'."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import help_pages
import numpy as np
import pytest
from conftest import make_folder
from PIL import Image

from frechet.metrics import METRICS

ROOT = Path(__file__).parents[1]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
SCRIPTS = sorted(path for path in (ROOT / "benchmarks").glob("*.*") if path.suffix in (".py", ".sh"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_benchmark_is_explained(path):
    if path.name != "machine.py":  # no script: what they share
        assert path.name in (ROOT / "benchmarks" / "README.md").read_text()


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_every_result_says_what_it_was_measured_on_and_names_no_place_on_that_machine(path):
    result = json.loads(path.read_text())
    assert {"date", "processor", "cores", "versions"} <= result["machine"].keys()
    assert not re.search(r'"(/|~|[A-Z]:\\)', path.read_text())


@pytest.mark.skipif(not RESULTS, reason="a source distribution has no benchmarks")
def test_the_precision_page_quotes_its_result():
    page = (ROOT / "docs" / "precision.md").read_text()
    pairs = json.loads((ROOT / "benchmarks" / "results" / "precision.json").read_text())["pairs"]
    for result in pairs.values():
        for value in result["distance"].values():
            assert f"{value:.3f}" in page
            change = value / result["distance"]["float32 generated, float32 reference"] - 1
            assert change == 0 or f"{100 * change:+.1f} %" in page
        assert f"{result['same_images_in_two_precisions']:.3f}" in page


@pytest.mark.skipif(not RESULTS, reason="a source distribution has no benchmarks")
def test_the_page_of_metrics_quotes_its_result_and_lists_them_all():
    page = (ROOT / "docs" / "metrics.md").read_text()
    measured = json.loads((ROOT / "benchmarks" / "results" / "what_sees_what.json").read_text())["metrics"]
    lines = {
        line.split("`")[1]: line
        for line in page.partition("## Which metric sees what")[2].splitlines()
        if "| `" in line
    }
    assert lines.keys() == measured.keys()
    for key, row in measured.items():
        for cell in row.values():
            assert f"{', '.join(f'{value:.3g}' for value in cell['values'][1:])}: {cell['way']}" in lines[key]
    assert set(METRICS) == set(re.findall(r"^\| `([^`]*)`", page.partition("## Which")[0], re.MULTILINE))


FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(
    path
    for path in (ROOT / "docs").rglob("*.md")
    if path.name in ("index.md", "conventions.md", "reference-statistics.md", "training.md")
    or path.parent.name == "coming-from"
)
SKIPPED = ("pip install",)  # what a page says first, and a test has done


@pytest.fixture(scope="module")
def desk(tmp_path_factory, weights_with_head):
    """A folder that has what the pages speak of: images and statistics; and seeded weights instead of the official ones."""
    folder = tmp_path_factory.mktemp("desk")
    for seed, name in enumerate(("samples", "reference", "other-samples")):
        make_folder(folder / name, 11, seed=seed, size=(20, 24))
    stack = np.stack([np.asarray(Image.open(path)) for path in sorted((folder / "samples").iterdir())])
    np.savez(folder / "samples.npz", arr_0=stack)
    environment = {**os.environ, "FRECHET_WEIGHTS": str(weights_with_head), "PYTHONWARNINGS": "ignore"}
    environment["PYTHONPATH"] = str(ROOT / "src")
    run_code("frechet stats reference/ reference.npz", "sh", folder, environment)
    with np.load(folder / "reference.npz") as arrays:
        np.savez(folder / "theirs.npz", mu=arrays["mu"], sigma=arrays["sigma"])
    return folder, environment


def run_code(code, language, folder, environment):
    """A fence's commands, one after the other, or its Python."""
    if language == "python":
        commands = [[sys.executable, "-c", code]]
    else:
        lines = [line for line in code.splitlines() if line and not line.startswith(("#", *SKIPPED))]
        commands = [[sys.executable, "-m", *shlex.split(line, comments=True)] for line in lines]
        commands = [[*c[:2], *c[4:]] if c[2:4] == ["python", "-m"] else c for c in commands]
    for command in commands:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_what_a_page_says_to_run_runs(path, desk, tmp_path):
    folder, environment = desk
    if "torch" in path.read_text():
        pytest.importorskip("torchmetrics")
    here = tmp_path / "here"
    shutil.copytree(folder, here)
    fences = FENCE.findall(path.read_text())
    text = "\n".join(code for language, code in fences if language == "sh")
    if "frechet stats reference/ reference.npz" in text:
        (here / "reference.npz").unlink()
    for code in (code for language, code in fences if language == "sh"):
        run_code(code, "sh", here, environment)
    python = "\n".join(code for language, code in fences if language == "python")
    if python:
        run_code(python, "python", here, environment)


def test_the_page_of_commands_is_what_help_says():
    assert help_pages.PAGE.read_text() == help_pages.help_page(), "run python tests/help_pages.py"


def test_links_within_the_docs_lead_somewhere():
    for path in (ROOT / "docs").rglob("*.md"):
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
            if not target.startswith(("http", "#")):
                assert (path.parent / target.partition("#")[0]).exists(), f"{path.name}: {target}"


def test_the_questions_of_users_are_all_answered():
    """The 46 demands that were gathered from other tools' issues."""
    numbers = re.findall(r"^\*\*(\d+)\. ", (ROOT / "docs" / "faq.md").read_text(), re.MULTILINE)
    assert sorted(map(int, numbers)) == list(range(1, 47))


@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed (dependency group docs)"
)
def test_the_docs_build_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "site" / "api" / "index.html").stat().st_size > 20_000
