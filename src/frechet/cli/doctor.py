"""`frechet doctor`: check the installation."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterator

import click

from frechet._internal.cpu import process_cpu_count
from frechet._internal.telemetry import block_openvino_telemetry
from frechet.errors import RequestError, WeightsError
from frechet.features.registry import Extractor, iter_extractors
from frechet.networks.weights_file import weights_cache
from frechet.version import __version__

_DEFAULT_EXTRACTOR = "inception"


@click.command()
def command() -> None:
    """Check the installation and suggest fixes.

    Exits with status 2 if the default score cannot run on this machine without a download.
    """
    for is_ok, line in _check_environment():
        _print_line(is_ok, line)
    ready = []
    for name, extractor in iter_extractors():
        is_ok, line = _check_extractor(extractor)
        _print_line(is_ok, f"extractor {name}: {line}")
        if is_ok:
            ready.append(name)
    if importlib.util.find_spec("openvino") is None:
        raise RequestError("the default score cannot run, because OpenVINO is not installed: pip install openvino")
    if _DEFAULT_EXTRACTOR not in ready:
        alternative = f", or pass --extractor {ready[0]}" if ready else ""
        raise WeightsError(
            f"the default score cannot run, because the weights of {_DEFAULT_EXTRACTOR} are missing or unusable; "
            f"download them with frechet weights fetch {_DEFAULT_EXTRACTOR}{alternative}"
        )


def _print_line(is_ok: bool, line: str) -> None:
    indented = line.replace("\n", "\n      ")
    click.echo(f"{'ok' if is_ok else '--':>4}  {indented}")


def _check_environment() -> Iterator[tuple[bool, str]]:
    """Yield (whether it is available, description) of versions, backends and the cache folder."""
    yield True, f"frechet {__version__}, Python {platform.python_version()}, {platform.platform()}"
    yield from _check_openvino()
    for backend in ("torch", "jax"):
        if importlib.util.find_spec(backend):
            yield True, f"{backend} {importlib.metadata.version(backend)} (--backend {backend})"
        else:
            yield (
                False,
                f"{backend} is not installed; optional: pip install 'frechet[{backend}]' for --backend {backend}",
            )
    yield _check_cache()


def _check_cache() -> tuple[bool, str]:
    try:
        cache = weights_cache()
    except RequestError as error:
        return False, str(error)
    parent = next(folder for folder in (cache, *cache.parents) if folder.exists())
    is_writable = os.access(parent, os.W_OK)
    return is_writable, f"weights cache {cache} ({'writable' if is_writable else 'not writable'})"


def _check_openvino() -> Iterator[tuple[bool, str]]:
    if importlib.util.find_spec("openvino") is None:
        yield False, "OpenVINO is not installed: pip install openvino"
        return
    with block_openvino_telemetry():
        import openvino

    core = openvino.Core()
    name = core.get_property("CPU", "FULL_DEVICE_NAME")
    yield True, f"OpenVINO {openvino.__version__.split('-')[0]}, {name}, {process_cpu_count()} cores"
    if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        yield True, "bfloat16 is supported by this processor (--precision bfloat16)"
    else:
        yield False, "bfloat16 is not supported by this processor; use --precision float32, the default"


def _check_extractor(extractor: Extractor | RequestError) -> tuple[bool, str]:
    if isinstance(extractor, RequestError):
        return False, str(extractor)
    try:
        return True, extractor.model.check()
    except RequestError as error:
        return False, str(error)
