"""The numbers that the peers give, on photographs of many sizes."""

import json

import numpy as np
import pytest
from golden_images import make_tiles, photographs
from helpers import DATA
from parity_kit import (
    BACKENDS,
    KIT,
    KIT_FID,
    KIT_IS,
    KIT_KID,
    KIT_PHOTOS,
    KIT_PRDC,
    KIT_PRECISION_RECALL,
    KIT_SFID,
    KIT_SMALL,
    PEERS,
    assert_close,
    needs_kit,
)
from PIL import Image

import frechet
from frechet.distances.kernel import kid_over_subsets
from frechet.errors import WeightsError
from frechet.execution.collect import collect_layer_statistics
from frechet.execution.settings import Settings
from frechet.images.sources.registry import open_source

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("preprocessing", PEERS)
@pytest.mark.parametrize("dims", [64, 192, 768, 2048])
def test_features_of_photographs_are_the_peers(weights, golden, backend, preprocessing, dims):
    key = f"{PEERS[preprocessing]}_{dims}"
    if key not in golden:
        pytest.skip("this peer was only asked for 2048")
    ours = frechet.collect(photographs(), dims=dims, preprocessing=preprocessing, weights=weights, backend=backend).rows
    assert_close(ours, golden[key])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("dims", "key"), [(1008, "torch_fidelity_logits_unbiased"), (2023, "adm_spatial")])
def test_logits_and_the_spatial_tap_are_the_peers(weights_with_head, golden, backend, dims, key):
    ours = frechet.collect(
        photographs(), dims=dims, preprocessing="tensorflow", weights=weights_with_head, backend=backend
    ).rows
    assert_close(ours, golden[key])


def test_logits_need_their_layer(weights):
    with pytest.raises(WeightsError, match=r"fc\.weight .* Pass weights"):
        frechet.collect(make_tiles("skimage/data/astronaut.png", 2), dims=1008, weights=weights)


def test_preprocessings_differ_by_more_than_the_tolerance(golden):
    one, other = golden["pytorch_fid_2048"], golden["torch_fidelity_2048"]
    assert np.abs(one - other).max() > 1e-3 * np.abs(one).max()


def test_fid_of_more_images_than_dimensions_is_pytorch_fids(weights, golden):
    score = frechet.fid(
        make_tiles("skimage/data/astronaut.png"),
        make_tiles("sklearn/datasets/images/china.jpg"),
        dims=64,
        weights=weights,
    )
    assert float(score) == pytest.approx(float(golden["pytorch_fid_tiles_fid_64"]), rel=1e-5)
    assert score.label == "FID-64 (weights 057ddab1, not the official ones)"


@pytest.mark.parametrize("backend", BACKENDS)
def test_efficientnet_gives_the_features_of_another_implementation(backend):
    with np.load(DATA / "efficientnet.npz") as archive:
        theirs = archive["features"]
    assert_close(frechet.collect(photographs(), extractor="efficientnet-lite0", backend=backend).rows, theirs)


@needs_kit
@pytest.mark.parametrize("dims", KIT_FID)
def test_kit_small_images(weights, dims):
    score = frechet.fid(KIT / "cifar_a", KIT / "cifar_b", dims=dims, weights=weights)
    assert float(score) == pytest.approx(KIT_FID[dims], rel=1e-5)


@needs_kit
@pytest.mark.parametrize("preprocessing", KIT_SMALL)
def test_kit_small_images_with_other_preprocessing(weights, preprocessing):
    score = frechet.fid(KIT / "cifar_a", KIT / "cifar_b", preprocessing=preprocessing, weights=weights)
    assert float(score) == pytest.approx(KIT_SMALL[preprocessing], rel=1e-5)


@needs_kit
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("preprocessing", KIT_PHOTOS)
def test_kit_photographs(weights, preprocessing, backend):
    images = [Image.open(file) for file in sorted((KIT / "photos").iterdir())]
    score = frechet.fid(images[:20], images[20:], preprocessing=preprocessing, weights=weights, backend=backend)
    assert float(score) == pytest.approx(KIT_PHOTOS[preprocessing], rel=1e-5)


