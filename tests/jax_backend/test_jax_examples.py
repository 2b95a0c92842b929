"""The JAX examples run on small inputs."""

import json

import numpy as np
import pytest
from example_scripts import needs_examples
from helpers import run
from jax_toy import noise
from small_networks import make_thin, write_thin_weights

import frechet

pytestmark = [pytest.mark.slow, needs_examples]


ADM_METRICS = ["fid", "sfid", "is@adm", "precision@adm", "recall@adm"]


def test_adm_reference_evaluates_trial_files(run_example, tmp_path, extractor_table):
    """The five numbers of one command equal those of single runs, and distances of the images in the trial files."""
    extractor_table._entries["inception"] = make_thin(extractor_table["inception"])
    weights = write_thin_weights(tmp_path / "thin.pth", head=True)
    header, *lines = run_example("adm_reference.py", "--trial", tmp_path, "--weights", weights, "--backend", "openvino")
    assert header.split() == ["frechet", "published"]
    assert [line.split()[0] for line in lines] == ADM_METRICS
    assert {line.split()[2] for line in lines} == {"unknown"}
    inputs = tmp_path / "samples.npz", tmp_path / "reference.npz"
    options = ["--preprocessing", "tensorflow", "--reference-preprocessing", "tensorflow"]
    options += ["--weights", weights]
    code, out, err = run("score", *inputs, "--metrics", ",".join(ADM_METRICS), *options, "--json")
    assert code == 0, err
    values = {name: each["value"] for name, each in json.loads(out)["scores"].items()}
    assert list(values) == ADM_METRICS
    for name, line in zip(ADM_METRICS, lines, strict=True):
        assert float(line.split()[1]) == pytest.approx(values[name], rel=1e-3, abs=1e-4)
        single = json.loads(run("score", *inputs, "--metrics", name, *options, "--json")[1])["scores"][name]
        assert single["value"] == pytest.approx(values[name], rel=1e-6)
    with np.load(inputs[1]) as reference, np.load(inputs[0]) as samples:
        arrays = samples["arr_0"], reference["arr_0"]
    for name, dims in (("fid", None), ("sfid", 2023)):
        generated, reference = (
            frechet.collect(images, dims=dims, preprocessing="tensorflow", weights=weights) for images in arrays
        )
        expected = frechet.score_statistics(generated, reference)[name]
        assert values[name] == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.usefixtures("small_inputs")
def test_jax_reference_writes_the_statistics_of_an_npy_file(run_example, tmp_path):
    images = noise(11, size=20)
    np.save(tmp_path / "images.npy", images)
    settings = ["--extractor", "efficientnet-lite0", "--batch", 8]
    run_example("jax_reference.py", tmp_path / "images.npy", tmp_path / "reference.npz", *settings)
    made = frechet.read_statistics(tmp_path / "reference.npz")
    expected = frechet.collect(images, extractor="efficientnet-lite0")
    assert made.n == 11
    np.testing.assert_allclose(made.mean, expected.mean, rtol=0, atol=1e-4 * expected.mean.max())


def test_jax_training_loop_lowers_the_distance(run_example):
    pytest.importorskip("flax")
    pytest.importorskip("optax")
    lines = run_example("jax_training_loop.py", "--steps", 40, "--every", 40, "--images", 24, "--batch", 16)
    before, after = (float(line.rpartition(" ")[2]) for line in lines)
    assert after < before
