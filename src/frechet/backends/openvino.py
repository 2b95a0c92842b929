"""The ops as nodes of an OpenVINO graph, and a runner for the compiled graph."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from frechet._internal.cpu import process_cpu_count
from frechet._internal.fields import name_option
from frechet._internal.telemetry import block_openvino_telemetry
from frechet.errors import RequestError, RunError
from frechet.images.sources.native_process import NativeSource
from frechet.images.sources.native_reader import ImageData, limit_memory
from frechet.networks.ops import NO_PADDING, Activation, Array, Padding
from frechet.preprocessing.registry import Scalars

with block_openvino_telemetry():
    import openvino as ov
    from openvino import opset13 as opset

_MIN_ADDRESS_SPACE = 640 << 20  # bytes; the smallest network needs about 700 MB in all
_PRECISION_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVINOOps:
    """The operations of a network as nodes of a graph; kernels and biases are constants, feature maps are NCHW."""

    def from_nhwc(self, images: Array) -> Array:
        return opset.transpose(images, np.array([0, 3, 1, 2]))

    def conv(
        self,
        x: Array,
        kernel: Array,
        bias: Array,
        *,
        stride: int = 1,
        padding: Padding = NO_PADDING,
        groups: int = 1,
        activation: Activation = "none",
    ) -> Array:
        (top, bottom), (left, right) = padding
        window: dict[str, Any] = {
            "strides": [stride, stride],
            "pads_begin": [top, left],
            "pads_end": [bottom, right],
            "dilations": [1, 1],
        }
        if groups == 1:
            x = opset.convolution(x, opset.constant(kernel), **window)
        else:
            by_group = kernel.reshape(groups, kernel.shape[0] // groups, *kernel.shape[1:])
            x = opset.group_convolution(x, opset.constant(by_group), **window)
        x = opset.add(x, opset.constant(bias.reshape(1, -1, 1, 1)))
        if activation == "relu":
            return opset.relu(x)
        return opset.clamp(x, 0.0, 6.0) if activation == "relu6" else x

    def run_segment(self, function: Callable[[Array], Array], x: Array) -> Array:
        return function(x)

    def max_pool(self, x: Array, *, size: int, stride: int, padding: int = 0) -> Array:
        pads = [padding, padding]
        return opset.max_pool(x, [stride, stride], [1, 1], pads, pads, [size, size]).output(0)

    def avg_pool(self, x: Array, *, size: int, stride: int, padding: int = 0, count_include_pad: bool = False) -> Array:
        pads = [padding, padding]
        return opset.avg_pool(x, [stride, stride], pads, pads, [size, size], exclude_pad=not count_include_pad)

    def add(self, x: Array, y: Array) -> Array:
        return opset.add(x, y)

    def relu(self, x: Array) -> Array:
        return opset.relu(x)

    def concat(self, tensors: Sequence[Array]) -> Array:
        return opset.concat(list(tensors), axis=1)

    def scale_shift(self, images: Array, scale: Scalars, shift: Scalars) -> Array:
        return opset.add(opset.multiply(images, np.asarray(scale, np.float32)), np.asarray(shift, np.float32))

    def slice_channels(self, x: Array, start: int, stop: int) -> Array:
        return opset.slice(x, [start], [stop], [1], [1])

    def global_average_pool(self, x: Array) -> Array:
        return opset.reduce_mean(x, np.array([2, 3]), keep_dims=False)

    def flatten(self, x: Array) -> Array:
        return opset.reshape(opset.transpose(x, np.array([0, 2, 3, 1])), np.array([0, -1]), special_zero=True)

    def matmul(self, x: Array, matrix: Array) -> Array:
        return opset.matmul(x, opset.constant(matrix), False, False)


class OpenVINORunner:
    """Run a compiled graph with enough inference requests in flight to keep the processor busy."""

    batch_size = 4  # one stream per core: larger batches are not faster, and the last ones would leave cores idle

    def __init__(self, compiled: ov.CompiledModel) -> None:
        streams = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        # results are awaited in order, so a stream that finishes early needs a batch that is already queued
        self.requests = [compiled.create_infer_request() for _ in range(2 * streams)]

    def map(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the features (n, d) float32 of batches (n, h, w, 3) float32 in 0..255, in order.

        Batches are read ahead of the yielded results by the number of requests in flight.
        """
        idle = list(self.requests)
        running: deque[tuple[ov.InferRequest, np.ndarray]] = deque()
        try:
            for batch in batches:
                if not idle:
                    request, _ = running.popleft()
                    yield _wait(request)
                    idle.append(request)
                request = idle.pop()
                running.append(
                    (request, batch)
                )  # its memory is shared with the request, so keep a reference until it is done
                request.set_input_tensor(ov.Tensor(batch, shared_memory=True))
                request.start_async()
            while running:
                request, _ = running.popleft()
                yield _wait(request)
        finally:
            for request, _ in running:
                with suppress(RuntimeError):  # the first error is the one to report
                    request.wait()


