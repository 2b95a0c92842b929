"""What models that bring their own code have in common once they are loaded."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from frechet._internal.fields import name_option
from frechet.errors import RequestError
from frechet.features.extractor import LoadedExtractor, Runner
from frechet.features.models import LoadRequest


class LoadedModel(NamedTuple):
    """A loaded model; `digest` is the sha256 of its weights and of what else it computes with."""

    runner: Runner
    dims: int
    input_size: int
    digest: str
    backend: str
    device: str


def make_extractor(request: LoadRequest, loaded: LoadedModel) -> LoadedExtractor:
    """Check the number of features and complete the spec.

    Raises:
        RequestError: the model returns another number of features than requested, or than the table states.
    """
    name = request.spec.extractor
    if request.dims not in (None, loaded.dims):
        raise RequestError(
            f"{name_option('dims')} is {request.dims}, but {name} returns {loaded.dims} features; leave it out"
        )
    expected = request.layers.get(str(request.spec.layer))
    if request.weights is None and expected not in (None, loaded.dims):
        raise RequestError(
            f"{name} returns {loaded.dims} features, but its entry in the table of extractors states {expected}; "
            "correct `layers` of the entry"
        )
    return LoadedExtractor(
        runner=loaded.runner,
        preprocessing=request.preprocessing,
        input_size=loaded.input_size,
        dims=loaded.dims,
        spec=replace(
            request.spec,
            layer=request.spec.layer if expected == loaded.dims else str(loaded.dims),
            weights=loaded.digest,
            is_official=bool(request.layers) and request.weights is None,
        ),
        backend=loaded.backend,
        device=loaded.device,
    )


def measure_dims(runner: Runner, input_size: int) -> int:
    """Return the number of features of one black image."""
    return next(iter(runner.map([np.zeros((1, input_size, input_size, 3), np.float32)]))).shape[1]


def require_torch() -> None:
    """Require that PyTorch is installed.

    Raises:
        RequestError: it is not.
    """
    if importlib.util.find_spec("torch") is None:
        raise RequestError(
            "this extractor needs PyTorch, which is not installed; run pip install 'frechet[torch]' (for models of the Hugging Face Hub, "
            "'frechet[encoders]')"
        )
