"""The programs of docs/frameworks.md run in the frameworks that are installed, and log the value of frechet.score."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest
from helpers import ROOT, make_image_folder

import frechet

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]

PROGRAMS = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "docs" / "frameworks.md").read_text(), re.MULTILINE | re.DOTALL
)
CHECK = """
import frechet, numpy as np
value, found = {value}, np.asarray({images})
pixels = found if found.dtype == np.uint8 else np.round(found * 255).astype(np.uint8)
expected = frechet.fd(pixels, "reference.npz", interval="none").value
assert abs(value - expected) < 1e-4 * expected, (value, expected)
"""
LOGGED = {  # package -> the last value that its program logs, and the images (n, h, w, 3) that it is the value of
    "lightning": ("trainer.callback_metrics['fid'].item()", "model.generator(latents).detach().permute(0, 2, 3, 1)"),
    "transformers": (
        "[row['eval_fid'] for row in trainer.state.log_history if 'eval_fid' in row][-1]",
        "model(latents)['images'].detach().permute(0, 2, 3, 1)",
    ),
    "ignite": ("evaluator.state.metrics['fid']", "model(latents).detach().permute(0, 2, 3, 1)"),
    "keras": ("history.history['fid'][-1]", "model.predict(latents, verbose=0)"),
    "clu": ("metrics.compute()['fid']", "images"),
}


@pytest.mark.parametrize("package", LOGGED)
def test_the_program_logs_the_value_of_the_score(package, tmp_path):
    pytest.importorskip("torchmetrics" if package in ("lightning", "transformers", "ignite") else "numpy")
    needed = [package, "jax"] if package in ("keras", "clu") else [package]
    if any(importlib.util.find_spec(name) is None for name in needed):
        pytest.skip(f"{package} is not installed")
    (program,) = (program for program in PROGRAMS if re.search(rf"^(import|from) {package}\b", program, re.MULTILINE))
    make_image_folder(tmp_path / "photos", 12, size=(32, 32))
    frechet.collect(tmp_path / "photos", extractor="efficientnet-lite0").save(tmp_path / "reference.npz")
    value, images = LOGGED[package]
    code = program + CHECK.format(value=value, images=images)
    environment = {"KERAS_BACKEND": "jax", "HF_HUB_OFFLINE": "1", "PATH": "", "HOME": str(tmp_path)}
    environment["MPLCONFIGDIR"] = os.environ.get("MPLCONFIGDIR", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