def _wait(request: ov.InferRequest) -> np.ndarray:
    """Wait for a request and return a copy of its result.

    Raises:
        MemoryError: this process may not use as much memory as the network needs.
        RunError: OpenVINO cannot run the network.
    """
    try:
        request.wait()
        features: np.ndarray = request.get_output_tensor().data.copy()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        if "alloc" in reason:
            raise MemoryError(reason) from error
        raise RunError(
            f"OpenVINO cannot run the network: {reason}. Use another backend, such as --backend torch."
        ) from error
    return features


def compile_network(
    network: Callable[[OpenVINOOps, Array], Array], *, input_size: int, precision: str
) -> OpenVINORunner:
    """Build a network's graph and compile it for this machine's processor.

    Args:
        network: (ops, images (n, h, w, 3) in 0..255) -> features (n, d).
        input_size: height and width of the images in pixels; the number of images n is dynamic.
        precision: "float32", or "bfloat16" if the processor supports it.

    Raises:
        RequestError: the precision is unsupported, or the processor has no bfloat16 arithmetic (emulated, it would be
            slower than float32).
    """
    images = opset.parameter([-1, input_size, input_size, 3], np.float32)
    return _compile_model(ov.Model([network(OpenVINOOps(), images)], [images]), precision)


def compile_onnx(path: Path, scale: Scalars, shift: Scalars, precision: str) -> tuple[OpenVINORunner, int, int]:
    """Compile the network of an ONNX file with one input (n, 3, h, h) or (n, h, h, 3) and one output (n, d).

    Args:
        path: the file.
        scale, shift: normalisation of images in 0..255 before the network, a number or one number per channel.
        precision: "float32", or "bfloat16" if the processor supports it.

    Returns:
        The runner, the number of features d, and the height and width h of the input in pixels.

    Raises:
        RequestError: the file cannot be read, or the network has another input or output.
    """
    try:
        NativeSource(f"{__name__}:OnnxProbe", path)
        return _compile_onnx(path, scale, shift, precision)
    except RequestError:
        raise
    except Exception as error:  # OpenVINO has no common class of errors for damaged files
        raise RequestError(
            f"{path} cannot be read as an ONNX network ({type(error).__name__}: {error}). Export the network again, or check it "
            "with onnx.checker."
        ) from error


class OnnxProbe:
    """Reads an ONNX file in a process that may die, because OpenVINO crashes on some damaged files (see `NativeSource`)."""

    label_suffix, names = "", None

    def __init__(self, path: Path) -> None:
        limit_memory(None)  # networks may be larger than images
        try:
            ov.Core().read_model(path)
        except RuntimeError as error:
            raise RequestError(
                f"{path} cannot be read as an ONNX network: {error}. Export the network again, or check it with onnx.checker."
            ) from error

    def __len__(self) -> int:
        return 0

    def iter_data(self, _source_indices: Sequence[int]) -> Iterator[ImageData]:
        """Yield nothing: a network has no images."""
        return iter(())