@needs_kit
@pytest.mark.parametrize("dims", [64, 192, 768, 2048])
@pytest.mark.parametrize("preprocessing", PEERS)
def test_kit_features_of_photographs(weights, preprocessing, dims):
    name = {"clean": "cleanfid"}.get(preprocessing, PEERS[preprocessing])
    with np.load(KIT / "golden.npz") as archive:
        if f"{name}_photos_{dims}" not in archive:
            pytest.skip("this peer was only asked for 2048")
        theirs = archive[f"{name}_photos_{dims}"]
    assert_close(frechet.collect(KIT / "photos", dims=dims, preprocessing=preprocessing, weights=weights).rows, theirs)


@needs_kit
@pytest.mark.parametrize("backend", BACKENDS)
def test_kit_logits_and_spatial_tap(weights_with_head, backend):
    settings = {"preprocessing": "tensorflow", "weights": weights_with_head, "backend": backend}
    with np.load(KIT / "golden.npz") as archive:
        logits, spatial = archive["torch_fidelity_photos_logits_unbiased"], archive["adm_spatial_cifar_a_first8"]
    assert_close(frechet.collect(KIT / "photos", dims=1008, **settings).rows, logits)
    first = [Image.open(file) for file in sorted((KIT / "cifar_a").iterdir())[:8]]
    assert_close(frechet.collect(first, dims=2023, **settings).rows, spatial)


@needs_kit
def test_kit_sfid(weights):
    score = frechet.score(KIT / "cifar_a", KIT / "cifar_b", dims=2023, preprocessing="tensorflow", weights=weights)[
        "sfid"
    ]
    assert float(score) == pytest.approx(KIT_SFID, rel=1e-5)
    assert score.label.startswith("sFID (weights")


@needs_kit
def test_kit_metrics_of_one_pass(weights_with_head):
    """torch-fidelity's Inception Score, KID, precision and recall, and prdc's four, of the same features."""
    settings = Settings(preprocessing="tensorflow", weights=weights_with_head)
    extractor = settings.load(extra_layers=["logits"])
    keep = {"features": True, "logits": True}
    sides = [
        collect_layer_statistics(open_source(KIT / name), settings, extractor, keep_all_by_layer=keep)
        for name in ("cifar_a", "cifar_b")
    ]
    names = ["is@torch-fidelity", "precision@torch-fidelity", "recall@torch-fidelity"]
    found = frechet.score_statistics(*sides, metrics=[*names, *(f"{key}@prdc" for key in KIT_PRDC)])
    assert [found[name].value for name in names] == pytest.approx([KIT_IS[0], *KIT_PRECISION_RECALL], abs=1e-6)
    assert found["is@torch-fidelity"].std == pytest.approx(KIT_IS[1], abs=1e-6)
    assert {key: found[f"{key}@prdc"].value for key in KIT_PRDC} == pytest.approx(KIT_PRDC, abs=1e-12)
    rows = [side["features"].features for side in sides]
    kid = kid_over_subsets(*rows, subsets=50, subset_size=100, seed=2020)
    assert (kid.value, kid.std) == pytest.approx(KIT_KID, abs=1e-5)


@needs_kit
def test_the_numbers_copied_from_the_kit_are_its_own():
    kit = json.loads((KIT / "golden.json").read_text())
    assert {dims: kit["pytorch_fid"][f"fid_{dims}_exact_low_rank"] for dims in KIT_FID} == KIT_FID
    assert {
        "tensorflow": kit["torch_fidelity"]["fid_2048_exact_low_rank"],
        "clean": kit["clean_fid"]["fid_2048_exact_low_rank"],
        "torchmetrics": kit["torchmetrics"]["fid_2048_antialias_True_exact_low_rank"],
    } == KIT_SMALL
    fidelity = kit["torch_fidelity"]["results"]
    assert (fidelity["inception_score_mean"], fidelity["inception_score_std"]) == KIT_IS
    assert (fidelity["kernel_inception_distance_mean"], fidelity["kernel_inception_distance_std"]) == KIT_KID
    assert (fidelity["precision"], fidelity["recall"]) == KIT_PRECISION_RECALL
    assert kit["prdc"]["results"] == KIT_PRDC
    assert kit["adm_definition"]["sfid_exact_low_rank"] == KIT_SFID
    photos = kit["photos_first20_last20"]
    names = {"tensorflow": "torch_fidelity", "clean": "cleanfid", "torchmetrics": "torchmetrics_antialias_True"}
    assert {
        preprocessing: photos[names.get(preprocessing, "pytorch_fid")] for preprocessing in KIT_PHOTOS
    } == KIT_PHOTOS
