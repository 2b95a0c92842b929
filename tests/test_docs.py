"""What the documentation says of the benchmarks is what they are and what they gave."""

import json
import re
from pathlib import Path

import pytest

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
