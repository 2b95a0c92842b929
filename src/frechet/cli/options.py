"""Flags that say how images become features, shared by every command that reads images."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from frechet.errors import RequestError

Command = TypeVar("Command", bound=Callable[..., Any])

_IMAGE_OPTIONS = (
    click.option(
        "--extractor",
        default="inception",
        show_default=True,
        metavar="NAME",
        help="inception, efficientnet-lite0, another of docs/reference.md, onnx:FILE or module:attribute.",
    ),
    click.option(
        "--dims", type=int, metavar="N", help="Layer of inception: 64, 192, 768, 2048 (the default), 2023 (sFID), 1008."
    ),
    click.option(
        "--preprocessing", metavar="NAME", help="pytorch-fid (the default), tensorflow, clean or torchmetrics."
    ),
    click.option(
        "--weights", type=click.Path(path_type=Path), metavar="FILE", help="Weights that come before every other place."
    ),
    click.option("--backend", default="auto", show_default=True, metavar="NAME", help="auto, openvino, torch or jax."),
    click.option("--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, cuda:N or mps."),
    click.option(
        "--precision",
        default="float32",
        show_default=True,
        metavar="NAME",
        help="float32, or bfloat16 where the processor has it.",
    ),
    click.option("--batch-size", type=int, metavar="N", help="Images that run together."),
    click.option("--workers", type=int, metavar="N", help="Decoding threads; by default one for each core."),
    click.option("--num-images", type=int, metavar="N", help="Take a seeded subset of each source of images."),
    click.option("--cache", is_flag=True, help="Keep features: further metrics of the same images need no network."),
    click.option(
        "--seed", type=int, default=0, show_default=True, metavar="N", help="Of the subset and of stored rows."
    ),
    click.option(
        "--on-bad-image",
        default="stop",
        show_default=True,
        metavar="stop|skip",
        help="At an image that cannot be decoded.",
    ),
    click.option(
        "--work-dir",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Keep finished parts there; the same command continues after a stop.",
    ),
    click.option(
        "--engine",
        default="auto",
        show_default=True,
        metavar="NAME",
        help="Who computes: local, ray, or torchrun, which auto recognises where it started this.",
    ),
    click.option("--ray-address", metavar="ADDRESS", help="Of a Ray cluster, as ray.init takes it."),
)

features_option = click.option(
    "--features",
    is_flag=True,
    help="What is no statistics is features (n, d): an .npy, or an .npz with features, feats or arr_0.",
)


def image_options(command: Command) -> Command:
    """Add the flags; they arrive as keywords named like the fields of `Settings`."""
    for option in reversed(_IMAGE_OPTIONS):
        command = option(command)
    return command


@contextmanager
def resolve_engine(options: dict[str, Any]) -> Iterator[dict[str, Any] | None]:
    """The settings with the engine that is meant; None in a process that only computed for another."""
    under_torchrun = all(name in os.environ for name in _TORCHRUN_VARIABLES)
    if options["engine"] == "auto":
        options = {**options, "engine": "torchrun" if under_torchrun else "local"}
    if options["engine"] != "torchrun":
        yield options
        return
    if not under_torchrun:
        raise RequestError("--engine torchrun is for `torchrun --nproc-per-node N -m frechet ...`")
    if importlib.util.find_spec("torch") is None:
        raise RequestError("--engine torchrun needs PyTorch: pip install 'frechet[torch]'")
    from frechet.execution.torchrun import join_ranks, select_local_device

    with join_ranks() as is_coordinator:
        yield {**options, "device": select_local_device(options["device"])} if is_coordinator else None


_TORCHRUN_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
