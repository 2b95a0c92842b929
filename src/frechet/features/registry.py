"""The table of extractors: every network that has a name, and how to add one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from frechet._internal.choices import list_choices, validate_choice
from frechet._internal.fields import name_option
from frechet._internal.registry import Registry
from frechet.errors import RequestError
from frechet.features import timm_rows
from frechet.features.extractor_row import Extractor
from frechet.features.ops_model import OpsModel
from frechet.features.spec import FeatureSpec
from frechet.features.whole_models import TransformersModel
from frechet.networks import efficientnet_lite, inception, vgg
from frechet.preprocessing.registry import registered_preprocessings

__all__ = [
    "DEFAULT_EXTRACTOR",
    "EXTRACTORS",
    "PRECISIONS",
    "DefaultName",
    "Extractor",
    "build_spec",
    "find_extractor",
    "is_custom_extractor",
    "iter_extractors",
    "register_extractor",
    "resolve_layer",
]

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")


class DefaultName(str):
    """A name that is used because the caller has not chosen one."""

    __slots__ = ()


DEFAULT_EXTRACTOR = DefaultName("inception")


def _make_dinov2(size: str, hub_size: str, dims: int) -> Extractor:
    return Extractor(
        title=f"DINOv2-ViT-{size}/14",
        model=TransformersModel(
            hub_name=f"facebook/dinov2-{hub_size}",
            model_class="Dinov2Model",
            output_field="pooler_output",  # the class token after the last layer norm, as in dgm-eval
        ),
        layers={str(dims): dims},
        default_layer=str(dims),
        input_size=224,
        preprocessings=("imagenet", "imagenet-crop", "imagenet-unclipped"),
        licence="Apache-2.0",
        paper="Oquab et al. 2023, arXiv:2304.07193",
    )


def _make_clip(title: str, hub_suffix: str, dims: int, input_size: int = 224) -> Extractor:
    return Extractor(
        title=f"CLIP-{title}",
        model=TransformersModel(
            hub_name=f"openai/clip-{hub_suffix}",
            model_class="CLIPVisionModelWithProjection",
            output_field="image_embeds",
        ),
        layers={str(dims): dims},
        default_layer=str(dims),
        input_size=input_size,
        preprocessings=("clip", "clip-stretch"),
        licence="MIT",
        paper="Radford et al. 2021, arXiv:2103.00020",
    )


EXTRACTORS: Registry[Extractor] = Registry(
    "extractor",
    Extractor,
    "frechet.extractors",
    {
        "inception": Extractor(
            title="Inception",
            model=OpsModel(
                function=inception.inception,
                conv_layers=inception.conv_layers,
                weights_file=inception.WEIGHTS,
                heads={"logits": "fc"},
            ),
            layers=inception.LAYERS,
            default_layer="2048",
            input_size=inception.INPUT_SIZE,
            preprocessings=("pytorch-fid", "tensorflow", "clean", "torchmetrics", "quantised-bicubic", "fd-loss"),
            licence="Apache-2.0 (TensorFlow's inception-2015-12-05, converted by the pytorch-fid project)",
            paper="Szegedy et al. 2015, arXiv:1512.00567",
        ),
        "inception-torchvision": Extractor(
            title="Inception-torchvision",
            model=OpsModel(
                function=inception.inception_torchvision,
                conv_layers=inception.conv_layers,
                weights_file=inception.TORCHVISION_WEIGHTS,
                heads={"logits": "fc"},
            ),
            layers=inception.TORCHVISION_LAYERS,
            default_layer="2048",
            input_size=inception.INPUT_SIZE,
            preprocessings=("pytorch-fid", "fastfid"),
            licence="BSD-3-Clause (torchvision's IMAGENET1K_V1, ported from TensorFlow)",
            paper="Szegedy et al. 2015, arXiv:1512.00567",
        ),
        "vgg16": Extractor(
            title="VGG16",
            model=OpsModel(function=vgg.vgg16, conv_layers=vgg.conv_layers, weights_file=vgg.WEIGHTS),
            layers=vgg.LAYERS,
            default_layer="4096",
            input_size=vgg.INPUT_SIZE,
            preprocessings=("tensorflow-imagenet", "imagenet"),
            licence="BSD-3-Clause (torchvision's IMAGENET1K_V1)",
            paper="Simonyan & Zisserman 2014, arXiv:1409.1556",
        ),
        "efficientnet-lite0": Extractor(
            title="EfficientNet-Lite0",
            model=OpsModel(
                function=efficientnet_lite.efficientnet_lite0,
                conv_layers=efficientnet_lite.conv_layers,
                weights_file=efficientnet_lite.WEIGHTS,
                heads={"logits": "_fc"},
            ),
            layers=efficientnet_lite.LAYERS,
            default_layer="1280",
            input_size=efficientnet_lite.INPUT_SIZE,
            preprocessings=("efficientnet-lite0",),
            licence="Apache-2.0 for TensorFlow's EfficientNet-Lite0; the package with the conversion states none",
            paper="Tan & Le 2019, arXiv:1905.11946",
        ),
        "dinov2-vits14": _make_dinov2("S", "small", 384),
        "dinov2-vitb14": _make_dinov2("B", "base", 768),
        "dinov2-vitl14": _make_dinov2("L", "large", 1024),
        "dinov2-vitg14": _make_dinov2("g", "giant", 1536),
        "clip-vit-b-32": _make_clip("ViT-B/32", "vit-base-patch32", 512),
        "clip-vit-b-16": _make_clip("ViT-B/16", "vit-base-patch16", 512),
        "clip-vit-l-14": _make_clip("ViT-L/14", "vit-large-patch14", 768),
        "clip-vit-l-14-336": _make_clip("ViT-L/14-336", "vit-large-patch14-336", 768, input_size=336),
        "mae-vit-l-16": Extractor(
            title="MAE-ViT-L/16",
            model=TransformersModel(
                hub_name="facebook/vit-mae-large",
                model_class="ViTMAEModel",
                output_field="last_hidden_state",
                model_kwargs={"mask_ratio": 0.0},
            ),
            layers={"1024": 1024},
            default_layer="1024",
            input_size=224,
            preprocessings=("imagenet-float", "imagenet"),
            licence="CC-BY-NC-4.0",
            paper="He et al. 2021, arXiv:2111.06377",
        ),
        "data2vec-vit-l-16": Extractor(
            title="data2vec-ViT-L/16",
            model=TransformersModel(
                hub_name="facebook/data2vec-vision-large",
                model_class="Data2VecVisionModel",
                output_field="pooler_output",
                model_kwargs={"add_pooling_layer": True},
            ),
            layers={"1024": 1024},
            default_layer="1024",
            input_size=224,
            preprocessings=("beit",),
            licence="Apache-2.0",
            paper="Baevski et al. 2022, arXiv:2202.03555",
        ),
        "convnext-l": Extractor(
            title="ConvNeXt-L",
            model=TransformersModel(
                hub_name="facebook/convnext-large-224-22k",
                model_class="ConvNextModel",
                output_field="pooler_output",
            ),
            layers={"1536": 1536},
            default_layer="1536",
            input_size=224,
            preprocessings=("imagenet-middle", "imagenet"),
            licence="Apache-2.0",
            paper="Liu et al. 2022, arXiv:2201.03545",
        ),
        **timm_rows.ROWS,
    },
)


def register_extractor(name: str, extractor: Extractor) -> None:
    """Add an extractor to the table, so that `frechet.score(..., extractor=name)` finds it.

    Only this process knows the extractor. An installed package makes one known to the command line and to worker
    processes with an entry point in the group ``frechet.extractors``, whose value is an `Extractor`.

    Args:
        name: its name, made of letters, digits and ``-_.``.
        extractor: its entry.

    Raises:
        RequestError: the name is invalid or already registered.
    """
    EXTRACTORS.register(name, extractor)


def find_extractor(extractor: Any) -> Extractor | None:
    """Return the entry of a name in the table; None for any other object."""
    return EXTRACTORS.get(extractor) if isinstance(extractor, str) and not is_custom_extractor(extractor) else None


def is_custom_extractor(extractor: Any) -> bool:
    """Return whether this is an extractor outside the table: "onnx:FILE", "module:attribute", or a callable."""
    return callable(extractor) or (isinstance(extractor, str) and ":" in extractor)


def iter_extractors() -> Iterator[tuple[str, Extractor | RequestError]]:
    """Yield (name, entry) of the whole table; the error in place of an entry that an installed package fails to load."""
    for name in EXTRACTORS:
        try:
            yield name, EXTRACTORS[name]
        except RequestError as error:
            yield name, error


def resolve_layer(extractor: Extractor, dims: int | None) -> str:
    """Return the layer with `dims` features, or the default layer if `dims` is None.

    Raises:
        RequestError: no layer has that many features; the message lists the valid numbers.
    """
    if dims is None:
        return extractor.default_layer
    by_dims = {d: layer for layer, d in extractor.layers.items()}
    if dims not in by_dims:
        raise RequestError(
            f"{name_option('dims')} is {dims!r}, but {extractor.title} does not have such a layer; {list_choices([*map(str, by_dims)])}"
        )
    return by_dims[dims]


def build_spec(
    name: str, *, dims: int | None = None, preprocessing: str | None = None, precision: str = "float32"
) -> FeatureSpec:
    """Return the spec of an extractor's features as far as it is known without the weights.

    Args:
        name: name in the table.
        dims: number of features, which selects a layer; None selects the default.
        preprocessing: name of the preprocessing; None selects the default.
        precision: a name in `PRECISIONS`.

    Raises:
        RequestError: an unknown name or an unsupported combination; the message lists the valid names.
    """
    validate_choice(name, EXTRACTORS, "extractor")
    extractor = EXTRACTORS[name]
    preprocessing = extractor.preprocessings[0] if preprocessing is None else preprocessing
    choices = (*extractor.preprocessings, *registered_preprocessings())
    validate_choice(preprocessing, choices, "preprocessing", f"for {name}")
    validate_choice(precision, PRECISIONS, "precision")
    return FeatureSpec(
        extractor=str(name), layer=resolve_layer(extractor, dims), preprocessing=preprocessing, precision=precision
    )
