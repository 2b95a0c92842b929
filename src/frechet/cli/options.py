"""Command-line options, derived from the fields of the request that a command builds."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import click

from frechet._internal.fields import option_fields
from frechet.errors import RequestError
from frechet.execution.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])


def options_of(request_type: type[Settings]) -> Callable[[Command], Command]:
    """Add an option for every field of a request that `option` defined; they arrive as keywords of the same names.

    The fields of the request come before those of `Settings`, which it inherits.
    """
    hints = get_type_hints(request_type)
    settings = {each.name for each in fields(Settings)}
    ordered = sorted(option_fields(request_type), key=lambda each: each.name in settings)

    def decorate(command: Command) -> Command:
        for each in reversed(ordered):
            command = _make_option(each, hints[each.name])(command)
        return command

    return decorate


def _make_option(each: Field[Any], hint: Any) -> Callable[[Command], Command]:
    flag, description = f"--{each.name.replace('_', '-')}", each.metadata["description"]
    if hint is bool:
        return click.option(flag, is_flag=True, help=description)
    types = get_args(hint) or (hint,)
    kind = int if int in types else click.Path(path_type=Path) if Path in types else str
    return click.option(
        flag,
        type=kind,
        default=each.default,
        show_default=each.default is not None,
        metavar=each.metadata["metavar"],
        help=description,
    )


@contextmanager
def resolve_engine(options: dict[str, Any]) -> Iterator[dict[str, Any] | None]:
    """Replace the engine "auto" by the one that started this process.

    Yields:
        The options; None in a process that only computes for another one.
    """
    under_torchrun = all(name in os.environ for name in _TORCHRUN_VARIABLES)
    if options["engine"] == "auto":
        options = {**options, "engine": "torchrun" if under_torchrun else "local"}
    if options["engine"] != "torchrun":
        yield options
        return
    if not under_torchrun:
        raise RequestError(
            "--engine torchrun needs a process that torchrun started; run `torchrun --nproc-per-node N -m frechet ...`"
        )
    if importlib.util.find_spec("torch") is None:
        raise RequestError("--engine torchrun needs PyTorch; run pip install 'frechet[torch]'")
    from frechet.execution.torchrun import join_ranks, select_local_device

    with join_ranks() as is_coordinator:
        yield {**options, "device": select_local_device(options["device"])} if is_coordinator else None


_TORCHRUN_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
