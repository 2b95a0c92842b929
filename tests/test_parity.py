"""The numbers that the peers give, on photographs of many sizes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA
from golden_images import photographs, tiles

import frechet

KIT = Path(os.environ.get("FRECHET_PARITY_KIT", Path(__file__).parents[2] / "shared" / "parity"))
needs_kit = pytest.mark.skipif(
    not KIT.is_dir(), reason="the parity kit is not here; its numbers are also in tests/data"
)

# golden.json of the parity kit: the exact Fréchet distances of pytorch-fid's and torch-fidelity's features
KIT_FID = {64: 0.03555892209929001, 192: 0.06883364936630088, 768: 0.05881718401975977, 2048: 0.2651389158686186}
KIT_FID_TENSORFLOW = 0.266871576430594
KIT_PHOTOS = {"pytorch-fid": 2.831489280838433, "tensorflow": 2.8628785692706984}


@pytest.mark.parametrize(("convention", "peer"), [("pytorch-fid", "pytorch_fid"), ("tensorflow", "torch_fidelity")])
@pytest.mark.parametrize("dims", [64, 192, 768, 2048])
def test_features_of_photographs_are_the_peers(weights, golden, convention, peer, dims):
    ours = frechet.collect(photographs(), dims=dims, convention=convention, weights=weights).rows
    theirs = golden[f"{peer}_{dims}"]
    assert np.abs(ours - theirs).max() <= 2e-5 * np.abs(theirs).max()


def test_the_conventions_differ_by_more_than_the_tolerance(golden):
    one, other = golden["pytorch_fid_2048"], golden["torch_fidelity_2048"]
    assert np.abs(one - other).max() > 1e-3 * np.abs(one).max()


def test_fid_of_more_images_than_dimensions_is_pytorch_fids(weights, golden):
    score = frechet.fid(
        tiles("skimage/data/astronaut.png"), tiles("sklearn/datasets/images/china.jpg"), dims=64, weights=weights
    )
    assert float(score) == pytest.approx(float(golden["pytorch_fid_tiles_fid_64"]), rel=1e-5)
    assert score.label == "FID-64 (weights 057ddab1, not the official ones)"


def test_efficientnet_gives_the_features_of_another_implementation():
    with np.load(DATA / "efficientnet.npz") as archive:
        theirs = archive["features"]
    ours = frechet.collect(photographs(), extractor="efficientnet-lite0").rows
    assert np.abs(ours - theirs).max() <= 2e-5 * np.abs(theirs).max()


@needs_kit
@pytest.mark.parametrize("dims", KIT_FID)
def test_kit_small_images(weights, dims):
    score = frechet.fid(KIT / "cifar_a", KIT / "cifar_b", dims=dims, weights=weights)
    assert float(score) == pytest.approx(KIT_FID[dims], rel=1e-5)


@needs_kit
def test_kit_small_images_in_the_tensorflow_convention(weights):
    score = frechet.fid(KIT / "cifar_a", KIT / "cifar_b", convention="tensorflow", weights=weights)
    assert float(score) == pytest.approx(KIT_FID_TENSORFLOW, rel=1e-5)


@needs_kit
@pytest.mark.parametrize("convention", KIT_PHOTOS)
def test_kit_photographs(weights, convention):
    files = sorted((KIT / "photos").iterdir())
    from PIL import Image

    images = [Image.open(file) for file in files]
    score = frechet.fid(images[:20], images[20:], convention=convention, weights=weights)
    assert float(score) == pytest.approx(KIT_PHOTOS[convention], rel=1e-5)


@needs_kit
@pytest.mark.parametrize(("convention", "peer"), [("pytorch-fid", "pytorch_fid"), ("tensorflow", "torch_fidelity")])
@pytest.mark.parametrize("dims", [64, 192, 768, 2048])
def test_kit_features_of_photographs(weights, convention, peer, dims):
    with np.load(KIT / "golden.npz") as archive:
        theirs = archive[f"{peer}_photos_{dims}"]
    ours = frechet.collect(KIT / "photos", dims=dims, convention=convention, weights=weights).rows
    assert np.abs(ours - theirs).max() <= 2e-5 * np.abs(theirs).max()


@needs_kit
def test_the_numbers_copied_from_the_kit_are_its_own():
    kit = json.loads((KIT / "golden.json").read_text())
    assert {dims: kit["pytorch_fid"][f"fid_{dims}_exact_low_rank"] for dims in KIT_FID} == KIT_FID
    assert kit["torch_fidelity"]["fid_2048_exact_low_rank"] == KIT_FID_TENSORFLOW
    photos = kit["photos_first20_last20"]
    assert {"pytorch-fid": photos["pytorch_fid"], "tensorflow": photos["torch_fidelity"]} == KIT_PHOTOS