def _compile_onnx(path: Path, scale: Scalars, shift: Scalars, precision: str) -> tuple[OpenVINORunner, int, int]:
    model = ov.Core().read_model(path)
    is_channels_last, input_size = _read_input_layout(model, path)
    model.reshape([-1, input_size, input_size, 3] if is_channels_last else [-1, 3, input_size, input_size])
    images = opset.parameter([-1, input_size, input_size, 3], np.float32)
    network_input = OpenVINOOps().scale_shift(images, scale, shift)
    if not is_channels_last:
        network_input = opset.transpose(network_input, np.array([0, 3, 1, 2]))
    model.inputs[0].node.output(0).replace(opset.convert(network_input, np.float32).output(0))
    features = model.outputs[0].node.input_value(0)
    if features.partial_shape.rank.get_length() > 2:  # e.g. (n, d, 1, 1)
        features = opset.reshape(features, np.array([0, -1]), special_zero=True).output(0)
    normalised_model = ov.Model([features], [images])
    d = normalised_model.outputs[0].partial_shape[1]
    if not d.is_static:
        raise RequestError(
            f"{path} returns {normalised_model.outputs[0].partial_shape}; expected (n, d) with a fixed d. "
            "Export the network with a fixed number of features."
        )
    return _compile_model(normalised_model, precision), d.get_length(), input_size


def _read_input_layout(model: ov.Model, path: Path) -> tuple[bool, int]:
    """Return whether the channels of the network's input are last, and its height and width."""
    shape = [size.get_length() if size.is_static else -1 for size in model.inputs[0].partial_shape]
    is_channels_last = shape[-1:] == [3]
    spatial_shape = shape[1:3] if is_channels_last else shape[2:4]
    if (
        len(model.inputs) != 1
        or len(shape) != 4
        or (not is_channels_last and shape[1] != 3)
        or spatial_shape[0] != spatial_shape[1]
        or spatial_shape[0] < 1
    ):
        raise RequestError(
            f"{path} has an input of shape {shape}; expected one input (n, 3, h, h) or (n, h, h, 3) with a fixed h. "
            "Export the network with such an input."
        )
    return is_channels_last, spatial_shape[0]


def _compile_model(model: ov.Model, precision: str) -> OpenVINORunner:
    if precision not in _PRECISION_HINTS:
        raise RequestError(
            f"{name_option('precision')} is {precision!r}, but the openvino backend computes in {' or '.join(_PRECISION_HINTS)}; "
            "use --backend torch (backend=)"
        )
    _require_address_space()
    core = ov.Core()
    if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise RequestError(
            f"{name_option('precision')} is bfloat16, which needs a processor with bfloat16 arithmetic (AMX or AVX512-BF16); use float32"
        )
    hints = {
        "INFERENCE_PRECISION_HINT": _PRECISION_HINTS[precision],
        "INFERENCE_NUM_THREADS": process_cpu_count(),
        "PERFORMANCE_HINT": "THROUGHPUT",
    }
    try:
        return OpenVINORunner(core.compile_model(model, "CPU", hints))
    except RuntimeError as error:
        *_, reason = str(error).strip().splitlines()
        raise RunError(
            f"OpenVINO cannot compile the network: {reason}. If this process has limits (ulimit -a), allow it more memory and "
            "threads."
        ) from error


def _require_address_space() -> None:
    """Require enough memory for the plugin's libraries: with less, they may end the process instead of raising an error.

    Raises:
        RunError: the limit of this process is lower.
    """
    with suppress(ImportError):
        import resource  # absent on Windows, which has no such limit

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY and limit < _MIN_ADDRESS_SPACE:
            raise RunError(
                f"this process may use {limit >> 20:,} MB of address space, and OpenVINO needs at least "
                f"{_MIN_ADDRESS_SPACE >> 20:,} MB; allow more (ulimit -v)"
            )
