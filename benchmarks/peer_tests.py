"""Run the test file of pytorch-fid against `frechet.compat.pytorch_fid`.

    python benchmarks/peer_tests.py CHECKOUT [--output results/peer_tests.json]

CHECKOUT is a checkout of https://github.com/mseitzer/pytorch-fid; its source is not imported. Before its tests are collected, the
modules that they import are replaced by ours. Prints a table of the tests with the reason of each failure.
"""

import argparse
import json
import sys
import types
from pathlib import Path
from unittest import mock

import pytest
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
        if report.when == "call" or report.failed:
            message = "" if report.passed else str(report.longrepr.reprcrash.message).splitlines()[0]
            self.outcomes[report.nodeid.rpartition("::")[2]] = (report.outcome, message)


def replace_modules():
    """Let `import pytorch_fid` find our functions."""
    package = types.ModuleType("pytorch_fid")
    inception = types.ModuleType("pytorch_fid.inception")
    inception.InceptionV3 = pytorch_fid.InceptionV3
    package.fid_score, package.inception = pytorch_fid, inception
    modules = {"pytorch_fid": package, "pytorch_fid.fid_score": pytorch_fid, "pytorch_fid.inception": inception}
    sys.modules.update(modules)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    replace_modules()
    adapter = Adapter()
    options = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(args.checkout)]
    pytest.main([*options, str(args.checkout / "tests" / "test_fid_score.py")], plugins=[adapter])
    rows = {
        name: {"outcome": outcome, "reason": EXPECTED_FAILURES.get(name, "")}
        for name, (outcome, message) in adapter.outcomes.items()
    }
    print("| test | outcome | reason |\n|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['outcome']} | {row['reason'] or adapter.outcomes[name][1]} |")
    if args.output:
        content = {"pytorch-fid": rows, "machine": describe_machine()}
        args.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
