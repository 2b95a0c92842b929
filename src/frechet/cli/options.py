"""Command-line options, derived from the fields of the request that a command builds."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import Field
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import click

from frechet._internal.fields import option_fields
from frechet.cli.parameter_types import HomePath, Text
from frechet.errors import RequestError
from frechet.evaluation.sampling_request import SamplingRequest
from frechet.execution.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])
_HEADINGS: dict[type, str] = {
    SamplingRequest: "Sampling design",
    Settings: "Features and execution",
}  # of the options that they define


def options_of(request_type: type[Settings], *, without: Collection[str] = ()) -> Callable[[Command], Command]:
    """Add an option for every field of a request that `option` defined; they arrive as keywords of the same names.

    The fields of the request come before those that it inherits.

    Args:
        request_type: the request.
        without: names of fields that make no sense for the command.
    """
    hints = get_type_hints(request_type)
    used = [each for each in option_fields(request_type) if each.name not in without]
    ordered = sorted(used, key=lambda each: _inheritance_depth(request_type, each.name))

    def decorate(command: Command) -> Command:
        for each in reversed(ordered):
            heading = _HEADINGS.get(request_type.__mro__[_inheritance_depth(request_type, each.name)], "Options")
            command = _make_option(each, hints[each.name], heading)(command)
        return command

    return decorate


class GroupedCommand(click.Command):
    """A command whose help lists the options of each request under a heading, and its own options before and after them."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections of options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        own_heading = "Options"
        for parameter in self.get_params(ctx):
            if not isinstance(parameter, click.Option):
                continue
            if isinstance(parameter, GroupedOption):
                own_heading = "Output"
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "heading", own_heading), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class GroupedOption(click.Option):
    """An option that sets a field of a request, and the heading under which the help lists it."""

    def __init__(self, *args: Any, heading: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading


def _inheritance_depth(request_type: type, name: str) -> int:
    """Return how many classes above the request a field was defined."""
    holds_field = (name in getattr(each, "__dataclass_fields__", ()) for each in request_type.__mro__)
    return max(depth for depth, holds in enumerate(holds_field) if holds)


def _make_option(each: Field[Any], hint: Any, heading: str) -> Callable[[Command], Command]:
    flag, description = f"--{each.name.replace('_', '-')}", each.metadata["description"]
    if hint is bool:
        return click.option(flag, cls=GroupedOption, heading=heading, is_flag=True, help=description)
    types = get_args(hint) or (hint,)
    is_text = str in types and Path not in types  # "2.070" is more precise than 2.07
    kind = int if int in types else float if float in types and not is_text else HomePath() if Path in types else Text()
    return click.option(
        flag,
        cls=GroupedOption,
        heading=heading,
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
    if options["engine"] == "auto":
        options = {**options, "engine": "torchrun" if _is_started_by_torchrun() else "local"}
    if options["engine"] != "torchrun":
        yield options
        return
    if not all(name in os.environ for name in _RANK_VARIABLES):
        raise RequestError(
            "--engine torchrun needs a process that torchrun started; run `torchrun --nproc-per-node N -m frechet ...`"
        )
    if importlib.util.find_spec("torch") is None:
        raise RequestError("--engine torchrun needs PyTorch, which is not installed; run pip install 'frechet[torch]'")
    from frechet.execution.torchrun import join_ranks, select_local_device

    with join_ranks(options["rendezvous_timeout"]) as is_coordinator:
        yield {**options, "device": select_local_device(options["device"])} if is_coordinator else None


_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LAUNCH_VARIABLES = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")  # identify one launch by torchrun


def _is_started_by_torchrun() -> bool:
    """Return whether torchrun started this process itself, as opposed to a process that torchrun started.

    The latter inherits the same variables, for example if a training script runs a command. The parent process then has
    them too, whereas torchrun has none. Where the parent's environment cannot be read (it belongs to another user, or
    the system has no /proc), the variables decide.
    """
    if not all(name in os.environ for name in (*_RANK_VARIABLES, *_LAUNCH_VARIABLES)):
        return False
    launch = {f"{name}={os.environ[name]}".encode() for name in (*_RANK_VARIABLES, *_LAUNCH_VARIABLES)}
    try:
        parent = Path(f"/proc/{os.getppid()}/environ").read_bytes()
    except OSError:
        return True
    if not launch <= set(parent.split(b"\0")):
        return True
    print(
        "this command was started by a process of a torchrun job, not by torchrun itself; it computes alone. To join the "
        "other ranks, pass --engine torchrun.",
        file=sys.stderr,
    )
    return False
