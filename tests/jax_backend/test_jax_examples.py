"""The JAX examples run on small inputs."""

import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT
from jax_toy import noise
from parity_kit import collect_layers

import frechet

EXAMPLES = ROOT / "examples"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.subprocess,
    pytest.mark.skipif(not EXAMPLES.is_dir(), reason="a source distribution has no examples"),
]


def run_example(name, *arguments):
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_adm_reference_evaluates_trial_files(tmp_path, weights):
    """The printed values equal the scores of the images in the trial files."""
    header, fid, sfid = run_example(
        "adm_reference.py", "--trial", tmp_path, "--weights", weights, "--backend", "openvino"
    )
    assert header.split() == ["frechet", "published"]
    with np.load(tmp_path / "reference.npz") as reference, np.load(tmp_path / "samples.npz") as samples:
        arrays = samples["arr_0"], reference["arr_0"]
    generated, reference = collect_layers(
        *arrays, extra_layers=["spatial"], preprocessing="tensorflow", weights=weights
    )
    for line, layer in ((fid, "2048"), (sfid, "spatial")):
        name, value, published = line.split()
        expected = frechet.score_statistics(generated[layer], reference[layer])[name]
        assert float(value) == pytest.approx(float(expected), rel=1e-3)
        assert published == "unknown"


def test_jax_reference_writes_the_statistics_of_an_npy_file(tmp_path):
    images = noise(11, size=20)
    np.save(tmp_path / "images.npy", images)
    settings = ["--extractor", "efficientnet-lite0", "--batch", 8]
    run_example("jax_reference.py", tmp_path / "images.npy", tmp_path / "reference.npz", *settings)
    made = frechet.read_statistics(tmp_path / "reference.npz")
    expected = frechet.collect(images, extractor="efficientnet-lite0")
    assert made.n == 11
    np.testing.assert_allclose(made.mean, expected.mean, rtol=0, atol=1e-4 * expected.mean.max())


def test_jax_training_loop_lowers_the_distance():
    pytest.importorskip("flax")
    pytest.importorskip("optax")
    lines = run_example("jax_training_loop.py", "--steps", 40, "--every", 40, "--images", 24, "--batch", 16)
    before, after = (float(line.rpartition(" ")[2]) for line in lines)
    assert after < before
