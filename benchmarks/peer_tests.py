"""Run the test files of pytorch-fid and of torchmetrics against our modules and classes.

    python benchmarks/peer_tests.py CHECKOUT [--weights inception.pth] [--output results/peer_tests.json]

CHECKOUT is a checkout of https://github.com/mseitzer/pytorch-fid, whose source is not imported, or of
https://github.com/Lightning-AI/torchmetrics at the installed version. Before the tests are collected, the modules and classes that
they import are replaced by ours. Prints a table of the tests with the reason of each failure; other results in the file are kept.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import types
from pathlib import Path
from unittest import mock

import pytest
import torchmetrics_adapter
from machine import describe_machine

from frechet.compat import pytorch_fid

EXPECTED_FAILURES = {
    "test_calculate_fid_given_statistics": "replaces compute_statistics_of_path, which calculate_fid_given_paths does not call: it "
    "computes both paths with frechet.score, and checks that they have equal settings",
}


class Adapter:
    """A pytest plugin: the fixture `mocker`, and the outcome of each test."""

    def __init__(self):
        self.outcomes = {}

    @pytest.fixture
    def mocker(self):
        with mock.patch.object(mock, "MagicMock", mock.MagicMock):
            patches = []

            def patch(target, **options):
                patches.append(mock.patch(target, **options))
                return patches[-1].start()

            yield types.SimpleNamespace(patch=patch, MagicMock=mock.MagicMock)
            for each in patches:
                each.stop()

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or not report.passed:
            file, _, name = report.nodeid.rpartition("::")
            self.outcomes[f"{Path(file).name}::{name}"] = (report.outcome, _describe(report))


def _get_function(name):
    """Return the name of a test without its file and its parameters."""
    return name.partition("::")[2].partition("[")[0]


def _describe(report):
    """Return the first line of the reason why a test was skipped or failed."""
    if report.skipped:
        return report.longrepr[2].removeprefix("Skipped: ")
    return "" if report.passed else str(report.longrepr.reprcrash.message).splitlines()[0]


def replace_modules():
    """Let `import pytorch_fid` find our functions."""
    package = types.ModuleType("pytorch_fid")
    inception = types.ModuleType("pytorch_fid.inception")
    inception.InceptionV3 = pytorch_fid.InceptionV3
    package.fid_score, package.inception = pytorch_fid, inception
    modules = {"pytorch_fid": package, "pytorch_fid.fid_score": pytorch_fid, "pytorch_fid.inception": inception}
    sys.modules.update(modules)


def prepare(checkout):
    """Replace what the tests import; return (name of the tool, test files, known reasons of failures)."""
    if (checkout / torchmetrics_adapter.FILES[0]).exists():
        torchmetrics_adapter.install()
        return "torchmetrics", torchmetrics_adapter.FILES, torchmetrics_adapter.REASONS
    replace_modules()
    return "pytorch-fid", ["tests/test_fid_score.py"], EXPECTED_FAILURES


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--weights", type=Path, help="Weights of Inception; by default those that are found.")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.weights:
        os.environ["FRECHET_WEIGHTS"] = str(args.weights.resolve())
    tool, files, reasons = prepare(args.checkout)
    adapter = Adapter()
    options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--noconftest"]
    with tempfile.TemporaryDirectory() as folder:  # away from the packages of the checkout
        copies = [shutil.copy(args.checkout / file, folder) for file in files]
        pytest.main([*options, "--rootdir", folder, *copies], plugins=[adapter])
    rows = {
        name: {
            "outcome": outcome,
            "reason": message if outcome != "failed" else reasons.get(_get_function(name), message),
        }
        for name, (outcome, message) in adapter.outcomes.items()
    }
    print("| test | outcome | reason |\n|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['outcome']} | {row['reason']} |")
    if args.output:
        known = json.loads(args.output.read_text()) if args.output.exists() else {}
        content = {**known, tool: rows, "machine": describe_machine()}
        args.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
