"""Load an extractor by name, or a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frechet._internal.choices import validate_choice
from frechet._internal.download import ProgressCallback
from frechet._internal.fields import name_option
from frechet.errors import RequestError
from frechet.features.extractor import LoadedExtractor
from frechet.features.models import BACKENDS, LoadRequest, Model
from frechet.features.ops_model import LoadedNetwork, OpsModel
from frechet.features.registry import (
    EXTRACTORS,
    PRECISIONS,
    Extractor,
    build_spec,
    find_extractor,
    is_custom_extractor,
    iter_extractors,
)
from frechet.features.spec import FeatureSpec, get_qualified_name
from frechet.features.whole_models import FunctionModel, OnnxModel
from frechet.preprocessing.registry import PREPROCESSINGS

_DEFAULT_CUSTOM_PREPROCESSING = "imagenet"


def load_extractor(extractor: Any = "inception", **options: Any) -> LoadedExtractor:
    """Load an extractor onto a backend's device.

    Args:
        extractor: name in the table, "onnx:FILE", "module:attribute", or a function or torch.nn.Module.
        **options: the keyword arguments of `resolve_extractor`.

    Raises:
        RequestError: an unknown name or an unsupported combination; the message lists the valid names.
        WeightsError: the weights are missing or damaged.
    """
    model, request = resolve_extractor(extractor, **options)
    return model.load(request)


def load_network(name: str = "inception", **options: Any) -> LoadedNetwork:
    """Load a network that every backend can run, without choosing a backend.

    Args:
        name: name in the table.
        **options: the keyword arguments of `resolve_extractor`, except `backend` and `device`.

    Raises:
        RequestError: an unknown name, an extractor that only one backend can run, or an unsupported combination.
        WeightsError: the weights are missing or damaged.
    """
    validate_choice(name, EXTRACTORS, "extractor")
    model, request = resolve_extractor(name, **options)
    if not isinstance(model, OpsModel):
        usable = [
            other for other, row in iter_extractors() if isinstance(row, Extractor) and isinstance(row.model, OpsModel)
        ]
        raise RequestError(f"extractor {name!r} is not available as a function over ops; use {', '.join(usable)}")
    validate_differentiable(request.spec)
    return model.load_network(request)


def validate_differentiable(spec: FeatureSpec) -> None:
    """Check that features can be computed with gradients: their preprocessing is a resize, and their precision not TF32.

    Raises:
        RequestError: another precision, or a preprocessing that crops and rounds; the message lists the others.
    """
    if spec.precision == "tf32":
        raise RequestError("precision is 'tf32', but gradients are exact; expected float32, bfloat16 or float16")
    if PREPROCESSINGS[str(spec.preprocessing)].has_center_crop:
        row = find_extractor(spec.extractor)
        names = list(PREPROCESSINGS) if row is None else row.preprocessings
        usable = [each for each in names if not PREPROCESSINGS[each].has_center_crop]
        raise RequestError(
            f"preprocessing is {spec.preprocessing!r}, which crops images and rounds them to 8 bits; expected one that is the "
            f"same on a device and has a gradient. Use {', '.join(usable) or 'another extractor'}."
        )


def resolve_extractor(
    extractor: Any,
    *,
    dims: int | None = None,
    preprocessing: str | None = None,
    weights: Path | None = None,
    precision: str = "float32",
    backend: str = "auto",
    device: str = "auto",
    progress: ProgressCallback | None = None,
    extra_layers: Sequence[str] = (),
) -> tuple[Model, LoadRequest]:
    """Validate the options and return the model with the request to load it.

    Args:
        extractor: name in the table, "onnx:FILE", "module:attribute", or a function or torch.nn.Module.
        dims: number of features, which selects a layer; None selects the default.
        preprocessing: name of the preprocessing; None selects the default.
        weights: file or folder with weights that replaces the published ones.
        precision: a name in `PRECISIONS`.
        backend: a name in `BACKENDS`, or "auto".
        device: name of the device, or "auto".
        progress: called with (name, bytes done, total bytes) during a download of weights.
        extra_layers: names of layers to compute in addition to that of `dims`.

    Raises:
        RequestError: an unknown name or an unsupported combination; the message lists the valid names.
    """
    validate_choice(backend, ("auto", *BACKENDS), "backend")
    if is_custom_extractor(extractor):
        model, spec = _resolve_custom(extractor, preprocessing, precision)
        layers, input_size = {}, None
    else:
        spec = build_spec(extractor, dims=dims, preprocessing=preprocessing, precision=precision)
        row = EXTRACTORS[extractor]
        model, input_size = row.model, row.input_size
        for layer in extra_layers:
            validate_choice(layer, row.layers, "layer", f"for {extractor}")
        layers = {layer: row.layers[layer] for layer in (str(spec.layer), *extra_layers)}
    if backend not in ("auto", *model.backends):
        raise RequestError(
            f"{name_option('backend')} is {backend!r}, but {spec.extractor} runs only on {', '.join(model.backends)}; leave it out"
        )
    return model, LoadRequest(
        spec=spec,
        preprocessing=PREPROCESSINGS[str(spec.preprocessing)],
        layers=layers,
        input_size=input_size,
        dims=dims,
        weights=weights,
        backend=backend,
        device=device,
        progress=progress,
    )


def _resolve_custom(extractor: Any, preprocessing: str | None, precision: str) -> tuple[Model, FeatureSpec]:
    """Return the model of an extractor outside the table, and the spec of its features without their layer."""
    name = get_qualified_name(extractor)
    preprocessing = _DEFAULT_CUSTOM_PREPROCESSING if preprocessing is None else preprocessing
    validate_choice(preprocessing, PREPROCESSINGS, "preprocessing")
    validate_choice(precision, PRECISIONS, "precision")
    spec = FeatureSpec(extractor=name, preprocessing=preprocessing, precision=precision)
    if isinstance(extractor, str) and extractor.startswith("onnx:"):
        return OnnxModel(path=Path(extractor.removeprefix("onnx:"))), spec
    return FunctionModel(function=extractor), spec
