"""Types of command-line values: how they are converted, and what a shell can complete them to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from frechet._internal.home import expand_home


class Text(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
    """Text that is passed on as it is: click's own type would turn a `DefaultName` into an ordinary string."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        given, comma, last = incomplete.rpartition(",")  # of a list such as fid,kid
        return [CompletionItem(f"{given}{comma}{name}") for name in _list_names(param) if name.startswith(last)]


class Source(Text):
    """A file, folder or URL that images or statistics are read from."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        return [CompletionItem(incomplete, type="file")]


class HomePath(click.Path):
    """A path, in which ~ stands for the home folder, as in a shell (which leaves it alone in --output=~/run.json)."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(expand_home(value), param, ctx)


def _list_names(param: click.Parameter) -> Iterable[str]:
    from frechet.features.registry import EXTRACTORS
    from frechet.metrics import METRICS
    from frechet.preprocessing.registry import PREPROCESSINGS

    tables: dict[str, Iterable[str]] = {
        "extractor": EXTRACTORS,
        "metrics": METRICS,
        "preprocessing": PREPROCESSINGS,
        "reference_preprocessing": PREPROCESSINGS,
    }
    choices = (param.metavar or "").split("|")
    return tables.get(param.name or "", choices if len(choices) > 1 else ())
