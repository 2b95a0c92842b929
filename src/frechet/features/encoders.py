"""Extractors that are not this package's own networks: encoders of the transformers library, ONNX files, a user's function."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from frechet.errors import RequestError
from frechet.features.extractor import LoadedExtractor
from frechet.features.spec import FeatureSpec
from frechet.preprocessing.registry import PREPROCESSINGS

_DEFAULT_INPUT_SIZE = 224  # of a user's function that does not say
_LoadedEncoder = tuple[Any, int, int, str, str]  # (runner, d, pixels, hash of the weights, device)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """A pretrained network of the transformers library, as an extractor.

    Attributes:
        title: its name in labels.
        source: its name on huggingface.co.
        model: the library's class.
        output: the field of its output that is the features; of tokens, the first one, which stands for the image.
        dims: d.
        pixels: height and width of its input.
        conventions: names of the conventions it is used with; the first is the default.
        licence: of its weights.
        wishes: what the library is asked for beyond its defaults.
        heads: none.
    """

    title: str
    hub_name: str
    model_class: str
    output_field: str
    dims: int
    input_size: int
    preprocessings: tuple[str, ...]
    licence: str
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)

    @property
    def default_layer(self) -> str:
        """Its only layer."""
        return str(self.dims)

    @property
    def layers(self) -> dict[str, int]:
        """That, with its number of features."""
        return {self.default_layer: self.dims}


def _make_dinov2(size: str, name: str, dims: int) -> EncoderConfig:
    return EncoderConfig(
        title=f"DINOv2-ViT-{size}/14",
        hub_name=f"facebook/dinov2-{name}",
        model_class="Dinov2Model",
        output_field="pooler_output",  # the class token behind the last layer norm, as dgm-eval has it
        dims=dims,
        input_size=224,
        preprocessings=("imagenet", "imagenet-crop"),
        licence="Apache-2.0",
    )


def _make_clip(title: str, name: str, dims: int, input_size: int) -> EncoderConfig:
    return EncoderConfig(
        title=f"CLIP-{title}",
        hub_name=f"openai/clip-{name}",
        model_class="CLIPVisionModelWithProjection",
        output_field="image_embeds",
        dims=dims,
        input_size=input_size,
        preprocessings=("clip", "clip-stretch"),
        licence="MIT",
    )


ENCODERS = {
    "dinov2-vits14": _make_dinov2("S", "small", 384),
    "dinov2-vitb14": _make_dinov2("B", "base", 768),
    "dinov2-vitl14": _make_dinov2("L", "large", 1024),
    "dinov2-vitg14": _make_dinov2("g", "giant", 1536),
    "clip-vit-b-32": _make_clip("ViT-B/32", "vit-base-patch32", 512, 224),
    "clip-vit-b-16": _make_clip("ViT-B/16", "vit-base-patch16", 512, 224),
    "clip-vit-l-14": _make_clip("ViT-L/14", "vit-large-patch14", 768, 224),
    "clip-vit-l-14-336": _make_clip("ViT-L/14-336", "vit-large-patch14-336", 768, 336),
    "mae-vit-l-16": EncoderConfig(
        title="MAE-ViT-L/16",
        hub_name="facebook/vit-mae-large",
        model_class="ViTMAEModel",
        output_field="last_hidden_state",
        dims=1024,
        input_size=224,
        preprocessings=("imagenet-float", "imagenet"),
        licence="CC-BY-NC-4.0",
        model_kwargs={"mask_ratio": 0.0},
    ),
    "data2vec-vit-l-16": EncoderConfig(
        title="data2vec-ViT-L/16",
        hub_name="facebook/data2vec-vision-large",
        model_class="Data2VecVisionModel",
        output_field="pooler_output",
        dims=1024,
        input_size=224,
        preprocessings=("beit",),
        licence="Apache-2.0",
        model_kwargs={"add_pooling_layer": True},
    ),
    "convnext-l": EncoderConfig(
        title="ConvNeXt-L",
        hub_name="facebook/convnext-large-224-22k",
        model_class="ConvNextModel",
        output_field="pooler_output",
        dims=1536,
        input_size=224,
        preprocessings=("imagenet-middle", "imagenet"),
        licence="Apache-2.0",
    ),
}


def is_custom_extractor(name: Any) -> bool:
    """Whether it says an extractor that no table knows: an ONNX file, `module:attribute`, or a function itself."""
    return callable(name) or (isinstance(name, str) and ":" in name)


def get_qualified_name(extractor: Any) -> str:
    """The name that a function bears in recipes; a name is itself."""
    if isinstance(extractor, str):
        return extractor
    owner = extractor if hasattr(extractor, "__qualname__") else type(extractor)
    return f"{owner.__module__}:{owner.__qualname__}"


def load_encoder(
    extractor: Any,
    *,
    backend: str = "auto",
    device: str = "auto",
    dims: int | None = None,
    preprocessing: str | None = None,
    weights: Path | None = None,
    precision: str = "float32",
    **_ignored: Any,
) -> LoadedExtractor:
    """An encoder of the table, an ONNX file or a user's function, ready to run.

    Raises:
        RequestError: a wish that it cannot meet.
        WeightsError: its weights cannot be had.
    """
    encoder = ENCODERS.get(extractor) if isinstance(extractor, str) else None
    choices = encoder.preprocessings if encoder else ("imagenet", *PREPROCESSINGS)
    preprocessing = preprocessing or choices[0]
    if preprocessing not in choices:
        raise RequestError(
            f"no convention {preprocessing!r} of {get_qualified_name(extractor)}; there is {', '.join(choices)}"
        )
    is_onnx = isinstance(extractor, str) and extractor.startswith("onnx:")
    own_backend = "openvino" if is_onnx else "torch"
    if backend not in ("auto", own_backend):
        raise RequestError(
            f"{get_qualified_name(extractor)} runs on the {own_backend} backend; leave backend {backend} out"
        )
    chosen = PREPROCESSINGS[preprocessing]
    load: Callable[..., _LoadedEncoder] = _load_onnx if is_onnx else _load_transformers if encoder else _load_callable
    runner, width, input_size, digest, used_device = load(extractor, encoder, chosen, device, precision, weights)
    if dims not in (None, width):
        raise RequestError(f"{get_qualified_name(extractor)} gives {width} features; leave dims {dims} out")
    spec = FeatureSpec(
        extractor=get_qualified_name(extractor),
        layer=str(width),
        weights=digest,
        is_official=encoder is not None and weights is None,
        preprocessing=preprocessing,
        precision=precision,
    )
    return LoadedExtractor(
        runner=runner,
        preprocessing=chosen,
        input_size=input_size,
        dims=width,
        spec=spec,
        backend=own_backend,
        device=used_device,
    )


def _load_transformers(
    _name: str, encoder: EncoderConfig, preprocessing: Any, device: str, precision: str, weights: Any
) -> _LoadedEncoder:
    _require_torch()
    from frechet.backends.transformers import ModuleRunner, hash_state_dict, load_pretrained

    function, torch_device, module = load_pretrained(
        encoder.model_class, encoder.output_field, str(weights or encoder.hub_name), device, encoder.model_kwargs
    )
    runner = ModuleRunner(function, torch_device, precision, preprocessing.scale, preprocessing.shift)
    width = next(runner.map([np.zeros((1, encoder.input_size, encoder.input_size, 3), np.float32)])).shape[1]
    return runner, width, encoder.input_size, hash_state_dict(module), str(torch_device)


def _load_callable(
    extractor: Any, _encoder: Any, preprocessing: Any, device: str, precision: str, weights: Any
) -> _LoadedEncoder:
    """A user's own: an attribute `pixels` says the size of the images that it takes."""
    _require_torch()
    from frechet.backends.torch import choose_device
    from frechet.backends.transformers import ModuleRunner, hash_state_dict, is_module

    if weights is not None:
        raise RequestError(f"{get_qualified_name(extractor)} brings its own weights; leave weights out")
    function: Any = _import_callable(extractor) if isinstance(extractor, str) else extractor
    torch_device = choose_device(device)
    digest = _hash_source_code(function)
    if is_module(function):
        function = function.eval().to(torch_device)
        digest = hash_state_dict(function)
    input_size = int(getattr(function, "pixels", _DEFAULT_INPUT_SIZE))
    runner = ModuleRunner(function, torch_device, precision, preprocessing.scale, preprocessing.shift)
    width = next(runner.map([np.zeros((1, input_size, input_size, 3), np.float32)])).shape[1]
    return runner, width, input_size, digest, str(torch_device)


