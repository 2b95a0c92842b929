"""`frechet doctor`: check the installation."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator, Mapping

import click

from frechet._internal.cpu import process_cpu_count
from frechet._internal.telemetry import block_openvino_telemetry
from frechet._internal.terminal import escape_line
from frechet.errors import RequestError
from frechet.features.registry import Extractor, iter_extractors
from frechet.networks.weights_file import weights_cache
from frechet.version import __version__

_DEFAULT_EXTRACTOR = "inception"
_SCORE = "`frechet score A B`"
_MISSING = "weights not found"
Check = tuple[bool, str]  # whether it is available, and a description


@click.command()
def command() -> None:
    """Check the installation and suggest fixes.

    The first line states whether `frechet score A B` will work. Exits with status 2 if it will fail, or would need a download.
    """
    extractors = {name: _check_extractor(extractor) for name, extractor in iter_extractors()}
    problem = _find_problem(extractors)
    click.echo(f"{_SCORE} {problem or 'will work.'}")
    for title, checks in {
        "Installation": list(_check_environment()),
        "Devices": list(_check_devices()),
        "Extractors": list(_describe_extractors(extractors)),
    }.items():
        click.echo(f"\n{title}")
        for is_ok, line in checks:
            click.echo(f"{'ok' if is_ok else '--':>4}  {escape_line(line)}")
    if problem:
        sys.exit(2)


def _find_problem(extractors: Mapping[str, Check]) -> str | None:
    """Return why the default score cannot run and how to fix it, as the end of a sentence about it, or None."""
    if importlib.util.find_spec("openvino") is None and not _has_accelerator():
        return "will fail because OpenVINO is not installed. Run: pip install openvino"
    is_ready, reason = extractors[_DEFAULT_EXTRACTOR]
    if is_ready:
        return None
    others = [name for name, (is_ok, _) in extractors.items() if is_ok]
    alternative = f", or pass --extractor {others[0]}" if others else ""
    if reason == _MISSING:
        return (
            "needs the Inception weights, which were not found. "
            f"Run: frechet weights fetch {_DEFAULT_EXTRACTOR}{alternative}"
        )
    return f"will fail because {escape_line(reason)}{alternative}"


def _has_accelerator() -> bool:
    """Return whether PyTorch would run the network on CUDA or MPS, so that OpenVINO is not needed."""
    return any(device.startswith(("cuda", "mps")) for _, device in _check_torch_devices())


def _check_environment() -> Iterator[Check]:
    """Yield versions, backends and the cache folder."""
    yield True, f"frechet {__version__}, Python {platform.python_version()}, {platform.platform()}"
    yield from _check_openvino()
    for backend in ("torch", "jax"):
        if importlib.util.find_spec(backend):
            yield True, f"{backend} {importlib.metadata.version(backend)} (--backend {backend})"
        else:
            yield (
                False,
                f"{backend} is not installed; for --backend {backend}, run pip install 'frechet[{backend}]'",
            )
    yield _check_cache()


def _check_cache() -> Check:
    try:
        cache = weights_cache()
    except RequestError as error:
        return False, str(error)
    parent = next(folder for folder in (cache, *cache.parents) if folder.exists())
    is_writable = os.access(parent, os.W_OK)
    return is_writable, f"weights cache {cache} ({'writable' if is_writable else 'not writable'})"


def _check_openvino() -> Iterator[Check]:
    if importlib.util.find_spec("openvino") is None:
        yield False, "OpenVINO is not installed; run pip install openvino"
        return
    with block_openvino_telemetry():
        import openvino

    yield True, f"OpenVINO {openvino.__version__.split('-')[0]} (--backend openvino)"
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        yield True, "bfloat16 is supported by this processor (--precision bfloat16)"
    else:
        yield False, "bfloat16 is not supported by this processor; use --precision float32, the default"


def _check_devices() -> Iterator[Check]:
    """Yield the devices that can run a network."""
    name = platform.processor() or platform.machine()
    if importlib.util.find_spec("openvino"):
        with block_openvino_telemetry():
            import openvino

        name = openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    yield True, f"cpu: {name}, {process_cpu_count()} cores"
    yield from _check_torch_devices()
    yield from _check_jax_devices()


def _check_torch_devices() -> Iterator[Check]:
    if importlib.util.find_spec("torch") is None:
        yield False, "CUDA and MPS: unknown, because PyTorch is not installed"
        return
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(count):
        yield True, f"cuda:{index}: {torch.cuda.get_device_name(index)} (--device cuda:{index})"
    if torch.backends.mps.is_available():
        yield True, "mps: the GPU of this Mac (--device mps)"
    elif not count:
        yield False, f"PyTorch {torch.__version__} finds neither CUDA nor MPS"


def _check_jax_devices() -> Iterator[Check]:
    if importlib.util.find_spec("jax") is None:
        return
    import jax

    try:
        devices = jax.devices()
    except RuntimeError as error:
        yield False, f"JAX finds no device: {error}"
        return
    kinds = ", ".join(f"{device.platform}:{device.id} ({device.device_kind})" for device in devices)
    yield True, f"JAX: {kinds} (--backend jax)"


def _check_extractor(extractor: Extractor | RequestError) -> Check:
    if isinstance(extractor, RequestError):
        return False, str(extractor)
    try:
        return True, extractor.model.check()
    except RequestError as error:
        return False, _MISSING if _is_missing(extractor) else str(error)


def _is_missing(extractor: Extractor) -> bool:
    try:
        extractor.model.find_weights()
    except RequestError:
        return extractor.model.weights_file is not None
    return False


def _describe_extractors(extractors: Mapping[str, Check]) -> Iterator[Check]:
    for name, (is_ok, line) in extractors.items():
        yield is_ok, f"{name}: {line}" + (f"; run: frechet weights fetch {name}" if line == _MISSING else "")
