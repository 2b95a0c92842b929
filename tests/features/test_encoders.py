"""Extractors that are not this package's own networks, on small random models saved in the real formats."""

import numpy as np
import pytest
from helpers import make_image_folder
from PIL import Image

import frechet
from frechet.errors import NonFiniteFeaturesError, RequestError, WeightsError
from frechet.features.encoders import ENCODERS
from frechet.features.registry import load_extractor

torch = pytest.importorskip("torch")


class Colours(torch.nn.Module):
    """Mean and deviation of each channel."""

    pixels = 8

    def forward(self, images):
        return torch.cat([images.mean((2, 3)), images.std((2, 3))], dim=1)


colours = Colours()
NOT_CALLABLE = 3


def wrong_shape(images):
    return images


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sides")
    return make_image_folder(folder / "a", 9, seed=1), make_image_folder(folder / "b", 9, seed=2, size=(50, 30))


def standardised(folder, pixels, mean, std):
    """(n, 3, pixels, pixels) by Pillow alone, of whole images."""
    images = [Image.open(path).resize((pixels, pixels), Image.Resampling.BICUBIC) for path in sorted(folder.iterdir())]
    arrays = (np.stack([np.asarray(image) for image in images]) / 255 - mean) / std
    return torch.from_numpy(arrays.transpose(0, 3, 1, 2)).float()


IMAGENET = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize("extractor", [colours, Colours(), "test_encoders:colours"])
def test_a_users_function_is_an_extractor(folders, extractor):
    statistics = frechet.collect(folders[1], extractor=extractor)
    expected = Colours()(standardised(folders[1], 8, *IMAGENET)).numpy()
    np.testing.assert_allclose(statistics.features, expected, rtol=1e-4, atol=1e-5)
    score = frechet.score(*folders, extractor=extractor)["fd"]
    assert score.label.startswith("FD-test_encoders:")
    assert float(score) > 0


@pytest.mark.parametrize(
    ("extractor", "match"),
    [
        ("nowhere:thing", "no extractor 'nowhere:thing'"),
        ("test_encoders:missing", "module:attribute"),
        ("test_encoders:NOT_CALLABLE", "expected a function"),
        ("onnx:missing.onnx", "expected onnx:FILE"),
        ("nonsense", "no extractor 'nonsense'; there is inception"),
    ],
)
def test_extractors_that_are_none(folders, extractor, match):
    with pytest.raises(RequestError, match=match):
        frechet.collect(folders[0], extractor=extractor)


def test_features_of_another_shape_are_refused(folders):
    with pytest.raises(NonFiniteFeaturesError, match=r"of shape \(1, 3, 224, 224\) for 1 images; expected \(1, d\)"):
        frechet.collect(folders[0], extractor=wrong_shape)


def test_a_metric_that_an_extractor_cannot_give(folders):
    scores = frechet.score(*folders, extractor=colours, metrics=["fd", "is"])
    assert set(scores) == {"fd"}
    assert "gives none; use extractor inception" in scores.unavailable["is"]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_an_onnx_file_is_an_extractor(folders, tmp_path, layout):
    """Written by hand, as there is no exporter here: means of each channel, times a matrix."""
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
    expected = standardised(folders[1], 8, *IMAGENET).numpy().mean((2, 3)) @ matrix
    np.testing.assert_allclose(statistics.features, expected, rtol=1e-4, atol=1e-5)
    assert statistics.spec.layer == "5"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of a DINOv2 and of a CLIP in the library's own format, seeded and small."""
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
    mae.save_pretrained(folder / "mae")  # as it is published: with the decoder, and 3/4 of the patches masked
    data2vec = transformers.Data2VecVisionConfig(
        **wide, use_mean_pooling=False, use_shared_relative_position_bias=True, layer_scale_init_value=0.5
    )
    transformers.Data2VecVisionModel(data2vec).save_pretrained(folder / "data2vec")
    convnext = transformers.ConvNextConfig(
        hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], layer_scale_init_value=0.5
    )
    transformers.ConvNextForImageClassification(convnext).save_pretrained(folder / "convnext")
    return folder


def test_dinov2_is_read_and_run_as_the_library_does(folders, models):
    from transformers import Dinov2Model

    ours = frechet.collect(folders[1], extractor="dinov2-vitl14", weights=models / "dinov2")
    model = Dinov2Model.from_pretrained(models / "dinov2").eval()
    with torch.inference_mode():
        expected = model(standardised(folders[1], 224, *IMAGENET)).last_hidden_state[:, 0]
    np.testing.assert_allclose(ours.features, expected.numpy(), rtol=1e-3, atol=1e-4)
    label = frechet.score(folders[0], ours, extractor="dinov2-vitl14", weights=models / "dinov2")["fd"].label
    assert label.startswith("FD-DINOv2-ViT-L/14-24 (weights ")  # the narrow model has 24 features


