"""benchmarks/gpu.py runs from end to end without a GPU."""

import json
import subprocess
import sys

import pytest
from helpers import ROOT


@pytest.mark.exhaustive
@pytest.mark.subprocess
def test_every_section_runs_on_the_processor(tmp_path):
    pytest.importorskip("torch")
    output = tmp_path / "gpu.json"
    subprocess.run([sys.executable, ROOT / "benchmarks" / "gpu.py", "--smoke", "--output", output], check=True)
    result = json.loads(output.read_text())
    assert result["smoke"]
    assert not result["left_out"]
    assert all(each["is_within"] for each in result["parity"].values())
    assert "tf32" in result["throughput"]["tf32"]  # the reason why it was not measured
