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
from frechet.features.spec import Recipe
from frechet.preprocessing.registry import CONVENTIONS

_PIXELS = 224  # of a user's function that does not say
_Loaded = tuple[Any, int, int, str, str]  # (runner, d, pixels, hash of the weights, device)


@dataclass(frozen=True, kw_only=True)
class Encoder:
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
    source: str
    model: str
    output: str
    dims: int
    pixels: int
    conventions: tuple[str, ...]
    licence: str
    wishes: Mapping[str, Any] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)

    @property
    def default_tap(self) -> str:
        """Its only layer."""
        return str(self.dims)

    @property
    def taps(self) -> dict[str, int]:
        """That, with its number of features."""
        return {self.default_tap: self.dims}


def _dinov2(size: str, name: str, dims: int) -> Encoder:
    return Encoder(
        title=f"DINOv2-ViT-{size}/14",
        source=f"facebook/dinov2-{name}",
        model="Dinov2Model",
        output="pooler_output",  # the class token behind the last layer norm, as dgm-eval has it
        dims=dims,
        pixels=224,
        conventions=("imagenet", "imagenet-crop"),
        licence="Apache-2.0",
    )


def _clip(title: str, name: str, dims: int, pixels: int) -> Encoder:
    return Encoder(
        title=f"CLIP-{title}",
        source=f"openai/clip-{name}",
        model="CLIPVisionModelWithProjection",
        output="image_embeds",
        dims=dims,
        pixels=pixels,
        conventions=("clip", "clip-stretch"),
        licence="MIT",
    )


ENCODERS = {
    "dinov2-vits14": _dinov2("S", "small", 384),
    "dinov2-vitb14": _dinov2("B", "base", 768),
    "dinov2-vitl14": _dinov2("L", "large", 1024),
    "dinov2-vitg14": _dinov2("g", "giant", 1536),
    "clip-vit-b-32": _clip("ViT-B/32", "vit-base-patch32", 512, 224),
    "clip-vit-b-16": _clip("ViT-B/16", "vit-base-patch16", 512, 224),
    "clip-vit-l-14": _clip("ViT-L/14", "vit-large-patch14", 768, 224),
    "clip-vit-l-14-336": _clip("ViT-L/14-336", "vit-large-patch14-336", 768, 336),
    "mae-vit-l-16": Encoder(
        title="MAE-ViT-L/16",
        source="facebook/vit-mae-large",
        model="ViTMAEModel",
        output="last_hidden_state",
        dims=1024,
        pixels=224,
        conventions=("imagenet-float", "imagenet"),
        licence="CC-BY-NC-4.0",
        wishes={"mask_ratio": 0.0},
    ),
    "data2vec-vit-l-16": Encoder(
        title="data2vec-ViT-L/16",
        source="facebook/data2vec-vision-large",
        model="Data2VecVisionModel",
        output="pooler_output",
        dims=1024,
        pixels=224,
        conventions=("beit",),
        licence="Apache-2.0",
        wishes={"add_pooling_layer": True},
    ),
    "convnext-l": Encoder(
        title="ConvNeXt-L",
        source="facebook/convnext-large-224-22k",
        model="ConvNextModel",
        output="pooler_output",
        dims=1536,
        pixels=224,
        conventions=("imagenet-middle", "imagenet"),
        licence="Apache-2.0",
    ),
}


def is_outside(name: Any) -> bool:
    """Whether it says an extractor that no table knows: an ONNX file, `module:attribute`, or a function itself."""
    return callable(name) or (isinstance(name, str) and ":" in name)


