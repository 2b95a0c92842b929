"""`frechet doctor`: what works here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterator

import click

from frechet._internal.cpu import usable_cores
from frechet.errors import WeightsError
from frechet.features.registry import EXTRACTORS
from frechet.networks.weights import find_weights, load_weights, weights_cache
from frechet.version import __version__


@click.command()
def command() -> None:
    """Say what works on this machine, and how to mend what does not. Exit code 2 if no extractor can run."""
    openvino = importlib.util.find_spec("openvino") is not None
    ready = 0
    for mark, line in [*_machine(), *_extractors()]:
        click.echo(f"{mark:>4}  {line}")
        ready += openvino and mark == "ok" and line.startswith("extractor")
    if not ready:
        raise WeightsError("no extractor can run here; the lines marked -- say what is missing")


def _machine() -> Iterator[tuple[str, str]]:
    yield "ok", f"frechet {__version__}, Python {platform.python_version()}, {platform.platform()}"
    if importlib.util.find_spec("openvino") is None:
        yield "--", "OpenVINO is not installed: pip install openvino"
        return
    import openvino

    core = openvino.Core()
    yield (
        "ok",
        f"OpenVINO {openvino.__version__.split('-')[0]}, {core.get_property('CPU', 'FULL_DEVICE_NAME')}, {usable_cores()} cores",
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


def _extractors() -> Iterator[tuple[str, str]]:
    for name, extractor in EXTRACTORS.items():
        try:
            found = load_weights(
                extractor.weights, extractor.layers, find_weights(extractor.weights)
            )  # never downloads
        except WeightsError as error:
            yield "--", f"extractor {name}: {error}"
        else:
            official = "the official weights" if found.official else "NOT the official weights"
            yield "ok", f"extractor {name}: {found.path} ({official})"
