"""Extractors from outside this package: functions, modules, ONNX files, and small random transformers models."""

import shutil

import numpy as np
import pytest
from helpers import make_image_folder
from PIL import Image

import frechet
from frechet.errors import RequestError, WeightsError
from frechet.features.loading import load_extractor, load_network

torch = pytest.importorskip("torch")


class Colours(torch.nn.Module):
    """Mean and standard deviation of each channel."""

    input_size = 8

    def forward(self, images):
        return torch.cat([images.mean((2, 3)), images.std((2, 3))], dim=1)


colours = Colours()
NOT_CALLABLE = 3


def wrong_shape(images):
    return images


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    return make_image_folder(folder / "a", 9, seed=1), make_image_folder(folder / "b", 9, seed=2, size=(50, 30))


def standardise(folder, size, mean, std):
    """Return whole images as (n, 3, size, size), resized by Pillow alone."""
    images = [Image.open(path).resize((size, size), Image.Resampling.BICUBIC) for path in sorted(folder.iterdir())]
    arrays = (np.stack([np.asarray(image) for image in images]) / 255 - mean) / std
    return torch.from_numpy(arrays.transpose(0, 3, 1, 2)).float()


IMAGENET = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize("extractor", [colours, Colours(), "test_extractors:colours"])
def test_function_or_module_is_an_extractor(folders, extractor):
    statistics = frechet.collect(folders[1], extractor=extractor)
    expected = Colours()(standardise(folders[1], 8, *IMAGENET)).numpy()
    np.testing.assert_allclose(statistics.features, expected, rtol=1e-4, atol=1e-5)
    score = frechet.score(*folders, extractor=extractor)["fd"]
    assert score.label.startswith("FD-test_extractors:")
    assert float(score) > 0


@pytest.mark.parametrize(
    ("extractor", "match"),
    [
        ("nowhere:thing", "'nowhere:thing' cannot be imported.*expected module:attribute"),
        ("test_extractors:missing", "module:attribute"),
        ("test_extractors:NOT_CALLABLE", "expected a function"),
        ("onnx:missing.onnx", "expected onnx:FILE"),
        ("nonsense", "unknown extractor 'nonsense'; choose from inception, "),
        ("dinov2-vits41", "did you mean dinov2-vits14"),
    ],
)
def test_unknown_extractor_is_rejected(folders, extractor, match):
    with pytest.raises(RequestError, match=match):
        frechet.collect(folders[0], extractor=extractor)


def test_features_of_another_shape_are_rejected(folders):
    with pytest.raises(RequestError, match=r"of shape \(1, 3, 224, 224\) for 1 images; expected \(1, d\)"):
        frechet.collect(folders[0], extractor=wrong_shape)


def test_metric_that_needs_another_layer_is_unavailable(folders):
    scores = frechet.score(*folders, extractor=colours, metrics=["fd", "is"])
    assert set(scores) == {"fd"}
    assert "use extractor inception" in scores.unavailable["is"]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_onnx_file_is_an_extractor(folders, tmp_path, layout):
    """The graph computes the mean of each channel times a matrix."""
    onnx = pytest.importorskip("onnx")
    matrix = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    axes = [2, 3] if layout == "NCHW" else [1, 2]
    shape = ["n", 3, 8, 8] if layout == "NCHW" else ["n", 8, 8, 3]
    make = onnx.helper
    graph = make.make_graph(
        [
            make.make_node("ReduceMean", ["images"], ["means"], axes=axes, keepdims=0),
            make.make_node("MatMul", ["means", "matrix"], ["features"]),
        ],
        "toy",
        [make.make_tensor_value_info("images", onnx.TensorProto.FLOAT, shape)],
        [make.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["n", 5])],
        [onnx.numpy_helper.from_array(matrix, "matrix")],
    )
    path = tmp_path / "toy.onnx"
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8), path)
    statistics = frechet.collect(folders[1], extractor=f"onnx:{path}")
    expected = standardise(folders[1], 8, *IMAGENET).numpy().mean((2, 3)) @ matrix
    np.testing.assert_allclose(statistics.features, expected, rtol=1e-4, atol=1e-5)
    assert statistics.spec.layer == "5"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders with small seeded models in the library's format."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    small = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
    dinov2 = transformers.Dinov2Model(transformers.Dinov2Config(**small, image_size=224, patch_size=14))
    dinov2.save_pretrained(folder / "dinov2")
    vision = transformers.CLIPVisionConfig(
        **small, intermediate_size=48, image_size=336, patch_size=28, projection_dim=10
    )
    transformers.CLIPVisionModelWithProjection(vision).save_pretrained(folder / "clip")
    wide = {**small, "intermediate_size": 48, "image_size": 224, "patch_size": 32}
    decoder = {f"decoder_{key}": value for key, value in wide.items() if key not in ("image_size", "patch_size")}
    mae = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**wide, **decoder))
    mae.save_pretrained(folder / "mae")  # like the published one: with the decoder, and masking 3/4 of the patches
    data2vec = transformers.Data2VecVisionConfig(
        **wide, use_mean_pooling=False, use_shared_relative_position_bias=True, layer_scale_init_value=0.5
    )
    transformers.Data2VecVisionModel(data2vec).save_pretrained(folder / "data2vec")
    convnext = transformers.ConvNextConfig(
        hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], layer_scale_init_value=0.5
    )
    transformers.ConvNextForImageClassification(convnext).save_pretrained(folder / "convnext")
    return folder


