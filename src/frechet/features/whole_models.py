"""Models that bring their own code: models of the transformers library, PyTorch functions and ONNX files."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frechet._internal.download import ProgressCallback
from frechet._internal.fields import name_option
from frechet.errors import RequestError, RunError
from frechet.features.code_identity import hash_code
from frechet.features.extractor import LoadedExtractor
from frechet.features.file_identity import hash_model_folder, hash_onnx
from frechet.features.loaded_model import LoadedModel, make_extractor, measure_dims, require_torch
from frechet.features.models import LoadRequest, Model
from frechet.features.spec import get_qualified_name
from frechet.networks.hub_weights import fetch_hub_weights, find_hub_weights

_DEFAULT_INPUT_SIZE = 224  # of a function without the attribute input_size
_MAX_INPUT_SIZE = 4096


@dataclass(frozen=True, kw_only=True)
class TransformersModel(Model):
    """A pretrained model of the transformers library.

    Attributes:
        hub_name: its name on huggingface.co.
        model_class: name of the class in the transformers library.
        output_field: the field of the model's output that contains the features (n, d); of tokens (n, t, d), the first
            one, the class token, is used.
        model_kwargs: keyword arguments of `from_pretrained`.
    """

    backends = ("torch",)

    hub_name: str
    model_class: str
    output_field: str
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights_source(self) -> str:
        """URL of the model."""
        return f"https://huggingface.co/{self.hub_name}"

    def find_weights(self) -> Path:
        """Return the path of the weights in the Hub's cache without downloading them."""
        return find_hub_weights(self.hub_name)

    def fetch_weights(self, progress: ProgressCallback | None = None) -> Path:  # noqa: ARG002, the library shows its own
        """Download the weights into the Hub's cache, and return the folder."""
        return fetch_hub_weights(self.hub_name)

    def check(self) -> str:
        """Check that the libraries and the weights are available, and describe the weights."""
        require_torch()
        if importlib.util.find_spec("transformers") is None:
            raise RequestError(
                "this extractor needs transformers, which is not installed; run pip install 'frechet[encoders]'"
            )
        return f"{self.find_weights()} (from {self.hub_name})"

    def load(self, request: LoadRequest) -> LoadedExtractor:
        """Load the model, or the one in the folder `request.weights`, with the transformers library."""
        require_torch()
        from frechet.backends.torch_images import DeviceImages
        from frechet.backends.transformers import ModuleRunner, hash_state_dict, load_pretrained

        function, device, module = load_pretrained(
            self.model_class,
            self.output_field,
            str(request.weights or self.hub_name),
            request.device,
            self.model_kwargs,
        )
        input_size = request.input_size or _DEFAULT_INPUT_SIZE
        images = DeviceImages(device, request.preprocessing, input_size)
        runner = ModuleRunner(function, images, str(request.spec.precision))
        dims = measure_dims(runner, input_size)
        config = (request.weights or self.find_weights().parent) / "config.json"
        digest = hash_model_folder(hash_state_dict(module), config)
        return make_extractor(request, LoadedModel(runner, dims, input_size, digest, "torch", str(device)))