def _hash_source_code(function: Any) -> str:
    """sha256 (hex) of the file that a function was written in, and of its name: what tells it from itself of tomorrow."""
    try:
        code = Path(inspect.getfile(function if inspect.isroutine(function) else type(function))).read_bytes()
    except (OSError, TypeError):  # made at a prompt
        code = b""
    return hashlib.sha256(get_qualified_name(function).encode() + code).hexdigest()


def _load_onnx(
    extractor: str, _encoder: Any, preprocessing: Any, device: str, precision: str, weights: Any
) -> _LoadedEncoder:
    from frechet.backends.openvino import compile_onnx

    if device not in ("auto", "cpu") or weights is not None:
        raise RequestError(
            "an ONNX file runs on the processor and brings its own weights; leave device and weights out"
        )
    path = Path(extractor.removeprefix("onnx:"))
    if not path.is_file():
        raise RequestError(f"no file {path}; expected onnx:FILE.onnx")
    runner, width, input_size = compile_onnx(path, preprocessing.scale, preprocessing.shift, precision)
    return runner, width, input_size, hashlib.sha256(path.read_bytes()).hexdigest(), "cpu"


def _import_callable(name: str) -> Callable[..., Any]:
    """What `module:attribute` names."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise RequestError(
            f"no extractor {name!r} ({error}); expected module:attribute of something installed"
        ) from error
    if not callable(found):
        raise RequestError(f"{name} is {type(found).__name__}; expected a function or a torch.nn.Module")
    return found


def _require_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise RequestError(
            "this extractor needs PyTorch: pip install 'frechet[torch]' (its encoders: 'frechet[encoders]')"
        )