def test_dinov2_features_equal_the_librarys(folders, models):
    from transformers import Dinov2Model

    ours = frechet.collect(folders[1], extractor="dinov2-vitl14", weights=models / "dinov2")
    model = Dinov2Model.from_pretrained(models / "dinov2").eval()
    with torch.inference_mode():
        expected = model(standardise(folders[1], 224, *IMAGENET)).last_hidden_state[:, 0]
    np.testing.assert_allclose(ours.features, expected.numpy(), rtol=1e-3, atol=1e-4)
    label = frechet.score(folders[0], ours, extractor="dinov2-vitl14", weights=models / "dinov2")["fd"].label
    assert label.startswith("FD-DINOv2-ViT-L/14-24 (weights ")  # the narrow model has 24 features


def test_clip_features_are_those_of_the_central_square(folders, models):
    from transformers import CLIPVisionModelWithProjection

    loaded = load_extractor("clip-vit-l-14-336", weights=models / "clip")
    ours = frechet.collect(folders[1], extractor="clip-vit-l-14-336", weights=models / "clip")
    squares = [Image.open(path).crop((0, 10, 30, 40)) for path in sorted(folders[1].iterdir())]
    pixels = np.stack([np.asarray(square.resize((336, 336), Image.Resampling.BICUBIC)) for square in squares]) / 255
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    model = CLIPVisionModelWithProjection.from_pretrained(models / "clip").eval()
    with torch.inference_mode():
        model_input = torch.from_numpy(((pixels - mean) / std).transpose(0, 3, 1, 2)).float()
        expected = model(pixel_values=model_input).image_embeds
    assert loaded.dims == 10
    np.testing.assert_allclose(ours.features, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_mae_features_are_the_class_token_of_the_unmasked_image(folders, models):
    """As in dgm-eval: no patch is masked, the first token after the last norm, Pillow's bicubic on float channels."""
    from transformers import ViTMAEModel

    ours = frechet.collect(folders[1], extractor="mae-vit-l-16", weights=models / "mae")
    again = frechet.collect(folders[1], extractor="mae-vit-l-16", weights=models / "mae")
    np.testing.assert_array_equal(ours.features, again.features)
    channels = [np.asarray(Image.open(path), np.float32).transpose(2, 0, 1) for path in sorted(folders[1].iterdir())]
    resized = [
        [Image.fromarray(one).resize((224, 224), Image.Resampling.BICUBIC) for one in image] for image in channels
    ]
    pixels = np.array([[np.asarray(one).clip(0, 255) for one in image] for image in resized]) / 255
    mean, std = (values[:, None, None] for values in IMAGENET)
    model = ViTMAEModel.from_pretrained(models / "mae", mask_ratio=0.0).eval()
    with torch.inference_mode():  # the library permutes the patches, to which attention is invariant
        expected = model(pixel_values=torch.from_numpy((pixels - mean) / std).float()).last_hidden_state[:, 0]
    np.testing.assert_allclose(ours.features, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_data2vec_features_are_the_librarys_pooled_output(folders, models):
    from transformers import Data2VecVisionModel

    ours = frechet.collect(folders[1], extractor="data2vec-vit-l-16", weights=models / "data2vec")
    model = Data2VecVisionModel.from_pretrained(models / "data2vec").eval()
    half = np.array([0.5, 0.5, 0.5])
    with torch.inference_mode():  # without mean pooling, the class token after the last norm
        expected = model(pixel_values=standardise(folders[1], 224, half, half)).last_hidden_state[:, 0]
    np.testing.assert_allclose(ours.features, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_convnext_features_are_those_of_the_central_224_of_256_pixels(folders, models):
    """As in timm's head before the classifier: the mean over positions, then the norm."""
    from transformers import ConvNextModel

    ours = frechet.collect(folders[1], extractor="convnext-l", weights=models / "convnext")
    large = [Image.open(path).resize((256, 426), Image.Resampling.BICUBIC) for path in sorted(folders[1].iterdir())]
    pixels = np.stack([np.asarray(image.crop((16, 101, 240, 325))) for image in large]) / 255
    model = ConvNextModel.from_pretrained(models / "convnext").eval()
    with torch.inference_mode():
        model_input = torch.from_numpy(((pixels - IMAGENET[0]) / IMAGENET[1]).transpose(0, 3, 1, 2)).float()
        positions = model(pixel_values=model_input).last_hidden_state
        expected = torch.nn.functional.layer_norm(positions.mean((2, 3)), (20,), eps=1e-6)
    assert ours.spec.layer == "20"
    np.testing.assert_allclose(ours.features, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_cmmd_is_the_mmd_of_clip_features(folders, models):
    statistics = [frechet.collect(folder, extractor="clip-vit-l-14-336", weights=models / "clip") for folder in folders]
    scores = frechet.score_statistics(*statistics, metrics=["cmmd", "mmd"])
    assert scores["cmmd"].label.startswith("CMMD")
    assert float(scores["cmmd"]) == float(scores["mmd"])


def test_unavailable_extractor_fails_only_its_own_metrics(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "frechet.backends.transformers.load_pretrained", lambda *_: (_ for _ in ()).throw(WeightsError("no network"))
    )
    scores = frechet.score(*folders, extractor=colours, metrics=["fd-dinov2", "fd", "cmmd"])
    assert list(scores) == ["fd"]
    assert scores.unavailable == {"fd-dinov2": "no network", "cmmd": "no network"}


@pytest.mark.slow
def test_models_of_the_transformers_library_are_extractors_of_losses(models):
    """At the size of the input there is no resize, which rounds in scores and does not in losses."""
    torch = pytest.importorskip("torch")
    from frechet.losses.torch import FIDLoss

    options = {"extractor": "dinov2-vits14", "weights": models / "dinov2"}
    arrays = np.random.default_rng(0).integers(0, 256, (2, 4, 224, 224, 3), np.uint8)
    images, reference = (torch.from_numpy(each).permute(0, 3, 1, 2) / 255 for each in arrays)
    loss = FIDLoss(reference, **options)
    value = loss(images.requires_grad_())
    value.backward()
    expected = frechet.fd(list(arrays[0]), list(arrays[1]), **options)
    assert float(value.detach()) == pytest.approx(float(expected), rel=1e-3)
    assert images.grad.norm() > 0
    assert not list(loss.parameters())
    with pytest.raises(RequestError, match=r"'clip', which crops .*Use clip-stretch"):
        FIDLoss(reference, extractor="clip-vit-b-32", weights=models / "clip")


def test_folder_without_a_model_is_rejected(folders, tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(WeightsError, match=r"config\.json and model\.safetensors as --weights \(weights=\)"):
        frechet.collect(folders[0], extractor="dinov2-vits14", weights=tmp_path)


def test_weights_without_a_tensor_of_the_model_are_rejected(folders, models, tmp_path):
    """The library would draw the missing tensor at random."""
    safetensors = pytest.importorskip("safetensors.torch")
    state = safetensors.load_file(models / "dinov2" / "model.safetensors")
    del state["encoder.layer.1.attention.output.dense.weight"]
    safetensors.save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(models / "dinov2" / "config.json", tmp_path)
    with pytest.raises(WeightsError, match=r"lacks 1 of the weights of Dinov2Model, e\.g\. encoder\.layer\.1\."):
        frechet.collect(folders[0], extractor="dinov2-vits14", weights=tmp_path)


def test_options_that_a_model_does_not_support_are_rejected(folders, tmp_path):
    for options, message in [
        ({"backend": "openvino"}, "'openvino'.*runs only on torch; leave it out"),
        ({"dims": 7}, r"--dims \(dims=\) is 7, but .* returns 6 features"),
        ({"weights": tmp_path}, "contains its own weights"),
        ({"preprocessing": "nonsense"}, "unknown preprocessing 'nonsense'; choose from"),
        ({"precision": "float7"}, "unknown precision 'float7'"),
    ]:
        with pytest.raises(RequestError, match=message):
            load_extractor(colours, **options)


def test_network_for_every_backend_is_required_by_losses():
    with pytest.raises(RequestError, match="'dinov2-vits14' is not available as a function over ops; use inception, "):
        load_network("dinov2-vits14")


@pytest.mark.slow
def test_inception_layers_are_the_same_together_and_alone(weights_with_head):
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (20, 20, 3), np.uint8) for _ in range(3)]
    extra_layers = ["logits", "spatial", "64"]
    loaded = load_extractor(weights=weights_with_head, extra_layers=extra_layers, dims=768)
    batch = np.stack([np.resize(image, (299, 299, 3)) for image in images]).astype(np.float32)
    together = next(loaded.runner.map([batch]))
    assert loaded.total_dims == 768 + 1008 + 2023 + 64
    for name, dims in (("features", 768), ("logits", 1008), ("spatial", 2023), ("64", 64)):
        alone = load_extractor(weights=weights_with_head, dims=dims)
        np.testing.assert_allclose(
            together[:, loaded.layer_slices[name]], next(alone.runner.map([batch])), rtol=1e-4, atol=1e-5
        )
        spec = loaded.spec if name == "features" else loaded.extra_layers[name].spec
        assert spec == alone.spec
