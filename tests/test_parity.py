"""The numbers that the peers give, on photographs of many sizes."""

import json

import numpy as np
import pytest
from golden_images import FEW_PHOTOGRAPHS, make_tiles, photographs
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
    LAYERS,
    PEERS,
    assert_close,
    assert_layers_close,
    collect_layers,
    list_compared_layers,
    needs_jax,
    needs_kit,
    needs_torch,
)
from PIL import Image

import frechet
from frechet.distances.kernel import kid_over_subsets
from frechet.errors import WeightsError

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("preprocessing", PEERS)
def test_features_of_photographs_are_the_peers(weights_with_head, golden, backend, preprocessing):
    settings = {"preprocessing": preprocessing, "weights": weights_with_head, "backend": backend}
    (found,) = collect_layers(photographs(), extra_layers=["logits", "spatial"], **settings)
    assert_layers_close(found, golden, preprocessing)


@needs_torch
@pytest.mark.parametrize("preprocessing", PEERS)
def test_features_of_photographs_resized_on_the_device_are_the_peers(weights_with_head, golden, preprocessing):
    settings = {"preprocessing": preprocessing, "weights": weights_with_head, "backend": "torch"}
    (found,) = collect_layers(photographs(), extra_layers=["logits", "spatial"], **settings, preprocess_on="device")
    assert_layers_close(found, golden, preprocessing)


@needs_jax
def test_features_of_photographs_resized_on_the_device_of_jax_are_the_peers(weights_with_head, golden):
    """With the layers of the test in test_jax.py, so that XLA compiles the network once for both."""
    settings = {"preprocessing": "clean", "weights": weights_with_head, "backend": "jax", "preprocess_on": "device"}
    images = [photographs()[index] for index in FEW_PHOTOGRAPHS]
    (found,) = collect_layers(images, extra_layers=["logits", "spatial"], **settings)
    assert_layers_close(found, golden, "clean", FEW_PHOTOGRAPHS)


@needs_kit
@needs_torch
@pytest.mark.exhaustive
@pytest.mark.parametrize("preprocessing", KIT_PHOTOS)
def test_kit_photographs_resized_on_the_device(weights, preprocessing):
    images = [Image.open(file) for file in sorted((KIT / "photos").iterdir())]
    options = {"preprocessing": preprocessing, "weights": weights, "backend": "torch", "device": "cpu"}
    score = frechet.fid(images[:20], images[20:], **options, preprocess_on="device")
    assert float(score) == pytest.approx(KIT_PHOTOS[preprocessing], rel=1e-5)


@pytest.mark.parametrize(
    ("dims", "key"),
    [
        (64, "torch_fidelity_64"),
        (192, "torch_fidelity_192"),
        (768, "torch_fidelity_768"),
        (1008, "torch_fidelity_logits_unbiased"),
        (2023, "adm_spatial"),
    ],
)
def test_each_layer_alone_is_the_peers(weights_with_head, golden, dims, key):
    ours = frechet.collect(photographs(), dims=dims, preprocessing="tensorflow", weights=weights_with_head).rows
    assert_close(ours, golden[key])


def test_logits_need_their_layer(weights):
    with pytest.raises(WeightsError, match=r"fc\.weight .* Pass weights"):
        frechet.collect(make_tiles("skimage/data/astronaut.png", 2), dims=1008, weights=weights)


def test_preprocessings_differ_by_more_than_the_tolerance(golden):
    one, other = golden["pytorch_fid_2048"], golden["torch_fidelity_2048"]
    assert np.abs(one - other).max() > 1e-3 * np.abs(one).max()


def test_fid_of_more_images_than_dimensions_is_pytorch_fids(weights, golden, tmp_path):
    """A folder compared with an array."""
    for index, tile in enumerate(make_tiles("skimage/data/astronaut.png")):
        Image.fromarray(tile).save(tmp_path / f"{index:03d}.png")
    score = frechet.fid(tmp_path, make_tiles("sklearn/datasets/images/china.jpg"), dims=64, weights=weights)
    assert float(score) == pytest.approx(float(golden["pytorch_fid_tiles_fid_64"]), rel=1e-5)
    assert score.label == "FID-64 (weights 057ddab1, not the official ones)"


@pytest.mark.parametrize("backend", BACKENDS)
def test_efficientnet_gives_the_features_of_another_implementation(backend):
    with np.load(DATA / "efficientnet.npz") as archive:
        theirs = archive["features"]
    assert_close(frechet.collect(photographs(), extractor="efficientnet-lite0", backend=backend).rows, theirs)


