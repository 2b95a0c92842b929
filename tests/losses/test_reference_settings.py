"""Losses and training-loop metrics take the extractor, the layer and the preprocessing of the reference, as `frechet score` does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_extractor import TOY_EXTRACTOR

import frechet
import frechet.jax as fj
from frechet.errors import MismatchError
from frechet.features.registry import register_extractor
from frechet.features.spec import FeatureSpec
from frechet.integrations.torchmetrics import FID, ImageMetric
from frechet.losses.jax import make_reference
from frechet.losses.torch import FDLoss, FIDLoss, ImageFeatures, KIDLoss
from frechet.statistics.feature_statistics import FeatureStatistics

CREATE = {
    "FIDLoss": lambda reference, **options: FIDLoss(reference, **options).spec,
    "KIDLoss": lambda reference, **options: KIDLoss(reference, **options).spec,
    "FDLoss": lambda reference, **options: FDLoss(reference, population=4, **_rename(options)).extractors[0].spec,
    "FID": lambda reference, **options: FID(reference, **options).spec,
    "ImageMetric": lambda reference, **options: ImageMetric(reference, metrics="kid", **options).spec,
    "jax": lambda reference, **options: make_reference(reference, **options).feature_fn.func.spec,
}
every_user_of_references = pytest.mark.parametrize("create", CREATE.values(), ids=CREATE)


def _rename(options):
    return {"extractors" if name == "extractor" else name: value for name, value in options.items()}


def make_statistics(dims, path=None, **recorded):
    """Return statistics of random features, or their file."""
    rows = np.random.default_rng(0).standard_normal((9, dims)).astype(np.float32)
    statistics = FeatureStatistics.from_features(rows, spec=FeatureSpec(**recorded), label="theirs")
    return statistics if path is None else statistics.save(path) or path


@pytest.mark.slow
@every_user_of_references
def test_layer_and_preprocessing_are_those_of_the_file(create, thin_weights, tmp_path):
    path = make_statistics(4, tmp_path / "r.npz", extractor="inception", layer="64", preprocessing="clean")
    found = create(path, weights=thin_weights)
    assert (found.extractor, found.layer, found.preprocessing) == ("inception", "64", "clean")
    assert create(path, weights=thin_weights, extractor="inception", dims=4, preprocessing="clean") == found


@pytest.mark.slow
@every_user_of_references
def test_the_layer_of_a_file_without_a_record_follows_from_its_dimensions(create, thin_weights, tmp_path):
    if create is CREATE["KIDLoss"] or create is CREATE["ImageMetric"]:
        pytest.skip("needs rows, which files of other tools do not have")
    np.savez(tmp_path / "theirs.npz", mu=np.zeros(12), sigma=np.eye(12))
    assert create(tmp_path / "theirs.npz", weights=thin_weights).layer == "192"


@pytest.mark.slow
@every_user_of_references
def test_the_extractor_is_that_of_the_file_unless_one_is_passed(create, toy_options, tmp_path):
    path = make_statistics(5, tmp_path / "r.npz", extractor="toy-name", layer="5")
    found = create(path, weights=toy_options["weights"])
    assert (found.extractor, type(found.extractor)) == ("toy-name", str)
    with pytest.raises(MismatchError, match=r"with extractor toy-name, but .* of inception; pass extractor='toy-name'"):
        create(path, extractor="inception", weights="missing.pth")


@every_user_of_references
def test_a_layer_that_contradicts_the_file_is_rejected_before_the_network_is_loaded(create, thin_weights):
    statistics = make_statistics(4, extractor="inception", layer="64")
    with pytest.raises(MismatchError) as caught:
        create(statistics, weights="missing.pth", dims=12)
    assert str(caught.value) == (
        "the images are compared by layer 192 (12 features), but the reference theirs was computed with layer 64 (4 features). "
        "Set dims=4, or pass another reference."
    )
    with pytest.raises(
        MismatchError, match=r"by layer 2048 .*, but the reference theirs was computed with 5 features "
    ):
        create(make_statistics(5, extractor="inception"), weights="missing.pth")


@pytest.mark.slow
def test_an_extractor_that_has_been_created_keeps_its_layer(thin_weights):
    network = ImageFeatures(weights=thin_weights)
    with pytest.raises(MismatchError, match=r"layer 2048 \(128 features\), .* layer 64 \(4 features\)"):
        FDLoss(make_statistics(4, extractor="inception", layer="64"), extractors=network, population=4)


@pytest.mark.slow
def test_several_extractors_take_the_layers_of_their_references(thin_weights):
    references = [make_statistics(d, extractor="inception", layer=name) for d, name in ((4, "64"), (12, "192"))]
    loss = FDLoss(references, extractors=2 * ["inception"], population=4, weights=thin_weights)
    assert [network.spec.layer for network in loss.extractors] == ["64", "192"]


@pytest.mark.slow
def test_values_are_those_of_a_score(thin_weights, tmp_path):
    images, others = np.random.default_rng(0).integers(0, 256, (2, 9, 32, 32, 3), np.uint8)
    frechet.collect(others, dims=12, weights=thin_weights, preprocessing="clean").save(tmp_path / "r.npz")
    expected = float(frechet.score(images, tmp_path / "r.npz", weights=thin_weights)["fid"])
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2)
    assert float(FIDLoss(tmp_path / "r.npz", weights=thin_weights)(tensors / 255)) == pytest.approx(expected, rel=1e-4)
    metric = FID(tmp_path / "r.npz", weights=thin_weights)
    metric.update(tensors)
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_the_distance_in_jax_names_both_layers(thin_weights):
    apply, _ = fj.network(weights=thin_weights)
    with pytest.raises(MismatchError, match=r"by layer 2048 \(128 features\), .* layer 64 \(4 features\)\. Set dims=4"):
        fj.fid(fj.empty(apply), make_statistics(4, extractor="inception", layer="64"))


def test_a_layer_that_the_extractor_of_the_file_does_not_have_is_rejected(extractor_table):
    register_extractor("two-layers", replace(TOY_EXTRACTOR, layers={"5": 5, "3": 3}))
    with pytest.raises(
        MismatchError, match=r"--dims .* is 64, .* extractor two-layers, which is that of theirs.* from 5, 3"
    ):
        FIDLoss(make_statistics(3, extractor="two-layers"), dims=64, weights="missing.pth")
