"""`frechet doctor`: what works here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterator

import click

from frechet._internal.cpu import process_cpu_count
from frechet.errors import WeightsError
from frechet.features.registry import EXTRACTORS
from frechet.networks.weights import find_weights, load_weights, weights_cache
from frechet.version import __version__


@click.command()
def command() -> None:
    """Say what works on this machine, and how to mend what does not. Exit code 2 if no extractor can run."""
    openvino = importlib.util.find_spec("openvino") is not None
    n_ready = 0
    for status, line in [*_check_environment(), *_check_extractors()]:
        click.echo(f"{status:>4}  {line}")
        n_ready += openvino and status == "ok" and line.startswith("extractor")
    if not n_ready:
        raise WeightsError("no extractor can run here; the lines marked -- say what is missing")


def _check_environment() -> Iterator[tuple[str, str]]:
    yield "ok", f"frechet {__version__}, Python {platform.python_version()}, {platform.platform()}"
    if importlib.util.find_spec("openvino") is None:
        yield "--", "OpenVINO is not installed: pip install openvino"
        return
    import openvino

    core = openvino.Core()
    yield (
        "ok",
        f"OpenVINO {openvino.__version__.split('-')[0]}, {core.get_property('CPU', 'FULL_DEVICE_NAME')}, {process_cpu_count()} cores",
    )
    if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        yield "ok", "bfloat16: this processor has it (--precision bfloat16)"
    else:
        yield "--", "bfloat16: this processor has none; float32 is what runs"
    for backend in ("torch", "jax"):
        if importlib.util.find_spec(backend):
            yield "ok", f"{backend} {importlib.metadata.version(backend)} (--backend {backend})"
        else:
            yield (
                "--",
                f"{backend} is not installed, and need not be: pip install 'frechet[{backend}]' for --backend {backend}",
            )
    cache = weights_cache()
    parent = next(folder for folder in (cache, *cache.parents) if folder.exists())
    writable = os.access(parent, os.W_OK)
    yield ("ok" if writable else "--"), f"weights cache {cache} ({'writable' if writable else 'not writable'})"


def _check_extractors() -> Iterator[tuple[str, str]]:
    for name, extractor in EXTRACTORS.items():
        try:
            loaded = load_weights(
                extractor.weights, extractor.conv_layers, find_weights(extractor.weights)
            )  # never downloads
        except WeightsError as error:
            yield "--", f"extractor {name}: {error}"
        else:
            official = "the official weights" if loaded.is_official else "NOT the official weights"
            yield "ok", f"extractor {name}: {loaded.path} ({official})"
