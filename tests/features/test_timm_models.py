"""The encoders of FDr-6: their rows with small seeded networks in timm's format, compared with timm's own forward pass."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import frechet
from frechet.errors import RequestError, WeightsError
from frechet.features.loading import load_extractor
from frechet.features.registry import EXTRACTORS
from frechet.features.timm_rows import ROWS
from frechet.protocols.registry import PROTOCOLS

torch = pytest.importorskip("torch")
VIT = {"img_size": 224, "patch_size": 14}
SMALL = {  # row -> the name of a small network of the same kind, and its keyword arguments
    "convnextv2-b": ("test_convnext", {}),
    "dinov2-vitl14-256": ("test_vit", VIT),
    "mae-vit-l-16-timm": ("test_vit", {**VIT, "patch_size": 16}),
    "siglip2-so400m-16": (
        "test_vit",
        {"img_size": 256, "patch_size": 16, "class_token": False, "global_pool": "map"},
    ),
    "clip-vit-l-14-256": ("test_vit", {**VIT, "pre_norm": True}),
}


@pytest.fixture(scope="module")
def timm():
    return pytest.importorskip("timm", reason="needs timm and torchvision")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Folders with two images of 256 x 256, and of 90 x 60 pixels."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name, shape in (("square", (256, 256)), ("small", (90, 60))):
        (folder / name).mkdir()
        for index in range(2):
            pixels = rng.integers(0, 256, (*shape, 3), np.uint8)  # noise, which bicubic interpolation overshoots
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture
def small(timm, tmp_path, monkeypatch):
    """A function that gives a row a small network, writes its seeded weights, and returns the network."""
    safetensors = pytest.importorskip("safetensors.torch")

    def shrink(name):
        architecture, options = SMALL[name]
        kwargs = {**ROWS[name].model.model_kwargs, **options}
        torch.manual_seed(0)
        network = timm.create_model(architecture, **kwargs).eval()
        for parameter in network.parameters():  # also those that start at 0 or 1
            torch.nn.init.normal_(parameter, std=0.2)
        safetensors.save_file(network.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
        model = replace(ROWS[name].model, architecture=architecture, model_kwargs=kwargs)
        monkeypatch.setitem(EXTRACTORS._entries, name, replace(ROWS[name], model=model))
        return network

    return shrink


def standardise(timm, folder, name):
    """Resize the images of a folder as PyTorch does, and standardise them as timm's configuration of the real network says."""
    config = timm.get_pretrained_cfg(ROWS[name].model.architecture)
    mean, std = (torch.tensor(each)[:, None, None] for each in (config.mean, config.std))
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
    unit = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    size = 2 * (ROWS[name].input_size,)
    if unit.shape[2:] != size:
        unit = torch.nn.functional.interpolate(unit, size, mode="bicubic", antialias=True)
    return (unit - mean) / std


def pool(timm, network, x):
    """Compute the features with other functions of timm than ours."""
    if hasattr(network, "stages"):  # a convolutional network: the result of the last stage
        return network.forward_intermediates(x, intermediates_only=True)[-1].mean((2, 3))
    network.reset_classifier(0, global_pool="map" if network.attn_pool is not None else "token")
    patch, size = network.patch_embed.patch_size[0], x.shape[-1]
    padded = torch.nn.functional.pad(x, (0, -size % patch) * 2)
    network.set_input_size(padded.shape[-2:])  # interpolates the position embeddings once
    return network(padded)


@pytest.mark.parametrize("folder", ["square", "small"])
@pytest.mark.parametrize("name", SMALL)
def test_features_equal_timms(timm, images, small, tmp_path, name, folder):
    network = small(name)
    ours = frechet.collect(images / folder, extractor=name, weights=tmp_path)
    with torch.inference_mode():
        expected = pool(timm, network, standardise(timm, images / folder, name)).numpy()
    scale = np.abs(expected).max()
    assert scale > 1e-2
    np.testing.assert_allclose(ours.features / scale, expected / scale, atol=2e-5)
    assert (ours.spec.extractor, ours.spec.layer, ours.spec.is_official) == (name, "64", False)


@pytest.mark.parametrize("name", ROWS)
def test_rows_agree_with_timms_tables(timm, name):
    """Features, tokens and classes of the real networks, which are built without memory for their weights."""
    row, tokens = ROWS[name], {"dinov2-vitl14-256": 1 + 19**2, "mae-vit-l-16-timm": 1 + 14**2}
    config = timm.get_pretrained_cfg(row.model.architecture)
    assert config.hf_hub_id == row.model.hub_name
    with torch.device("meta"):
        network = timm.create_model(row.model.architecture, **row.model.model_kwargs).eval()
        features = network.forward_features(torch.zeros(1, 3, row.input_size, row.input_size))
    assert network.num_features == row.dims
    tokens |= {"clip-vit-l-14-256": 1 + 19**2, "siglip2-so400m-16": 14**2}
    assert features.shape == ((1, tokens[name], row.dims) if name in tokens else (1, row.dims, 7, 7))
    has_class_token = getattr(network, "num_prefix_tokens", 0) == 1
    attends = getattr(network, "attn_pool", None) is not None
    assert (row.model.pooling == "class token", row.model.pooling == "attention") == (has_class_token, attends)


