"""Where images are resized does not change a score, and is recorded."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from golden_images import photographs
from PIL import Image

import frechet
from frechet.errors import RequestError
from frechet.execution.chunks import Partition, compute_plan_digest, make_plan
from frechet.execution.settings import Settings
from frechet.execution.workers import load_job_extractor, make_job
from frechet.features.extractor import MAX_DEVICE_PIXELS
from frechet.images.sources.registry import open_source
from frechet.preprocessing import resize
from frechet.preprocessing.registry import PREPROCESSINGS

pytest.importorskip("torch")  # computes the toy features


def color_layout(images):
    """Return (n, 48) features: the mean colours of 4 x 4 squares of the input."""
    import torch

    return torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)


color_layout.input_size = 32


@pytest.fixture(scope="module")
def images():
    """40 images of 16 to 700 pixels: photographs, parts of them, and squares."""
    whole = [image.convert("RGB") for image in photographs()]
    boxes = [(0, 0, 16, 16), (5, 7, 37, 39), (0, 0, 64, 64), (9, 9, 150, 60), (0, 0, 40, 200)]
    return [*whole, *(image.crop(box) for image in whole[:6] for box in boxes)][:40]


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS)
def test_a_device_gives_the_features_and_score_of_the_host(images, preprocessing):
    options = {"extractor": color_layout, "preprocessing": preprocessing, "backend": "torch", "device": "cpu"}
    host, device = (
        [frechet.collect(part, **options, preprocess_on=place) for part in (images[:20], images[20:])]
        for place in ("host", "device")
    )
    for one, other in zip(host, device, strict=True):
        assert np.abs(one.rows - other.rows).max() <= 2e-5 * np.abs(one.rows).max()
    scores = [float(frechet.score_statistics(*sides)["fd"]) for sides in (host, device)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_networks_of_all_backends_resize_on_their_device(toy_options, images, backend, tmp_path, monkeypatch):
    for index, image in enumerate(images[8:20]):
        image.save(tmp_path / f"{index:02}.png")
    options = {**toy_options, "backend": backend, "device": "cpu", "batch_size": 5}
    host = frechet.collect(tmp_path, **options, preprocess_on="host")
    monkeypatch.setattr(resize, "_resize_bilinear", None)  # the host cannot resize
    device = frechet.collect(tmp_path, **options, preprocess_on="device")
    np.testing.assert_allclose(device.rows, host.rows, rtol=0, atol=2e-5 * np.abs(host.rows).max())


def test_a_backend_that_cannot_resize_rejects_the_device(toy_options, folder):
    with pytest.raises(RequestError, match=r"openvino.*host.*--backend"):
        frechet.score(folder, folder, **toy_options, backend="openvino", preprocess_on="device")
    with pytest.raises(RequestError, match="preprocess_on"):
        Settings(preprocess_on="gpu")


@pytest.mark.parametrize(
    ("device", "preprocess_on", "limit"),
    [
        ("cpu", "auto", 0),
        ("cuda:1", "auto", MAX_DEVICE_PIXELS),
        ("2 x gpu", "auto", MAX_DEVICE_PIXELS),
        ("2 x cpu", "auto", 0),
        ("cuda:0", "host", 0),
        ("mps", "device", None),
    ],
)
def test_accelerators_resize_images_of_ordinary_size_by_default(device, preprocess_on, limit):
    loaded = Settings(extractor=color_layout, preprocessing="clean", backend="torch", preprocess_on="host").load()
    placed = replace(loaded, device=device).place_preprocessing(preprocess_on)
    assert limit is None or placed.max_device_pixels == limit
    assert placed.is_left_to_device(1024, 1024) == (preprocess_on == "device" or bool(limit))
    assert placed.is_left_to_device(1024, 1025) == (preprocess_on == "device")


@pytest.mark.parametrize("own", ["host", "device"])
@pytest.mark.parametrize("placed", ["host", "auto", "device"])
def test_workers_resize_where_the_coordinator_does(toy_options, folder, placed, own):
    """An actor of Ray may have an accelerator that the coordinator has not, or the other way round."""
    settings = Settings(**toy_options, backend="torch", device="cpu", preprocess_on=own)
    coordinator = replace(settings.load(), device="cuda:0").place_preprocessing(placed)
    job = make_job(Partition.from_source(open_source(folder), settings), settings, coordinator)
    assert load_job_extractor(job, settings).max_device_pixels == coordinator.max_device_pixels
    on_host_alone = Settings(**toy_options, backend="openvino")
    assert load_job_extractor(job, on_host_alone).max_device_pixels == 0


def test_plans_differ_if_any_image_is_resized_elsewhere(toy_options, folder):
    """On an accelerator, "auto" and "device" place images above 1024 x 1024 differently."""
    settings = Settings(**toy_options, backend="torch", device="cpu")
    partition, loaded = Partition.from_source(open_source(folder), settings), replace(settings.load(), device="cuda:0")
    plans = [make_plan(partition, settings, loaded.place_preprocessing(place)) for place in ("host", "auto", "device")]
    assert len({compute_plan_digest(plan) for plan in plans}) == 3


def test_the_place_is_recorded_in_scores_and_plans(toy_options, folder):
    scores = {
        place: frechet.score(folder, folder, **toy_options, backend="torch", device="cpu", preprocess_on=place)["fd"]
        for place in ("auto", "device")
    }
    assert {place: score.provenance["preprocess_on"] for place, score in scores.items()} == {
        "auto": "host",
        "device": "device",
    }
    for place, expected in (("auto", None), ("device", sys.maxsize)):
        settings = Settings(**toy_options, backend="torch", device="cpu", preprocess_on=place)
        plan = make_plan(Partition.from_source(open_source(folder), settings), settings, settings.load())
        assert plan.get("max_device_pixels") == expected


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_matrices_are_made_once_per_height_or_width(toy_options, backend):
    """Photographs have hundreds of pairs of height and width, but few heights and widths."""
    lengths, made = range(32, 41), []
    preprocessing = PREPROCESSINGS["pytorch-fid"]

    def make_matrix(length, size):
        made.append(length)
        return preprocessing.resize_matrix(length, size)

    loaded = Settings(**toy_options, backend=backend, device="cpu", preprocess_on="device").load()
    loaded.runner.images.preprocessing = replace(preprocessing, resize_matrix=make_matrix)
    images = [np.zeros((height, width, 3), np.uint8) for height in lengths for width in lengths]
    rows = {"rows": len(images)} if backend == "jax" else {}
    for _ in range(2):  # 81 pairs; a cache of 64 of them would have none left in the second round
        assert loaded.runner.images.put(images, **rows).shape[0] == len(images)
    assert sorted(made) == list(lengths)


def test_grey_and_transparent_images_reach_the_device(toy_options):
    images = [Image.new(mode, (9, 9), 3) for mode in ("L", "RGBA", "P")]
    place = {"backend": "torch", "device": "cpu", "preprocess_on": "device"}
    assert frechet.collect(images, **toy_options, **place).n == 3