def name_of(extractor: Any) -> str:
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
    convention: str | None = None,
    weights: Path | None = None,
    precision: str = "float32",
    **_further: Any,
) -> LoadedExtractor:
    """An encoder of the table, an ONNX file or a user's function, ready to run.

    Raises:
        RequestError: a wish that it cannot meet.
        WeightsError: its weights cannot be had.
    """
    known = ENCODERS.get(extractor) if isinstance(extractor, str) else None
    choices = known.conventions if known else ("imagenet", *CONVENTIONS)
    convention = convention or choices[0]
    if convention not in choices:
        raise RequestError(f"no convention {convention!r} of {name_of(extractor)}; there is {', '.join(choices)}")
    onnx = isinstance(extractor, str) and extractor.startswith("onnx:")
    ours = "openvino" if onnx else "torch"
    if backend not in ("auto", ours):
        raise RequestError(f"{name_of(extractor)} runs on the {ours} backend; leave backend {backend} out")
    chosen = CONVENTIONS[convention]
    load: Callable[..., _Loaded] = _onnx if onnx else _pretrained if known else _function
    runner, width, pixels, digest, used = load(extractor, known, chosen, device, precision, weights)
    if dims not in (None, width):
        raise RequestError(f"{name_of(extractor)} gives {width} features; leave dims {dims} out")
    recipe = Recipe(
        extractor=name_of(extractor),
        layer=str(width),
        weights=digest,
        official=known is not None and weights is None,
        convention=convention,
        precision=precision,
    )
    return LoadedExtractor(
        runner=runner, convention=chosen, pixels=pixels, dims=width, recipe=recipe, backend=ours, device=used
    )


def _pretrained(_name: str, known: Encoder, convention: Any, device: str, precision: str, weights: Any) -> _Loaded:
    _require_torch()
    from frechet.backends.transformers import ModuleRunner, fingerprint_of, load_pretrained

    function, place, module = load_pretrained(
        known.model, known.output, str(weights or known.source), device, known.wishes
    )
    runner = ModuleRunner(function, place, precision, convention.scale, convention.shift)
    width = next(runner.map([np.zeros((1, known.pixels, known.pixels, 3), np.float32)])).shape[1]
    return runner, width, known.pixels, fingerprint_of(module), str(place)


def _function(extractor: Any, _known: Any, convention: Any, device: str, precision: str, weights: Any) -> _Loaded:
    """A user's own: an attribute `pixels` says the size of the images that it takes."""
    _require_torch()
    from frechet.backends.torch import choose_device
    from frechet.backends.transformers import ModuleRunner, fingerprint_of, is_module

    if weights is not None:
        raise RequestError(f"{name_of(extractor)} brings its own weights; leave weights out")
    function: Any = _imported(extractor) if isinstance(extractor, str) else extractor
    place = choose_device(device)
    digest = _fingerprint_of_code(function)
    if is_module(function):
        function = function.eval().to(place)
        digest = fingerprint_of(function)
    pixels = int(getattr(function, "pixels", _PIXELS))
    runner = ModuleRunner(function, place, precision, convention.scale, convention.shift)
    width = next(runner.map([np.zeros((1, pixels, pixels, 3), np.float32)])).shape[1]
    return runner, width, pixels, digest, str(place)


def _fingerprint_of_code(function: Any) -> str:
    """sha256 (hex) of the file that a function was written in, and of its name: what tells it from itself of tomorrow."""
    try:
        code = Path(inspect.getfile(function if inspect.isroutine(function) else type(function))).read_bytes()
    except (OSError, TypeError):  # made at a prompt
        code = b""
    return hashlib.sha256(name_of(function).encode() + code).hexdigest()


def _onnx(extractor: str, _known: Any, convention: Any, device: str, precision: str, weights: Any) -> _Loaded:
    from frechet.backends.openvino import compile_onnx

    if device not in ("auto", "cpu") or weights is not None:
        raise RequestError(
            "an ONNX file runs on the processor and brings its own weights; leave device and weights out"
        )
    path = Path(extractor.removeprefix("onnx:"))
    if not path.is_file():
        raise RequestError(f"no file {path}; expected onnx:FILE.onnx")
    runner, width, pixels = compile_onnx(path, convention.scale, convention.shift, precision)
    return runner, width, pixels, hashlib.sha256(path.read_bytes()).hexdigest(), "cpu"


def _imported(name: str) -> Callable[..., Any]:
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
