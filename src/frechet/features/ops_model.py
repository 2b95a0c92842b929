"""Networks written over `Ops`, which every backend can run."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from frechet._internal.choices import validate_choice
from frechet._internal.download import ProgressCallback
from frechet._internal.fields import name_option
from frechet.errors import RequestError
from frechet.features.code_identity import add_code
from frechet.features.extractor import Layer, LoadedExtractor, Runner
from frechet.features.models import BACKENDS, LoadRequest, Model
from frechet.features.spec import FeatureSpec
from frechet.networks.weights import ConvLayer, FoldedWeights, load_weights
from frechet.networks.weights_file import WeightsFile, fetch_weights, find_weights
from frechet.preprocessing.registry import Preprocessing, Scalars


@dataclass(frozen=True, kw_only=True)
class LoadedNetwork:
    """A network with its weights, for any backend.

    Attributes:
        network: (ops, images (n, h, w, 3) in 0..255 of size `input_size`, weights) -> (n, total d).
        weights: layer -> its arrays.
        preprocessing: how images become the input.
        input_size: height and width of the input in pixels.
        dims: number of features d of the requested layer.
        spec: what identifies the features of the requested layer.
        extra_layers: further layers, whose columns follow those of the requested one.
    """

    network: Callable[[Any, Any, Any], Any]
    weights: FoldedWeights
    preprocessing: Preprocessing
    input_size: int
    dims: int
    spec: FeatureSpec
    extra_layers: Mapping[str, Layer] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OpsModel(Model):
    """A network written as a function over `Ops`.

    Attributes:
        function: (ops, images, weights, layers) -> (n, d), with the columns of the layers in the given order.
        conv_layers: returns an iterator over its convolutions, for reading the weights.
        weights_file: its published weights.
        heads: layers that need additional weights: layer -> prefix of their keys in the state dict.
    """

    backends = BACKENDS

    function: Callable[..., Any]
    conv_layers: Callable[[], Iterator[ConvLayer]]
    weights_file: WeightsFile
    heads: Mapping[str, str] = field(default_factory=dict)

    @property
    def weights_source(self) -> str:
        """URL of the weights file, or the command that installs it."""
        return self.weights_file.source

    def find_weights(self) -> Path:
        """Return the path of the weights file without downloading it."""
        return find_weights(self.weights_file)

    def fetch_weights(self, progress: ProgressCallback | None = None) -> Path:
        """Download the weights file into the user's cache, and return its path."""
        return fetch_weights(self.weights_file, progress)

    def check(self) -> str:
        """Read and validate the weights, and describe them."""
        loaded = load_weights(self.weights_file, self.conv_layers, self.find_weights())
        return f"{loaded.path} ({'the official weights' if loaded.is_official else 'NOT the official weights'})"

    def load(self, request: LoadRequest) -> LoadedExtractor:
        """Load the weights and prepare the network to run on the requested backend and device."""
        backend = _choose_backend(request.device) if request.backend == "auto" else request.backend
        loaded = self.load_network(request)
        runner, device = _RUNNER_FACTORIES[backend](loaded, request.device)
        return LoadedExtractor(
            runner=runner,
            device=device,
            preprocessing=loaded.preprocessing,
            input_size=loaded.input_size,
            dims=loaded.dims,
            spec=loaded.spec,
            backend=backend,
            extra_layers=loaded.extra_layers,
        )

    def load_network(self, request: LoadRequest) -> LoadedNetwork:
        """Load the weights without choosing a backend.

        Raises:
            WeightsError: the weights are missing or damaged.
        """
        layers = list(request.layers)
        head = next((self.heads[layer] for layer in layers if layer in self.heads), None)
        found = load_weights(self.weights_file, self.conv_layers, request.weights, head=head, progress=request.progress)
        specs = [
            replace(
                request.spec,
                layer=layer,
                weights=add_code(str(found.head_digest if layer in self.heads else found.digest), self.function),
                is_official=found.is_official,
            )
            for layer in layers
        ]
        first, *others = [Layer(d, spec) for d, spec in zip(request.layers.values(), specs, strict=True)]
        assert request.input_size is not None
        return LoadedNetwork(
            network=partial(
                _run_normalised, self.function, request.preprocessing.scale, request.preprocessing.shift, layers
            ),
            weights=found.conv_layers,
            preprocessing=request.preprocessing,
            input_size=request.input_size,
            dims=first.dims,
            spec=first.spec,
            extra_layers=dict(zip(layers[1:], others, strict=True)),
        )


def _run_normalised(
    function: Callable[..., Any],
    scale: Scalars,
    shift: Scalars,
    layers: Sequence[str],
    ops: Any,
    images: Any,
    weights: Any,
) -> Any:
    """Normalise images in 0..255 and run the network; a module-level function, so that partials of it can be pickled."""
    return function(ops, ops.scale_shift(images, scale, shift), weights, layers)


def _choose_backend(device: str) -> str:
    """Return "torch" if a device is named or an accelerator is available, else "openvino"."""
    if device not in ("auto", "cpu"):
        return "torch"
    maybe = device == "auto" and (Path("/dev/nvidiactl").exists() or sys.platform == "darwin")
    if maybe and importlib.util.find_spec("torch"):
        from frechet.backends.torch import choose_device

        return "openvino" if choose_device("auto").type == "cpu" else "torch"
    return "openvino"


def _make_openvino_runner(loaded: LoadedNetwork, device: str) -> tuple[Runner, str]:
    from frechet.backends.openvino import compile_network  # imported here so that reading statistics loads no backend

    validate_choice(device, ("auto", "cpu"), "device", "for the openvino backend")
    runner = compile_network(
        lambda ops, images: loaded.network(ops, images, loaded.weights),
        input_size=loaded.input_size,
        precision=str(loaded.spec.precision),
    )
    return runner, "cpu"


def _make_torch_runner(loaded: LoadedNetwork, device: str) -> tuple[Runner, str]:
    if importlib.util.find_spec("torch") is None:
        raise RequestError(
            "the torch backend needs PyTorch, which is not installed; run pip install 'frechet[torch]', or use backend openvino"
        )
    from frechet.backends.torch import TorchRunner, choose_device
    from frechet.backends.torch_images import DeviceImages

    torch_device = choose_device(device)
    images = DeviceImages(torch_device, loaded.preprocessing, loaded.input_size)
    return TorchRunner(loaded.network, loaded.weights, images, str(loaded.spec.precision)), str(torch_device)


def _make_jax_runner(loaded: LoadedNetwork, device: str) -> tuple[Runner, str]:
    if importlib.util.find_spec("jax") is None:
        raise RequestError(
            "the jax backend needs JAX, which is not installed; run pip install 'frechet[jax]', or use backend openvino"
        )
    from frechet.backends.jax import choose_devices
    from frechet.backends.jax_runner import DeviceImages, JaxRunner

    if loaded.spec.precision == "tf32":
        raise RequestError(
            f"{name_option('precision')} is 'tf32', which needs backend torch; expected float32, bfloat16 or float16"
        )
    devices = choose_devices(device)
    label = devices[0].platform if len(devices) == 1 else f"{len(devices)} x {devices[0].platform}"
    images = DeviceImages(devices, loaded.preprocessing, loaded.input_size)
    return JaxRunner(loaded.network, loaded.weights, images, str(loaded.spec.precision)), label


_RUNNER_FACTORIES = {"openvino": _make_openvino_runner, "torch": _make_torch_runner, "jax": _make_jax_runner}