def move_to_hub_cache(weights, cache, repository):
    """Put a file into the cache of the Hub's client, and return the folder with it."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    weights.rename(snapshot / "model.safetensors")
    return snapshot


@pytest.fixture
def published(small, tmp_path, monkeypatch):
    """A function that makes a row's small network the published one, in the Hub's cache; it returns the folder."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def publish(name):
        small(name)
        row = replace(EXTRACTORS[name], layers={"64": 64}, default_layer="64")
        monkeypatch.setitem(EXTRACTORS._entries, name, row)
        return move_to_hub_cache(tmp_path / "model.safetensors", tmp_path / "hub", row.model.hub_name)

    return publish


def test_weights_are_found_in_the_hubs_cache(published):
    folder = published("mae-vit-l-16-timm")
    assert load_extractor("mae-vit-l-16-timm").spec.is_official
    assert str(folder) in EXTRACTORS["mae-vit-l-16-timm"].model.check()


def test_a_protocol_of_several_encoders_scores_each_in_bfloat16(published, images, monkeypatch):
    """FDr-6 of two of its encoders, with a folder as the reference."""
    kept = {"fd-convnextv2": "convnextv2-b", "fd-mae": "mae-vit-l-16-timm"}
    for name in kept.values():
        published(name)
    protocol = PROTOCOLS["fdr6-imagenet-256"]
    measurements = [replace(each, reference=None) for each in protocol.measurements if kept.keys() & set(each.metrics)]
    changed = replace(
        protocol,
        measurements=tuple(measurements),
        n_generated=2,
        validation_fd={name: protocol.validation_fd[name] for name in kept},
    )
    monkeypatch.setitem(PROTOCOLS, "fdr6-imagenet-256", changed)
    inputs = images / "square", images / "small"
    scores = frechet.score(*inputs, protocol="fdr6-imagenet-256", interval="none")
    for metric, extractor in kept.items():
        assert scores[metric].provenance["precision"] == "bfloat16"
        alone = frechet.fd(*inputs, extractor=extractor, precision="bfloat16", interval="none")
        assert scores[metric].value == pytest.approx(alone.value, rel=1e-9)
        assert alone.value != frechet.fd(*inputs, extractor=extractor, interval="none").value
    assert scores.protocol.deviations == ()
    values = scores["fd-convnextv2"].value / 56.87, scores["fd-mae"].value / 0.04
    assert scores.protocol.mean_fdr == pytest.approx(np.mean(values), rel=1e-12)


def test_nothing_is_downloaded_to_compute_a_score(timm, images, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for function in ("snapshot_download", "hf_hub_download"):
        monkeypatch.setattr(f"huggingface_hub.{function}", lambda *_, **__: pytest.fail("contacts the Hub"))
    monkeypatch.setattr("timm.create_model", lambda *_, **__: pytest.fail("loads a model"))
    with pytest.raises(
        WeightsError, match=r"timm/vit_large_patch16_224\.mae are not in the cache.*frechet weights fetch"
    ):
        frechet.collect(images / "square", extractor="mae-vit-l-16-timm")


def test_incomplete_weights_are_rejected(images, small, tmp_path):
    """timm draws a missing tensor at random if it is not told to be strict."""
    safetensors = pytest.importorskip("safetensors.torch")
    small("dinov2-vitl14-256")
    state = safetensors.load_file(tmp_path / "model.safetensors")
    for changed in (
        {"blocks.1.norm1.weight": None},
        {"blocks.1.norm1.weight": torch.ones(3)},
        {"other": torch.ones(3)},
    ):
        content = {key: tensor for key, tensor in {**state, **changed}.items() if tensor is not None}
        safetensors.save_file(content, tmp_path / "other.safetensors")
        with pytest.raises(WeightsError, match=rf"other\.safetensors cannot be loaded .*{next(iter(changed))}"):
            load_extractor("dinov2-vitl14-256", weights=tmp_path / "other.safetensors")


def test_files_that_are_not_safetensors_are_rejected(images, small, tmp_path):
    network = small("dinov2-vitl14-256")
    torch.save(network.state_dict(), tmp_path / "model.pth")
    (tmp_path / "damaged.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:-100])
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("model.pth", "is not a safetensors file"),
        ("empty", "is not a safetensors file"),
        ("nowhere.safetensors", "is not a safetensors file"),
        ("damaged.safetensors", "cannot be loaded"),
    ):
        with pytest.raises(WeightsError, match=message):
            load_extractor("dinov2-vitl14-256", weights=tmp_path / name)


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_missing_package_is_named(monkeypatch, package):
    find = importlib.util.find_spec
    present = {"timm", "torchvision"} - {package}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else True if name in present else find(name)
    )
    with pytest.raises(
        RequestError, match=rf"needs {package}, which is not installed; run pip install 'frechet\[timm\]'"
    ):
        load_extractor("convnextv2-b")
