"""A few cases of the fuzz harness; benchmarks/fuzz.py runs many (docs/benchmarks.md has the counts)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CHEAP = "image,zip,tar,npz,npy,features,statistics,pickle,pth,json,protocol"
NATIVE = "hdf5,lmdb,arrow,parquet,onnx"


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize(("readers", "cases"), [(CHEAP, 150), (NATIVE, 20)])
def test_damaged_files_give_errors_of_frechet_only(tmp_path, readers, cases):
    command = [
        sys.executable,
        BENCHMARKS / "fuzz.py",
        "--readers",
        readers,
        "--cases",
        str(cases),
        "--output",
        tmp_path / "a",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = json.loads((tmp_path / "a").read_text())["readers"]
    assert set(rows) == set(readers.split(","))
    assert {name: row["faults"] for name, row in rows.items()} == dict.fromkeys(rows, 0), done.stderr
    assert all(sum(row["outcomes"].values()) == cases for row in rows.values())