@needs_kit
@pytest.mark.exhaustive
def test_kit_small_images(weights):
    sides = collect_layers(KIT / "cifar_a", KIT / "cifar_b", weights=weights)
    found = {int(layer): compute_fid(*(side[layer] for side in sides)) for layer in LAYERS}
    assert found == pytest.approx(KIT_FID, rel=1e-5)


@needs_kit
@pytest.mark.exhaustive
@pytest.mark.parametrize("preprocessing", sorted(KIT_SMALL.keys() - {"tensorflow"}))
def test_kit_small_images_with_other_preprocessing(weights, preprocessing):
    score = frechet.fid(KIT / "cifar_a", KIT / "cifar_b", preprocessing=preprocessing, weights=weights)
    assert float(score) == pytest.approx(KIT_SMALL[preprocessing], rel=1e-5)


@needs_kit
@pytest.mark.exhaustive
def test_kit_small_images_with_tensorflow_preprocessing(weights_with_head):
    """FID, sFID, torch-fidelity's Inception Score, KID, precision and recall, and prdc's four, of one pass."""
    sides = collect_layers(
        KIT / "cifar_a",
        KIT / "cifar_b",
        extra_layers=["spatial", "logits"],
        preprocessing="tensorflow",
        weights=weights_with_head,
    )
    assert compute_fid(*(side["2048"] for side in sides)) == pytest.approx(KIT_SMALL["tensorflow"], rel=1e-5)
    sfid = frechet.score_statistics(*(side["spatial"] for side in sides), metrics="sfid")["sfid"]
    assert float(sfid) == pytest.approx(KIT_SFID, rel=1e-5)
    assert sfid.label.startswith("sFID (weights")
    names = ["is@torch-fidelity", "precision@torch-fidelity", "recall@torch-fidelity"]
    found = frechet.score_statistics(
        *({"features": side["2048"], "logits": side["logits"]} for side in sides),
        metrics=[*names, *(f"{key}@prdc" for key in KIT_PRDC)],
    )
    assert [found[name].value for name in names] == pytest.approx([KIT_IS[0], *KIT_PRECISION_RECALL], abs=1e-6)
    assert found["is@torch-fidelity"].std == pytest.approx(KIT_IS[1], abs=1e-6)
    assert {key: found[f"{key}@prdc"].value for key in KIT_PRDC} == pytest.approx(KIT_PRDC, abs=1e-12)
    kid = kid_over_subsets(*(side["2048"].features for side in sides), subsets=50, subset_size=100, seed=2020)
    assert (kid.value, kid.std) == pytest.approx(KIT_KID, abs=1e-5)


@needs_kit
@pytest.mark.parametrize("backend", ["openvino", pytest.param("torch", marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("preprocessing", KIT_PHOTOS)
def test_kit_photographs(weights_with_head, preprocessing, backend):
    images = [Image.open(file) for file in sorted((KIT / "photos").iterdir())]
    sides = collect_layers(
        images[:20],
        images[20:],
        extra_layers=["logits"],
        preprocessing=preprocessing,
        weights=weights_with_head,
        backend=backend,
    )
    assert compute_fid(*(side["2048"] for side in sides)) == pytest.approx(KIT_PHOTOS[preprocessing], rel=1e-5)
    ours = {layer: np.concatenate([side[layer].rows for side in sides]) for layer in sides[0]}
    name = {"clean": "cleanfid"}.get(preprocessing, PEERS[preprocessing])
    keys = {layer: f"{name}_photos_{layer}" for layer in list_compared_layers(preprocessing)}
    if preprocessing == "tensorflow":
        keys["logits"] = "torch_fidelity_photos_logits_unbiased"
    with np.load(KIT / "golden.npz") as archive:
        for layer, key in keys.items():
            assert_close(ours[layer], archive[key], key)


@needs_kit
@pytest.mark.parametrize("backend", BACKENDS)
def test_kit_spatial_tap(weights, backend):
    first = [Image.open(file) for file in sorted((KIT / "cifar_a").iterdir())[:8]]
    ours = frechet.collect(first, dims=2023, preprocessing="tensorflow", weights=weights, backend=backend).rows
    with np.load(KIT / "golden.npz") as archive:
        assert_close(ours, archive["adm_spatial_cifar_a_first8"])


def compute_fid(generated, reference):
    return float(frechet.score_statistics(generated, reference, metrics="fid")["fid"])


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