@dataclass(frozen=True, kw_only=True)
class FunctionModel(Model):
    """A function of image tensors, or a torch.nn.Module: (n, 3, h, w) -> (n, d).

    Attributes:
        function: the function, or "module:attribute", which is imported when the model is loaded. Its attribute
            `input_size` states the height and width of its input if the extractor is not in the table.
    """

    backends = ("torch",)

    function: Callable[..., Any] | str

    @property
    def weights_source(self) -> str:
        """The function."""
        return f"contained in {get_qualified_name(self.function)}"

    def find_weights(self) -> Path:
        """Return the file that defines the function."""
        return Path(inspect.getfile(_get_code(self._import())))

    def check(self) -> str:
        """Check that PyTorch is installed and that the function can be imported, and name the function."""
        require_torch()
        self._import()
        return self.weights_source

    def load(self, request: LoadRequest) -> LoadedExtractor:
        """Import the function and move it to the requested device if it is a module."""
        require_torch()
        from frechet.backends.torch import choose_device
        from frechet.backends.torch_images import DeviceImages
        from frechet.backends.transformers import ModuleRunner, is_module

        _require_no_weights(request)
        function: Any = self._import()
        device = choose_device(request.device)
        if is_module(function):
            function = function.eval().to(device)
        input_size = request.input_size or _get_input_size(function)
        images = DeviceImages(device, request.preprocessing, input_size)
        runner = ModuleRunner(function, images, str(request.spec.precision))
        try:
            dims = measure_dims(runner, input_size)  # the first call, which may load the weights
            digest = hash_code(function, call=lambda: measure_dims(runner, input_size))
        except RunError as error:
            raise RequestError(str(error)) from error
        return make_extractor(request, LoadedModel(runner, dims, input_size, digest, "torch", str(device)))

    def _import(self) -> Callable[..., Any]:
        return _import_callable(self.function) if isinstance(self.function, str) else self.function


@dataclass(frozen=True, kw_only=True)
class OnnxModel(Model):
    """An ONNX file with one input (n, 3, h, h) or (n, h, h, 3) and one output (n, d).

    Attributes:
        path: the file.
    """

    backends = ("openvino",)

    path: Path

    @property
    def weights_source(self) -> str:
        """The file."""
        return str(self.path)

    def find_weights(self) -> Path:
        """Return the path of the file.

        Raises:
            RequestError: there is no such file.
        """
        if not self.path.is_file():
            raise RequestError(f"{self.path} is not a file; expected onnx:FILE.onnx")
        return self.path

    def load(self, request: LoadRequest) -> LoadedExtractor:
        """Compile the network of the file for the processor."""
        from frechet.backends.openvino import compile_onnx

        _require_no_weights(request)
        if request.device not in ("auto", "cpu"):
            raise RequestError(
                f"{name_option('device')} is {request.device!r}, but an ONNX file runs on the cpu; leave it out"
            )
        path = self.find_weights()
        runner, dims, input_size = compile_onnx(
            path, request.preprocessing.scale, request.preprocessing.shift, str(request.spec.precision)
        )
        return make_extractor(request, LoadedModel(runner, dims, input_size, hash_onnx(path), "openvino", "cpu"))


def _require_no_weights(request: LoadRequest) -> None:
    if request.weights is not None:
        raise RequestError(
            f"{name_option('weights')} is {request.weights}, but {request.spec.extractor} contains its own weights; leave it out"
        )


def _get_input_size(function: Any) -> int:
    """Return the attribute `input_size` of a function, or the default."""
    input_size = getattr(function, "input_size", _DEFAULT_INPUT_SIZE)
    if not isinstance(input_size, int) or not 1 <= input_size <= _MAX_INPUT_SIZE:
        raise RequestError(
            f"{get_qualified_name(function)}.input_size is {input_size!r}; expected the height and width of the input, a whole "
            f"number from 1 to {_MAX_INPUT_SIZE}"
        )
    return input_size


def _get_code(function: Any) -> Any:
    return function if inspect.isroutine(function) else type(function)


def _import_callable(name: str) -> Callable[..., Any]:
    """Import what "module:attribute" names."""
    module, _, attribute = name.partition(":")
    if not module or not attribute or module.startswith("."):
        raise RequestError(
            f"extractor {name!r} is incomplete; expected module:attribute, for example my_package.networks:encode"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # a module may do anything when it is imported
        raise RequestError(
            f"extractor {name!r} cannot be imported ({type(error).__name__}: {error}); expected module:attribute of an "
            "importable module"
        ) from error
    if not callable(found):
        raise RequestError(f"{name} is of type {type(found).__name__}; expected a function or a torch.nn.Module")
    return found