def test_clip_takes_the_central_square(folders, models):
    from transformers import CLIPVisionModelWithProjection

    loaded = load_extractor("clip-vit-l-14-336", weights=models / "clip")
    ours = frechet.collect(folders[1], extractor="clip-vit-l-14-336", weights=models / "clip")
    squares = [Image.open(path).crop((0, 10, 30, 40)) for path in sorted(folders[1].iterdir())]
    pixels = np.stack([np.asarray(square.resize((336, 336), Image.Resampling.BICUBIC)) for square in squares]) / 255
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    model = CLIPVisionModelWithProjection.from_pretrained(models / "clip").eval()
    with torch.inference_mode():
        entering = torch.from_numpy(((pixels - mean) / std).transpose(0, 3, 1, 2)).float()
        expected = model(pixel_values=entering).image_embeds
    assert loaded.dims == 10
    np.testing.assert_allclose(ours.features, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_mae_sees_the_whole_image_and_gives_its_class_token(folders, models):
    """dgm-eval's model: nothing masked, the first token behind the last norm, Pillow's bicubic on float channels."""
    from transformers import ViTMAEModel

    ours = frechet.collect(folders[1], extractor="mae-vit-l-16", weights=models / "mae")
    again = frechet.collect(folders[1], extractor="mae-vit-l-16", weights=models / "mae")
    np.testing.assert_array_equal(ours.features, again.features)
    channels = [np.asarray(Image.open(path), np.float32).transpose(2, 0, 1) for path in sorted(folders[1].iterdir())]
    resized = [
        [Image.fromarray(one).resize((224, 224), Image.Resampling.BICUBIC) for one in image] for image in channels
    ]
    pixels = np.array([[np.asarray(one).clip(0, 255) for one in image] for image in resized]) / 255
    mean, std = (side[:, None, None] for side in IMAGENET)
    model = ViTMAEModel.from_pretrained(models / "mae", mask_ratio=0.0).eval()
    with torch.inference_mode():  # the library draws an order of the patches, which attention does not care about
        expected = model(pixel_values=torch.from_numpy((pixels - mean) / std).float()).last_hidden_state[:, 0]
    np.testing.assert_allclose(ours.features, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_data2vec_gives_the_librarys_pooled_output(folders, models):
    from transformers import Data2VecVisionModel

    ours = frechet.collect(folders[1], extractor="data2vec-vit-l-16", weights=models / "data2vec")
    model = Data2VecVisionModel.from_pretrained(models / "data2vec").eval()
    half = np.array([0.5, 0.5, 0.5])
    with torch.inference_mode():  # without mean pooling, the class token behind the last norm
        expected = model(pixel_values=standardised(folders[1], 224, half, half)).last_hidden_state[:, 0]
    np.testing.assert_allclose(ours.features, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_convnext_takes_224_of_256_pixels(folders, models):
    """timm's head before the classifier: the mean over places, then the norm."""
    from transformers import ConvNextModel

    ours = frechet.collect(folders[1], extractor="convnext-l", weights=models / "convnext")
    large = [Image.open(path).resize((256, 426), Image.Resampling.BICUBIC) for path in sorted(folders[1].iterdir())]
    pixels = np.stack([np.asarray(image.crop((16, 101, 240, 325))) for image in large]) / 255
    model = ConvNextModel.from_pretrained(models / "convnext").eval()
    with torch.inference_mode():
        entering = torch.from_numpy(((pixels - IMAGENET[0]) / IMAGENET[1]).transpose(0, 3, 1, 2)).float()
        places = model(pixel_values=entering).last_hidden_state
        expected = torch.nn.functional.layer_norm(places.mean((2, 3)), (20,), eps=1e-6)
    assert ours.spec.layer == "20"
    np.testing.assert_allclose(ours.features, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_cmmd_of_clips_features(folders, models):
    sides = [frechet.collect(folder, extractor="clip-vit-l-14-336", weights=models / "clip") for folder in folders]
    scores = frechet.score_statistics(*sides, metrics=["cmmd", "mmd"])
    assert scores["cmmd"].label.startswith("CMMD")
    assert float(scores["cmmd"]) == float(scores["mmd"])


def test_an_encoder_that_cannot_be_had_costs_its_own_metric_alone(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "frechet.backends.transformers.load_pretrained", lambda *_: (_ for _ in ()).throw(WeightsError("no network"))
    )
    scores = frechet.score(*folders, extractor=colours, metrics=["fd-dinov2", "fd", "cmmd"])
    assert list(scores) == ["fd"]
    assert scores.unavailable == {"fd-dinov2": "no network", "cmmd": "no network"}


def test_a_folder_that_is_no_model(folders, tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(WeightsError, match=r"config\.json and model\.safetensors as --weights \(weights=\)"):
        frechet.collect(folders[0], extractor="dinov2-vits14", weights=tmp_path)


def test_the_table_says_what_it_must():
    for encoder in ENCODERS.values():
        assert encoder.preprocessings
        assert encoder.licence
        assert encoder.layers == {str(encoder.dims): encoder.dims}
